//! Makes damaged or missing files of images anew: layer files from their blobs, blobs from a registry. Whoever finds damage
//! (the start, a mount that fails, a verification) comes here.

use std::sync::PoisonError;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use tempfile::NamedTempFile;

use super::base::{self, BASE_LAYER};
use super::content::sync_directory;
use super::import::Progress;
use super::layer::Converted;
use super::record::{Image, Layer};
use super::registry::Credentials;
use super::{Shared, install, layer_file, reading};
use crate::error::{Error, Reason, Result};
use crate::store::{Table, Write};

/// Time between two looks at whether somebody still waits for a registry.
const CANCEL_CHECK: Duration = Duration::from_millis(100);

/// How to repair what a verification finds.
#[derive(Debug, Clone, Default)]
pub(crate) struct Repair {
    /// For registries; `None`: the node's own.
    pub(crate) credentials: Option<Credentials>,
}

/// Fetches a blob of an image anew, checks it and keeps it.
pub(super) type Fetch<'a> = dyn Fn(&Image, &str) -> Result<()> + 'a;

/// Runs a future to its end on this thread, which may block, unless nobody waits for it any more.
pub(super) fn until_cancelled(work: impl Future<Output = Result<()>>, cancelled: &AtomicBool) -> Result<()> {
    tokio::runtime::Handle::current().block_on(async {
        let mut work = std::pin::pin!(work);
        loop {
            tokio::select! {
                done = &mut work => return done,
                () = tokio::time::sleep(CANCEL_CHECK) => {}
            }
            if cancelled.load(Ordering::Relaxed) {
                return Err(Error::new(Reason::DeadlineExceeded, "the repair was cancelled"));
            }
        }
    })
}

/// Reads a blob that is to be used again; one that is damaged is set aside.
pub(super) fn blob_is_whole(shared: &Shared, digest: &str) -> Result<bool> {
    let Some(problem) = reading::blob_problem(&shared.content.path(digest), digest, &mut |_| Ok(()))? else {
        return Ok(true);
    };
    tracing::error!(digest, problem, "a blob is damaged and set aside");
    set_blob_aside(shared, digest)?;
    Ok(false)
}

fn set_blob_aside(shared: &Shared, digest: &str) -> Result<()> {
    if shared.content.has(digest) {
        shared.content.take_out(digest, &shared.damaged.join(digest.replacen(':', "-", 1)))?;
        shared.content.sync()?;
    }
    Ok(())
}

/// Sets a blob aside and fetches it anew, for the first of its images whose registry has it.
pub(super) fn blob(shared: &Shared, digest: &str, fetch: &Fetch<'_>) -> Result<()> {
    set_blob_aside(shared, digest)?;
    let mut failure = Error::new(Reason::Internal, format!("no image has the blob {digest}"));
    for image in shared.catalog.images_of(digest) {
        match fetch(&image, digest) {
            Ok(()) => {
                shared.mirror_index();
                return Ok(());
            }
            Err(error) => failure = error,
        }
    }
    Err(failure)
}

/// Makes a layer's file anew from a blob of an image that has it. The old one, if it is there, is set aside.
pub(super) fn layer(shared: &Shared, diff_id: &str, cancelled: &AtomicBool) -> Result<()> {
    let made = convert(shared, diff_id, cancelled);
    if made.as_ref().is_err_and(|error| error.reason == Reason::DeadlineExceeded) {
        return made.map(drop);
    }
    layer_file::set_aside(shared, diff_id)?;
    let (file, converted) = made?;
    let layer = layer_file::keep(shared, diff_id, file, &converted)?;
    sync_directory(&shared.layers)?;
    record(shared, &layer)
}

/// Converts a layer from the first of its blobs that is whole.
pub(super) fn convert(shared: &Shared, diff_id: &str, cancelled: &AtomicBool) -> Result<(NamedTempFile, Converted)> {
    let never = AtomicBool::new(false);
    let mut failure = Error::new(Reason::Internal, format!("no image has the layer {diff_id}"));
    for blob in shared.catalog.blobs_of(diff_id) {
        let converted = shared.content.read(&blob).and_then(|file| {
            install::convert_checked(shared, file, diff_id, &Progress::default(), [cancelled, &never])
        });
        match converted {
            Ok(converted) => return Ok(converted),
            Err(error) => failure = error,
        }
    }
    Err(failure)
}

/// After a mount that failed: makes a layer's file anew if it is damaged; returns whether it was.
pub(super) fn mend(shared: &Shared, diff_id: &str) -> Result<bool> {
    // Two starts may find the same damage: the second finds it mended.
    let _turn = shared.mending.lock().unwrap_or_else(PoisonError::into_inner);
    if diff_id == BASE_LAYER {
        // There is nothing to compare it with; it is made in no time.
        layer_file::set_aside(shared, diff_id)?;
        return base::make(shared).map(|()| true);
    }
    let never = AtomicBool::new(false);
    let Some(known) = shared.catalog.layer(diff_id) else { return Ok(false) };
    let problem = layer_file::problem(shared, &known, &mut |_| Ok(()))?;
    if problem.is_none() && known.digest.is_some() {
        return Ok(false);
    }
    tracing::error!(layer = diff_id, problem, "a layer's file cannot be mounted; making it anew from its blob");
    layer(shared, diff_id, &never)?;
    Ok(true)
}

/// Writes down what a layer's file is now, where that differs (an earlier hull wrote it otherwise, or no digest).
pub(super) fn record(shared: &Shared, layer: &Layer) -> Result<()> {
    let _changes = shared.lock_changes();
    let mut writes = Vec::new();
    let mut changed = Vec::new();
    for image in shared.catalog.list() {
        if image.layers.iter().all(|other| other.diff_id != layer.diff_id || other == layer) {
            continue;
        }
        let mut image = (*image).clone();
        image.record.layers.iter_mut().filter(|other| other.diff_id == layer.diff_id).for_each(|other| {
            other.clone_from(layer);
        });
        writes.push(Write::Put { table: Table::Images, key: image.digest.clone(), value: image.record.encode()? });
        changed.push(image);
    }
    if writes.is_empty() {
        return Ok(());
    }
    shared.commit(writes.into())?;
    changed.into_iter().for_each(|image| drop(shared.catalog.insert(image)));
    Ok(())
}
