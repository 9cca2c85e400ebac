//! One blob on its way: fetched, digested and, if it is a layer, converted side by side.
//!
//! ```text
//! registry ──> part (a file that grows) ──> digest of the blob
//!                                      └──> decompression ──> digest of the tar, EROFS file
//! ```
//!
//! The two readers follow the file on threads of their own, so a layer is nearly ready when its last byte comes. Nothing
//! counts before the blob's digest is right.

use std::fs::{self, File};
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
use crate::images::limits::{read_error, read_json};
use crate::images::record::Layer;
use crate::images::registry::Session;
use crate::images::{Shared, compression, layer_file, repair};

/// A blob that is wanted.
#[derive(Debug, Clone)]
pub(super) struct Wanted {
    pub(super) digest: String,
    pub(super) size: u64,
    /// Whether it is a layer, which is to be converted, or a config.
    pub(super) is_layer: bool,
}

/// What a flight brought.
#[derive(Debug)]
pub(super) struct Landed {
    wanted: Wanted,
    /// The blob, whole and synced; `None` if the content store has it.
    part: Option<PathBuf>,
    /// Of a layer.
    pub(super) diff_id: Option<String>,
    outcome: Mutex<Outcome>,
}

#[derive(Debug)]
enum Outcome {
    /// A layer's EROFS file is in the scratch directory.
    Made(Option<(NamedTempFile, Converted)>),
    Kept(Option<Layer>),
    /// It could not be kept.
    Lost,
}

impl Landed {
    pub(super) fn new(wanted: Wanted, part: Option<PathBuf>, made: Option<(NamedTempFile, Converted)>) -> Self {
        let diff_id = made.as_ref().map(|(_, converted)| converted.diff_id.clone());
        Self { wanted, part, diff_id, outcome: Mutex::new(Outcome::Made(made)) }
    }

    /// Reads a config. Blocks on the disk.
    pub(super) fn read(&self, shared: &Shared) -> Result<Vec<u8>> {
        // Held, so that it is not moved meanwhile.
        let outcome = self.outcome.lock().unwrap_or_else(PoisonError::into_inner);
        match (&self.part, &*outcome) {
            (Some(part), Outcome::Made(_)) => {
                let file = File::open(part);
                let file = file.map_err(|error| Error::io(format!("opening {}", part.display()), &error))?;
                read_json(&self.wanted.digest, file)
            }
            _ => shared.content.read_document(&self.wanted.digest),
        }
    }

    /// Moves the blob, and the layer that was made of it, to where they stay, once, whoever needs them. Blocks on the disk.
    pub(super) fn keep(&self, shared: &Shared) -> Result<Option<Layer>> {
        let mut outcome = self.outcome.lock().unwrap_or_else(PoisonError::into_inner);
        let layer = match std::mem::replace(&mut *outcome, Outcome::Lost) {
            Outcome::Kept(layer) => layer,
            Outcome::Made(made) => {
                if let Some(part) = &self.part {
                    shared.content.keep(ScratchBlob::at(part, &self.wanted.digest, self.wanted.size)?)?;
                    // Still there if the content store had it meanwhile.
                    let _ = fs::remove_file(part);
                }
                let keep = |(file, converted): (NamedTempFile, Converted)| {
                    layer_file::keep(shared, &converted.diff_id.clone(), file, &converted)
                };
                made.map(keep).transpose()?
            }
            Outcome::Lost => return Err(Error::new(Reason::System, "the blob could not be kept for another pull")),
        };
        *outcome = Outcome::Kept(layer.clone());
        Ok(layer)
    }
}

/// Brings a blob, unless the content store has it, and converts it if it is a layer.
pub(super) async fn bring(
    shared: Arc<Shared>,
    session: Arc<Session>,
    wanted: Wanted,
    progress: Arc<BlobProgress>,
) -> Result<Landed> {
    let _slot = shared.pulls.slot().await?;
    progress.set_phase(PullPhase::Downloading);
    let landed = match stored(&shared, &wanted, &progress).await? {
        Some(landed) => landed,
        None => fetched(&shared, &session, &wanted, &progress).await?,
    };
    progress.set_done(wanted.size);
    progress.set_phase(PullPhase::Done);
    Ok(landed)
}

/// A blob that the content store has.
async fn stored(shared: &Arc<Shared>, wanted: &Wanted, progress: &Arc<BlobProgress>) -> Result<Option<Landed>> {
    let (shared, wanted, progress) = (Arc::clone(shared), wanted.clone(), Arc::clone(progress));
    blocking(move || {
        // One that is damaged must not stand in the way of one that is whole.
        if !shared.content.has(&wanted.digest) || !repair::blob_is_whole(&shared, &wanted.digest)? {
            return Ok(None);
        }
        progress.set_done(wanted.size);
        progress.set_phase(PullPhase::Converting);
        let blob = shared.content.read(&wanted.digest)?;
        let made = if wanted.is_layer { Some(convert(&shared, blob)?) } else { None };
        Ok(Some(Landed::new(wanted, None, made)))
    })
    .await
}

async fn fetched(shared: &Arc<Shared>, session: &Session, wanted: &Wanted, progress: &BlobProgress) -> Result<Landed> {
    // Each endpoint may give something else, but none twice.
    let mut others = session.endpoints();
    loop {
        let (directory, blob) = (shared.parts.clone(), wanted.clone());
        let part = blocking(move || Part::open(&directory, &blob.digest, blob.size)).await?;
        let resumed = part.prefix() > 0;
        let attempt = try_fetch(shared, session, wanted, progress, &part).await;
        let (error, line) = match attempt {
            Ok(landed) => return Ok(landed),
            Err(failed) => failed,
        };
        // A part is worth keeping if there is something of it that may be right.
        let worthless = matches!(
            error.reason,
            Reason::BlobDamaged | Reason::InvalidArchive | Reason::LimitExceeded | Reason::StorageFull
        );
        if worthless || part.prefix() == 0 {
            blocking(move || {
                part.remove();
                Ok(())
            })
            .await?;
        }
        // What was there before may have been the damage, or the mirror that it came from.
        let elsewhere = || others > 1 && session.distrust(line);
        match error.reason {
            Reason::BlobDamaged if resumed => {}
            Reason::BlobDamaged if elsewhere() => others -= 1,
            _ => return Err(error),
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
        let (shared, part, is_layer) = (Arc::clone(shared), part.clone(), wanted.is_layer);
        blocking(move || {
            if !is_layer {
                return Ok(None);
            }
            convert(&shared, part.follow()).map(Some).inspect_err(|error| {
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
    // The blob is made safe while the rest of its layer is being written.
    let keeping = async {
        let (line, found) = tokio::join!(fetching, digesting);
        let line = line.map_err(|error| (error, 0))?;
        let failed = |error| (error, line);
        let found = found.map_err(failed)?;
        if found != wanted.digest {
            return Err(failed(session.damaged(line, "the blob", &wanted.digest, &found)));
        }
        let finishing = part.clone();
        let path = blocking(move || finishing.finish()).await.map_err(failed)?;
        Ok((line, path))
    };
    let (kept, made) = tokio::join!(keeping, converting);
    let (line, path) = kept?;
    let made = made.map_err(|error| (error, line))?;
    Ok(Landed::new(wanted.clone(), Some(path), made))
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
