//! What an agent does when it comes (back): it finds every live shim and every exit that happened meanwhile, finishes or
//! takes back what was half done, and removes what belongs to no record.
//!
//! | found | becomes |
//! | --- | --- |
//! | a record and a shim that answers | running (or paused) |
//! | a record and an exit file | exited as recorded there |
//! | a record that ran, neither shim nor exit file | exited, 255: lost |
//! | a record that never ran | as recorded |
//! | anything without a record | killed and removed: its creation was never acknowledged |

use std::collections::HashSet;
use std::os::unix::fs::FileTypeExt as _;
use std::sync::Arc;

use hull_wire::{Outcome, RequestBody, Target};

use super::container::{Container, Request, Restored, Run, clean_cgroup, recorded_exit};
use super::containers::Containers;
use super::context::{KILL_DEADLINE, START_DEADLINE};
use super::record::{Exit, Record, Tombstone};
use super::state::State;
use crate::blocking::blocking;
use crate::error::{Error, Reason, Result};
use crate::events::ContainerChange;
use crate::runtime::dirs::ContainerDirs;
use crate::runtime::shim::{Link, ShimClient};
use crate::store::{Commit, Table, Write};

/// Containers looked at side by side.
const PARALLEL: usize = 64;

/// What was found of one container.
enum Found {
    /// It runs.
    Running(Arc<ShimClient>, i32),
    /// It has ended.
    Ended(Exit),
    /// It was never started, or ended before.
    AsRecorded,
}

impl Containers {
    /// Makes the containers of the store known, running ones included, and removes what belongs to none. Called once.
    pub(crate) async fn restore(&self) -> Result<()> {
        let store = self.context.store.clone();
        let (records, stones) =
            blocking(move || Ok((store.scan(Table::Containers)?, store.scan(Table::Tombstones)?))).await?;
        let mut stones: Vec<Tombstone> =
            stones.iter().filter_map(|(_, bytes)| serde_json::from_slice(bytes).ok()).collect();
        stones.sort_by_key(|stone| stone.removed_at_nanos);
        for stone in stones {
            self.index.bury(stone);
        }
        let mut known = HashSet::new();
        let mut tasks = tokio::task::JoinSet::new();
        for (id, bytes) in records {
            known.insert(id);
            let record = Record::decode(&bytes)?;
            let containers = self.clone();
            if tasks.len() >= PARALLEL {
                joined(tasks.join_next().await)?;
            }
            tasks.spawn(async move { containers.restore_one(record).await });
        }
        while let Some(result) = tasks.join_next().await {
            joined(Some(result))?;
        }
        self.sweep(&known).await
    }

    async fn restore_one(&self, mut record: Record) -> Result<()> {
        let id = record.id.clone();
        if let Some(base) = record.userns_base {
            self.context.userns.adopt(base);
        }
        let dirs = self.context.dirs.container(&id);
        let (mut restored, mut ended) = (None, None);
        let told = record.state;
        let found = match self.look(&record, &dirs).await? {
            Found::Running(client, pid) => match self.adopt(&mut record, client, pid).await {
                Ok(adopted) => {
                    restored = Some(adopted);
                    self.tell_untold(told, &record).await?;
                    Found::AsRecorded
                }
                Err(error) => {
                    tracing::error!(container = %id, %error, "ending a container that cannot be looked after");
                    self.end_stray(&id).await;
                    Found::Ended(Exit::lost(&error.to_string()))
                }
            },
            found => found,
        };
        match found {
            // The agent died after it had recorded this exit.
            Found::Ended(exit) if record.state == State::Exited && record.exit.as_ref() == Some(&exit) => {
                self.clean_up_after(&id).await;
                blocking(move || dirs.remove_run()).await?;
            }
            Found::Ended(exit) => {
                self.clean_up_after(&id).await;
                ended = Some(exit);
            }
            Found::Running(..) | Found::AsRecorded => {}
        }
        let auto_remove = record.state == State::Exited && record.config.auto_remove;
        let request = record.request.clone();
        let handle = Container::spawn(&self.context, &self.index, record, restored);
        self.index.insert(Arc::clone(&handle), request.as_ref());
        match ended {
            Some(exit) => {
                // One that was lost perhaps never ran.
                let ran = !told.is_active() && exit.error.is_empty();
                handle.ask(|reply| Request::Ended { ran, exit, reply }).await
            }
            None if auto_remove => handle.ask(|reply| Request::Remove { force: true, reply }).await,
            None => Ok(()),
        }
    }

    /// Tells what an agent did that died before it could record it: the state that it `told` last is not the one that is found.
    async fn tell_untold(&self, told: State, record: &Record) -> Result<()> {
        let mut changes = Vec::new();
        if !told.is_active() {
            changes.push(ContainerChange::Started { pid: record.pid });
        }
        match (told, record.state) {
            (State::Paused, State::Running) => changes.push(ContainerChange::Resumed),
            (State::Paused, _) => {}
            (_, State::Paused) => changes.push(ContainerChange::Paused),
            _ => {}
        }
        if changes.is_empty() {
            return Ok(());
        }
        let write = Write::Put { table: Table::Containers, key: record.id.clone(), value: record.encode()? };
        let events = changes.into_iter().map(|change| record.event(change)).collect::<Result<Vec<_>>>()?;
        self.context.store.commit(Commit { writes: vec![write], events }).await
    }

    async fn look(&self, record: &Record, dirs: &ContainerDirs) -> Result<Found> {
        let (socket, places) = (dirs.socket(), dirs.clone());
        let (has_socket, exit) = blocking(move || {
            let has_socket = std::fs::symlink_metadata(&socket).is_ok_and(|found| found.file_type().is_socket());
            Ok((has_socket, recorded_exit(&places)))
        })
        .await?;
        if has_socket
            && exit.is_none()
            && let Some(client) = ShimClient::connect(&dirs.socket())?
        {
            return self.ask_status(record, client, dirs).await;
        }
        if let Some(exit) = exit {
            return Ok(Found::Ended(Exit::from(exit)));
        }
        Ok(match record.state {
            State::Created | State::Exited if !has_socket => Found::AsRecorded,
            _ if record.boot_id != self.context.host.boot_id && !record.boot_id.is_empty() => {
                Found::Ended(Exit::lost("the node was restarted"))
            }
            _ => Found::Ended(Exit::lost("the shim was gone when the agent came back")),
        })
    }

    async fn ask_status(&self, record: &Record, client: Arc<ShimClient>, dirs: &ContainerDirs) -> Result<Found> {
        match client.call(RequestBody::Status, &[], START_DEADLINE).await {
            Ok(answer) => match answer.outcome {
                Outcome::Status { pid, .. } => return Ok(Found::Running(client, pid)),
                other => tracing::warn!(container = %record.id, ?other, "the shim does not tell its state"),
            },
            Err(error) => tracing::warn!(container = %record.id, %error, "the shim does not answer"),
        }
        // It may have ended just now, as it should.
        if let Link::Exited(exit) = tokio::time::timeout(KILL_DEADLINE, client.ended()).await.unwrap_or(Link::Lost) {
            return Ok(Found::Ended(Exit::from(exit)));
        }
        let places = dirs.clone();
        let exit = blocking(move || Ok(recorded_exit(&places))).await?;
        Ok(Found::Ended(
            exit.map_or_else(|| Exit::lost("the shim did not answer the agent that came back"), Exit::from),
        ))
    }

    async fn adopt(&self, record: &mut Record, client: Arc<ShimClient>, pid: i32) -> Result<Restored> {
        let (context, digest, id) = (Arc::clone(&self.context), record.image_digest.clone(), record.id.clone());
        // The commit that it stood still for ended with the agent.
        let thaw = std::mem::take(&mut record.stands_still);
        let (layers, cgroup, frozen) = blocking(move || {
            let image = context.images.get(&digest)?;
            context.layers.acquire(&image)?;
            let cgroup = context.cgroups.open(&id).ok_or_else(|| {
                Error::new(Reason::System, format!("the control group of running container {id} is gone"))
            })?;
            if thaw {
                cgroup.thaw()?;
            }
            let frozen = cgroup.is_frozen();
            Ok((image, cgroup, frozen))
        })
        .await?;
        record.pid = pid;
        record.state = if frozen { State::Paused } else { State::Running };
        record.exit = None;
        record.boot_id.clone_from(&self.context.host.boot_id);
        record.started_at_nanos.get_or_insert(record.created_at_nanos);
        self.context.register_stats(record, &cgroup);
        Ok(Restored { run: Run { client, cgroup }, layers })
    }

    async fn clean_up_after(&self, id: &str) {
        let (context, id) = (Arc::clone(&self.context), id.to_owned());
        if let Err(error) =
            blocking(move || context.cgroups.open(&id).map_or(Ok(()), |cgroup| clean_cgroup(&cgroup))).await
        {
            tracing::error!(%error, "cannot remove the control group of a container that has ended");
        }
    }

    /// Removes what belongs to no record, and control groups of containers that do not run: a start makes them first of all.
    async fn sweep(&self, known: &HashSet<String>) -> Result<()> {
        let context = Arc::clone(&self.context);
        let (data, run, cgroups) = blocking(move || {
            let (data, run) = context.dirs.found()?;
            Ok((data, run, context.cgroups.list()?))
        })
        .await?;
        let runs = |id: &String| self.index.find(id).is_ok_and(|handle| handle.view().state.is_active());
        for id in cgroups.iter().filter(|id| known.contains(*id) && !runs(id)) {
            self.clean_up_after(id).await;
        }
        let mut strays: HashSet<String> = data.into_iter().chain(cgroups).filter(|id| !known.contains(id)).collect();
        let stray_run = |name: &String| !known.iter().chain(&strays).any(|id| id.starts_with(name.as_str()));
        let more: Vec<String> = run.into_iter().filter(stray_run).collect();
        strays.extend(more);
        for id in strays {
            tracing::info!(container = %id, "removing what is left of a container that was never acknowledged");
            self.end_stray(&id).await;
            self.clean_up_after(&id).await;
            let dirs = self.context.dirs.clone();
            blocking(move || {
                dirs.discard(&id)?;
                dirs.container(&id).remove_run()
            })
            .await?;
        }
        let context = Arc::clone(&self.context);
        blocking(move || {
            context.layers.sweep()?;
            context.dirs.empty_trash()
        })
        .await
    }

    /// Ends the shim of a stray, however far it has come.
    async fn end_stray(&self, id: &str) {
        let Ok(Some(client)) = ShimClient::connect(&self.context.dirs.container(id).socket()) else { return };
        let kill = RequestBody::Signal { target: Target::Init, signal: nix::libc::SIGKILL };
        if let Err(error) = client.call(kill, &[], START_DEADLINE).await {
            tracing::debug!(%error, "the shim of a stray has ended");
        }
        if tokio::time::timeout(KILL_DEADLINE, client.ended()).await.is_err() {
            tracing::error!(container = %id, "the shim of a stray does not end");
        }
    }
}

fn joined(result: Option<std::result::Result<Result<()>, tokio::task::JoinError>>) -> Result<()> {
    match result {
        Some(Ok(result)) => result,
        Some(Err(error)) => Err(Error::new(Reason::Internal, format!("a worker failed: {error}"))),
        None => Ok(()),
    }
}
