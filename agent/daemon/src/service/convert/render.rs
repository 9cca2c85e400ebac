//! What the life cycle knows -> protobuf.

use hull_proto::v1;
use hull_wire::{LogRate, LogUnit, Overrun};

use super::time;
use crate::lifecycle::config::{
    ContainerConfig, LogConfig, Mount, MountKind, NamespaceMode, Namespaces, Resources, SeccompProfile, Security,
};
use crate::lifecycle::signal;
use crate::lifecycle::{Exit, State, View};
use crate::runtime::processes::Process;

/// One container.
pub(crate) fn container(view: &View) -> v1::Container {
    v1::Container {
        id: view.id.clone(),
        name: view.name.clone(),
        config: Some(config(&view.config)),
        image_digest: view.image_digest.clone(),
        state: state(view.state).into(),
        created_at: Some(time::to_timestamp(view.created_at_nanos)),
        started_at: view.started_at_nanos.map(time::to_timestamp),
        exit: view.exit.as_ref().map(exit),
        pid: view.pid,
        log_path: view.log_path.display().to_string(),
        cgroup_path: view.cgroup_path.clone(),
        userns_base: view.userns_base,
        start_steps: view
            .start_steps
            .iter()
            .map(|timing| v1::StepTiming {
                step: timing.step.to_string(),
                duration: Some(time::nanos_to_proto(i64::try_from(timing.nanos).unwrap_or(i64::MAX))),
            })
            .collect(),
        generation: view.generation,
    }
}

/// The state as the API names it.
pub(crate) fn state(state: State) -> v1::ContainerState {
    match state {
        State::Created => v1::ContainerState::Created,
        State::Starting => v1::ContainerState::Starting,
        State::Running => v1::ContainerState::Running,
        State::Paused => v1::ContainerState::Paused,
        State::Stopping => v1::ContainerState::Stopping,
        State::Exited => v1::ContainerState::Exited,
        State::Removing => v1::ContainerState::Removing,
    }
}

/// How a process ended.
pub(crate) fn exit(exit: &Exit) -> v1::ExitStatus {
    v1::ExitStatus {
        code: exit.code,
        signal: exit.signal,
        oom_killed: exit.oom_killed,
        finished_at: Some(time::to_timestamp(exit.finished_at_nanos)),
        error: exit.error.clone(),
    }
}

/// One process.
pub(crate) fn process(process: Process) -> v1::Process {
    v1::Process {
        pid: process.pid,
        container_pid: process.container_pid,
        parent_pid: process.parent_pid,
        uid: process.uid,
        state: process.state.to_string(),
        threads: process.threads,
        cpu_time: Some(time::to_proto_duration(process.cpu_time)),
        resident_bytes: process.resident_bytes,
        started_at: Some(time::to_timestamp(process.started_at_nanos)),
        name: process.name,
        args: process.args,
    }
}

/// What a container was created from.
pub(crate) fn config(config: &ContainerConfig) -> v1::ContainerConfig {
    v1::ContainerConfig {
        image: config.image.clone(),
        name: config.name.clone(),
        labels: config.labels.clone().into_iter().collect(),
        entrypoint: config.entrypoint.clone(),
        args: config.args.clone(),
        clear_entrypoint: config.clear_entrypoint,
        env: config.env.clone(),
        cwd: config.cwd.clone().unwrap_or_default(),
        user: config.user.clone().unwrap_or_default(),
        additional_groups: config.additional_groups.clone(),
        umask: config.umask,
        terminal: config.terminal,
        stdin_open: config.stdin_open,
        stdin_once: config.stdin_once,
        stop_signal: config.stop_signal.map(signal::name).unwrap_or_default(),
        stop_timeout: config.stop_timeout.map(time::to_proto_duration),
        auto_remove: config.auto_remove,
        hostname: config.hostname.clone().unwrap_or_default(),
        domainname: config.domainname.clone().unwrap_or_default(),
        extra_hosts: config
            .extra_hosts
            .iter()
            .map(|(ip, hostname)| v1::HostEntry { ip: ip.clone(), hostname: hostname.clone() })
            .collect(),
        dns: config.dns.as_ref().map(|dns| v1::DnsConfig {
            servers: dns.servers.clone(),
            searches: dns.searches.clone(),
            options: dns.options.clone(),
        }),
        namespaces: Some(namespaces(&config.namespaces)),
        resources: Some(resources(&config.resources)),
        mounts: config.mounts.iter().map(mount).collect(),
        read_only_rootfs: config.read_only_rootfs,
        masked_paths: config.masked_paths.clone(),
        readonly_paths: config.readonly_paths.clone(),
        devices: config
            .devices
            .iter()
            .map(|device| v1::Device {
                host_path: device.host_path.clone(),
                container_path: device.container_path.clone(),
                permissions: device.permissions.clone(),
            })
            .collect(),
        security: Some(security(&config.security)),
        sysctls: config.sysctls.clone().into_iter().collect(),
        rlimits: config
            .rlimits
            .iter()
            .map(|limit| v1::Rlimit { r#type: limit.name.clone(), soft: limit.soft, hard: limit.hard })
            .collect(),
        oom_score_adj: config.oom_score_adj,
        shm_size: config.shm_size,
        init: false,
        log: (config.log != LogConfig::default()).then(|| log(&config.log)),
    }
}

fn log(log: &LogConfig) -> v1::LogConfig {
    let rate = |rate: LogRate| {
        let amount = match rate.unit {
            LogUnit::Bytes => v1::log_rate::Amount::Bytes(rate.amount),
            LogUnit::Lines => v1::log_rate::Amount::Lines(rate.amount),
        };
        let overrun = match rate.overrun {
            Overrun::Block => v1::LogOverrun::Block,
            Overrun::Drop => v1::LogOverrun::Drop,
        };
        v1::LogRate { amount: Some(amount), overrun: overrun.into() }
    };
    v1::LogConfig { max_size: log.max_size, max_files: log.max_files, rate: log.rate.map(rate) }
}

/// Limits.
pub(crate) fn resources(resources: &Resources) -> v1::Resources {
    v1::Resources {
        memory_max: resources.memory_max,
        memory_high: resources.memory_high,
        memory_low: resources.memory_low,
        memory_swap_max: resources.memory_swap_max,
        cpu_weight: resources.cpu_weight,
        cpu_quota: resources.cpu_quota,
        cpu_period: resources.cpu_period,
        cpuset_cpus: resources.cpuset_cpus.clone(),
        cpuset_mems: resources.cpuset_mems.clone(),
        pids_max: resources.pids_max,
        io_weight: resources.io_weight,
        io_max: resources
            .io_max
            .iter()
            .map(|limit| v1::IoMax {
                device: limit.device.clone(),
                read_bps: limit.read_bps,
                write_bps: limit.write_bps,
                read_iops: limit.read_iops,
                write_iops: limit.write_iops,
            })
            .collect(),
        hugetlb: resources.hugetlb.clone().into_iter().collect(),
    }
}

fn namespaces(namespaces: &Namespaces) -> v1::Namespaces {
    let user = if namespaces.user_auto { v1::UserNamespaceMode::Auto } else { v1::UserNamespaceMode::Host };
    v1::Namespaces {
        pid: Some(namespace(&namespaces.pid)),
        network: Some(namespace(&namespaces.network)),
        ipc: Some(namespace(&namespaces.ipc)),
        uts: Some(namespace(&namespaces.uts)),
        cgroup: Some(namespace(&namespaces.cgroup)),
        user: user.into(),
        time: namespaces.time.map(|offsets| v1::TimeOffsets {
            monotonic: Some(time::nanos_to_proto(offsets.monotonic_nanos)),
            boottime: Some(time::nanos_to_proto(offsets.boottime_nanos)),
        }),
    }
}

fn namespace(mode: &NamespaceMode) -> v1::Namespace {
    let (mode, container) = match mode {
        NamespaceMode::Private => (v1::NamespaceMode::Private, String::new()),
        NamespaceMode::Host => (v1::NamespaceMode::Host, String::new()),
        NamespaceMode::Container(container) => (v1::NamespaceMode::Container, container.clone()),
    };
    v1::Namespace { mode: mode.into(), container }
}

fn mount(mount: &Mount) -> v1::Mount {
    let (kind, source) = match &mount.kind {
        MountKind::Bind { source } => (v1::MountType::Bind, source.clone()),
        MountKind::Tmpfs => (v1::MountType::Tmpfs, String::new()),
    };
    v1::Mount {
        r#type: kind.into(),
        source,
        target: mount.target.clone(),
        read_only: mount.read_only,
        options: mount.options.clone(),
    }
}

fn security(security: &Security) -> v1::Security {
    let profile = match &security.seccomp {
        SeccompProfile::Default => None,
        SeccompProfile::Unconfined => Some(v1::seccomp::Profile::Unconfined(true)),
        SeccompProfile::Json(json) => Some(v1::seccomp::Profile::Json(json.clone())),
    };
    v1::Security {
        privileged: security.privileged,
        cap_add: security.cap_add.clone(),
        cap_drop: security.cap_drop.clone(),
        allow_new_privileges: security.allow_new_privileges,
        seccomp: profile.map(|profile| v1::Seccomp { profile: Some(profile) }),
    }
}
