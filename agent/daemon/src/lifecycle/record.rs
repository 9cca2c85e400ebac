//! What the store keeps of a container, and what everyone else sees of it.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::{SystemTime, UNIX_EPOCH};

use hull_wire::{ExitRecord, Failure, Step};
use nix::errno::Errno;
use serde::{Deserialize, Serialize};
use sha2::{Digest as _, Sha256};

pub(crate) use hull_wire::StepTime;

use super::config::ContainerConfig;
use super::state::State;
use crate::error::{Error, Reason, Result};
use crate::events::{ContainerChange, What};

/// Version of the records that this agent writes. A newer one is refused, never guessed at.
const VERSION: u32 = 1;

/// How a container ended.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Exit {
    /// The process's own code; 128 + signal; 125 to 127 where it never ran; 255 where its end was not seen.
    pub(crate) code: i32,
    /// Signal that ended it; 0 if none.
    pub(crate) signal: i32,
    pub(crate) oom_killed: bool,
    /// Nanoseconds since the epoch.
    pub(crate) finished_at_nanos: u64,
    /// Why it did not run, in one line; empty for one that ran.
    pub(crate) error: String,
}

impl From<ExitRecord> for Exit {
    fn from(record: ExitRecord) -> Self {
        Self {
            code: record.code,
            signal: record.signal,
            oom_killed: record.oom_killed,
            finished_at_nanos: record.finished_at_nanos,
            error: String::new(),
        }
    }
}

impl Exit {
    /// Of a start that failed.
    pub(crate) fn of_failed_start(error: &Error) -> Self {
        Self {
            code: exit_code(error.step, error.errno),
            signal: 0,
            oom_killed: false,
            finished_at_nanos: now_nanos(),
            error: error.to_string(),
        }
    }

    /// As an event.
    pub(crate) fn event(&self) -> ContainerChange {
        let (code, signal, oom_killed) = (self.code, self.signal, self.oom_killed);
        ContainerChange::Exited { code, signal, oom_killed, error: self.error.clone() }
    }

    /// Of a container whose end nobody saw.
    pub(crate) fn lost(why: &str) -> Self {
        Self { code: 255, signal: 0, oom_killed: false, finished_at_nanos: now_nanos(), error: why.to_owned() }
    }
}

/// Exit code of a process that was never executed, as shells and Docker have it.
fn exit_code(step: Option<Step>, errno: Option<Errno>) -> i32 {
    match (step, errno) {
        (Some(Step::Exec), Some(Errno::ENOENT)) => 127,
        (Some(Step::Exec), _) => 126,
        _ => 125,
    }
}

/// A container's record.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Record {
    version: u32,
    pub(crate) id: String,
    pub(crate) name: String,
    pub(crate) config: Arc<ContainerConfig>,
    pub(crate) image_digest: String,
    pub(crate) request: Option<RequestKey>,
    pub(crate) created_at_nanos: u64,
    pub(crate) started_at_nanos: Option<u64>,
    /// What its last start took.
    #[serde(default)]
    pub(crate) start_steps: Arc<[StepTime]>,
    pub(crate) exit: Option<Exit>,
    pub(crate) state: State,
    pub(crate) pid: i32,
    /// Host id of the container's root, where it has a user namespace.
    pub(crate) userns_base: Option<u32>,
    /// Whether it was frozen for a commit alone: an agent that comes back thaws it.
    #[serde(default)]
    pub(crate) stands_still: bool,
    /// The boot in which it last ran: none of its processes survives into another.
    pub(crate) boot_id: String,
    pub(crate) generation: u64,
}

/// What makes a repeated request the same request.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct RequestKey {
    pub(crate) id: String,
    /// SHA-256 of the config.
    pub(crate) fingerprint: String,
}

impl RequestKey {
    /// Key of a request.
    pub(crate) fn new(id: String, config: &ContainerConfig, start: bool) -> Result<Self> {
        let json =
            serde_json::to_vec(&(config, start)).map_err(|error| Error::new(Reason::Internal, error.to_string()))?;
        Ok(Self { id, fingerprint: hex::encode(Sha256::digest(json)) })
    }
}

impl Record {
    /// A record of a new container.
    pub(crate) fn new(
        id: String,
        name: String,
        config: ContainerConfig,
        image_digest: String,
        request: Option<RequestKey>,
        userns_base: Option<u32>,
    ) -> Self {
        Self {
            version: VERSION,
            id,
            name,
            config: Arc::new(config),
            image_digest,
            request,
            created_at_nanos: now_nanos(),
            started_at_nanos: None,
            start_steps: Arc::default(),
            exit: None,
            state: State::Created,
            pid: 0,
            userns_base,
            stands_still: false,
            boot_id: String::new(),
            generation: 1,
        }
    }

    /// What happened to it, for the commit of that.
    pub(crate) fn event(&self, change: ContainerChange) -> Result<Vec<u8>> {
        let (id, name, image) = (self.id.clone(), self.name.clone(), self.config.image.clone());
        What::Container { id, name, image, change }.encode_now()
    }

    /// For the store.
    pub(crate) fn encode(&self) -> Result<Vec<u8>> {
        serde_json::to_vec(self).map_err(|error| Error::new(Reason::Internal, error.to_string()))
    }

    /// From the store.
    pub(crate) fn decode(bytes: &[u8]) -> Result<Self> {
        let record: Self = serde_json::from_slice(bytes)
            .map_err(|error| Error::new(Reason::Internal, format!("a container's record cannot be read: {error}")))?;
        if record.version > VERSION {
            return Err(Error::new(
                Reason::UnsupportedFeature,
                format!("the record of container {} was written by a newer hulld", record.name),
            )
            .hint("start that version again"));
        }
        Ok(record)
    }
}

/// What is left of a removed container, so that a repeated request is answered as the first one was.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Tombstone {
    pub(crate) id: String,
    pub(crate) name: String,
    pub(crate) request: Option<RequestKey>,
    pub(crate) removed_at_nanos: u64,
}

/// A container as others see it: a copy, never locked.
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
    pub(crate) start_steps: Arc<[StepTime]>,
    pub(crate) generation: u64,
    /// How often it has ended since this agent started: what waits for the next end compares it.
    pub(crate) exits: u64,
}

/// Wall clock in nanoseconds since the epoch.
pub(crate) fn now_nanos() -> u64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    u64::try_from(since.as_nanos()).unwrap_or(u64::MAX)
}

/// What kind of failure a shim's word on a start is.
pub(crate) fn start_error(failure: &Failure) -> Error {
    let mut error = Error::from_failure(Reason::StartFailed, failure);
    // Elsewhere, the errno is that of a limit of the kernel.
    let writes = [Step::RunDir, Step::Rootfs, Step::Mount, Step::Files, Step::Cwd].contains(&failure.step);
    if writes && matches!(error.errno, Some(Errno::ENOSPC | Errno::EDQUOT)) {
        error.reason = Reason::StorageFull;
    }
    match (failure.step, error.errno) {
        (Step::Exec, Some(Errno::ENOENT)) => {
            error.hint("is the program in the image, and its interpreter or dynamic loader too?")
        }
        (Step::Exec, Some(Errno::EACCES)) => error.hint("is the program executable, and its mount not noexec?"),
        (Step::Exec, Some(Errno::ENOEXEC)) => error.hint("is the program made for this architecture?"),
        _ => error,
    }
}
