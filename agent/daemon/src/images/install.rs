//! Makes an unpacked archive an image: converts its layers, keeps its blobs, then records it.

use std::fs::File;
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
use super::{Shared, compression, layer_file};
use crate::error::{Error, Reason, Result};
use crate::events::{ImageChange, What};
use crate::store::{Commit, Table, Write};

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

/// An image whose files are kept; its record is not written yet.
struct Prepared {
    digest: String,
    names: Vec<String>,
    record: Record,
}

/// Installs the images of an archive, all or none. What fails on the way removes itself, except layer files and blobs that
/// were kept already: the sweep of those is left to [`super::sweep::sweep`], which knows who else needs them.
pub(super) fn install(
    shared: &Shared,
    unpacked: Vec<Unpacked>,
    progress: &Progress,
    cancelled: &AtomicBool,
) -> Result<Vec<Arc<Image>>> {
    let files = unpacked
        .iter()
        .flat_map(|image| blobs(image).into_iter().chain(image.layers.iter().map(|layer| layer.diff_id.clone())));
    let pins = {
        let _changes = shared.lock_changes();
        shared.catalog.pin(files.collect())
    };
    // One after the other: what an image shares with one before it is kept by then.
    let prepared = unpacked.into_iter().map(|mut image| {
        let layers = convert_all(shared, &mut image.layers, progress, cancelled)?;
        prepare(shared, image, layers, Vec::new())
    });
    let installed = prepared.collect::<Result<Vec<_>>>().and_then(|prepared| record_safely(shared, prepared));
    drop(pins);
    if installed.is_err() {
        let _changes = shared.lock_changes();
        if let Err(error) = super::sweep::sweep(shared) {
            tracing::warn!(%error, "sweeping up after a failed import");
        }
    }
    installed
}

/// Installs an image that was pulled. Who calls it has pinned its files, and what it has kept of them stays for the next pull.
pub(super) fn install_pulled(shared: &Shared, unpacked: Unpacked, origin: Origin) -> Result<Arc<Image>> {
    let prepared = prepare(shared, unpacked, origin.layers, vec![origin.source])?;
    only(record_safely(shared, vec![prepared])?)
}

/// Digests of manifest, config and layers.
fn blobs(unpacked: &Unpacked) -> Vec<String> {
    let layers = unpacked.layers.iter().map(|layer| layer.digest.clone());
    [unpacked.manifest.digest.clone(), unpacked.config.digest.clone()].into_iter().chain(layers).collect()
}

/// Keeps all blobs of an image whose layers are kept already.
fn prepare(shared: &Shared, unpacked: Unpacked, records: Vec<Layer>, sources: Vec<Source>) -> Result<Prepared> {
    let blobs = blobs(&unpacked);
    let Unpacked { manifest, config, mut document, mut layers, names } = unpacked;
    let media_type =
        media_type(&read_json("the manifest", manifest.read()?)?)?.unwrap_or_else(|| OCI_MANIFEST.to_owned());
    let digest = manifest.digest.clone();
    let kept = layers.iter_mut().filter_map(|layer| layer.blob.take());
    for blob in kept.chain([config, manifest]) {
        shared.content.keep(blob)?;
    }
    let record = Record {
        created: document.created_at(),
        config: document.image_config(),
        imported_at: SystemTime::now(),
        architecture: document.architecture,
        os: document.os,
        layers: records,
        blobs,
        media_type,
        sources,
    };
    Ok(Prepared { digest, names, record })
}

/// Makes what was kept safe, then records it.
fn record_safely(shared: &Shared, prepared: Vec<Prepared>) -> Result<Vec<Arc<Image>>> {
    sync_directory(&shared.layers)?;
    shared.content.sync()?;
    let _changes = shared.lock_changes();
    record_images(shared, prepared)
}

/// Writes the record, then shows the image. Call with the changes locked.
pub(super) fn record_image(shared: &Shared, digest: String, names: Vec<String>, record: Record) -> Result<Arc<Image>> {
    only(record_images(shared, vec![Prepared { digest, names, record }])?)
}

pub(super) fn only(mut images: Vec<Arc<Image>>) -> Result<Arc<Image>> {
    images.pop().ok_or_else(|| Error::new(Reason::Internal, "an image was recorded but not shown"))
}

/// Writes the records together, then shows the images.
fn record_images(shared: &Shared, prepared: Vec<Prepared>) -> Result<Vec<Arc<Image>>> {
    let (mut images, mut writes, mut events) = (Vec::new(), Vec::new(), Vec::new());
    for Prepared { digest, mut names, mut record } in prepared {
        if let Ok(old) = shared.catalog.get(&digest) {
            names.extend(old.names.iter().cloned());
            record.imported_at = old.imported_at;
            let more: Vec<_> = old.sources.iter().filter(|old| !record.sources.contains(old)).cloned().collect();
            record.sources.extend(more);
        }
        names.sort();
        names.dedup();
        writes.push(Write::Put { table: Table::Images, key: digest.clone(), value: record.encode()? });
        writes.extend(names.iter().map(|name| Write::Put {
            table: Table::ImageNames,
            key: name.clone(),
            value: digest.clone().into_bytes(),
        }));
        events.push(What::image(&digest, &names, ImageChange::Added).encode_now()?);
        images.push(Image { digest, names, record });
    }
    shared.commit(Commit { writes, events })?;
    let images = images.into_iter().map(|image| shared.catalog.insert(image)).collect();
    shared.mirror_index();
    Ok(images)
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
            *record = Some(layer_file::keep(shared, &layer.diff_id, file, &converted)?);
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
    if let Some(there) = layer_file::find(shared, &layer.diff_id)? {
        return Ok(there);
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
    let (file, converted) = convert_checked(shared, blob, diff_id, progress, stop)?;
    layer_file::keep(shared, diff_id, file, &converted)
}

/// The same, without keeping the file.
pub(super) fn convert_checked(
    shared: &Shared,
    blob: File,
    diff_id: &str,
    progress: &Progress,
    stop: [&AtomicBool; 2],
) -> Result<(NamedTempFile, Converted)> {
    let (stream, _) = compression::open(Stoppable { inner: blob, stop })?;
    let (file, converted) = import::convert(stream, &shared.scratch, progress)?;
    if converted.diff_id != diff_id {
        return Err(other_layer(&converted.diff_id, diff_id));
    }
    Ok((file, converted))
}

/// The error of a layer that is not the one that the image's config names.
pub(super) fn other_layer(found: &str, expected: &str) -> Error {
    let line = format!("a layer is damaged: its diff id is {found}, the config says {expected}");
    Error::new(Reason::InvalidArchive, line)
}
