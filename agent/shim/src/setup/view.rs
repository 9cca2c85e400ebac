//! The root of a container that does not run, as the container would see it, but for what the kernel makes (proc, tmpfs):
//! in a mount namespace of the shim's own, so that nobody else sees it and that it goes with the shim.

use std::os::fd::{AsFd, OwnedFd};

use hull_wire::{MountKind, PROTOCOL_VERSION, Step, ViewPlan};
use nix::errno::Errno;
use nix::sched::{CloneFlags, unshare};

use super::init::{attach_root, enter_root};
use super::{mounts, rootfs, sources, userns};
use crate::failure::{At, Result, failed, refused};

/// Mounts it; returns a descriptor of its root.
pub(crate) fn make(plan: &ViewPlan) -> Result<OwnedFd> {
    if plan.version != PROTOCOL_VERSION {
        return Err(refused(Step::Plan, format!("version {} instead of {PROTOCOL_VERSION}", plan.version)));
    }
    if plan.mounts.iter().any(|mount| !matches!(mount.kind, MountKind::Bind { .. })) {
        return Err(failed(Step::Plan, Errno::EINVAL, "a mount that is no bind mount"));
    }
    let ids = plan.user.as_ref().map(userns::hold).transpose()?;
    let ids = ids.as_ref().map(AsFd::as_fd);
    let sources = plan.mounts.iter().map(|mount| sources::take(mount, ids)).collect::<Result<Vec<_>>>()?;
    let overlay = if plan.writable {
        rootfs::overlay(&plan.rootfs, &plan.cover, ids)?
    } else {
        rootfs::read_only(&plan.rootfs, &plan.cover, ids)?
    };
    unshare(CloneFlags::CLONE_NEWNS).at(Step::Namespaces, "a mount namespace for the root")?;
    let (root, _host) = attach_root(&overlay)?;
    for (mount, source) in plan.mounts.iter().zip(&sources) {
        if plan.writable || root.find(&mount.target).is_ok() {
            mounts::place(&root, mount, source)?;
        }
    }
    enter_root(&root, plan.rootfs.read_only)?;
    Ok(overlay)
}
