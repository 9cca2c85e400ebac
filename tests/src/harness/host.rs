//! What the host is, and what its kernel says of processes and control groups.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

/// Whether the tests can run here. They need root: in CI its absence is a failure, at home the test says so and passes.
///
/// # Panics
/// In CI (the variable CI is set) without root.
pub fn is_capable() -> bool {
    if nix::unistd::geteuid().is_root() {
        return true;
    }
    assert!(std::env::var_os("CI").is_none(), "the black-box tests need root, and CI must not skip them");
    eprintln!("skipped: the black-box tests need root");
    false
}

/// The text of a file; empty if it cannot be read.
pub fn text(path: impl AsRef<Path>) -> String {
    fs::read(path).map(|bytes| String::from_utf8_lossy(&bytes).into_owned()).unwrap_or_default()
}

/// The kernel's version, for what none of its files tells: `host::kernel() < (6, 3)`.
///
/// # Panics
/// If it says something else than a version.
pub fn kernel() -> (u32, u32) {
    let release = text("/proc/sys/kernel/osrelease");
    let mut numbers =
        release.split(|byte: char| !byte.is_ascii_digit()).map(|number| number.parse().expect("a number"));
    (numbers.next().expect("a version"), numbers.next().expect("a minor version"))
}

/// Where the version 2 hierarchy is mounted.
pub fn unified_root() -> PathBuf {
    if is_pure_v2() { "/sys/fs/cgroup".into() } else { "/sys/fs/cgroup/unified".into() }
}

/// Whether version 2 has the controllers.
pub fn is_pure_v2() -> bool {
    Path::new("/sys/fs/cgroup/cgroup.controllers").exists()
}

/// Roots of all mounted control group hierarchies.
pub fn cgroup_roots() -> Vec<PathBuf> {
    hull_probe::parse_mounts(&text("/proc/self/mountinfo"))
        .into_iter()
        .filter(|mount| mount.fstype.starts_with("cgroup"))
        .map(|mount| PathBuf::from(mount.point))
        .filter(|point| point.starts_with("/sys/fs/cgroup"))
        .collect()
}

/// A file of a container's control group: in the version 2 hierarchy where that has the controllers, else in `controller`'s.
pub fn cgroup_file(controller: &str, cgroup: &str, v2: &str, v1: &str) -> PathBuf {
    let cgroup = cgroup.trim_start_matches('/');
    if is_pure_v2() {
        Path::new("/sys/fs/cgroup").join(cgroup).join(v2)
    } else {
        Path::new("/sys/fs/cgroup").join(controller).join(cgroup).join(v1)
    }
}

/// Ids of all processes.
pub fn processes() -> BTreeSet<i32> {
    fs::read_dir("/proc")
        .into_iter()
        .flatten()
        .flatten()
        .filter_map(|entry| entry.file_name().to_str()?.parse().ok())
        .collect()
}

/// State letter, parent and name of a process, from /proc/PID/stat; `None` if it is gone.
pub fn stat(pid: i32) -> Option<(char, i32, String)> {
    let text = text(format!("/proc/{pid}/stat"));
    let (before, after) = text.rsplit_once(") ")?;
    let name = before.split_once('(')?.1.to_owned();
    let mut fields = after.split(' ');
    Some((fields.next()?.chars().next()?, fields.next()?.parse().ok()?, name))
}

/// Whether a process is there and not a zombie.
pub fn is_alive(pid: i32) -> bool {
    stat(pid).is_some_and(|(state, ..)| state != 'Z' && state != 'X')
}

/// Inode number of a process's namespace.
pub fn namespace(pid: i32, kind: &str) -> u64 {
    fs::read_link(format!("/proc/{pid}/ns/{kind}"))
        .ok()
        .and_then(|link| link.to_str()?.split_once('[')?.1.strip_suffix(']')?.parse().ok())
        .unwrap_or(0)
}

/// Inode number of this process's own namespace.
pub fn own_namespace(kind: &str) -> u64 {
    namespace(i32::try_from(std::process::id()).unwrap_or(0), kind)
}

/// Process ids in a control group subtree of every hierarchy.
pub fn cgroup_processes(cgroup: &str) -> BTreeSet<i32> {
    let mut found = BTreeSet::new();
    for root in cgroup_roots() {
        collect_processes(&root.join(cgroup.trim_start_matches('/')), &mut found);
    }
    found
}

fn collect_processes(directory: &Path, found: &mut BTreeSet<i32>) {
    found.extend(text(directory.join("cgroup.procs")).lines().filter_map(|line| line.parse::<i32>().ok()));
    for entry in fs::read_dir(directory).into_iter().flatten().flatten() {
        if entry.file_type().is_ok_and(|kind| kind.is_dir()) {
            collect_processes(&entry.path(), found);
        }
    }
}

/// What of a process must not grow with what it has done.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Held {
    /// Memory of its own, bytes.
    pub memory: u64,
    pub descriptors: usize,
    pub threads: usize,
}

impl Held {
    /// What a process holds now.
    ///
    /// # Panics
    /// If there is no such process.
    pub fn by(pid: i32) -> Self {
        let count = |what: &str| fs::read_dir(format!("/proc/{pid}/{what}")).expect("a process").count();
        Self { memory: memory(pid, "RssAnon:"), descriptors: count("fd"), threads: count("task") }
    }

    /// Whether this is no more than `before`, but for what an allocator keeps.
    pub fn is_as(self, before: Self) -> bool {
        self.memory <= before.memory + (1 << 20)
            && self.descriptors <= before.descriptors
            && self.threads <= before.threads
    }
}

/// Bytes of memory that a process has.
///
/// # Panics
/// If there is no such process.
pub fn resident(pid: i32) -> u64 {
    memory(pid, "VmRSS:")
}

/// The most bytes of memory that a process ever had.
///
/// # Panics
/// If there is no such process.
pub fn peak(pid: i32) -> u64 {
    memory(pid, "VmHWM:")
}

/// A kind of memory of proc_pid_status(5), in bytes.
fn memory(pid: i32, kind: &str) -> u64 {
    let status = text(format!("/proc/{pid}/status"));
    let line = status.lines().find_map(|line| line.strip_prefix(kind)).expect(kind).trim();
    let kibibytes: u64 = line.split(' ').next().expect("a number").parse().expect("a number");
    kibibytes * 1024
}

/// A path in the root of a process, as the host gets there.
pub fn inside(pid: i32, path: &str) -> PathBuf {
    PathBuf::from(format!("/proc/{pid}/root{path}"))
}

/// Runs a tool that must succeed; what it wrote.
///
/// # Panics
/// If it is not installed, or fails.
pub fn tool(program: &str, words: &[&str]) -> String {
    let output = Command::new(program).args(words).output();
    let output = output.unwrap_or_else(|error| panic!("{program}: {error}: run `make deps`"));
    assert!(output.status.success(), "{program} {words:?}: {}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8_lossy(&output.stdout).into_owned()
}
