//! The one error of the command line: a line for people and an exit code for scripts.

use std::fmt;
use std::io::{self, Write as _};
use std::path::Path;
use std::process::ExitCode;

use tonic::{Code, Status};
use tonic_types::{ErrorInfo, StatusExt as _};

use crate::output::{Style, on_stderr};

/// Exit code of a program that was found and could not be executed.
const NOT_EXECUTABLE: u8 = 126;
/// Exit code of a program that was not found.
const NOT_FOUND: u8 = 127;
/// Base of the exit code of a process that a signal ended.
const SIGNALLED: u8 = 128;
/// What the agent calls the step that executes the user's program.
const EXEC_STEP: &str = "executing";

/// Result with the command line's [`Error`].
pub(crate) type Result<T, E = Error> = std::result::Result<T, E>;

/// Why a command ends early.
#[derive(Debug)]
pub(crate) enum Error {
    /// A line for the user; the code, where it is not the verb's own for errors.
    Failed {
        /// The line.
        message: String,
        /// Exit code.
        code: Option<u8>,
        /// What the agent called it, where it came from there.
        status: Option<Code>,
        /// The agent's stable name for why; empty where there is none.
        reason: String,
    },
    /// Whoever read standard output has gone: not an error.
    BrokenPipe,
    /// Everything was said already.
    Reported,
    /// A signal ended the command.
    Interrupted(i32),
}

impl Error {
    /// An error with a line.
    pub(crate) fn new(message: impl Into<String>) -> Self {
        Self::Failed { message: message.into(), code: None, status: None, reason: String::new() }
    }

    /// A failed operation on a file that the user named.
    pub(crate) fn file(path: &Path, error: &io::Error) -> Self {
        Self::new(format!("{}: {error}", path.display()))
    }

    /// The error, with what was being done before its line.
    pub(crate) fn context(mut self, doing: &str) -> Self {
        if let Self::Failed { message, .. } = &mut self {
            message.insert_str(0, ": ");
            message.insert_str(0, doing);
        }
        self
    }

    /// Whether the agent knows no such thing.
    pub(crate) fn is_not_found(&self) -> bool {
        matches!(self, Self::Failed { status: Some(Code::NotFound), .. })
    }

    /// Whether the container has nothing by that path.
    pub(crate) fn is_path_not_found(&self) -> bool {
        matches!(self, Self::Failed { reason, .. } if reason == "PATH_NOT_FOUND")
    }

    /// Whether the agent has no such image.
    pub(crate) fn is_image_not_found(&self) -> bool {
        matches!(self, Self::Failed { reason, .. } if reason == "IMAGE_NOT_FOUND")
    }

    /// Says it on standard error; the exit code, `own` where the error has none.
    pub(crate) fn report(&self, own: u8) -> ExitCode {
        match self {
            Self::Failed { message, code, .. } => {
                // Nobody can be told that standard error is closed.
                let name = Style::Bad.paint("hullctl:", on_stderr());
                let _ = writeln!(io::stderr().lock(), "{name} {}", one_line(message));
                ExitCode::from(code.unwrap_or(own))
            }
            Self::BrokenPipe => ExitCode::SUCCESS,
            Self::Reported => ExitCode::from(own),
            Self::Interrupted(signal) => ExitCode::from(signal_code(*signal)),
        }
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Failed { message, .. } => f.write_str(message),
            Self::BrokenPipe => f.write_str("standard output was closed"),
            Self::Reported => f.write_str("failed"),
            Self::Interrupted(signal) => write!(f, "interrupted by signal {signal}"),
        }
    }
}

impl std::error::Error for Error {}

/// A failed write to standard output.
impl From<io::Error> for Error {
    fn from(error: io::Error) -> Self {
        match error.kind() {
            io::ErrorKind::BrokenPipe => Self::BrokenPipe,
            _ => Self::new(format!("writing to standard output: {error}")),
        }
    }
}

/// What the agent answered instead of a result, or why there was no answer.
impl From<Status> for Error {
    fn from(status: Status) -> Self {
        let info = status.get_details_error_info();
        let mut message = match status.message() {
            "" if status.code() == Code::Unimplemented => {
                "the agent does not offer this; is it older than hullctl?".to_owned()
            }
            "" => format!("the agent failed without a word ({})", status.code()),
            text => text.to_owned(),
        };
        if info.is_none()
            && let Some(cause) = innermost(&status)
        {
            message = format!("the connection to the agent broke: {cause}");
        }
        if let Some(hint) = info.as_ref().and_then(|info| info.metadata.get("hint"))
            && !message.contains(hint.as_str())
        {
            message = format!("{message}; {hint}");
        }
        let code = info.as_ref().and_then(exec_code);
        let reason = info.map(|info| info.reason).unwrap_or_default();
        Self::Failed { message, code, status: Some(status.code()), reason }
    }
}

/// Exit code of a command that a signal ended.
pub(crate) fn signal_code(signal: i32) -> u8 {
    u8::try_from(signal).ok().and_then(|signal| SIGNALLED.checked_add(signal)).unwrap_or(u8::MAX)
}

/// 126 or 127 where the user's program was the trouble, as shells have it.
fn exec_code(info: &ErrorInfo) -> Option<u8> {
    if info.metadata.get("step").is_none_or(|step| step != EXEC_STEP) {
        return None;
    }
    match info.metadata.get("errno").map(String::as_str) {
        Some("ENOENT" | "ENOTDIR") => Some(NOT_FOUND),
        Some(_) => Some(NOT_EXECUTABLE),
        None => None,
    }
}

/// The cause at the end of the chain, which says most.
fn innermost(error: &dyn std::error::Error) -> Option<String> {
    let mut cause = error.source()?;
    while let Some(next) = cause.source() {
        cause = next;
    }
    Some(cause.to_string())
}

/// The text with line breaks and control characters made harmless: part of it may come from a container.
pub(crate) fn one_line(text: &str) -> String {
    let mut line = String::with_capacity(text.len());
    for c in text.trim_end().chars() {
        if c.is_control() || turns_text(c) { line.extend(c.escape_default()) } else { line.push(c) }
    }
    line
}

/// Whether a character makes a terminal show the rest in another order than it is in.
fn turns_text(c: char) -> bool {
    matches!(c, '\u{200e}' | '\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2066}'..='\u{2069}')
}

#[cfg(test)]
mod tests {
    use std::collections::HashMap;

    use tonic_types::ErrorDetails;

    use super::*;

    fn status(step: &str, errno: &str, hint: &str) -> Status {
        let metadata = HashMap::from([("step", step), ("errno", errno), ("hint", hint)]);
        let metadata: HashMap<String, String> = metadata.into_iter().map(|(k, v)| (k.into(), v.into())).collect();
        let details = ErrorDetails::with_error_info("START_FAILED", "hull", metadata);
        Status::with_error_details(Code::FailedPrecondition, "executing /bin/nope: ENOENT", details)
    }

    fn parts(error: Error) -> (String, Option<u8>) {
        match error {
            Error::Failed { message, code, .. } => (message, code),
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn programs_that_cannot_be_executed_have_the_codes_of_shells() {
        assert_eq!(parts(status("executing", "ENOENT", "").into()).1, Some(127));
        assert_eq!(parts(status("executing", "EACCES", "").into()).1, Some(126));
        assert_eq!(parts(status("mounting", "ENOENT", "").into()).1, None);
    }

    #[test]
    fn a_hint_is_said_once() {
        let (message, _) = parts(status("executing", "ENOENT", "look at PATH").into());
        assert_eq!(message, "executing /bin/nope: ENOENT; look at PATH");
        let (message, _) = parts(status("executing", "ENOENT", "ENOENT").into());
        assert_eq!(message, "executing /bin/nope: ENOENT");
    }

    #[test]
    fn what_an_agent_does_not_know_is_said() {
        assert!(parts(Status::unimplemented("").into()).0.contains("does not offer"));
    }

    #[test]
    fn control_characters_do_not_reach_the_terminal() {
        assert_eq!(one_line("a\u{1b}[2Jb\nc\n"), "a\\u{1b}[2Jb\\nc");
        assert_eq!(one_line("a\u{202e}b\u{9b}c日本"), "a\\u{202e}b\\u{9b}c日本");
    }

    #[test]
    fn signals_count_from_128() {
        assert_eq!(signal_code(15), 143);
        assert_eq!(signal_code(-1), 255);
    }
}
