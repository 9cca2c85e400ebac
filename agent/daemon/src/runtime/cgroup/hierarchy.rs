//! Which hierarchies this host has, where they are mounted and which controllers they carry.
//!
//! Sources: cgroups(7), proc_pid_mountinfo(5), Documentation/admin-guide/cgroup-v2.rst and cgroup-v1/cgroups.rst.

use std::io;
use std::path::{Path, PathBuf};

use cgroups_rs::fs::Controller as _;
use cgroups_rs::fs::cpuset::CpuSetController;

use super::file;
use crate::error::{Error, Reason, Result};

/// What hull uses of control groups.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Controller {
    Cpu,
    Cpuacct,
    Cpuset,
    Memory,
    Pids,
    Devices,
    Freezer,
    Io,
    Hugetlb,
}

impl Controller {
    const ALL: [Self; 9] = [
        Self::Cpu,
        Self::Cpuacct,
        Self::Cpuset,
        Self::Memory,
        Self::Pids,
        Self::Devices,
        Self::Freezer,
        Self::Io,
        Self::Hugetlb,
    ];

    /// Its name as a mount option of version 1.
    pub(super) fn v1_name(self) -> &'static str {
        match self {
            Self::Cpu => "cpu",
            Self::Cpuacct => "cpuacct",
            Self::Cpuset => "cpuset",
            Self::Memory => "memory",
            Self::Pids => "pids",
            Self::Devices => "devices",
            Self::Freezer => "freezer",
            Self::Io => "blkio",
            Self::Hugetlb => "hugetlb",
        }
    }

    /// Its name in `cgroup.controllers`; what version 2 does without a controller has none.
    pub(super) fn v2_name(self) -> Option<&'static str> {
        match self {
            Self::Cpuacct | Self::Devices | Self::Freezer => None,
            Self::Io => Some("io"),
            other => Some(other.v1_name()),
        }
    }

    /// Whether every container gets it. The others cost time and memory that only those pay who ask for them.
    fn is_basic(self) -> bool {
        !matches!(self, Self::Cpuset | Self::Hugetlb)
    }
}

/// Version of a hierarchy.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Version {
    V1,
    V2,
}

/// A mounted hierarchy.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Hierarchy {
    pub(super) version: Version,
    pub(super) mount: PathBuf,
    /// Those of hull's controllers that live here; on version 2 those that the root offers.
    pub(super) controllers: Vec<Controller>,
}

impl Hierarchy {
    pub(super) fn has(&self, controller: Controller) -> bool {
        self.controllers.contains(&controller)
    }

    /// Makes the parent group, and on version 2 enables the basic controllers from the root down to what is below it.
    pub(super) fn make_parent(&self, parent: &str) -> Result<()> {
        let mut dir = self.mount.clone();
        self.enable_basic(&dir);
        for name in parent.split('/').filter(|name| !name.is_empty()) {
            dir.push(name);
            file::make_marked(&dir).map_err(|error| unusable(&dir, &error))?;
            self.enable_basic(&dir);
        }
        Ok(())
    }

    /// A controller that cannot be enabled is reported to whoever asks for it, see [`super::limits`].
    fn enable_basic(&self, dir: &Path) {
        if self.version == Version::V1 {
            return;
        }
        for controller in self.controllers.iter().filter(|controller| controller.is_basic()) {
            if let Err(error) = enable(dir, *controller) {
                tracing::warn!(group = %dir.display(), controller = controller.v1_name(), %error, "controller cannot be enabled");
            }
        }
    }

    /// Prepares a controller that only some containers ask for, from the root down to what is below the parent.
    pub(super) fn prepare(&self, controller: Controller, parent: &str) -> io::Result<()> {
        if self.version == Version::V1 {
            return Ok(());
        }
        let mut dir = self.mount.clone();
        enable(&dir, controller)?;
        for name in parent.split('/').filter(|name| !name.is_empty()) {
            dir.push(name);
            enable(&dir, controller)?;
        }
        Ok(())
    }
}

/// Makes a version 1 cpuset group usable: without processors and memory nodes no process can enter it. `cgroups-rs` copies
/// them from the nearest group above that has some, but only logs it when that fails.
pub(super) fn fill_cpuset(dir: &Path) -> io::Result<()> {
    let controller = CpuSetController::new(dir.to_owned(), PathBuf::new(), false);
    controller.create().map_err(super::apply::os_error)?;
    for name in ["cpuset.cpus", "cpuset.mems"] {
        if file::read(dir, name)?.is_empty() {
            return Err(io::Error::from_raw_os_error(nix::libc::ENOSPC));
        }
    }
    Ok(())
}

fn enable(dir: &Path, controller: Controller) -> io::Result<()> {
    let Some(name) = controller.v2_name() else { return Ok(()) };
    if file::read(dir, "cgroup.subtree_control")?.split(' ').any(|enabled| enabled == name) {
        return Ok(());
    }
    file::write(dir, "cgroup.subtree_control", &format!("+{name}"))
}

/// The error for a group that cannot be made.
pub(super) fn unusable(dir: &Path, error: &io::Error) -> Error {
    let mut result = Error::io(format!("making control group {}", dir.display()), error);
    match error.raw_os_error() {
        Some(nix::libc::EROFS) => {
            result.reason = Reason::PermissionDenied;
            result = result.hint("the agent needs /sys/fs/cgroup writable");
        }
        Some(nix::libc::EACCES | nix::libc::EPERM) => {
            result.reason = Reason::PermissionDenied;
            result = result.hint("the agent runs as root");
        }
        Some(nix::libc::ENOSPC) => {
            // On cgroupfs this is never a full disk.
            result.reason = Reason::LimitExceeded;
            result = result.hint("the kernel's limit of control groups is reached (cgroup.max.descendants or css ids)");
        }
        Some(nix::libc::EAGAIN) => {
            result.reason = Reason::LimitExceeded;
            result = result.hint("cgroup.max.descendants or cgroup.max.depth of a group above is reached");
        }
        _ => {}
    }
    result
}

/// The hierarchies of this host, from the text of /proc/self/mountinfo. `offered` reads `cgroup.controllers` at a mount point.
pub(super) fn find(mountinfo: &str, offered: impl Fn(&Path) -> String) -> Vec<Hierarchy> {
    let mut found: Vec<Hierarchy> = Vec::new();
    for line in mountinfo.lines() {
        let Some(hierarchy) = parse_line(line, &offered) else { continue };
        let same = |other: &Hierarchy| match hierarchy.version {
            Version::V1 => other.version == Version::V1 && other.controllers == hierarchy.controllers,
            Version::V2 => other.version == Version::V2,
        };
        match found.iter_mut().find(|other| same(other)) {
            None => found.push(hierarchy),
            // A hierarchy can be mounted more than once, e.g. in some root file system; the usual place is the host's own.
            Some(other) if !is_usual(&other.mount) && is_usual(&hierarchy.mount) => *other = hierarchy,
            Some(_) => {}
        }
    }
    found
}

fn is_usual(mount: &Path) -> bool {
    mount.starts_with("/sys/fs/cgroup")
}

/// One line of mountinfo: "ID PARENT MAJ:MIN ROOT MOUNTPOINT OPTIONS [FIELD…] - TYPE SOURCE SUPEROPTIONS".
fn parse_line(line: &str, offered: impl Fn(&Path) -> String) -> Option<Hierarchy> {
    let (mount, filesystem) = line.split_once(" - ")?;
    let mount = PathBuf::from(unescape(mount.split(' ').nth(4)?));
    let mut filesystem = filesystem.split(' ');
    let version = match filesystem.next()? {
        "cgroup" => Version::V1,
        "cgroup2" => Version::V2,
        _ => return None,
    };
    let controllers: Vec<Controller> = match version {
        Version::V1 => {
            let options: Vec<&str> = filesystem.nth(1)?.split(',').collect();
            Controller::ALL.into_iter().filter(|controller| options.contains(&controller.v1_name())).collect()
        }
        Version::V2 => {
            let text = offered(&mount);
            let names: Vec<&str> = text.split_whitespace().collect();
            Controller::ALL.into_iter().filter(|c| c.v2_name().is_some_and(|name| names.contains(&name))).collect()
        }
    };
    // Named version 1 hierarchies (systemd's) and those of other controllers are none of hull's business.
    (version == Version::V2 || !controllers.is_empty()).then_some(Hierarchy { version, mount, controllers })
}

/// Undoes the octal escapes of mountinfo ("\040" for a blank).
fn unescape(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    let mut rest = text;
    while let Some(at) = rest.find('\\') {
        out.push_str(&rest[..at]);
        let code = rest.get(at + 1..at + 4).and_then(|digits| u8::from_str_radix(digits, 8).ok());
        match code {
            Some(code) if code.is_ascii() => {
                out.push(char::from(code));
                rest = &rest[at + 4..];
            }
            _ => {
                out.push('\\');
                rest = &rest[at + 1..];
            }
        }
    }
    out.push_str(rest);
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    const HYBRID: &str = "\
31 23 0:28 / /sys/fs/cgroup rw,relatime - tmpfs tmpfs rw,mode=755
32 31 0:29 / /sys/fs/cgroup/cpu,cpuacct rw,relatime shared:9 - cgroup cgroup rw,cpu,cpuacct
35 31 0:32 / /sys/fs/cgroup/memory rw,relatime - cgroup cgroup rw,memory
40 31 0:37 / /sys/fs/cgroup/systemd rw,relatime - cgroup cgroup rw,name=systemd
41 31 0:38 / /sys/fs/cgroup/unified rw,relatime - cgroup2 cgroup2 rw
77 31 0:32 /x /srv/a\\040b/memory rw,relatime - cgroup cgroup rw,memory
";

    #[test]
    fn hybrid_and_co_mounted() {
        let found = find(HYBRID, |_| "hugetlb\n".to_owned());
        assert_eq!(found.len(), 3);
        assert_eq!(found[0].controllers, [Controller::Cpu, Controller::Cpuacct]);
        assert_eq!(found[1].mount, Path::new("/sys/fs/cgroup/memory"));
        assert_eq!(found[2].version, Version::V2);
        assert_eq!(found[2].controllers, [Controller::Hugetlb]);
    }

    #[test]
    fn usual_place_wins() {
        let mut lines: Vec<&str> = HYBRID.lines().collect();
        lines.reverse();
        let found = find(&lines.join("\n"), |_| String::new());
        let memory = found.iter().find(|h| h.has(Controller::Memory)).unwrap();
        assert_eq!(memory.mount, Path::new("/sys/fs/cgroup/memory"));
    }

    #[test]
    fn unified() {
        let text = "30 23 0:26 / /sys/fs/cgroup rw,nosuid - cgroup2 cgroup2 rw,nsdelegate,memory_recursiveprot\n";
        let found = find(text, |_| "cpuset cpu io memory hugetlb pids rdma misc".to_owned());
        assert_eq!(found.len(), 1);
        assert_eq!(found[0].controllers.len(), 6);
        assert!(found[0].has(Controller::Io) && !found[0].has(Controller::Devices));
    }

    #[test]
    fn escapes() {
        assert_eq!(unescape("/a\\040b\\134c"), "/a b\\c");
        assert_eq!(unescape("/a\\0é\\"), "/a\\0é\\");
    }
}
