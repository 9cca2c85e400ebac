//! Takes archives in: finds out what one is, reads it once from front to back, and hands over an image to install.
//!
//! ```text
//! bytes ──> Source (counts, cancels) ──> Tee ──> decompression ──> what is it?
//!                                        │        ├─ root file system: converted while it is read;
//!                                        └─ blob  │  its bytes, as they came, become the layer's blob
//!                                                 └─ OCI layout, docker-archive: files go to scratch blobs, hashed;
//!                                                    layers are converted afterwards, as the manifest may come last
//! ```

mod archive;
mod detect;

mod source;

use std::io::{self, Cursor, Read};
use std::path::Path;
use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering};

use super::compression::{self, Compression};
use super::content::{ContentStore, ScratchBlob, scratch_file};
use super::document::{ConfigDocument, Descriptor, host_architecture};
use super::layer::{self, Converted};
use super::limits::read_error;
use super::record::ImageConfig;
use super::reference::Reference;
use crate::error::{Error, Reason, Result};
use source::{Source, Tee};

pub(super) use source::Stoppable;

/// How to import.
#[derive(Debug, Clone, Default)]
pub(crate) struct ImportOptions {
    /// Names for the image. Required for a root file system and for an archive that names none.
    pub(crate) tags: Vec<String>,
    /// `None`: found out.
    pub(crate) format: Option<ArchiveFormat>,
    /// For a root file system. Default: command /bin/sh, PATH as usual.
    pub(crate) config: Option<ImageConfig>,
}

/// What an archive is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum ArchiveFormat {
    /// A root file system as tar; plain, gzip or zstd.
    RootfsTar,
    /// An OCI image layout as tar.
    Oci,
    /// What `docker save` writes.
    Docker,
}

/// How far an import is; counts up while it runs.
#[derive(Debug, Default)]
pub(crate) struct Progress {
    /// Bytes of the archive read so far.
    pub(crate) bytes_read: AtomicU64,
    /// Layers converted so far.
    pub(crate) layers_done: AtomicU32,
    /// Entries of layers read so far.
    pub(crate) entries: AtomicU64,
}

/// An image as it came out of an archive: everything is in the scratch directory.
#[derive(Debug)]
pub(super) struct Unpacked {
    pub(super) manifest: ScratchBlob,
    pub(super) config: ScratchBlob,
    pub(super) document: ConfigDocument,
    /// The lowest first.
    pub(super) layers: Vec<UnpackedLayer>,
    /// Normalized.
    pub(super) names: Vec<String>,
}

/// A layer of it.
#[derive(Debug)]
pub(super) struct UnpackedLayer {
    /// Digest of its blob.
    pub(super) digest: String,
    pub(super) diff_id: String,
    /// `None` if an earlier layer, of this image or of one before it in the archive, has the same blob.
    pub(super) blob: Option<ScratchBlob>,
    /// Its EROFS file, if it was converted while it was read.
    pub(super) converted: Option<(tempfile::NamedTempFile, Converted)>,
}

/// Reads an archive to its end; returns the images that it holds.
pub(super) fn unpack(
    options: &ImportOptions,
    reader: impl Read + Send,
    progress: &Progress,
    cancelled: &AtomicBool,
    store: &ContentStore,
    scratch: &Path,
) -> Result<Vec<Unpacked>> {
    let names = names(&options.tags)?;
    let tee = Tee::new(Source { inner: reader, progress, cancelled });
    let (mut stream, compression) = compression::open(tee.clone())?;
    let mut start = Vec::new();
    let read = stream.by_ref().take(detect::START).read_to_end(&mut start);
    read.map_err(|error| read_error("reading the archive", error))?;
    let format = options.format.map_or_else(|| detect::format(&start), Ok)?;
    if options.config.is_some() && format != ArchiveFormat::RootfsTar {
        return Err(Error::invalid("config", "only a root file system takes one; this archive has its own"));
    }
    let stream = Cursor::new(start).chain(stream);
    match format {
        ArchiveFormat::RootfsTar => {
            if names.is_empty() {
                return Err(Error::invalid("tags", "a root file system needs a name"));
            }
            tee.keep(store.writer()?)?;
            let (file, converted) = convert(stream, scratch, progress)?;
            if !converted.ended {
                return Err(Error::new(
                    Reason::InvalidArchive,
                    "the archive ends without tar's end marker: it is cut short",
                ));
            }
            // Bytes after the end of the compressed stream belong to the blob, too.
            io::copy(&mut tee.clone(), &mut io::sink()).map_err(|error| read_error("reading the archive", error))?;
            progress.layers_done.fetch_add(1, Ordering::Relaxed);
            rootfs(options, names, tee.finish()?, compression, file, converted, store).map(|image| vec![image])
        }
        ArchiveFormat::Oci | ArchiveFormat::Docker => {
            tee.discard();
            let files = archive::spool(stream, store)?;
            let unpacked = match format {
                ArchiveFormat::Docker => archive::docker(files, names, store)?,
                _ => archive::oci(files, names, store)?,
            };
            if unpacked.iter().all(|image| image.names.is_empty()) {
                return Err(Error::invalid("tags", "the archive names no image; a name is needed"));
            }
            Ok(unpacked)
        }
    }
}

/// Converts a layer's tar stream into an EROFS file in the scratch directory.
pub(super) fn convert(
    stream: impl Read + Send,
    scratch: &Path,
    progress: &Progress,
) -> Result<(tempfile::NamedTempFile, Converted)> {
    let file = scratch_file(scratch)?;
    let tails = tempfile::tempfile_in(scratch).map_err(|error| Error::io("making a scratch file", &error))?;
    let duplicate = file.as_file().try_clone().map_err(|error| Error::io("duplicating a descriptor", &error))?;
    let converted = layer::convert(stream, duplicate, tails, &progress.entries)?;
    Ok((file, converted))
}

/// Makes the image of a root file system: config and manifest of hull's own.
fn rootfs(
    options: &ImportOptions,
    names: Vec<String>,
    blob: ScratchBlob,
    compression: Compression,
    file: tempfile::NamedTempFile,
    converted: Converted,
    store: &ContentStore,
) -> Result<Unpacked> {
    let default = || ImageConfig {
        cmd: vec!["/bin/sh".to_owned()],
        env: vec!["PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin".to_owned()],
        ..ImageConfig::default()
    };
    let image_config = options.config.clone().unwrap_or_else(default);
    let document = ConfigDocument::of_rootfs(&image_config, host_architecture(), converted.diff_id.clone());
    let config = store.write(&document.encode()?)?;
    let layer = Descriptor::new(layer_type(compression), &blob);
    let manifest = super::document::manifest(&Descriptor::new(CONFIG_TYPE, &config), &[layer])?;
    let manifest = store.write(&manifest)?;
    let digest = blob.digest.clone();
    let diff_id = converted.diff_id.clone();
    let layer = UnpackedLayer { digest, diff_id, blob: Some(blob), converted: Some((file, converted)) };
    Ok(Unpacked { manifest, config, document, layers: vec![layer], names })
}

pub(super) const CONFIG_TYPE: &str = super::media::OCI_CONFIG;

/// Media type of a layer's blob.
pub(super) const fn layer_type(compression: Compression) -> &'static str {
    match compression {
        Compression::None => "application/vnd.oci.image.layer.v1.tar",
        Compression::Gzip => "application/vnd.oci.image.layer.v1.tar+gzip",
        Compression::Zstd => "application/vnd.oci.image.layer.v1.tar+zstd",
    }
}

/// Normalizes names that an image is to get.
pub(super) fn names(tags: &[String]) -> Result<Vec<String>> {
    let mut names = Vec::new();
    for tag in tags {
        let reference = Reference::parse(tag)?;
        if reference.digest().is_some() {
            return Err(Error::invalid("tags", format_args!("{tag:?} has a digest; a name has none")));
        }
        names.push(reference.to_string());
    }
    names.sort();
    names.dedup();
    Ok(names)
}

impl Descriptor {
    pub(super) fn new(media_type: &str, blob: &ScratchBlob) -> Self {
        Self {
            media_type: media_type.to_owned(),
            digest: blob.digest.clone(),
            size: blob.size,
            platform: None,
            annotations: None,
        }
    }
}

#[cfg(test)]
mod tests;
