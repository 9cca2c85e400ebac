//! A path in a container, and what is there.

use std::os::fd::{AsFd, OwnedFd};

use rustix::fs::{AtFlags, FileType, Mode, OFlags, ResolveFlags, StatxFlags, openat2, statx};
use rustix::io::Errno;

use crate::error::{Error, Reason, Result};
use crate::images::changes::{Found, failed};
use crate::images::limits::PATH_MAX;
use crate::images::tar::Time;

/// How often a lookup is tried again that a rename elsewhere disturbed (EAGAIN, see openat2(2)).
const ATTEMPTS: u32 = 64;

/// What is at a path.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct PathStat {
    /// The path's last component; "." for a directory that has none, or whose path ends in one.
    pub(crate) name: String,
    pub(crate) kind: PathKind,
    /// Permission, setuid, setgid and sticky bits.
    pub(crate) mode: u32,
    /// Bytes of a regular file; 0 of anything else.
    pub(crate) size: u64,
    /// Seconds since 1970, and nanoseconds.
    pub(crate) modified: (i64, u32),
    /// Where it leads, of a symbolic link; bytes that are not UTF-8 are replaced.
    pub(crate) link_target: String,
}

/// What kind of file it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum PathKind {
    Regular,
    Directory,
    Symlink,
    /// A device, a FIFO or a socket.
    Other,
}

/// A path as it was asked for, relative to the root.
#[derive(Debug)]
pub(super) struct Path<'a> {
    text: &'a str,
    components: Vec<&'a str>,
}

impl<'a> Path<'a> {
    pub(super) fn parse(text: &'a str) -> Result<Self> {
        if text.is_empty() || text.contains('\0') {
            return Err(Error::invalid("path", "is empty or contains a NUL"));
        }
        if text.len() >= PATH_MAX {
            return Err(Error::invalid("path", format_args!("is longer than {} bytes", PATH_MAX - 1)));
        }
        Ok(Self { text, components: text.split('/').filter(|name| !name.is_empty()).collect() })
    }

    /// For errors.
    pub(super) fn shown(&self) -> String {
        format!("/{}", self.components.join("/"))
    }

    /// The first name of its tar: the last component, or "." where that names nothing.
    pub(super) fn name(&self) -> &'a str {
        self.components.last().filter(|name| !matches!(**name, "." | "..")).unwrap_or(&".")
    }

    /// Whether it can be a directory's only: "d/", "d/.", "d/..".
    fn is_of_directory(&self) -> bool {
        self.text.ends_with('/') || self.name() == "."
    }

    /// The path with something below it.
    pub(super) fn below(&self, path: &[u8]) -> Vec<u8> {
        [self.text.as_bytes(), b"/", path].concat()
    }

    /// Finds what is there.
    pub(super) fn look(&self, root: &OwnedFd, follow: bool) -> Result<(Found, PathStat)> {
        let mut flags = OFlags::PATH;
        if self.is_of_directory() {
            flags |= OFlags::DIRECTORY;
        } else if !follow {
            flags |= OFlags::NOFOLLOW;
        }
        let found = Found::new(resolve(root, self.text.as_bytes(), flags).map_err(|errno| self.wrong(errno))?)?;
        let kind = match found.kind() {
            FileType::RegularFile => PathKind::Regular,
            FileType::Directory => PathKind::Directory,
            FileType::Symlink => PathKind::Symlink,
            _ => PathKind::Other,
        };
        let target = if kind == PathKind::Symlink { found.target()? } else { Vec::new() };
        let size = if kind == PathKind::Regular { u64::try_from(found.stat.st_size).unwrap_or_default() } else { 0 };
        let time =
            Time { seconds: found.stat.st_mtime, nanos: u32::try_from(found.stat.st_mtime_nsec).unwrap_or_default() };
        let stat = PathStat {
            name: self.name().to_owned(),
            kind,
            mode: found.stat.st_mode & 0o7777,
            size,
            modified: (time.seconds, time.nanos),
            link_target: String::from_utf8_lossy(&target).into_owned(),
        };
        Ok((found, stat))
    }

    fn wrong(&self, errno: Errno) -> Error {
        let path = self.shown();
        match errno {
            Errno::NOENT => Error::new(Reason::PathNotFound, format!("there is no {path} in the container")),
            Errno::NOTDIR if self.is_of_directory() => {
                Error::new(Reason::PathNotFound, format!("there is no directory {path} in the container"))
            }
            Errno::NOTDIR => {
                Error::new(Reason::PathNotFound, format!("there is no {path} in the container: a file is above it"))
            }
            Errno::LOOP => Error::invalid(
                "path",
                format_args!("{path} leads over too many symbolic links, or one of /proc, which are not followed"),
            ),
            errno => failed(format_args!("looking for {path} in the container"), errno),
        }
    }
}

/// Opens a path inside the root; links are followed inside of it.
pub(super) fn resolve(root: impl AsFd, path: &[u8], flags: OFlags) -> rustix::io::Result<OwnedFd> {
    open(root, path, flags, ResolveFlags::IN_ROOT | ResolveFlags::NO_MAGICLINKS)
}

/// Opens what is below a directory, following no link at all.
pub(super) fn beneath(directory: impl AsFd, path: &[u8], flags: OFlags) -> rustix::io::Result<OwnedFd> {
    let path = if path.is_empty() { b"." } else { path };
    open(directory, path, flags | OFlags::NOFOLLOW, ResolveFlags::BENEATH | ResolveFlags::NO_SYMLINKS)
}

/// The number of the mount that a file is on.
pub(super) fn mount_id(file: impl AsFd) -> rustix::io::Result<u64> {
    statx(file, "", AtFlags::EMPTY_PATH, StatxFlags::MNT_ID).map(|stat| stat.stx_mnt_id)
}

fn open(directory: impl AsFd, path: &[u8], flags: OFlags, resolve: ResolveFlags) -> rustix::io::Result<OwnedFd> {
    for _ in 0..ATTEMPTS {
        match openat2(&directory, path, flags | OFlags::CLOEXEC, Mode::empty(), resolve) {
            Err(Errno::AGAIN) => {}
            opened => return opened,
        }
    }
    Err(Errno::AGAIN)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_last_component_is_the_name() {
        for (path, name, of_directory) in [
            ("/", ".", true),
            ("a", "a", false),
            ("/a/b", "b", false),
            ("/a/b/", "b", true),
            ("/a/b/.", ".", true),
            ("/a/..", ".", true),
            ("..", ".", true),
            ("/a/.b", ".b", false),
        ] {
            let parsed = Path::parse(path).unwrap();
            assert_eq!((parsed.name(), parsed.is_of_directory()), (name, of_directory), "{path}");
        }
        assert!(Path::parse("").is_err() && Path::parse("a\0").is_err());
        assert!(Path::parse(&"x/".repeat(4096)).is_err());
    }
}
