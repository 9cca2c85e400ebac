//! From a tar to files below a directory of the container.
//!
//! - Names are cleaned as Docker does: "/" in front goes, ".." is taken back; one that leaves the directory is refused.
//! - A link of the container's above an entry is followed within the container's root, as a program in it would. One that the
//!   archive itself brought is not: the entry is refused.
//! - What is there by an entry's name is replaced, never followed; a directory is neither replaced nor does it replace.
//! - A file that something is mounted on is written into, so that the mount stays; removing it would unmount that.
//! - Ids, setuid and setgid bits, capabilities, access control lists and trusted attributes come with ownership only; without,
//!   all belongs to the container's root.

mod attributes;
mod directory;

use std::collections::HashSet;
use std::fs::File;
use std::io::{Read, Seek as _, SeekFrom, Write as _};
use std::os::fd::{AsFd, OwnedFd};

use rustix::fs::{AtFlags, FileType, Mode, OFlags, linkat, makedev, mkdirat, mknodat, openat, symlinkat, unlinkat};
use rustix::io::Errno;

use super::path::{Path, mount_id};
use crate::error::{Error, Reason, Result};
use crate::images::changes::{Found, Owners, failed};
use crate::images::compression;
use crate::images::limits::{ENTRIES_MAX, read_error};
use crate::images::tar::{Entry, Kind, TarReader, Time, invalid, shown};

/// Bytes read and written at once. A piece of zeros is left out of the file, which has a hole there.
const PIECE: usize = 64 << 10;
/// How often a file is made anew that somebody else makes meanwhile.
const ATTEMPTS: u32 = 64;

/// How to unpack.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct UnpackOptions {
    /// Keep what the archive says about users; otherwise all belongs to the container's root.
    pub(crate) ownership: bool,
    /// Whether the container itself could make device nodes.
    pub(crate) device_nodes: bool,
}

/// What came of it.
#[derive(Debug, Default, Clone, PartialEq, Eq)]
pub(crate) struct Unpacked {
    pub(crate) entries: u64,
    /// Bytes of files.
    pub(crate) bytes: u64,
    /// How many files have attributes that their file system does not keep, and the first of them.
    pub(crate) bare: u64,
    pub(crate) first_bare: Vec<u8>,
}

pub(super) fn unpack(
    root: &OwnedFd,
    path: &Path<'_>,
    owners: Owners,
    options: UnpackOptions,
    input: impl Read + Send,
) -> Result<Unpacked> {
    let top = directory::top(root, path)?;
    let mut unpacking = Unpacking {
        root,
        path,
        top,
        owners,
        options,
        links: HashSet::new(),
        last: None,
        times: Vec::new(),
        done: Unpacked::default(),
        piece: vec![0; PIECE],
    };
    let (input, _) = compression::open(input)?;
    let mut tar = TarReader::new(input);
    while let Some(entry) = tar.next()? {
        unpacking.entry(&entry, &mut tar)?;
    }
    unpacking.leave(None);
    // What follows the end is nothing, but whoever sends it wants to be rid of it.
    let rest = std::io::copy(&mut tar.into_inner().0, &mut std::io::sink());
    rest.map_err(|error| read_error("reading the archive", error))?;
    Ok(unpacking.done)
}

struct Unpacking<'a> {
    root: &'a OwnedFd,
    path: &'a Path<'a>,
    /// The directory that is unpacked into.
    top: OwnedFd,
    owners: Owners,
    options: UnpackOptions,
    /// Cleaned names of the symbolic links that the archive brought.
    links: HashSet<Vec<u8>>,
    /// The directory of the last entry.
    last: Option<(Vec<u8>, OwnedFd)>,
    /// Directories that are being filled, and the time that each gets then: the outermost first.
    times: Vec<(Vec<u8>, Time)>,
    done: Unpacked,
    piece: Vec<u8>,
}

/// Where an entry goes.
struct Place<'a> {
    parent: &'a OwnedFd,
    name: &'a [u8],
    /// For errors.
    path: &'a [u8],
}

impl Place<'_> {
    fn failed(&self, what: &str, errno: Errno) -> Error {
        wrong(what, self.path, errno)
    }

    fn find(&self) -> Result<Option<Found>> {
        match openat(self.parent, self.name, OFlags::PATH | OFlags::NOFOLLOW | OFlags::CLOEXEC, Mode::empty()) {
            Ok(file) => Found::new(file).map(Some),
            Err(Errno::NOENT) => Ok(None),
            Err(errno) => Err(self.failed("looking at", errno)),
        }
    }

    /// Whether something is mounted there, for the container: to this process's mount namespace that means nothing.
    fn is_mounted_on(&self, found: &Found) -> Result<bool> {
        let above = mount_id(self.parent).map_err(|errno| self.failed("looking at", errno))?;
        let own = mount_id(found).map_err(|errno| self.failed("looking at", errno))?;
        Ok(own != above)
    }

    /// Removes what is there and is no directory.
    fn clear(&self, existing: Option<&Found>) -> Result<()> {
        let Some(found) = existing else { return Ok(()) };
        if self.is_mounted_on(found)? {
            return Err(conflict(self.path, "something is mounted there"));
        }
        match unlinkat(self.parent, self.name, AtFlags::empty()) {
            Ok(()) | Err(Errno::NOENT) => Ok(()),
            Err(errno) => Err(self.failed("replacing", errno)),
        }
    }

    /// Makes a file in the place of what is there, again if somebody else makes one meanwhile.
    fn create(&self) -> Result<OwnedFd> {
        let failed = |errno| self.failed("making the file", errno);
        for _ in 0..ATTEMPTS {
            match self.open(OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL) {
                Err(Errno::EXIST) => {}
                made => return made.map_err(failed),
            }
            match self.find()? {
                Some(found) if found.kind() == FileType::RegularFile && self.is_mounted_on(&found)? => {
                    return self.open(OFlags::WRONLY | OFlags::TRUNC).map_err(failed);
                }
                existing => self.clear(existing.as_ref())?,
            }
        }
        Err(failed(Errno::EXIST))
    }

    fn open(&self, flags: OFlags) -> rustix::io::Result<OwnedFd> {
        openat(self.parent, self.name, flags | OFlags::NOFOLLOW | OFlags::CLOEXEC, Mode::from_bits_retain(0o600))
    }
}

impl Unpacking<'_> {
    fn entry(&mut self, entry: &Entry, tar: &mut TarReader<impl Read>) -> Result<()> {
        self.done.entries += 1;
        let path = clean(&entry.path)?;
        self.leave(Some(&path));
        let Some((above, name)) = split(&path) else {
            // The directory itself is not the archive's.
            return if entry.kind == Kind::Directory { Ok(()) } else { Err(refused(&entry.path, "it has no name")) };
        };
        let parent = self.directory(above)?;
        let place = Place { parent: &parent, name, path: &path };
        let existing = place.find()?;
        let is_directory = existing.as_ref().is_some_and(|found| found.kind() == FileType::Directory);
        match (&existing, &entry.kind) {
            (Some(_), Kind::Directory) if !is_directory => {
                return Err(conflict(&path, "a file is there, and no directory"));
            }
            (Some(_), kind) if is_directory && *kind != Kind::Directory => {
                return Err(conflict(&path, "a directory is there, and not replaced by a file"));
            }
            _ => {}
        }
        match &entry.kind {
            Kind::Directory => self.make_directory(entry, &place, existing.is_some())?,
            Kind::File(size) => self.file(entry, &place, *size, tar)?,
            Kind::HardLink(target) => self.hard_link(&place, existing.as_ref(), target)?,
            _ => self.special(entry, &place, existing.as_ref())?,
        }
        self.last = Some((above.to_vec(), parent));
        Ok(())
    }

    fn make_directory(&mut self, entry: &Entry, place: &Place<'_>, exists: bool) -> Result<()> {
        if !exists {
            let made = mkdirat(place.parent, place.name, Mode::RWXU);
            made.map_err(|errno| place.failed("making the directory", errno))?;
        }
        let directory = place.open(OFlags::RDONLY | OFlags::DIRECTORY);
        let directory = directory.map_err(|errno| place.failed("opening the directory", errno))?;
        self.describe(entry, &directory, place, !exists || self.options.ownership)?;
        self.times.push((place.path.to_vec(), entry.mtime));
        Ok(())
    }

    fn file(&mut self, entry: &Entry, place: &Place<'_>, size: u64, tar: &mut TarReader<impl Read>) -> Result<()> {
        let file = place.create()?;
        let mut file = File::from(file);
        self.fill(&mut file, place, size, tar)?;
        let file = OwnedFd::from(file);
        self.describe(entry, &file, place, true)?;
        self.set_time(&file, place, entry.mtime)
    }

    fn fill(&mut self, file: &mut File, place: &Place<'_>, size: u64, tar: &mut TarReader<impl Read>) -> Result<()> {
        let writing = |error: std::io::Error| {
            let errno = error.raw_os_error().map(Errno::from_raw_os_error);
            errno.map_or_else(|| Error::io("writing a file", &error), |errno| place.failed("writing", errno))
        };
        let mut left = size;
        while left > 0 {
            let room = usize::try_from(left).unwrap_or(usize::MAX).min(PIECE);
            let piece = &mut self.piece[..room];
            tar.read_exact(piece).map_err(|error| read_error(format_args!("reading {}", shown(place.path)), error))?;
            left -= room as u64;
            if piece.iter().all(|byte| *byte == 0) {
                file.seek(SeekFrom::Current(i64::try_from(room).unwrap_or_default())).map_err(writing)?;
            } else {
                file.write_all(piece).map_err(writing)?;
            }
        }
        file.set_len(size).map_err(writing)?;
        self.done.bytes += size;
        Ok(())
    }

    fn hard_link(&mut self, place: &Place<'_>, existing: Option<&Found>, target: &[u8]) -> Result<()> {
        let path = clean(target)?;
        let missing = || refused(place.path, &format!("a hard link to {}, which is not there", shown(target)));
        let (above, name) = split(&path).ok_or_else(missing)?;
        let parent = self.directory(above)?;
        let there = Place { parent: &parent, name, path: &path }.find()?.ok_or_else(missing)?;
        if there.kind() == FileType::Directory {
            return Err(refused(place.path, "a hard link to a directory"));
        }
        if existing.is_some() && path == place.path {
            return Ok(());
        }
        place.clear(existing)?;
        let linked = linkat(&parent, name, place.parent, place.name, AtFlags::empty());
        linked.map_err(|errno| place.failed("making the hard link", errno))
    }

    /// Symbolic links, FIFOs and devices.
    fn special(&mut self, entry: &Entry, place: &Place<'_>, existing: Option<&Found>) -> Result<()> {
        let (kind, device) = match &entry.kind {
            Kind::CharDevice(major, minor) => (FileType::CharacterDevice, makedev(*major, *minor)),
            Kind::BlockDevice(major, minor) => (FileType::BlockDevice, makedev(*major, *minor)),
            Kind::Symlink(_) => (FileType::Symlink, 0),
            _ => (FileType::Fifo, 0),
        };
        if matches!(kind, FileType::CharacterDevice | FileType::BlockDevice) && !self.options.device_nodes {
            let line = format!("{} is a device node, which this container may not make", shown(place.path));
            let hint = "it needs CAP_MKNOD and no user namespace of its own; or leave it out of the archive";
            return Err(Error::new(Reason::UnsupportedFeature, line).hint(hint));
        }
        place.clear(existing)?;
        let made = match &entry.kind {
            Kind::Symlink(target) => symlinkat(target.as_slice(), place.parent, place.name),
            _ => mknodat(place.parent, place.name, kind, Mode::from_bits_retain(0o600), device),
        };
        made.map_err(|errno| place.failed("making", errno))?;
        if kind == FileType::Symlink {
            if self.links.len() as u64 >= ENTRIES_MAX {
                let line = format!("the archive has more than {ENTRIES_MAX} symbolic links");
                return Err(Error::new(Reason::LimitExceeded, line));
            }
            self.links.insert(place.path.to_vec());
        }
        let made = place.find()?.filter(|found| found.kind() == kind);
        let made = made.ok_or_else(|| conflict(place.path, "the container replaced it while it was made"))?;
        self.describe(entry, &made, place, true)?;
        self.set_time(&made, place, entry.mtime)
    }

    fn describe(&mut self, entry: &Entry, file: impl AsFd, place: &Place<'_>, owner: bool) -> Result<()> {
        let owners = self.owners;
        let whole = attributes::set(entry, file, place, owners, self.options.ownership, owner)?;
        if !whole {
            if self.done.bare == 0 {
                self.done.first_bare = place.path.to_vec();
            }
            self.done.bare += 1;
        }
        Ok(())
    }

    fn set_time(&self, file: impl AsFd, place: &Place<'_>, time: Time) -> Result<()> {
        attributes::set_time(file, time).map_err(|errno| place.failed("setting the time of", errno))
    }
}

/// A name without what means nothing; one that leaves the directory is refused.
fn clean(name: &[u8]) -> Result<Vec<u8>> {
    let mut parts: Vec<&[u8]> = Vec::new();
    for part in name.split(|byte| *byte == b'/') {
        match part {
            b"" | b"." => {}
            b".." => drop(parts.pop().ok_or_else(|| refused(name, "it leads out of the directory"))?),
            part => parts.push(part),
        }
    }
    Ok(parts.join(&b'/'))
}

/// The directory of a cleaned path, and its last component.
fn split(path: &[u8]) -> Option<(&[u8], &[u8])> {
    let at = path.iter().rposition(|byte| *byte == b'/');
    match at {
        Some(at) => Some((&path[..at], &path[at + 1..])),
        None if path.is_empty() => None,
        None => Some((b"", path)),
    }
}

/// What the kernel said about a file of the container's.
fn wrong(what: &str, path: &[u8], errno: Errno) -> Error {
    let line = format!("{what} {} in the container", shown(path));
    match errno {
        Errno::ROFS => read_only(line),
        errno => failed(line, errno),
    }
}

fn read_only(line: String) -> Error {
    Error::new(Reason::ReadOnlyPath, line)
        .errno(nix::errno::Errno::EROFS)
        .hint("the container's root or that mount is read-only; copy to a volume or tmpfs of it")
}

fn conflict(path: &[u8], problem: &str) -> Error {
    Error::new(Reason::InvalidArgument, format!("cannot write {}: {problem}", shown(path)))
}

fn refused(path: &[u8], problem: &str) -> Error {
    invalid(format_args!("entry {}: {problem}", shown(path)))
}

#[cfg(test)]
mod tests;
