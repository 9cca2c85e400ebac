//! Protobuf <-> domain types: parse, don't validate. Every error names the field by its path in the request.

pub(crate) mod config;
pub(crate) mod events;
pub(crate) mod images;
pub(crate) mod page;
pub(crate) mod render;
pub(crate) mod stats;
pub(crate) mod time;

#[cfg(test)]
mod tests;

use hull_proto::v1;

use crate::error::{Error, Result};
use crate::lifecycle::logs::{LogOptions, LogStream};
use crate::lifecycle::{State, WaitCondition};

/// A field that must be there.
pub(crate) fn required<T>(field: &str, value: Option<T>) -> Result<T> {
    value.ok_or_else(|| Error::invalid(field, "is required"))
}

/// A text that must be there, such as the reference of a container.
pub(crate) fn reference<'a>(field: &str, text: &'a str) -> Result<&'a str> {
    if text.is_empty() { Err(Error::invalid(field, "is required")) } else { Ok(text) }
}

/// What a wait is for.
pub(crate) fn wait_condition(condition: i32) -> Result<WaitCondition> {
    match v1::WaitCondition::try_from(condition) {
        Ok(v1::WaitCondition::Unspecified | v1::WaitCondition::NotRunning) => Ok(WaitCondition::NotRunning),
        Ok(v1::WaitCondition::NextExit) => Ok(WaitCondition::NextExit),
        Ok(v1::WaitCondition::Removed) => Ok(WaitCondition::Removed),
        Err(_) => Err(config::unknown_enum("condition", condition)),
    }
}

/// A state of a container.
pub(crate) fn state(field: &str, number: i32) -> Result<State> {
    match v1::ContainerState::try_from(number) {
        Ok(v1::ContainerState::Created) => Ok(State::Created),
        Ok(v1::ContainerState::Starting) => Ok(State::Starting),
        Ok(v1::ContainerState::Running) => Ok(State::Running),
        Ok(v1::ContainerState::Paused) => Ok(State::Paused),
        Ok(v1::ContainerState::Stopping) => Ok(State::Stopping),
        Ok(v1::ContainerState::Exited) => Ok(State::Exited),
        Ok(v1::ContainerState::Removing) => Ok(State::Removing),
        Ok(v1::ContainerState::Unspecified) | Err(_) => Err(config::unknown_enum(field, number)),
    }
}

/// Which entries of a log.
pub(crate) fn log_options(request: &v1::StreamLogsRequest) -> Result<LogOptions> {
    let stream = match v1::LogStream::try_from(request.stream) {
        Ok(v1::LogStream::Unspecified) => None,
        Ok(v1::LogStream::Stdout) => Some(LogStream::Stdout),
        Ok(v1::LogStream::Stderr) => Some(LogStream::Stderr),
        Err(_) => return Err(config::unknown_enum("stream", request.stream)),
    };
    let nanos = |field: &str, value: Option<prost_types::Timestamp>| {
        value.map(|value| time::timestamp_nanos(field, value)).transpose()
    };
    let from = match request.cursor.as_str() {
        "" => None,
        _ if request.tail.is_some() => return Err(Error::invalid("cursor", "does not go with tail")),
        text => Some(text.parse().map_err(|_| Error::invalid("cursor", "is not one of a log"))?),
    };
    Ok(LogOptions {
        tail: request.tail,
        since: nanos("since", request.since)?,
        until: nanos("until", request.until)?,
        stream,
        from,
    })
}
