//! What images take on the disk, from what is known already.

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
