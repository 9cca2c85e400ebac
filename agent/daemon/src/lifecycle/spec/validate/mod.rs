//! Checks of what a user asked for, made before anything is recorded. Every refusal names the field as the API does.
//!
//! What only the host can tell (whether a path exists, what the kernel has) is found out later, by [`super::host::probe`],
//! [`super::build`] and the runtime.

mod mounts;
mod network;
mod process;
mod resources;

use std::collections::BTreeMap;
use std::time::Duration;

pub(super) use process::environment;
pub(crate) use process::validate_exec;
pub(crate) use resources::validate_resources;

use super::sysctl;
use crate::error::{Error, Reason, Result};
use crate::lifecycle::config::{ContainerConfig, LogConfig, LogLimits, NamespaceMode, TimeOffsets};
use crate::lifecycle::security::{capabilities, seccomp};

/// Most bytes of one label's key.
const MAX_LABEL_KEY: usize = 256;
/// Most bytes of all labels.
const MAX_LABELS: usize = 64 * 1024;
/// Longest grace period.
const MAX_STOP_TIMEOUT: Duration = Duration::from_secs(365 * 24 * 3600);

/// Checks a container as it was asked for.
///
/// # Errors
/// `InvalidArgument`, with the field ("config.mounts[2].target").
pub(crate) fn validate(config: &ContainerConfig) -> Result<()> {
    if config.image.is_empty() {
        return Err(Error::invalid("config.image", "no image is given"));
    }
    check_name("config.name", &config.name)?;
    check_labels(&config.labels)?;
    process::validate(config)?;
    if config.stop_timeout.is_some_and(|timeout| timeout > MAX_STOP_TIMEOUT) {
        return Err(Error::invalid("config.stop_timeout", "is longer than a year"));
    }
    namespaces(config)?;
    network::validate(config)?;
    validate_resources("config.resources", &config.resources)?;
    mounts::validate(config)?;
    log(&config.log)?;
    capabilities::validate(&config.security)?;
    seccomp::validate(&config.security.seccomp)?;
    sysctl::validate(config)
}

fn log(config: &LogConfig) -> Result<()> {
    let LogConfig { max_size, max_files, rate } = config;
    if max_size.is_some_and(|size| !LogLimits::SIZES.contains(&size)) {
        return Err(Error::invalid("config.log.max_size", "must be between 64 KiB and 1 TiB"));
    }
    if max_files.is_some_and(|files| !LogLimits::FILES.contains(&files)) {
        return Err(Error::invalid("config.log.max_files", "must be between 1 and 10000"));
    }
    match rate {
        Some(rate) if rate.amount == 0 => Err(Error::invalid("config.log.rate", "must be at least 1")),
        _ => Ok(()),
    }
}

/// At most `most` entries of a list, for untrusted input is bounded.
fn check_count(field: &str, count: usize, most: usize) -> Result<()> {
    if count <= most {
        Ok(())
    } else {
        Err(Error::invalid(field, format_args!("{count} entries, at most {most} are taken")))
    }
}

/// [a-zA-Z0-9][a-zA-Z0-9_.-]{0,127}, or nothing.
/// A name of a container, or none.
pub(crate) fn check_name(field: &str, name: &str) -> Result<()> {
    let first = name.bytes().next().is_none_or(|byte| byte.is_ascii_alphanumeric());
    let rest = name.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"_.-".contains(&byte));
    if first && rest && name.len() <= 128 {
        return Ok(());
    }
    Err(Error::invalid(field, "must match [a-zA-Z0-9][a-zA-Z0-9_.-]{0,127}"))
}

fn check_labels(labels: &BTreeMap<String, String>) -> Result<()> {
    if let Some(key) = labels.keys().find(|key| key.is_empty() || key.len() > MAX_LABEL_KEY) {
        return Err(Error::invalid(
            "config.labels",
            format_args!("a key has {} bytes, 1 to {MAX_LABEL_KEY} are taken", key.len()),
        ));
    }
    let bytes: usize = labels.iter().map(|(key, value)| key.len() + value.len()).sum();
    if bytes > MAX_LABELS {
        return Err(Error::invalid(
            "config.labels",
            format_args!("{bytes} bytes in all, at most {MAX_LABELS} are taken"),
        ));
    }
    Ok(())
}

fn namespaces(config: &ContainerConfig) -> Result<()> {
    let namespaces = &config.namespaces;
    let kinds = [
        ("pid", &namespaces.pid),
        ("network", &namespaces.network),
        ("ipc", &namespaces.ipc),
        ("uts", &namespaces.uts),
        ("cgroup", &namespaces.cgroup),
    ];
    for (kind, mode) in kinds {
        if matches!(mode, NamespaceMode::Container(id) if id.is_empty()) {
            return Err(Error::invalid(&format!("config.namespaces.{kind}.container"), "no container is given"));
        }
    }
    if matches!(namespaces.cgroup, NamespaceMode::Container(_)) {
        return Err(Error::invalid("config.namespaces.cgroup", "can be private or the host's"));
    }
    if namespaces.user_auto {
        own_user_namespace(config)?;
    }
    namespaces.time.as_ref().map_or(Ok(()), time)
}

/// What a user namespace of its own rules out: file systems of namespaces that belong to the host's cannot be mounted in it,
/// and privilege would be a promise that it does not keep.
fn own_user_namespace(config: &ContainerConfig) -> Result<()> {
    let namespaces = &config.namespaces;
    for (kind, mode) in [("pid", &namespaces.pid), ("ipc", &namespaces.ipc)] {
        if *mode != NamespaceMode::Private {
            let field = format!("config.namespaces.{kind}");
            return Err(Error::invalid(&field, "must be private in a container with a user namespace of its own"));
        }
    }
    if config.security.privileged {
        return Err(Error::invalid(
            "config.security.privileged",
            "cannot be had in a user namespace of its own; add the capabilities that are needed instead",
        ));
    }
    Ok(())
}

/// The kernel takes less than half of its range of time (KTIME_MAX / 2); and sums below zero it refuses itself.
fn time(offsets: &TimeOffsets) -> Result<()> {
    for (clock, nanos) in [("monotonic", offsets.monotonic_nanos), ("boottime", offsets.boottime_nanos)] {
        if nanos.unsigned_abs() > i64::MAX.unsigned_abs() / 2 {
            return Err(Error::invalid(&format!("config.namespaces.time.{clock}"), "is more than 146 years"));
        }
    }
    Ok(())
}

/// Refuses a field that would have no effect.
fn no_effect(field: &str, why: &str) -> Error {
    Error::new(Reason::InvalidArgument, format!("{field}: has no effect {why}"))
}
