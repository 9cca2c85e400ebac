//! What images take on the disk, from what is known already.

use std::collections::BTreeMap;

use super::remove::UserOf;
use super::{Shared, prune, pull, sweep};
use crate::error::Result;

/// What things of one kind take.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Usage {
    /// How many there are.
    pub(crate) count: usize,
    /// How many of them are in use.
    pub(crate) active: usize,
    /// Bytes on the disk.
    pub(crate) bytes: u64,
    /// Bytes that would become free if all that is not in use went.
    pub(crate) reclaimable_bytes: u64,
}

/// What is kept of images, by its kind.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Kept {
    pub(crate) images: usize,
    /// As they came.
    pub(crate) blobs: usize,
    pub(crate) blob_bytes: u64,
    /// As they are mounted.
    pub(crate) layers: usize,
    pub(crate) layer_bytes: u64,
}

/// Never blocks on the disk.
pub(super) fn kept(shared: &Shared) -> Kept {
    let (images, blobs) = (shared.catalog.list(), shared.content.list());
    let layers = images.iter().flat_map(|image| &image.layers);
    let layers: BTreeMap<&str, u64> = layers.map(|layer| (layer.diff_id.as_str(), layer.size)).collect();
    Kept {
        images: images.len(),
        blobs: blobs.len(),
        blob_bytes: blobs.values().sum(),
        layers: layers.len(),
        layer_bytes: layers.values().sum(),
    }
}

pub(super) fn of_images(shared: &Shared, user_of: &UserOf<'_>) -> Result<Usage> {
    let images = shared.catalog.list();
    let active = images.iter().filter(|image| user_of(&image.digest).is_some()).count();
    let needs = shared.catalog.needs(|image| user_of(&image.digest).is_none());
    let sizes = prune::sizes(shared);
    let needed: u64 = sizes.iter().filter(|(file, _)| needs.contains_key(*file)).map(|(_, bytes)| bytes).sum();
    let bytes = sizes.values().sum::<u64>() + sweep::damaged(shared)?.bytes();
    Ok(Usage { count: images.len(), active, bytes, reclaimable_bytes: bytes - needed })
}

pub(super) fn of_parts(shared: &Shared) -> Result<Usage> {
    let mut usage = Usage::default();
    for part in pull::parts(shared)? {
        usage.count += 1;
        usage.active += usize::from(part.active);
        usage.bytes += part.bytes;
        usage.reclaimable_bytes += if part.active { 0 } else { part.bytes };
    }
    Ok(usage)
}
