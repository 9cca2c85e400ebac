//! Sparse files: where the bytes that an archive stores belong in the file.

use std::collections::VecDeque;
use std::io::Read;

use super::{BLOCK, invalid, number, pax};
use crate::error::{Error, Reason, Result};
use crate::images::limits::{SPARSE_SEGMENTS_MAX, read_error};

/// Stored pieces of a file, in order, and the holes between them.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Segments {
    /// Offset and length; none is empty.
    stored: VecDeque<(u64, u64)>,
    position: u64,
    size: u64,
}

impl Segments {
    /// A file without holes.
    pub(super) fn whole(size: u64) -> Self {
        Self { stored: (size > 0).then_some((0, size)).into_iter().collect(), position: 0, size }
    }

    /// Checks that the pieces are in order, within the file, and all that is stored.
    fn checked(pieces: impl IntoIterator<Item = (u64, u64)>, size: u64, stored: u64) -> Result<Self> {
        let wrong = || invalid("the map of a sparse file is wrong");
        let (mut end, mut sum) = (0u64, 0u64);
        let mut kept = VecDeque::new();
        for (offset, length) in pieces {
            if offset < end {
                return Err(wrong());
            }
            end = offset.checked_add(length).filter(|end| *end <= size).ok_or_else(wrong)?;
            sum += length;
            if length > 0 {
                kept.push_back((offset, length));
            }
        }
        if sum != stored || size > i64::MAX.unsigned_abs() {
            return Err(wrong());
        }
        Ok(Self { stored: kept, position: 0, size })
    }

    pub(super) const fn size(&self) -> u64 {
        self.size
    }

    /// Whether data or a hole comes next, and how much of it, at most `room` bytes. Passes over the hole.
    pub(super) fn next_run(&mut self, room: usize) -> (bool, usize) {
        let (is_data, end) = match self.stored.front() {
            Some((offset, length)) if self.position >= *offset => (true, offset + length),
            Some((offset, _)) => (false, *offset),
            None => (false, self.size),
        };
        let length = usize::try_from(end - self.position).unwrap_or(usize::MAX).min(room);
        if !is_data {
            self.position += length as u64;
        }
        (is_data, length)
    }

    /// So many bytes of a run of data were read.
    pub(super) fn advance(&mut self, read: u64) {
        self.position += read;
        if self.stored.front().is_some_and(|(offset, length)| self.position >= offset + length) {
            self.stored.pop_front();
        }
    }
}

/// GNU's old format: four pieces in the header, 21 in each block that follows while the one before says so.
pub(super) fn read_gnu(header: &[u8; BLOCK], inner: &mut impl Read, stored: u64) -> Result<Segments> {
    let wrong = || invalid("the map of a sparse file is no numbers");
    let size = number::parse(&header[483..495]).and_then(|size| u64::try_from(size).ok()).ok_or_else(wrong)?;
    let mut pieces = Vec::new();
    let mut add = |map: &[u8]| -> Result<()> {
        for piece in map.chunks_exact(24).take_while(|piece| piece[0] != 0) {
            let part = |field| number::parse(field).and_then(|number| u64::try_from(number).ok()).ok_or_else(wrong);
            pieces.push((part(&piece[..12])?, part(&piece[12..])?));
        }
        if pieces.len() > SPARSE_SEGMENTS_MAX {
            return Err(too_many());
        }
        Ok(())
    };
    add(&header[386..482])?;
    let mut more = header[482] != 0;
    while more {
        let mut block = [0; BLOCK];
        inner.read_exact(&mut block).map_err(|error| read_error("reading the map of a sparse file", error))?;
        add(&block[..504])?;
        more = block[504] != 0;
    }
    Segments::checked(pieces, size, stored)
}

/// The PAX formats; also returns how many of the stored bytes were the map itself (format 1.0).
pub(super) fn read_pax(sparse: &pax::Sparse, inner: &mut impl Read, stored: u64) -> Result<(Segments, u64)> {
    let size = sparse.real_size.ok_or_else(|| invalid("a sparse file without a real size"))?;
    let (map, map_bytes) = match sparse.version {
        Some((1, 0)) if sparse.map.is_empty() && sparse.blocks.is_none() => read_map(inner, stored)?,
        Some((0, _)) | None if sparse.blocks == Some(sparse.map.len() as u64 / 2) => (sparse.map.clone(), 0),
        _ => return Err(invalid("a sparse file of an unknown version, or with a map of the wrong length")),
    };
    if map.len() % 2 != 0 {
        return Err(invalid("the map of a sparse file has an offset without a length"));
    }
    if map.len() / 2 > SPARSE_SEGMENTS_MAX {
        return Err(too_many());
    }
    let pieces = map.chunks_exact(2).map(|pair| (pair[0], pair[1]));
    Ok((Segments::checked(pieces, size, stored - map_bytes)?, map_bytes))
}

/// Format 1.0: the data starts with decimal lines, how many pieces, then offset and length of each, padded to a block.
fn read_map(inner: &mut impl Read, stored: u64) -> Result<(Vec<u64>, u64)> {
    let wrong = || invalid("the map of a sparse file is damaged");
    let (mut numbers, mut number, mut digits) = (Vec::new(), 0u64, 0);
    let mut wanted = None;
    let mut read = 0;
    while wanted.is_none_or(|wanted| numbers.len() < wanted) {
        let mut block = [0; BLOCK];
        read += BLOCK as u64;
        if read > stored {
            return Err(wrong());
        }
        inner.read_exact(&mut block).map_err(|error| read_error("reading the map of a sparse file", error))?;
        for byte in block {
            match byte {
                b'0'..=b'9' => {
                    number =
                        number.checked_mul(10).and_then(|n| n.checked_add(u64::from(byte - b'0'))).ok_or_else(wrong)?;
                    digits += 1;
                }
                b'\n' if digits > 0 => {
                    match wanted {
                        None if number > SPARSE_SEGMENTS_MAX as u64 => return Err(too_many()),
                        None => wanted = usize::try_from(number).ok().map(|pieces| pieces * 2),
                        Some(_) => numbers.push(number),
                    }
                    (number, digits) = (0, 0);
                    if wanted == Some(numbers.len()) {
                        break;
                    }
                }
                _ => return Err(wrong()),
            }
        }
    }
    Ok((numbers, read))
}

fn too_many() -> Error {
    Error::new(Reason::LimitExceeded, format!("a sparse file has more than {SPARSE_SEGMENTS_MAX} pieces"))
}
