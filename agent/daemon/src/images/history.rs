//! How an image was made, as its config tells.

use super::Shared;
use super::document::ConfigDocument;
use super::limits::read_json;
use super::record::{Image, Layer, nanos};
use crate::error::{Error, Reason, Result};

/// One step of an image's making.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct HistoryEntry {
    /// When it was done, in nanoseconds since the epoch.
    pub(crate) created_nanos: Option<u64>,
    /// What was done, e.g. a line of a Dockerfile.
    pub(crate) created_by: String,
    /// Who did it.
    pub(crate) author: String,
    /// Comment.
    pub(crate) comment: String,
    /// The layer that it made, if it made one.
    pub(crate) layer: Option<Layer>,
}

/// Reads an image's history, the oldest step first.
pub(super) fn read(shared: &Shared, image: &Image) -> Result<Vec<HistoryEntry>> {
    let digest = image.blobs.get(1).ok_or_else(|| Error::new(Reason::Internal, "the image's record has no config"))?;
    let bytes = read_json("the image's config", shared.content.read(digest)?)?;
    let document = ConfigDocument::parse(&bytes, image.layers.len())?;
    let mut layers = image.layers.iter();
    let entries = document.history.unwrap_or_default().into_iter().map(|entry| HistoryEntry {
        created_nanos: entry.created_at().map(nanos),
        // Steps that made a layer come in the order of the layers (OCI image spec, config).
        layer: if entry.empty_layer == Some(true) { None } else { layers.next().cloned() },
        created_by: entry.created_by.unwrap_or_default(),
        author: entry.author.unwrap_or_default(),
        comment: entry.comment.unwrap_or_default(),
    });
    Ok(entries.collect())
}
