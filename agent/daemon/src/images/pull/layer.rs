//! One layer on its way: fetched, digested and converted side by side.
//!
//! ```text
//! registry ──> part (a file that grows) ──> digest of the blob
//!                                      └──> decompression ──> digest of the tar, EROFS file
//! ```
//!
//! The two readers follow the file on threads of their own, so a layer is nearly ready when its last byte comes. Nothing
//! counts before the blob's digest is right.

use std::fs;
use std::io::{self, Read};
use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};

use sha2::{Digest, Sha256};
use tempfile::NamedTempFile;

use super::fetch::fetch;
use super::flight::cancelled;
use super::part::Part;
use super::progress::{BlobProgress, PullPhase};
use crate::blocking::blocking;
use crate::error::{Error, Reason, Result};
use crate::images::content::ScratchBlob;
use crate::images::import::{self, Progress};
use crate::images::layer::Converted;
use crate::images::limits::read_error;
use crate::images::record::Layer;
use crate::images::registry::Session;
use crate::images::{Shared, compression, install};

/// A blob that is wanted.
#[derive(Debug, Clone)]
pub(super) struct Wanted {
    pub(super) digest: String,
    pub(super) size: u64,
}

/// What a flight brought.
#[derive(Debug)]
pub(super) struct Landed {
    digest: String,
    /// The blob, whole and synced; `None` if the content store has it.
    part: Option<PathBuf>,
    blob_size: u64,
    pub(super) diff_id: String,
    outcome: Mutex<Outcome>,
}

#[derive(Debug)]
enum Outcome {
    /// The EROFS file is in the scratch directory.
    Made(NamedTempFile, Converted),
    Kept(Layer),
    /// It could not be kept.
    Lost,
}

impl Landed {
    fn new(digest: String, part: Option<PathBuf>, blob_size: u64, file: NamedTempFile, converted: Converted) -> Self {
        let diff_id = converted.diff_id.clone();
        Self { digest, part, blob_size, diff_id, outcome: Mutex::new(Outcome::Made(file, converted)) }
    }

    /// Moves blob and layer to where they stay, once, whoever needs them. Blocks on the disk.
    pub(super) fn keep(&self, shared: &Shared) -> Result<Layer> {
        let mut outcome = self.outcome.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(part) = self.part.as_ref().filter(|_| matches!(*outcome, Outcome::Made(..))) {
            shared.content.keep(ScratchBlob::at(part, &self.digest, self.blob_size)?)?;
            // Still there if the content store had it meanwhile.
            let _ = fs::remove_file(part);
        }
        let layer = match std::mem::replace(&mut *outcome, Outcome::Lost) {
            Outcome::Made(file, converted) => install::keep_layer(shared, &self.diff_id, file, &converted)?,
            Outcome::Kept(layer) => layer,
            Outcome::Lost => return Err(Error::new(Reason::System, "the layer could not be kept for another pull")),
        };
        *outcome = Outcome::Kept(layer.clone());
        Ok(layer)
    }
}

/// Brings a layer: fetches its blob, unless the content store has it, and converts it.
pub(super) async fn bring(
    shared: Arc<Shared>,
    session: Arc<Session>,
    wanted: Wanted,
    progress: Arc<BlobProgress>,
) -> Result<Landed> {
    let _slot = shared.pulls.slot().await?;
    progress.set_phase(PullPhase::Downloading);
    let landed = match stored(&shared, &wanted).await? {
        Some(landed) => landed,
        None => fetched(&shared, &session, &wanted, &progress).await?,
    };
    progress.set_done(wanted.size);
    progress.set_phase(PullPhase::Done);
    Ok(landed)
}

/// The layer of a blob that the content store has.
async fn stored(shared: &Arc<Shared>, wanted: &Wanted) -> Result<Option<Landed>> {
    let (shared, digest) = (Arc::clone(shared), wanted.digest.clone());
    blocking(move || {
        if !shared.content.has(&digest) {
            return Ok(None);
        }
        let blob = shared.content.read(&digest)?;
        let (file, converted) = convert(&shared, blob)?;
        Ok(Some(Landed::new(digest, None, 0, file, converted)))
    })
    .await
}

async fn fetched(shared: &Arc<Shared>, session: &Session, wanted: &Wanted, progress: &BlobProgress) -> Result<Landed> {
    loop {
        let (directory, blob) = (shared.parts.clone(), wanted.clone());
        let part = blocking(move || Part::open(&directory, &blob.digest, blob.size)).await?;
        let resumed = part.prefix() > 0;
        let attempt = try_fetch(shared, session, wanted, progress, &part).await;
        let (error, line) = match attempt {
            Ok(landed) => return Ok(landed),
            Err(failed) => failed,
        };
        // A part is worth keeping if what is there of it may be right.
        if matches!(
            error.reason,
            Reason::BlobDamaged | Reason::InvalidArchive | Reason::LimitExceeded | Reason::StorageFull
        ) {
            blocking(move || Ok(part.remove())).await?;
        }
        // What was there before may have been the damage, or the mirror that it came from.
        let again = error.reason == Reason::BlobDamaged && (resumed || session.distrust(line));
        if !again {
            return Err(error);
        }
        tracing::warn!(%error, "fetching a blob anew");
    }
}

/// Ends a part's followers when the fetch is given up.
struct AbortOnDrop<'a>(&'a Part);

impl Drop for AbortOnDrop<'_> {
    fn drop(&mut self) {
        self.0.abort(cancelled());
    }
}

/// Fetches the blob once, whatever is missing of it. With a failure comes the line by which the bytes came.
async fn try_fetch(
    shared: &Arc<Shared>,
    session: &Session,
    wanted: &Wanted,
    progress: &BlobProgress,
    part: &Part,
) -> Result<Landed, (Error, usize)> {
    let _abort = AbortOnDrop(part);
    let digesting = {
        let part = part.clone();
        blocking(move || digest(part.follow()))
    };
    let converting = {
        let (shared, part) = (Arc::clone(shared), part.clone());
        blocking(move || {
            convert(&shared, part.follow()).inspect_err(|error| {
                // Damage may have come with the connection: the digest will tell. All else is true of the blob itself.
                if error.reason != Reason::InvalidArchive {
                    part.abort(error.clone());
                }
            })
        })
    };
    let fetching = async {
        let fetched = fetch(session, &wanted.digest, part, progress).await;
        match &fetched {
            Ok(_) => progress.set_phase(PullPhase::Converting),
            Err(error) => part.abort(error.clone()),
        }
        fetched
    };
    let (line, found, converted) = tokio::join!(fetching, digesting, converting);
    let line = line.map_err(|error| (error, 0))?;
    let failed = |error| (error, line);
    let found = found.map_err(failed)?;
    if found != wanted.digest {
        let line_text = format!("a blob is damaged: its digest is {found}, not {}", wanted.digest);
        return Err(failed(Error::new(Reason::BlobDamaged, line_text)));
    }
    let (file, converted) = converted.map_err(failed)?;
    let finishing = part.clone();
    let path = blocking(move || finishing.finish()).await.map_err(failed)?;
    Ok(Landed::new(wanted.digest.clone(), Some(path), wanted.size, file, converted))
}

fn convert(shared: &Shared, blob: impl Read + Send) -> Result<(NamedTempFile, Converted)> {
    let (stream, _) = compression::open(blob)?;
    import::convert(stream, &shared.scratch, &Progress::default())
}

fn digest(mut blob: impl Read) -> Result<String> {
    let mut hash = Hash(Sha256::new());
    io::copy(&mut blob, &mut hash).map_err(|error| read_error("reading a blob", error))?;
    Ok(format!("sha256:{}", hex::encode(hash.0.finalize())))
}

/// A hash as a writer.
struct Hash(Sha256);

impl io::Write for Hash {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.update(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}
