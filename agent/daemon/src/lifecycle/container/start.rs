//! Starting: everything that the shim needs is assembled; then the shim does the rest.

use std::os::fd::{AsFd as _, BorrowedFd, OwnedFd};
use std::sync::Arc;
use std::time::Instant;

use hull_wire::{AttachPipes, Outcome, RequestBody, Step, StepTime};

use super::{Container, Run};
use crate::blocking::blocking;
use crate::error::{Error, Reason, Result};
use crate::events::ContainerChange;
use crate::images::Image;
use crate::lifecycle::assemble::{self, Assembled, Start};
use crate::lifecycle::context::START_DEADLINE;
use crate::lifecycle::record::{Exit, now_nanos, start_error};
use crate::lifecycle::state::{State, require};
use crate::runtime::shim::ShimClient;
use crate::store::{Table, Write};

/// Pipes that are connected before init runs, so that they see its first byte.
#[derive(Debug)]
pub(crate) struct FirstAttachment {
    pub(crate) pipes: AttachPipes,
    /// As many as `pipes` says, in its order.
    pub(crate) fds: Vec<OwnedFd>,
    /// Rows and columns of the terminal.
    pub(crate) terminal_size: Option<(u16, u16)>,
}

/// A start that succeeded.
struct Started {
    run: Run,
    pid: i32,
    steps: Vec<StepTime>,
    image: Arc<Image>,
}

impl Container {
    /// Starts the container: its init runs the user's program when this returns.
    pub(super) async fn start(&mut self, attachment: Option<FirstAttachment>) -> Result<(Arc<ShimClient>, i32)> {
        if self.record.state == State::Running && attachment.is_none() {
            return self.shim();
        }
        require(&self.record.name, self.record.state, &[State::Created, State::Exited], "start")?;
        self.visitors_gone().await?;
        self.disturb();
        self.become_state(State::Starting);
        let begun = Instant::now();
        match self.try_start(attachment).await {
            Ok(started) => {
                self.context.metrics.starts.succeeded(begun.elapsed(), &started.steps);
                self.started(started);
                self.shim()
            }
            Err(error) => {
                tracing::info!(container = %self.record.id, %error, "cannot start");
                self.context.metrics.starts.failed(&error);
                self.finish(Exit::of_failed_start(&error)).await;
                Err(error)
            }
        }
    }

    fn started(&mut self, started: Started) {
        self.record.pid = started.pid;
        self.record.started_at_nanos = Some(now_nanos());
        self.record.exit = None;
        self.record.boot_id.clone_from(&self.context.host.boot_id);
        self.record.start_steps = started.steps.into();
        self.context.register_stats(&self.record, &started.run.cgroup);
        self.run = Some(started.run);
        self.layers = Some(started.image);
        self.become_state(State::Running);
        self.tell(ContainerChange::Started { pid: self.record.pid });
        match self.record_commit() {
            // Nobody waits: if the agent dies before, the shim's socket tells the next one that it runs.
            Ok(commit) => {
                self.untold.clear();
                self.context.store.commit_later(commit);
            }
            Err(error) => tracing::error!(container = %self.record.id, %error, "cannot record the start"),
        }
        self.context.shims.refill();
    }

    async fn try_start(&mut self, attachment: Option<FirstAttachment>) -> Result<Started> {
        let begun = Instant::now();
        let image = self.context.images.get(&self.record.image_digest)?;
        let joined = assemble::joined_namespaces(&self.index, &self.record.config)?;
        let shim = self.context.shims.take().await?;
        let mut steps = vec![StepTime { step: Step::Shim, nanos: nanos_since(begun) }];
        let start = Start {
            record: self.record.clone(),
            image: Arc::clone(&image),
            joined,
            holds_layers: self.layers.is_some(),
            terminal_size: attachment.as_ref().and_then(|attachment| attachment.terminal_size),
        };
        let assembled = assemble::assemble(&self.context, start).await?;
        self.layers = Some(Arc::clone(&image));
        steps.extend_from_slice(&assembled.steps);
        let spec = Write::Put { table: Table::Specs, key: self.record.id.clone(), value: assembled.spec.clone() };
        // Side by side: an exec that follows the start finds the spec.
        let saved = self.context.store.commit(vec![spec]);
        let (result, saved) = tokio::join!(set_up(&shim.client, &assembled, attachment), saved);
        let cgroup = assembled.cgroup;
        match saved.and(result) {
            Ok((pid, times)) => {
                steps.extend(times);
                Ok(Started { run: Run { client: shim.client, cgroup }, pid, steps, image })
            }
            Err(error) => {
                drop(shim);
                self.undo(cgroup).await;
                Err(error)
            }
        }
    }

    /// Takes back what was made for a start that failed.
    async fn undo(&self, cgroup: crate::runtime::cgroup::ContainerCgroup) {
        let dirs = self.context.dirs.container(&self.record.id);
        let undone = blocking(move || {
            super::run::clean_cgroup(&cgroup)?;
            dirs.remove_run()
        });
        if let Err(error) = undone.await {
            tracing::error!(container = %self.record.id, %error, "cannot clean up after a failed start");
        }
    }
}

/// Hands the plan over and waits for what comes of it.
async fn set_up(
    client: &ShimClient,
    assembled: &Assembled,
    attachment: Option<FirstAttachment>,
) -> Result<(i32, Vec<StepTime>)> {
    let mut fds: Vec<BorrowedFd<'_>> = vec![assembled.plan.as_fd(), assembled.listener.as_fd()];
    let attach = attachment.as_ref().map(|attachment| {
        fds.extend(attachment.fds.iter().map(|fd| fd.as_fd()));
        attachment.pipes
    });
    match client.call(RequestBody::Setup { attach }, &fds, START_DEADLINE).await?.outcome {
        Outcome::Started { pid, times } => Ok((pid, times)),
        Outcome::Failed(failure) => Err(start_error(&failure)),
        other => Err(Error::new(Reason::Internal, format!("the shim answered a start with {other:?}"))),
    }
}

/// Nanoseconds since a moment.
pub(crate) fn nanos_since(begun: Instant) -> u64 {
    u64::try_from(begun.elapsed().as_nanos()).unwrap_or(u64::MAX)
}
