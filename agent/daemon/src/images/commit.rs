//! Makes an image of a container: the layers of its image, and one more with what it changed.
//!
//! ```text
//! writable layer ──> tar ──pipe──> gzip ──> blob          a thread that goes through the writable layer,
//!                                   └─────> conversion    then the same road as an import's
//! ```

mod edit;

use std::io::{self, PipeReader, PipeWriter, Read, Write};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;

use flate2::Compression as Level;
use flate2::write::GzEncoder;
use nix::errno::Errno;

use super::changes::{self, WritableLayer};
use super::compression::Compression;
use super::content::{BlobWriter, ScratchBlob};
use super::document::{ConfigDocument, Descriptor, Document, parse_manifest};
use super::import::{self, CONFIG_TYPE, Progress, Unpacked, UnpackedLayer, layer_type};
use super::limits::LAYERS_MAX;
use super::record::{Image, ImageConfig};
use super::{Shared, install};
use crate::error::{Error, Reason, Result};

/// How to commit.
#[derive(Debug, Clone, Default)]
pub(crate) struct CommitOptions {
    /// `None`: the image gets no name.
    pub(crate) name: Option<String>,
    /// Empty: nobody.
    pub(crate) author: String,
    /// Empty: none.
    pub(crate) comment: String,
    /// What the container ran, for the history.
    pub(crate) created_by: String,
    /// What differs from the base image's: what is empty stays as it is; variables, labels, ports and volumes are added.
    pub(crate) config: ImageConfig,
}

/// Who commits, and what is to be done about it meanwhile.
pub(crate) struct Committing<'a> {
    pub(crate) cancelled: &'a AtomicBool,
    /// Called once the writable layer has been read; says whether it stood still.
    pub(crate) read: Box<dyn FnOnce() -> Result<()> + Send + 'a>,
}

pub(super) fn commit(
    shared: &Shared,
    base: &Image,
    layer: &WritableLayer,
    options: &CommitOptions,
    committing: Committing<'_>,
) -> Result<Arc<Image>> {
    let names = import::names(options.name.as_slice())?;
    if base.layers.len() >= LAYERS_MAX {
        let line = format!("the image has {} layers already; at most {LAYERS_MAX} can be mounted", base.layers.len());
        return Err(Error::new(Reason::LimitExceeded, line).hint("make its layers one: export and import it"));
    }
    let cancelled = committing.cancelled;
    let base = Base::read(shared, base)?;
    let (top, blob) = write_layer(shared, layer, committing)?;
    let document = edit::config(&base.config, options, &top.diff_id)?;
    let config = shared.content.write(&document)?;
    let mut descriptors = base.layers;
    let mut layers: Vec<_> = descriptors.iter().zip(base.diff_ids).map(below).collect();
    descriptors.push(Descriptor::new(layer_type(Compression::Gzip), &blob));
    let manifest = super::document::manifest(&Descriptor::new(CONFIG_TYPE, &config), &descriptors)?;
    let manifest = shared.content.write(&manifest)?;
    layers.push(UnpackedLayer { blob: Some(blob), ..top });
    let document = ConfigDocument::parse(&document, layers.len())?;
    let unpacked = Unpacked { manifest, config, document, layers, names };
    install::only(install::install(shared, vec![unpacked], &Progress::default(), cancelled)?)
}

fn below((descriptor, diff_id): (&Descriptor, String)) -> UnpackedLayer {
    UnpackedLayer { digest: descriptor.digest.clone(), diff_id, blob: None, converted: None }
}

/// The image that the container was made from.
struct Base {
    config: Vec<u8>,
    /// In the types of OCI.
    layers: Vec<Descriptor>,
    diff_ids: Vec<String>,
}

impl Base {
    fn read(shared: &Shared, image: &Image) -> Result<Self> {
        let read = |digest: &str| shared.content.read_document(digest);
        let damaged = || Error::new(Reason::Internal, format!("the manifest of the image {} is none", image.digest));
        let Document::Manifest { config, mut layers } = parse_manifest("the manifest", &read(&image.digest)?)? else {
            return Err(damaged());
        };
        let config = read(&config.digest)?;
        for layer in &mut layers {
            layer.media_type = oci_type(&layer.media_type).to_owned();
        }
        let diff_ids = image.layers.iter().map(|layer| layer.diff_id.clone()).collect();
        Ok(Self { config, layers, diff_ids })
    }
}

/// Docker's types of layers are OCI's by other names.
fn oci_type(media_type: &str) -> &str {
    match media_type {
        "application/vnd.docker.image.rootfs.diff.tar" => layer_type(Compression::None),
        "application/vnd.docker.image.rootfs.diff.tar.gzip" => layer_type(Compression::Gzip),
        "application/vnd.docker.image.rootfs.diff.tar.zstd" => layer_type(Compression::Zstd),
        other => other,
    }
}

/// Writes the blob and the EROFS file of the new layer in one go.
fn write_layer(
    shared: &Shared,
    layer: &WritableLayer,
    committing: Committing<'_>,
) -> Result<(UnpackedLayer, ScratchBlob)> {
    let Committing { cancelled, read } = committing;
    let (output, input) = io::pipe().map_err(|error| Error::io("making a pipe", &error))?;
    let mut stream = Gzipping { inner: output, gzip: GzEncoder::new(shared.content.writer()?, Level::fast()) };
    let (written, converted) = thread::scope(|scope| {
        let writer = thread::Builder::new().name("commit".into()).spawn_scoped(scope, move || {
            let output = io::BufWriter::with_capacity(256 << 10, Stopping { inner: input, cancelled });
            changes::write(layer, output).and_then(|()| read())
        });
        let writer = writer.map_err(|error| Error::io("starting a thread", &error))?;
        let converted = import::convert(&mut stream, &shared.scratch, &Progress::default());
        // A writer that still writes finds that nobody reads.
        let blob = stream.finish();
        let written = writer.join().unwrap_or_else(|_| Err(Error::new(Reason::Internal, "a thread failed")));
        Ok((written, converted.and_then(|converted| Ok((converted, blob?)))))
    })?;
    match (written, converted) {
        // The writer says why the tar ended early; but if nobody read it, the reader says why.
        (Err(error), Ok(_)) => Err(error),
        (Err(error), Err(_)) if error.errno != Some(Errno::EPIPE) => Err(error),
        (_, Err(error)) => Err(error),
        (Ok(()), Ok(((file, converted), blob))) => {
            let (digest, diff_id) = (blob.digest.clone(), converted.diff_id.clone());
            Ok((UnpackedLayer { digest, diff_id, blob: None, converted: Some((file, converted)) }, blob))
        }
    }
}

/// Hands a tar on while it is compressed to a blob.
struct Gzipping {
    inner: PipeReader,
    gzip: GzEncoder<BlobWriter>,
}

impl Read for Gzipping {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let read = self.inner.read(buffer)?;
        self.gzip.write_all(&buffer[..read])?;
        Ok(read)
    }
}

impl Gzipping {
    fn finish(self) -> Result<ScratchBlob> {
        drop(self.inner);
        self.gzip.finish().map_err(|error| Error::io("writing a blob", &error))?.finish()
    }
}

/// Writes until nobody waits for it any more.
struct Stopping<'a> {
    inner: PipeWriter,
    cancelled: &'a AtomicBool,
}

impl Write for Stopping<'_> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        if self.cancelled.load(Ordering::Relaxed) {
            return Err(io::Error::other(Error::new(Reason::DeadlineExceeded, "the commit was cancelled")));
        }
        self.inner.write(bytes)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.inner.flush()
    }
}
