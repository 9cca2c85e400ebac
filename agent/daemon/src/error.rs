//! The one error type of the agent: a stable reason for programs, one line for people.
//!
//! Made where something fails, carried up unchanged, turned into a gRPC status once, in `service/status.rs`.

use std::fmt;
use std::io::ErrorKind;

use hull_wire::{Failure, Step};
use nix::errno::Errno;

/// Stable code of an error, as sent in `google.rpc.ErrorInfo.reason` (SCREAMING_SNAKE_CASE of the name).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Reason {
    /// A field of the request is wrong.
    InvalidArgument,
    /// No such container.
    ContainerNotFound,
    /// A prefix fits several containers or images.
    AmbiguousReference,
    /// The name belongs to another container.
    NameInUse,
    /// The request id came before with another request.
    RequestIdReused,
    /// The container is not in a state that allows this.
    InvalidState,
    /// No such image.
    ImageNotFound,
    /// A container uses the image.
    ImageInUse,
    /// A file of an image on this node is damaged or missing.
    ImageDamaged,
    /// There is nothing by that path in the container.
    PathNotFound,
    /// The path is on a file system that is mounted read-only in the container.
    ReadOnlyPath,
    /// The archive is damaged, hostile or of an unknown kind.
    InvalidArchive,
    /// The configuration of a registry on this node is wrong.
    RegistryConfig,
    /// The registry cannot be reached, stands still or is overloaded, also after several attempts.
    RegistryUnavailable,
    /// The registry does not know who asks, or does not take the credentials.
    RegistryUnauthenticated,
    /// The registry knows who asks and does not let them do this.
    RegistryDenied,
    /// The registry refused, or answered what makes no sense.
    RegistryError,
    /// What the registry sent is not what its digest says.
    BlobDamaged,
    /// Events that were asked for are kept no longer.
    EventsLost,
    /// A bound of the agent was reached.
    LimitExceeded,
    /// The store's file system is full.
    StorageFull,
    /// The kernel or host lacks what this needs.
    UnsupportedFeature,
    /// The host does not let the agent do this.
    PermissionDenied,
    /// Setting the container up failed.
    StartFailed,
    /// Starting a process in a container failed.
    ExecFailed,
    /// The container's shim is gone or does not answer.
    ShimLost,
    /// The caller's deadline passed.
    DeadlineExceeded,
    /// The agent is shutting down.
    ShuttingDown,
    /// A system call of the agent itself failed.
    System,
    /// A defect of hull.
    Internal,
}

impl Reason {
    /// The stable code: `CONTAINER_NOT_FOUND`.
    pub(crate) fn name(self) -> String {
        let mut name = String::new();
        for (at, letter) in format!("{self:?}").char_indices() {
            if at > 0 && letter.is_ascii_uppercase() {
                name.push('_');
            }
            name.push(letter.to_ascii_uppercase());
        }
        name
    }
}

/// What failed, at which step, with which errno, and what to do.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Error {
    /// Stable code.
    pub reason: Reason,
    /// One line: what failed. Without step and errno, which [`fmt::Display`] adds.
    pub message: String,
    /// What the runtime was doing.
    pub step: Option<Step>,
    /// What the kernel said.
    pub errno: Option<Errno>,
    /// What the user can do.
    pub hint: Option<String>,
}

/// Result with the agent's [`Error`].
pub(crate) type Result<T, E = Error> = std::result::Result<T, E>;

impl Error {
    /// An error with a reason and a line.
    pub fn new(reason: Reason, message: impl Into<String>) -> Self {
        Self { reason, message: message.into(), step: None, errno: None, hint: None }
    }

    /// A wrong field: `field` as the API names it, and what is wrong with it.
    pub fn invalid(field: &str, problem: impl fmt::Display) -> Self {
        Self::new(Reason::InvalidArgument, format!("{field}: {problem}"))
    }

    /// A failed input or output operation; a full disk gets its own reason.
    pub fn io(what: impl fmt::Display, error: &std::io::Error) -> Self {
        match raw_os_error(error) {
            Some(raw) => Self::os(what, Errno::from_raw(raw)),
            None => Self::new(Reason::System, format!("{what}: {error}")),
        }
    }

    /// A failed system call; a full disk gets its own reason.
    pub fn os(what: impl fmt::Display, errno: Errno) -> Self {
        let reason = match errno {
            Errno::ENOSPC | Errno::EDQUOT => Reason::StorageFull,
            _ => Reason::System,
        };
        Self::new(reason, what.to_string()).errno(errno)
    }

    /// What a shim could not do.
    pub fn from_failure(reason: Reason, failure: &Failure) -> Self {
        let mut error = Self::new(reason, failure.detail.clone()).step(failure.step);
        if failure.errno != 0 {
            error.errno = Some(Errno::from_raw(failure.errno));
        }
        error
    }

    /// Adds the step.
    #[must_use]
    pub fn step(mut self, step: Step) -> Self {
        self.step = Some(step);
        self
    }

    /// Adds the errno.
    #[must_use]
    pub fn errno(mut self, errno: Errno) -> Self {
        self.errno = Some(errno);
        self
    }

    /// Adds a hint.
    #[must_use]
    pub fn hint(mut self, hint: impl Into<String>) -> Self {
        self.hint = Some(hint.into());
        self
    }
}

impl fmt::Display for Error {
    /// "STEP MESSAGE: ERRNO (TEXT); HINT", without what there is not.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Some(step) = self.step {
            write!(f, "{step}")?;
            if !self.message.is_empty() {
                write!(f, " {}", self.message)?;
            }
        } else {
            f.write_str(&self.message)?;
        }
        if let Some(errno) = self.errno {
            write!(f, ": {errno:?} ({})", errno.desc())?;
        }
        if let Some(hint) = &self.hint {
            write!(f, "; {hint}")?;
        }
        Ok(())
    }
}

impl std::error::Error for Error {}

/// The errno of an error. One that was wrapped to name a file has lost it: what is left tells of a full disk.
fn raw_os_error(error: &std::io::Error) -> Option<i32> {
    error.raw_os_error().or(match error.kind() {
        ErrorKind::StorageFull => Some(Errno::ENOSPC as i32),
        ErrorKind::QuotaExceeded => Some(Errno::EDQUOT as i32),
        _ => None,
    })
}

/// An error and what caused it, in one line.
pub(crate) fn causes(error: &dyn std::error::Error) -> String {
    let mut line = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        line.push_str(": ");
        line.push_str(&error.to_string());
        cause = error.source();
    }
    line
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_full_disk_is_known_whoever_wrapped_the_error() {
        let full = std::io::Error::from_raw_os_error(nix::libc::ENOSPC);
        let wrapped = std::io::Error::new(full.kind(), format!("{full} at path x"));
        for error in [full, wrapped] {
            let error = Error::io("writing", &error);
            assert_eq!((error.reason, error.errno), (Reason::StorageFull, Some(Errno::ENOSPC)));
        }
    }
}
