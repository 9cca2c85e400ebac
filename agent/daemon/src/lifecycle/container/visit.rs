//! Visits: somebody copies files from or to the container.
//!
//! Visitors of a container that runs look through its own root, which they keep mounted though it may end; those who write to
//! one that does not run mount its root themselves. Its writable layer cannot be mounted twice, so a start sends both out and
//! waits until they are gone.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::{Mutex, OwnedRwLockReadGuard, RwLock};
use tokio_util::sync::CancellationToken;

use super::Container;
use super::reading::Kept;
use crate::error::{Error, Reason, Result};
use crate::images::Image;
use crate::lifecycle::record::Record;
use crate::lifecycle::state::{State, refused};
use crate::runtime::shim::ShimClient;

/// Time for visitors to go who have been asked to.
const GOING: Duration = Duration::from_secs(10);

/// The visitors of one container.
#[derive(Debug, Default)]
pub(super) struct Visitors {
    /// Asks them to go.
    sent_out: CancellationToken,
    /// Read-locked by those who have to be gone before a start.
    inside: Arc<RwLock<()>>,
    /// Held by the one who has the root of the container mounted to write to it.
    turn: Arc<Mutex<()>>,
}

/// One visit.
#[derive(Debug)]
pub(crate) struct Visit {
    pub(crate) record: Record,
    pub(crate) image: Arc<Image>,
    pub(crate) way: Way,
    /// Cancelled when the visitor has to go.
    pub(crate) sent_out: CancellationToken,
    /// What lasts as long as the visit.
    _kept: Kept,
    _inside: Option<OwnedRwLockReadGuard<()>>,
}

/// How a visitor gets to the files.
#[derive(Debug)]
pub(crate) enum Way {
    /// By the shim of a container that runs.
    Running(Arc<ShimClient>),
    /// By mounting the root, to read only.
    Reading,
    /// By mounting the root, one visitor after the other.
    Writing(Arc<Mutex<()>>),
}

impl Container {
    /// Lets somebody in.
    pub(super) async fn visit(&mut self, write: bool) -> Result<Visit> {
        if self.record.state == State::Removing {
            return Err(refused(&self.record.name, self.record.state, "copy files of"));
        }
        if write {
            self.note_change();
        }
        let image = self.context.images.get(&self.record.image_digest)?;
        let kept = self.keep(&image).await?;
        let way = match &self.run {
            Some(run) => Way::Running(Arc::clone(&run.client)),
            // Before its first start the targets of its mounts have yet to be made.
            None if write || self.record.state == State::Created => Way::Writing(Arc::clone(&self.visitors.turn)),
            None => Way::Reading,
        };
        let inside = match way {
            Way::Reading => None,
            Way::Running(_) | Way::Writing(_) => Some(Arc::clone(&self.visitors.inside).read_owned().await),
        };
        // Who only reads what is left of a run is in nobody's way.
        let sent_out = if inside.is_some() { self.visitors.sent_out.clone() } else { CancellationToken::new() };
        Ok(Visit { record: self.record.clone(), image, way, sent_out, _kept: kept, _inside: inside })
    }

    /// Asks visitors to go, without waiting for them.
    pub(super) fn send_out(&mut self) {
        std::mem::take(&mut self.visitors.sent_out).cancel();
    }

    /// Waits, for a time, until all visitors are gone who were asked to.
    pub(super) async fn visitors_gone(&mut self) -> Result<()> {
        self.send_out();
        let gone = tokio::time::timeout(GOING, self.visitors.inside.write()).await;
        gone.map(drop).map_err(|_| {
            let line = format!("cannot start container {}: files are still being copied", self.record.name);
            Error::new(Reason::InvalidState, line).hint("try again")
        })
    }
}
