//! Room on the file system that the agent's data is on.

use std::path::Path;

use crate::error::{Error, Reason, Result};

/// What a file system has, see statvfs(3).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Space {
    pub(crate) bytes: u64,
    pub(crate) free_bytes: u64,
    /// 0 if it does not count any.
    pub(crate) inodes: u64,
    pub(crate) free_inodes: u64,
}

impl Space {
    /// Asks the file system that `path` is on.
    pub(crate) fn of(path: &Path) -> Result<Self> {
        let found = rustix::fs::statvfs(path).map_err(|error| {
            Error::io(format_args!("asking for the free space of {}", path.display()), &error.into())
        })?;
        Ok(Self {
            bytes: found.f_blocks.saturating_mul(found.f_frsize),
            // What is kept for root is the agent's.
            free_bytes: found.f_bfree.saturating_mul(found.f_frsize),
            inodes: found.f_files,
            free_inodes: found.f_ffree,
        })
    }
}

/// Adds to the error of a full disk what is free there, what was `needed` where that is known, and what to do. Blocking,
/// for a moment.
pub(crate) fn explain(error: Error, path: &Path, needed: Option<&str>) -> Error {
    if error.reason != Reason::StorageFull || error.hint.is_some() {
        return error;
    }
    let Ok(space) = Space::of(path) else { return error };
    let inodes = if space.inodes == 0 { String::new() } else { format!(" and {} inodes", space.free_inodes) };
    let needed = needed.map(|needed| format!("{needed}; ")).unwrap_or_default();
    error.hint(format!(
        "{needed}{} bytes{inodes} are free on the file system of {}: make room, e.g. with `hullctl image prune`",
        space.free_bytes,
        path.display()
    ))
}
