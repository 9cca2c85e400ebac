//! What a container changed, as a list.

use super::WritableLayer;
use super::walk::{Purpose, Walk, What};
use crate::error::Result;

/// Changes handed over at once.
const BATCH: usize = 256;
/// Bytes of paths handed over at once, about.
const BATCH_BYTES: usize = 64 << 10;

/// What happened to a path.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum ChangeKind {
    /// It was made.
    Added,
    /// Its contents or attributes are others, or it was replaced.
    Modified,
    /// It was removed.
    Deleted,
}

/// One path that a container changed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Change {
    /// Absolute.
    pub(crate) path: Vec<u8>,
    pub(crate) kind: ChangeKind,
}

/// Tells all changes, in batches, until `take` says that it wants no more. Blocks while `take` does.
pub(in crate::images) fn diff(layer: &WritableLayer, mut take: impl FnMut(Vec<Change>) -> bool) -> Result<()> {
    let Some(mut walk) = Walk::begin(layer, Purpose::Diff)? else { return Ok(()) };
    let (mut batch, mut bytes) = (Vec::new(), 0);
    while let Some(entry) = walk.next()? {
        let kind = match (entry.what, entry.existed) {
            (What::Whiteout | What::Hidden, _) => ChangeKind::Deleted,
            (What::Here(_) | What::Opaque(_), true) => ChangeKind::Modified,
            (What::Here(_) | What::Opaque(_), false) => ChangeKind::Added,
        };
        // The root is nobody's change.
        if entry.path.is_empty() {
            continue;
        }
        bytes += entry.path.len();
        batch.push(Change { path: [b"/", &*entry.path].concat(), kind });
        if (batch.len() >= BATCH || bytes >= BATCH_BYTES) && !take(std::mem::take(&mut batch)) {
            return Ok(());
        }
        if batch.is_empty() {
            bytes = 0;
        }
    }
    if !batch.is_empty() {
        take(batch);
    }
    Ok(())
}
