//! Mounts: option strings of the runtime spec to flags and options of the file system.

use std::path::Path;

use hull_wire::{MountKind, MountPlan, Propagation, mount_flags};
use oci_spec::runtime::{Mount, Spec};

use super::{PlanContext, unsupported};
use crate::error::{Error, Reason, Result};

pub(super) fn compile(spec: &Spec, ctx: &PlanContext<'_>) -> Result<Vec<MountPlan>> {
    let mounts = spec.mounts().as_deref().unwrap_or_default();
    mounts.iter().enumerate().map(|(index, mount)| one(&format!("mounts[{index}]"), mount, ctx)).collect()
}

/// Bind mounts without the rest of a plan.
pub(crate) fn binds(mounts: &[Mount]) -> Result<Vec<MountPlan>> {
    let bind = |(index, mount): (usize, &Mount)| {
        let place = format!("mounts[{index}]");
        let options = Options::parse(mount.options().as_deref().unwrap_or_default());
        let target = text(&place, mount.destination())?;
        Ok(MountPlan { kind: bind(&place, mount, &options)?, target, flags: options.flags })
    };
    mounts.iter().enumerate().map(bind).collect()
}

/// Options of one mount, sorted out.
#[derive(Debug, Default)]
struct Options {
    flags: u64,
    recursive: bool,
    propagation: Option<Propagation>,
    idmap: bool,
    /// What is not about every file system alike.
    own: Vec<(String, String)>,
}

impl Options {
    fn parse(options: &[String]) -> Self {
        let mut parsed = Self::default();
        for option in options {
            parsed.add(option);
        }
        parsed
    }

    fn add(&mut self, option: &str) {
        match option {
            "ro" | "rro" => self.flags |= mount_flags::RDONLY,
            "rw" | "rrw" => self.flags &= !mount_flags::RDONLY,
            "nosuid" => self.flags |= mount_flags::NOSUID,
            "suid" => self.flags &= !mount_flags::NOSUID,
            "nodev" => self.flags |= mount_flags::NODEV,
            "dev" => self.flags &= !mount_flags::NODEV,
            "noexec" => self.flags |= mount_flags::NOEXEC,
            "exec" => self.flags &= !mount_flags::NOEXEC,
            "noatime" => self.flags |= mount_flags::NOATIME,
            "relatime" => self.flags &= !mount_flags::NOATIME,
            "bind" => self.recursive = false,
            "rbind" => self.recursive = true,
            "private" | "rprivate" => self.propagation = Some(Propagation::Private),
            "slave" | "rslave" => self.propagation = Some(Propagation::Slave),
            "shared" | "rshared" => self.propagation = Some(Propagation::Shared),
            "idmap" | "ridmap" => self.idmap = true,
            other => {
                let (key, value) = other.split_once('=').unwrap_or((other, ""));
                self.own.push((key.to_owned(), value.to_owned()));
            }
        }
    }
}

fn one(place: &str, mount: &Mount, ctx: &PlanContext<'_>) -> Result<MountPlan> {
    let target = text(place, mount.destination())?;
    let options = Options::parse(mount.options().as_deref().unwrap_or_default());
    if mount.uid_mappings().is_some() || mount.gid_mappings().is_some() {
        return Err(unsupported(&format!("{place}.uidMappings"), "mounts are mapped by the container's own ids alone"));
    }
    let fstype = mount.typ().as_deref().unwrap_or("bind");
    let kind = match fstype {
        "bind" | "none" => bind(place, mount, &options)?,
        "cgroup" => cgroup_v1(ctx)?,
        "proc" | "sysfs" | "tmpfs" | "devpts" | "mqueue" | "cgroup2" => {
            if options.propagation.is_some() || options.idmap {
                return Err(unsupported(
                    &format!("{place}.options"),
                    "only bind mounts have a propagation or an id map",
                ));
            }
            MountKind::Filesystem { fstype: fstype.to_owned(), options: own(place, fstype, &options.own)? }
        }
        other => return Err(unsupported(&format!("{place}.type"), &format!("{other:?} is not mounted"))),
    };
    Ok(MountPlan { kind, target, flags: options.flags })
}

fn text(place: &str, path: &Path) -> Result<String> {
    let absolute = path.to_str().filter(|path| path.starts_with('/'));
    absolute.map(str::to_owned).ok_or_else(|| unsupported(place, "a path is not absolute or not UTF-8"))
}

/// Options that a file system takes; another one is refused here, for the kernel's own word for it says less.
fn own(place: &str, fstype: &str, options: &[(String, String)]) -> Result<Vec<(String, String)>> {
    let known: &[&str] = match fstype {
        "tmpfs" => &["size", "mode", "uid", "gid", "nr_inodes"],
        "devpts" => &["newinstance", "ptmxmode", "mode", "uid", "gid"],
        "proc" => &["hidepid", "gid", "subset"],
        _ => &[],
    };
    if let Some((key, _)) = options.iter().find(|(key, _)| !known.contains(&key.as_str())) {
        return Err(unsupported(&format!("{place}.options"), &format!("{fstype} takes no option {key:?}")));
    }
    Ok(options.to_vec())
}

fn bind(place: &str, mount: &Mount, options: &Options) -> Result<MountKind> {
    if let Some((key, _)) = options.own.first() {
        return Err(unsupported(&format!("{place}.options"), &format!("a bind mount takes no option {key:?}")));
    }
    let source = mount.source().as_ref().ok_or_else(|| unsupported(&format!("{place}.source"), "is missing"))?;
    Ok(MountKind::Bind {
        source: text(&format!("{place}.source"), source)?,
        recursive: options.recursive,
        propagation: options.propagation.unwrap_or(Propagation::Private),
        idmap: options.idmap,
    })
}

/// Each hierarchy under the name that the host has for it ("cpu,cpuacct"), with links for its controllers ("cpu").
fn cgroup_v1(ctx: &PlanContext<'_>) -> Result<MountKind> {
    let mut hierarchies = Vec::new();
    let mut links = Vec::new();
    for (controllers, directory) in ctx.cgroup_v1 {
        let name = controllers.join(",");
        let directory = directory.to_str().ok_or_else(|| Error::new(Reason::Internal, "a cgroup path is not UTF-8"))?;
        if controllers.len() > 1 {
            links.extend(controllers.iter().map(|controller| ((*controller).to_owned(), name.clone())));
        }
        hierarchies.push((name, directory.to_owned()));
    }
    Ok(MountKind::CgroupV1 { hierarchies, links })
}
