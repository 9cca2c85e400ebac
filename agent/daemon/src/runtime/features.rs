//! What the kernel and host offer: read from /proc and /sys, nothing is tried out or changed.

use std::fs;
use std::path::Path;

/// A thing that the kernel or host offers or lacks.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Feature {
    /// e.g. "cgroup.kill".
    pub(crate) name: &'static str,
    pub(crate) available: bool,
    /// What follows from its absence; empty where it is there.
    pub(crate) detail: String,
}

/// Major and minor number of a kernel release, "6.18.5-1-amd64" -> (6, 18).
pub(crate) fn kernel_version(release: &str) -> (u32, u32) {
    let mut numbers = release.split(|c: char| !c.is_ascii_digit()).map(|number| number.parse().unwrap_or(0));
    (numbers.next().unwrap_or(0), numbers.next().unwrap_or(0))
}

/// Bytes of memory of the node; 0 if the kernel does not say.
pub(crate) fn memory_bytes() -> u64 {
    let kibibytes = fs::read_to_string("/proc/meminfo").ok().and_then(|text| {
        let line = text.lines().find_map(|line| line.strip_prefix("MemTotal:").map(str::to_owned))?;
        line.trim().strip_suffix("kB")?.trim().parse::<u64>().ok()
    });
    kibibytes.unwrap_or(0).saturating_mul(1024)
}

/// Where the version 2 hierarchy is mounted: on hosts that have it alone, and on hybrid ones.
const UNIFIED: [&str; 2] = ["/sys/fs/cgroup", "/sys/fs/cgroup/unified"];
/// Where the memory controller of version 1 is.
const MEMORY_V1: &str = "/sys/fs/cgroup/memory";

/// Every feature that hull uses where it is there. `cgroup_parent`: the group that containers are made in.
pub(crate) fn probe(release: &str, cgroup_parent: &str) -> Vec<Feature> {
    let version = kernel_version(release);
    let filesystems = fs::read_to_string("/proc/filesystems").unwrap_or_default();
    let has = |name: &str| filesystems.lines().any(|line| line.split_whitespace().last() == Some(name));
    let exists = |path: &str| Path::new(path).exists();
    let unified = UNIFIED.iter().any(|mount| Path::new(mount).join("cgroup.procs").exists());
    vec![
        feature(
            "overlay",
            has("overlay") || exists("/sys/module/overlay"),
            "containers cannot start; load the module overlay",
        ),
        feature(
            "erofs",
            has("erofs") || exists("/sys/module/erofs"),
            "images cannot be mounted; load the module erofs",
        ),
        feature("erofs-file-backed", version >= (6, 12), "each layer takes a loop device"),
        feature("overlay-lowerdir-fd", version >= (6, 13), "layers are mounted at paths and not by descriptor"),
        feature("idmapped-mounts", version >= (5, 12), "bind mounts in user namespaces keep the ids of the host"),
        feature("idmapped-overlay-layers", version >= (5, 19), "user namespaces of their own cannot be offered"),
        feature("user-namespaces", user_namespaces(), "user namespaces of their own cannot be offered"),
        feature("time-namespaces", exists("/proc/self/ns/time"), "clock offsets cannot be offered"),
        feature(
            "cgroup-namespaces",
            exists("/proc/self/ns/cgroup"),
            "control groups of the host are seen in containers",
        ),
        feature("seccomp", exists("/proc/sys/kernel/seccomp/actions_avail"), "system calls cannot be filtered"),
        feature(
            "clone-into-cgroup",
            version >= (5, 7) && unified,
            "a process enters its control group after it was born",
        ),
        feature("cgroup.kill", version >= (5, 14) && unified, "the processes of a container are killed one by one"),
        feature("cgroup.freeze", version >= (5, 2) && unified, "containers are frozen by the version 1 freezer"),
        feature("psi", exists("/proc/pressure/cpu"), "pressure is not reported"),
        feature("swap-accounting", swap_accounting(cgroup_parent), "swap cannot be limited; boot with swapaccount=1"),
    ]
}

fn feature(name: &'static str, available: bool, absence: &str) -> Feature {
    Feature { name, available, detail: if available { String::new() } else { absence.to_owned() } }
}

/// Compiled in, and not switched off by `user.max_user_namespaces`.
fn user_namespaces() -> bool {
    let limit = fs::read_to_string("/proc/sys/user/max_user_namespaces").ok();
    let most: u64 = limit.and_then(|limit| limit.trim().parse().ok()).unwrap_or(0);
    most > 0 && Path::new("/proc/self/ns/user").exists()
}

fn swap_accounting(cgroup_parent: &str) -> bool {
    let v2 = Path::new(UNIFIED[0]).join(cgroup_parent.trim_start_matches('/')).join("memory.swap.max");
    v2.exists() || Path::new(MEMORY_V1).join("memory.memsw.limit_in_bytes").exists()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn releases_of_distributions() {
        assert_eq!(kernel_version("6.18.5"), (6, 18));
        assert_eq!(kernel_version("6.1.0-18-amd64"), (6, 1));
        assert_eq!(kernel_version("5.15-rc1"), (5, 15));
        assert_eq!(kernel_version("odd"), (0, 0));
    }

    #[test]
    fn what_is_missing_says_what_follows() {
        let features = probe("4.19.0", "/nonexistent");
        let file_backed = features.iter().find(|feature| feature.name == "erofs-file-backed").unwrap();
        assert!(!file_backed.available && !file_backed.detail.is_empty());
        assert!(features.iter().all(|feature| feature.available == feature.detail.is_empty()));
    }

    #[test]
    fn this_node_has_memory() {
        assert!(memory_bytes() > 64 << 20);
    }
}
