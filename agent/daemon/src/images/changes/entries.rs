//! Entries of a tar, from files that are found: ustar headers, PAX records for what does not fit them. Sockets are left out, as
//! tar has no word for them.

use std::collections::HashMap;
use std::io::{self, Read, Write};

use ::tar::{Builder, EntryType, Header};
use rustix::fs::{FileType, Stat, major, minor};

use super::owners::Owners;
use super::root::Found;
use crate::error::{Error, Result};
use crate::images::limits::read_error;
use crate::images::tar::{Time, Xattr, invalid, shown};

/// Bytes of a header's name and link name, and the end of its numbers.
const NAME: usize = 100;
const ID_MAX: u32 = 0o777_7777;
const SIZE_MAX: u64 = 0o777_7777_7777;

/// A tar that is being written.
pub(in crate::images) struct Entries<W: Write> {
    builder: Builder<W>,
    owners: Owners,
    /// First names of files that have several, by device and inode.
    links: HashMap<(u64, u64), Vec<u8>>,
    /// Files that ended before they should have, and were filled up with zeros.
    shrunk: Shrunk,
}

/// How many files became shorter while they were read, and the first of them.
#[derive(Debug, Default, Clone, PartialEq, Eq)]
pub(crate) struct Shrunk {
    pub(crate) count: u64,
    pub(crate) first: Vec<u8>,
}

impl<W: Write> Entries<W> {
    /// None yet.
    pub(in crate::images) fn new(output: W, owners: Owners) -> Self {
        Self { builder: Builder::new(output), owners, links: HashMap::new(), shrunk: Shrunk::default() }
    }

    /// Writes the end mark.
    pub(in crate::images) fn finish(self) -> Result<Shrunk> {
        let ended = self.builder.into_inner().and_then(|mut output| output.flush());
        ended.map_err(|error| write_error(&error))?;
        Ok(self.shrunk)
    }

    /// An empty file that only says something about others.
    pub(super) fn mark(&mut self, path: &[u8]) -> Result<()> {
        let mut header = new_header(EntryType::Regular);
        header.set_mode(0);
        self.append(header, Records::default(), path, io::empty())
    }

    /// Something that was found, by the name `path`.
    pub(in crate::images) fn found(&mut self, path: &[u8], found: &Found) -> Result<()> {
        let stat = &found.stat;
        let (kind, is_link) = match found.kind() {
            FileType::Directory => (EntryType::Directory, false),
            FileType::Socket => return Ok(()),
            kind => (entry_type(kind)?, stat.st_nlink > 1),
        };
        if is_link {
            if let Some(first) = self.links.get(&(stat.st_dev, stat.st_ino)) {
                let mut records = Records::default();
                let mut header = new_header(EntryType::Link);
                self.describe(&mut header, &mut records, stat);
                records.link(&mut header, first);
                return self.append(header, records, path, io::empty());
            }
            self.links.insert((stat.st_dev, stat.st_ino), path.to_vec());
        }
        let mut header = new_header(kind);
        if matches!(kind, EntryType::Char | EntryType::Block) {
            let set = header.set_device_major(major(stat.st_rdev));
            set.and_then(|()| header.set_device_minor(minor(stat.st_rdev))).map_err(|error| write_error(&error))?;
        }
        let mut records = Records::default();
        self.describe(&mut header, &mut records, stat);
        records.xattrs(found.xattrs(self.owners)?)?;
        match found.kind() {
            FileType::RegularFile => {
                let size = u64::try_from(stat.st_size).unwrap_or_default();
                header.set_size(size);
                if size > SIZE_MAX {
                    records.add("size", size.to_string().into_bytes());
                }
                let mut file = Exactly { inner: found.open()?, left: size, filled: false };
                self.append(header, records, path, &mut file)?;
                if file.filled {
                    self.shrunk.note(path);
                }
                Ok(())
            }
            FileType::Symlink => {
                records.link(&mut header, &found.target()?);
                self.append(header, records, path, io::empty())
            }
            FileType::Directory => self.append(header, records, &[path, b"/"].concat(), io::empty()),
            _ => self.append(header, records, path, io::empty()),
        }
    }

    /// An empty file or directory in the place of something that is left out.
    pub(in crate::images) fn stand_in(&mut self, path: &[u8], found: &Found) -> Result<()> {
        let directory = found.kind() == FileType::Directory;
        let mut header = new_header(if directory { EntryType::Directory } else { EntryType::Regular });
        let mut records = Records::default();
        self.describe(&mut header, &mut records, &found.stat);
        let path = if directory { [path, b"/"].concat() } else { path.to_vec() };
        self.append(header, records, &path, io::empty())
    }

    fn describe(&self, header: &mut Header, records: &mut Records, stat: &Stat) {
        header.set_mode(stat.st_mode & 0o7777);
        let (uid, gid) = (self.owners.inside(stat.st_uid), self.owners.inside(stat.st_gid));
        header.set_uid(u64::from(uid.min(ID_MAX)));
        header.set_gid(u64::from(gid.min(ID_MAX)));
        for (key, id) in [("uid", uid), ("gid", gid)] {
            if id > ID_MAX {
                records.add(key, id.to_string().into_bytes());
            }
        }
        let time = Time { seconds: stat.st_mtime, nanos: u32::try_from(stat.st_mtime_nsec).unwrap_or_default() };
        let seconds = u64::try_from(time.seconds).unwrap_or_default().min(SIZE_MAX);
        header.set_mtime(seconds);
        if time.nanos > 0 || i64::try_from(seconds) != Ok(time.seconds) {
            records.add("mtime", decimal(time).into_bytes());
        }
    }

    fn append(&mut self, mut header: Header, mut records: Records, path: &[u8], data: impl Read) -> Result<()> {
        let path = if path == b"/" { b"./" } else { path };
        if path.len() > NAME || !path.is_ascii() {
            records.add("path", path.to_vec());
        }
        let cut = path.len().min(NAME);
        header.as_old_mut().name[..cut].copy_from_slice(&path[..cut]);
        header.set_cksum();
        let records = records.0.iter().map(|(key, value)| (key.as_str(), value.as_slice()));
        self.builder.append_pax_extensions(records).map_err(|error| write_error(&error))?;
        self.builder.append(&header, data).map_err(|error| read_error(format_args!("keeping {}", shown(path)), error))
    }
}

impl Shrunk {
    fn note(&mut self, path: &[u8]) {
        if self.count == 0 {
            self.first = path.to_vec();
        }
        self.count += 1;
    }
}

/// What is said in PAX records.
#[derive(Debug, Default)]
struct Records(Vec<(String, Vec<u8>)>);

impl Records {
    fn add(&mut self, key: &str, value: Vec<u8>) {
        self.0.push((key.to_owned(), value));
    }

    fn link(&mut self, header: &mut Header, target: &[u8]) {
        if target.len() > NAME || !target.is_ascii() {
            self.add("linkpath", target.to_vec());
        }
        let cut = target.len().min(NAME);
        header.as_old_mut().linkname[..cut].copy_from_slice(&target[..cut]);
    }

    fn xattrs(&mut self, xattrs: Vec<Xattr>) -> Result<()> {
        for xattr in xattrs {
            let name = std::str::from_utf8(&xattr.name).ok().filter(|name| !name.contains('='));
            let problem = || invalid(format_args!("the extended attribute {} cannot be kept", shown(&xattr.name)));
            self.add(&format!("SCHILY.xattr.{}", name.ok_or_else(problem)?), xattr.value.to_vec());
        }
        Ok(())
    }
}

/// Yields so many bytes, whatever the file is by now: zeros after its end.
struct Exactly<R> {
    inner: R,
    left: u64,
    /// Whether there were such zeros.
    filled: bool,
}

impl<R: Read> Read for Exactly<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let room = buffer.len().min(usize::try_from(self.left).unwrap_or(usize::MAX));
        let buffer = &mut buffer[..room];
        let mut read = self.inner.read(buffer)?;
        if read == 0 && room > 0 {
            buffer.fill(0);
            read = room;
            self.filled = true;
        }
        self.left -= read as u64;
        Ok(read)
    }
}

fn new_header(kind: EntryType) -> Header {
    let mut header = Header::new_ustar();
    header.set_entry_type(kind);
    header.set_size(0);
    header.set_uid(0);
    header.set_gid(0);
    header.set_mtime(0);
    header
}

fn entry_type(kind: FileType) -> Result<EntryType> {
    Ok(match kind {
        FileType::RegularFile => EntryType::Regular,
        FileType::Symlink => EntryType::Symlink,
        FileType::CharacterDevice => EntryType::Char,
        FileType::BlockDevice => EntryType::Block,
        FileType::Fifo => EntryType::Fifo,
        _ => return Err(invalid("a file is of no known type")),
    })
}

/// A time in PAX's decimal form: before 1970 it counts down from zero.
fn decimal(time: Time) -> String {
    let Time { seconds, nanos } = time;
    if nanos == 0 {
        return seconds.to_string();
    }
    let text = if seconds < 0 {
        format!("-{}.{:09}", -(seconds + 1), 1_000_000_000 - nanos)
    } else {
        format!("{seconds}.{nanos:09}")
    };
    text.trim_end_matches('0').to_owned()
}

/// The reader of the stream has gone, and says itself why; or a defect.
fn write_error(error: &io::Error) -> Error {
    Error::io("writing a tar", error)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_decimal() {
        for (seconds, nanos, text) in [
            (0, 0, "0"),
            (10, 0, "10"),
            (1_700_000_000, 120_000_000, "1700000000.12"),
            (-1, 0, "-1"),
            (-2, 750_000_000, "-1.25"),
            (-1, 999_999_999, "-0.000000001"),
            (-100, 0, "-100"),
        ] {
            assert_eq!(decimal(Time { seconds, nanos }), text);
        }
    }
}
