//! Images: from an archive to layers that are ready to be mounted.
//!
//! ```text
//! DATA/images/content/   OCI image layout: manifests, configs and layers as they came
//! DATA/images/layers/    one EROFS file per layer, named by its diff id, and the base layer of all containers
//! DATA/images/damaged/   what was found damaged and set aside, until the next prune
//! DATA/images/parts/     blobs on their way from a registry, and what is there of those that did not arrive
//! DATA/images/tmp/       scratch; emptied at every start
//! ```
//!
//! An image exists when the database says so, and by then all its files are synced. What the database does not name is
//! removed at the next start. If the database is lost, images are read anew from the content store's index; a layer file
//! that is missing is converted anew from its blob.

mod ahead;
mod base;
mod catalog;
mod changes;
mod commit;
mod compression;
mod content;
mod copy;
mod document;
mod erofs;
mod export;
mod history;
mod import;
mod install;
mod layer;
mod layer_file;
mod layers;
mod limits;
mod media;
mod open;
mod platform;
mod prune;
mod pull;
mod push;
mod reading;
mod record;
mod reference;
mod registry;
mod remove;
mod repair;
mod sweep;
mod tag;
mod tar;
mod tree;
mod usage;
mod verify;
mod verity;
mod well_formed;

use std::fs;
use std::io::Read;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use crate::blocking::blocking;
use crate::error::{Reason, Result};
use crate::space;
use crate::store::{Commit, Store, Write};
use catalog::{Catalog, LeasedFor};
use content::ContentStore;
use pull::Pulls;
use record::Layer;
use registry::Registries;
use remove::UserOf;

pub(crate) use catalog::Lease;
pub(crate) use changes::{Change, ChangeKind, Owners, Shrunk, WritableLayer};
pub(crate) use commit::{CommitOptions, Committing};
pub(crate) use copy::{Files, PathKind, PathStat, UnpackOptions, Unpacked};
pub(crate) use export::Export;
pub(crate) use history::HistoryEntry;
pub(crate) use import::{ArchiveFormat, ImportOptions, Progress};
pub(crate) use layers::LayerMounts;
pub(crate) use platform::WantedPlatform;
pub(crate) use prune::{PruneOptions, Pruned};
pub(crate) use pull::{PullPhase, PullProgress, PullRequest, Pulled};
pub(crate) use push::{PushProgress, PushRequest, Pushed};
pub(crate) use record::{Image, ImageConfig};
pub(crate) use reference::Reference;
pub(crate) use registry::{Credentials, RegistryConfig};
pub(crate) use remove::Removed;
pub(crate) use repair::Repair;
pub(crate) use usage::{Kept, Usage};
pub(crate) use verify::{Damaged, FileKind, VerifyProgress};

/// All images of the node. Clones share them. Methods block on the disk unless they say otherwise.
#[derive(Clone, Debug)]
pub(crate) struct Images {
    shared: Arc<Shared>,
}

#[derive(Debug)]
struct Shared {
    layers: PathBuf,
    scratch: PathBuf,
    damaged: PathBuf,
    parts: PathBuf,
    content: ContentStore,
    store: Store,
    catalog: Catalog,
    pulls: Pulls,
    /// Held while records and files change, so that what one finds unused another does not begin to use.
    changes: Mutex<()>,
    /// Held while a layer's file that could not be mounted is looked at.
    mending: Mutex<()>,
}

impl Images {
    /// Opens or makes the images below `data_dir`; sweeps what a crash left.
    pub(crate) fn open(data_dir: &Path, store: Store, registries: RegistryConfig) -> Result<Self> {
        let pulls = Pulls::new(Registries::new(registries));
        open::open(&data_dir.join("images"), store, pulls).map(|shared| Self { shared: Arc::new(shared) })
    }

    /// Takes an archive in: reads `reader` to its end, and returns the images that it holds. One that fails or is cancelled
    /// leaves nothing behind.
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
    ) -> Result<Vec<Arc<Image>>> {
        let shared = &self.shared;
        let installed = import::unpack(options, reader, progress, cancelled, &shared.content, &shared.scratch)
            .and_then(|unpacked| install::install(shared, unpacked, progress, cancelled));
        installed.map_err(|error| {
            let read = progress.bytes_read.load(Ordering::Relaxed);
            space::explain(error, &shared.layers, Some(&format!("{read} bytes of the archive had been read")))
        })
    }

    /// Fetches an image from its registry. Dropping the future cancels it and leaves parts of blobs at most, from which the
    /// next pull goes on. Never blocks.
    ///
    /// # Errors
    /// `IMAGE_NOT_FOUND`, `REGISTRY_*`, `BLOB_DAMAGED`, `INVALID_ARCHIVE`, `UNSUPPORTED_FEATURE`, `LIMIT_EXCEEDED`,
    /// `STORAGE_FULL`.
    pub(crate) async fn pull(&self, request: PullRequest, progress: &PullProgress) -> Result<Pulled> {
        let error = match pull::pull(&self.shared, request, progress).await {
            Err(error) if error.reason == Reason::StorageFull => error,
            pulled => return pulled,
        };
        let bytes: u64 = progress.snapshot().1.iter().map(|layer| layer.size).sum();
        let needed =
            format!("the layers of the image are {bytes} bytes as they come, and further ones as they are mounted");
        let shared = Arc::clone(&self.shared);
        Err(blocking(move || Ok(space::explain(error, &shared.layers, Some(&needed)))).await?)
    }

    /// Sends an image to a registry. Dropping the future cancels it. Never blocks.
    ///
    /// # Errors
    /// `IMAGE_NOT_FOUND`, `REGISTRY_*`, `BLOB_DAMAGED`.
    pub(crate) async fn push(&self, request: PushRequest, progress: &PushProgress) -> Result<Pushed> {
        push::push(&self.shared, request, progress).await
    }

    /// Asks a registry whether it takes these credentials. Returns a refresh token to keep in their place, if it gives one.
    /// Never blocks.
    ///
    /// # Errors
    /// `REGISTRY_UNAUTHENTICATED` if it does not.
    pub(crate) async fn check_credentials(&self, registry: &str, credentials: Credentials) -> Result<Option<String>> {
        self.shared.pulls.registries.check(registry, credentials).await
    }

    /// The image of a reference, a digest, or an unambiguous prefix of a digest's hexadecimal part. Never blocks.
    pub(crate) fn get(&self, reference: &str) -> Result<Arc<Image>> {
        self.shared.catalog.get(reference)
    }

    /// All images, newest first. Never blocks.
    pub(crate) fn list(&self) -> Vec<Arc<Image>> {
        self.shared.catalog.list()
    }

    /// Removes a name, or with a digest or the last name the image and what no other image uses. `user_of` says which
    /// container, if any, uses the image of a digest; it is asked twice.
    pub(crate) fn remove(&self, reference: &str, user_of: &UserOf<'_>) -> Result<Removed> {
        remove::remove(&self.shared, reference, user_of)
    }

    /// Removes images that nobody uses, and files that nobody needs. `user_of` as for [`Self::remove`].
    pub(crate) fn prune(&self, options: PruneOptions, user_of: &UserOf<'_>) -> Result<Pruned> {
        prune::prune(&self.shared, options, user_of)
    }

    /// Reads the files of images again, of all if `references` is empty, and tells `report` of those that are damaged.
    /// `repair`: make those anew; blobs come from the registries that their images came from or have names of. Call within a
    /// runtime.
    ///
    /// # Errors
    /// `IMAGE_NOT_FOUND`, `DEADLINE_EXCEEDED` (cancelled). That something is damaged is none.
    pub(crate) fn verify(
        &self,
        references: &[String],
        repair: Option<&Repair>,
        progress: &VerifyProgress,
        cancelled: &AtomicBool,
        report: &mut dyn FnMut(Damaged),
    ) -> Result<()> {
        let shared = &self.shared;
        let mut images = match references {
            [] => shared.catalog.list(),
            references => {
                references.iter().map(|reference| shared.catalog.get(reference)).collect::<Result<Vec<_>>>()?
            }
        };
        images.sort_by(|a, b| a.digest.cmp(&b.digest));
        images.dedup_by(|a, b| a.digest == b.digest);
        let fetch = repair.map(|repair| {
            move |image: &Image, digest: &str| {
                let credentials = repair.credentials.clone();
                repair::until_cancelled(pull::refetch(shared, image, digest, credentials), cancelled)
            }
        });
        let fetch = fetch.as_ref().map(|fetch| fetch as &repair::Fetch<'_>);
        verify::Verification { shared, progress, cancelled, fetch }.run(&images, report)
    }

    /// What images take on the disk. `user_of` as for [`Self::remove`].
    pub(crate) fn usage(&self, user_of: &UserOf<'_>) -> Result<Usage> {
        usage::of_images(&self.shared, user_of)
    }

    /// How many images, blobs and layers there are, and their bytes. Never blocks on the disk.
    pub(crate) fn kept(&self) -> Kept {
        usage::kept(&self.shared)
    }

    /// What parts of blobs that pulls left, or are just fetching, take on the disk.
    pub(crate) fn usage_of_parts(&self) -> Result<Usage> {
        usage::of_parts(&self.shared)
    }

    /// Begins an export: the images stay until it has been written. References that name an image give it that name in
    /// the archive. Never blocks.
    ///
    /// # Errors
    /// `IMAGE_NOT_FOUND`, `INVALID_ARGUMENT` (a format that is not written).
    pub(crate) fn export(&self, references: &[String], format: ArchiveFormat) -> Result<Export> {
        Export::begin(Arc::clone(&self.shared), references, format)
    }

    /// Gives an image a further name; one that another image had goes over to it.
    pub(crate) fn tag(&self, reference: &str, name: &str) -> Result<Arc<Image>> {
        tag::tag(&self.shared, reference, name)
    }

    /// How an image was made, the oldest step first.
    pub(crate) fn history(&self, image: &Image) -> Result<Vec<HistoryEntry>> {
        history::read(&self.shared, image)
    }

    /// As [`Self::get`]; the image is not removed while the lease lives. Never blocks.
    pub(crate) fn lease(&self, reference: &str) -> Result<Lease> {
        self.shared.catalog.lease(reference, LeasedFor::Create)
    }

    /// After a mount that failed: makes a layer's file anew if it is damaged; returns whether it was.
    pub(crate) fn mend(&self, diff_id: &str) -> Result<bool> {
        repair::mend(&self.shared, diff_id)
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

    /// Writes records; `false`: the journal has them, but a full disk keeps them from being safe. They are visible and the
    /// store goes on trying; only a power cut until then would take them back.
    fn commit(&self, commit: Commit) -> Result<bool> {
        let first = commit.writes.first().cloned();
        let Err(error) = self.store.commit_durable_blocking(commit) else { return Ok(true) };
        let visible = match first {
            Some(Write::Put { table, key, value }) => self.store.get(table, &key)? == Some(value),
            Some(Write::Delete { table, key }) => self.store.get(table, &key)?.is_none(),
            None => true,
        };
        if !visible {
            return Err(error);
        }
        tracing::warn!(%error, "the record of an image is not safe yet");
        Ok(false)
    }

    /// Mirrors the records in the content store's index.
    fn write_index(&self) -> Result<()> {
        let images = self.catalog.list();
        self.content.write_index(
            images.iter().map(|image| (image.digest.as_str(), image.media_type.as_str(), image.names.as_slice())),
        )
    }

    /// The same, where the database has them already: a mirror that cannot be written is no reason to fail.
    fn mirror_index(&self) {
        if let Err(error) = self.write_index() {
            tracing::warn!(%error, "the content store's index could not be written");
        }
    }
}

#[cfg(test)]
mod testing;
#[cfg(test)]
mod tests;
