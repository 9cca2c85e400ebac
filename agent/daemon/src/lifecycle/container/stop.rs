//! Stopping and signalling.

use std::time::Duration;

use hull_wire::{RequestBody, Target};
use nix::sys::signal::Signal;
use tokio::time::Instant;

use super::{Container, Reply, answer};
use crate::blocking::blocking;
use crate::error::{Error, Reason, Result};
use crate::lifecycle::config::Resources;
use crate::lifecycle::context::STOP_TIMEOUT;
use crate::lifecycle::record::Exit;
use crate::lifecycle::signal;
use crate::lifecycle::state::{State, refused};

/// A stop under way.
#[derive(Debug)]
pub(super) struct Stopping {
    /// When patience ends; `None` once it has been killed.
    deadline: Option<Instant>,
    waiters: Vec<Reply<Option<Exit>>>,
}

impl Stopping {
    pub(super) fn deadline(&self) -> Option<Instant> {
        self.deadline
    }

    /// Tells everyone who waits.
    pub(super) fn answer(self, exit: &Exit) {
        for waiter in self.waiters {
            answer(waiter, Ok(Some(exit.clone())));
        }
    }
}

/// Waits until a moment; for ever without one.
pub(super) async fn at(deadline: Option<Instant>) {
    match deadline {
        Some(deadline) => tokio::time::sleep_until(deadline).await,
        None => std::future::pending().await,
    }
}

impl Container {
    /// Sends the stop signal and sets the clock. A further request may only shorten the patience of the first.
    pub(super) async fn stop(&mut self, grace: Option<Duration>, reply: Reply<Option<Exit>>) {
        if !self.record.state.is_active() {
            return answer(reply, Ok(self.record.exit.clone()));
        }
        let grace = grace.or(self.record.config.stop_timeout).unwrap_or(STOP_TIMEOUT);
        let deadline = Instant::now().checked_add(grace);
        match &mut self.stopping {
            Some(stopping) => {
                if let (Some(set), Some(new)) = (stopping.deadline, deadline) {
                    stopping.deadline = Some(set.min(new));
                }
                stopping.waiters.push(reply);
            }
            None => {
                let was_paused = self.record.state == State::Paused;
                self.disturb();
                self.become_state(State::Stopping);
                self.stopping = Some(Stopping { deadline, waiters: vec![reply] });
                if grace.is_zero() {
                    return self.kill_now().await;
                }
                let signal = self.stop_signal();
                if let Err(error) = self.signal_init(signal).await {
                    tracing::debug!(container = %self.record.id, %error, "the stop signal was not delivered");
                }
                if was_paused {
                    self.thaw_to_stop().await;
                }
            }
        }
    }

    /// What the config says, else the image, else SIGTERM.
    fn stop_signal(&self) -> i32 {
        if let Some(signal) = self.record.config.stop_signal {
            return signal;
        }
        let image = self.context.images.get(&self.record.image_digest).ok();
        let text = image.map(|image| image.config.stop_signal.clone()).unwrap_or_default();
        signal::parse("image.config.stop_signal", &text).unwrap_or(nix::libc::SIGTERM)
    }

    async fn thaw_to_stop(&self) {
        let Some(run) = &self.run else { return };
        let cgroup = run.cgroup.clone();
        if let Err(error) = blocking(move || cgroup.thaw()).await {
            tracing::warn!(container = %self.record.id, %error, "cannot thaw a container that is being stopped");
        }
    }

    /// Patience is over.
    pub(super) async fn kill_now(&mut self) {
        if let Some(stopping) = &mut self.stopping {
            stopping.deadline = None;
        }
        if let Err(error) = self.kill_all().await {
            tracing::error!(container = %self.record.id, %error, "cannot kill the container");
        }
    }

    /// Sends a signal.
    pub(super) async fn kill(&mut self, signal: i32, all: bool) -> Result<()> {
        if !matches!(self.record.state, State::Running | State::Paused | State::Stopping) {
            return Err(refused(&self.record.name, self.record.state, "signal"));
        }
        if signal == nix::libc::SIGKILL && (all || self.record.state == State::Paused) {
            return self.kill_all().await;
        }
        if !all {
            return self.signal_init(signal).await;
        }
        let Some(run) = &self.run else { return Ok(()) };
        let signal = Signal::try_from(signal).map_err(|_| {
            Error::invalid("signal", "a real-time signal cannot be sent to all processes").hint("send it to init alone")
        })?;
        let cgroup = run.cgroup.clone();
        blocking(move || cgroup.signal_all(signal)).await
    }

    /// Kills every process. What their end writes or discards (the last of them unmounts the overlay) does not wait for limits of
    /// input and output, which could take any time.
    async fn kill_all(&self) -> Result<()> {
        let Some(run) = &self.run else { return Ok(()) };
        let (cgroup, id, limited) = (run.cgroup.clone(), self.record.id.clone(), self.record.config.resources.clone());
        blocking(move || {
            cgroup.kill()?;
            if limited.io_max.is_empty() {
                return Ok(());
            }
            let free = Resources { io_max: Vec::new(), ..limited.clone() };
            cgroup.update(&limited, &free).or_else(|error| {
                tracing::warn!(container = %id, %error, "cannot lift the limits of a container that was killed");
                Ok(())
            })
        })
        .await
    }

    async fn signal_init(&self, signal: i32) -> Result<()> {
        let body = RequestBody::Signal { target: Target::Init, signal };
        self.running()?.client.command(body, &[], Reason::InvalidState).await
    }
}
