//! Standing still for a commit: a container that runs is frozen while its writable layer is read, and thawed again however
//! the commit ends, also with the agent.
//!
//! Nobody waits for a commit: a container that is stopped, resumed or started meanwhile does so at once, and the commit is
//! told that it was disturbed. One that is paused by its user stays so.

use std::convert::Infallible;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use tokio::sync::mpsc;

use super::Container;
use crate::error::Result;
use crate::lifecycle::state::{State, require};

/// The container stands still for one commit or several.
#[derive(Debug)]
pub(super) struct Standstill {
    disturbed: Arc<AtomicBool>,
    /// Nothing is ever sent: it ends with the last hold.
    holds: mpsc::Receiver<Infallible>,
    holder: mpsc::WeakSender<Infallible>,
}

/// Lets a container stand still.
#[derive(Debug)]
pub(crate) struct Hold {
    disturbed: Arc<AtomicBool>,
    _holder: mpsc::Sender<Infallible>,
}

impl Hold {
    /// Tells whether the container has stood still, also after this is gone.
    pub(crate) fn disturbed(&self) -> Arc<AtomicBool> {
        Arc::clone(&self.disturbed)
    }
}

/// Returns when nobody holds the container any more; never if it does not stand still.
pub(super) async fn over(standstill: Option<&mut Standstill>) {
    match standstill {
        Some(standstill) => drop(standstill.holds.recv().await),
        None => std::future::pending().await,
    }
}

impl Container {
    /// Lets the container stand still, if it is not about to end or being made.
    pub(super) async fn hold(&mut self) -> Result<Hold> {
        let still = [State::Created, State::Running, State::Paused, State::Exited];
        require(&self.record.name, self.record.state, &still, "commit")?;
        if let Some(standstill) = &self.standstill {
            if let Some(holder) = standstill.holder.upgrade() {
                return Ok(Hold { disturbed: Arc::clone(&standstill.disturbed), _holder: holder });
            }
            self.end_standstill().await;
        }
        if self.record.state == State::Running {
            // First the record: whatever happens then, the next agent knows that it has to thaw it.
            self.record.stands_still = true;
            self.save().await?;
            if let Err(error) = self.set_frozen(true).await {
                self.record.stands_still = false;
                return Err(error);
            }
            self.become_state(State::Paused);
        }
        let (sender, holds) = mpsc::channel(1);
        let disturbed = Arc::new(AtomicBool::new(false));
        self.standstill = Some(Standstill { disturbed: Arc::clone(&disturbed), holds, holder: sender.downgrade() });
        Ok(Hold { disturbed, _holder: sender })
    }

    /// The last commit is through: a container that was frozen for it runs on.
    pub(super) async fn end_standstill(&mut self) {
        self.standstill = None;
        if !std::mem::take(&mut self.record.stands_still) || self.record.state != State::Paused {
            return;
        }
        let thawed = self.set_frozen(false).await;
        match thawed {
            Ok(()) => self.become_state(State::Running),
            Err(error) => {
                tracing::error!(container = %self.record.id, %error, "cannot thaw the container after a commit; resume it")
            }
        }
        if let Err(error) = self.save().await {
            tracing::error!(container = %self.record.id, %error, "cannot record that the container runs on");
        }
    }

    /// Somebody else writes to the container's files; it stands still all the same.
    pub(super) fn note_change(&self) {
        if let Some(standstill) = &self.standstill {
            standstill.disturbed.store(true, Ordering::Release);
        }
    }

    /// The container does not stand still any longer.
    pub(super) fn disturb(&mut self) {
        if let Some(standstill) = self.standstill.take() {
            standstill.disturbed.store(true, Ordering::Release);
        }
        self.record.stands_still = false;
    }

    /// Its user wants it to be paused, whatever else it stands still for.
    pub(super) async fn stay_paused(&mut self) -> Result<()> {
        if std::mem::take(&mut self.record.stands_still) { self.save().await } else { Ok(()) }
    }
}
