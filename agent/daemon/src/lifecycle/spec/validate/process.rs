//! Program, environment, user, limits of a process: of a container's init and of an exec.

use crate::error::{Error, Result};
use crate::lifecycle::config::{ContainerConfig, ExecConfig, Rlimit};
use crate::lifecycle::security::user::{self, UserSpec};
use crate::lifecycle::spec::{path, rlimit};

use super::check_count;

/// Longest argument or environment entry (MAX_ARG_STRLEN less its NUL).
const MAX_STRING: usize = 131_071;
/// Most bytes of arguments and environment together.
const MAX_STRINGS: usize = 1 << 20;
/// Most supplementary groups (NGROUPS_MAX is 65,536; none has needed that).
const MAX_GROUPS: usize = 1024;

pub(super) fn validate(config: &ContainerConfig) -> Result<()> {
    if config.clear_entrypoint && !config.entrypoint.is_empty() {
        return Err(Error::invalid("config.clear_entrypoint", "config.entrypoint is given too"));
    }
    let lists = [("config.entrypoint", &config.entrypoint), ("config.args", &config.args), ("config.env", &config.env)];
    strings(&lists)?;
    if config.entrypoint.first().is_some_and(String::is_empty) {
        return Err(Error::invalid("config.entrypoint[0]", "the program is empty"));
    }
    environment("config.env", &config.env)?;
    config.cwd.as_ref().map_or(Ok(()), |cwd| path::absolute("config.cwd", cwd).map(|_| ()))?;
    config.user.as_ref().map_or(Ok(()), |user| UserSpec::parse("config.user", user).map(|_| ()))?;
    groups(&config.additional_groups)?;
    if config.umask.is_some_and(|umask| umask > 0o777) {
        return Err(Error::invalid("config.umask", "is above 0777"));
    }
    if config.stdin_once && !config.stdin_open {
        return Err(super::no_effect("config.stdin_once", "without stdin_open"));
    }
    if config.stop_signal.is_some_and(|signal| !(1..=64).contains(&signal)) {
        return Err(Error::invalid("config.stop_signal", "is not a signal"));
    }
    if config.oom_score_adj.is_some_and(|adjustment| !(-1000..=1000).contains(&adjustment)) {
        return Err(Error::invalid("config.oom_score_adj", "must be between -1000 and 1000"));
    }
    rlimits(&config.rlimits)
}

/// Checks a further process.
pub(crate) fn validate_exec(exec: &ExecConfig) -> Result<()> {
    strings(&[("argv", &exec.argv), ("env", &exec.env)])?;
    if exec.argv.first().is_none_or(String::is_empty) {
        return Err(Error::invalid("argv", "no program is given"));
    }
    environment("env", &exec.env)?;
    exec.cwd.as_ref().map_or(Ok(()), |cwd| path::absolute("cwd", cwd).map(|_| ()))?;
    exec.user.as_ref().map_or(Ok(()), |user| UserSpec::parse("user", user).map(|_| ()))
}

/// Checks what execve(2) could not take.
fn strings(lists: &[(&str, &Vec<String>)]) -> Result<()> {
    let mut bytes = 0;
    for (field, list) in lists {
        for (index, text) in list.iter().enumerate() {
            let field = || format!("{field}[{index}]");
            if text.contains('\0') {
                return Err(Error::invalid(&field(), "holds a NUL"));
            }
            if text.len() > MAX_STRING {
                return Err(Error::invalid(
                    &field(),
                    format_args!("{} bytes, at most {MAX_STRING} are taken", text.len()),
                ));
            }
            bytes += text.len() + 1;
        }
        if bytes > MAX_STRINGS {
            return Err(Error::invalid(
                field,
                format_args!("arguments and environment have more than {MAX_STRINGS} bytes together"),
            ));
        }
    }
    Ok(())
}

/// Checks "NAME=value".
pub(in crate::lifecycle::spec) fn environment(field: &str, entries: &[String]) -> Result<()> {
    for (index, entry) in entries.iter().enumerate() {
        if entry.split_once('=').is_none_or(|(name, _)| name.is_empty()) {
            return Err(Error::invalid(&format!("{field}[{index}]"), "is not of the form NAME=value"));
        }
    }
    Ok(())
}

fn groups(groups: &[String]) -> Result<()> {
    check_count("config.additional_groups", groups.len(), MAX_GROUPS)?;
    for (index, group) in groups.iter().enumerate() {
        user::check_name_or_id(&format!("config.additional_groups[{index}]"), "group", group)?;
    }
    Ok(())
}

fn rlimits(limits: &[Rlimit]) -> Result<()> {
    let mut seen = Vec::new();
    for (index, limit) in limits.iter().enumerate() {
        let field = format!("config.rlimits[{index}]");
        let Some(kind) = rlimit::parse(&limit.name) else {
            return Err(Error::invalid(&format!("{field}.type"), format_args!("unknown limit {:?}", limit.name)));
        };
        if limit.soft > limit.hard {
            return Err(Error::invalid(
                &format!("{field}.soft"),
                format_args!("{} is above the hard limit {}", limit.soft, limit.hard),
            ));
        }
        if seen.contains(&kind) {
            return Err(Error::invalid(&format!("{field}.type"), format_args!("{} is given twice", limit.name)));
        }
        seen.push(kind);
    }
    Ok(())
}
