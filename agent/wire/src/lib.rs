//! What `hulld` and `hull-shim` say to each other: data and its encoding, nothing else.
//!
//! They talk over one `SOCK_SEQPACKET` unix socket, one postcard-encoded message per packet, with descriptors beside it
//! (`SCM_RIGHTS`). The agent spawns a shim with that socket as descriptor 0; after a restart the agent connects to
//! `shim.sock` in the container's run directory and goes on as before. One agent at a time: a new connection replaces the old.
//!
//! ```text
//!   hulld                                        hull-shim
//!     | -- Setup [plan, socket, attachment…] ------> |   once, on descriptor 0; end of file before it: the shim ends
//!     | <------------------- Reply Started | Failed - |   init runs the user's program | the shim cleans up and ends
//!     | -- Exec [process, stdio…] ------------------> |
//!     | <- Reply ExecStarted [terminal] | Failed ---- |
//!     | <------------------------------- ExecExited - |
//!     | -- Signal, Resize, Attach [stdio…], Status -> |
//!     | -- Root ------------------------------------> |
//!     | <----------------------------- Reply Done … - |
//!     | <------------------------- Reply Root [root] - |
//!     | <----------------------------------- Exited - |   the exit file is there already; the shim ends
//! ```
//!
//! A shim that gets a View instead of a Setup mounts the root of a container that does not run, answers with Root, and ends with
//! the connection.
#![forbid(unsafe_code)]

mod exit;
mod log;
mod message;
mod plan;
mod step;

pub use exit::{EXIT_FILE, ExitRecord, SHIM_SOCKET};
pub use log::{LogPlan, LogRate, LogUnit, LostReason, Overrun, log_file, log_number};
pub use message::{AttachPipes, Event, MAX_FDS, MAX_PACKET, Outcome, Report, Request, RequestBody, Target};
pub use plan::{
    Capabilities, CgroupPlan, DeviceNode, FilePlan, IdMap, MountKind, MountPlan, Namespace, Namespaces, Plan,
    ProcessPlan, Propagation, Rlimit, RootfsPlan, Stdin, Symlink, TimeOffsets, UserNamespace, UserPlan, ViewPlan,
    mount_flags,
};
pub use step::{Failure, Step, StepTime};

/// Version of this protocol. A shim outlives agents: an agent that reconnects to a shim of another version must still
/// understand it, so messages only ever gain variants at their end, and plans gain fields with a new version.
pub const PROTOCOL_VERSION: u32 = 2;

/// A message that could not be decoded.
#[derive(Debug, thiserror::Error)]
#[error("malformed message between agent and shim: {0}")]
pub struct DecodeError(postcard::Error);

/// Encodes a message or plan.
///
/// # Errors
/// Never for the types of this crate, unless memory is exhausted.
pub fn encode<T: serde::Serialize>(value: &T) -> Result<Vec<u8>, DecodeError> {
    postcard::to_allocvec(value).map_err(DecodeError)
}

/// Decodes a message or plan.
///
/// # Errors
/// [`DecodeError`] if the bytes are not such a message.
pub fn decode<'a, T: serde::Deserialize<'a>>(bytes: &'a [u8]) -> Result<T, DecodeError> {
    postcard::from_bytes(bytes).map_err(DecodeError)
}
