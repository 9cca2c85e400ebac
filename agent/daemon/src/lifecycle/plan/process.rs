//! Processes: a container's init, and further ones, which get what init has.

use std::path::Path;

use hull_wire::{Capabilities, ProcessPlan, Rlimit, UserPlan};
use oci_spec::runtime::{LinuxCapabilities, Process, Spec};

use super::{PlanContext, unsupported};
use crate::error::Result;
use crate::lifecycle::config::{ContainerConfig, ExecConfig};
use crate::lifecycle::security::capabilities::{self, HostCapabilities};
use crate::lifecycle::security::seccomp::SeccompCache;
use crate::lifecycle::security::user::UserSpec;
use crate::lifecycle::spec::{ImageDefaults, path, process, rlimit, validate};

/// What a further process depends on beside the runtime spec that its container was started with.
#[derive(Debug, Clone, Copy)]
pub(crate) struct ExecContext<'a> {
    /// As in [`PlanContext`].
    pub(crate) config: &'a ContainerConfig,
    pub(crate) image: &'a ImageDefaults,
    pub(crate) seccomp: &'a SeccompCache,
    /// For a privileged process.
    pub(crate) capabilities: HostCapabilities,
}

/// The init process.
pub(super) fn init(spec: &Spec, ctx: &PlanContext<'_>) -> Result<ProcessPlan> {
    let process = process_of(spec)?;
    let user = process::user_spec(ctx.config, ctx.image)?;
    let terminal = process.terminal().unwrap_or(false).then_some(ctx.terminal_size);
    let mut plan = plan(process, &user, &ctx.config.additional_groups)?;
    plan.argv = process.args().clone().unwrap_or_default();
    plan.terminal = terminal;
    filter(&mut plan, spec, ctx.seccomp)?;
    Ok(plan)
}

/// A further process: environment, directory, user, limits and filter of the container, with the changes that are asked for.
/// A privileged one has every capability and no filter; no_new_privs stays as it is.
///
/// # Errors
/// `InvalidArgument` with the field of the request.
pub(crate) fn exec_process(spec: &Spec, exec: &ExecConfig, ctx: &ExecContext<'_>) -> Result<ProcessPlan> {
    validate::validate_exec(exec)?;
    let process = process_of(spec)?;
    let user = match &exec.user {
        Some(user) => UserSpec::parse("user", user)?,
        None => process::user_spec(ctx.config, ctx.image)?,
    };
    let mut plan = plan(process, &user, &ctx.config.additional_groups)?;
    plan.argv.clone_from(&exec.argv);
    process::merge(&mut plan.env, &exec.env);
    if exec.terminal.is_some() {
        process::add_term(&mut plan.env);
    }
    plan.terminal = exec.terminal;
    if let Some(cwd) = &exec.cwd {
        plan.cwd = path::absolute("cwd", cwd)?;
    }
    if exec.privileged {
        let all = ctx.capabilities.available(ctx.config.namespaces.user_auto);
        plan.capabilities = Capabilities { bounding: all, effective: all, permitted: all, inheritable: 0, ambient: 0 };
    } else {
        filter(&mut plan, spec, ctx.seccomp)?;
    }
    Ok(plan)
}

fn process_of(spec: &Spec) -> Result<&Process> {
    spec.process().as_ref().ok_or_else(|| unsupported("process", "is missing"))
}

/// What init and a further process have in common.
fn plan(process: &Process, user: &UserSpec, groups: &[String]) -> Result<ProcessPlan> {
    let cwd = Path::to_str(process.cwd()).filter(|cwd| cwd.starts_with('/'));
    Ok(ProcessPlan {
        argv: Vec::new(),
        env: process.env().clone().unwrap_or_default(),
        cwd: cwd.ok_or_else(|| unsupported("process.cwd", "is not absolute or not UTF-8"))?.to_owned(),
        user: UserPlan { user: user.user.clone(), group: user.group.clone(), additional_groups: groups.to_vec() },
        umask: process.user().umask().unwrap_or(process::DEFAULT_UMASK),
        capabilities: capability_bits(process.capabilities().as_ref()),
        no_new_privs: process.no_new_privileges().unwrap_or(false),
        seccomp: None,
        seccomp_flags: 0,
        rlimits: process
            .rlimits()
            .iter()
            .flatten()
            .map(|limit| Rlimit { resource: rlimit::number(limit.typ()), soft: limit.soft(), hard: limit.hard() })
            .collect(),
        oom_score_adj: process.oom_score_adj(),
        terminal: None,
    })
}

fn capability_bits(sets: Option<&LinuxCapabilities>) -> Capabilities {
    let bits = |set: fn(&LinuxCapabilities) -> &Option<oci_spec::runtime::Capabilities>| {
        capabilities::from_oci(sets.and_then(|sets| set(sets).as_ref()))
    };
    Capabilities {
        bounding: bits(LinuxCapabilities::bounding),
        effective: bits(LinuxCapabilities::effective),
        permitted: bits(LinuxCapabilities::permitted),
        inheritable: bits(LinuxCapabilities::inheritable),
        ambient: bits(LinuxCapabilities::ambient),
    }
}

fn filter(plan: &mut ProcessPlan, spec: &Spec, cache: &SeccompCache) -> Result<()> {
    let Some(filter) = spec.linux().as_ref().and_then(|linux| linux.seccomp().as_ref()) else {
        return Ok(());
    };
    let program = cache.compile(filter)?;
    plan.seccomp = Some(program.instructions.clone());
    plan.seccomp_flags = program.flags;
    Ok(())
}
