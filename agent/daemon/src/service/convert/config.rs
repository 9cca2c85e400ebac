//! ContainerConfig and ExecStart -> what the life cycle knows. Names and numbers become types here; whether values make
//! sense together and are within their ranges is the life cycle's to say.

use hull_proto::v1;
use hull_wire::{LogRate, LogUnit, Overrun};

use super::time;
use crate::error::{Error, Reason, Result};
use crate::lifecycle::config::{
    ContainerConfig, Device, DnsConfig, ExecConfig, IoMax, LogConfig, Mount, MountKind, NamespaceMode, Namespaces,
    Resources, Rlimit, SeccompProfile, Security, TimeOffsets,
};
use crate::lifecycle::signal;

/// Permissions of a device where none are given.
const DEFAULT_PERMISSIONS: &str = "rwm";
/// Size of a terminal where none is given: rows and columns.
const DEFAULT_TERMINAL: (u16, u16) = (24, 80);

/// A container as it was asked for.
pub(crate) fn container(config: v1::ContainerConfig) -> Result<ContainerConfig> {
    if config.image.is_empty() {
        return Err(Error::invalid("config.image", "is required"));
    }
    if config.init {
        return Err(Error::invalid("config.init", "an init process for containers is not offered"));
    }
    Ok(ContainerConfig {
        image: config.image,
        name: config.name,
        labels: config.labels.into_iter().collect(),
        entrypoint: config.entrypoint,
        args: config.args,
        clear_entrypoint: config.clear_entrypoint,
        env: config.env,
        cwd: given(config.cwd),
        user: given(config.user),
        additional_groups: config.additional_groups,
        umask: config.umask,
        terminal: config.terminal,
        stdin_open: config.stdin_open,
        stdin_once: config.stdin_once,
        stop_signal: given(config.stop_signal).map(|text| signal::parse("config.stop_signal", &text)).transpose()?,
        stop_timeout: time::optional_duration("config.stop_timeout", config.stop_timeout)?,
        auto_remove: config.auto_remove,
        hostname: given(config.hostname),
        domainname: given(config.domainname),
        extra_hosts: config.extra_hosts.into_iter().map(|host| (host.ip, host.hostname)).collect(),
        dns: config.dns.map(dns),
        namespaces: config.namespaces.map(namespaces).transpose()?.unwrap_or_default(),
        resources: resources(config.resources.unwrap_or_default()),
        mounts: indexed("config.mounts", config.mounts, mount)?,
        read_only_rootfs: config.read_only_rootfs,
        masked_paths: config.masked_paths,
        readonly_paths: config.readonly_paths,
        devices: config.devices.into_iter().map(device).collect(),
        security: config.security.map(security).transpose()?.unwrap_or_default(),
        sysctls: config.sysctls.into_iter().collect(),
        rlimits: indexed("config.rlimits", config.rlimits, rlimit)?,
        oom_score_adj: config.oom_score_adj,
        shm_size: config.shm_size,
        log: config.log.map(log).transpose()?.unwrap_or_default(),
    })
}

/// A further process, and the container that it is to run in.
pub(crate) fn exec(start: v1::ExecStart) -> Result<(String, ExecConfig)> {
    if start.argv.is_empty() {
        return Err(Error::invalid("start.argv", "at least the program is required"));
    }
    if !start.terminal && start.terminal_size.is_some() {
        return Err(Error::invalid("start.terminal_size", "is given, but terminal is not asked for"));
    }
    let size = start.terminal_size.map(|size| terminal_size("start.terminal_size", size)).transpose()?;
    let config = ExecConfig {
        argv: start.argv,
        env: start.env,
        cwd: given(start.cwd),
        user: given(start.user),
        terminal: start.terminal.then_some(size.unwrap_or(DEFAULT_TERMINAL)),
        stdin: start.stdin,
        privileged: start.privileged,
        timeout: time::optional_duration("start.timeout", start.timeout)?,
    };
    Ok((start.container, config))
}

/// Bytes of each output that ExecSync returns unasked.
const DEFAULT_OUTPUT: u32 = 1 << 20;
/// And at most.
const MAX_OUTPUT: u32 = 16 << 20;

/// A further process whose output is collected: its container, what it is, and most bytes of each output.
pub(crate) fn exec_sync(request: v1::ExecSyncRequest) -> Result<(String, ExecConfig, usize)> {
    if request.argv.is_empty() {
        return Err(Error::invalid("argv", "at least the program is required"));
    }
    let most = request.max_output_bytes.unwrap_or(DEFAULT_OUTPUT);
    if most > MAX_OUTPUT {
        let problem = format!("{most} is more than {MAX_OUTPUT}");
        return Err(Error::new(Reason::LimitExceeded, format!("max_output_bytes: {problem}"))
            .hint("Exec streams output of any length"));
    }
    let config = ExecConfig {
        argv: request.argv,
        env: request.env,
        cwd: given(request.cwd),
        user: given(request.user),
        terminal: None,
        stdin: false,
        privileged: request.privileged,
        timeout: time::optional_duration("timeout", request.timeout)?,
    };
    Ok((request.container, config, usize::try_from(most).unwrap_or(usize::MAX)))
}

/// Rows and columns; absent ones take the default.
pub(crate) fn terminal_size(field: &str, size: v1::TerminalSize) -> Result<(u16, u16)> {
    let side = |name: &str, value: u32, default: u16| match u16::try_from(value) {
        Ok(0) => Ok(default),
        Ok(value) => Ok(value),
        Err(_) => Err(Error::invalid(&format!("{field}.{name}"), "must be between 1 and 65535")),
    };
    Ok((side("rows", size.rows, DEFAULT_TERMINAL.0)?, side("columns", size.columns, DEFAULT_TERMINAL.1)?))
}

/// Limits; ranges are checked by the life cycle.
pub(crate) fn resources(resources: v1::Resources) -> Resources {
    let io_max = |limit: v1::IoMax| IoMax {
        device: limit.device,
        read_bps: limit.read_bps,
        write_bps: limit.write_bps,
        read_iops: limit.read_iops,
        write_iops: limit.write_iops,
    };
    Resources {
        memory_max: resources.memory_max,
        memory_high: resources.memory_high,
        memory_low: resources.memory_low,
        memory_swap_max: resources.memory_swap_max,
        cpu_weight: resources.cpu_weight,
        cpu_quota: resources.cpu_quota,
        cpu_period: resources.cpu_period,
        cpuset_cpus: resources.cpuset_cpus,
        cpuset_mems: resources.cpuset_mems,
        pids_max: resources.pids_max,
        io_weight: resources.io_weight,
        io_max: resources.io_max.into_iter().map(io_max).collect(),
        hugetlb: resources.hugetlb.into_iter().collect(),
    }
}

/// An empty text is an absent one.
pub(super) fn given(text: String) -> Option<String> {
    (!text.is_empty()).then_some(text)
}

/// Parses each item, with its path for errors.
fn indexed<T, U>(field: &str, items: Vec<T>, parse: impl Fn(&str, T) -> Result<U>) -> Result<Vec<U>> {
    items.into_iter().enumerate().map(|(index, item)| parse(&format!("{field}[{index}]"), item)).collect()
}

fn log(log: v1::LogConfig) -> Result<LogConfig> {
    Ok(LogConfig { max_size: log.max_size, max_files: log.max_files, rate: log.rate.map(log_rate).transpose()? })
}

fn log_rate(rate: v1::LogRate) -> Result<LogRate> {
    let overrun = match rate.overrun() {
        v1::LogOverrun::Block => Overrun::Block,
        v1::LogOverrun::Drop => Overrun::Drop,
        v1::LogOverrun::Unspecified => return Err(Error::invalid("config.log.rate.overrun", "must be block or drop")),
    };
    match rate.amount {
        Some(v1::log_rate::Amount::Bytes(amount)) => Ok(LogRate { amount, unit: LogUnit::Bytes, overrun }),
        Some(v1::log_rate::Amount::Lines(amount)) => Ok(LogRate { amount, unit: LogUnit::Lines, overrun }),
        None => Err(Error::invalid("config.log.rate", "needs bytes or lines")),
    }
}

fn dns(dns: v1::DnsConfig) -> DnsConfig {
    DnsConfig { servers: dns.servers, searches: dns.searches, options: dns.options }
}

fn namespaces(namespaces: v1::Namespaces) -> Result<Namespaces> {
    let user = namespaces.user;
    let user_auto = match v1::UserNamespaceMode::try_from(user) {
        Ok(v1::UserNamespaceMode::Unspecified | v1::UserNamespaceMode::Host) => false,
        Ok(v1::UserNamespaceMode::Auto) => true,
        Err(_) => return Err(unknown_enum("config.namespaces.user", user)),
    };
    Ok(Namespaces {
        pid: namespace("config.namespaces.pid", namespaces.pid)?,
        network: namespace("config.namespaces.network", namespaces.network)?,
        ipc: namespace("config.namespaces.ipc", namespaces.ipc)?,
        uts: namespace("config.namespaces.uts", namespaces.uts)?,
        cgroup: cgroup_namespace(namespaces.cgroup)?,
        user_auto,
        time: namespaces.time.map(time_offsets).transpose()?,
    })
}

fn namespace(field: &str, namespace: Option<v1::Namespace>) -> Result<NamespaceMode> {
    let v1::Namespace { mode, container } = namespace.unwrap_or_default();
    let parsed = match v1::NamespaceMode::try_from(mode) {
        Ok(v1::NamespaceMode::Container) if container.is_empty() => {
            return Err(Error::invalid(&format!("{field}.container"), "is required for NAMESPACE_MODE_CONTAINER"));
        }
        Ok(v1::NamespaceMode::Container) => return Ok(NamespaceMode::Container(container)),
        Ok(v1::NamespaceMode::Unspecified | v1::NamespaceMode::Private) => NamespaceMode::Private,
        Ok(v1::NamespaceMode::Host) => NamespaceMode::Host,
        Err(_) => return Err(unknown_enum(&format!("{field}.mode"), mode)),
    };
    if !container.is_empty() {
        return Err(Error::invalid(
            &format!("{field}.container"),
            "is given, but mode is not NAMESPACE_MODE_CONTAINER",
        ));
    }
    Ok(parsed)
}

fn cgroup_namespace(given: Option<v1::Namespace>) -> Result<NamespaceMode> {
    match namespace("config.namespaces.cgroup", given)? {
        NamespaceMode::Container(_) => {
            Err(Error::invalid("config.namespaces.cgroup.mode", "can be private or host, not that of a container"))
        }
        mode => Ok(mode),
    }
}

fn time_offsets(offsets: v1::TimeOffsets) -> Result<TimeOffsets> {
    let nanos = |name: &str, offset: Option<prost_types::Duration>| {
        time::signed_nanos(&format!("config.namespaces.time.{name}"), offset.unwrap_or_default())
    };
    Ok(TimeOffsets {
        monotonic_nanos: nanos("monotonic", offsets.monotonic)?,
        boottime_nanos: nanos("boottime", offsets.boottime)?,
    })
}

fn mount(field: &str, mount: v1::Mount) -> Result<Mount> {
    let kind = match v1::MountType::try_from(mount.r#type) {
        Ok(v1::MountType::Bind) if mount.source.is_empty() => {
            return Err(Error::invalid(&format!("{field}.source"), "is required for a bind mount"));
        }
        Ok(v1::MountType::Bind) => MountKind::Bind { source: mount.source },
        Ok(v1::MountType::Tmpfs) if !mount.source.is_empty() => {
            return Err(Error::invalid(&format!("{field}.source"), "a tmpfs has no source"));
        }
        Ok(v1::MountType::Tmpfs) => MountKind::Tmpfs,
        Ok(v1::MountType::Unspecified) => return Err(Error::invalid(&format!("{field}.type"), "is required")),
        Err(_) => return Err(unknown_enum(&format!("{field}.type"), mount.r#type)),
    };
    Ok(Mount { kind, target: mount.target, read_only: mount.read_only, options: mount.options })
}

fn device(device: v1::Device) -> Device {
    let container_path = given(device.container_path).unwrap_or_else(|| device.host_path.clone());
    let permissions = given(device.permissions).unwrap_or_else(|| DEFAULT_PERMISSIONS.to_owned());
    Device { host_path: device.host_path, container_path, permissions }
}

fn security(security: v1::Security) -> Result<Security> {
    let seccomp = match security.seccomp.and_then(|seccomp| seccomp.profile) {
        None => SeccompProfile::Default,
        Some(v1::seccomp::Profile::Unconfined(true)) => SeccompProfile::Unconfined,
        Some(v1::seccomp::Profile::Unconfined(false)) => {
            return Err(Error::invalid("config.security.seccomp.unconfined", "must be true where it is given"));
        }
        Some(v1::seccomp::Profile::Json(json)) => SeccompProfile::Json(json),
    };
    Ok(Security {
        privileged: security.privileged,
        cap_add: security.cap_add,
        cap_drop: security.cap_drop,
        allow_new_privileges: security.allow_new_privileges,
        seccomp,
    })
}

fn rlimit(field: &str, rlimit: v1::Rlimit) -> Result<Rlimit> {
    let upper = rlimit.r#type.to_ascii_uppercase();
    let name = upper.strip_prefix("RLIMIT_").unwrap_or(&upper);
    if name.is_empty() {
        return Err(Error::invalid(&format!("{field}.type"), "is required"));
    }
    Ok(Rlimit { name: format!("RLIMIT_{name}"), soft: rlimit.soft, hard: rlimit.hard })
}

/// The error for a number that the enumeration does not have.
pub(super) fn unknown_enum(field: &str, number: i32) -> Error {
    Error::invalid(field, format!("{number} is none of its values"))
}
