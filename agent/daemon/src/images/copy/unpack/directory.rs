//! Directories that entries go into.

use std::os::fd::OwnedFd;

use rustix::fs::{Mode, OFlags, StatVfsMountFlags, fstatvfs, mkdirat, openat};
use rustix::io::Errno;

use super::super::path::{Path, beneath, resolve};
use super::{Unpacking, read_only, refused, shown, wrong};
use crate::error::{Error, Result};
use crate::images::changes::failed;
use crate::images::limits::{DEPTH_MAX, PATH_MAX};

const DIRECTORY: OFlags = OFlags::PATH.union(OFlags::DIRECTORY).union(OFlags::CLOEXEC);

/// Finds the directory to unpack into.
pub(super) fn top(root: &OwnedFd, path: &Path<'_>) -> Result<OwnedFd> {
    let (found, _) = path.look(root, true)?;
    let top = openat(&found, ".", DIRECTORY, Mode::empty()).map_err(|errno| match errno {
        Errno::NOTDIR => Error::invalid("path", format_args!("{} is no directory", path.shown())),
        errno => failed(format_args!("opening {} in the container", path.shown()), errno),
    })?;
    let flags = fstatvfs(&top).map_err(|errno| failed("asking for a file system", errno))?.f_flag;
    if flags.contains(StatVfsMountFlags::RDONLY) {
        return Err(read_only(format!("writing to {} in the container", path.shown())));
    }
    Ok(top)
}

impl Unpacking<'_> {
    /// A directory of the archive, by its cleaned path; what is missing of it is made.
    pub(super) fn directory(&mut self, path: &[u8]) -> Result<OwnedFd> {
        if let Some((last, directory)) = &self.last
            && *last == path
        {
            return duplicate(directory);
        }
        if path.len() >= PATH_MAX || path.split(|byte| *byte == b'/').count() > DEPTH_MAX {
            return Err(refused(path, "its path is too long"));
        }
        let own_link = prefixes(path).find(|prefix| self.links.contains(*prefix));
        if let Some(link) = own_link {
            let problem = format!("it lies below {}, a symbolic link of the same archive", shown(link));
            return Err(refused(path, &problem));
        }
        match self.find(path) {
            Err(Errno::NOENT) => self.make(path),
            found => found.map_err(|errno| wrong("opening the directory", path, errno)),
        }
    }

    fn find(&self, path: &[u8]) -> rustix::io::Result<OwnedFd> {
        match beneath(&self.top, path, DIRECTORY) {
            // A link of the container's own, which may lead anywhere in its root. With O_DIRECTORY and O_NOFOLLOW a link at the
            // end is ENOTDIR.
            Err(Errno::LOOP | Errno::NOTDIR) => resolve(self.root, &self.path.below(path), DIRECTORY),
            found => found,
        }
    }

    fn make(&self, path: &[u8]) -> Result<OwnedFd> {
        let mut current = duplicate(&self.top)?;
        for prefix in prefixes(path) {
            current = match self.find(prefix) {
                Err(Errno::NOENT) => {
                    let name = prefix.rsplit(|byte| *byte == b'/').next().unwrap_or_default();
                    let made = match mkdirat(&current, name, Mode::from_bits_retain(0o755)) {
                        Err(Errno::EXIST) => Ok(()),
                        made => made,
                    };
                    made.and_then(|()| openat(&current, name, DIRECTORY | OFlags::NOFOLLOW, Mode::empty()))
                }
                found => found,
            }
            .map_err(|errno| wrong("making the directory", prefix, errno))?;
        }
        Ok(current)
    }

    /// Sets the times of directories that are full: of all that `next` is not in.
    pub(super) fn leave(&mut self, next: Option<&[u8]>) {
        while let Some((path, time)) = self.times.last() {
            let inside = |next: &[u8]| next.strip_prefix(path.as_slice()).is_some_and(|rest| rest.starts_with(b"/"));
            if next.is_some_and(inside) {
                return;
            }
            if let Ok(directory) = beneath(&self.top, path, DIRECTORY) {
                // Gone or replaced: then it is not the archive's any more.
                let _gone = super::attributes::set_time(&directory, *time);
            }
            self.times.pop();
        }
    }
}

/// "a", "a/b", "a/b/c".
fn prefixes(path: &[u8]) -> impl Iterator<Item = &[u8]> {
    let ends = path.iter().enumerate().filter(|(_, byte)| **byte == b'/').map(|(at, _)| at);
    ends.chain((!path.is_empty()).then_some(path.len())).map(|end| &path[..end])
}

fn duplicate(directory: &OwnedFd) -> Result<OwnedFd> {
    directory.try_clone().map_err(|error| Error::io("duplicating a descriptor", &error))
}
