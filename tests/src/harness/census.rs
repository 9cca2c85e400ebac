//! What is on the host under an agent's names: processes, mounts, loop devices, control groups, sockets, files.
//!
//! Network and other namespaces live as long as a process, a descriptor or a mount holds them: the census of processes (by control
//! group, by root, by open files, by the agent's network namespace) and of mounts covers them.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

use super::host;

/// Names under which an agent makes things.
#[derive(Debug, Clone)]
pub struct Scope {
    /// Directory of its state and run directories.
    pub dir: PathBuf,
    /// Its parent control group.
    pub cgroup: String,
    /// Inode numbers of its network namespaces.
    pub networks: BTreeSet<u64>,
}

/// What was found.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Census {
    processes: BTreeSet<(i32, String)>,
    zombies: BTreeSet<String>,
    mounts: BTreeSet<String>,
    loops: BTreeSet<String>,
    cgroups: BTreeSet<String>,
    sockets: BTreeSet<String>,
    files: BTreeSet<PathBuf>,
}

/// What may be there.
#[derive(Debug, Clone, Copy)]
pub enum Allowed<'a> {
    /// The agent, its parent control group, its socket, and files that belong to no container.
    RunningAgent {
        /// Its process id.
        pid: i32,
    },
    /// Nothing but these files.
    Files(&'a BTreeSet<PathBuf>),
}

impl Census {
    /// Looks at the host.
    pub fn take(scope: &Scope, agent: Option<i32>) -> Self {
        let dir = scope.dir.display().to_string();
        let mut census = Self::default();
        for pid in host::processes() {
            if let Some((state, parent, name)) = host::stat(pid) {
                if state == 'Z' && Some(parent) == agent {
                    census.zombies.insert(format!("{pid} ({name})"));
                } else if agent == Some(parent) && name == "hull-shim" && is_idle(pid, &dir, scope) {
                    // One of those that the agent keeps ready.
                } else if let Some(why) = belongs(pid, &dir, scope) {
                    census.processes.insert((pid, format!("{pid} ({name}): {why}")));
                }
            }
        }
        let tables = [Some("self".to_owned()), agent.map(|pid| pid.to_string())];
        for table in tables.into_iter().flatten() {
            let text = host::text(format!("/proc/{table}/mountinfo"));
            census.mounts.extend(text.lines().filter(|line| contains(line, &dir)).map(str::to_owned));
        }
        for device in entries(Path::new("/sys/block")) {
            let file = host::text(device.join("loop/backing_file"));
            if contains(&file, &dir) {
                census.loops.insert(format!("{}: {}", device.display(), file.trim()));
            }
        }
        for root in host::cgroup_roots() {
            directories(&root.join(scope.cgroup.trim_start_matches('/')), &mut census.cgroups);
        }
        if let Some(agent) = agent {
            let text = host::text(format!("/proc/{agent}/net/unix"));
            census.sockets.extend(
                text.lines()
                    .filter_map(|line| line.split_whitespace().nth(7))
                    .filter(|name| name.contains(&dir) || name.starts_with("@hull"))
                    .map(str::to_owned),
            );
        }
        census.files = state_files(&scope.dir);
        census
    }

    /// Files found in the state directories.
    pub fn files(&self) -> &BTreeSet<PathBuf> {
        &self.files
    }

    /// What is there but not allowed, one line each.
    pub fn beyond(&self, scope: &Scope, allowed: Allowed<'_>) -> Vec<String> {
        let mut left: Vec<String> = Vec::new();
        let agent = if let Allowed::RunningAgent { pid } = allowed { pid } else { 0 };
        left.extend(self.processes.iter().filter(|(pid, _)| *pid != agent).map(|(_, text)| format!("process {text}")));
        left.extend(self.zombies.iter().map(|text| format!("zombie {text}")));
        left.extend(self.mounts.iter().map(|text| format!("mount {text}")));
        left.extend(self.loops.iter().map(|text| format!("loop device {text}")));
        let running = agent != 0;
        let parent = |path: &str| running && path.ends_with(&scope.cgroup);
        left.extend(self.cgroups.iter().filter(|path| !parent(path)).map(|path| format!("cgroup {path}")));
        let of_container = |path: &str| path.split('/').any(is_container_id);
        left.extend(
            self.sockets
                .iter()
                .filter(|name| !running || of_container(name) || name.starts_with('@'))
                .map(|name| format!("socket {name}")),
        );
        left.extend(
            self.files
                .iter()
                .filter(|path| match allowed {
                    Allowed::RunningAgent { .. } => {
                        let path = path.to_string_lossy();
                        of_container(&path) && path.contains("/containers/")
                    }
                    Allowed::Files(files) => !files.contains(*path),
                })
                .map(|path| format!("file {}", path.display())),
        );
        left
    }
}

/// Whether a process belongs to an agent, and by what it is known.
fn belongs(pid: i32, dir: &str, scope: &Scope) -> Option<String> {
    if u32::try_from(pid) == Ok(std::process::id()) {
        return None;
    }
    let groups = host::text(format!("/proc/{pid}/cgroup"));
    let in_group = |line: &str| {
        let path = line.splitn(3, ':').nth(2).unwrap_or_default();
        path == scope.cgroup || path.strip_prefix(&scope.cgroup).is_some_and(|rest| rest.starts_with('/'))
    };
    if let Some(line) = groups.lines().find(|line| in_group(line)) {
        return Some(format!("in cgroup {line}"));
    }
    for link in ["root", "cwd", "exe"] {
        let target = fs::read_link(format!("/proc/{pid}/{link}")).unwrap_or_default();
        if contains(&target.to_string_lossy(), dir) {
            return Some(format!("{link} is {}", target.display()));
        }
    }
    if scope.networks.contains(&host::namespace(pid, "net")) {
        return Some("in the agent's network namespace".into());
    }
    let (_, _, name) = host::stat(pid)?;
    if name.starts_with("hull") && (contains(&host::text(format!("/proc/{pid}/cmdline")), dir) || has_open(pid, dir)) {
        return Some("works in the agent's directory".into());
    }
    None
}

/// Whether a shim serves no container yet: it is in no container's group and has none of its files open.
fn is_idle(pid: i32, dir: &str, scope: &Scope) -> bool {
    let groups = host::text(format!("/proc/{pid}/cgroup"));
    !groups.contains(&format!("{}/", scope.cgroup))
        && !["data", "run"].iter().any(|name| has_open(pid, &format!("{dir}/{name}")))
}

/// Whether a process has a file below `dir` open.
fn has_open(pid: i32, dir: &str) -> bool {
    let open = entries(Path::new(&format!("/proc/{pid}/fd"))).into_iter().filter_map(|fd| fs::read_link(fd).ok());
    open.into_iter().any(|target| contains(&target.to_string_lossy(), dir))
}

/// Whether a text names a path at or below `dir`, and not merely one that begins alike.
fn contains(text: &str, dir: &str) -> bool {
    text.match_indices(dir).any(|(at, _)| !text[at + dir.len()..].starts_with(|next: char| next.is_ascii_digit()))
}

/// Whether a name is a container's id, or the half of it that names its run directory.
pub fn is_container_id(name: &str) -> bool {
    (name.len() == 64 || name.len() == 32)
        && name.bytes().all(|byte| byte.is_ascii_digit() || (b'a'..=b'f').contains(&byte))
}

/// All paths in an agent's state and run directories, without crossing mounts into containers.
fn state_files(dir: &Path) -> BTreeSet<PathBuf> {
    let mut found = BTreeSet::new();
    for name in ["data", "run"] {
        walk(&dir.join(name), &mut found);
    }
    found
}

fn walk(path: &Path, found: &mut BTreeSet<PathBuf>) {
    for entry in entries(path) {
        if fs::symlink_metadata(&entry).is_ok_and(|meta| meta.is_dir()) {
            walk(&entry, found);
        }
        found.insert(entry);
    }
}

fn directories(path: &Path, found: &mut BTreeSet<String>) {
    if path.is_dir() {
        found.insert(path.display().to_string());
        for entry in entries(path) {
            if fs::symlink_metadata(&entry).is_ok_and(|meta| meta.is_dir()) {
                directories(&entry, found);
            }
        }
    }
}

fn entries(path: &Path) -> Vec<PathBuf> {
    fs::read_dir(path).into_iter().flatten().flatten().map(|entry| entry.path()).collect()
}

/// Removes by force what an agent left: processes, mounts, groups, its directory. Only what carries its own names.
pub fn sweep(scope: &Scope) {
    let me = i32::try_from(std::process::id()).unwrap_or(0);
    let census = Census::take(scope, None);
    for (pid, _) in census.processes.iter().filter(|(pid, _)| *pid != me) {
        let _gone = nix::sys::signal::kill(nix::unistd::Pid::from_raw(*pid), nix::sys::signal::Signal::SIGKILL);
    }
    for _ in 0..200 {
        if Census::take(scope, None).processes.is_empty() {
            break;
        }
        std::thread::sleep(std::time::Duration::from_millis(10));
    }
    let mounts = hull_probe::parse_mounts(&host::text("/proc/self/mountinfo"));
    for mount in mounts.iter().rev().filter(|mount| Path::new(&mount.point).starts_with(&scope.dir)) {
        let _gone = nix::mount::umount2(mount.point.as_str(), nix::mount::MntFlags::MNT_DETACH);
    }
    for path in census.cgroups.iter().rev() {
        let _gone = fs::remove_dir(path);
    }
    let _gone = fs::remove_dir_all(&scope.dir);
}

#[cfg(test)]
mod tests {
    use super::{contains, is_container_id};

    #[test]
    fn a_directory_is_not_taken_for_one_that_begins_alike() {
        assert!(contains("/tmp/hull-test-1-2/data", "/tmp/hull-test-1-2"));
        assert!(!contains("/tmp/hull-test-1-23/data", "/tmp/hull-test-1-2"));
    }

    #[test]
    fn ids_are_hexadecimal_digits() {
        assert!(is_container_id(&"0a".repeat(32)) && is_container_id(&"0a".repeat(16)));
        assert!(!is_container_id(&"0A".repeat(32)));
        assert!(!is_container_id("0a"));
    }
}
