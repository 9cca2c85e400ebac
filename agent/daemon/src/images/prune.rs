//! Removes what nobody uses, and says why the rest stays.

use std::collections::{BTreeMap, BTreeSet};

use super::record::Image;
use super::remove::{UserOf, forget};
use super::{Shared, pull, sweep};
use crate::error::{Reason, Result};

/// What to prune.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct PruneOptions {
    /// Images with names, too.
    pub(crate) all: bool,
    /// Only say what would be done.
    pub(crate) dry_run: bool,
}

/// What a prune did, or would do.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Pruned {
    /// Digests and names of images that went.
    pub(crate) removed: Vec<(String, Vec<String>)>,
    pub(crate) kept: Vec<Kept>,
    pub(crate) freed_bytes: u64,
}

/// An image that stays.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Kept {
    pub(crate) digest: String,
    pub(crate) names: Vec<String>,
    pub(crate) reason: String,
    /// Bytes that would become free if it went alone.
    pub(crate) bytes: u64,
}

pub(super) fn prune(shared: &Shared, options: PruneOptions, user_of: &UserOf<'_>) -> Result<Pruned> {
    let _changes = shared.lock_changes();
    let (mut removed, mut kept) = (Vec::new(), Vec::new());
    let mut safe = true;
    for image in shared.catalog.list() {
        let mut reason = keeps(shared, &image, options.all, user_of);
        if reason.is_none() && !options.dry_run {
            match forget(shared, &image, user_of) {
                Ok(is_safe) => safe &= is_safe,
                // A container came between.
                Err(error) if error.reason == Reason::ImageInUse => reason = Some(error.message),
                Err(error) => return Err(error),
            }
        }
        match reason {
            Some(reason) => kept.push((image, reason)),
            None => removed.push(image),
        }
    }
    let gone: BTreeSet<&str> = removed.iter().map(|image| image.digest.as_str()).collect();
    let needs = shared.catalog.needs(|image| gone.contains(image.digest.as_str()));
    let sizes = sizes(shared);
    let kept = kept.into_iter().map(|(image, reason)| Kept {
        bytes: alone(&image, &needs, &sizes),
        digest: image.digest.clone(),
        names: image.names.clone(),
        reason,
    });
    let kept = kept.collect();
    let mut freed_bytes = 0;
    // What a power cut may bring back keeps its files; they go with the next sweep.
    if safe {
        for files in [sweep::unneeded(shared, &needs)?, sweep::damaged(shared)?] {
            freed_bytes += if options.dry_run { files.bytes() } else { files.remove(shared)? };
        }
    }
    for part in pull::parts(shared)?.into_iter().filter(|part| !part.active) {
        freed_bytes += if options.dry_run { part.bytes } else { pull::remove_part(shared, &part.digest)? };
    }
    let removed = removed.iter().map(|image| (image.digest.clone(), image.names.clone())).collect();
    Ok(Pruned { removed, kept, freed_bytes })
}

/// Why an image stays, if it does.
fn keeps(shared: &Shared, image: &Image, all: bool, user_of: &UserOf<'_>) -> Option<String> {
    if let Some(container) = user_of(&image.digest) {
        return Some(format!("used by the container {container}"));
    }
    if let Some(using) = shared.catalog.being_used(&image.digest) {
        return Some(using.to_owned());
    }
    (!all && !image.names.is_empty()).then(|| "has a name".to_owned())
}

/// Bytes of all blobs (by digest) and layer files (by diff id).
pub(super) fn sizes(shared: &Shared) -> BTreeMap<String, u64> {
    let mut layers: BTreeMap<String, u64> = BTreeMap::new();
    for image in shared.catalog.list() {
        layers.extend(image.layers.iter().map(|layer| (layer.diff_id.clone(), layer.size)));
    }
    // A layer that came uncompressed has one digest for both of its files.
    let mut sizes = shared.content.list();
    for (diff_id, size) in layers {
        *sizes.entry(diff_id).or_default() += size;
    }
    sizes
}

/// Bytes of files that nobody but this image needs.
fn alone(image: &Image, needs: &BTreeMap<String, usize>, sizes: &BTreeMap<String, u64>) -> u64 {
    let own = image.files().into_iter().filter(|file| needs.get(*file).is_none_or(|count| *count <= 1));
    own.filter_map(|file| sizes.get(file)).sum()
}
