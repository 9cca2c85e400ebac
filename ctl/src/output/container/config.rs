//! What a container was created from.

use std::collections::BTreeMap;

use hull_proto::v1::{self, seccomp};
use serde::Serialize;

use super::sorted;
use crate::output::run::duration_text;

#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct ConfigView {
    image: String,
    name: String,
    labels: BTreeMap<String, String>,
    entrypoint: Vec<String>,
    args: Vec<String>,
    clear_entrypoint: bool,
    env: Vec<String>,
    cwd: String,
    user: String,
    additional_groups: Vec<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    umask: Option<u32>,
    terminal: bool,
    stdin_open: bool,
    stdin_once: bool,
    stop_signal: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    stop_timeout: Option<String>,
    auto_remove: bool,
    hostname: String,
    domainname: String,
    extra_hosts: Vec<HostView>,
    #[serde(skip_serializing_if = "Option::is_none")]
    dns: Option<DnsView>,
    namespaces: NamespacesView,
    resources: ResourcesView,
    mounts: Vec<MountView>,
    read_only_rootfs: bool,
    masked_paths: Vec<String>,
    readonly_paths: Vec<String>,
    devices: Vec<DeviceView>,
    security: SecurityView,
    sysctls: BTreeMap<String, String>,
    rlimits: Vec<RlimitView>,
    #[serde(skip_serializing_if = "Option::is_none")]
    oom_score_adj: Option<i32>,
    #[serde(skip_serializing_if = "Option::is_none")]
    shm_size: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    log: Option<LogView>,
}

impl From<v1::ContainerConfig> for ConfigView {
    fn from(config: v1::ContainerConfig) -> Self {
        Self {
            image: config.image,
            name: config.name,
            labels: sorted(config.labels),
            entrypoint: config.entrypoint,
            args: config.args,
            clear_entrypoint: config.clear_entrypoint,
            env: config.env,
            cwd: config.cwd,
            user: config.user,
            additional_groups: config.additional_groups,
            umask: config.umask,
            terminal: config.terminal,
            stdin_open: config.stdin_open,
            stdin_once: config.stdin_once,
            stop_signal: config.stop_signal,
            stop_timeout: config.stop_timeout.map(duration_text),
            auto_remove: config.auto_remove,
            hostname: config.hostname,
            domainname: config.domainname,
            extra_hosts: config.extra_hosts.into_iter().map(HostView::from).collect(),
            dns: config.dns.map(DnsView::from),
            namespaces: config.namespaces.unwrap_or_default().into(),
            resources: config.resources.unwrap_or_default().into(),
            mounts: config.mounts.into_iter().map(MountView::from).collect(),
            read_only_rootfs: config.read_only_rootfs,
            masked_paths: config.masked_paths,
            readonly_paths: config.readonly_paths,
            devices: config.devices.into_iter().map(DeviceView::from).collect(),
            security: config.security.unwrap_or_default().into(),
            sysctls: sorted(config.sysctls),
            rlimits: config.rlimits.into_iter().map(RlimitView::from).collect(),
            oom_score_adj: config.oom_score_adj,
            shm_size: config.shm_size,
            log: config.log.map(LogView::from),
        }
    }
}

#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct LogView {
    #[serde(skip_serializing_if = "Option::is_none")]
    max_size: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    max_files: Option<u32>,
    #[serde(skip_serializing_if = "Option::is_none")]
    rate: Option<LogRateView>,
}

#[derive(Debug, Serialize)]
struct LogRateView {
    #[serde(skip_serializing_if = "Option::is_none")]
    bytes: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    lines: Option<u64>,
    overrun: &'static str,
}

impl From<v1::LogConfig> for LogView {
    fn from(log: v1::LogConfig) -> Self {
        Self { max_size: log.max_size, max_files: log.max_files, rate: log.rate.map(LogRateView::from) }
    }
}

impl From<v1::LogRate> for LogRateView {
    fn from(rate: v1::LogRate) -> Self {
        let overrun = if rate.overrun() == v1::LogOverrun::Block { "block" } else { "drop" };
        let (bytes, lines) = match rate.amount {
            Some(v1::log_rate::Amount::Bytes(bytes)) => (Some(bytes), None),
            Some(v1::log_rate::Amount::Lines(lines)) => (None, Some(lines)),
            None => (None, None),
        };
        Self { bytes, lines, overrun }
    }
}

#[derive(Debug, Serialize)]
struct HostView {
    ip: String,
    hostname: String,
}

impl From<v1::HostEntry> for HostView {
    fn from(entry: v1::HostEntry) -> Self {
        Self { ip: entry.ip, hostname: entry.hostname }
    }
}

#[derive(Debug, Serialize)]
struct DnsView {
    servers: Vec<String>,
    searches: Vec<String>,
    options: Vec<String>,
}

impl From<v1::DnsConfig> for DnsView {
    fn from(dns: v1::DnsConfig) -> Self {
        Self { servers: dns.servers, searches: dns.searches, options: dns.options }
    }
}

#[derive(Debug, Serialize)]
struct NamespacesView {
    pid: NamespaceView,
    network: NamespaceView,
    ipc: NamespaceView,
    uts: NamespaceView,
    cgroup: NamespaceView,
    user: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    time: Option<TimeView>,
}

#[derive(Debug, Serialize)]
struct NamespaceView {
    mode: &'static str,
    #[serde(skip_serializing_if = "String::is_empty")]
    container: String,
}

#[derive(Debug, Serialize)]
struct TimeView {
    monotonic: String,
    boottime: String,
}

impl From<v1::Namespaces> for NamespacesView {
    fn from(namespaces: v1::Namespaces) -> Self {
        let user = namespaces.user().as_str_name();
        let view = |namespace: Option<v1::Namespace>| {
            let namespace = namespace.unwrap_or_default();
            NamespaceView { mode: namespace.mode().as_str_name(), container: namespace.container }
        };
        let time = |offsets: v1::TimeOffsets| TimeView {
            monotonic: duration_text(offsets.monotonic.unwrap_or_default()),
            boottime: duration_text(offsets.boottime.unwrap_or_default()),
        };
        Self {
            pid: view(namespaces.pid),
            network: view(namespaces.network),
            ipc: view(namespaces.ipc),
            uts: view(namespaces.uts),
            cgroup: view(namespaces.cgroup),
            user,
            time: namespaces.time.map(time),
        }
    }
}

/// Limits; those that are absent are left out.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct ResourcesView {
    #[serde(skip_serializing_if = "Option::is_none")]
    memory_max: Option<i64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    memory_high: Option<i64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    memory_low: Option<i64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    memory_swap_max: Option<i64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    cpu_weight: Option<u32>,
    #[serde(skip_serializing_if = "Option::is_none")]
    cpu_quota: Option<i64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    cpu_period: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    cpuset_cpus: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    cpuset_mems: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pids_max: Option<i64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    io_weight: Option<u32>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    io_max: Vec<IoMaxView>,
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    hugetlb: BTreeMap<String, u64>,
}

impl From<v1::Resources> for ResourcesView {
    fn from(resources: v1::Resources) -> Self {
        Self {
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
            io_max: resources.io_max.into_iter().map(IoMaxView::from).collect(),
            hugetlb: resources.hugetlb.into_iter().collect(),
        }
    }
}

#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct IoMaxView {
    device: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    read_bps: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    write_bps: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    read_iops: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    write_iops: Option<u64>,
}

impl From<v1::IoMax> for IoMaxView {
    fn from(limit: v1::IoMax) -> Self {
        let (read_bps, write_bps) = (limit.read_bps, limit.write_bps);
        Self { device: limit.device, read_bps, write_bps, read_iops: limit.read_iops, write_iops: limit.write_iops }
    }
}

#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct MountView {
    r#type: &'static str,
    #[serde(skip_serializing_if = "String::is_empty")]
    source: String,
    target: String,
    read_only: bool,
    options: Vec<String>,
}

impl From<v1::Mount> for MountView {
    fn from(mount: v1::Mount) -> Self {
        let r#type = mount.r#type().as_str_name();
        let (source, target) = (mount.source, mount.target);
        Self { r#type, source, target, read_only: mount.read_only, options: mount.options }
    }
}

#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct DeviceView {
    host_path: String,
    container_path: String,
    permissions: String,
}

impl From<v1::Device> for DeviceView {
    fn from(device: v1::Device) -> Self {
        let (host_path, container_path) = (device.host_path, device.container_path);
        Self { host_path, container_path, permissions: device.permissions }
    }
}

#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct SecurityView {
    privileged: bool,
    cap_add: Vec<String>,
    cap_drop: Vec<String>,
    allow_new_privileges: bool,
    #[serde(skip_serializing_if = "Option::is_none")]
    seccomp: Option<SeccompView>,
}

#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
enum SeccompView {
    Unconfined(bool),
    Json(String),
}

impl From<v1::Security> for SecurityView {
    fn from(security: v1::Security) -> Self {
        let seccomp = security.seccomp.and_then(|seccomp| seccomp.profile).map(|profile| match profile {
            seccomp::Profile::Unconfined(unconfined) => SeccompView::Unconfined(unconfined),
            seccomp::Profile::Json(json) => SeccompView::Json(json),
        });
        Self {
            privileged: security.privileged,
            cap_add: security.cap_add,
            cap_drop: security.cap_drop,
            allow_new_privileges: security.allow_new_privileges,
            seccomp,
        }
    }
}

#[derive(Debug, Serialize)]
struct RlimitView {
    r#type: String,
    soft: u64,
    hard: u64,
}

impl From<v1::Rlimit> for RlimitView {
    fn from(limit: v1::Rlimit) -> Self {
        Self { r#type: limit.r#type, soft: limit.soft, hard: limit.hard }
    }
}
