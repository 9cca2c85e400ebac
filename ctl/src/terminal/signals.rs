//! Signals that the caller gets and the container should have.

use std::future::{pending, poll_fn};
use std::pin::pin;
use std::task::Poll;

use tokio::signal::unix::{Signal, SignalKind, signal};

use crate::error::{Error, Result};

/// Signals caught instead of ending the command.
#[derive(Debug, Default)]
pub(crate) struct Signals {
    streams: Vec<(i32, Signal)>,
    /// Came before there was anyone to give them to.
    early: Vec<i32>,
}

impl Signals {
    /// Catches those that are passed on. One that was ignored when the command began stays ignored, as nohup(1) and
    /// shells' background jobs want it.
    pub(crate) fn catch() -> Result<Self> {
        let kinds = [
            SignalKind::hangup(),
            SignalKind::interrupt(),
            SignalKind::quit(),
            SignalKind::terminate(),
            SignalKind::user_defined1(),
            SignalKind::user_defined2(),
        ];
        let ignored = ignored();
        let mut streams = Vec::with_capacity(kinds.len());
        for kind in kinds {
            let number = kind.as_raw_value();
            if ignored & (1 << (number - 1)) == 0 {
                streams.push((number, listen(kind)?));
            }
        }
        Ok(Self { streams, early: Vec::new() })
    }

    /// Catches none: they do what they always do.
    pub(crate) fn leave() -> Self {
        Self::default()
    }

    /// The next one. Cancel-safe.
    pub(crate) async fn next(&mut self) -> i32 {
        if !self.early.is_empty() {
            return self.early.remove(0);
        }
        if self.streams.is_empty() {
            return pending().await;
        }
        poll_fn(|context| {
            for (number, stream) in &mut self.streams {
                if stream.poll_recv(context).is_ready() {
                    return Poll::Ready(*number);
                }
            }
            Poll::Pending
        })
        .await
    }

    /// Waits for an answer of the agent. A signal is kept for later; a second one ends the command.
    pub(crate) async fn hold<T>(&mut self, work: impl Future<Output = T>) -> Result<T> {
        let mut work = pin!(work);
        let mut held = Vec::new();
        loop {
            tokio::select! {
                biased;
                done = &mut work => {
                    self.early = held;
                    return Ok(done);
                }
                number = self.next() => {
                    held.push(number);
                    if held.len() > 1 {
                        return Err(Error::Interrupted(number));
                    }
                }
            }
        }
    }
}

/// Changes of the terminal's size.
#[derive(Debug)]
pub(crate) struct WindowChanges(Signal);

impl WindowChanges {
    /// Watches from now on.
    pub(crate) fn watch() -> Result<Self> {
        listen(SignalKind::window_change()).map(Self)
    }

    /// The next one. Cancel-safe.
    pub(crate) async fn next(&mut self) {
        self.0.recv().await;
    }
}

fn listen(kind: SignalKind) -> Result<Signal> {
    signal(kind).map_err(|error| Error::new(format!("catching signal {}: {error}", kind.as_raw_value())))
}

/// Signals that are ignored now, as the bits of proc_pid_status(5).
fn ignored() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let mask = status.lines().find_map(|line| line.strip_prefix("SigIgn:"));
    mask.and_then(|mask| u64::from_str_radix(mask.trim(), 16).ok()).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use std::future::ready;

    use super::*;

    #[tokio::test]
    async fn one_signal_waits_and_two_end_the_command() {
        let mut signals = Signals { streams: Vec::new(), early: vec![2] };
        let slow = async {
            tokio::task::yield_now().await;
            7
        };
        assert_eq!(signals.hold(slow).await.unwrap(), 7);
        assert_eq!(signals.next().await, 2);
        signals.early = vec![2, 15];
        assert!(matches!(signals.hold(pending::<()>()).await, Err(Error::Interrupted(15))));
        assert_eq!(signals.hold(ready(1)).await.unwrap(), 1);
    }

    #[test]
    fn rust_programs_ignore_broken_pipes() {
        assert_ne!(ignored() & (1 << (13 - 1)), 0);
    }
}
