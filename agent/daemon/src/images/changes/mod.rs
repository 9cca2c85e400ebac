//! What a container changed: its writable layer (overlay's upper directory) beside the layers of its image.
//!
//! The container may change it meanwhile, and nothing in it is trusted: everything is found from the layer's directory by
//! descriptor, no link is followed, no file but a regular one is opened, and names, depth and entries are bounded.
//!
//! ```text
//! upper ──> Walk ──> diff       what was added, modified, deleted
//!             ↑  └─> LayerTar   the same as a layer: whiteouts, opaque directories, hard links, attributes
//! lower layers: what was there before
//! ```
//!
//! What is not a change: a target that hull made for one of its mounts (an empty file or directory that the image lacks),
//! and a directory that is in the writable layer only because such a target is in it.

mod attributes;
mod diff;
mod entries;
mod lower;
mod owners;
mod root;
mod tar;
mod walk;

use std::collections::BTreeSet;
use std::fs::File;
use std::path::PathBuf;

pub(crate) use diff::{Change, ChangeKind};
pub(crate) use entries::Shrunk;
pub(crate) use owners::Owners;

pub(super) use diff::diff;
pub(super) use entries::Entries;
pub(super) use root::{Found, Root, failed};
pub(super) use tar::write;

/// The writable layer of a container, and what it lies on.
#[derive(Debug)]
pub(crate) struct WritableLayer {
    /// Overlay's upper directory; `None` if nothing was ever written.
    pub(crate) upper: Option<File>,
    /// Where the layers of the image are mounted, the topmost first.
    pub(crate) lower: Vec<PathBuf>,
    /// Whose ids its files have.
    pub(crate) owners: Owners,
    /// Absolute paths of what is mounted in the container.
    pub(crate) targets: BTreeSet<String>,
}

#[cfg(test)]
mod tests;
