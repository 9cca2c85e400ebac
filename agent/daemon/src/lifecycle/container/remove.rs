//! Removal: from the moment the record is gone, the container is; what lies around after that is swept at the next start.

use std::sync::Arc;
use std::time::Duration;

use super::{Container, Reply, answer};
use crate::blocking::blocking;
use crate::error::Result;
use crate::events::ContainerChange;
use crate::lifecycle::record::{Tombstone, now_nanos};
use crate::lifecycle::state::{State, refused};
use crate::store::{Commit, Table, Write};

/// Layers stay mounted this long after their last container: the next one is often of the same image.
const LAYERS_LINGER: Duration = Duration::from_secs(2);

impl Container {
    /// Removes the container, now or, where it must be killed first, when it has ended.
    pub(super) async fn remove(&mut self, force: bool, reply: Reply<()>) {
        if !self.record.state.is_active() {
            self.removers.push(reply);
            return self.remove_now().await;
        }
        if !force {
            return answer(reply, Err(refused(&self.record.name, self.record.state, "remove")));
        }
        self.removers.push(reply);
        self.kill_now().await;
    }

    /// Removes a container that does not run.
    pub(super) async fn remove_now(&mut self) {
        let result = self.erase().await;
        for remover in std::mem::take(&mut self.removers) {
            answer(remover, result.clone());
        }
        if let Err(error) = result {
            tracing::error!(container = %self.record.id, %error, "cannot remove the container");
        }
    }

    async fn erase(&mut self) -> Result<()> {
        let (id, dirs) = (self.record.id.clone(), self.context.dirs.clone());
        self.send_out();
        self.discard().await?;
        let tombstone = Tombstone {
            id: id.clone(),
            name: self.record.name.clone(),
            request: self.record.request.clone(),
            removed_at_nanos: now_nanos(),
        };
        let mut writes = vec![
            Write::Delete { table: Table::Containers, key: id.clone() },
            Write::Delete { table: Table::Specs, key: id.clone() },
            Write::Put {
                table: Table::Tombstones,
                key: id.clone(),
                value: serde_json::to_vec(&tombstone).unwrap_or_default(),
            },
        ];
        if let Some(forgotten) = self.index.remove(tombstone) {
            writes.push(Write::Delete { table: Table::Tombstones, key: forgotten.id });
        }
        let mut events = self.untold.clone();
        events.push(self.record.event(ContainerChange::Removed)?);
        self.context.store.commit(Commit { writes, events }).await?;
        if let Some(base) = self.record.userns_base {
            self.context.userns.release(base);
        }
        self.become_state(State::Removing);
        self.release_layers();
        let readers = Arc::clone(&self.readers);
        tokio::spawn(async move {
            let _alone = readers.write_owned().await;
            // Its end needs no one to wait for it.
            drop(tokio::task::spawn_blocking(move || dirs.empty_trash_of(&id)));
        });
        Ok(())
    }

    /// Moves aside or removes what the container has on the disk, unless that is done.
    pub(super) async fn discard(&mut self) -> Result<()> {
        if !self.discarded {
            let (id, dirs) = (self.record.id.clone(), self.context.dirs.clone());
            blocking(move || {
                dirs.discard(&id)?;
                dirs.container(&id).remove_run()
            })
            .await?;
            self.discarded = true;
        }
        Ok(())
    }

    fn release_layers(&mut self) {
        let Some(image) = self.layers.take() else { return };
        let context = Arc::clone(&self.context);
        tokio::spawn(async move {
            tokio::time::sleep(LAYERS_LINGER).await;
            let released = blocking(move || context.layers.release(&image));
            if let Err(error) = released.await {
                tracing::warn!(%error, "cannot unmount layers; it is tried again when the agent starts");
            }
        });
    }
}
