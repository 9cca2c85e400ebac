//! Reads blobs and layer files again and compares them with their digests.

use std::collections::BTreeMap;
use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering};

use super::reading::{open_cold, read_problem, stopped, unreadable};
use super::record::{Image, Layer};
use super::repair::{self, Fetch};
use super::{Shared, layer_file, reading, sweep};
use crate::error::Result;

/// What a file is to an image.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum FileKind {
    /// A blob of the content store.
    Blob,
    /// A layer as it is kept for mounting.
    Layer,
}

/// A file that is not what it should be.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Damaged {
    /// Digest of the blob, or diff id of the layer.
    pub(crate) digest: String,
    pub(crate) kind: FileKind,
    /// Digests of the images that need it.
    pub(crate) images: Vec<String>,
    /// What is wrong with it.
    pub(crate) problem: String,
    /// Whether it is whole again; `None`: that was not asked for.
    pub(crate) repaired: Option<Result<()>>,
}

/// How far a verification is; counts up while it runs.
#[derive(Debug, Default)]
pub(crate) struct VerifyProgress {
    pub(crate) files_done: AtomicU32,
    pub(crate) files_total: AtomicU32,
    pub(crate) bytes_done: AtomicU64,
    pub(crate) bytes_total: AtomicU64,
}

/// A verification under way.
pub(super) struct Verification<'a> {
    pub(super) shared: &'a Shared,
    pub(super) progress: &'a VerifyProgress,
    pub(super) cancelled: &'a AtomicBool,
    /// How to repair what is damaged; `None`: leave it.
    pub(super) fetch: Option<&'a Fetch<'a>>,
}

/// Files to read, and the images that need them: blobs before the layers that may have to be made from them, and first of all
/// manifests, which say how long the other blobs are.
type Files = BTreeMap<(FileKind, Order, String), Vec<String>>;

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Order {
    Manifest,
    Other,
}

impl Verification<'_> {
    /// Reads all files of the images, each once, and tells `report` of those that are damaged.
    pub(super) fn run(&self, images: &[Arc<Image>], report: &mut dyn FnMut(Damaged)) -> Result<()> {
        let files = self.files(images);
        for ((kind, _, digest), images) in files {
            if let Some(problem) = self.problem(kind, &digest)?.filter(|_| self.is_needed(&digest)) {
                tracing::error!(digest, ?kind, problem, "a file of an image is damaged");
                let repaired = self.fetch.map(|fetch| self.repair(kind, &digest, fetch));
                report(Damaged { digest, kind, images, problem, repaired });
            }
            self.progress.files_done.fetch_add(1, Ordering::Relaxed);
        }
        Ok(())
    }

    fn files(&self, images: &[Arc<Image>]) -> Files {
        let mut files = Files::new();
        let mut bytes = 0;
        let sizes = self.shared.content.list();
        let mut add = |kind, digest: &str, image: &Image, size: u64| {
            let order = if digest == image.digest { Order::Manifest } else { Order::Other };
            let images = files.entry((kind, order, digest.to_owned())).or_default();
            bytes += if images.is_empty() { size } else { 0 };
            if images.last() != Some(&image.digest) {
                images.push(image.digest.clone());
            }
        };
        for image in images {
            for blob in &image.blobs {
                add(FileKind::Blob, blob, image, sizes.get(blob).copied().unwrap_or_default());
            }
            for layer in &image.layers {
                add(FileKind::Layer, &layer.diff_id, image, layer.size);
            }
        }
        self.progress.files_total.store(u32::try_from(files.len()).unwrap_or(u32::MAX), Ordering::Relaxed);
        self.progress.bytes_total.store(bytes, Ordering::Relaxed);
        files
    }

    fn problem(&self, kind: FileKind, digest: &str) -> Result<Option<String>> {
        match kind {
            FileKind::Blob => reading::blob_problem(&self.shared.content.path(digest), digest, &mut self.read()),
            FileKind::Layer => match self.shared.catalog.layer(digest) {
                Some(layer) if layer.digest.is_some() => layer_file::problem(self.shared, &layer, &mut self.read()),
                Some(layer) => self.unknown_layer_problem(&layer),
                None => Ok(None),
            },
        }
    }

    /// Counts what is read, and stops it when nobody waits any more.
    fn read(&self) -> impl FnMut(usize) -> io::Result<()> {
        |bytes| {
            self.progress.bytes_done.fetch_add(bytes as u64, Ordering::Relaxed);
            if self.cancelled.load(Ordering::Relaxed) { Err(stopped()) } else { Ok(()) }
        }
    }

    /// A layer of which an earlier hull recorded no digest is compared with what its blob converts to.
    fn unknown_layer_problem(&self, layer: &Layer) -> Result<Option<String>> {
        let file = match open_cold(&self.shared.layer_path(&layer.diff_id)) {
            Ok(file) => file,
            Err(error) => return Ok(Some(unreadable(&error))),
        };
        let (_, converted) = match repair::convert(self.shared, &layer.diff_id, self.cancelled) {
            Ok(converted) => converted,
            Err(error) => return Ok(Some(format!("nothing is known that it could be compared with: {error}"))),
        };
        match layer_file::digest(&file, self.read()) {
            Ok(digest) if digest == converted.digest => {
                repair::record(self.shared, &Layer { digest: Some(digest), ..layer.clone() })?;
                Ok(None)
            }
            Ok(_) => Ok(Some("it is not what its blob converts to".to_owned())),
            Err(error) => read_problem("reading a layer", error).map(Some),
        }
    }

    /// Its image may have been removed while it was read.
    fn is_needed(&self, digest: &str) -> bool {
        self.shared.catalog.needs(|_| false).contains_key(digest)
    }

    fn repair(&self, kind: FileKind, digest: &str, fetch: &Fetch<'_>) -> Result<()> {
        let kept = {
            let _changes = self.shared.lock_changes();
            self.shared.catalog.pin(vec![digest.to_owned()])
        };
        let repaired = match kind {
            FileKind::Blob => repair::blob(self.shared, digest, fetch),
            FileKind::Layer => repair::layer(self.shared, digest, self.cancelled),
        };
        drop(kept);
        if !self.is_needed(digest) {
            let _changes = self.shared.lock_changes();
            sweep::sweep(self.shared)?;
        }
        repaired
    }
}
