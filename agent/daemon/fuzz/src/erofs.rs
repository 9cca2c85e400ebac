//! A second reader of EROFS images, from the kernel's description of the format alone: whatever it finds wrong, hulld wrote.

use std::collections::{BTreeMap, BTreeSet};

const BLOCK: usize = 4096;
const SUPERBLOCK: usize = 1024;
const INODE: usize = 64;
const DIRENT: usize = 12;

/// What a path of an image is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Seen {
    /// Type and permissions.
    pub mode: u16,
    /// Owner.
    pub uid: u32,
    /// Contents of a file, target of a link; empty otherwise.
    pub data: Vec<u8>,
    /// Major and minor number of a device as the kernel packs them.
    pub device: u32,
    /// Number of the inode.
    pub inode: u64,
    /// Bytes of extended attributes.
    pub xattrs: usize,
}

struct Image<'a> {
    bytes: &'a [u8],
    metadata: usize,
}

struct Inode {
    seen: Seen,
    size: usize,
    links: u32,
    layout: u16,
    start: usize,
    beside: usize,
}

/// Everything in the image, by path; the root is "".
///
/// # Panics
/// If the image is not as it must be.
pub fn read(bytes: &[u8]) -> BTreeMap<Vec<u8>, Seen> {
    assert!(bytes.len() >= 2 * BLOCK && bytes.len().is_multiple_of(BLOCK), "{} bytes are no image", bytes.len());
    let image = Image { bytes, metadata: number(bytes, SUPERBLOCK + 40, 4) * BLOCK };
    assert_eq!(number(bytes, SUPERBLOCK, 4), 0xe0f5_e1e2, "magic");
    assert_eq!(bytes[SUPERBLOCK + 12], 12, "bits of a block");
    assert_eq!(number(bytes, SUPERBLOCK + 36, 4) * BLOCK, bytes.len(), "blocks");
    let root = number(bytes, SUPERBLOCK + 14, 2) as u64;
    let mut all = BTreeMap::new();
    let mut named: BTreeMap<u64, (u32, u32)> = BTreeMap::new();
    let mut pending = vec![(Vec::new(), root, root)];
    let mut entered = BTreeSet::new();
    while let Some((path, nid, parent)) = pending.pop() {
        let inode = image.inode(nid);
        named.entry(nid).or_insert((inode.links, 0)).1 += 1;
        if inode.seen.mode >> 12 == 4 {
            assert!(entered.insert(nid), "a directory has two names");
            image.directory(&inode, nid, parent, &path, &mut pending);
        }
        assert!(all.insert(path, inode.seen).is_none(), "a path comes twice");
    }
    for (nid, (links, names)) in named {
        if !entered.contains(&nid) {
            assert_eq!(links, names, "links of inode {nid}");
        }
    }
    assert_eq!(number(bytes, SUPERBLOCK + 16, 8), all.values().map(|seen| seen.inode).collect::<BTreeSet<_>>().len(), "inodes");
    all
}

impl Image<'_> {
    fn inode(&self, nid: u64) -> Inode {
        let at = self.metadata + usize::try_from(nid).expect("a number") * 32;
        let raw = &self.bytes[at..at + INODE];
        let format = number(raw, 0, 2) as u16;
        assert_eq!(format & 1, 1, "an extended inode");
        let icount = number(raw, 2, 2);
        let xattrs = if icount == 0 { 0 } else { 12 + (icount - 1) * 4 };
        let mode = number(raw, 4, 2) as u16;
        let mut inode = Inode {
            seen: Seen {
                mode,
                uid: number(raw, 24, 4) as u32,
                data: Vec::new(),
                device: if matches!(mode >> 12, 2 | 6) { number(raw, 16, 4) as u32 } else { 0 },
                inode: nid,
                xattrs,
            },
            size: number(raw, 8, 8),
            links: number(raw, 44, 4) as u32,
            layout: format >> 1 & 7,
            start: number(raw, 16, 4) * BLOCK,
            beside: at + INODE + xattrs,
        };
        assert!(at / BLOCK == (inode.beside - 1) / BLOCK || xattrs > BLOCK - INODE, "attributes lie beside their inode");
        if matches!(mode >> 12, 8 | 10) {
            inode.seen.data = self.data(&inode);
        }
        inode
    }

    fn data(&self, inode: &Inode) -> Vec<u8> {
        let tail = match inode.layout {
            0 => 0,
            2 => inode.size % BLOCK,
            other => panic!("layout {other}"),
        };
        let whole = inode.size - tail;
        let mut data = if whole == 0 { Vec::new() } else { self.bytes[inode.start..inode.start + whole].to_vec() };
        if tail > 0 {
            assert_eq!(inode.beside / BLOCK, (inode.beside + tail - 1) / BLOCK, "a tail lies in one block");
            data.extend(&self.bytes[inode.beside..inode.beside + tail]);
        }
        data
    }

    fn directory(&self, inode: &Inode, nid: u64, parent: u64, path: &[u8], pending: &mut Vec<(Vec<u8>, u64, u64)>) {
        let data = self.data(inode);
        let mut last: Option<Vec<u8>> = None;
        let (mut dots, mut directories) = (0, 0);
        for block in data.chunks(BLOCK) {
            let count = number(block, 8, 2) / DIRENT;
            for index in 0..count {
                let entry = &block[index * DIRENT..(index + 1) * DIRENT];
                let end = if index + 1 < count { number(block, (index + 1) * DIRENT + 8, 2) } else { block.len() };
                let name: Vec<u8> =
                    block[number(entry, 8, 2)..end].iter().copied().take_while(|byte| *byte != 0).collect();
                assert!(!name.is_empty() && name.len() < 256 && !name.contains(&b'/'), "name {name:?}");
                assert!(last.as_ref().is_none_or(|last| *last < name), "names are in order");
                let child = number(entry, 0, 8) as u64;
                match name.as_slice() {
                    b"." => assert_eq!(child, nid),
                    b".." => assert_eq!(child, parent),
                    _ => {
                        let kind = self.inode(child).seen.mode >> 12;
                        let expected = match entry[10] {
                            1 => 8,
                            2 => 4,
                            3 => 2,
                            4 => 6,
                            5 => 1,
                            7 => 10,
                            other => panic!("file type {other}"),
                        };
                        assert_eq!(kind, expected, "type of an entry and its inode");
                        directories += u32::from(kind == 4);
                        let child_path = if path.is_empty() { name.clone() } else { [path, b"/", &name].concat() };
                        pending.push((child_path, child, nid));
                    }
                }
                dots += usize::from(name == b"." || name == b"..");
                last = Some(name);
            }
        }
        assert_eq!((dots, inode.links), (2, directories + 2), "links of a directory");
    }
}

fn number(bytes: &[u8], at: usize, length: usize) -> usize {
    bytes[at..at + length].iter().rev().fold(0, |number, byte| number << 8 | usize::from(*byte))
}
