//! What `docker save` writes: manifest.json, configs, and layers named by their diff ids.
//!
//! Layers stay as they came where they are plain or gzipped, which every reader takes; those that came with zstd are inflated.

use std::io::{self, Read as _, Write};

use super::{Archive, Checked, Selected};
use crate::error::Result;
use crate::images::Shared;
use crate::images::compression::{self, Compression};
use crate::images::document::DockerManifest;
use crate::images::limits::read_error;

pub(super) fn write<W: Write>(shared: &Shared, images: &[Selected], archive: &mut Archive<W>) -> Result<()> {
    let manifests = images.iter().map(|selected| {
        let image = selected.image();
        let names: Vec<String> = selected.names.iter().cloned().collect();
        DockerManifest {
            config: config_name(&image.blobs[1]),
            repo_tags: (!names.is_empty()).then_some(names),
            layers: image.layers.iter().map(|layer| layer_name(&layer.diff_id)).collect(),
        }
    });
    let manifest = DockerManifest::encode(&manifests.collect::<Vec<_>>())?;
    archive.file("manifest.json", manifest.len() as u64, &*manifest)?;
    for selected in images {
        let image = selected.image();
        archive.blob(shared, &image.blobs[1], &config_name(&image.blobs[1]))?;
        for (layer, blob) in image.layer_blobs() {
            write_layer(shared, archive, &layer_name(&layer.diff_id), blob)?;
        }
    }
    Ok(())
}

fn write_layer<W: Write>(shared: &Shared, archive: &mut Archive<W>, name: &str, blob: &str) -> Result<()> {
    if archive.written.contains(name) {
        return Ok(());
    }
    let (stream, compression) = compression::open(Checked::open(shared, blob)?.0)?;
    if compression != Compression::Zstd {
        drop(stream);
        return archive.blob(shared, blob, name);
    }
    // A tar says how long a file is before the file: it is inflated twice, and never kept.
    let size = inflated(stream)?;
    let (stream, _) = compression::open(Checked::open(shared, blob)?.0)?;
    archive.file(name, size, stream.take(size))
}

fn inflated(mut stream: impl io::Read) -> Result<u64> {
    io::copy(&mut stream, &mut io::sink()).map_err(|error| read_error("reading a layer", error))
}

fn config_name(digest: &str) -> String {
    format!("{}.json", hex(digest))
}

fn layer_name(diff_id: &str) -> String {
    format!("{}.tar", hex(diff_id))
}

fn hex(digest: &str) -> &str {
    digest.strip_prefix("sha256:").unwrap_or(digest)
}
