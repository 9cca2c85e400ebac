//! The Linux part of the runtime spec: namespaces, devices, paths that are hidden or read-only.

use std::collections::HashMap;

use oci_spec::runtime::{
    Linux, LinuxDevice, LinuxDeviceType, LinuxIdMapping, LinuxIdMappingBuilder, LinuxNamespace, LinuxNamespaceType,
    LinuxTimeOffset,
};

use super::host::{HostFile, HostFileKind};
use super::{SpecContext, UserNamespaceRange, path, resources};
use crate::error::{Error, Reason, Result};
use crate::lifecycle::config::{ContainerConfig, Device, NamespaceMode, TimeOffsets};
use crate::lifecycle::security::{devices, seccomp};

/// Hidden in every container that is not privileged: they tell about the host or let its kernel be asked or changed.
const MASKED: [&str; 12] = [
    "/proc/acpi",
    "/proc/asound",
    "/proc/interrupts",
    "/proc/kcore",
    "/proc/keys",
    "/proc/latency_stats",
    "/proc/sched_debug",
    "/proc/scsi",
    "/proc/timer_list",
    "/proc/timer_stats",
    "/sys/devices/virtual/powercap",
    "/sys/firmware",
];

/// Read-only in every container that is not privileged.
const READ_ONLY: [&str; 5] = ["/proc/bus", "/proc/fs", "/proc/irq", "/proc/sys", "/proc/sysrq-trigger"];

/// What hull puts into /dev itself.
const DEFAULT_NODES: [&str; 15] = [
    "/dev/null",
    "/dev/zero",
    "/dev/full",
    "/dev/random",
    "/dev/urandom",
    "/dev/tty",
    "/dev/console",
    "/dev/ptmx",
    "/dev/fd",
    "/dev/stdin",
    "/dev/stdout",
    "/dev/stderr",
    "/dev/core",
    "/dev/shm",
    "/dev/mqueue",
];

/// Whether hull puts something there itself.
pub(crate) fn is_default_node(place: &str) -> bool {
    DEFAULT_NODES.contains(&place) || path::is_within(place, "/dev/pts")
}

/// Path of a device in the container.
pub(crate) fn container_path(device: &Device) -> &str {
    if device.container_path.is_empty() { &device.host_path } else { &device.container_path }
}

/// What may be done with a device.
fn permissions(device: &Device) -> &str {
    if device.permissions.is_empty() { "rwm" } else { &device.permissions }
}

pub(super) fn build(config: &ContainerConfig, ctx: &SpecContext<'_>) -> Result<Linux> {
    let nodes = nodes(config, ctx)?;
    let mut rules = devices::default_rules(config.security.privileged);
    if !config.security.privileged {
        rules.extend(nodes.iter().map(|(device, access)| {
            let number = |number: i64| u32::try_from(number).ok();
            devices::oci_rule(true, device.typ(), number(device.major()), number(device.minor()), access)
        }));
    }
    let conditions = seccomp::Conditions { capabilities: ctx.container_capabilities(config)?, kernel: ctx.kernel };
    let with_default = |default: &[&str], user: &[String], field: &str| -> Result<Vec<String>> {
        let default = if config.security.privileged { &[] } else { default };
        let user = user.iter().enumerate().map(|(index, text)| path::absolute(&format!("{field}[{index}]"), text));
        let mut paths: Vec<String> = default.iter().map(ToString::to_string).collect();
        for path in user {
            let path = path?;
            if !paths.contains(&path) {
                paths.push(path);
            }
        }
        Ok(paths)
    };
    let sysctl: HashMap<String, String> = config.sysctls.clone().into_iter().collect();
    let mappings = ctx.user_namespace.map(|range| vec![mapping(range)]);

    let mut linux = Linux::default();
    linux
        .set_namespaces(Some(namespaces(config, ctx)?))
        .set_uid_mappings(mappings.clone())
        .set_gid_mappings(mappings)
        .set_time_offsets(config.namespaces.time.as_ref().map(time_offsets))
        .set_cgroups_path(Some(ctx.cgroup_path.into()))
        .set_resources(Some(resources::build(&config.resources, rules, ctx)?))
        .set_devices(Some(nodes.into_iter().map(|(device, _)| device).collect()))
        .set_seccomp(seccomp::resolve(&config.security, &conditions)?)
        .set_sysctl((!sysctl.is_empty()).then_some(sysctl))
        .set_masked_paths(Some(with_default(&MASKED, &config.masked_paths, "config.masked_paths")?))
        .set_readonly_paths(Some(with_default(&READ_ONLY, &config.readonly_paths, "config.readonly_paths")?));
    Ok(linux)
}

fn mapping(range: UserNamespaceRange) -> LinuxIdMapping {
    let builder = LinuxIdMappingBuilder::default().container_id(0u32).host_id(range.base).size(range.size);
    // Every field has a default, so building cannot fail.
    builder.build().unwrap_or_default()
}

fn namespaces(config: &ContainerConfig, ctx: &SpecContext<'_>) -> Result<Vec<LinuxNamespace>> {
    use LinuxNamespaceType as Type;
    let asked = &config.namespaces;
    let kinds = [
        (Type::Pid, &asked.pid, ctx.joined.pid.as_ref()),
        (Type::Network, &asked.network, ctx.joined.network.as_ref()),
        (Type::Ipc, &asked.ipc, ctx.joined.ipc.as_ref()),
        (Type::Uts, &asked.uts, ctx.joined.uts.as_ref()),
        (Type::Cgroup, &asked.cgroup, None),
    ];
    let mut namespaces = vec![namespace(Type::Mount, None)];
    for (kind, mode, joined) in kinds {
        match mode {
            NamespaceMode::Private => namespaces.push(namespace(kind, None)),
            NamespaceMode::Host => {}
            NamespaceMode::Container(id) => {
                let path = joined.ok_or_else(|| {
                    Error::new(Reason::Internal, format!("the {kind} namespace of container {id} was not looked up"))
                })?;
                namespaces.push(namespace(kind, Some(path)));
            }
        }
    }
    if ctx.user_namespace.is_some() {
        namespaces.push(namespace(Type::User, None));
    }
    if asked.time.is_some() {
        namespaces.push(namespace(Type::Time, None));
    }
    Ok(namespaces)
}

fn namespace(kind: LinuxNamespaceType, path: Option<&String>) -> LinuxNamespace {
    let mut namespace = LinuxNamespace::default();
    namespace.set_typ(kind).set_path(path.map(Into::into));
    namespace
}

/// Seconds rounded down and what is left, as timens_offsets takes them.
fn time_offsets(offsets: &TimeOffsets) -> HashMap<String, LinuxTimeOffset> {
    const NANOS: i64 = 1_000_000_000;
    [("monotonic", offsets.monotonic_nanos), ("boottime", offsets.boottime_nanos)]
        .into_iter()
        .map(|(clock, nanos)| {
            let mut offset = LinuxTimeOffset::default();
            offset.set_secs(Some(nanos.div_euclid(NANOS))).set_nanosecs(u32::try_from(nanos.rem_euclid(NANOS)).ok());
            (clock.to_owned(), offset)
        })
        .collect()
}

/// Nodes beside the default ones, each with what may be done with it.
fn nodes(config: &ContainerConfig, ctx: &SpecContext<'_>) -> Result<Vec<(LinuxDevice, String)>> {
    let mut nodes: Vec<(LinuxDevice, String)> = Vec::new();
    for (index, device) in config.devices.iter().enumerate() {
        let field = format!("config.devices[{index}]");
        let place = path::absolute(&format!("{field}.container_path"), container_path(device))?;
        let file = ctx.host.get(&device.host_path).ok_or_else(|| {
            Error::new(Reason::Internal, format!("{field}.host_path: {} was not looked at", device.host_path))
        })?;
        let node = node(&place, file).ok_or_else(|| {
            Error::invalid(&format!("{field}.host_path"), format_args!("{} is no device", device.host_path))
        })?;
        nodes.push((node, permissions(device).to_owned()));
    }
    if config.security.privileged {
        for (place, file) in ctx.host.device_nodes() {
            let taken = nodes.iter().any(|(node, _)| node.path().as_os_str() == place.as_str());
            if !taken && let Some(node) = node(place, file) {
                nodes.push((node, "rwm".to_owned()));
            }
        }
    }
    Ok(nodes)
}

fn node(place: &str, file: &HostFile) -> Option<LinuxDevice> {
    let (kind, major, minor) = match file.kind {
        HostFileKind::Char { major, minor } => (LinuxDeviceType::C, major, minor),
        HostFileKind::Block { major, minor } => (LinuxDeviceType::B, major, minor),
        HostFileKind::Other => return None,
    };
    let mut node = LinuxDevice::default();
    node.set_path(place.into())
        .set_typ(kind)
        .set_major(i64::from(major))
        .set_minor(i64::from(minor))
        .set_file_mode(Some(file.mode & 0o7777))
        .set_uid(Some(file.uid))
        .set_gid(Some(file.gid));
    Some(node)
}
