//! Opens the images at the agent's start: sweeps what a crash left, heals what is missing.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Mutex;
use std::sync::atomic::AtomicBool;
use std::time::SystemTime;

use super::content::ContentStore;
use super::document::{ConfigDocument, Document, parse_manifest};
use super::import::Progress;
use super::install::{convert_blob, record_image};
use super::limits::read_json;
use super::record::{Image, Layer, Record};
use super::registry::Registry;
use super::{Shared, remove};
use crate::error::{Error, Reason, Result};
use crate::store::{Store, Table};

pub(super) fn open(root: &Path, store: Store) -> Result<Shared> {
    let scratch = directory(root.join("tmp"))?;
    let layers = directory(root.join("layers"))?;
    empty(&scratch)?;
    let content = ContentStore::open(root.join("content"), scratch.clone())?;
    let shared = Shared { layers, scratch, content, store, registry: Registry::default(), changes: Mutex::new(()) };
    super::base::make(&shared)?;
    let records = records(&shared.store)?;
    let whole = if records.is_empty() { rebuild(&shared) } else { load(&shared, records) };
    if whole {
        let freed = remove::sweep(&shared)?;
        if freed > 0 {
            tracing::info!(freed_bytes = freed, "removed files that no image names");
        }
        shared.write_index()?;
    }
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

/// Takes the records in; a layer file that is missing is converted anew. Returns whether all images are whole.
fn load(shared: &Shared, images: Vec<Image>) -> bool {
    let mut whole = true;
    for image in images {
        let layers = image.layers.iter().zip(image.blobs.iter().skip(2));
        let healed = layers
            .map(|(layer, blob)| heal(shared, &layer.diff_id, Some(layer.size), blob))
            .collect::<Result<Vec<_>>>();
        match healed {
            Ok(sizes) => {
                let mut image = image;
                for (layer, size) in image.record.layers.iter_mut().zip(sizes) {
                    layer.size = size;
                }
                drop(shared.registry.insert(image));
            }
            Err(error) => {
                tracing::error!(image = image.digest, names = ?image.names, %error, "an image cannot be used; import it again");
                whole = false;
            }
        }
    }
    whole
}

/// Size of a layer's file, which is made from its blob if it is missing or not as long as it should be.
fn heal(shared: &Shared, diff_id: &str, expected: Option<u64>, blob: &str) -> Result<u64> {
    let path = shared.layer_path(diff_id);
    match fs::metadata(&path) {
        Ok(there) if expected.is_none_or(|size| there.len() == size) => return Ok(there.len()),
        Ok(_) => fs::remove_file(&path).map_err(|error| Error::io(format!("removing {}", path.display()), &error))?,
        Err(_) => {}
    }
    tracing::warn!(layer = diff_id, "a layer's file is missing; converting it anew");
    let never = AtomicBool::new(false);
    convert_blob(shared, shared.content.read(blob)?, diff_id, &Progress::default(), [&never, &never])
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
    let read = |digest: &str| read_json(digest, shared.content.read(digest)?);
    let Document::Manifest { config, layers: descriptors } = parse_manifest("the manifest", &read(digest)?)? else {
        return Err(Error::new(Reason::InvalidArchive, "the manifest is an index"));
    };
    let mut document = ConfigDocument::parse(&read(&config.digest)?, descriptors.len())?;
    let mut layers = Vec::new();
    for (diff_id, descriptor) in document.rootfs.diff_ids.iter().zip(&descriptors) {
        let size = heal(shared, diff_id, None, &descriptor.digest)?;
        layers.push(Layer { diff_id: diff_id.clone(), size });
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
    })
}
