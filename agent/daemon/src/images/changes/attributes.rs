//! Extended attributes of what is found in a layer: those that are the file's, and those that are overlayfs's own.

use rustix::fs::{FileType, getxattr, listxattr};
use rustix::io::Errno;

use super::owners::Owners;
use super::root::{Found, failed};
use crate::error::{Error, Reason, Result};
use crate::images::limits::XATTRS_MAX;
use crate::images::tar::Xattr;

/// overlayfs marks with these what it made. hull mounts it in the first user namespace, so that a container can set
/// none of them: what it calls so itself is escaped (Documentation/filesystems/overlayfs.rst, "Nesting overlayfs mounts").
const OVERLAY: &[u8] = b"trusted.overlay.";
const ESCAPED: &[u8] = b"trusted.overlay.overlay.";
const OPAQUE: &str = "trusted.overlay.opaque";
const WHITEOUT: &str = "trusted.overlay.whiteout";
/// Marks of what is somewhere else than where it seems to be. hull mounts overlays that make none.
const ELSEWHERE: [&str; 2] = ["trusted.overlay.redirect", "trusted.overlay.metacopy"];

impl Found {
    /// Whether it hides what lower layers have by its name.
    pub(super) fn is_whiteout(&self) -> Result<bool> {
        match self.kind() {
            FileType::CharacterDevice => Ok(self.stat.st_rdev == 0),
            FileType::RegularFile if self.stat.st_size == 0 => Ok(self.xattr(WHITEOUT)?.is_some()),
            _ => Ok(false),
        }
    }

    /// Whether it is a directory that hides what lower layers have in it.
    pub(super) fn is_opaque(&self) -> Result<bool> {
        Ok(self.kind() == FileType::Directory && self.xattr(OPAQUE)?.is_some_and(|value| value == b"y"))
    }

    /// Refuses what overlayfs keeps elsewhere.
    pub(super) fn check_in_place(&self) -> Result<()> {
        for mark in ELSEWHERE {
            if self.xattr(mark)?.is_some() {
                let line = format!("a file of the writable layer has {mark}, which hull does not read");
                return Err(Error::new(Reason::UnsupportedFeature, line));
            }
        }
        Ok(())
    }

    /// The attributes that are the file's own, sorted, as the container sees them. Labels and signatures of the node's
    /// security modules are not among them, but capabilities are.
    pub(super) fn xattrs(&self, owners: Owners) -> Result<Vec<Xattr>> {
        let mut names = vec![0; XATTRS_MAX];
        let length = match listxattr(self.proc_path(), &mut names) {
            Ok(length) => length,
            Err(Errno::NOTSUP) => 0,
            Err(errno) => return Err(failed("listing extended attributes of a file", errno)),
        };
        names.truncate(length);
        let mut xattrs = Vec::new();
        for name in names.split(|byte| *byte == 0).filter(|name| !name.is_empty()) {
            let Some(seen) = name_inside(name) else { continue };
            let text = std::str::from_utf8(name);
            let text =
                text.map_err(|_| crate::images::tar::invalid("the name of an extended attribute is not UTF-8"))?;
            if let Some(value) = self.xattr(text)? {
                xattrs.push(owners.xattr_inside(Xattr { name: seen.into(), value: value.into() })?);
            }
        }
        xattrs.sort_by(|a, b| a.name.cmp(&b.name));
        Ok(xattrs)
    }

    fn xattr(&self, name: &str) -> Result<Option<Vec<u8>>> {
        let mut value = vec![0; 256];
        loop {
            match getxattr(self.proc_path(), name, &mut value) {
                Ok(length) => {
                    value.truncate(length);
                    return Ok(Some(value));
                }
                Err(Errno::RANGE) if value.len() < XATTRS_MAX => value.resize(XATTRS_MAX, 0),
                Err(Errno::NODATA | Errno::NOTSUP) => return Ok(None),
                Err(errno) => return Err(failed(format_args!("reading the extended attribute {name}"), errno)),
            }
        }
    }
}

/// Name by which the container knows an attribute; `None` if it is not the file's own.
fn name_inside(name: &[u8]) -> Option<Vec<u8>> {
    if let Some(rest) = name.strip_prefix(ESCAPED) {
        return Some([OVERLAY, rest].concat());
    }
    let own = [&b"user."[..], b"trusted.", b"system.posix_acl_"].iter().any(|prefix| name.starts_with(prefix));
    (name == b"security.capability" || own && !name.starts_with(OVERLAY)).then(|| name.to_vec())
}
