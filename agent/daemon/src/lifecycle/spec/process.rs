//! The init process: program, environment, user, capabilities.

use oci_spec::runtime::{LinuxCapabilities, PosixRlimit, PosixRlimitBuilder, Process, User};

use super::{ImageDefaults, SpecContext, path, rlimit, validate};
use crate::error::{Error, Result};
use crate::lifecycle::config::ContainerConfig;
use crate::lifecycle::security::capabilities;
use crate::lifecycle::security::user::UserSpec;

/// PATH where neither image nor user sets one.
const DEFAULT_PATH: &str = "PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";
/// TERM of a process with a terminal.
const DEFAULT_TERM: &str = "TERM=xterm";
/// File mode creation mask where none is asked for.
pub(crate) const DEFAULT_UMASK: u32 = 0o022;

pub(super) fn build(config: &ContainerConfig, image: &ImageDefaults, ctx: &SpecContext<'_>) -> Result<Process> {
    let bits = ctx.container_capabilities(config)?;
    let mut process = Process::default();
    process
        .set_terminal(Some(config.terminal))
        .set_user(user(config, image)?)
        .set_args(Some(argv(config, image)?))
        .set_env(Some(environment(config, image, ctx)?))
        .set_cwd(cwd(config, image)?.into())
        .set_capabilities(Some(capability_sets(bits)))
        .set_rlimits((!config.rlimits.is_empty()).then(|| rlimits(config)))
        .set_no_new_privileges(Some(!config.security.allow_new_privileges))
        .set_oom_score_adj(config.oom_score_adj);
    Ok(process)
}

/// Program and arguments: an entry point of the user's does away with the image's command too.
fn argv(config: &ContainerConfig, image: &ImageDefaults) -> Result<Vec<String>> {
    let replaced = config.clear_entrypoint || !config.entrypoint.is_empty();
    let entrypoint = if replaced { &config.entrypoint } else { &image.entrypoint };
    let args = if replaced || !config.args.is_empty() { &config.args } else { &image.cmd };
    let argv: Vec<String> = entrypoint.iter().chain(args).cloned().collect();
    match argv.first() {
        None => Err(Error::invalid("config.args", "no program: neither the image nor the request names one")),
        Some(program) if program.is_empty() => Err(Error::invalid("config.args[0]", "the program is empty")),
        Some(_) if argv.iter().any(|argument| argument.contains('\0')) => {
            Err(Error::invalid("image.config", "entry point or command holds a NUL"))
        }
        Some(_) => Ok(argv),
    }
}

/// Defaults, then the image's entries, then the user's.
fn environment(config: &ContainerConfig, image: &ImageDefaults, ctx: &SpecContext<'_>) -> Result<Vec<String>> {
    validate::environment("image.config.env", &image.env)?;
    if image.env.iter().any(|entry| entry.contains('\0')) {
        return Err(Error::invalid("image.config.env", "an entry holds a NUL"));
    }
    let hostname = format!("HOSTNAME={}", super::hostname(config, ctx).unwrap_or(ctx.uts_hostname));
    let mut entries = vec![DEFAULT_PATH.to_owned(), hostname];
    if config.terminal {
        entries.push(DEFAULT_TERM.to_owned());
    }
    merge(&mut entries, &image.env);
    merge(&mut entries, &config.env);
    Ok(entries)
}

/// Replaces entries of the same name, in place; adds the others.
pub(crate) fn merge(entries: &mut Vec<String>, changes: &[String]) {
    let name = |entry: &str| entry.split_once('=').map_or(entry.len(), |(name, _)| name.len() + 1);
    for change in changes {
        let prefix = change.get(..name(change)).unwrap_or(change);
        match entries.iter_mut().find(|entry| entry.starts_with(prefix)) {
            Some(entry) => entry.clone_from(change),
            None => entries.push(change.clone()),
        }
    }
}

/// Adds TERM for a process with a terminal, unless it has one.
pub(crate) fn add_term(entries: &mut Vec<String>) {
    if !entries.iter().any(|entry| entry.starts_with("TERM=")) {
        entries.push(DEFAULT_TERM.to_owned());
    }
}

fn cwd(config: &ContainerConfig, image: &ImageDefaults) -> Result<String> {
    match &config.cwd {
        Some(cwd) => path::absolute("config.cwd", cwd),
        None if image.working_dir.is_empty() => Ok("/".to_owned()),
        None => path::absolute("image.config.working_dir", &image.working_dir),
    }
}

/// User of a container: the request's, else the image's, else 0.
pub(crate) fn user_spec(config: &ContainerConfig, image: &ImageDefaults) -> Result<UserSpec> {
    match &config.user {
        Some(user) => UserSpec::parse("config.user", user),
        None if image.user.is_empty() => Ok(UserSpec::root()),
        None => UserSpec::parse("image.config.user", &image.user),
    }
}

/// The spec has room for numbers alone, so names stay in `username`; the shim looks them up in the container.
fn user(config: &ContainerConfig, image: &ImageDefaults) -> Result<User> {
    let spec = user_spec(config, image)?;
    let (uid, gid) = spec.numeric();
    let additional: Vec<u32> = config.additional_groups.iter().filter_map(|group| group.parse().ok()).collect();
    let mut user = User::default();
    user.set_uid(uid.unwrap_or(0))
        .set_gid(gid.unwrap_or(0))
        .set_umask(Some(config.umask.unwrap_or(DEFAULT_UMASK)))
        .set_additional_gids((!additional.is_empty()).then_some(additional))
        .set_username(Some(spec.to_string()));
    Ok(user)
}

/// Nothing inheritable or ambient: those would outlive a change of user (CVE-2022-29162).
fn capability_sets(bits: u64) -> LinuxCapabilities {
    let mut sets = LinuxCapabilities::default();
    sets.set_bounding(Some(capabilities::to_oci(bits)))
        .set_effective(Some(capabilities::to_oci(bits)))
        .set_permitted(Some(capabilities::to_oci(bits)))
        .set_inheritable(None)
        .set_ambient(None);
    sets
}

fn rlimits(config: &ContainerConfig) -> Vec<PosixRlimit> {
    let to_oci = |limit: &crate::lifecycle::config::Rlimit| {
        let builder = PosixRlimitBuilder::default().typ(rlimit::parse(&limit.name)?);
        builder.soft(limit.soft).hard(limit.hard).build().ok()
    };
    config.rlimits.iter().filter_map(to_oci).collect()
}
