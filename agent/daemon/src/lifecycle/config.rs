//! What a user asked for: checked, typed, kept in the container's record. Made by `service/convert.rs`, read by `spec.rs`.

use std::collections::BTreeMap;
use std::ops::RangeInclusive;
use std::time::Duration;

use hull_wire::{LogPlan, LogRate};
use serde::{Deserialize, Serialize};

/// A container as it was asked for. Absent fields take the image's value or the default, see `proto/hull/v1/spec.proto`.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub(crate) struct ContainerConfig {
    pub(crate) image: String,
    /// Empty: chosen by the agent.
    pub(crate) name: String,
    pub(crate) labels: BTreeMap<String, String>,
    pub(crate) entrypoint: Vec<String>,
    pub(crate) args: Vec<String>,
    pub(crate) clear_entrypoint: bool,
    pub(crate) env: Vec<String>,
    pub(crate) cwd: Option<String>,
    pub(crate) user: Option<String>,
    pub(crate) additional_groups: Vec<String>,
    pub(crate) umask: Option<u32>,
    pub(crate) terminal: bool,
    pub(crate) stdin_open: bool,
    pub(crate) stdin_once: bool,
    /// Signal number.
    pub(crate) stop_signal: Option<i32>,
    pub(crate) stop_timeout: Option<Duration>,
    pub(crate) auto_remove: bool,
    pub(crate) hostname: Option<String>,
    pub(crate) domainname: Option<String>,
    /// Address and name.
    pub(crate) extra_hosts: Vec<(String, String)>,
    pub(crate) dns: Option<DnsConfig>,
    pub(crate) namespaces: Namespaces,
    pub(crate) resources: Resources,
    pub(crate) mounts: Vec<Mount>,
    pub(crate) read_only_rootfs: bool,
    pub(crate) masked_paths: Vec<String>,
    pub(crate) readonly_paths: Vec<String>,
    pub(crate) devices: Vec<Device>,
    pub(crate) security: Security,
    pub(crate) sysctls: BTreeMap<String, String>,
    pub(crate) rlimits: Vec<Rlimit>,
    pub(crate) oom_score_adj: Option<i32>,
    /// Bytes.
    pub(crate) shm_size: Option<u64>,
    pub(crate) log: LogConfig,
}

/// How output is logged. `None`: as the node has it.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub(crate) struct LogConfig {
    /// Bytes.
    pub(crate) max_size: Option<u64>,
    pub(crate) max_files: Option<u32>,
    pub(crate) rate: Option<LogRate>,
}

/// Limits of logs that do not have their own.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct LogLimits {
    /// Bytes of one file.
    pub(crate) max_size: u64,
    pub(crate) max_files: u32,
}

impl LogLimits {
    /// What one file may have.
    pub(crate) const SIZES: RangeInclusive<u64> = 64 << 10..=1 << 40;
    /// How many files there may be.
    pub(crate) const FILES: RangeInclusive<u32> = 1..=10_000;

    /// The log of a container.
    pub(crate) fn plan(self, path: String, config: &LogConfig) -> LogPlan {
        LogPlan {
            path,
            max_size: config.max_size.unwrap_or(self.max_size),
            max_files: config.max_files.unwrap_or(self.max_files),
            rate: config.rate,
        }
    }
}

impl Default for LogLimits {
    fn default() -> Self {
        Self { max_size: 16 << 20, max_files: 5 }
    }
}

/// Contents of /etc/resolv.conf.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct DnsConfig {
    pub(crate) servers: Vec<String>,
    pub(crate) searches: Vec<String>,
    pub(crate) options: Vec<String>,
}

/// Whose namespace.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum NamespaceMode {
    #[default]
    Private,
    Host,
    /// Id, prefix or name of a container; resolved to its id at creation.
    Container(String),
}

/// The namespaces that can be chosen.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Namespaces {
    pub(crate) pid: NamespaceMode,
    pub(crate) network: NamespaceMode,
    pub(crate) ipc: NamespaceMode,
    pub(crate) uts: NamespaceMode,
    pub(crate) cgroup: NamespaceMode,
    /// A user namespace of its own.
    pub(crate) user_auto: bool,
    pub(crate) time: Option<TimeOffsets>,
}

/// Offsets of a time namespace in nanoseconds.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct TimeOffsets {
    pub(crate) monotonic_nanos: i64,
    pub(crate) boottime_nanos: i64,
}

/// Limits; units and ranges as in `proto/hull/v1/spec.proto`. -1: none. `None`: not set.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub(crate) struct Resources {
    pub(crate) memory_max: Option<i64>,
    pub(crate) memory_high: Option<i64>,
    pub(crate) memory_low: Option<i64>,
    pub(crate) memory_swap_max: Option<i64>,
    pub(crate) cpu_weight: Option<u32>,
    pub(crate) cpu_quota: Option<i64>,
    pub(crate) cpu_period: Option<u64>,
    pub(crate) cpuset_cpus: Option<String>,
    pub(crate) cpuset_mems: Option<String>,
    pub(crate) pids_max: Option<i64>,
    pub(crate) io_weight: Option<u32>,
    pub(crate) io_max: Vec<IoMax>,
    pub(crate) hugetlb: BTreeMap<String, u64>,
}

/// Limits of one block device.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct IoMax {
    /// Path on the node.
    pub(crate) device: String,
    pub(crate) read_bps: Option<u64>,
    pub(crate) write_bps: Option<u64>,
    pub(crate) read_iops: Option<u64>,
    pub(crate) write_iops: Option<u64>,
}

impl Resources {
    /// These limits with those of `change` laid over them.
    pub(crate) fn updated(&self, change: &Self) -> Self {
        let mut io_max = self.io_max.clone();
        for limit in &change.io_max {
            io_max.retain(|old| old.device != limit.device);
            io_max.push(limit.clone());
        }
        let mut hugetlb = self.hugetlb.clone();
        hugetlb.extend(change.hugetlb.iter().map(|(size, limit)| (size.clone(), *limit)));
        Self {
            memory_max: change.memory_max.or(self.memory_max),
            memory_high: change.memory_high.or(self.memory_high),
            memory_low: change.memory_low.or(self.memory_low),
            memory_swap_max: change.memory_swap_max.or(self.memory_swap_max),
            cpu_weight: change.cpu_weight.or(self.cpu_weight),
            cpu_quota: change.cpu_quota.or(self.cpu_quota),
            cpu_period: change.cpu_period.or(self.cpu_period),
            cpuset_cpus: change.cpuset_cpus.clone().or_else(|| self.cpuset_cpus.clone()),
            cpuset_mems: change.cpuset_mems.clone().or_else(|| self.cpuset_mems.clone()),
            pids_max: change.pids_max.or(self.pids_max),
            io_weight: change.io_weight.or(self.io_weight),
            io_max,
            hugetlb,
        }
    }
}

/// A mount that the user asked for.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Mount {
    pub(crate) kind: MountKind,
    pub(crate) target: String,
    pub(crate) read_only: bool,
    pub(crate) options: Vec<String>,
}

/// Kind of a mount.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum MountKind {
    Bind { source: String },
    Tmpfs,
}

/// A device of the node.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Device {
    pub(crate) host_path: String,
    pub(crate) container_path: String,
    /// Of "rwm".
    pub(crate) permissions: String,
}

/// What processes may do.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Security {
    pub(crate) privileged: bool,
    pub(crate) cap_add: Vec<String>,
    pub(crate) cap_drop: Vec<String>,
    pub(crate) allow_new_privileges: bool,
    pub(crate) seccomp: SeccompProfile,
}

/// A system call filter.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum SeccompProfile {
    /// hull's own.
    #[default]
    Default,
    /// None.
    Unconfined,
    /// Docker's or OCI's JSON.
    Json(String),
}

/// A resource limit.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Rlimit {
    /// "RLIMIT_NOFILE".
    pub(crate) name: String,
    pub(crate) soft: u64,
    pub(crate) hard: u64,
}

/// A further process in a container, as it was asked for.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct ExecConfig {
    pub(crate) argv: Vec<String>,
    pub(crate) env: Vec<String>,
    pub(crate) cwd: Option<String>,
    pub(crate) user: Option<String>,
    /// Rows and columns, where it runs on a terminal.
    pub(crate) terminal: Option<(u16, u16)>,
    pub(crate) stdin: bool,
    pub(crate) privileged: bool,
    pub(crate) timeout: Option<Duration>,
}
