//! Makes an unpacked archive an image: converts its layers, keeps its blobs, then records it.

use std::fs::{self, File};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::SystemTime;

use tempfile::NamedTempFile;

use super::content::{ScratchBlob, sync_directory};
use super::document::media_type;
use super::import::{self, Progress, Stoppable, Unpacked, UnpackedLayer};
use super::layer::Converted;
use super::limits::read_json;
use super::media::OCI_MANIFEST;
use super::record::{Image, Layer, Record, Source};
use super::{Shared, compression};
use crate::error::{Error, Reason, Result};
use crate::store::{Table, Write};

/// Layers converted side by side.
const WORKERS_MAX: usize = 4;

/// What is known of an image that was pulled.
#[derive(Debug, Clone)]
pub(super) struct Origin {
    /// Where from.
    pub(super) source: Source,
    /// Its layers, which are kept already.
    pub(super) layers: Vec<Layer>,
}

/// Installs the image of an archive. What fails on the way removes itself, except layer files and blobs that were kept already: the
/// sweep of those is left to [`super::remove::sweep`], which knows who else needs them.
pub(super) fn install(
    shared: &Shared,
    unpacked: Unpacked,
    progress: &Progress,
    cancelled: &AtomicBool,
) -> Result<Arc<Image>> {
    let blobs = blobs(&unpacked);
    let diff_ids = unpacked.layers.iter().map(|layer| layer.diff_id.clone());
    let pins = {
        let _changes = shared.lock_changes();
        shared.catalog.pin(blobs.iter().cloned().chain(diff_ids).collect())
    };
    let installed = try_install(shared, unpacked, blobs, None, progress, cancelled);
    drop(pins);
    if installed.is_err() {
        let _changes = shared.lock_changes();
        if let Err(error) = super::remove::sweep(shared) {
            tracing::warn!(%error, "sweeping up after a failed import");
        }
    }
    installed
}

/// Installs an image that was pulled. Who calls it has pinned its files, and what it has kept of them stays for the next pull.
pub(super) fn install_pulled(shared: &Shared, unpacked: Unpacked, origin: Origin) -> Result<Arc<Image>> {
    let blobs = blobs(&unpacked);
    try_install(shared, unpacked, blobs, Some(origin), &Progress::default(), &AtomicBool::new(false))
}

/// Digests of manifest, config and layers.
fn blobs(unpacked: &Unpacked) -> Vec<String> {
    let layers = unpacked.layers.iter().map(|layer| layer.digest.clone());
    [unpacked.manifest.digest.clone(), unpacked.config.digest.clone()].into_iter().chain(layers).collect()
}

fn try_install(
    shared: &Shared,
    unpacked: Unpacked,
    blobs: Vec<String>,
    origin: Option<Origin>,
    progress: &Progress,
    cancelled: &AtomicBool,
) -> Result<Arc<Image>> {
    let Unpacked { manifest, config, mut document, mut layers, names } = unpacked;
    let records = match &origin {
        Some(origin) => origin.layers.clone(),
        None => convert_all(shared, &mut layers, progress, cancelled)?,
    };
    let media_type =
        media_type(&read_json("the manifest", manifest.read()?)?)?.unwrap_or_else(|| OCI_MANIFEST.to_owned());
    let digest = manifest.digest.clone();
    let kept = layers.iter_mut().filter_map(|layer| layer.blob.take());
    for blob in kept.chain([config, manifest]) {
        shared.content.keep(blob)?;
    }
    sync_directory(&shared.layers)?;
    shared.content.sync()?;
    let record = Record {
        created: document.created_at(),
        config: document.image_config(),
        imported_at: SystemTime::now(),
        architecture: document.architecture,
        os: document.os,
        layers: records,
        blobs,
        media_type,
        sources: origin.map(|origin| origin.source).into_iter().collect(),
    };
    let _changes = shared.lock_changes();
    record_image(shared, digest, names, record)
}

/// Writes the record, then shows the image. Call with the changes locked.
pub(super) fn record_image(
    shared: &Shared,
    digest: String,
    mut names: Vec<String>,
    mut record: Record,
) -> Result<Arc<Image>> {
    if let Ok(old) = shared.catalog.get(&digest) {
        names.extend(old.names.iter().cloned());
        record.imported_at = old.imported_at;
        record
            .sources
            .extend(old.sources.iter().filter(|old| !record.sources.contains(old)).cloned().collect::<Vec<_>>());
    }
    names.sort();
    names.dedup();
    let value = serde_json::to_vec(&record)
        .map_err(|error| Error::new(Reason::Internal, format!("encoding an image's record: {error}")))?;
    let mut writes = vec![Write::Put { table: Table::Images, key: digest.clone(), value }];
    writes.extend(names.iter().map(|name| Write::Put {
        table: Table::ImageNames,
        key: name.clone(),
        value: digest.clone().into_bytes(),
    }));
    shared.store.commit_durable_blocking(writes)?;
    let image = shared.catalog.insert(Image { digest, names, record });
    // The database has it: a mirror that cannot be written is no reason to refuse the image.
    if let Err(error) = shared.write_index() {
        tracing::warn!(%error, "the content store's index could not be written");
    }
    Ok(image)
}

/// Converts the layers side by side.
fn convert_all(
    shared: &Shared,
    layers: &mut [UnpackedLayer],
    progress: &Progress,
    cancelled: &AtomicBool,
) -> Result<Vec<Layer>> {
    let mut records = vec![None; layers.len()];
    for (layer, record) in layers.iter_mut().zip(&mut records) {
        if let Some((file, converted)) = layer.converted.take() {
            *record = Some(keep_layer(shared, &layer.diff_id, file, &converted)?);
        }
    }
    let jobs: Vec<_> = records.iter_mut().zip(&*layers).filter(|(record, _)| record.is_none()).collect();
    let workers = std::thread::available_parallelism().map_or(1, usize::from).min(WORKERS_MAX).min(jobs.len());
    let jobs = Mutex::new(jobs.into_iter());
    let failure = Mutex::new(None);
    let stop = AtomicBool::new(false);
    let work = || {
        loop {
            let job = jobs.lock().unwrap_or_else(PoisonError::into_inner).next();
            let Some((record, layer)) = job.filter(|_| !stop.load(Ordering::Relaxed)) else { return };
            match convert_one(shared, layer, layers, progress, [cancelled, &stop]) {
                Ok(converted) => *record = Some(converted),
                Err(error) => {
                    stop.store(true, Ordering::Relaxed);
                    failure.lock().unwrap_or_else(PoisonError::into_inner).get_or_insert(error);
                }
            }
            progress.layers_done.fetch_add(1, Ordering::Relaxed);
        }
    };
    std::thread::scope(|scope| (0..workers).for_each(|_| drop(scope.spawn(work))));
    match failure.into_inner().unwrap_or_else(PoisonError::into_inner) {
        Some(error) => Err(error),
        None => Ok(records.into_iter().flatten().collect()),
    }
}

/// Converts a layer, unless its file is there.
fn convert_one(
    shared: &Shared,
    layer: &UnpackedLayer,
    all: &[UnpackedLayer],
    progress: &Progress,
    stop: [&AtomicBool; 2],
) -> Result<Layer> {
    if let Ok(there) = fs::metadata(shared.layer_path(&layer.diff_id)) {
        return Ok(Layer { diff_id: layer.diff_id.clone(), size: there.len() });
    }
    let blob = all.iter().filter(|other| other.digest == layer.digest).find_map(|other| other.blob.as_ref());
    let blob = blob.map_or_else(|| shared.content.read(&layer.digest), ScratchBlob::read)?;
    convert_blob(shared, blob, &layer.diff_id, progress, stop)
}

/// Converts the blob of a layer, checks that it is the layer that it should be, and keeps its file.
pub(super) fn convert_blob(
    shared: &Shared,
    blob: File,
    diff_id: &str,
    progress: &Progress,
    stop: [&AtomicBool; 2],
) -> Result<Layer> {
    let (stream, _) = compression::open(Stoppable { inner: blob, stop })?;
    let (file, converted) = import::convert(stream, &shared.scratch, progress)?;
    if converted.diff_id != diff_id {
        return Err(other_layer(&converted.diff_id, diff_id));
    }
    keep_layer(shared, diff_id, file, &converted)
}

/// Moves a synced EROFS file to its place. The same layer, converted twice at once, is kept once.
pub(super) fn keep_layer(shared: &Shared, diff_id: &str, file: NamedTempFile, converted: &Converted) -> Result<Layer> {
    let path = shared.layer_path(diff_id);
    match file.persist_noclobber(&path) {
        Err(error) if error.error.kind() != std::io::ErrorKind::AlreadyExists => {
            Err(Error::io(format!("keeping the layer {}", path.display()), &error.error))
        }
        _ => Ok(Layer { diff_id: diff_id.to_owned(), size: converted.size }),
    }
}

/// The error of a layer that is not the one that the image's config names.
pub(super) fn other_layer(found: &str, expected: &str) -> Error {
    let line = format!("a layer is damaged: its diff id is {found}, the config says {expected}");
    Error::new(Reason::InvalidArchive, line)
}
