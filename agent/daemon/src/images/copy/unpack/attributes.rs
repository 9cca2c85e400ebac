//! Owner, mode, extended attributes and time of what was unpacked, set by descriptor.

use std::os::fd::{AsFd, AsRawFd};

use rustix::fs::{
    AtFlags, Gid, Mode, Timespec, Timestamps, UTIME_OMIT, Uid, XattrFlags, chmod, chownat, setxattr, utimensat,
};
use rustix::io::Errno;

use super::Place;
use crate::error::Result;
use crate::images::changes::Owners;
use crate::images::tar::{Entry, Kind, Time, Xattr, invalid};

/// Mode bits that give rights of the owner's to others.
const SET_IDS: u16 = 0o6000;
/// What overlayfs keeps for itself.
const OVERLAY: &[u8] = b"trusted.overlay.";

/// Sets all but the time; `owner`: the owner, too. Returns whether the file system keeps them all.
pub(super) fn set(
    entry: &Entry,
    file: impl AsFd,
    place: &Place<'_>,
    owners: Owners,
    ownership: bool,
    owner: bool,
) -> Result<bool> {
    let by_name = format!("/proc/self/fd/{}", file.as_fd().as_raw_fd());
    if owner {
        let (uid, gid) = if ownership { (entry.uid, entry.gid) } else { (0, 0) };
        let (uid, gid) = (Uid::from_raw(owners.outside(uid)?), Gid::from_raw(owners.outside(gid)?));
        let changed = chownat(&file, "", Some(uid), Some(gid), AtFlags::EMPTY_PATH);
        changed.map_err(|errno| place.failed("changing the owner of", errno))?;
    }
    // A link has no mode, and the change of an owner takes bits away: so that comes first.
    if !matches!(entry.kind, Kind::Symlink(_)) {
        let mode = if ownership { entry.mode } else { entry.mode & !SET_IDS };
        let changed = chmod(by_name.as_str(), Mode::from_bits_retain(mode.into()));
        changed.map_err(|errno| place.failed("changing the mode of", errno))?;
    }
    let mut whole = true;
    for xattr in entry.xattrs.iter().filter(|xattr| is_kept(&xattr.name, ownership)) {
        let Xattr { name, value } = owners.xattr_outside(xattr.clone())?;
        let name = std::str::from_utf8(&name).map_err(|_| invalid("the name of an extended attribute is not UTF-8"))?;
        match setxattr(by_name.as_str(), name, &value, XattrFlags::empty()) {
            Ok(()) => {}
            // PERM: not on this kind of file.
            Err(Errno::NOTSUP | Errno::PERM) => whole = false,
            Err(errno) => return Err(place.failed(&format!("setting the extended attribute {name} of"), errno)),
        }
    }
    Ok(whole)
}

/// Labels and signatures of other hosts' security modules are not set here.
fn is_kept(name: &[u8], ownership: bool) -> bool {
    let of_users = name == b"security.capability"
        || name.starts_with(b"system.posix_acl_")
        || name.starts_with(b"trusted.") && !name.starts_with(OVERLAY);
    name.starts_with(b"user.") || ownership && of_users
}

/// Sets the time of the last modification.
pub(super) fn set_time(file: impl AsFd, time: Time) -> rustix::io::Result<()> {
    let times = Timestamps {
        last_access: Timespec { tv_sec: 0, tv_nsec: UTIME_OMIT },
        last_modification: Timespec { tv_sec: time.seconds, tv_nsec: time.nanos.into() },
    };
    utimensat(file, "", &times, AtFlags::EMPTY_PATH)
}
