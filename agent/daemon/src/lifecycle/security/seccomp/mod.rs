//! System call filters: a profile in JSON, resolved for one container to the runtime spec's `linux.seccomp`, compiled to a program
//! for the kernel, see seccomp(2).
//!
//! ```text
//!   Profile (Docker's or OCI's JSON, or hull's default)
//!     | resolve: capabilities, kernel and architecture of this container
//!   oci_spec LinuxSeccomp, shown by inspect, kept with the container
//!     | compile, cached
//!   Program: struct sock_filter array and flags, loaded by the shim
//! ```
//!
//! Policy beyond the profile:
//! - Only the native calling convention is let through. A system call of another architecture (a 32-bit program) kills the
//!   process; x32 numbers fail with ENOSYS, as on a kernel without x32. Profiles that list such architectures are taken, for
//!   nearly all do, and their programs of other architectures are still refused.
//! - Numbers above the highest one that the profile names fail with ENOSYS where the default action is an errno, so that a C
//!   library that tries a new call falls back to the old one (runc and crun do the same).
//! - An unconditional rule decides over rules with arguments for the same call, the first of several unconditional rules over the
//!   later ones, and rules that repeat the default action are dropped, all as libseccomp does it. Among rules with
//!   arguments the first that matches decides.

mod bpf;
mod compile;
mod profile;
#[cfg(test)]
mod tests;

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};

use oci_spec::runtime::LinuxSeccomp;

use crate::error::{Error, Reason, Result};
use crate::lifecycle::config::{SeccompProfile, Security};

pub(crate) use profile::Conditions;
use profile::Profile;

/// hull's default profile, in Docker's format, so that users can take it as the base of their own.
const DEFAULT_PROFILE: &str = include_str!("../../../../profiles/default.json");

/// Most bytes of a user's profile.
const MAX_PROFILE: usize = 1 << 20;

/// Most programs kept; the least recently used one goes first.
const MAX_CACHED: usize = 16;

/// What the shim loads.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Program {
    /// struct sock_filter array, 8 bytes each, native byte order.
    pub(crate) instructions: Vec<u8>,
    /// SECCOMP_FILTER_FLAG_* bits.
    pub(crate) flags: u32,
}

/// Checks a profile without resolving it.
pub(crate) fn validate(profile: &SeccompProfile) -> Result<()> {
    if let SeccompProfile::Json(json) = profile {
        parse_user(json)?;
    }
    Ok(())
}

/// The filter of a container as the runtime spec has it; `None`: no filter. A privileged container has none unless the user
/// gave a profile.
pub(crate) fn resolve(security: &Security, conditions: &Conditions) -> Result<Option<LinuxSeccomp>> {
    match &security.seccomp {
        SeccompProfile::Unconfined => Ok(None),
        SeccompProfile::Default if security.privileged => Ok(None),
        SeccompProfile::Default => Ok(Some(default_profile()?.resolve(conditions))),
        SeccompProfile::Json(json) => Ok(Some(parse_user(json)?.resolve(conditions))),
    }
}

fn parse_user(json: &str) -> Result<Profile> {
    const FIELD: &str = "config.security.seccomp.json";
    if json.len() > MAX_PROFILE {
        return Err(Error::invalid(FIELD, format_args!("{} bytes, at most {MAX_PROFILE} are taken", json.len())));
    }
    Profile::parse(json).map_err(|problem| Error::invalid(FIELD, problem))
}

/// hull's own profile, parsed once.
fn default_profile() -> Result<&'static Profile> {
    static PROFILE: OnceLock<Result<Profile, String>> = OnceLock::new();
    PROFILE
        .get_or_init(|| Profile::parse(DEFAULT_PROFILE))
        .as_ref()
        .map_err(|problem| Error::new(Reason::Internal, format!("hull's default seccomp profile: {problem}")))
}

/// Compiled filters, the one used last first. Found by comparing them whole: that takes 2 microseconds, where a digest takes
/// more time than compiling anew. Shared by all containers; the lock is held for look-ups alone.
#[derive(Debug, Default)]
pub(crate) struct SeccompCache {
    compiled: Mutex<VecDeque<(LinuxSeccomp, Arc<Program>)>>,
}

impl SeccompCache {
    /// The program of a resolved filter.
    pub(crate) fn compile(&self, filter: &LinuxSeccomp) -> Result<Arc<Program>> {
        if let Some(program) = self.lookup(filter) {
            return Ok(program);
        }
        let program = Arc::new(compile::compile(filter)?);
        let mut compiled = self.lock();
        compiled.truncate(MAX_CACHED - 1);
        compiled.push_front((filter.clone(), Arc::clone(&program)));
        Ok(program)
    }

    fn lookup(&self, filter: &LinuxSeccomp) -> Option<Arc<Program>> {
        let mut compiled = self.lock();
        let at = compiled.iter().position(|(other, _)| other == filter)?;
        let entry = compiled.remove(at)?;
        let program = Arc::clone(&entry.1);
        compiled.push_front(entry);
        Some(program)
    }

    fn lock(&self) -> MutexGuard<'_, VecDeque<(LinuxSeccomp, Arc<Program>)>> {
        self.compiled.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
