//! From a container's tar to files on this side. The container is not trusted: nothing is written but below the directory that
//! the user named, found by descriptor with no link followed, whatever names and links the tar has (CVE-2018-15664).

use std::fs::File;
use std::io::{Read, Seek as _, SeekFrom, Write as _};
use std::os::fd::{AsFd, AsRawFd as _, OwnedFd};
use std::path::Path;

use rustix::fs::{
    AtFlags, CWD, FileType, Gid, Mode, OFlags, ResolveFlags, Timespec, Timestamps, UTIME_OMIT, Uid, XattrFlags, chmod,
    chownat, fstat, linkat, makedev, mkdirat, mknodat, openat, openat2, setxattr, symlinkat, unlinkat, utimensat,
};
use rustix::io::Errno;
use tar::EntryType;

use super::cleaned;
use crate::error::{Error, Result};

const DIRECTORY: OFlags = OFlags::PATH.union(OFlags::DIRECTORY).union(OFlags::NOFOLLOW).union(OFlags::CLOEXEC);
const ATTEMPTS: u32 = 64;
const PIECE: usize = 64 << 10;
const XATTR: &str = "SCHILY.xattr.";

/// Components of a name.
type Parts = Vec<Vec<u8>>;
/// Seconds since 1970, and nanoseconds that count forward.
type Time = (i64, i64);

/// Where to unpack, and how.
#[derive(Debug)]
pub(crate) struct Unpacking {
    /// The directory; links in its path are the user's, and followed.
    pub(crate) directory: String,
    /// What all names of the tar begin with; ".": nothing.
    pub(crate) prefix: String,
    /// What stands in its place; ".": nothing.
    pub(crate) name: String,
    /// Keep owners, setuid and setgid bits, all attributes, and device nodes.
    pub(crate) ownership: bool,
}

/// What was left out.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct Left {
    /// Device nodes, and the first of them.
    pub(crate) devices: u64,
    pub(crate) first: String,
}

/// What is known of an entry beside its header.
#[derive(Debug, Default)]
struct Extensions(Vec<(String, Vec<u8>)>);

impl Extensions {
    /// Reads the records of a PAX header: each begins with its own length.
    fn parse(mut bytes: &[u8]) -> Option<Self> {
        let mut records = Vec::new();
        while !bytes.is_empty() {
            let blank = bytes.iter().position(|byte| *byte == b' ')?;
            let length: usize = std::str::from_utf8(&bytes[..blank]).ok()?.parse().ok()?;
            let record = bytes.get(blank + 1..length)?.strip_suffix(b"\n")?;
            let equals = record.iter().position(|byte| *byte == b'=')?;
            let key = std::str::from_utf8(&record[..equals]).ok()?;
            records.push((key.to_owned(), record[equals + 1..].to_vec()));
            bytes = &bytes[length..];
        }
        Some(Self(records))
    }

    fn get(&self, key: &str) -> Option<&[u8]> {
        self.0.iter().find(|(name, _)| name == key).map(|(_, value)| value.as_slice())
    }

    fn text(&self, key: &str) -> Option<&str> {
        self.get(key).and_then(|value| std::str::from_utf8(value).ok())
    }
}

/// One entry, read.
#[derive(Debug)]
struct Entry {
    kind: EntryType,
    /// Below the directory.
    path: Parts,
    link: Vec<u8>,
    mode: u32,
    uid: u32,
    gid: u32,
    time: Time,
    device: (u32, u32),
    size: u64,
    xattrs: Vec<(String, Vec<u8>)>,
}

/// Unpacks the tar to its end.
pub(crate) fn unpack(unpacking: &Unpacking, input: impl Read) -> Result<Left> {
    let top =
        openat(CWD, Path::new(&unpacking.directory), OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC, Mode::empty());
    let top = top.map_err(|errno| Error::file(Path::new(&unpacking.directory), &errno.into()))?;
    let mut writer = Writer { top, unpacking, times: Vec::new(), left: Left::default(), piece: vec![0; PIECE] };
    let mut archive = tar::Archive::new(input);
    let mut extensions = Extensions::default();
    for entry in archive.entries().map_err(|error| receiving(&error))?.raw(true) {
        let mut entry = entry.map_err(|error| receiving(&error))?;
        if entry.header().entry_type() == EntryType::XHeader {
            let mut bytes = Vec::new();
            entry.read_to_end(&mut bytes).map_err(|error| receiving(&error))?;
            extensions = Extensions::parse(&bytes).ok_or_else(|| Error::new("the agent sent a damaged tar header"))?;
            continue;
        }
        let known = writer.read(entry.header(), &std::mem::take(&mut extensions))?;
        writer.write(&known, &mut entry)?;
    }
    writer.leave(&[]);
    Ok(writer.left)
}

struct Writer<'a> {
    top: OwnedFd,
    unpacking: &'a Unpacking,
    /// Directories that are being filled, and the times that they get then.
    times: Vec<(Parts, Time)>,
    left: Left,
    piece: Vec<u8>,
}

impl Writer<'_> {
    fn read(&self, header: &tar::Header, extensions: &Extensions) -> Result<Entry> {
        let damaged = |error: std::io::Error| Error::new(format!("the agent sent a damaged tar: {error}"));
        let path = extensions.get("path").map_or_else(|| header.path_bytes().into_owned(), <[u8]>::to_vec);
        let link = extensions.get("linkpath").map(<[u8]>::to_vec);
        let link = link.or_else(|| header.link_name_bytes().map(std::borrow::Cow::into_owned)).unwrap_or_default();
        let id = |key: &str, number: std::io::Result<u64>| -> Result<u32> {
            let number = extensions.text(key).and_then(|text| text.parse().ok()).map_or(number, Ok).map_err(damaged)?;
            u32::try_from(number).map_err(|_| Error::new("the agent sent a tar with an id that does not fit"))
        };
        let time = extensions
            .text("mtime")
            .and_then(time)
            .map_or_else(|| header.mtime().map(|seconds| (i64::try_from(seconds).unwrap_or_default(), 0)), Ok);
        let part = |part: std::io::Result<Option<u32>>| part.ok().flatten().unwrap_or_default();
        Ok(Entry {
            kind: header.entry_type(),
            path: self.renamed(&path)?,
            link,
            mode: header.mode().map_err(damaged)?,
            uid: id("uid", header.uid())?,
            gid: id("gid", header.gid())?,
            time: time.map_err(damaged)?,
            device: (part(header.device_major()), part(header.device_minor())),
            size: header.entry_size().map_err(damaged)?,
            xattrs: extensions
                .0
                .iter()
                .filter_map(|(key, value)| Some((key.strip_prefix(XATTR)?.to_owned(), value.clone())))
                .collect(),
        })
    }

    /// A name of the tar, with its first part replaced.
    fn renamed(&self, name: &[u8]) -> Result<Parts> {
        let outside = || {
            Error::new(format!(
                "refused: the container's tar names {}, outside of what was asked for",
                name.escape_ascii()
            ))
        };
        let parts = cleaned(name).ok_or_else(outside)?;
        let rest = match self.unpacking.prefix.as_str() {
            "." => parts.as_slice(),
            prefix => match parts.split_first() {
                Some((first, rest)) if *first == prefix.as_bytes() => rest,
                _ => return Err(outside()),
            },
        };
        let first = Some(self.unpacking.name.as_bytes()).filter(|name| *name != b".");
        Ok(first.into_iter().chain(rest.iter().copied()).map(<[u8]>::to_vec).collect())
    }

    fn write(&mut self, entry: &Entry, data: &mut impl Read) -> Result<()> {
        self.leave(&entry.path);
        let Some((name, above)) = entry.path.split_last() else {
            return Ok(());
        };
        let parent = self.directory(above)?;
        let failed = |what: &str, errno: Errno| self.failed(what, &entry.path, errno);
        let existing =
            match openat(&parent, name.as_slice(), OFlags::PATH | OFlags::NOFOLLOW | OFlags::CLOEXEC, Mode::empty()) {
                Ok(file) => Some(kind_of(&file).map_err(|errno| failed("looking at", errno))?),
                Err(Errno::NOENT) => None,
                Err(errno) => return Err(failed("looking at", errno)),
            };
        let is_directory = existing == Some(FileType::Directory);
        match existing {
            Some(_) if entry.kind == EntryType::Directory && !is_directory => {
                return Err(self.conflict(&entry.path, "a file is there, and no directory"));
            }
            Some(_) if entry.kind != EntryType::Directory && is_directory => {
                return Err(self.conflict(&entry.path, "a directory is there, and not replaced by a file"));
            }
            _ => {}
        }
        if matches!(entry.kind, EntryType::Char | EntryType::Block) && !self.unpacking.ownership {
            if self.left.devices == 0 {
                self.left.first = self.shown(&entry.path);
            }
            self.left.devices += 1;
            return Ok(());
        }
        if existing.is_some() && !is_directory {
            let removed = unlinkat(&parent, name.as_slice(), AtFlags::empty());
            removed.map_err(|errno| failed("replacing", errno))?;
        }
        self.make(entry, &parent, name, is_directory, data)
    }

    fn make(&mut self, entry: &Entry, parent: &OwnedFd, name: &[u8], exists: bool, data: &mut impl Read) -> Result<()> {
        let failed = |what: &str, errno: Errno| self.failed(what, &entry.path, errno);
        let private = Mode::from_bits_retain(0o600);
        let found = || openat(parent, name, OFlags::PATH | OFlags::NOFOLLOW | OFlags::CLOEXEC, Mode::empty());
        let (major, minor) = entry.device;
        let made = match entry.kind {
            EntryType::Directory => {
                let made = if exists { Ok(()) } else { mkdirat(parent, name, Mode::RWXU) };
                made.and_then(|()| {
                    openat(parent, name, OFlags::RDONLY | DIRECTORY.difference(OFlags::PATH), Mode::empty())
                })
            }
            EntryType::Regular => {
                let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW | OFlags::CLOEXEC;
                let file = openat(parent, name, flags, private).map_err(|errno| failed("making", errno))?;
                let mut file = File::from(file);
                self.fill(entry, &mut file, data)?;
                Ok(OwnedFd::from(file))
            }
            EntryType::Symlink => symlinkat(entry.link.as_slice(), parent, name).and_then(|()| found()),
            EntryType::Link => return self.hard_link(entry, parent, name),
            EntryType::Fifo => mknodat(parent, name, FileType::Fifo, private, 0).and_then(|()| found()),
            EntryType::Char => {
                mknodat(parent, name, FileType::CharacterDevice, private, makedev(major, minor)).and_then(|()| found())
            }
            EntryType::Block => {
                mknodat(parent, name, FileType::BlockDevice, private, makedev(major, minor)).and_then(|()| found())
            }
            other => return Err(self.conflict(&entry.path, &format!("the agent sent an entry of type {other:?}"))),
        };
        let made = made.map_err(|errno| self.failed("making", &entry.path, errno))?;
        self.describe(entry, &made)?;
        if entry.kind == EntryType::Directory {
            self.times.push((entry.path.clone(), entry.time));
            return Ok(());
        }
        set_time(&made, entry.time).map_err(|errno| self.failed("setting the time of", &entry.path, errno))
    }

    fn fill(&mut self, entry: &Entry, file: &mut File, data: &mut impl Read) -> Result<()> {
        let mut left = entry.size;
        while left > 0 {
            let room = usize::try_from(left).unwrap_or(usize::MAX).min(PIECE);
            let piece = &mut self.piece[..room];
            data.read_exact(piece).map_err(|error| receiving(&error))?;
            left -= room as u64;
            let written = if piece.iter().all(|byte| *byte == 0) {
                file.seek(SeekFrom::Current(i64::try_from(room).unwrap_or_default())).map(drop)
            } else {
                file.write_all(piece)
            };
            written.map_err(|error| Error::new(format!("writing {}: {error}", self.shown(&entry.path))))?;
        }
        let sized = file.set_len(entry.size);
        sized.map_err(|error| Error::new(format!("writing {}: {error}", self.shown(&entry.path))))
    }

    fn hard_link(&self, entry: &Entry, parent: &OwnedFd, name: &[u8]) -> Result<()> {
        let target = self.renamed(&entry.link)?;
        let (first, above) = target.split_last().ok_or_else(|| self.conflict(&entry.path, "a hard link to nothing"))?;
        let linked =
            self.find(above).and_then(|directory| linkat(&directory, first.as_slice(), parent, name, AtFlags::empty()));
        linked.map_err(|errno| self.failed("making the hard link", &entry.path, errno))
    }

    fn describe(&self, entry: &Entry, file: &OwnedFd) -> Result<()> {
        let failed = |what: &str, errno: Errno| self.failed(what, &entry.path, errno);
        let keep = self.unpacking.ownership;
        let by_name = format!("/proc/self/fd/{}", file.as_raw_fd());
        if keep {
            let (uid, gid) = (Uid::from_raw(entry.uid), Gid::from_raw(entry.gid));
            let changed = chownat(file, "", Some(uid), Some(gid), AtFlags::EMPTY_PATH);
            changed.map_err(|errno| failed("changing the owner of", errno))?;
        }
        if entry.kind != EntryType::Symlink {
            let mode = entry.mode & if keep { 0o7777 } else { 0o1777 };
            chmod(by_name.as_str(), Mode::from_bits_retain(mode))
                .map_err(|errno| failed("changing the mode of", errno))?;
        }
        for (name, value) in entry.xattrs.iter().filter(|(name, _)| keep || name.starts_with("user.")) {
            match setxattr(by_name.as_str(), name.as_str(), value, XattrFlags::empty()) {
                // Not every file system keeps attributes.
                Ok(()) | Err(Errno::NOTSUP | Errno::PERM) => {}
                Err(errno) => return Err(failed(&format!("setting the extended attribute {name} of"), errno)),
            }
        }
        Ok(())
    }

    /// A directory of the tar; what is missing is made.
    fn directory(&self, path: &[Vec<u8>]) -> Result<OwnedFd> {
        for length in 0..=path.len() {
            match self.find(&path[..length]) {
                Ok(directory) if length == path.len() => return Ok(directory),
                Ok(_) => {}
                Err(Errno::NOENT) if length > 0 => {
                    let above = self.find(&path[..length - 1]);
                    let made = above
                        .and_then(|above| mkdirat(above, path[length - 1].as_slice(), Mode::from_bits_retain(0o755)));
                    made.map_err(|errno| self.failed("making", &path[..length], errno))?;
                }
                Err(Errno::LOOP | Errno::NOTDIR) => {
                    return Err(self.conflict(&path[..length], "a link or file is there, and no directory"));
                }
                Err(errno) => return Err(self.failed("opening", &path[..length], errno)),
            }
        }
        self.find(path).map_err(|errno| self.failed("opening", path, errno))
    }

    fn find(&self, path: &[Vec<u8>]) -> rustix::io::Result<OwnedFd> {
        let name = if path.is_empty() { b".".to_vec() } else { path.join(&b'/') };
        for _ in 0..ATTEMPTS {
            let resolve = ResolveFlags::BENEATH | ResolveFlags::NO_SYMLINKS;
            match openat2(&self.top, name.as_slice(), DIRECTORY, Mode::empty(), resolve) {
                Err(Errno::AGAIN) => {}
                found => return found,
            }
        }
        Err(Errno::AGAIN)
    }

    /// Sets the times of directories that `next` is not in.
    fn leave(&mut self, next: &[Vec<u8>]) {
        while let Some((path, time)) = self.times.last() {
            if next.len() > path.len() && next.starts_with(path) {
                return;
            }
            if let Ok(directory) = self.find(path) {
                // Gone or replaced by somebody else: then it is not the tar's any more.
                let _gone = set_time(&directory, *time);
            }
            self.times.pop();
        }
    }

    fn shown(&self, path: &[Vec<u8>]) -> String {
        format!("{}/{}", self.unpacking.directory.trim_end_matches('/'), path.join(&b'/').escape_ascii())
    }

    fn failed(&self, what: &str, path: &[Vec<u8>], errno: Errno) -> Error {
        Error::new(format!("{what} {}: {}", self.shown(path), std::io::Error::from(errno)))
    }

    fn conflict(&self, path: &[Vec<u8>], problem: &str) -> Error {
        Error::new(format!("cannot write {}: {problem}", self.shown(path)))
    }
}

fn kind_of(file: &OwnedFd) -> rustix::io::Result<FileType> {
    fstat(file).map(|stat| FileType::from_raw_mode(stat.st_mode))
}

fn set_time(file: impl AsFd, (seconds, nanos): Time) -> rustix::io::Result<()> {
    let times = Timestamps {
        last_access: Timespec { tv_sec: 0, tv_nsec: UTIME_OMIT },
        last_modification: Timespec { tv_sec: seconds, tv_nsec: nanos },
    };
    utimensat(file, "", &times, AtFlags::EMPTY_PATH)
}

/// A decimal time: seconds, and nanoseconds that count forward.
fn time(text: &str) -> Option<Time> {
    let (whole, fraction) = text.split_once('.').unwrap_or((text, ""));
    let seconds: i64 = whole.parse().ok()?;
    let nanos: i64 = format!("{fraction:0<9}").get(..9)?.parse().ok()?;
    Some(match (whole.starts_with('-'), nanos) {
        (true, 1..) => (seconds.checked_sub(1)?, 1_000_000_000 - nanos),
        _ => (seconds, nanos),
    })
}

fn receiving(error: &std::io::Error) -> Error {
    Error::new(format!("reading the container's tar: {error}"))
}

#[cfg(test)]
mod tests;
