//! The mounts of a container, in the order in which they are made: the default ones, then the user's.
//!
//! - A user's mount takes the place of default mounts at and below its target (a tmpfs of one's own at /dev/shm).
//! - /dev/shm is a file system, not part of the ipc namespace: with the host's ipc namespace it is the host's; with that of
//!   another container it stays the container's own, for a mount cannot be taken from another mount namespace. System V objects and
//!   message queues are shared then, POSIX shared memory is not.
//! - A user namespace may mount neither the sysfs of a network namespace nor the cgroup2 of a cgroup namespace that it does
//!   not own; the host's are bound instead, read-only.

use oci_spec::runtime::Mount;

use super::{SpecContext, path};
use crate::error::Result;
use crate::lifecycle::config::{self, ContainerConfig, MountKind, NamespaceMode};

/// Where POSIX shared memory lies.
pub(crate) const SHM: &str = "/dev/shm";
/// Size of /dev/shm in bytes where none is asked for.
const DEFAULT_SHM_SIZE: u64 = 64 * 1024 * 1024;

const CGROUP: &str = "/sys/fs/cgroup";

/// One option of a user's mount.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum MountOption<'a> {
    /// "nosuid", "dev", …
    Flag(&'a str),
    /// "bind" or "rbind".
    Recursion(&'a str),
    /// "rprivate", …
    Propagation(&'a str),
    /// "size=64m", of a tmpfs.
    Value { key: &'a str, text: &'a str },
}

impl<'a> MountOption<'a> {
    /// Reads an option of a bind mount or a tmpfs.
    pub(crate) fn parse(text: &'a str, bind: bool) -> Result<Self, String> {
        match text {
            "nosuid" | "suid" | "nodev" | "dev" | "noexec" | "exec" | "noatime" => return Ok(Self::Flag(text)),
            "bind" | "rbind" if bind => return Ok(Self::Recursion(text)),
            "private" | "rprivate" | "slave" | "rslave" | "shared" | "rshared" if bind => {
                return Ok(Self::Propagation(text));
            }
            "ro" | "rw" => return Err(format!("{text:?} is what read_only says")),
            _ => {}
        }
        if let Some((key, value)) = text.split_once('=').filter(|_| !bind) {
            let good = match key {
                "size" => is_size(value, "kKmMgG%"),
                "nr_inodes" => is_size(value, "kKmMgG"),
                "mode" => u32::from_str_radix(value, 8).is_ok_and(|mode| mode <= 0o7777) && !value.starts_with('+'),
                "uid" | "gid" => is_number(value) && value.parse::<u32>().is_ok_and(|id| id != u32::MAX),
                _ => return Err(format!("unknown option {text:?}")),
            };
            return if good { Ok(Self::Value { key, text }) } else { Err(format!("{text:?} has a bad value")) };
        }
        Err(format!("unknown option {text:?}"))
    }

    /// As it was written.
    pub(crate) fn text(self) -> &'a str {
        match self {
            Self::Flag(text) | Self::Recursion(text) | Self::Propagation(text) | Self::Value { text, .. } => text,
        }
    }

    /// What it decides; two options of one mount cannot decide the same.
    pub(crate) fn group(self) -> &'a str {
        match self {
            Self::Flag(text) => text.strip_prefix("no").unwrap_or(text),
            Self::Recursion(_) => "bind",
            Self::Propagation(_) => "propagation",
            Self::Value { key, .. } => key,
        }
    }
}

fn is_number(text: &str) -> bool {
    !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit())
}

/// A number with at most one unit.
fn is_size(text: &str, units: &str) -> bool {
    let digits = text.strip_suffix(|last| units.contains(last)).unwrap_or(text);
    is_number(digits) && digits.parse::<u64>().is_ok()
}

/// All mounts of a container.
pub(super) fn build(config: &ContainerConfig, ctx: &SpecContext<'_>) -> Result<Vec<Mount>> {
    let mut user = Vec::with_capacity(config.mounts.len());
    let mut targets = Vec::with_capacity(config.mounts.len());
    for (index, mount) in config.mounts.iter().enumerate() {
        let target = path::absolute(&format!("config.mounts[{index}].target"), &mount.target)?;
        user.push(user_mount(index, mount, &target, ctx.user_namespace.is_some())?);
        targets.push(target);
    }
    let mut mounts = default_mounts(config, ctx);
    mounts.retain(|(place, _)| !targets.iter().any(|target| path::is_within(place, target)));
    Ok(mounts.into_iter().map(|(_, mount)| mount).chain(user).collect())
}

/// The user's bind mounts alone.
pub(crate) fn binds(config: &ContainerConfig, id_mapped: bool) -> Result<Vec<Mount>> {
    let binds = config.mounts.iter().enumerate().filter(|(_, mount)| matches!(mount.kind, MountKind::Bind { .. }));
    let bind = |(index, mount): (usize, &config::Mount)| {
        let target = path::absolute(&format!("config.mounts[{index}].target"), &mount.target)?;
        user_mount(index, mount, &target, id_mapped)
    };
    binds.map(bind).collect()
}

fn make(target: &str, kind: &str, source: &str, options: &[&str]) -> Mount {
    let mut mount = Mount::default();
    mount
        .set_destination(target.into())
        .set_typ(Some(kind.to_owned()))
        .set_source(Some(source.into()))
        .set_options(Some(options.iter().map(ToString::to_string).collect()));
    mount
}

/// The default mounts and their targets, the same as Docker's.
fn default_mounts(config: &ContainerConfig, ctx: &SpecContext<'_>) -> Vec<(&'static str, Mount)> {
    let devpts = ["nosuid", "noexec", "newinstance", "ptmxmode=0666", "mode=0620", "gid=5"];
    let inert = ["nosuid", "noexec", "nodev"];
    vec![
        ("/proc", make("/proc", "proc", "proc", &inert)),
        ("/dev", make("/dev", "tmpfs", "tmpfs", &["nosuid", "mode=755", "size=65536k"])),
        ("/dev/pts", make("/dev/pts", "devpts", "devpts", &devpts)),
        (SHM, shm(config)),
        ("/dev/mqueue", make("/dev/mqueue", "mqueue", "mqueue", &inert)),
        ("/sys", sysfs(config, ctx)),
        (CGROUP, cgroup(config, ctx)),
    ]
}

fn shm(config: &ContainerConfig) -> Mount {
    if config.namespaces.ipc == NamespaceMode::Host {
        return make(SHM, "bind", SHM, &["rbind", "rprivate", "nosuid", "noexec", "nodev"]);
    }
    let size = format!("size={}", config.shm_size.unwrap_or(DEFAULT_SHM_SIZE));
    make(SHM, "tmpfs", "shm", &["nosuid", "noexec", "nodev", "mode=1777", &size])
}

/// Options of what is read-only unless the container is privileged.
fn guarded<'a>(config: &ContainerConfig, options: &[&'a str], read_only: &'a str) -> Vec<&'a str> {
    let read_only = (!config.security.privileged).then_some(read_only);
    options.iter().copied().chain(read_only).collect()
}

/// A bind mount of a tree of the host, always read-only.
fn host_tree(place: &str) -> Mount {
    make(place, "bind", place, &["rbind", "rprivate", "nosuid", "noexec", "nodev", "rro"])
}

fn sysfs(config: &ContainerConfig, ctx: &SpecContext<'_>) -> Mount {
    if ctx.user_namespace.is_some() && config.namespaces.network != NamespaceMode::Private {
        return host_tree("/sys");
    }
    make("/sys", "sysfs", "sysfs", &guarded(config, &["nosuid", "noexec", "nodev"], "ro"))
}

fn cgroup(config: &ContainerConfig, ctx: &SpecContext<'_>) -> Mount {
    if ctx.cgroup2 && ctx.user_namespace.is_some() && config.namespaces.cgroup != NamespaceMode::Private {
        return host_tree(CGROUP);
    }
    let kind = if ctx.cgroup2 { "cgroup2" } else { "cgroup" };
    make(CGROUP, kind, "cgroup", &guarded(config, &["nosuid", "noexec", "nodev"], "ro"))
}

fn user_mount(index: usize, mount: &config::Mount, target: &str, id_mapped: bool) -> Result<Mount> {
    let has = |wanted: &str| mount.options.iter().any(|option| option == wanted);
    let recursive = !has("bind");
    let (kind, source, defaults) = match &mount.kind {
        MountKind::Bind { source } => {
            let source = path::absolute(&format!("config.mounts[{index}].source"), source)?;
            ("bind", source, vec![("bind", if recursive { "rbind" } else { "bind" }), ("propagation", "rprivate")])
        }
        MountKind::Tmpfs => {
            ("tmpfs", "tmpfs".to_owned(), vec![("suid", "nosuid"), ("dev", "nodev"), ("exec", "noexec")])
        }
    };
    let bind = kind == "bind";
    let given: Vec<MountOption<'_>> =
        mount.options.iter().filter_map(|text| MountOption::parse(text, bind).ok()).collect();
    let decided = |group: &str| given.iter().any(|option| option.group() == group);
    let mut options: Vec<&str> =
        defaults.into_iter().filter(|(group, _)| !decided(group)).map(|(_, text)| text).collect();
    options.extend(given.iter().map(|option| option.text()));
    if bind && id_mapped {
        options.push(if recursive { "ridmap" } else { "idmap" });
    }
    if mount.read_only {
        options.push(if bind && recursive { "rro" } else { "ro" });
    }
    Ok(make(target, kind, &source, &options))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn options_of_a_bind_mount() {
        for text in ["bind", "rbind", "rprivate", "rslave", "shared", "nosuid", "dev", "noatime"] {
            assert_eq!(MountOption::parse(text, true).unwrap().text(), text);
        }
        for text in ["", "ro", "size=1", "remount", "mode=755", "relatime", "upperdir=/x", "idmap", "nosuid,dev"] {
            assert!(MountOption::parse(text, true).is_err(), "{text}");
        }
    }

    #[test]
    fn options_of_a_tmpfs() {
        for text in ["size=64m", "size=50%", "mode=1777", "uid=1000", "gid=0", "nr_inodes=10k", "exec"] {
            assert_eq!(MountOption::parse(text, false).unwrap().text(), text);
        }
        for text in [
            "bind",
            "rshared",
            "size=",
            "size=-1",
            "size=1x",
            "mode=8",
            "mode=17777",
            "mode=+7",
            "uid=-1",
            "uid=4294967295",
            "gid=root",
            "huge=always",
            "source=/x",
            "size=1,uid=0",
        ] {
            assert!(MountOption::parse(text, false).is_err(), "{text}");
        }
    }

    #[test]
    fn groups() {
        let group = |text| MountOption::parse(text, true).unwrap().group().to_owned();
        assert_eq!(group("nosuid"), group("suid"));
        assert_eq!(group("bind"), group("rbind"));
        assert_eq!(group("private"), group("rshared"));
        assert_ne!(group("noexec"), group("nodev"));
    }
}
