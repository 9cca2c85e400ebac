//! The layers below a writable one, merged as overlayfs shows them.

use std::collections::BTreeSet;
use std::path::PathBuf;

use rustix::fs::FileType;

use super::root::{Found, Root};
use crate::error::Result;

/// The layers, the topmost first.
#[derive(Debug)]
pub(super) struct Lower(Vec<Root>);

/// The layers that a directory is merged from, the topmost first.
pub(super) type Merged = Vec<usize>;

/// What lower layers have at a path.
#[derive(Debug, Default)]
pub(super) struct Below {
    /// What is seen there.
    pub(super) found: Option<Found>,
    /// If it is a directory: what it is merged from.
    pub(super) merged: Merged,
}

impl Lower {
    pub(super) fn open(layers: &[PathBuf]) -> Result<Self> {
        layers.iter().map(|path| Root::open(path)).collect::<Result<_>>().map(Self)
    }

    /// The root.
    pub(super) fn root(&self) -> Result<Below> {
        self.find(&(0..self.0.len()).collect(), b"")
    }

    /// What is at `path`, whose directory is merged from `parents`.
    pub(super) fn find(&self, parents: &Merged, path: &[u8]) -> Result<Below> {
        let mut below = Below::default();
        for &index in parents {
            let Some(found) = self.0[index].find(path)? else { continue };
            if found.is_whiteout()? {
                break;
            }
            let is_directory = found.kind() == FileType::Directory;
            let last = !is_directory || found.is_opaque()?;
            if is_directory {
                below.merged.push(index);
            }
            if is_directory || below.found.is_none() {
                below.found.get_or_insert(found);
            }
            if last {
                break;
            }
        }
        Ok(below)
    }

    /// Names that any of the layers has in a directory, also those that a layer above hides.
    pub(super) fn names(&self, merged: &Merged, path: &[u8]) -> Result<BTreeSet<Box<[u8]>>> {
        let mut names = BTreeSet::new();
        for &index in merged {
            names.extend(self.0[index].names(path)?);
        }
        Ok(names)
    }
}
