//! What the service asks of containers: finds the one that is meant and passes the request on to its task.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::watch;

use super::config::{ContainerConfig, NamespaceMode, Resources};
use super::container::{Container, Handle, Request};
use super::context::Context;
use super::index::Index;
use super::keyed_lock::KeyedLock;
use super::record::{Exit, Record, RequestKey, View};
use super::spec;
use super::spec::validate::{check_name, validate_resources};
use super::state::State;
use crate::blocking::blocking;
use crate::error::{Error, Reason, Result};
use crate::events::ContainerChange;
use crate::metrics::Metrics;
use crate::runtime::processes::{self, Process};
use crate::space;
use crate::store::{Commit, Table, Write};

/// The containers of this node.
#[derive(Clone, Debug)]
pub(crate) struct Containers {
    pub(super) context: Arc<Context>,
    pub(super) index: Arc<Index>,
    /// Two requests with one request id take turns: the second finds what the first made.
    requests: KeyedLock,
}

/// A container that was created.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Created {
    pub(crate) id: String,
    pub(crate) name: String,
    /// Of init; 0 if it was not started.
    pub(crate) pid: i32,
}

/// Hexadecimal digits of an id.
const ID_LENGTH: usize = 64;

/// What to wait for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum WaitCondition {
    /// The container does not run.
    NotRunning,
    /// It ends once more.
    NextExit,
    /// It is gone.
    Removed,
}

impl Containers {
    pub(crate) fn new(context: Arc<Context>) -> Self {
        Self { context, index: Arc::new(Index::default()), requests: KeyedLock::default() }
    }

    /// Records a container and, where asked, starts it. Goes on to its end if the caller goes away.
    pub(crate) async fn create(
        &self,
        request_id: Option<String>,
        config: ContainerConfig,
        start: bool,
    ) -> Result<Created> {
        spec::validate(&config)?;
        let key = request_id.map(|id| RequestKey::new(id, &config, start)).transpose()?;
        let containers = self.clone();
        let created = tokio::spawn(async move {
            let _turn = match &key {
                Some(key) => Some(containers.requests.lock(&key.id).await),
                None => None,
            };
            let created = containers.create_once(key, config, start).await;
            created.map_err(|error| containers.explain(error))
        });
        created.await.map_err(|error| Error::new(Reason::Internal, format!("a worker failed: {error}")))?
    }

    async fn create_once(&self, key: Option<RequestKey>, config: ContainerConfig, start: bool) -> Result<Created> {
        if let Some(key) = &key
            && let Some((id, name)) = self.index.request(key)?
        {
            return self.created_before(id, name, start).await;
        }
        let handle = self.record_new(key, config).await?;
        let view = handle.view();
        let mut created = Created { id: view.id.clone(), name: view.name.clone(), pid: 0 };
        if start {
            match handle.ask(|reply| Request::Start(None, reply)).await {
                Ok((_, pid)) => created.pid = pid,
                Err(error) => {
                    // The container was made for this start alone. With auto_remove it is gone already.
                    let removed = handle.ask(|reply| Request::Remove { force: true, reply }).await;
                    if let Err(problem) = removed.or_else(gone_is_fine) {
                        tracing::error!(container = %created.id, error = %problem, "cannot remove after a failed start");
                    }
                    return Err(error);
                }
            }
        }
        Ok(created)
    }

    /// Answers a repeated request; a start that an agent's death cut off is made up for.
    async fn created_before(&self, id: String, name: String, start: bool) -> Result<Created> {
        let mut created = Created { id, name, pid: 0 };
        if let Ok(handle) = self.index.find(&created.id) {
            created.pid = handle.view().pid;
            if start && handle.view().state == State::Created {
                (_, created.pid) = handle.ask(|reply| Request::Start(None, reply)).await?;
            }
        }
        Ok(created)
    }

    async fn record_new(&self, key: Option<RequestKey>, mut config: ContainerConfig) -> Result<Arc<Handle>> {
        let image = self.context.images.get(&config.image)?;
        let _lease = self.context.images.lease(&image.digest)?;
        self.resolve_containers(&mut config)?;
        let id = new_id()?;
        if config.name.is_empty() {
            config.name = id[..12].to_owned();
        }
        let name = config.name.clone();
        self.index.reserve(&name, &id)?;
        let range = if config.namespaces.user_auto { self.context.userns.take().map(Some) } else { Ok(None) };
        let result = match range {
            Ok(range) => {
                let record = Record::new(id, name.clone(), config, image.digest.clone(), key, range);
                let stored = self.store_new(record).await;
                if stored.is_err()
                    && let Some(base) = range
                {
                    self.context.userns.release(base);
                }
                stored
            }
            Err(error) => Err(error),
        };
        if result.is_err() {
            self.index.unreserve(&name);
        }
        result
    }

    async fn store_new(&self, record: Record) -> Result<Arc<Handle>> {
        let write = Write::Put { table: Table::Containers, key: record.id.clone(), value: record.encode()? };
        let events = vec![record.event(ContainerChange::Created)?];
        self.context.store.commit(Commit { writes: vec![write], events }).await?;
        let request = record.request.clone();
        let handle = Container::spawn(&self.context, &self.index, record, None);
        self.index.insert(Arc::clone(&handle), request.as_ref());
        Ok(handle)
    }

    /// Replaces references to other containers by their ids, so that they mean the same later.
    fn resolve_containers(&self, config: &mut ContainerConfig) -> Result<()> {
        let namespaces = &mut config.namespaces;
        for mode in [&mut namespaces.pid, &mut namespaces.network, &mut namespaces.ipc, &mut namespaces.uts] {
            if let NamespaceMode::Container(reference) = mode {
                *reference = self.index.find(reference)?.view().id.clone();
            }
        }
        Ok(())
    }

    /// Starts a container: the pid of its init.
    pub(crate) async fn start(&self, reference: &str) -> Result<i32> {
        let started = self.find(reference)?.ask(|reply| Request::Start(None, reply)).await;
        started.map(|(_, pid)| pid).map_err(|error| self.explain(error))
    }

    /// Says of a full disk what is free.
    pub(super) fn explain(&self, error: Error) -> Error {
        space::explain(error, self.context.dirs.data(), None)
    }

    /// Stops a container, and waits until it has ended.
    pub(crate) async fn stop(&self, reference: &str, grace: Option<Duration>) -> Result<Option<Exit>> {
        self.find(reference)?.ask(|reply| Request::Stop(grace, reply)).await
    }

    /// Signals init, or all processes.
    pub(crate) async fn kill(&self, reference: &str, signal: i32, all: bool) -> Result<()> {
        self.find(reference)?.ask(|reply| Request::Kill { signal, all, reply }).await
    }

    /// Freezes a container.
    pub(crate) async fn pause(&self, reference: &str) -> Result<()> {
        self.find(reference)?.ask(|reply| Request::Freeze(true, reply)).await
    }

    /// Thaws a container.
    pub(crate) async fn resume(&self, reference: &str) -> Result<()> {
        self.find(reference)?.ask(|reply| Request::Freeze(false, reply)).await
    }

    /// Changes limits: all of them after the change.
    pub(crate) async fn update(&self, reference: &str, change: Resources) -> Result<Resources> {
        let handle = self.find(reference)?;
        validate_resources("resources", &handle.view().config.resources.updated(&change))?;
        handle.ask(|reply| Request::Update(change, reply)).await
    }

    /// Gives a container another name.
    pub(crate) async fn rename(&self, reference: &str, name: &str) -> Result<()> {
        if name.is_empty() {
            return Err(Error::invalid("name", "is required"));
        }
        check_name("name", name)?;
        let (handle, name) = (self.find(reference)?, name.to_owned());
        handle.ask(|reply| Request::Rename(name, reply)).await.map_err(|error| self.explain(error))
    }

    /// The processes of a container that runs; whether there are more.
    pub(crate) async fn top(&self, reference: &str) -> Result<(Vec<Process>, bool)> {
        let (cgroup, init) = self.find(reference)?.ask(Request::Processes).await?;
        blocking(move || processes::list(&cgroup.processes()?, init)).await
    }

    /// Removes a container: its id.
    pub(crate) async fn remove(&self, reference: &str, force: bool) -> Result<String> {
        let handle = match self.find(reference) {
            Ok(handle) => handle,
            Err(error) => return self.index.find_removed(reference).ok_or(error),
        };
        let id = handle.view().id.clone();
        handle.ask(|reply| Request::Remove { force, reply }).await.or_else(gone_is_fine)?;
        Ok(id)
    }

    /// One container.
    pub(crate) fn get(&self, reference: &str) -> Result<Arc<View>> {
        Ok(self.find(reference)?.view())
    }

    /// Id of a container that there is or, as long as that is remembered, was; another reference that could be an id is taken for one.
    pub(crate) fn id_of_any(&self, reference: &str) -> Result<String> {
        match self.index.find(reference) {
            Ok(handle) => Ok(handle.view().id.clone()),
            Err(error) if error.reason == Reason::ContainerNotFound => {
                let is_id = reference.len() == ID_LENGTH && reference.bytes().all(|byte| byte.is_ascii_hexdigit());
                let removed = self.index.find_removed(reference);
                removed.or_else(|| is_id.then(|| reference.to_owned())).ok_or(error)
            }
            Err(error) => Err(error),
        }
    }

    /// The OCI runtime spec of the last start, as JSON.
    pub(crate) async fn runtime_spec(&self, reference: &str) -> Result<Option<String>> {
        let id = self.get(reference)?.id.clone();
        let store = self.context.store.clone();
        blocking(move || {
            let json = store.get(Table::Specs, &id)?;
            json.map(|bytes| spec::for_display(&String::from_utf8_lossy(&bytes))).transpose()
        })
        .await
    }

    /// All containers, the newest first.
    pub(crate) fn list(&self) -> Vec<Arc<View>> {
        let mut views: Vec<_> = self.index.all().iter().map(|handle| handle.view()).collect();
        views.sort_by(|a, b| (b.created_at_nanos, &b.id).cmp(&(a.created_at_nanos, &a.id)));
        views
    }

    /// How many containers there are, and how many of them run.
    pub(crate) fn counts(&self) -> (usize, usize) {
        let handles = self.index.all();
        let running = handles.iter().filter(|handle| handle.view().state.is_active()).count();
        (handles.len(), running)
    }

    /// What is counted of this node's work.
    pub(crate) fn metrics(&self) -> &Metrics {
        &self.context.metrics
    }

    /// Requests that wait for the turn of their container.
    pub(crate) fn requests_waiting(&self) -> usize {
        self.index.all().iter().map(|handle| handle.waiting()).sum()
    }

    /// A container that uses an image, if one does: its name.
    pub(crate) fn user_of(&self, digest: &str) -> Option<String> {
        let handles = self.index.all();
        let mut views = handles.iter().map(|handle| handle.view());
        views.find(|view| view.image_digest == digest).map(|view| view.name.clone())
    }

    /// Waits until a condition holds: how the container ended last.
    pub(crate) async fn wait(&self, reference: &str, condition: WaitCondition) -> Result<Option<Exit>> {
        let handle = match self.find(reference) {
            Ok(handle) => handle,
            Err(_) if condition == WaitCondition::Removed && self.index.find_removed(reference).is_some() => {
                return Ok(None);
            }
            Err(error) => return Err(error),
        };
        let mut view = handle.watch();
        let exits = view.borrow().exits;
        drop(handle);
        let holds = |view: &Arc<View>| match condition {
            WaitCondition::NotRunning => !view.state.is_active(),
            WaitCondition::NextExit => view.exits > exits || view.state == State::Removing,
            WaitCondition::Removed => view.state == State::Removing,
        };
        let waited = wait_for(&mut view, holds).await;
        Ok(waited.exit.clone())
    }

    /// For an agent that ends: unmounts layers that linger, and removes the parent control group if no container is left.
    pub(crate) async fn settle(&self) {
        if !self.index.all().is_empty() {
            return;
        }
        let context = Arc::clone(&self.context);
        let settled = blocking(move || {
            context.layers.clear()?;
            context.cgroups.remove_parent()
        });
        if let Err(error) = settled.await {
            tracing::warn!(%error, "cannot remove everything; it is tried again when the agent starts");
        }
    }

    pub(super) fn find(&self, reference: &str) -> Result<Arc<Handle>> {
        self.index.find(reference)
    }
}

/// The first view for which `holds`, or the last one of all.
pub(super) async fn wait_for(view: &mut watch::Receiver<Arc<View>>, holds: impl Fn(&Arc<View>) -> bool) -> Arc<View> {
    let found = view.wait_for(&holds).await.map(|view| Arc::clone(&view)).ok();
    found.unwrap_or_else(|| Arc::clone(&view.borrow()))
}

/// Removal of what another request removed in the meantime is a success.
fn gone_is_fine(error: Error) -> Result<()> {
    if error.reason == Reason::ContainerNotFound { Ok(()) } else { Err(error) }
}

/// 64 random hexadecimal digits.
fn new_id() -> Result<String> {
    let mut bytes = [0; 32];
    getrandom::fill(&mut bytes)
        .map_err(|error| Error::new(Reason::System, format!("the kernel gave no random bytes: {error}")))?;
    Ok(hex::encode(bytes))
}
