//! Images: from an archive to layers that are ready to be mounted.
//!
//! ```text
//! DATA/images/content/   OCI image layout: manifests, configs and layers as they came
//! DATA/images/layers/    one EROFS file per layer, named by its diff id, and the base layer of all containers
//! DATA/images/tmp/       scratch; emptied at every start
//! ```
//!
//! An image exists when the database says so, and by then all its files are synced. What the database does not name is
//! removed at the next start. If the database is lost, images are read anew from the content store's index; a layer file
//! that is missing is converted anew from its blob.

mod ahead;
mod base;
mod compression;
mod content;
mod document;
mod erofs;
mod import;
mod install;
mod layer;
mod layers;
mod limits;
mod open;
mod record;
mod reference;
mod registry;
mod remove;
mod tar;
mod tree;

use std::io::Read;
use std::path::{Path, PathBuf};
use std::sync::atomic::AtomicBool;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use crate::error::Result;
use crate::store::Store;
use content::ContentStore;
use registry::Registry;

pub(crate) use import::{ArchiveFormat, ImportOptions, Progress};
pub(crate) use layers::LayerMounts;
pub(crate) use record::{Image, ImageConfig};
pub(crate) use registry::Lease;
pub(crate) use remove::Removed;

/// All images of the node. Clones share them. Methods block on the disk unless they say otherwise.
#[derive(Clone, Debug)]
pub(crate) struct Images {
    shared: Arc<Shared>,
}

#[derive(Debug)]
struct Shared {
    layers: PathBuf,
    scratch: PathBuf,
    content: ContentStore,
    store: Store,
    registry: Registry,
    /// Held while records and files change, so that what one finds unused another does not begin to use.
    changes: Mutex<()>,
}

impl Images {
    /// Opens or makes the images below `data_dir`; sweeps what a crash left.
    pub(crate) fn open(data_dir: &Path, store: Store) -> Result<Self> {
        open::open(&data_dir.join("images"), store).map(|shared| Self { shared: Arc::new(shared) })
    }

    /// Takes an archive in: reads `reader` to its end. One that fails or is cancelled leaves nothing behind.
    ///
    /// # Errors
    /// `INVALID_ARGUMENT`, `INVALID_ARCHIVE`, `LIMIT_EXCEEDED`, `UNSUPPORTED_FEATURE` (another architecture),
    /// `STORAGE_FULL`, `DEADLINE_EXCEEDED` (cancelled). An [`crate::error::Error`] inside the reader's I/O error is
    /// returned as it is.
    pub(crate) fn import(
        &self,
        options: &ImportOptions,
        reader: impl Read + Send,
        progress: &Progress,
        cancelled: &AtomicBool,
    ) -> Result<Arc<Image>> {
        let shared = &self.shared;
        let unpacked = import::unpack(options, reader, progress, cancelled, &shared.content, &shared.scratch)?;
        install::install(shared, unpacked, progress, cancelled)
    }

    /// The image of a reference, a digest, or an unambiguous prefix of a digest's hexadecimal part. Never blocks.
    pub(crate) fn get(&self, reference: &str) -> Result<Arc<Image>> {
        self.shared.registry.get(reference)
    }

    /// All images, newest first. Never blocks.
    pub(crate) fn list(&self) -> Vec<Arc<Image>> {
        self.shared.registry.list()
    }

    /// Removes a name, or with a digest or the last name the image and what no other image uses. `in_use` says which
    /// container, if any, uses the image of a digest; it is asked twice.
    pub(crate) fn remove(&self, reference: &str, in_use: &dyn Fn(&str) -> Option<String>) -> Result<Removed> {
        remove::remove(&self.shared, reference, in_use)
    }

    /// As [`Self::get`]; the image is not removed while the lease lives. Never blocks.
    pub(crate) fn lease(&self, reference: &str) -> Result<Lease> {
        self.shared.registry.lease(reference)
    }

    /// The EROFS file of a layer. Never blocks.
    pub(crate) fn layer_path(&self, diff_id: &str) -> PathBuf {
        self.shared.layer_path(diff_id)
    }
}

impl Shared {
    fn layer_path(&self, diff_id: &str) -> PathBuf {
        let hex = diff_id.strip_prefix("sha256:").unwrap_or(diff_id);
        self.layers.join(format!("{hex}.erofs"))
    }

    fn lock_changes(&self) -> MutexGuard<'_, ()> {
        self.changes.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Mirrors the records in the content store's index.
    fn write_index(&self) -> Result<()> {
        let images = self.registry.list();
        self.content.write_index(images.iter().map(|image| (image.digest.as_str(), image.names.as_slice())))
    }
}

#[cfg(test)]
mod testing;
#[cfg(test)]
mod tests;
