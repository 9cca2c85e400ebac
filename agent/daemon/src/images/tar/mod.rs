//! Reads tar archives strictly: v7, ustar, PAX and GNU headers, sparse files, base-256 numbers.
//!
//! Own code, because what is at hand does not fit untrusted layers: names and extended headers are read without a bound,
//! extended headers are cut at line ends (which binary attributes contain), and PAX sparse files are not known. Where
//! readers are known to differ (CVE-2025-62518 and its kin) the entry is refused: a size on an entry that has no data,
//! a key or a long name that comes twice, a zero block that is not the end. Tested against GNU tar.

mod number;
mod pax;
mod sparse;

use std::fmt;
use std::io::{self, Read};
use std::ops::Range;

use crate::error::{Error, Reason, Result};
use crate::images::limits::{EXTENDED_HEADER_MAX, PATH_MAX, read_error};
use pax::Extensions;
use sparse::Segments;

const BLOCK: usize = 512;

/// Seconds and nanoseconds since 1970; before it, seconds are negative and nanoseconds still count forward.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(super) struct Time {
    pub(super) seconds: i64,
    pub(super) nanos: u32,
}

/// An extended attribute with its whole name ("user.a").
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Xattr {
    pub(super) name: Box<[u8]>,
    pub(super) value: Box<[u8]>,
}

/// What an entry is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Kind {
    /// A regular file of so many bytes, which the reader then yields.
    File(u64),
    HardLink(Vec<u8>),
    Symlink(Vec<u8>),
    CharDevice(u32, u32),
    BlockDevice(u32, u32),
    Directory,
    Fifo,
}

/// One entry. Paths are as they stand in the archive.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Entry {
    pub(super) path: Vec<u8>,
    pub(super) kind: Kind,
    /// Permission, setuid, setgid and sticky bits.
    pub(super) mode: u16,
    pub(super) uid: u32,
    pub(super) gid: u32,
    pub(super) mtime: Time,
    pub(super) xattrs: Vec<Xattr>,
}

/// Reads entries one after the other; as [`Read`] it yields the data of the current one.
#[derive(Debug)]
pub(super) struct TarReader<R> {
    inner: R,
    /// Bytes of the current entry that are still to come from `inner`, and the padding after them.
    stored: u64,
    padding: u64,
    segments: Segments,
    ended: bool,
}

/// The header block.
struct Header([u8; BLOCK]);

impl<R: Read> TarReader<R> {
    pub(super) fn new(inner: R) -> Self {
        Self { inner, stored: 0, padding: 0, segments: Segments::default(), ended: false }
    }

    /// What reads the archive, to drain what follows its end, and whether the end was marked.
    pub(super) fn into_inner(self) -> (R, bool) {
        (self.inner, self.ended)
    }

    /// The next entry; `None` at the end of the archive.
    pub(super) fn next(&mut self) -> Result<Option<Entry>> {
        let mut extensions: Option<Extensions> = None;
        let (mut long_path, mut long_link) = (None, None);
        self.skip()?;
        loop {
            let Some(header) = self.header()? else {
                if extensions.is_some() || long_path.is_some() || long_link.is_some() {
                    return Err(invalid("the archive ends after a header that describes the next entry"));
                }
                return Ok(None);
            };
            let slot_taken = match header.kind() {
                b'x' => extensions.replace(pax::parse(&self.extension(&header)?)?).is_some(),
                b'g' => {
                    pax::check_global(&self.extension(&header)?)?;
                    false
                }
                b'L' => long_path.replace(long_name(self.extension(&header)?)?).is_some(),
                b'K' => long_link.replace(long_name(self.extension(&header)?)?).is_some(),
                _ => {
                    let mut extensions = extensions.unwrap_or_default();
                    for (long, slot) in [(long_path, &mut extensions.path), (long_link, &mut extensions.link)] {
                        if long.is_some() && slot.is_some() {
                            return Err(invalid("an entry has both a GNU and a PAX long name"));
                        }
                        *slot = slot.take().or(long);
                    }
                    return self.entry(&header, extensions).map(Some);
                }
            };
            if slot_taken {
                return Err(invalid("two headers of one kind describe the same entry"));
            }
        }
    }

    fn entry(&mut self, header: &Header, extensions: Extensions) -> Result<Entry> {
        let sparse_name = extensions.sparse.name.clone();
        let path = sparse_name.or_else(|| extensions.path.clone()).unwrap_or_else(|| header.path());
        let refused = |problem: &str| invalid(format_args!("entry {}: {problem}", shown(&path)));
        if path.is_empty() || path.len() > PATH_MAX {
            return Err(refused("its name is empty or longer than 4096 bytes"));
        }
        let number = |extended: Option<u64>, range| extended.or_else(|| header.unsigned(range));
        let size = number(extensions.size, 124..136).filter(|size| i64::try_from(*size).is_ok());
        let size = size.ok_or_else(|| refused("its size does not fit"))?;
        let id = |number: Option<u64>| number.and_then(|id| u32::try_from(id).ok()).filter(|id| *id != u32::MAX);
        let uid = id(number(extensions.uid, 108..116)).ok_or_else(|| refused("its uid does not fit"))?;
        let gid = id(number(extensions.gid, 116..124)).ok_or_else(|| refused("its gid does not fit"))?;
        let seconds = || header.number(136..148).map(|seconds| Time { seconds, nanos: 0 });
        let mtime = extensions.mtime.or_else(seconds).ok_or_else(|| refused("its time does not fit"))?;
        let mode = header.number(100..108).ok_or_else(|| refused("its mode is no number"))?;
        let kind = match header.entry_kind(extensions.link.as_deref(), &path).map_err(|problem| refused(&problem))? {
            Kind::File(_) => Kind::File(self.begin_data(header, &extensions, size)?),
            _ if size != 0 || extensions.sparse.is_used() => {
                return Err(refused(&format!("a size of {size} on an entry without data")));
            }
            other => other,
        };
        let mode = u16::try_from(mode & 0o7777).unwrap_or_default();
        Ok(Entry { path, kind, mode, uid, gid, mtime, xattrs: extensions.xattrs })
    }

    /// Prepares for the data of a file that takes `stored` bytes in the archive; returns its size.
    fn begin_data(&mut self, header: &Header, extensions: &Extensions, stored: u64) -> Result<u64> {
        self.stored = stored;
        self.padding = stored.wrapping_neg() % BLOCK as u64;
        if header.kind() == b'S' {
            if !header.is_gnu() || extensions.sparse.is_used() {
                return Err(invalid("a sparse file of type S outside of GNU's format"));
            }
            self.segments = sparse::read_gnu(&header.0, &mut self.inner, stored)?;
        } else if extensions.sparse.is_used() {
            let (segments, map_bytes) = sparse::read_pax(&extensions.sparse, &mut self.inner, stored)?;
            self.stored -= map_bytes;
            self.segments = segments;
        } else {
            self.segments = Segments::whole(stored);
        }
        Ok(self.segments.size())
    }

    /// Reads the next header block, checks it; `None` at the end of the archive.
    fn header(&mut self) -> Result<Option<Header>> {
        let mut block = [0; BLOCK];
        if !read_block(&mut self.inner, &mut block)? {
            return Ok(None);
        }
        if block == [0; BLOCK] {
            // Readers differ on what follows a lone zero block, so that nothing may.
            if read_block(&mut self.inner, &mut block)? && block != [0; BLOCK] {
                return Err(invalid("something follows a lone zero block"));
            }
            self.ended = true;
            return Ok(None);
        }
        let header = Header(block);
        let sum = header.0.iter().map(|byte| i64::from(*byte)).sum::<i64>();
        let own = header.0[148..156].iter().map(|byte| i64::from(*byte)).sum::<i64>();
        if number::parse(&header.0[148..156]) != Some(sum - own + 8 * i64::from(b' ')) {
            return Err(invalid("the checksum of a header is wrong"));
        }
        Ok(Some(header))
    }

    /// Reads the body of a header that describes the next entry.
    fn extension(&mut self, header: &Header) -> Result<Vec<u8>> {
        let size = header.number(124..136).and_then(|size| usize::try_from(size).ok());
        let size = size.filter(|size| *size <= EXTENDED_HEADER_MAX).ok_or_else(|| {
            Error::new(
                Reason::LimitExceeded,
                format!("an extended tar header is larger than {EXTENDED_HEADER_MAX} bytes"),
            )
        })?;
        let mut body = vec![0; size.next_multiple_of(BLOCK)];
        self.inner.read_exact(&mut body).map_err(|error| read_error("reading an extended tar header", error))?;
        body.truncate(size);
        Ok(body)
    }

    /// Passes over what the caller left of the current entry.
    fn skip(&mut self) -> Result<()> {
        let rest = self.stored + self.padding;
        let skipped = io::copy(&mut self.inner.by_ref().take(rest), &mut io::sink());
        if skipped.map_err(|error| read_error("reading a tar entry", error))? != rest {
            return Err(invalid("the archive ends within an entry"));
        }
        (self.stored, self.padding, self.segments) = (0, 0, Segments::default());
        Ok(())
    }
}

impl<R: Read> Read for TarReader<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let (is_data, length) = self.segments.next_run(buffer.len());
        if !is_data {
            buffer[..length].fill(0);
            return Ok(length);
        }
        let read = self.inner.read(&mut buffer[..length])?;
        if read == 0 && length > 0 {
            return Err(io::Error::new(io::ErrorKind::UnexpectedEof, "the archive ends within an entry"));
        }
        self.stored -= read as u64;
        self.segments.advance(read as u64);
        Ok(read)
    }
}

impl Header {
    /// Type of the entry.
    const fn kind(&self) -> u8 {
        self.0[156]
    }

    fn is_gnu(&self) -> bool {
        self.0[257..265] == *b"ustar  \0"
    }

    fn number(&self, range: Range<usize>) -> Option<i64> {
        number::parse(&self.0[range])
    }

    fn unsigned(&self, range: Range<usize>) -> Option<u64> {
        self.number(range).and_then(|number| u64::try_from(number).ok())
    }

    /// What the entry is; a file's size is not told here. `link` is what an extended header says of its target.
    fn entry_kind(&self, link: Option<&[u8]>, path: &[u8]) -> Result<Kind, String> {
        let link = || link.unwrap_or_else(|| until_nul(&self.0[157..257])).to_vec();
        let device = || -> Option<(u32, u32)> {
            let part = |range| self.number(range).and_then(|number| u32::try_from(number).ok());
            Some((part(329..337)?, part(337..345)?))
        };
        let device = || device().ok_or_else(|| "its device number does not fit".to_owned());
        Ok(match self.kind() {
            // Before ustar, a directory was a file whose name ends in a slash.
            b'0' | 0 if path.ends_with(b"/") => Kind::Directory,
            b'0' | 0 | b'7' | b'S' => Kind::File(0),
            b'1' => Kind::HardLink(link()),
            b'2' => Kind::Symlink(link()),
            b'3' => device().map(|(major, minor)| Kind::CharDevice(major, minor))?,
            b'4' => device().map(|(major, minor)| Kind::BlockDevice(major, minor))?,
            b'5' => Kind::Directory,
            b'6' => Kind::Fifo,
            other => return Err(format!("type {:?} is not supported", char::from(other))),
        })
    }

    fn path(&self) -> Vec<u8> {
        let name = until_nul(&self.0[..100]);
        let prefix = until_nul(&self.0[345..500]);
        if self.0[257..263] == *b"ustar\0" && !prefix.is_empty() {
            return [prefix, b"/", name].concat();
        }
        name.to_vec()
    }
}

/// A name from GNU's own long-name header: ends in a NUL.
fn long_name(mut body: Vec<u8>) -> Result<Vec<u8>> {
    if body.pop_if(|last| *last == 0).is_none() || body.contains(&0) || body.is_empty() {
        return Err(invalid("a long name is empty or not ended by its only NUL"));
    }
    Ok(body)
}

/// Fills the block; `false` if the archive ended before it.
fn read_block(inner: &mut impl Read, block: &mut [u8; BLOCK]) -> Result<bool> {
    let mut filled = 0;
    while filled < BLOCK {
        match inner.read(&mut block[filled..]) {
            Ok(0) if filled == 0 => return Ok(false),
            Ok(0) => return Err(invalid("the archive ends within a header")),
            Ok(read) => filled += read,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(read_error("reading a tar header", error)),
        }
    }
    Ok(true)
}

fn until_nul(field: &[u8]) -> &[u8] {
    field.split(|byte| *byte == 0).next().unwrap_or_default()
}

/// The archive is damaged, hostile or beyond what is supported.
pub(super) fn invalid(problem: impl fmt::Display) -> Error {
    Error::new(Reason::InvalidArchive, format!("tar: {problem}"))
}

/// A name from an archive in an error's line: quoted, escaped and cut.
pub(super) fn shown(name: &[u8]) -> String {
    let cut = &name[..name.len().min(200)];
    format!("\"{}\"", cut.escape_ascii())
}

#[cfg(test)]
mod tests;
