//! A runtime spec compiled to what the shim obeys: [`hull_wire::Plan`] and [`hull_wire::ProcessPlan`]. Pure.
//!
//! What the runtime spec has no words for (layers, log, standard input, generated files, users by name) comes by [`PlanContext`],
//! never by annotations: nothing that travels with a container as data changes what hull does (CVE-2026-53488).

mod devices;
mod files;
mod mounts;
mod namespaces;
mod process;
#[cfg(test)]
mod tests;

use std::path::PathBuf;

use hull_wire::{CgroupPlan, LogPlan, PROTOCOL_VERSION, Plan, RootfsPlan, Stdin};
use oci_spec::runtime::{Linux, Spec};

pub(crate) use files::GENERATED_FILES;
pub(crate) use mounts::binds;
pub(crate) use process::{ExecContext, exec_process};

use crate::error::{Error, Reason, Result};
use crate::lifecycle::config::ContainerConfig;
use crate::lifecycle::security::devices::DevicePolicy;
use crate::lifecycle::security::seccomp::SeccompCache;
use crate::lifecycle::spec::{ImageDefaults, sysctl};

/// Size of a terminal that nobody gave a size.
pub(crate) const DEFAULT_TERMINAL_SIZE: (u16, u16) = (24, 80);

/// What a plan depends on beside the runtime spec.
#[derive(Debug, Clone)]
pub(crate) struct PlanContext<'a> {
    /// The configuration that the spec was built from.
    pub(crate) config: &'a ContainerConfig,
    /// Defaults of the image that the spec was built from.
    pub(crate) image: &'a ImageDefaults,
    /// Id of the container.
    pub(crate) id: &'a str,
    /// Directory for the shim's socket and exit file; exists.
    pub(crate) run_dir: &'a str,
    /// The log.
    pub(crate) log: LogPlan,
    /// Mount points of the image's layers, the topmost first.
    pub(crate) layers: &'a [String],
    /// Overlay's writable directory and its work directory.
    pub(crate) upper: &'a str,
    pub(crate) work: &'a str,
    /// The control groups; `device_program` is filled in here.
    pub(crate) cgroup: CgroupPlan,
    /// Whether devices are limited by a BPF program (otherwise by the version 1 controller, before the shim starts).
    pub(crate) device_filter: bool,
    /// Names of co-mounted version 1 controllers and the container's directory, for each hierarchy that it sees.
    pub(crate) cgroup_v1: &'a [(Vec<&'static str>, PathBuf)],
    /// Contents of the host's /etc/resolv.conf and /etc/hosts; the latter is for the host's network alone.
    pub(crate) host_resolv_conf: &'a str,
    pub(crate) host_hosts: &'a str,
    /// As in [`crate::lifecycle::spec::SpecContext`].
    pub(crate) uts_hostname: &'a str,
    /// Rows and columns for a container with a terminal.
    pub(crate) terminal_size: (u16, u16),
    /// Compiled system call filters.
    pub(crate) seccomp: &'a SeccompCache,
}

/// Compiles a spec that [`crate::lifecycle::spec::build`] made (and that plugins may have changed).
///
/// # Errors
/// `UnsupportedFeature` for what hull does not do, by its place in the spec ("linux.namespaces").
pub(crate) fn compile(spec: &Spec, ctx: &PlanContext<'_>) -> Result<Plan> {
    let linux = spec.linux().as_ref().ok_or_else(|| unsupported("linux", "is missing"))?;
    refuse_foreign(spec, linux)?;
    let namespaces = namespaces::compile(linux)?;
    let own_uts = namespaces.uts == hull_wire::Namespace::New;
    if !own_uts && (spec.hostname().is_some() || spec.domainname().is_some()) {
        return Err(unsupported("hostname", "needs a new uts namespace"));
    }
    let mut cgroup = ctx.cgroup.clone();
    if ctx.device_filter {
        let rules = linux.resources().as_ref().and_then(|resources| resources.devices().as_ref());
        cgroup.device_program = DevicePolicy::from_rules(rules.map_or(&[], Vec::as_slice))?.program()?;
    }
    let read_only = spec.root().as_ref().and_then(oci_spec::runtime::Root::readonly).unwrap_or(false);
    Ok(Plan {
        version: PROTOCOL_VERSION,
        id: ctx.id.to_owned(),
        run_dir: ctx.run_dir.to_owned(),
        log: Some(ctx.log.clone()),
        stdin: stdin(ctx.config),
        namespaces,
        cgroup,
        rootfs: RootfsPlan {
            layers: ctx.layers.to_vec(),
            upper: ctx.upper.to_owned(),
            work: ctx.work.to_owned(),
            read_only,
            volatile: ctx.config.auto_remove,
        },
        mounts: mounts::compile(spec, ctx)?,
        devices: devices::nodes(linux, ctx.config)?,
        symlinks: devices::links(),
        files: files::generate(spec, ctx),
        masked_paths: linux.masked_paths().clone().unwrap_or_default(),
        readonly_paths: linux.readonly_paths().clone().unwrap_or_default(),
        hostname: spec.hostname().clone(),
        domainname: spec.domainname().clone(),
        sysctls: sysctls(linux),
        process: process::init(spec, ctx)?,
    })
}

fn unsupported(place: &str, problem: &str) -> Error {
    Error::new(Reason::UnsupportedFeature, format!("{place}: {problem}"))
}

/// What only a plugin could have put into the spec and hull does not do.
fn refuse_foreign(spec: &Spec, linux: &Linux) -> Result<()> {
    let process = spec.process().as_ref();
    let foreign = [
        ("hooks", spec.hooks().is_some()),
        ("linux.netDevices", linux.net_devices().is_some()),
        ("linux.intelRdt", linux.intel_rdt().is_some()),
        ("linux.personality", linux.personality().is_some()),
        ("linux.memoryPolicy", linux.memory_policy().is_some()),
        ("linux.mountLabel", linux.mount_label().is_some()),
        ("linux.rootfsPropagation", linux.rootfs_propagation().is_some()),
        ("process.apparmorProfile", process.is_some_and(|process| process.apparmor_profile().is_some())),
        ("process.selinuxLabel", process.is_some_and(|process| process.selinux_label().is_some())),
        ("process.ioPriority", process.is_some_and(|process| process.io_priority().is_some())),
        ("process.scheduler", process.is_some_and(|process| process.scheduler().is_some())),
        ("process.execCPUAffinity", process.is_some_and(|process| process.exec_cpu_affinity().is_some())),
    ];
    match foreign.iter().find(|(_, given)| *given) {
        Some((place, _)) => Err(unsupported(place, "is not supported")),
        None => Ok(()),
    }
}

/// As the request says, with a terminal too: that has an input which nobody may ever write to.
fn stdin(config: &ContainerConfig) -> Stdin {
    if config.stdin_open { Stdin::Open { once: config.stdin_once } } else { Stdin::Null }
}

fn sysctls(linux: &Linux) -> Vec<(String, String)> {
    let mut sysctls: Vec<(String, String)> =
        linux.sysctl().iter().flatten().map(|(name, value)| (sysctl::path(name), value.clone())).collect();
    sysctls.sort();
    sysctls
}
