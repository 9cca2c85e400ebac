//! Writes images as one archive: an OCI image layout or what `docker save` writes, as a plain tar.
//!
//! Nothing is put together on the disk: blobs are read while the archive is written, and hashed, so that a damaged one
//! ends the archive with an error and never leaves the node.

mod docker;
mod oci;

use std::collections::BTreeSet;
use std::fs::File;
use std::io::{self, Read, Write};
use std::sync::Arc;

use sha2::{Digest as _, Sha256};

use super::Shared;
use super::catalog::{Lease, LeasedFor};
use super::import::ArchiveFormat;
use super::limits::{IMAGES_MAX, read_error, read_json};
use super::record::Image;
use crate::error::{Error, Reason, Result};

/// An export that has begun.
#[derive(Debug)]
pub(crate) struct Export {
    shared: Arc<Shared>,
    images: Vec<Selected>,
    format: ArchiveFormat,
}

/// An image, and the names that it gets in the archive.
#[derive(Debug)]
struct Selected {
    lease: Lease,
    names: BTreeSet<String>,
}

impl Selected {
    fn image(&self) -> &Image {
        self.lease.image()
    }
}

impl Export {
    pub(super) fn begin(shared: Arc<Shared>, references: &[String], format: ArchiveFormat) -> Result<Self> {
        if format == ArchiveFormat::RootfsTar {
            return Err(Error::invalid("format", "images are written as OCI or docker-archives"));
        }
        if references.is_empty() || references.len() > IMAGES_MAX {
            return Err(Error::invalid("images", format_args!("1 to {IMAGES_MAX} images are written at a time")));
        }
        let mut images: Vec<Selected> = Vec::new();
        for reference in references {
            let lease = shared.catalog.lease(reference, LeasedFor::Export)?;
            // The name may go over to another image at any time.
            let found = shared.catalog.find(reference).ok();
            let name = found.filter(|(image, _)| image.digest == lease.image().digest).and_then(|(_, name)| name);
            match images.iter_mut().find(|selected| selected.image().digest == lease.image().digest) {
                Some(selected) => selected.names.extend(name),
                None => images.push(Selected { lease, names: name.into_iter().collect() }),
            }
        }
        Ok(Self { shared, images, format })
    }

    /// Writes the archive. Blocks.
    ///
    /// # Errors
    /// `IMAGE_DAMAGED`, or what `out` said.
    pub(crate) fn write(&self, out: impl Write) -> Result<()> {
        let mut archive = Archive { tar: tar::Builder::new(out), written: BTreeSet::new() };
        match self.format {
            ArchiveFormat::Docker => docker::write(&self.shared, &self.images, &mut archive)?,
            ArchiveFormat::Oci | ArchiveFormat::RootfsTar => oci::write(&self.shared, &self.images, &mut archive)?,
        }
        archive.tar.into_inner().and_then(|mut out| out.flush()).map_err(|error| failed(&error))
    }
}

/// An archive being written.
struct Archive<W: Write> {
    tar: tar::Builder<W>,
    /// Names of the files in it.
    written: BTreeSet<String>,
}

impl<W: Write> Archive<W> {
    /// Adds a file, unless there is one of that name.
    fn file(&mut self, name: &str, size: u64, data: impl Read) -> Result<()> {
        if !self.written.insert(name.to_owned()) {
            return Ok(());
        }
        let mut header = tar::Header::new_gnu();
        header.set_entry_type(tar::EntryType::Regular);
        header.set_mode(0o644);
        header.set_size(size);
        self.tar.append_data(&mut header, name, data).map_err(|error| match error.get_ref() {
            Some(_) => read_error("writing the archive", error),
            None => failed(&error),
        })
    }

    /// Adds a blob as it is.
    fn blob(&mut self, shared: &Shared, digest: &str, name: &str) -> Result<()> {
        let (blob, size) = Checked::open(shared, digest)?;
        self.file(name, size, blob)
    }
}

fn failed(error: &io::Error) -> Error {
    Error::io("writing the archive", error)
}

/// A small blob: a manifest or config.
fn document(shared: &Shared, digest: &str) -> Result<Vec<u8>> {
    let (blob, _) = Checked::open(shared, digest)?;
    read_json(digest, blob)
}

/// A blob that is hashed while it is read; at its end, damage is an error.
struct Checked {
    file: File,
    digest: String,
    hash: Sha256,
    left: u64,
}

impl Checked {
    /// The blob and its bytes.
    fn open(shared: &Shared, digest: &str) -> Result<(Self, u64)> {
        let file = shared.content.read(digest).map_err(|error| damaged(digest, &error.to_string()))?;
        let size = file.metadata().map_err(|error| Error::io(format!("reading the blob {digest}"), &error))?.len();
        Ok((Self { file, digest: digest.to_owned(), hash: Sha256::new(), left: size }, size))
    }
}

impl Read for Checked {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let length = self.file.read(buffer)?;
        self.hash.update(&buffer[..length]);
        // Checked with the last byte, before that leaves.
        let last = length > 0 && self.left == length as u64;
        self.left = self.left.saturating_sub(length as u64);
        if last {
            let found = format!("sha256:{}", hex::encode(self.hash.clone().finalize()));
            if found != self.digest {
                return Err(io::Error::other(damaged(&self.digest, &format!("its digest is {found}"))));
            }
        }
        Ok(length)
    }
}

fn damaged(digest: &str, problem: &str) -> Error {
    Error::new(Reason::ImageDamaged, format!("the blob {digest} is damaged: {problem}"))
        .hint("repair it with `hullctl image verify --repair`")
}
