//! Syncs a file behind its writer, so that little is left to wait for at its end.

use std::fs::File;
use std::io;
use std::sync::Arc;
use std::sync::mpsc::{SyncSender, TrySendError, sync_channel};
use std::thread::{self, JoinHandle};

use crate::error::{Error, Result};

/// Bytes after which what was written is synced. A file of fewer bytes is synced at its end alone, without a thread.
const STRETCH: usize = 16 << 20;

#[derive(Debug)]
pub(super) struct SyncBehind {
    file: Arc<File>,
    written: usize,
    thread: Option<Syncing>,
}

#[derive(Debug)]
struct Syncing {
    wake: SyncSender<()>,
    /// Tells of the first failure: the kernel tells of it only once.
    thread: JoinHandle<io::Result<()>>,
}

impl SyncBehind {
    pub(super) fn new(file: Arc<File>) -> Self {
        Self { file, written: 0, thread: None }
    }

    /// So many bytes more were written.
    pub(super) fn written(&mut self, bytes: usize) -> Result<()> {
        self.written += bytes;
        if self.written < STRETCH {
            return Ok(());
        }
        self.written = 0;
        let syncing = match self.thread.take() {
            Some(syncing) => syncing,
            None => Syncing::start(Arc::clone(&self.file)).map_err(|error| Error::io("starting a thread", &error))?,
        };
        // One that is busy takes these bytes next time; one that has failed says so at the end.
        let (Ok(()) | Err(TrySendError::Full(()) | TrySendError::Disconnected(()))) = syncing.wake.try_send(());
        self.thread = Some(syncing);
        Ok(())
    }

    /// Makes all of the file safe.
    pub(super) fn finish(self) -> io::Result<()> {
        if let Some(Syncing { wake, thread }) = self.thread {
            drop(wake);
            thread.join().map_err(|_| io::Error::other("the thread that syncs a layer panicked"))??;
        }
        self.file.sync_all()
    }
}

impl Syncing {
    fn start(file: Arc<File>) -> io::Result<Self> {
        let (wake, woken) = sync_channel(1);
        let sync = move || woken.iter().try_for_each(|()| file.sync_data());
        let thread = thread::Builder::new().name("layer-sync".into()).spawn(sync)?;
        Ok(Self { wake, thread })
    }
}
