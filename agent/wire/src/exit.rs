//! How a container's or exec's process ended.

use serde::{Deserialize, Serialize};

/// Name of the file in the container's run directory in which the shim records the exit of init: an encoded
/// [`ExitRecord`], written under another name and renamed, so that it is whole or not there.
pub const EXIT_FILE: &str = "exit";

/// Name of the shim's listening socket in the container's run directory.
pub const SHIM_SOCKET: &str = "shim.sock";

/// How a process ended.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ExitRecord {
    /// Exit code of the process; 128 + signal where a signal ended it.
    pub code: i32,
    /// Signal that ended it; 0 if none.
    pub signal: i32,
    /// Whether the out-of-memory killer ended a process of the container during the run.
    pub oom_killed: bool,
    /// When the shim saw it, nanoseconds since the epoch.
    pub finished_at_nanos: u64,
}
