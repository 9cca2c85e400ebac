//! Domain error -> gRPC status.
//!
//! The status' message is the error in one line; its details carry one `google.rpc.ErrorInfo` of domain "hull" with the
//! stable reason and, as metadata, "step", "errno" and "hint" where there are such.

use std::collections::HashMap;

use tonic::{Code, Status};
use tonic_types::{ErrorDetails, StatusExt as _};

use crate::error::{Error, Reason};

/// Domain of every `ErrorInfo` that hull sends.
const DOMAIN: &str = "hull";

/// Longest message of a status in bytes: it travels as a header.
const MAX_MESSAGE: usize = 2048;

/// The status that a client gets for `error`.
pub(crate) fn status(error: &Error) -> Status {
    let mut metadata = HashMap::new();
    if let Some(step) = error.step {
        metadata.insert("step".to_owned(), step.to_string());
    }
    if let Some(errno) = error.errno {
        metadata.insert("errno".to_owned(), format!("{errno:?}"));
    }
    if let Some(hint) = &error.hint {
        metadata.insert("hint".to_owned(), one_line(hint));
    }
    let (code, reason) = code(error.reason);
    let details = ErrorDetails::with_error_info(reason, DOMAIN, metadata);
    Status::with_error_details(code, one_line(&error.to_string()), details)
}

impl From<Error> for Status {
    fn from(error: Error) -> Self {
        status(&error)
    }
}

/// What the transport says about a message that it did not take (too large, broken stream), in hull's codes.
pub(crate) fn from_transport(status: Status) -> Status {
    match status.code() {
        Code::OutOfRange if status.details().is_empty() => {
            Error::new(Reason::LimitExceeded, status.message().trim_start_matches("Error, ")).into()
        }
        Code::Unimplemented if status.message().is_empty() => Status::unimplemented("this agent has no such method"),
        _ => status,
    }
}

/// What ends a stream when the agent is asked to end. Containers run on; the client may come back to the next agent.
pub(crate) fn shutting_down() -> Error {
    Error::new(Reason::ShuttingDown, "the agent is shutting down").hint("containers run on; try again")
}

/// gRPC code and stable name of a reason.
fn code(reason: Reason) -> (Code, &'static str) {
    match reason {
        Reason::InvalidArgument => (Code::InvalidArgument, "INVALID_ARGUMENT"),
        Reason::ContainerNotFound => (Code::NotFound, "CONTAINER_NOT_FOUND"),
        Reason::AmbiguousReference => (Code::InvalidArgument, "AMBIGUOUS_REFERENCE"),
        Reason::NameInUse => (Code::AlreadyExists, "NAME_IN_USE"),
        Reason::RequestIdReused => (Code::AlreadyExists, "REQUEST_ID_REUSED"),
        Reason::InvalidState => (Code::FailedPrecondition, "INVALID_STATE"),
        Reason::ImageNotFound => (Code::NotFound, "IMAGE_NOT_FOUND"),
        Reason::ImageInUse => (Code::FailedPrecondition, "IMAGE_IN_USE"),
        Reason::ImageDamaged => (Code::DataLoss, "IMAGE_DAMAGED"),
        Reason::PathNotFound => (Code::NotFound, "PATH_NOT_FOUND"),
        Reason::ReadOnlyPath => (Code::FailedPrecondition, "READ_ONLY_PATH"),
        Reason::InvalidArchive => (Code::InvalidArgument, "INVALID_ARCHIVE"),
        Reason::RegistryConfig => (Code::FailedPrecondition, "REGISTRY_CONFIG"),
        Reason::RegistryUnavailable => (Code::Unavailable, "REGISTRY_UNAVAILABLE"),
        Reason::RegistryUnauthenticated => (Code::Unauthenticated, "REGISTRY_UNAUTHENTICATED"),
        Reason::RegistryDenied => (Code::PermissionDenied, "REGISTRY_DENIED"),
        Reason::RegistryError => (Code::FailedPrecondition, "REGISTRY_ERROR"),
        Reason::BlobDamaged => (Code::DataLoss, "BLOB_DAMAGED"),
        Reason::EventsLost => (Code::OutOfRange, "EVENTS_LOST"),
        Reason::LimitExceeded => (Code::ResourceExhausted, "LIMIT_EXCEEDED"),
        Reason::StorageFull => (Code::ResourceExhausted, "STORAGE_FULL"),
        Reason::UnsupportedFeature => (Code::FailedPrecondition, "UNSUPPORTED_FEATURE"),
        Reason::PermissionDenied => (Code::PermissionDenied, "PERMISSION_DENIED"),
        Reason::StartFailed => (Code::FailedPrecondition, "START_FAILED"),
        Reason::ExecFailed => (Code::FailedPrecondition, "EXEC_FAILED"),
        Reason::ShimLost => (Code::Unavailable, "SHIM_LOST"),
        Reason::DeadlineExceeded => (Code::DeadlineExceeded, "DEADLINE_EXCEEDED"),
        Reason::ShuttingDown => (Code::Unavailable, "SHUTTING_DOWN"),
        Reason::System => (Code::Internal, "SYSTEM"),
        Reason::Internal => (Code::Internal, "INTERNAL"),
    }
}

/// `text` on one line, without control characters and not longer than a header may be.
fn one_line(text: &str) -> String {
    let mut line: String = text.chars().map(|c| if c.is_control() { ' ' } else { c }).collect();
    if line.len() > MAX_MESSAGE {
        let end = (0..=MAX_MESSAGE).rev().find(|&end| line.is_char_boundary(end)).unwrap_or(0);
        line.truncate(end);
        line.push('…');
    }
    line
}

#[cfg(test)]
mod tests {
    use hull_wire::{Failure, Step};
    use nix::errno::Errno;

    use super::*;

    #[test]
    fn step_errno_and_hint_reach_the_client() {
        let failure = Failure { step: Step::Exec, errno: 2, detail: "/bin/nope".into() };
        let error = Error::from_failure(Reason::StartFailed, &failure).hint("is it in the image?");
        let status = Status::from(error);
        assert_eq!(status.code(), Code::FailedPrecondition);
        assert_eq!(status.message(), "executing /bin/nope: ENOENT (No such file or directory); is it in the image?");
        let info = status.get_details_error_info().unwrap();
        assert_eq!((info.reason.as_str(), info.domain.as_str()), ("START_FAILED", "hull"));
        assert_eq!(info.metadata["step"], "executing");
        assert_eq!(info.metadata["errno"], "ENOENT");
        assert_eq!(info.metadata["hint"], "is it in the image?");
    }

    #[test]
    fn names_are_those_of_the_reasons() {
        for reason in [
            Reason::InvalidArgument,
            Reason::ContainerNotFound,
            Reason::AmbiguousReference,
            Reason::NameInUse,
            Reason::RequestIdReused,
            Reason::InvalidState,
            Reason::ImageNotFound,
            Reason::ImageInUse,
            Reason::ImageDamaged,
            Reason::PathNotFound,
            Reason::ReadOnlyPath,
            Reason::InvalidArchive,
            Reason::RegistryConfig,
            Reason::RegistryUnavailable,
            Reason::RegistryUnauthenticated,
            Reason::RegistryDenied,
            Reason::RegistryError,
            Reason::BlobDamaged,
            Reason::LimitExceeded,
            Reason::StorageFull,
            Reason::UnsupportedFeature,
            Reason::PermissionDenied,
            Reason::StartFailed,
            Reason::ExecFailed,
            Reason::ShimLost,
            Reason::DeadlineExceeded,
            Reason::ShuttingDown,
            Reason::System,
            Reason::Internal,
        ] {
            assert_eq!(code(reason).1, reason.name());
        }
    }

    #[test]
    fn a_message_is_one_bounded_line() {
        let status = Status::from(Error::os("a\nb\u{1b}[31m", Errno::EPERM));
        assert_eq!(status.message(), "a b [31m: EPERM (Operation not permitted)");
        let status = Status::from(Error::new(Reason::Internal, "ü".repeat(10_000)));
        assert!(status.message().len() <= MAX_MESSAGE + '…'.len_utf8());
    }

    #[test]
    fn a_message_over_the_bound_exhausts_a_resource() {
        let status = from_transport(Status::out_of_range("decoded message length too large"));
        assert_eq!(status.code(), Code::ResourceExhausted);
        assert_eq!(status.get_details_error_info().unwrap().reason, "LIMIT_EXCEEDED");
    }
}
