//! One task owns one container: its record, its control groups, the connection to its shim. Everyone else sends it requests
//! and reads the [`View`] that it publishes. What takes long (a grace period, a client's wait) never happens in the task's
//! turn, so a container answers while it is being stopped; what another container does never matters here.

mod reading;
mod remove;
mod run;
mod standstill;
mod start;
mod stop;
mod visit;

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::{RwLock, mpsc, oneshot, watch};

use super::config::{ContainerConfig, Resources};
use super::context::Context;
use super::index::Index;
use super::record::{Exit, Record, View};
use super::state::{State, require};
use crate::error::{Error, Reason, Result};
use crate::events::ContainerChange;
use crate::images::Image;
use crate::runtime::cgroup::ContainerCgroup;
use crate::runtime::shim::ShimClient;
use crate::store::{Commit, Table, Write};

pub(crate) use reading::Reading;
pub(crate) use run::{Run, clean_cgroup, recorded_exit};
pub(crate) use standstill::Hold;
pub(crate) use start::{FirstAttachment, nanos_since};
pub(crate) use visit::{Visit, Way};

/// Events that may wait for a commit that succeeds.
const UNTOLD: usize = 256;

/// Requests that may wait for one container's turn.
const QUEUE: usize = 256;

type Reply<T> = oneshot::Sender<Result<T>>;

/// What a container can be asked.
#[derive(Debug)]
pub(crate) enum Request {
    /// Start it; answered with the connection to its shim and the pid of init.
    Start(Option<FirstAttachment>, Reply<(Arc<ShimClient>, i32)>),
    /// Stop it; answered when it has ended.
    Stop(Option<Duration>, Reply<Option<Exit>>),
    /// Send a signal to init, or to all processes.
    Kill { signal: i32, all: bool, reply: Reply<()> },
    /// Freeze (true) or thaw it.
    Freeze(bool, Reply<()>),
    /// Change limits; answered with all of them.
    Update(Resources, Reply<Resources>),
    /// It ended while no agent ran; answered when that is recorded. `ran`: its start was not recorded either.
    Ended { ran: bool, exit: Exit, reply: Reply<()> },
    /// Give it another name.
    Rename(String, Reply<()>),
    /// Its groups and the process id of its init, if it runs.
    Processes(Reply<(ContainerCgroup, i32)>),
    /// Remove it; answered when it is gone.
    Remove { force: bool, reply: Reply<()> },
    /// The same, of a container that runs.
    Shim(Reply<(Arc<ShimClient>, i32)>),
    /// Read its writable layer, and let it stand still meanwhile if asked for.
    Read { still: bool, reply: Reply<Reading> },
    /// Copy files from it or, with `write`, to it.
    Visit { write: bool, reply: Reply<Visit> },
}

/// How others reach a container.
#[derive(Debug)]
pub(crate) struct Handle {
    requests: mpsc::Sender<Request>,
    view: watch::Receiver<Arc<View>>,
}

impl Handle {
    /// The container as it is now.
    pub(crate) fn view(&self) -> Arc<View> {
        Arc::clone(&self.view.borrow())
    }

    /// Everything that is published from now on.
    pub(crate) fn watch(&self) -> watch::Receiver<Arc<View>> {
        self.view.clone()
    }

    /// Requests that wait for the container's turn.
    pub(crate) fn waiting(&self) -> usize {
        self.requests.max_capacity() - self.requests.capacity()
    }

    /// Asks and waits for the answer.
    pub(crate) async fn ask<T>(&self, request: impl FnOnce(Reply<T>) -> Request) -> Result<T> {
        let (sender, receiver) = oneshot::channel();
        let gone = || Error::new(Reason::ContainerNotFound, "the container has been removed");
        self.requests.send(request(sender)).await.map_err(|_| gone())?;
        receiver.await.map_err(|_| gone())?
    }
}

/// A running container as an agent that comes back finds it.
#[derive(Debug)]
pub(crate) struct Restored {
    pub(crate) run: Run,
    pub(crate) layers: Arc<Image>,
}

/// The task's own side.
#[derive(Debug)]
pub(crate) struct Container {
    context: Arc<Context>,
    index: Arc<Index>,
    record: Record,
    requests: mpsc::Receiver<Request>,
    view: watch::Sender<Arc<View>>,
    exits: u64,
    run: Option<Run>,
    stopping: Option<stop::Stopping>,
    /// Answered once the container is gone.
    removers: Vec<Reply<()>>,
    /// The image whose mounted layers this container counts among the users of.
    layers: Option<Arc<Image>>,
    /// Read-locked by whoever reads the writable layer.
    readers: Arc<RwLock<()>>,
    standstill: Option<standstill::Standstill>,
    visitors: visit::Visitors,
    /// Whether what it had on the disk is gone already.
    discarded: bool,
    /// Events that go with the next commit.
    untold: Vec<Vec<u8>>,
}

impl Container {
    /// Starts the task of a container. `restored`: what was found of one that runs already.
    pub(crate) fn spawn(
        context: &Arc<Context>,
        index: &Arc<Index>,
        record: Record,
        restored: Option<Restored>,
    ) -> Arc<Handle> {
        let (sender, requests) = mpsc::channel(QUEUE);
        let (run, layers) = restored.map(|found| (found.run, found.layers)).unzip();
        let view = Arc::new(make_view(context, &record, 0));
        let (view_sender, view) = watch::channel(view);
        let container = Self {
            context: Arc::clone(context),
            index: Arc::clone(index),
            record,
            requests,
            view: view_sender,
            exits: 0,
            run,
            stopping: None,
            removers: Vec::new(),
            layers,
            readers: Arc::default(),
            standstill: None,
            visitors: visit::Visitors::default(),
            discarded: false,
            untold: Vec::new(),
        };
        tokio::spawn(container.live());
        Arc::new(Handle { requests: sender, view })
    }

    async fn live(mut self) {
        loop {
            let deadline = self.stopping.as_ref().and_then(stop::Stopping::deadline);
            tokio::select! {
                request = self.requests.recv() => match request {
                    Some(request) => self.serve(request).await,
                    None => return,
                },
                link = run::ended(self.run.as_ref()) => self.ended(link).await,
                () = stop::at(deadline) => self.kill_now().await,
                () = standstill::over(self.standstill.as_mut()) => self.end_standstill().await,
            }
            if self.record.state == State::Removing {
                return;
            }
        }
    }

    async fn serve(&mut self, request: Request) {
        match request {
            Request::Start(attachment, reply) => {
                let result = self.start(attachment).await;
                answer(reply, result);
            }
            Request::Stop(grace, reply) => self.stop(grace, reply).await,
            Request::Kill { signal, all, reply } => {
                let result = self.kill(signal, all).await;
                answer(reply, result);
            }
            Request::Freeze(freeze, reply) => {
                let result = self.freeze(freeze).await;
                answer(reply, result);
            }
            Request::Update(change, reply) => {
                let result = self.update(&change).await;
                answer(reply, result);
            }
            Request::Ended { ran, exit, reply } => {
                if ran {
                    self.tell(ContainerChange::Started { pid: 0 });
                }
                self.finish(exit).await;
                answer(reply, Ok(()));
            }
            Request::Rename(name, reply) => {
                let result = self.rename(name).await;
                answer(reply, result);
            }
            Request::Processes(reply) => {
                let result = self.processes();
                answer(reply, result);
            }
            Request::Remove { force, reply } => self.remove(force, reply).await,
            Request::Shim(reply) => {
                let result = self.shim();
                answer(reply, result);
            }
            Request::Read { still, reply } => {
                let result = self.read(still).await;
                answer(reply, result);
            }
            Request::Visit { write, reply } => {
                let result = self.visit(write).await;
                answer(reply, result);
            }
        }
    }

    fn shim(&self) -> Result<(Arc<ShimClient>, i32)> {
        require(&self.record.name, self.record.state, &[State::Running, State::Stopping], "enter")?;
        let run = self.run.as_ref().ok_or_else(|| Error::new(Reason::Internal, "a running container has no shim"))?;
        Ok((Arc::clone(&run.client), self.record.pid))
    }

    /// Changes the state and shows it. The caller makes it last where it must.
    fn become_state(&mut self, state: State) {
        debug_assert!(self.record.state.may_become(state), "{:?} -> {state:?}", self.record.state);
        self.record.state = state;
        self.record.generation += 1;
        self.publish();
    }

    fn publish(&self) {
        self.view.send_replace(Arc::new(make_view(&self.context, &self.record, self.exits)));
    }

    /// The new name is taken before the old one is given back, so that there is no moment without one.
    async fn rename(&mut self, name: String) -> Result<()> {
        if self.record.name == name {
            return Ok(());
        }
        self.index.reserve(&name, &self.record.id)?;
        let old = self.take_name(name);
        self.tell(ContainerChange::Renamed { old: old.clone() });
        self.record.generation += 1;
        if let Err(error) = self.save().await {
            self.untold.pop();
            let refused = self.take_name(old);
            self.index.unreserve_of(&refused, &self.record.id);
            return Err(error);
        }
        self.index.unreserve_of(&old, &self.record.id);
        if let Some(run) = &self.run {
            self.context.register_stats(&self.record, &run.cgroup);
        }
        self.publish();
        Ok(())
    }

    /// Returns the name before.
    fn take_name(&mut self, name: String) -> String {
        self.record.config = Arc::new(ContainerConfig { name: name.clone(), ..(*self.record.config).clone() });
        std::mem::replace(&mut self.record.name, name)
    }

    fn processes(&self) -> Result<(ContainerCgroup, i32)> {
        let running = [State::Running, State::Paused, State::Stopping];
        require(&self.record.name, self.record.state, &running, "list the processes of")?;
        let run = self.run.as_ref().ok_or_else(|| Error::new(Reason::Internal, "a running container has no shim"))?;
        Ok((run.cgroup.clone(), self.record.pid))
    }

    /// Notes what happened; the next commit tells of it.
    fn tell(&mut self, change: ContainerChange) {
        match self.record.event(change) {
            // Only while nothing can be recorded.
            Ok(_) if self.untold.len() >= UNTOLD => tracing::error!(container = %self.record.id, "an event is lost"),
            Ok(event) => self.untold.push(event),
            Err(error) => tracing::error!(container = %self.record.id, %error, "cannot tell what happened"),
        }
    }

    /// The record, with what is to be told.
    fn record_commit(&self) -> Result<Commit> {
        let record = Write::Put { table: Table::Containers, key: self.record.id.clone(), value: self.record.encode()? };
        Ok(Commit { writes: vec![record], events: self.untold.clone() })
    }

    /// Writes the record and waits until it is safe.
    async fn save(&mut self) -> Result<()> {
        self.context.store.commit(self.record_commit()?).await?;
        self.untold.clear();
        Ok(())
    }
}

fn answer<T>(reply: Reply<T>, result: Result<T>) {
    // Who asked may have gone; what was done stays done.
    let _ = reply.send(result);
}

fn make_view(context: &Context, record: &Record, exits: u64) -> View {
    View {
        id: record.id.clone(),
        name: record.name.clone(),
        config: Arc::clone(&record.config),
        image_digest: record.image_digest.clone(),
        state: record.state,
        created_at_nanos: record.created_at_nanos,
        started_at_nanos: record.started_at_nanos,
        exit: record.exit.clone(),
        pid: record.pid,
        log_path: context.dirs.container(&record.id).log(),
        cgroup_path: context.cgroups.path_of(&record.id),
        userns_base: record.userns_base.unwrap_or(0),
        start_steps: Arc::clone(&record.start_steps),
        generation: record.generation,
        exits,
    }
}
