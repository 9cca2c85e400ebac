//! Directories on disk: blocks of entries, sorted by the bytes of their names.
//!
//! A block starts with its entries (node number, offset of the name in the block, type), then come their names without
//! separators; the last name ends at the block's or directory's end or a NUL. "." and ".." stand among the others.

use super::BLOCK;

/// Bytes of an entry without its name.
const ENTRY: usize = 12;

/// Type of a directory entry (FT_* of fs/fs_types.h).
#[derive(Debug, Clone, Copy)]
#[repr(u8)]
pub(super) enum FileType {
    Regular = 1,
    Directory = 2,
    CharDevice = 3,
    BlockDevice = 4,
    Fifo = 5,
    Symlink = 7,
}

/// One entry.
#[derive(Debug, Clone, Copy)]
pub(super) struct Entry<'a> {
    pub(super) name: &'a [u8],
    pub(super) node: u64,
    pub(super) file_type: FileType,
}

/// Bytes of a directory with these names, in order.
pub(super) fn size<'a>(names: impl Iterator<Item = &'a [u8]>) -> u64 {
    let (mut whole, mut used) = (0, 0);
    for name in names {
        let needed = ENTRY + name.len();
        if used + needed > BLOCK {
            whole += BLOCK as u64;
            used = 0;
        }
        used += needed;
    }
    whole + used as u64
}

/// Encodes entries that are in order; as long as [`size`] says.
pub(super) fn encode(entries: &[Entry<'_>]) -> Vec<u8> {
    let mut out = Vec::new();
    let mut rest = entries;
    while !rest.is_empty() {
        let mut used = 0;
        let fitting = rest.iter().take_while(|entry| {
            used += ENTRY + entry.name.len();
            used <= BLOCK
        });
        let (block, later) = rest.split_at(fitting.count());
        out.resize(out.len().next_multiple_of(BLOCK), 0);
        let mut name_offset = block.len() * ENTRY;
        for entry in block {
            out.extend(entry.node.to_le_bytes());
            out.extend(u16::try_from(name_offset).unwrap_or_default().to_le_bytes());
            out.extend([entry.file_type as u8, 0]);
            name_offset += entry.name.len();
        }
        block.iter().for_each(|entry| out.extend(entry.name));
        rest = later;
    }
    out
}
