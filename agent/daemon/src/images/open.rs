//! Opens the images at the agent's start: sweeps what a crash left, heals what is missing.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Mutex;
use std::sync::atomic::AtomicBool;
use std::time::SystemTime;

use super::catalog::Catalog;
use super::content::ContentStore;
use super::document::{ConfigDocument, Document, media_type, parse_manifest};
use super::import::Progress;
use super::install::{convert_blob, record_image};
use super::media::OCI_MANIFEST;
use super::pull::Pulls;
use super::record::{Image, Layer, Record};
use super::{Shared, repair, sweep};
use crate::error::{Error, Reason, Result};
use crate::store::{Store, Table};

pub(super) fn open(root: &Path, store: Store, pulls: Pulls) -> Result<Shared> {
    let scratch = directory(root.join("tmp"))?;
    let layers = directory(root.join("layers"))?;
    let damaged = directory(root.join("damaged"))?;
    let parts = directory(root.join("parts"))?;
    empty(&scratch)?;
    let content = ContentStore::open(root.join("content"), scratch.clone())?;
    let shared = Shared {
        layers,
        scratch,
        damaged,
        parts,
        content,
        store,
        catalog: Catalog::default(),
        pulls,
        changes: Mutex::new(()),
        mending: Mutex::new(()),
    };
    super::base::make(&shared)?;
    let records = records(&shared.store)?;
    if records.is_empty() {
        // What could not be read anew keeps its files.
        if !rebuild(&shared) {
            return Ok(shared);
        }
    } else {
        load(&shared, records);
    }
    let freed = sweep::sweep(&shared)?;
    if freed > 0 {
        tracing::info!(freed_bytes = freed, "removed files that no image names");
    }
    shared.mirror_index();
    Ok(shared)
}

fn directory(path: PathBuf) -> Result<PathBuf> {
    fs::create_dir_all(&path).map_err(|error| Error::io(format!("making {}", path.display()), &error))?;
    Ok(path)
}

fn empty(scratch: &Path) -> Result<()> {
    let failed = |error| Error::io(format!("emptying {}", scratch.display()), &error);
    for entry in fs::read_dir(scratch).map_err(failed)? {
        fs::remove_file(entry.map_err(failed)?.path()).map_err(failed)?;
    }
    Ok(())
}

/// Records and names by digest.
fn records(store: &Store) -> Result<Vec<Image>> {
    let mut names: BTreeMap<String, Vec<String>> = BTreeMap::new();
    for (name, digest) in store.scan(Table::ImageNames)? {
        names.entry(String::from_utf8_lossy(&digest).into_owned()).or_default().push(name);
    }
    let records = store.scan(Table::Images)?.into_iter().map(|(digest, value)| {
        let record: Record = serde_json::from_slice(&value).map_err(|error| {
            Error::new(Reason::Internal, format!("the record of the image {digest} is damaged: {error}"))
        })?;
        Ok(Image { names: names.remove(&digest).unwrap_or_default(), digest, record })
    });
    records.collect()
}

/// Takes the records in; a layer file that is missing or not as long as it should be is made anew.
fn load(shared: &Shared, images: Vec<Image>) {
    images.into_iter().for_each(|image| drop(shared.catalog.insert(image)));
    for image in shared.catalog.list() {
        for layer in &image.layers {
            let there = fs::metadata(shared.layer_path(&layer.diff_id));
            if there.is_ok_and(|there| there.len() == layer.size) {
                continue;
            }
            tracing::warn!(layer = layer.diff_id, "a layer's file is missing or cut; converting it anew");
            if let Err(error) = repair::layer(shared, &layer.diff_id, &AtomicBool::new(false)) {
                tracing::error!(image = image.digest, names = ?image.names, %error,
                    "an image is not whole; repair it with `hullctl image verify --repair`");
            }
        }
    }
}

/// Reads the images of the content store's index, which is all there is if the database was lost.
fn rebuild(shared: &Shared) -> bool {
    let mut images: BTreeMap<String, Vec<String>> = BTreeMap::new();
    match shared.content.read_index() {
        Ok(entries) => {
            for (digest, name) in entries {
                images.entry(digest).or_default().extend(name);
            }
        }
        Err(error) => {
            tracing::error!(%error, "the content store's index cannot be read");
            return false;
        }
    }
    let mut whole = true;
    for (digest, names) in images {
        let rebuilt =
            rebuild_image(shared, &digest).and_then(|record| record_image(shared, digest.clone(), names, record));
        match rebuilt {
            Ok(image) => {
                tracing::warn!(image = digest, names = ?image.names, "read an image anew from the content store")
            }
            Err(error) => {
                tracing::error!(image = digest, %error, "an image cannot be read anew; import it again");
                whole = false;
            }
        }
    }
    whole
}

fn rebuild_image(shared: &Shared, digest: &str) -> Result<Record> {
    let manifest = shared.content.read_document(digest)?;
    let Document::Manifest { config, layers: descriptors } = parse_manifest("the manifest", &manifest)? else {
        return Err(Error::new(Reason::InvalidArchive, "the manifest is an index"));
    };
    let mut document = ConfigDocument::parse(&shared.content.read_document(&config.digest)?, descriptors.len())?;
    let mut layers = Vec::new();
    for (diff_id, descriptor) in document.rootfs.diff_ids.iter().zip(&descriptors) {
        layers.push(rebuild_layer(shared, diff_id, &descriptor.digest)?);
    }
    let mut blobs = vec![digest.to_owned(), config.digest];
    blobs.extend(descriptors.into_iter().map(|descriptor| descriptor.digest));
    Ok(Record {
        created: document.created_at(),
        config: document.image_config(),
        imported_at: SystemTime::now(),
        architecture: document.architecture,
        os: document.os,
        layers,
        blobs,
        media_type: media_type(&manifest)?.unwrap_or_else(|| OCI_MANIFEST.to_owned()),
        sources: Vec::new(),
    })
}

/// A file that is there is taken as it is; without a digest, a verification compares it with its blob.
fn rebuild_layer(shared: &Shared, diff_id: &str, blob: &str) -> Result<Layer> {
    if let Ok(there) = fs::metadata(shared.layer_path(diff_id)) {
        return Ok(Layer { diff_id: diff_id.to_owned(), size: there.len(), digest: None });
    }
    let never = AtomicBool::new(false);
    convert_blob(shared, shared.content.read(blob)?, diff_id, &Progress::default(), [&never, &never])
}
