//! The one place that decides which files nobody needs.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};

use super::Shared;
use super::base::BASE_LAYER;
use crate::error::{Error, Result};

/// Files that neither an image nor an import in flight needs.
#[derive(Debug, Default)]
pub(super) struct Unneeded {
    /// Digests of blobs, with their bytes.
    blobs: Vec<(String, u64)>,
    /// Other files, with their bytes.
    files: Vec<(PathBuf, u64)>,
}

/// Finds the blobs and layer files that are not among `needs`. Call with the changes locked.
pub(super) fn unneeded(shared: &Shared, needs: &BTreeMap<String, usize>) -> Result<Unneeded> {
    let blobs = shared.content.list().into_iter().filter(|(digest, _)| !needs.contains_key(digest));
    let layers = needs.keys().map(String::as_str).chain([BASE_LAYER]);
    let kept: BTreeSet<_> = layers.map(|layer| shared.layer_path(layer)).collect();
    let mut files = files(&shared.layers)?;
    files.retain(|(path, _)| !kept.contains(path));
    Ok(Unneeded { blobs: blobs.collect(), files })
}

/// What was set aside because it was damaged.
pub(super) fn damaged(shared: &Shared) -> Result<Unneeded> {
    Ok(Unneeded { blobs: Vec::new(), files: files(&shared.damaged)? })
}

/// Removes blobs and layer files that nobody needs; returns their bytes. Call with the changes locked.
pub(super) fn sweep(shared: &Shared) -> Result<u64> {
    unneeded(shared, &shared.catalog.needs(|_| false))?.remove(shared)
}

impl Unneeded {
    pub(super) fn bytes(&self) -> u64 {
        self.blobs.iter().map(|(_, bytes)| bytes).chain(self.files.iter().map(|(_, bytes)| bytes)).sum()
    }

    /// Removes all of it; returns the bytes.
    pub(super) fn remove(self, shared: &Shared) -> Result<u64> {
        let bytes = self.bytes();
        for (digest, _) in self.blobs {
            shared.content.remove(&digest)?;
        }
        for (path, _) in self.files {
            fs::remove_file(&path).map_err(|error| Error::io(format!("removing {}", path.display()), &error))?;
        }
        Ok(bytes)
    }
}

/// The files of a directory with their bytes.
fn files(directory: &Path) -> Result<Vec<(PathBuf, u64)>> {
    let list = || -> std::io::Result<Vec<_>> {
        fs::read_dir(directory)?
            .map(|entry| {
                let entry = entry?;
                Ok((entry.path(), entry.metadata()?.len()))
            })
            .collect()
    };
    list().map_err(|error| Error::io(format!("listing {}", directory.display()), &error))
}
