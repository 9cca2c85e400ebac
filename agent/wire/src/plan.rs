//! The plan: what the shim does to make one container, compiled by the agent from an OCI runtime spec. The shim decides nothing:
//! it obeys the plan from top to bottom. All host paths are absolute.

use serde::{Deserialize, Serialize};

use crate::log::LogPlan;

/// Everything about one start of one container.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Plan {
    /// [`crate::PROTOCOL_VERSION`].
    pub version: u32,
    /// Id of the container.
    pub id: String,
    /// Directory for [`crate::SHIM_SOCKET`] and [`crate::EXIT_FILE`]; exists.
    pub run_dir: String,
    /// Where output goes beside attachments; `None`: nowhere.
    pub log: Option<LogPlan>,
    /// Standard input of init.
    pub stdin: Stdin,
    /// Its namespaces.
    pub namespaces: Namespaces,
    /// Its control groups, which exist and have their limits.
    pub cgroup: CgroupPlan,
    /// Its root file system.
    pub rootfs: RootfsPlan,
    /// Mounts, in order.
    pub mounts: Vec<MountPlan>,
    /// Device nodes, made after the mounts (bound from the host's nodes in a user namespace).
    pub devices: Vec<DeviceNode>,
    /// Symbolic links, made after the mounts where nothing of that name is there.
    pub symlinks: Vec<Symlink>,
    /// Generated files, bind-mounted over their targets after the mounts, from one tmpfs of their own.
    pub files: Vec<FilePlan>,
    /// Paths hidden: files by /dev/null, directories by an empty read-only tmpfs; missing ones are skipped.
    pub masked_paths: Vec<String>,
    /// Paths made read-only; missing ones are skipped.
    pub readonly_paths: Vec<String>,
    /// Host name; only with a new uts namespace.
    pub hostname: Option<String>,
    /// NIS domain name; only with a new uts namespace.
    pub domainname: Option<String>,
    /// Kernel parameters: path below /proc/sys ("net/ipv4/ip_forward") and value.
    pub sysctls: Vec<(String, String)>,
    /// The init process.
    pub process: ProcessPlan,
}

/// Standard input of init.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum Stdin {
    /// /dev/null.
    Null,
    /// A pipe (or the terminal) that attachments write to.
    Open {
        /// Close it when the input of the first attachment that has one ends.
        once: bool,
    },
}

/// Whose namespace.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum Namespace {
    /// A new one.
    New,
    /// The shim's own.
    Host,
    /// The one at this path, e.g. "/proc/123/ns/net".
    Path(String),
}

/// The namespaces of a container. The mount namespace is always new.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Namespaces {
    /// Processes.
    pub pid: Namespace,
    /// Network; a new one gets loopback up.
    pub network: Namespace,
    /// IPC.
    pub ipc: Namespace,
    /// Host name.
    pub uts: Namespace,
    /// Control group root.
    pub cgroup: Namespace,
    /// Ids of a new user namespace; `None`: the host's.
    pub user: Option<UserNamespace>,
    /// Clock offsets of a new time namespace; `None`: the host's.
    pub time: Option<TimeOffsets>,
}

/// Id maps of a new user namespace.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct UserNamespace {
    /// For users.
    pub uid_maps: Vec<IdMap>,
    /// For groups.
    pub gid_maps: Vec<IdMap>,
}

/// One line of an id map, see user_namespaces(7).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct IdMap {
    /// First id in the container.
    pub container: u32,
    /// First id on the host.
    pub host: u32,
    /// How many.
    pub size: u32,
}

/// Offsets of a time namespace in nanoseconds, see time_namespaces(7).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct TimeOffsets {
    /// Of CLOCK_MONOTONIC.
    pub monotonic_nanos: i64,
    /// Of CLOCK_BOOTTIME.
    pub boottime_nanos: i64,
}

/// The control groups that init is born in or enters before it does anything else.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct CgroupPlan {
    /// Directory in the version 2 hierarchy (unified or hybrid), entered by CLONE_INTO_CGROUP.
    pub unified: Option<String>,
    /// `tasks` files of version 1 hierarchies.
    pub v1_tasks: Vec<String>,
    /// BPF_PROG_TYPE_CGROUP_DEVICE instructions (struct bpf_insn, 8 bytes each) to attach to `unified`, on pure version 2.
    pub device_program: Option<Vec<u8>>,
    /// File with a line "oom_kill N": memory.events or, in version 1, memory.oom_control.
    pub oom_file: Option<String>,
}

/// The root file system: an overlay over EROFS layers.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct RootfsPlan {
    /// Mount points of the layers, the topmost first; at least one, at most 500. All lie in one directory.
    pub layers: Vec<String>,
    /// Writable directory; exists, and belongs to the container's root.
    pub upper: String,
    /// Overlay's work directory, empty, on the same file system.
    pub work: String,
    /// Mount the root read-only once everything in it is made.
    pub read_only: bool,
    /// Nothing that is written needs to survive the container: its end and fsync(2) write nothing to the disk. The directories
    /// cannot be mounted a second time. See Documentation/filesystems/overlayfs.rst, "Volatile mount".
    pub volatile: bool,
}

/// The root of a container that does not run, to be looked at or written to.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ViewPlan {
    /// [`crate::PROTOCOL_VERSION`].
    pub version: u32,
    /// Its root file system.
    pub rootfs: RootfsPlan,
    /// Whether it is to be written to. If not, the writable directory is one more layer, if it is there, and whoever starts the
    /// container meanwhile is in nobody's way.
    pub writable: bool,
    /// A directory that may be covered for the moment, in a mount namespace of the shim's own.
    pub cover: String,
    /// Ids of the container; `None`: the host's.
    pub user: Option<UserNamespace>,
    /// Bind mounts, in order. Where it is not to be written to, those whose targets are missing are left out.
    pub mounts: Vec<MountPlan>,
}

/// Flags of a mount, as the bits of MOUNT_ATTR_* (linux/mount.h).
pub mod mount_flags {
    /// Read-only.
    pub const RDONLY: u64 = 0x1;
    /// Set-user-id bits and file capabilities are ignored.
    pub const NOSUID: u64 = 0x2;
    /// Device nodes cannot be opened.
    pub const NODEV: u64 = 0x4;
    /// Programs cannot be executed.
    pub const NOEXEC: u64 = 0x8;
    /// Access times relative to modification times (no bit: the default).
    pub const RELATIME: u64 = 0;
    /// Access times are not updated.
    pub const NOATIME: u64 = 0x10;
}

/// How mounts propagate between a bind mount and its source, see mount_namespaces(7).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum Propagation {
    /// Not at all.
    Private,
    /// From the host to the container.
    Slave,
    /// Both ways.
    Shared,
}

/// What is mounted.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum MountKind {
    /// A new instance of a kernel file system: "proc", "sysfs", "tmpfs", "devpts", "mqueue", "cgroup2".
    Filesystem {
        /// Its type.
        fstype: String,
        /// Its options (key and value; an empty value is a flag).
        options: Vec<(String, String)>,
    },
    /// A file or directory of the host, opened by the shim before it enters the container's root.
    Bind {
        /// Path on the host.
        source: String,
        /// With the mounts below it.
        recursive: bool,
        /// Propagation.
        propagation: Propagation,
        /// Map its ids to those of the container's user namespace (ignored without one).
        idmap: bool,
    },
    /// The container's own view of the version 1 control group hierarchies: a tmpfs with one read-only bind mount (name, host directory) each, and
    /// links (name, target) for co-mounted controllers.
    CgroupV1 {
        /// Name below the target, and the container's own directory of that hierarchy on the host.
        hierarchies: Vec<(String, String)>,
        /// Link name and its target.
        links: Vec<(String, String)>,
    },
}

/// One mount. The target is resolved inside the root and made if missing.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct MountPlan {
    /// What.
    pub kind: MountKind,
    /// Absolute path in the container.
    pub target: String,
    /// [`mount_flags`].
    pub flags: u64,
}

/// A device node.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct DeviceNode {
    /// Path in the container.
    pub path: String,
    /// Path on the host, bound in a user namespace.
    pub host_path: String,
    /// Whether it is a block device.
    pub block: bool,
    /// Major number.
    pub major: u32,
    /// Minor number.
    pub minor: u32,
    /// Permission bits.
    pub mode: u32,
    /// Owner in the container.
    pub uid: u32,
    /// Group in the container.
    pub gid: u32,
}

/// A symbolic link.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Symlink {
    /// Path in the container.
    pub path: String,
    /// What it says.
    pub target: String,
}

/// A generated file.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct FilePlan {
    /// Path in the container, e.g. "/etc/hosts".
    pub target: String,
    /// Its contents.
    pub contents: String,
    /// Permission bits.
    pub mode: u32,
}

/// A process: init or an exec.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ProcessPlan {
    /// Program and arguments. A program without "/" is looked for along PATH of `env`, inside the container.
    pub argv: Vec<String>,
    /// Whole environment; HOME is added from /etc/passwd where it is missing.
    pub env: Vec<String>,
    /// Working directory; made if missing (init only).
    pub cwd: String,
    /// Who.
    pub user: UserPlan,
    /// File mode creation mask.
    pub umask: u32,
    /// Capability sets.
    pub capabilities: Capabilities,
    /// Set no_new_privs.
    pub no_new_privs: bool,
    /// struct sock_filter array, 8 bytes each; `None`: no filter.
    pub seccomp: Option<Vec<u8>>,
    /// SECCOMP_FILTER_FLAG_* bits.
    pub seccomp_flags: u32,
    /// Resource limits.
    pub rlimits: Vec<Rlimit>,
    /// OOM killer adjustment; `None`: inherited.
    pub oom_score_adj: Option<i32>,
    /// Rows and columns of its terminal; `None`: no terminal.
    pub terminal: Option<(u16, u16)>,
}

/// Who a process is: looked up in the container's /etc/passwd and /etc/group, as Docker does. Names or decimal ids.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct UserPlan {
    /// User.
    pub user: String,
    /// Group; `None`: the user's own, 0 for an id that /etc/passwd does not know.
    pub group: Option<String>,
    /// Groups beside those in which /etc/group lists the user (which count only without `group`).
    pub additional_groups: Vec<String>,
}

/// Capability sets as bits, see capabilities(7).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Capabilities {
    /// Bounding set.
    pub bounding: u64,
    /// Effective set.
    pub effective: u64,
    /// Permitted set.
    pub permitted: u64,
    /// Inheritable set.
    pub inheritable: u64,
    /// Ambient set.
    pub ambient: u64,
}

/// A resource limit, see getrlimit(2).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Rlimit {
    /// RLIMIT_* number.
    pub resource: u32,
    /// Soft limit; u64::MAX for none.
    pub soft: u64,
    /// Hard limit; u64::MAX for none.
    pub hard: u64,
}
