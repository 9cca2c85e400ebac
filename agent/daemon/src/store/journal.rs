//! The journal: numbered, checksummed records in two files that take turns.
//!
//! While the flusher moves one file's records into the database, the writer appends to the other. A record is
//!
//! ```text
//! length of body: u32 | CRC-32 of number and body: u32 | number: u64 | body: writes
//! write: table: u8 | kind: u8 | length of key: u32 | key | length of value: u32 | value
//! ```
//!
//! little-endian. Numbers rise by one; the database says which it has. Reading ends at the first record that is not
//! whole, and replay at the first gap, so that a file torn by a power cut yields a prefix of what was committed.

use std::fs::{File, OpenOptions};
use std::io::Read;
use std::os::unix::fs::{FileExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use flate2::Crc;

use super::Write;
use super::database::TABLES;
use crate::error::{Error, Result};

const HEADER: usize = 16;
const PUT: u8 = 1;
const DELETE: u8 = 2;

/// One commit.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Record {
    pub(super) number: u64,
    pub(super) writes: Vec<Write>,
}

/// Both files, the active one and where it ends.
#[derive(Debug)]
pub(super) struct Journal {
    files: [Segment; 2],
    active: usize,
    end: u64,
}

#[derive(Debug)]
pub(super) struct Segment {
    file: File,
    path: PathBuf,
}

impl Segment {
    /// Forgets the records.
    pub(super) fn clear(&self) -> Result<()> {
        self.file.set_len(0).map_err(|error| Error::io(format!("emptying {}", self.path.display()), &error))
    }

    fn try_clone(&self) -> Result<Self> {
        let file = self.file.try_clone();
        let file = file.map_err(|error| Error::io(format!("duplicating {}", self.path.display()), &error))?;
        Ok(Self { file, path: self.path.clone() })
    }
}

/// The two files beside the database.
pub(super) fn paths(database: &Path) -> [PathBuf; 2] {
    [".journal-a", ".journal-b"].map(|suffix| {
        let mut path = database.as_os_str().to_owned();
        path.push(suffix);
        path.into()
    })
}

impl Journal {
    /// Opens the files beside the database and returns the records after number `applied`.
    pub(super) fn open(database: &Path, applied: u64) -> Result<(Self, Vec<Record>)> {
        let mut records = Vec::new();
        let mut open = |path: PathBuf| -> Result<Segment> {
            let failed = |error| Error::io(format!("opening the journal {}", path.display()), &error);
            let mut options = OpenOptions::new();
            options.read(true).write(true).create(true).truncate(false).mode(0o600);
            let mut file = options.open(&path).map_err(failed)?;
            let mut bytes = Vec::new();
            file.read_to_end(&mut bytes).map_err(failed)?;
            records.extend(decode_all(&bytes));
            Ok(Segment { file, path })
        };
        let [a, b] = paths(database);
        let files = [open(a)?, open(b)?];
        records.retain(|record| record.number > applied);
        records.sort_by_key(|record| record.number);
        let mut next = applied;
        records.retain(|record| {
            next += u64::from(record.number == next + 1);
            record.number == next
        });
        Ok((Self { files, active: 0, end: 0 }, records))
    }

    /// Forgets all records of both files.
    pub(super) fn clear(&self) -> Result<()> {
        self.files.iter().try_for_each(Segment::clear)
    }

    /// Appends encoded records with one system call; a failed attempt leaves no trace.
    pub(super) fn append(&mut self, bytes: &[u8]) -> Result<()> {
        let segment = &self.files[self.active];
        if let Err(error) = segment.file.write_all_at(bytes, self.end) {
            // What is left of a torn record would end the reading of all that follow.
            segment.file.set_len(self.end).map_err(|error| {
                Error::io(format!("cutting a torn record off the journal {}", segment.path.display()), &error)
            })?;
            return Err(Error::io(format!("writing the journal {}", segment.path.display()), &error));
        }
        self.end += bytes.len() as u64;
        Ok(())
    }

    /// Bytes in the active file.
    pub(super) const fn len(&self) -> u64 {
        self.end
    }

    /// Makes the other, empty file the active one; returns the one that was, for the flusher to clear.
    pub(super) fn switch(&mut self) -> Result<Segment> {
        let old = self.files[self.active].try_clone()?;
        self.active = 1 - self.active;
        self.end = 0;
        Ok(old)
    }
}

/// Adds the encoded record to `out`.
pub(super) fn encode(number: u64, writes: &[Write], out: &mut Vec<u8>) {
    let start = out.len();
    out.extend([0; HEADER]);
    out[start + 8..].copy_from_slice(&number.to_le_bytes());
    for write in writes {
        let (table, kind, key, value) = match write {
            Write::Put { table, key, value } => (*table, PUT, key, value.as_slice()),
            Write::Delete { table, key } => (*table, DELETE, key, &[][..]),
        };
        let table = TABLES.iter().position(|candidate| *candidate == table).unwrap_or_default();
        out.extend(u8::try_from(table).map(|table| [table, kind]).unwrap_or_default());
        for bytes in [key.as_bytes(), value] {
            out.extend(u32::try_from(bytes.len()).unwrap_or(u32::MAX).to_le_bytes());
            out.extend(bytes);
        }
    }
    let length = u32::try_from(out.len() - start - HEADER).unwrap_or(u32::MAX);
    let mut crc = Crc::new();
    crc.update(&out[start + 8..]);
    out[start..start + 4].copy_from_slice(&length.to_le_bytes());
    out[start + 4..start + 8].copy_from_slice(&crc.sum().to_le_bytes());
}

fn decode_all(mut bytes: &[u8]) -> Vec<Record> {
    let mut records = Vec::new();
    while let Some(record) = decode(&mut bytes) {
        records.push(record);
    }
    records
}

/// The record at the start of `bytes`, which then start after it; `None` if there is no whole one.
fn decode(bytes: &mut &[u8]) -> Option<Record> {
    let mut rest = *bytes;
    let length = usize::try_from(take_u32(&mut rest)?).ok()?;
    let sum = take_u32(&mut rest)?;
    let checked = rest.get(..length.checked_add(8)?)?;
    let mut crc = Crc::new();
    crc.update(checked);
    if crc.sum() != sum {
        return None;
    }
    *bytes = &rest[checked.len()..];
    let (number, mut body) = checked.split_first_chunk()?;
    let mut writes = Vec::new();
    while !body.is_empty() {
        let ([table, kind], rest) = body.split_first_chunk()?;
        body = rest;
        let table = *TABLES.get(usize::from(*table))?;
        let key = String::from_utf8(take_bytes(&mut body)?.to_vec()).ok()?;
        let value = take_bytes(&mut body)?.to_vec();
        writes.push(match *kind {
            PUT => Write::Put { table, key, value },
            DELETE => Write::Delete { table, key },
            _ => return None,
        });
    }
    Some(Record { number: u64::from_le_bytes(*number), writes })
}

fn take_u32(bytes: &mut &[u8]) -> Option<u32> {
    let (head, rest) = bytes.split_first_chunk()?;
    *bytes = rest;
    Some(u32::from_le_bytes(*head))
}

fn take_bytes<'a>(bytes: &mut &'a [u8]) -> Option<&'a [u8]> {
    let length = usize::try_from(take_u32(bytes)?).ok()?;
    let (head, rest) = bytes.split_at_checked(length)?;
    *bytes = rest;
    Some(head)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn writes() -> impl Strategy<Value = Vec<Write>> {
        let table = prop::sample::select(&TABLES[..]);
        let write = (table, ".{0,20}", prop::option::of(prop::collection::vec(any::<u8>(), 0..50)));
        prop::collection::vec(
            write.prop_map(|(table, key, value)| match value {
                Some(value) => Write::Put { table, key, value },
                None => Write::Delete { table, key },
            }),
            0..5,
        )
    }

    proptest! {
        #[test]
        fn a_torn_journal_yields_a_prefix(commits in prop::collection::vec(writes(), 1..8), cut in 0.0..=1.0f64, flip: u8) {
            let mut bytes = Vec::new();
            let mut ends = vec![0];
            for (number, writes) in commits.iter().enumerate() {
                encode(number as u64, writes, &mut bytes);
                ends.push(bytes.len());
            }
            #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "a position in the journal")]
            let cut = (cut * bytes.len() as f64) as usize;
            if let Some(byte) = bytes.get_mut(cut) {
                *byte ^= flip;
            }
            let read = decode_all(&bytes);
            let whole = if flip == 0 { commits.len() } else { ends.iter().filter(|end| **end <= cut).count() - 1 };
            prop_assert_eq!(read.len(), whole.min(commits.len()));
            for (record, (number, writes)) in read.iter().zip(commits.iter().enumerate()) {
                prop_assert_eq!(record.number, number as u64);
                prop_assert_eq!(&record.writes, writes);
            }
        }

        #[test]
        fn garbage_is_read_without_harm(bytes in prop::collection::vec(any::<u8>(), 0..300)) {
            decode_all(&bytes);
        }
    }
}
