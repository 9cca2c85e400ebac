//! Superblock, inodes and directories: what is written after the data of all files.

use std::fs::File;
use std::os::unix::fs::FileExt;

use super::directory::{self, Entry, FileType};
use super::output::Output;
use super::{BLOCK, Data, INODE};
use crate::error::{Error, Reason, Result};
use crate::images::tar::Xattr;
use crate::images::tree::{Content, Node, NodeId, Tree};

const MAGIC: u32 = 0xe0f5_e1e2;
const SUPERBLOCK_OFFSET: usize = 1024;
/// The superblock has a checksum; inodes have times of their own.
const FEATURES: u32 = 0x1 | 0x2;
/// Inodes are numbered by their place in units of 32 bytes.
const SLOT: usize = 32;
/// The first inode, the root, does not lie at 0: a file must not have the number 0. It lies here, or at the next block if it
/// does not fit.
const FIRST: u64 = INODE as u64;
const XATTR_HEADER: usize = 12;

/// `i_format`: extended inode, data in whole blocks.
const FORMAT_PLAIN: u16 = 1;
/// `i_format`: extended inode, the last partial block stands beside it.
const FORMAT_INLINE: u16 = 1 | 2 << 1;

/// Where an inode will be and how often it is named.
#[derive(Debug, Default, Clone, Copy)]
struct Placed {
    /// Offset in the metadata; 0: it has no name any more.
    offset: u64,
    links: u32,
    parent: NodeId,
    /// Bytes of a directory.
    directory_size: u64,
}

/// Whether a tail of so many bytes may stand beside an inode with these attributes: all of it must fit one block.
pub(super) fn inline_fits(xattrs: &[Xattr], tail: usize) -> bool {
    INODE + xattr_size(xattrs) + tail <= BLOCK
}

/// Writes all of it; returns the superblock, which is to be written last.
pub(super) fn write(output: &mut Output, tree: &Tree, tails: &File, uuid: [u8; 16]) -> Result<[u8; BLOCK]> {
    let placed = place(tree)?;
    let starts = write_large_directories(output, tree, &placed)?;
    let metadata_block = output.block()?;
    let mut written = 0u64;
    let mut buffer = Vec::new();
    for (id, (node, place)) in tree.nodes.iter().zip(&placed).enumerate() {
        if place.offset == 0 {
            continue;
        }
        buffer.clear();
        buffer.resize(usize::try_from(place.offset - written).unwrap_or_default(), 0);
        inode(&mut buffer, tree, &placed, id, node, starts[id], tails)?;
        output.write(&buffer)?;
        written += buffer.len() as u64;
    }
    output.align()?;
    let inodes = placed.iter().filter(|place| place.offset != 0).count() as u64;
    let root = placed[0].offset / SLOT as u64;
    Ok(superblock(output.block()?, metadata_block, root, inodes, uuid))
}

/// Counts names and gives every inode that has one its place, in the order of the list.
fn place(tree: &Tree) -> Result<Vec<Placed>> {
    let mut placed = vec![Placed::default(); tree.nodes.len()];
    placed[0].links = 2;
    let mut pending = vec![0];
    while let Some(id) = pending.pop() {
        let Content::Directory(directory) = &tree.nodes[id].content else { continue };
        placed[id].directory_size = directory::size(names(&tree.nodes[id]));
        for child in directory.children.values().copied() {
            if matches!(tree.nodes[child].content, Content::Directory(_)) {
                placed[id].links += 1;
                placed[child] = Placed { links: 2, parent: id, ..Placed::default() };
                pending.push(child);
            } else {
                placed[child].links += 1;
            }
        }
    }
    let mut next = FIRST;
    for (node, place) in tree.nodes.iter().zip(&mut placed).filter(|(_, place)| place.links > 0) {
        let beside = tail_length(node, place.directory_size).unwrap_or_default();
        let length = (INODE + xattr_size(&node.attributes.xattrs) + beside) as u64;
        let room = BLOCK as u64 - next % BLOCK as u64;
        if length > room {
            next += room;
        }
        place.offset = next;
        next = (next + length).next_multiple_of(SLOT as u64);
    }
    if next / BLOCK as u64 > u64::from(u32::MAX) {
        return Err(Error::new(Reason::LimitExceeded, "a layer has more blocks than EROFS can count"));
    }
    Ok(placed)
}

/// Names of a directory in order, with "." and "..".
fn names(node: &Node) -> impl Iterator<Item = &[u8]> {
    let mut names: Vec<&[u8]> = vec![b".", b".."];
    if let Content::Directory(directory) = &node.content {
        names.extend(directory.children.keys().map(|name| &**name));
    }
    names.sort_unstable();
    names.into_iter()
}

/// Bytes that stand beside the inode; `None` if no data does.
fn tail_length(node: &Node, directory_size: u64) -> Option<usize> {
    let partial = |size: u64| usize::try_from(size % BLOCK as u64).unwrap_or_default();
    let tail = match &node.content {
        Content::Directory(_) => partial(directory_size),
        Content::Symlink(target, None) => target.len(),
        Content::File(Data { tail: Some(_), size, .. }) => partial(*size),
        _ => 0,
    };
    (tail > 0 && inline_fits(&node.attributes.xattrs, tail)).then_some(tail)
}

/// Writes the blocks of directories that do not stand beside their inodes; returns where each begins.
fn write_large_directories(output: &mut Output, tree: &Tree, placed: &[Placed]) -> Result<Vec<u32>> {
    let mut starts = vec![0; tree.nodes.len()];
    for (id, (node, place)) in tree.nodes.iter().zip(placed).enumerate() {
        let beside = tail_length(node, place.directory_size).unwrap_or_default() as u64;
        if place.directory_size > beside {
            starts[id] = output.block()?;
            let bytes = directory_bytes(tree, placed, id, node);
            let whole = usize::try_from(place.directory_size - beside).unwrap_or_default();
            output.write(&bytes[..whole])?;
            output.align()?;
        }
    }
    Ok(starts)
}

fn directory_bytes(tree: &Tree, placed: &[Placed], id: NodeId, node: &Node) -> Vec<u8> {
    let Content::Directory(directory) = &node.content else { return Vec::new() };
    let number = |id: NodeId| placed[id].offset / SLOT as u64;
    let own = Entry { name: b".", node: number(id), file_type: FileType::Directory };
    let parent = Entry { name: b"..", node: number(placed[id].parent), file_type: FileType::Directory };
    let mut entries = vec![own, parent];
    entries.extend(directory.children.iter().map(|(name, child)| {
        let file_type = match tree.nodes[*child].content {
            Content::Directory(_) => FileType::Directory,
            Content::File(_) => FileType::Regular,
            Content::Symlink(..) => FileType::Symlink,
            Content::CharDevice(..) => FileType::CharDevice,
            Content::BlockDevice(..) => FileType::BlockDevice,
            Content::Fifo => FileType::Fifo,
        };
        Entry { name, node: number(*child), file_type }
    }));
    entries.sort_unstable_by_key(|entry| entry.name);
    directory::encode(&entries)
}

/// Adds the inode, its attributes and its tail to `out`.
fn inode(
    out: &mut Vec<u8>,
    tree: &Tree,
    placed: &[Placed],
    id: NodeId,
    node: &Node,
    directory_start: u32,
    tails: &File,
) -> Result<()> {
    let attributes = &node.attributes;
    let place = &placed[id];
    // What `i_u` holds: the first block, or the device number.
    let (file_type, size, union) = match &node.content {
        Content::Directory(_) => (0o040_000, place.directory_size, directory_start),
        Content::File(data) => (0o100_000, data.size, data.start),
        Content::Symlink(target, data) => (0o120_000, target.len() as u64, data.map_or(0, |data| data.start)),
        Content::CharDevice(major, minor) => (0o020_000, 0, device_number(*major, *minor)?),
        Content::BlockDevice(major, minor) => (0o060_000, 0, device_number(*major, *minor)?),
        Content::Fifo => (0o010_000, 0, 0),
    };
    let tail = tail_length(node, place.directory_size);
    let xattrs = xattr_size(&attributes.xattrs);
    // Their count is in units of four bytes, the header being one.
    let xattr_count = if xattrs == 0 { 0 } else { (xattrs - XATTR_HEADER) / 4 + 1 };
    out.extend((if tail.is_some() { FORMAT_INLINE } else { FORMAT_PLAIN }).to_le_bytes());
    out.extend(u16::try_from(xattr_count).unwrap_or(u16::MAX).to_le_bytes());
    out.extend((file_type | attributes.mode).to_le_bytes());
    out.extend([0; 2]);
    out.extend(size.to_le_bytes());
    out.extend(union.to_le_bytes());
    out.extend(u32::try_from(id + 1).unwrap_or(u32::MAX).to_le_bytes());
    out.extend(attributes.uid.to_le_bytes());
    out.extend(attributes.gid.to_le_bytes());
    out.extend(attributes.mtime.seconds.to_le_bytes());
    out.extend(attributes.mtime.nanos.to_le_bytes());
    out.extend(place.links.to_le_bytes());
    out.extend([0; 16]);
    write_xattrs(out, &attributes.xattrs);
    let Some(tail) = tail else { return Ok(()) };
    match &node.content {
        Content::Directory(_) => {
            let bytes = directory_bytes(tree, placed, id, node);
            out.extend(&bytes[bytes.len() - tail..]);
        }
        Content::Symlink(target, _) => out.extend(target),
        Content::File(Data { tail: Some(offset), .. }) => {
            let old = out.len();
            out.resize(old + tail, 0);
            let read = tails.read_exact_at(&mut out[old..], *offset);
            read.map_err(|error| Error::io("reading a scratch file", &error))?;
        }
        _ => {}
    }
    Ok(())
}

/// The kernel's 32-bit form: 12 bits of major and 20 of minor (new_encode_dev).
fn device_number(major: u32, minor: u32) -> Result<u32> {
    if major > 0xfff || minor > 0xf_ffff {
        let line = format!("device {major}:{minor} is beyond Linux's 12 and 20 bits");
        return Err(Error::new(Reason::InvalidArchive, line));
    }
    Ok(minor & 0xff | major << 8 | (minor & !0xff) << 12)
}

/// Number of a name's prefix, and the rest of the name.
fn xattr_name(name: &[u8]) -> (u8, &[u8]) {
    match name {
        b"system.posix_acl_access" => (2, b""),
        b"system.posix_acl_default" => (3, b""),
        _ => [(1, &b"user."[..]), (4, b"trusted."), (6, b"security.")]
            .into_iter()
            .find_map(|(number, prefix)| Some((number, name.strip_prefix(prefix)?)))
            .unwrap_or((0, name)),
    }
}

/// Bytes of all attributes beside an inode; 0 if there are none.
fn xattr_size(xattrs: &[Xattr]) -> usize {
    if xattrs.is_empty() {
        return 0;
    }
    let entry = |xattr: &Xattr| (4 + xattr_name(&xattr.name).1.len() + xattr.value.len()).next_multiple_of(4);
    XATTR_HEADER + xattrs.iter().map(entry).sum::<usize>()
}

fn write_xattrs(out: &mut Vec<u8>, xattrs: &[Xattr]) {
    if xattrs.is_empty() {
        return;
    }
    out.extend([0; XATTR_HEADER]);
    for xattr in xattrs {
        let (prefix, name) = xattr_name(&xattr.name);
        out.extend([u8::try_from(name.len()).unwrap_or(u8::MAX), prefix]);
        out.extend(u16::try_from(xattr.value.len()).unwrap_or(u16::MAX).to_le_bytes());
        out.extend(name);
        out.extend(&xattr.value);
        let length = 4 + name.len() + xattr.value.len();
        out.extend(std::iter::repeat_n(0, length.next_multiple_of(4) - length));
    }
}

/// Block 0, with its checksum.
fn superblock(blocks: u32, metadata_block: u32, root: u64, inodes: u64, uuid: [u8; 16]) -> [u8; BLOCK] {
    let mut fields = Vec::with_capacity(128);
    fields.extend(MAGIC.to_le_bytes());
    fields.extend(0u32.to_le_bytes());
    fields.extend(FEATURES.to_le_bytes());
    fields.extend([BLOCK.trailing_zeros().to_le_bytes()[0], 0]);
    fields.extend(u16::try_from(root).unwrap_or_default().to_le_bytes());
    fields.extend(inodes.to_le_bytes());
    // Time of building, for inodes without their own: there are none.
    fields.extend([0; 12]);
    fields.extend(blocks.to_le_bytes());
    fields.extend(metadata_block.to_le_bytes());
    // Shared attributes: there are none.
    fields.extend([0; 4]);
    fields.extend(uuid);
    // All else stays zero: no volume name, no incompatible feature, no other device.
    let mut block = [0; BLOCK];
    block[SUPERBLOCK_OFFSET..SUPERBLOCK_OFFSET + fields.len()].copy_from_slice(&fields);
    let sum = crc32c(&block[SUPERBLOCK_OFFSET..]);
    block[SUPERBLOCK_OFFSET + 4..SUPERBLOCK_OFFSET + 8].copy_from_slice(&sum.to_le_bytes());
    block
}

/// CRC-32C (Castagnoli), as the kernel's crc32c() with a seed of all ones: not inverted at the end.
fn crc32c(bytes: &[u8]) -> u32 {
    bytes.iter().fold(u32::MAX, |crc, byte| {
        (0..8).fold(crc ^ u32::from(*byte), |crc, _| crc >> 1 ^ if crc & 1 == 1 { 0x82f6_3b78 } else { 0 })
    })
}
