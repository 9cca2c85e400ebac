//! A part: the file of a blob while it is fetched, in `DATA/images/parts`, named by the blob's digest.
//!
//! ```text
//! ├── whole ──────┤── holes and pieces ──────────┤ 8 bytes: how much is whole ┤
//! 0            prefix                          size                      size + 8
//! ```
//!
//! Pieces may be written in any order. What is whole from the start on is what an interrupted fetch goes on after, also in
//! another life of the agent: the number at the end says how much that is. It is not synced: after a power cut it may be
//! wrong, and then the digest is, and the blob is fetched anew. While the file grows, followers read along.

use std::collections::BTreeMap;
use std::fs::{self, File, OpenOptions};
use std::io::{self, Read};
use std::os::unix::fs::{FileExt as _, MetadataExt as _};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};

use crate::error::{Error, Reason, Result};
use crate::images::reference::is_digest;

/// Bytes of the number at the end.
const TRAILER: u64 = 8;

/// The file of a blob while it is fetched. Clones share it. Methods block on the disk.
#[derive(Debug, Clone)]
pub(super) struct Part {
    shared: Arc<Shared>,
}

#[derive(Debug)]
struct Shared {
    file: File,
    path: PathBuf,
    size: u64,
    state: Mutex<State>,
    grown: Condvar,
}

#[derive(Debug, Default)]
struct State {
    /// Bytes from the start on that are there.
    prefix: u64,
    /// Pieces after it: start and end.
    ahead: BTreeMap<u64, u64>,
    /// Why nothing more will come.
    broken: Option<Error>,
}

/// A part as it lies on the disk.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(in crate::images) struct PartFile {
    /// Digest of the blob.
    pub(in crate::images) digest: String,
    /// Bytes that it takes up.
    pub(in crate::images) bytes: u64,
    /// Whether a pull is at it.
    pub(in crate::images) active: bool,
}

/// Where the part of a blob is or would be.
fn path(directory: &Path, digest: &str) -> PathBuf {
    directory.join(digest.strip_prefix("sha256:").unwrap_or(digest))
}

/// All parts in a directory. `active` says at which a pull is.
pub(super) fn list(directory: &Path, active: impl Fn(&str) -> bool) -> Result<Vec<PartFile>> {
    let failed = |error| Error::io(format!("listing {}", directory.display()), &error);
    let mut parts = Vec::new();
    for entry in fs::read_dir(directory).map_err(failed)? {
        let entry = entry.map_err(failed)?;
        let digest = format!("sha256:{}", entry.file_name().to_string_lossy());
        // One that is gone meanwhile was finished.
        if let (true, Ok(metadata)) = (is_digest(&digest), entry.metadata()) {
            parts.push(PartFile { active: active(&digest), digest, bytes: metadata.blocks() * 512 });
        }
    }
    Ok(parts)
}

/// Refuses to begin what cannot end: the blobs of these sizes, without what is there of them, must fit on the disk. Layers take
/// up more than that, but how much shows only when they are converted.
pub(super) fn check_space(directory: &Path, blobs: &BTreeMap<&str, u64>) -> Result<()> {
    let there = |digest: &str| fs::metadata(path(directory, digest)).map_or(0, |part| part.blocks() * 512);
    let needed: u64 = blobs.iter().map(|(digest, size)| size.saturating_sub(there(digest))).sum();
    let disk = rustix::fs::statvfs(directory).map_err(|errno| {
        Error::io(format!("asking for the space below {}", directory.display()), &io::Error::from(errno))
    })?;
    let free = disk.f_bavail.saturating_mul(disk.f_frsize);
    if needed <= free {
        return Ok(());
    }
    let line = format!("fetching the image takes {needed} bytes more, {} has {free}", directory.display());
    Err(Error::new(Reason::StorageFull, line).hint("remove images: `hullctl image prune`"))
}

/// Removes the part of a blob; returns the bytes that it took up.
pub(super) fn remove(directory: &Path, digest: &str) -> Result<u64> {
    let path = path(directory, digest);
    let bytes = fs::metadata(&path).map_or(0, |metadata| metadata.blocks() * 512);
    match fs::remove_file(&path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => {
            Err(Error::io(format!("removing {}", path.display()), &error))
        }
        _ => Ok(bytes),
    }
}

impl Part {
    /// Opens the part of a blob of `size` bytes, or makes it. One that cannot be of that blob is begun anew.
    pub(super) fn open(directory: &Path, digest: &str, size: u64) -> Result<Self> {
        let path = path(directory, digest);
        let failed = |error| Error::io(format!("opening {}", path.display()), &error);
        let file =
            OpenOptions::new().read(true).write(true).create(true).truncate(false).open(&path).map_err(failed)?;
        let mut prefix = 0;
        match file.metadata().map_err(failed)?.len() {
            length if length == size + TRAILER => {
                let mut trailer = [0; 8];
                file.read_exact_at(&mut trailer, size).map_err(failed)?;
                prefix = u64::from_le_bytes(trailer);
            }
            // It was whole, and about to be kept.
            length if length == size && size > 0 => prefix = size,
            _ => {}
        }
        if prefix > size {
            prefix = 0;
        }
        if prefix == 0 {
            file.set_len(0).map_err(failed)?;
        }
        file.set_len(size + TRAILER).map_err(failed)?;
        file.write_all_at(&prefix.to_le_bytes(), size).map_err(failed)?;
        let state = Mutex::new(State { prefix, ..State::default() });
        Ok(Self { shared: Arc::new(Shared { file, path, size, state, grown: Condvar::new() }) })
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.shared.state()
    }

    /// Bytes of the whole blob.
    pub(super) fn size(&self) -> u64 {
        self.shared.size
    }

    /// Bytes from the start on that are there. Never blocks.
    pub(super) fn prefix(&self) -> u64 {
        self.state().prefix
    }

    /// Writes a piece.
    ///
    /// # Errors
    /// What [`Self::abort`] was called with; `STORAGE_FULL`.
    pub(super) fn write(&self, offset: u64, bytes: &[u8]) -> Result<()> {
        if let Some(error) = &self.state().broken {
            return Err(error.clone());
        }
        let shared = &self.shared;
        let failed = |error| Error::io(format!("writing {} of {} bytes", shared.path.display(), shared.size), &error);
        shared.file.write_all_at(bytes, offset).map_err(failed)?;
        let prefix = {
            let mut state = self.state();
            let before = state.prefix;
            state.add(offset, offset + bytes.len() as u64);
            if state.prefix == before {
                return Ok(());
            }
            shared.grown.notify_all();
            state.prefix
        };
        shared.file.write_all_at(&prefix.to_le_bytes(), shared.size).map_err(failed)
    }

    /// Nothing more will come: followers end with this error. Never blocks.
    pub(super) fn abort(&self, error: Error) {
        self.state().broken.get_or_insert(error);
        self.shared.grown.notify_all();
    }

    /// A reader of the blob from its start, which waits for what is not there yet.
    pub(super) fn follow(&self) -> Follower {
        Follower { shared: Arc::clone(&self.shared), offset: 0 }
    }

    /// Makes the whole part a file of the blob's bytes alone, synced.
    pub(super) fn finish(&self) -> Result<PathBuf> {
        let shared = &self.shared;
        let finished = shared.file.set_len(shared.size).and_then(|()| shared.file.sync_all());
        finished.map_err(|error| Error::io(format!("syncing {}", shared.path.display()), &error))?;
        Ok(shared.path.clone())
    }

    /// Takes the file away.
    pub(super) fn remove(&self) {
        if let Err(error) = fs::remove_file(&self.shared.path) {
            tracing::warn!(path = %self.shared.path.display(), %error, "a part could not be removed");
        }
    }
}

impl Shared {
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    /// Notes a piece.
    fn add(&mut self, start: u64, end: u64) {
        let known = self.ahead.entry(start).or_default();
        *known = end.max(*known);
        while let Some(first) = self.ahead.first_entry().filter(|first| *first.key() <= self.prefix) {
            self.prefix = self.prefix.max(first.remove());
        }
        // Pieces that touch become one, so that their number stays that of the connections.
        if let Some((&before, &until)) = self.ahead.range(..start).next_back()
            && until >= start
            && let Some(end) = self.ahead.remove(&start)
        {
            self.ahead.insert(before, end.max(until));
        }
    }
}

/// Reads a part from its start, along with its growing.
#[derive(Debug)]
pub(super) struct Follower {
    shared: Arc<Shared>,
    offset: u64,
}

impl Read for Follower {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let shared = &self.shared;
        let prefix = {
            let mut state = shared.state();
            loop {
                if let Some(error) = &state.broken {
                    return Err(io::Error::other(error.clone()));
                }
                if state.prefix > self.offset || self.offset == shared.size {
                    break state.prefix;
                }
                state = shared.grown.wait(state).unwrap_or_else(PoisonError::into_inner);
            }
        };
        let there = usize::try_from(prefix - self.offset).unwrap_or(usize::MAX).min(buffer.len());
        let read = shared.file.read_at(&mut buffer[..there], self.offset)?;
        if read == 0 && there > 0 {
            let line = format!("{} became shorter while it was read", shared.path.display());
            return Err(io::Error::other(Error::new(Reason::BlobDamaged, line)));
        }
        self.offset += read as u64;
        Ok(read)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const DIGEST: &str = "sha256:0000000000000000000000000000000000000000000000000000000000000000";

    fn open(directory: &Path, size: u64) -> Part {
        Part::open(directory, DIGEST, size).unwrap()
    }

    #[test]
    fn what_is_whole_outlives_the_agent() {
        let dir = tempfile::tempdir().unwrap();
        let part = open(dir.path(), 10);
        part.write(0, b"abc").unwrap();
        part.write(5, b"fg").unwrap();
        drop(part);
        let part = open(dir.path(), 10);
        assert_eq!(part.prefix(), 3);
        part.write(3, b"de").unwrap();
        assert_eq!(part.prefix(), 5, "pieces after the whole are forgotten");
        part.write(5, b"fghij").unwrap();
        let mut bytes = Vec::new();
        part.follow().read_to_end(&mut bytes).unwrap();
        assert_eq!(bytes, b"abcdefghij");
        assert_eq!(fs::read(part.finish().unwrap()).unwrap(), b"abcdefghij");
        assert_eq!(open(dir.path(), 10).prefix(), 10, "ended before it was kept");
        assert_eq!(open(dir.path(), 11).prefix(), 0, "of another size");
    }

    #[test]
    fn followers_wait_and_are_told_of_the_end() {
        let dir = tempfile::tempdir().unwrap();
        let part = open(dir.path(), 4);
        std::thread::scope(|scope| {
            let follower = scope.spawn(|| {
                let mut bytes = Vec::new();
                part.follow().read_to_end(&mut bytes).unwrap();
                bytes
            });
            part.write(2, b"cd").unwrap();
            part.write(0, b"ab").unwrap();
            assert_eq!(follower.join().unwrap(), b"abcd");
        });
        let part = open(dir.path(), 5);
        let mut follower = part.follow();
        part.write(0, b"a").unwrap();
        part.abort(Error::new(Reason::DeadlineExceeded, "cancelled"));
        assert!(follower.read(&mut [0; 9]).unwrap_err().to_string().contains("cancelled"));
        assert_eq!(part.write(1, b"b").unwrap_err().reason, Reason::DeadlineExceeded);
    }

    #[test]
    fn an_empty_blob_is_whole_at_once() {
        let dir = tempfile::tempdir().unwrap();
        let part = open(dir.path(), 0);
        assert_eq!(part.follow().read(&mut [0; 9]).unwrap(), 0);
        assert_eq!(fs::read(part.finish().unwrap()).unwrap(), b"");
    }

    #[test]
    fn what_cannot_fit_is_refused_and_what_is_there_counts() {
        let dir = tempfile::tempdir().unwrap();
        let of = |size| BTreeMap::from([(DIGEST, size)]);
        check_space(dir.path(), &of(1)).unwrap();
        let error = check_space(dir.path(), &of(1 << 60)).unwrap_err();
        assert_eq!(error.reason, Reason::StorageFull);
        assert!(error.message.contains(&(1_u64 << 60).to_string()), "{error}");
        open(dir.path(), 1 << 20).write(0, &vec![1; 1 << 20]).unwrap();
        let parts = list(dir.path(), |_| false).unwrap();
        assert_eq!(parts[0].digest, DIGEST);
        assert!(parts[0].bytes >= 1 << 20);
        assert_eq!(remove(dir.path(), DIGEST).unwrap(), parts[0].bytes);
        assert_eq!(list(dir.path(), |_| false).unwrap(), []);
        assert_eq!(remove(dir.path(), DIGEST).unwrap(), 0);
    }

    proptest! {
        #[test]
        fn pieces_in_any_order_become_whole(cuts in proptest::collection::btree_set(1_u64..1000, 0..20), seed in any::<u64>()) {
            let mut bounds: Vec<_> = [0].into_iter().chain(cuts).chain([1000]).collect();
            let mut pieces: Vec<_> = bounds.windows(2).map(|pair| (pair[0], pair[1])).collect();
            bounds.clear();
            let mut state = State::default();
            let mut random = seed;
            while !pieces.is_empty() {
                random = random.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
                let index = usize::try_from(random >> 33).unwrap() % pieces.len();
                let (start, end) = pieces.swap_remove(index);
                state.add(start, end);
                let first_missing = pieces.iter().map(|(start, _)| *start).min().unwrap_or(1000);
                prop_assert_eq!(state.prefix, first_missing);
            }
            prop_assert!(state.ahead.is_empty());
        }
    }
}
