//! One run of a container, from its start to its end.

use std::sync::Arc;

use hull_wire::ExitRecord;

use super::Container;
use crate::blocking::blocking;
use crate::error::{Error, Reason, Result};
use crate::events::ContainerChange;
use crate::lifecycle::record::Exit;
use crate::lifecycle::state::{State, require};
use crate::runtime::cgroup::ContainerCgroup;
use crate::runtime::dirs::ContainerDirs;
use crate::runtime::shim::{Link, ShimClient};

/// What exists while a container runs.
#[derive(Debug)]
pub(crate) struct Run {
    pub(crate) client: Arc<ShimClient>,
    pub(crate) cgroup: ContainerCgroup,
}

/// Waits for the end of a run; for ever where there is none.
pub(super) async fn ended(run: Option<&Run>) -> Link {
    match run {
        Some(run) => run.client.ended().await,
        None => std::future::pending().await,
    }
}

/// The exit that a shim recorded. Blocking.
pub(crate) fn recorded_exit(dirs: &ContainerDirs) -> Option<ExitRecord> {
    let bytes = std::fs::read(dirs.exit()).ok()?;
    hull_wire::decode(&bytes).ok()
}

impl Container {
    /// The run has ended: cleans up after it, then tells.
    pub(super) async fn ended(&mut self, link: Link) {
        let Some(run) = self.run.take() else { return };
        self.context.stats.unregister(&self.record.id);
        let cleaned = blocking(move || clean_cgroup(&run.cgroup));
        let exit = match link {
            Link::Exited(record) => Some(record),
            Link::Up | Link::Lost => {
                let dirs = self.context.dirs.container(&self.record.id);
                blocking(move || Ok(recorded_exit(&dirs))).await.ok().flatten()
            }
        };
        let exit = exit.map_or_else(|| Exit::lost("the shim ended without recording an exit"), Exit::from);
        // Side by side with the groups; the shim's record goes only when ours is safe.
        let recorded = self.record_exit(&exit).await;
        if recorded
            && self.goes()
            && let Err(error) = self.discard().await
        {
            tracing::debug!(container = %self.record.id, %error, "cannot discard; the removal tries again");
        }
        if let Err(error) = cleaned.await {
            tracing::error!(container = %self.record.id, %error, "cannot remove the control group");
        }
        self.conclude(exit, recorded).await;
    }

    /// Whether the container is removed once it has ended.
    fn goes(&self) -> bool {
        !self.removers.is_empty() || self.record.config.auto_remove
    }

    /// The end of what needs no cleaning up.
    pub(super) async fn finish(&mut self, exit: Exit) {
        let recorded = self.record_exit(&exit).await;
        self.conclude(exit, recorded).await;
    }

    /// Records an exit, and tells of it; whether that is safe.
    async fn record_exit(&mut self, exit: &Exit) -> bool {
        tracing::info!(container = %self.record.id, code = exit.code, oom = exit.oom_killed, error = exit.error, "exited");
        self.record.exit = Some(exit.clone());
        self.record.pid = 0;
        self.record.stands_still = false;
        self.exits += 1;
        if exit.oom_killed {
            self.tell(ContainerChange::Oom { cgroup: self.context.cgroups.path_of(&self.record.id) });
        }
        self.tell(exit.event());
        self.record.state = State::Exited;
        self.record.generation += 1;
        let saved = self.save().await;
        if let Err(error) = &saved {
            tracing::error!(container = %self.record.id, %error, "cannot record the exit");
        }
        saved.is_ok()
    }

    /// Shows an exit, answers who waits for it, and removes the container where that was asked for.
    async fn conclude(&mut self, exit: Exit, recorded: bool) {
        let goes = self.goes();
        if recorded && !goes {
            self.remove_run_dir().await;
        }
        self.publish();
        self.context.writable.ended();
        if let Some(stopping) = self.stopping.take() {
            stopping.answer(&exit);
        }
        if goes {
            self.remove_now().await;
        }
    }

    async fn remove_run_dir(&self) {
        let dirs = self.context.dirs.container(&self.record.id);
        if let Err(error) = blocking(move || dirs.remove_run()).await {
            tracing::error!(container = %self.record.id, %error, "cannot remove the run directory");
        }
    }

    pub(super) fn running(&self) -> Result<&Run> {
        self.run.as_ref().ok_or_else(|| Error::new(Reason::Internal, "a running container has no shim"))
    }

    /// Freezes or thaws every process.
    pub(super) async fn freeze(&mut self, freeze: bool) -> Result<()> {
        let (from, to, what) =
            if freeze { (State::Running, State::Paused, "pause") } else { (State::Paused, State::Running, "resume") };
        if self.record.state == to {
            return if freeze { self.stay_paused().await } else { Ok(()) };
        }
        require(&self.record.name, self.record.state, &[from], what)?;
        if !freeze {
            self.disturb();
        }
        self.set_frozen(freeze).await?;
        self.become_state(to);
        self.tell(if freeze { ContainerChange::Paused } else { ContainerChange::Resumed });
        self.save().await
    }

    /// Freezes or thaws in the kernel.
    pub(super) async fn set_frozen(&self, freeze: bool) -> Result<()> {
        let cgroup = self.running()?.cgroup.clone();
        blocking(move || if freeze { cgroup.freeze() } else { cgroup.thaw() }).await
    }

    /// Changes limits, in the kernel first.
    pub(super) async fn update(
        &mut self,
        change: &crate::lifecycle::config::Resources,
    ) -> Result<crate::lifecycle::config::Resources> {
        let old = self.record.config.resources.clone();
        let new = old.updated(change);
        if let Some(run) = &self.run {
            let cgroup = run.cgroup.clone();
            let (from, to) = (old.clone(), new.clone());
            let updated = blocking(move || cgroup.update(&from, &to)).await;
            self.context.stats.limits_changed(&self.record.id);
            updated?;
        }
        let mut config = (*self.record.config).clone();
        config.resources = new.clone();
        self.record.config = Arc::new(config);
        self.record.generation += 1;
        self.tell(ContainerChange::Updated);
        self.save().await?;
        self.publish();
        Ok(new)
    }
}

/// Kills what is left of a run and removes its control groups. Blocking, for a bounded time.
pub(crate) fn clean_cgroup(cgroup: &ContainerCgroup) -> Result<()> {
    if cgroup.is_populated() {
        cgroup.kill()?;
    }
    cgroup.remove()
}
