//! Images: from an archive to layers that are ready to be mounted.
//!
//! ```text
//! DATA/images/content/   OCI image layout: manifests, configs and layers as they came
//! DATA/images/layers/    one EROFS file per layer, named by its diff id
//! DATA/images/parts/     blobs on their way from a registry, and what is there of those that did not arrive
//! DATA/images/tmp/       scratch; emptied at every start
//! ```
//!
//! An image exists when the database says so, and by then all its files are synced. What the database does not name is
//! removed at the next start. If the database is lost, images are read anew from the content store's index; a layer file
//! that is missing is converted anew from its blob.

mod ahead;
mod catalog;
mod changes;
mod commit;
mod compression;
mod content;
mod document;
mod erofs;
mod import;
mod install;
mod layer;
mod layers;
mod limits;
mod media;
mod open;
mod platform;
mod pull;
mod push;
mod record;
mod reference;
mod registry;
mod remove;
mod tar;
mod tree;

use std::fs;
use std::io::Read;
use std::path::{Path, PathBuf};
use std::sync::atomic::AtomicBool;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use crate::error::Result;
use crate::store::Store;
use catalog::Catalog;
use content::ContentStore;
use pull::Pulls;
use record::Layer;
use registry::Registries;

pub(crate) use catalog::Lease;
pub(crate) use changes::{Change, ChangeKind, Owners, WritableLayer};
pub(crate) use commit::{CommitOptions, Committing};
pub(crate) use import::{ArchiveFormat, ImportOptions, Progress};
pub(crate) use layers::LayerMounts;
pub(crate) use platform::WantedPlatform;
pub(crate) use pull::{PartFile, PullPhase, PullProgress, PullRequest, Pulled};
pub(crate) use push::{PushProgress, PushRequest, Pushed};
pub(crate) use record::{Image, ImageConfig};
pub(crate) use reference::Reference;
pub(crate) use registry::{Credentials, RegistryConfig};
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
    parts: PathBuf,
    content: ContentStore,
    store: Store,
    catalog: Catalog,
    pulls: Pulls,
    /// Held while records and files change, so that what one finds unused another does not begin to use.
    changes: Mutex<()>,
}

impl Images {
    /// Opens or makes the images below `data_dir`; sweeps what a crash left.
    pub(crate) fn open(data_dir: &Path, store: Store, registries: RegistryConfig) -> Result<Self> {
        let pulls = Pulls::new(Registries::new(registries));
        open::open(&data_dir.join("images"), store, pulls).map(|shared| Self { shared: Arc::new(shared) })
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

    /// Fetches an image from its registry. Dropping the future cancels it and leaves parts of blobs at most, from which the
    /// next pull goes on. Never blocks.
    ///
    /// # Errors
    /// `IMAGE_NOT_FOUND`, `REGISTRY_*`, `BLOB_DAMAGED`, `INVALID_ARCHIVE`, `UNSUPPORTED_FEATURE`, `LIMIT_EXCEEDED`,
    /// `STORAGE_FULL`.
    pub(crate) async fn pull(&self, request: PullRequest, progress: &PullProgress) -> Result<Pulled> {
        pull::pull(&self.shared, request, progress).await
    }

    /// Sends an image to a registry. Dropping the future cancels it. Never blocks.
    ///
    /// # Errors
    /// `IMAGE_NOT_FOUND`, `REGISTRY_*`, `BLOB_DAMAGED`.
    pub(crate) async fn push(&self, request: PushRequest, progress: &PushProgress) -> Result<Pushed> {
        push::push(&self.shared, request, progress).await
    }

    /// Fetches a blob of an image again that the content store does not have any more, from a registry that the image came
    /// from or has a name of; a layer's file that is missing is made anew as well. The manifest must be there or come first.
    /// Never blocks.
    ///
    /// # Errors
    /// As [`Self::pull`]; those of the last registry that was asked.
    pub(crate) async fn refetch_blob(
        &self,
        image: &Image,
        digest: &str,
        credentials: Option<Credentials>,
    ) -> Result<()> {
        pull::refetch(&self.shared, image, digest, credentials).await
    }

    /// Asks a registry whether it takes these credentials. Returns a refresh token to keep in their place, if it gives one.
    /// Never blocks.
    ///
    /// # Errors
    /// `REGISTRY_UNAUTHENTICATED` if it does not.
    pub(crate) async fn check_credentials(&self, registry: &str, credentials: Credentials) -> Result<Option<String>> {
        self.shared.pulls.registries.check(registry, credentials).await
    }

    /// Parts of blobs that pulls have left or are just fetching, the latter without those that can be removed.
    pub(crate) fn idle_parts(&self) -> Result<Vec<PartFile>> {
        pull::idle_parts(&self.shared)
    }

    /// Removes the part of a blob unless a pull is at it; returns the bytes that became free.
    pub(crate) fn remove_part(&self, digest: &str) -> Result<u64> {
        pull::remove_part(&self.shared, digest)
    }

    /// The image of a reference, a digest, or an unambiguous prefix of a digest's hexadecimal part. Never blocks.
    pub(crate) fn get(&self, reference: &str) -> Result<Arc<Image>> {
        self.shared.catalog.get(reference)
    }

    /// All images, newest first. Never blocks.
    pub(crate) fn list(&self) -> Vec<Arc<Image>> {
        self.shared.catalog.list()
    }

    /// Removes a name, or with a digest or the last name the image and what no other image uses. `in_use` says which
    /// container, if any, uses the image of a digest; it is asked twice.
    pub(crate) fn remove(&self, reference: &str, in_use: &dyn Fn(&str) -> Option<String>) -> Result<Removed> {
        remove::remove(&self.shared, reference, in_use)
    }

    /// As [`Self::get`]; the image is not removed while the lease lives. Never blocks.
    pub(crate) fn lease(&self, reference: &str) -> Result<Lease> {
        self.shared.catalog.lease(reference)
    }

    /// Tells what a container changed, in batches, until `take` says that it wants no more. Blocks while `take` does.
    pub(crate) fn diff(&self, layer: &WritableLayer, take: impl FnMut(Vec<Change>) -> bool) -> Result<()> {
        changes::diff(layer, take)
    }

    /// Makes an image of the layers of `base`, which the caller leases, and what a container changed.
    ///
    /// # Errors
    /// `INVALID_ARGUMENT`, `LIMIT_EXCEEDED`, `UNSUPPORTED_FEATURE` (a file that no layer can hold), `STORAGE_FULL`,
    /// `DEADLINE_EXCEEDED` (cancelled), and what `committing` says.
    pub(crate) fn commit(
        &self,
        base: &Image,
        layer: &WritableLayer,
        options: &CommitOptions,
        committing: Committing<'_>,
    ) -> Result<Arc<Image>> {
        commit::commit(&self.shared, base, layer, options, committing)
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

    /// Whether a layer's file is there and as long as it should be.
    fn has_layer(&self, layer: &Layer) -> bool {
        fs::metadata(self.layer_path(&layer.diff_id)).is_ok_and(|there| there.len() == layer.size)
    }

    fn lock_changes(&self) -> MutexGuard<'_, ()> {
        self.changes.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Mirrors the records in the content store's index.
    fn write_index(&self) -> Result<()> {
        let images = self.catalog.list();
        self.content.write_index(
            images.iter().map(|image| (image.digest.as_str(), image.media_type.as_str(), image.names.as_slice())),
        )
    }
}

#[cfg(test)]
mod testing;
#[cfg(test)]
mod tests;
