//! The containers of this node.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use super::{Session, State, StepTime};
use crate::error::{Error, Reason, Result};
use crate::lifecycle::config::{ContainerConfig, ExecConfig, Resources};

#[derive(Clone, Debug)]
pub(crate) struct Containers;

#[derive(Debug)]
pub(crate) struct Created {
    pub(crate) id: String,
    pub(crate) name: String,
    pub(crate) pid: i32,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Exit {
    pub(crate) code: i32,
    pub(crate) signal: i32,
    pub(crate) oom_killed: bool,
    pub(crate) finished_at_nanos: u64,
    pub(crate) error: String,
}

#[derive(Debug, Clone)]
pub(crate) struct View {
    pub(crate) id: String,
    pub(crate) name: String,
    pub(crate) config: Arc<ContainerConfig>,
    pub(crate) image_digest: String,
    pub(crate) state: State,
    pub(crate) created_at_nanos: u64,
    pub(crate) started_at_nanos: Option<u64>,
    pub(crate) exit: Option<Exit>,
    pub(crate) pid: i32,
    pub(crate) log_path: PathBuf,
    pub(crate) cgroup_path: String,
    pub(crate) userns_base: u32,
    pub(crate) start_steps: Vec<StepTime>,
    pub(crate) generation: u64,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum WaitCondition {
    NotRunning,
    NextExit,
    Removed,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct AttachConfig {
    pub(crate) stdin: bool,
    pub(crate) start: bool,
    pub(crate) terminal_size: Option<(u16, u16)>,
}

fn unlinked<T>() -> Result<T> {
    Err(Error::new(Reason::Internal, "not linked"))
}

#[allow(unused_variables, clippy::unused_async)]
impl Containers {
    pub(crate) async fn create(
        &self,
        request_id: Option<String>,
        config: ContainerConfig,
        start: bool,
    ) -> Result<Created> {
        unlinked()
    }
    pub(crate) async fn start(&self, reference: &str) -> Result<i32> {
        unlinked()
    }
    pub(crate) async fn stop(&self, reference: &str, grace: Option<Duration>) -> Result<Option<Exit>> {
        unlinked()
    }
    pub(crate) async fn kill(&self, reference: &str, signal: i32, all: bool) -> Result<()> {
        unlinked()
    }
    pub(crate) async fn pause(&self, reference: &str) -> Result<()> {
        unlinked()
    }
    pub(crate) async fn resume(&self, reference: &str) -> Result<()> {
        unlinked()
    }
    pub(crate) async fn update(&self, reference: &str, change: Resources) -> Result<Resources> {
        unlinked()
    }
    pub(crate) async fn remove(&self, reference: &str, force: bool) -> Result<String> {
        unlinked()
    }
    pub(crate) fn get(&self, reference: &str) -> Result<Arc<View>> {
        unlinked()
    }
    pub(crate) async fn runtime_spec(&self, reference: &str) -> Result<Option<String>> {
        unlinked()
    }
    pub(crate) fn list(&self) -> Vec<Arc<View>> {
        Vec::new()
    }
    pub(crate) async fn wait(&self, reference: &str, condition: WaitCondition) -> Result<Option<Exit>> {
        unlinked()
    }
    pub(crate) async fn exec(&self, reference: &str, config: ExecConfig) -> Result<Session> {
        unlinked()
    }
    pub(crate) async fn attach(&self, reference: &str, attach: AttachConfig) -> Result<Session> {
        unlinked()
    }
    pub(crate) fn counts(&self) -> (usize, usize) {
        (0, 0)
    }
}
