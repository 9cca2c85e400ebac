//! What the probe reports: shared by the probe, which writes it as JSON from inside a container, and the tests, which read it.
//!
//! The probe is a crate of its own so that the static build of it compiles next to nothing.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

/// Everything that a process can see of its own surroundings.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Report {
    /// Arguments, the program's name first.
    pub argv: Vec<String>,
    /// Environment.
    pub env: BTreeMap<String, String>,
    /// Working directory.
    pub cwd: String,
    /// Process id in its own namespace.
    pub pid: i32,
    /// Its parent's.
    pub parent: i32,
    /// Its session.
    pub session: i32,
    /// Real, effective, saved and file system user id.
    pub uids: Vec<u32>,
    /// The same of the group.
    pub gids: Vec<u32>,
    /// Supplementary groups, sorted.
    pub groups: Vec<u32>,
    /// File mode creation mask.
    pub umask: u32,
    /// Capability sets.
    pub caps: Caps,
    /// Whether no_new_privs is set.
    pub no_new_privs: bool,
    /// 0: none, 2: filter.
    pub seccomp: u32,
    /// Whether the process can be dumped (prctl PR_GET_DUMPABLE).
    pub dumpable: i32,
    /// Soft and hard limits by lower-case name.
    pub rlimits: BTreeMap<String, (u64, u64)>,
    /// Inode numbers of its namespaces by name.
    pub namespaces: BTreeMap<String, u64>,
    /// Its mounts.
    pub mounts: Vec<Mount>,
    /// Its open descriptors.
    pub fds: Vec<Fd>,
    /// Host name.
    pub hostname: String,
    /// NIS domain name.
    pub domainname: String,
    /// OOM killer adjustment.
    pub oom_score_adj: i32,
    /// Lines of its id maps.
    pub uid_map: Vec<Vec<u32>>,
    /// Lines of its group id maps.
    pub gid_map: Vec<Vec<u32>>,
    /// Lines of /proc/self/cgroup.
    pub cgroups: Vec<String>,
    /// What is in /dev.
    pub dev: Vec<Node>,
    /// Signals that are blocked, ignored, caught: masks.
    pub blocked: u64,
    /// Ignored signals.
    pub ignored: u64,
    /// Seconds of CLOCK_MONOTONIC.
    pub monotonic: u64,
    /// Seconds of CLOCK_BOOTTIME.
    pub boottime: u64,
    /// Names of network interfaces.
    pub interfaces: Vec<String>,
}

/// The five capability sets, see capabilities(7).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Caps {
    /// Inheritable.
    pub inheritable: u64,
    /// Permitted.
    pub permitted: u64,
    /// Effective.
    pub effective: u64,
    /// Bounding.
    pub bounding: u64,
    /// Ambient.
    pub ambient: u64,
}

/// One line of mountinfo.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Mount {
    /// Root of the mount within its file system.
    pub root: String,
    /// Where.
    pub point: String,
    /// Options of the mount.
    pub options: Vec<String>,
    /// "shared:N", "master:N" and the like.
    pub propagation: Vec<String>,
    /// Type of the file system.
    pub fstype: String,
    /// Source.
    pub source: String,
    /// Options of the file system.
    pub super_options: Vec<String>,
}

/// One open descriptor.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Fd {
    /// Its number.
    pub number: u32,
    /// What it refers to.
    pub target: String,
}

/// One node of the file system.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Node {
    /// Path.
    pub path: String,
    /// "file", "dir", "link", "char", "block", "fifo" or "socket".
    pub kind: String,
    /// Device number of a device.
    pub device: (u32, u32),
    /// Permission bits.
    pub mode: u32,
    /// Owner.
    pub uid: u32,
    /// Group.
    pub gid: u32,
    /// What a link says.
    pub link: String,
}

/// Parses the text of a mountinfo file.
pub fn parse_mounts(text: &str) -> Vec<Mount> {
    let list = |text: &str| text.split(',').map(str::to_owned).collect();
    text.lines()
        .filter_map(|line| {
            let (before, after) = line.split_once(" - ")?;
            let before: Vec<&str> = before.split(' ').collect();
            let mut after = after.split(' ');
            Some(Mount {
                root: (*before.get(3)?).to_owned(),
                point: (*before.get(4)?).to_owned(),
                options: list(before.get(5)?),
                propagation: before.iter().skip(6).map(|field| (*field).to_owned()).collect(),
                fstype: after.next()?.to_owned(),
                source: after.next()?.to_owned(),
                super_options: list(after.next().unwrap_or_default()),
            })
        })
        .collect()
}
