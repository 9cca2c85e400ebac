//! The digest by which a layer's file is known: that of fs-verity (Documentation/filesystems/fsverity.rst), with SHA-256,
//! blocks of 4096 bytes and no salt, as `fsverity digest FILE` prints it.
//!
//! It is the root of a tree of hashes: each block of the file is hashed, each 128 hashes make a block that is hashed in its
//! turn. So the file's first block may come last, which is when an EROFS image's superblock is written, and no file is
//! read again to be hashed.

use sha2::{Digest as _, Sha256};

/// Bytes of a block, of the file and of the tree.
pub(super) const BLOCK: usize = 4096;
const HASH: usize = 32;

type Hash = [u8; HASH];

/// Hashes a file: its second block first, then on to the end, its first block last.
#[derive(Debug)]
pub(super) struct Hasher {
    levels: Vec<Level>,
    /// Blocks so far, the first one not counted.
    blocks: u64,
    /// Of a block of zeros: layers have many of them.
    zero: Hash,
}

/// One level of the tree.
#[derive(Debug)]
struct Level {
    /// The level's first block, which is hashed last: its first hash comes last.
    first: Option<Vec<u8>>,
    /// The block that is being filled.
    block: Vec<u8>,
}

impl Level {
    /// Empty but for the place of the hash that comes last.
    fn new() -> Self {
        let mut block = Vec::with_capacity(BLOCK);
        block.resize(HASH, 0);
        Self { first: None, block }
    }

    fn is_empty(&self) -> bool {
        self.first.is_none() && self.block.len() == HASH
    }
}

impl Hasher {
    pub(super) fn new() -> Self {
        Self { levels: vec![Level::new()], blocks: 0, zero: hash(&[0; BLOCK]) }
    }

    /// Takes the next block; one that is shorter is the last one and counts as filled up with zeros.
    pub(super) fn block(&mut self, block: &[u8]) {
        self.blocks += 1;
        let hash = hash(block);
        self.push(0, hash);
    }

    /// Takes the next block, which is all zeros.
    pub(super) fn zero(&mut self) {
        self.blocks += 1;
        self.push(0, self.zero);
    }

    fn push(&mut self, mut at: usize, mut hash: Hash) {
        loop {
            if self.levels.len() == at {
                self.levels.push(Level::new());
            }
            let level = &mut self.levels[at];
            level.block.extend(hash);
            if level.block.len() < BLOCK {
                return;
            }
            let full = std::mem::replace(&mut level.block, Vec::with_capacity(BLOCK));
            if level.first.is_none() {
                // Its place in the level above is free from the start.
                level.first = Some(full);
                if self.levels.len() == at + 1 {
                    self.levels.push(Level::new());
                }
                return;
            }
            hash = self::hash(&full);
            at += 1;
        }
    }

    /// Takes the first block; returns the digest of the file of `size` bytes, in hexadecimal digits.
    pub(super) fn finish(mut self, first: &[u8], size: u64) -> String {
        let mut root = hash(first);
        if self.blocks == 0 {
            return descriptor(&root, size);
        }
        // From the bottom to the top: what is not full is filled up with zeros, then the first block gets its first hash.
        for at in 0.. {
            let block = std::mem::take(&mut self.levels[at].block);
            let (mut head, rest) = match self.levels[at].first.take() {
                Some(head) => (head, block),
                None => (block, Vec::new()),
            };
            if !rest.is_empty() {
                self.push(at + 1, hash(&rest));
            }
            head.resize(BLOCK, 0);
            head[..HASH].copy_from_slice(&root);
            root = hash(&head);
            if self.levels.get(at + 1).is_none_or(Level::is_empty) {
                break;
            }
        }
        descriptor(&root, size)
    }
}

fn hash(block: &[u8]) -> Hash {
    let mut hash = Sha256::new();
    hash.update(block);
    if block.len() < BLOCK {
        hash.update(&[0; BLOCK][block.len()..]);
    }
    hash.finalize().into()
}

/// The digest of `struct fsverity_descriptor`.
fn descriptor(root: &Hash, size: u64) -> String {
    const VERSION: u8 = 1;
    const SHA256: u8 = 1;
    let mut bytes = [0; 256];
    bytes[..3].copy_from_slice(&[VERSION, SHA256, 12]);
    bytes[8..16].copy_from_slice(&size.to_le_bytes());
    bytes[16..16 + HASH].copy_from_slice(root);
    hex::encode(Sha256::digest(bytes))
}

#[cfg(test)]
mod tests {
    use super::*;

    const FANOUT: usize = BLOCK / HASH;

    /// The digest as the kernel's description has it: level after level.
    fn plainly(bytes: &[u8]) -> String {
        let mut hashes: Vec<Hash> = bytes.chunks(BLOCK).map(hash).collect();
        while hashes.len() > 1 {
            hashes = hashes.chunks(FANOUT).map(|hashes| hash(&hashes.concat())).collect();
        }
        descriptor(&hashes[0], bytes.len() as u64)
    }

    fn hashed(bytes: &[u8]) -> String {
        let mut hasher = Hasher::new();
        for block in bytes.chunks(BLOCK).skip(1) {
            if block.len() == BLOCK && block.iter().all(|byte| *byte == 0) {
                hasher.zero();
            } else {
                hasher.block(block);
            }
        }
        hasher.finish(&bytes[..bytes.len().min(BLOCK)], bytes.len() as u64)
    }

    #[test]
    fn the_digest_is_that_of_the_tree_whatever_the_size() {
        let blocks = [1, 2, 3, 127, 128, 129, 255, 256, 257, 128 * 128 - 1, 128 * 128, 128 * 128 + 1, 128 * 129 + 5];
        for blocks in blocks {
            for less in [0, 1, BLOCK - 1] {
                let bytes: Vec<u8> = (0..blocks * BLOCK - less)
                    .map(|at| if at % (3 * BLOCK) < BLOCK { 0 } else { u8::try_from(at / 7 % 251).unwrap() })
                    .collect();
                assert_eq!(hashed(&bytes), plainly(&bytes), "{blocks} blocks less {less}");
            }
        }
    }

    #[test]
    fn the_digest_is_that_of_the_tool() {
        // printf 'hull' >f; truncate -s 1M f; fsverity digest f
        let mut bytes = b"hull".to_vec();
        assert_eq!(hashed(&bytes), "12deacb17f48ec7c707b1b195c56127fcbad983dca4301dbf8b9668321dbe13b");
        bytes.resize(1 << 20, 0);
        assert_eq!(hashed(&bytes), "333fbd02513902e9cf81810021db89ccdab6f3b77c6bfd76280ec718fce644fb");
    }
}
