//! A directory tree that others may change: found by descriptor from its root, no link followed, and no mount crossed unless
//! that is wanted.

use std::fs::File;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::path::Path;

use rustix::fs::{Dir, FileType, Mode, OFlags, ResolveFlags, Stat, fstat, open, openat2};
use rustix::io::Errno;

use crate::error::{Error, Reason, Result};
use crate::images::limits::{ENTRIES_MAX, PATH_MAX};
use crate::images::tar::shown;

/// How often a lookup is tried again that a rename elsewhere disturbed (EAGAIN, see openat2(2)).
const ATTEMPTS: u32 = 64;

/// The root of a tree.
#[derive(Debug)]
pub(in crate::images) struct Root {
    directory: OwnedFd,
    /// For errors.
    path: String,
    /// Where mounts are crossed, 0.
    no_mounts: ResolveFlags,
}

/// Something in it, opened as a path only: reading or writing it needs [`Found::open`].
#[derive(Debug)]
pub(in crate::images) struct Found {
    file: OwnedFd,
    pub(in crate::images) stat: Stat,
}

impl Root {
    /// Opens a root.
    pub(super) fn open(path: &Path) -> Result<Self> {
        let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let directory = open(path, flags, Mode::empty());
        let directory = directory.map_err(|errno| failed(format_args!("opening {}", path.display()), errno))?;
        Ok(Self { directory, path: path.display().to_string(), no_mounts: ResolveFlags::NO_XDEV })
    }

    /// Takes a root that is open.
    pub(super) fn new(directory: &File) -> Result<Self> {
        let directory = directory.try_clone().map_err(|error| Error::io("duplicating a descriptor", &error))?;
        let path = "the writable layer".to_owned();
        Ok(Self { directory: directory.into(), path, no_mounts: ResolveFlags::NO_XDEV })
    }

    /// Takes a directory of a container, whose mounts are crossed; `path` names it in errors.
    pub(in crate::images) fn with_mounts(directory: OwnedFd, path: String) -> Self {
        Self { directory, path, no_mounts: ResolveFlags::empty() }
    }

    /// What has this name, without a leading "/"; the root itself for "". `None` if nothing has, any more or at all.
    pub(in crate::images) fn find(&self, name: &[u8]) -> Result<Option<Found>> {
        let Some(file) = self.open_at(name, OFlags::PATH)? else { return Ok(None) };
        let stat = fstat(&file).map_err(|errno| self.failed("looking at", name, errno))?;
        Ok(Some(Found { file, stat }))
    }

    /// Names in a directory, sorted; none if it is not there any more.
    pub(in crate::images) fn names(&self, name: &[u8]) -> Result<Vec<Box<[u8]>>> {
        let reading = |errno| self.failed("reading the directory", name, errno);
        let Some(file) = self.open_at(name, OFlags::RDONLY | OFlags::DIRECTORY)? else { return Ok(Vec::new()) };
        let mut names: Vec<Box<[u8]>> = Vec::new();
        for entry in Dir::new(file).map_err(reading)? {
            let entry = entry.map_err(reading)?;
            let entry = entry.file_name().to_bytes();
            if entry != b"." && entry != b".." {
                names.push(entry.into());
            }
            if names.len() as u64 > ENTRIES_MAX {
                let line = format!("the directory /{} has more than {ENTRIES_MAX} entries", name.escape_ascii());
                return Err(Error::new(Reason::LimitExceeded, line));
            }
        }
        names.sort_unstable();
        Ok(names)
    }

    fn open_at(&self, name: &[u8], flags: OFlags) -> Result<Option<OwnedFd>> {
        if name.len() >= PATH_MAX {
            let line = format!("{} has a path longer than {PATH_MAX} bytes", shown(name));
            return Err(Error::new(Reason::LimitExceeded, line));
        }
        let name = if name.is_empty() { b"." } else { name };
        let flags = flags | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        // With O_PATH and O_NOFOLLOW the last component may be a link itself; above it, none is followed.
        let resolve = ResolveFlags::BENEATH | ResolveFlags::NO_SYMLINKS | self.no_mounts;
        for _ in 0..ATTEMPTS {
            match openat2(&self.directory, name, flags, Mode::empty(), resolve) {
                Ok(file) => return Ok(Some(file)),
                Err(Errno::AGAIN) => {}
                // Not there, or something above it is no directory: it may have been replaced since its name was read.
                Err(Errno::NOENT | Errno::NOTDIR | Errno::LOOP) => return Ok(None),
                Err(errno) => return Err(self.failed("opening", name, errno)),
            }
        }
        Err(self.failed("opening", name, Errno::AGAIN))
    }

    fn failed(&self, what: &str, name: &[u8], errno: Errno) -> Error {
        failed(format_args!("{what} /{} in {}", name.escape_ascii(), self.path), errno)
    }
}

impl AsFd for Found {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.file.as_fd()
    }
}

impl Found {
    /// Takes what is open as a path.
    pub(in crate::images) fn new(file: OwnedFd) -> Result<Self> {
        let stat = fstat(&file).map_err(|errno| failed("looking at a file", errno))?;
        Ok(Self { file, stat })
    }

    /// What it is.
    pub(in crate::images) fn kind(&self) -> FileType {
        FileType::from_raw_mode(self.stat.st_mode)
    }

    /// Opens a regular file for reading. By its own descriptor, so that it is the one that was looked at.
    pub(in crate::images) fn open(&self) -> Result<File> {
        let path = self.proc_path();
        let file = open(path.as_str(), OFlags::RDONLY | OFlags::NONBLOCK | OFlags::CLOEXEC, Mode::empty());
        file.map(File::from).map_err(|errno| failed("opening a file", errno))
    }

    /// Where a symbolic link leads.
    pub(in crate::images) fn target(&self) -> Result<Vec<u8>> {
        let target = rustix::fs::readlinkat(&self.file, "", Vec::new());
        target.map(std::ffi::CString::into_bytes).map_err(|errno| failed("reading a symbolic link", errno))
    }

    /// A name by which calls find it that take no path descriptor.
    pub(super) fn proc_path(&self) -> String {
        format!("/proc/self/fd/{}", self.file.as_fd().as_raw_fd())
    }
}

pub(in crate::images) fn failed(what: impl std::fmt::Display, errno: Errno) -> Error {
    Error::os(what, nix::errno::Errno::from_raw(errno.raw_os_error()))
}
