//! Waits for a log to grow.

use std::path::Path;
use std::time::Duration;

use nix::errno::Errno;
use rustix::fs::inotify;

use crate::error::{Error, Result};
use crate::runtime::watched::{Watched, watch};

/// How long to wait at most: finds a rotated log whose new file came after the old one's last event.
const LOOK_AGAIN: Duration = Duration::from_secs(1);
/// How often to look where inotify has no room (`fs.inotify.max_user_instances` is 128 by default).
const POLL: Duration = Duration::from_millis(100);
/// Bytes of events that are read at once.
const EVENTS: usize = 4096;

/// A watch on a log's directory entry and contents.
#[derive(Debug)]
pub(crate) struct LogWatch {
    /// `None`: looked at every [`POLL`] instead.
    inotify: Option<Watched>,
}

impl LogWatch {
    /// Starts to watch; what is written from now on wakes [`Self::changed`].
    ///
    /// # Errors
    /// If the log's directory cannot be watched.
    pub(crate) fn new(log: &Path) -> Result<Self> {
        let queue = match inotify::init(inotify::CreateFlags::CLOEXEC | inotify::CreateFlags::NONBLOCK) {
            Ok(queue) => queue,
            Err(rustix::io::Errno::MFILE | rustix::io::Errno::NFILE) => return Ok(Self { inotify: None }),
            Err(errno) => return Err(failed(log, errno)),
        };
        let directory = log.parent().unwrap_or(Path::new("/"));
        // The directory's watch reports changes of the files in it, also of those that come later.
        let events = inotify::WatchFlags::MODIFY | inotify::WatchFlags::CREATE | inotify::WatchFlags::MOVED_TO;
        match inotify::add_watch(&queue, directory, events) {
            Ok(_) => {}
            Err(rustix::io::Errno::NOSPC) => return Ok(Self { inotify: None }),
            Err(errno) => return Err(failed(log, errno)),
        }
        let inotify = watch(queue).map_err(|error| Error::io("watching a log", &error))?;
        Ok(Self { inotify: Some(inotify) })
    }

    /// Returns when the log may have grown; at the latest after a second.
    ///
    /// # Errors
    /// If the kernel's queue of events cannot be read.
    pub(crate) async fn changed(&self) -> Result<()> {
        let Some(inotify) = &self.inotify else {
            tokio::time::sleep(POLL).await;
            return Ok(());
        };
        let Ok(ready) = tokio::time::timeout(LOOK_AGAIN, inotify.readable()).await else { return Ok(()) };
        let mut ready = ready.map_err(|error| Error::io("watching a log", &error))?;
        // Which file it was does not matter. One read takes what is queued; what it leaves keeps the descriptor readable.
        match rustix::io::read(inotify.get_ref(), &mut [0; EVENTS]) {
            Ok(_) => Ok(()),
            Err(rustix::io::Errno::AGAIN) => {
                ready.clear_ready();
                Ok(())
            }
            Err(errno) => Err(Error::os("watching a log", Errno::from_raw(errno.raw_os_error()))),
        }
    }
}

fn failed(log: &Path, errno: rustix::io::Errno) -> Error {
    Error::os(format_args!("watching the log {}", log.display()), Errno::from_raw(errno.raw_os_error()))
}
