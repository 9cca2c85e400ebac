//! Fetches a blob into its part: goes on after what is there, by several connections where that pays, and again where a
//! connection fails.
//!
//! A small blob, or the rest of one, is one request. A large one is fetched in pieces, in their order, by a few connections
//! at once, so that those who read along find the next bytes soon. The first piece is fetched alone: a server that does not
//! know ranges answers it with the whole blob, which then comes by that one connection.

use std::sync::atomic::{AtomicU64, Ordering};

use bytes::Bytes;
use futures_util::future::try_join_all;
use http::StatusCode;
use http::header::{CONTENT_LENGTH, CONTENT_RANGE};
use tokio::sync::mpsc;

use super::part::Part;
use super::progress::BlobProgress;
use crate::error::{Error, Reason, Result};
use crate::images::registry::{Answer, Backoff, Session, Trouble};

/// A blob of which more than this is missing is fetched by several connections.
const LARGE: u64 = 64 << 20;
/// Bytes of one of its pieces.
const PIECE: u64 = 16 << 20;
/// Connections for one blob.
const CONNECTIONS: usize = 3;
/// Pieces, as they come from the connections, that wait to be written.
const WAITING: usize = 16;
/// Bytes after which a connection that fails is as good as new.
const PROGRESS: u64 = 1 << 20;

/// A blob that is being fetched.
struct Fetch<'a> {
    session: &'a Session,
    digest: &'a str,
    size: u64,
    progress: &'a BlobProgress,
    pieces: mpsc::Sender<(u64, Bytes)>,
    /// The line by which bytes came last.
    line: AtomicU64,
}

/// Fetches what is missing of a part. Returns the line by which it came, for those who find it damaged.
///
/// # Errors
/// Those of [`Session::blob`], once trying again has not helped; `STORAGE_FULL`.
pub(super) async fn fetch(session: &Session, digest: &str, part: &Part, progress: &BlobProgress) -> Result<usize> {
    let (from, size) = (part.prefix(), part.size());
    progress.set_done(from);
    let (pieces, mut queue) = mpsc::channel::<(u64, Bytes)>(WAITING);
    let part = part.clone();
    let writer = tokio::task::spawn_blocking(move || {
        while let Some((offset, bytes)) = queue.blocking_recv() {
            part.write(offset, &bytes)?;
        }
        Ok::<_, Error>(())
    });
    let fetch = Fetch { session, digest, size, progress, pieces, line: AtomicU64::new(0) };
    let fetched = fetch.run(from).await;
    let line = fetch.line.load(Ordering::Relaxed);
    // Ends the writer.
    drop(fetch);
    let written = writer.await.map_err(|error| Error::new(Reason::Internal, format!("a task ended early: {error}")))?;
    // A writer that failed is why the rest did.
    written?;
    fetched?;
    Ok(usize::try_from(line).unwrap_or_default())
}

impl Fetch<'_> {
    async fn run(&self, from: u64) -> Result<()> {
        if self.size - from <= LARGE {
            return self.range(from, self.size, false).await.map(drop);
        }
        let next = AtomicU64::new(self.range(from, from + PIECE, true).await?);
        let worker = || async {
            loop {
                let from = next.fetch_add(PIECE, Ordering::Relaxed);
                if from >= self.size {
                    return Ok(());
                }
                self.range(from, (from + PIECE).min(self.size), false).await?;
            }
        };
        try_join_all((0..CONNECTIONS).map(|_| worker())).await.map(drop)
    }

    /// Fetches a range, and again what is missing of it. Returns where it ended: `open` says that more than the range is
    /// welcome.
    async fn range(&self, from: u64, to: u64, open: bool) -> Result<u64> {
        let (mut at, mut to) = (from, to);
        let mut backoff = Backoff::default();
        let mut good = at;
        while at < to {
            if let Err(trouble) = self.attempt(&mut at, &mut to, open).await {
                if at - good >= PROGRESS {
                    backoff.reset();
                    good = at;
                }
                backoff.after(trouble).await.map_err(|trouble| trouble.error)?;
            }
        }
        Ok(to)
    }

    async fn attempt(&self, at: &mut u64, to: &mut u64, open: bool) -> Result<(), Trouble> {
        let whole = *at == 0 && *to == self.size;
        let range = (!whole).then(|| (*at, (*to < self.size).then_some(*to)));
        let (mut answer, line) = self.session.blob(self.digest, range).await?;
        self.line.store(line as u64, Ordering::Relaxed);
        let start = self.check(&answer, *at)?;
        if start < *at && open {
            // No ranges: the whole blob comes.
            *to = self.size;
        }
        let taken = self.take(&mut answer, start, at, *to).await;
        if taken.is_err() {
            // Others may do better; what is there stays.
            self.session.distrust(line);
        }
        taken
    }

    /// Takes the bytes from `at` to `to` out of an answer that begins at `offset`.
    async fn take(&self, answer: &mut Answer, mut offset: u64, at: &mut u64, to: u64) -> Result<(), Trouble> {
        while *at < to {
            let Some(mut data) = answer.next().await? else {
                let line = format!("{} broke off after {at} of {} bytes", self.digest, self.size);
                return Err(Trouble::passing(Error::new(Reason::RegistryUnavailable, line)));
            };
            let arrived = data.len() as u64;
            self.progress.add_fetched(arrived);
            // What comes before the range is there already, what comes after it is another's.
            let skip = usize::try_from(*at - offset).unwrap_or(usize::MAX).min(data.len());
            offset += arrived;
            drop(data.split_to(skip));
            data.truncate(usize::try_from(to - *at).unwrap_or(usize::MAX));
            if data.is_empty() {
                continue;
            }
            let length = data.len() as u64;
            let given = self.pieces.send((*at, data)).await;
            // The writer has failed and says why.
            given.map_err(|_| Error::new(Reason::Internal, "a part is not written any more"))?;
            *at += length;
            self.progress.add_done(length);
        }
        Ok(())
    }

    /// Where an answer begins: at the range that was asked for, or at the blob's start.
    fn check(&self, answer: &Answer, at: u64) -> Result<u64> {
        let text = |name| answer.headers.get(name).and_then(|value| value.to_str().ok());
        let wrong = |problem: String| Err(Error::new(Reason::RegistryError, format!("{}: {problem}", self.digest)));
        if answer.status == StatusCode::PARTIAL_CONTENT {
            let said = text(CONTENT_RANGE).unwrap_or_default();
            return match content_range(said) {
                Some((start, total)) if start == at && total.is_none_or(|total| total == self.size) => Ok(start),
                _ => wrong(format!("bytes {at}- of {} were asked for, {said:?} came", self.size)),
            };
        }
        match text(CONTENT_LENGTH).and_then(|text| text.parse::<u64>().ok()) {
            Some(length) if length != self.size => {
                wrong(format!("it has {length} bytes, the manifest says {}", self.size))
            }
            _ => Ok(0),
        }
    }
}

/// "bytes START-END/TOTAL": start, and total if it is said.
fn content_range(text: &str) -> Option<(u64, Option<u64>)> {
    let (range, total) = text.trim().strip_prefix("bytes ")?.split_once('/')?;
    let (start, end) = range.split_once('-')?;
    let (start, end): (u64, u64) = (start.parse().ok()?, end.parse().ok()?);
    let total = if total == "*" { None } else { Some(total.parse().ok()?) };
    (start <= end).then_some((start, total))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn content_ranges_are_read() {
        assert_eq!(content_range("bytes 0-9/10"), Some((0, Some(10))));
        assert_eq!(content_range("bytes 5-9/*"), Some((5, None)));
        for wrong in
            ["", "bytes", "bytes */10", "bytes 9-5/10", "items 0-9/10", "bytes 0-9", "bytes a-b/c", "bytes -1-2/3"]
        {
            assert_eq!(content_range(wrong), None, "{wrong}");
        }
    }
}
