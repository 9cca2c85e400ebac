//! Verbs that change containers or enter them.

use clap::{ArgAction, Args, ValueEnum};

use super::OutputFlag;
use super::resources::ResourceFlags;
use crate::completion;
use std::path::PathBuf;

// Containers by id, prefix of an id, or name.
#[derive(Debug, Args)]
pub(crate) struct Targets {
    /// Ids, prefixes of ids, or names
    #[arg(required = true, value_name = "CONTAINER", add = completion::containers())]
    pub(crate) containers: Vec<String>,
}

// The keys that end an attachment.
#[derive(Debug, Args)]
pub(crate) struct UntilFlag {
    /// Keys that leave the container running and end the connection; "" for none
    #[arg(long, value_name = "KEYS", default_value = "ctrl-p,ctrl-q")]
    pub(crate) detach_keys: String,
}

// `start`.
#[derive(Debug, Args)]
pub(crate) struct StartFlags {
    /// Show the container's output, and end with its exit code
    #[arg(short, long)]
    pub(crate) attach: bool,
    /// Connect standard input, too
    #[arg(short, long)]
    pub(crate) interactive: bool,
    #[command(flatten)]
    pub(crate) detach_keys: UntilFlag,
    /// Pass signals on to the container
    #[arg(long, value_name = "BOOL", default_value_t = true, default_missing_value = "true", num_args = 0..=1, require_equals = true, action = ArgAction::Set)]
    pub(crate) sig_proxy: bool,
    #[command(flatten)]
    pub(crate) targets: Targets,
}

// `stop`.
#[derive(Debug, Args)]
pub(crate) struct StopFlags {
    /// Seconds until they are killed; the default is the container's own
    #[arg(short, long, visible_alias = "timeout", value_name = "SECONDS")]
    pub(crate) time: Option<u32>,
    #[command(flatten)]
    pub(crate) targets: Targets,
}

// `kill`.
#[derive(Debug, Args)]
pub(crate) struct KillFlags {
    /// Signal by name or number
    #[arg(short, long, default_value = "KILL")]
    pub(crate) signal: String,
    /// Signal all processes instead of the first alone
    #[arg(long)]
    pub(crate) all: bool,
    #[command(flatten)]
    pub(crate) targets: Targets,
}

// `update`.
#[derive(Debug, Args)]
pub(crate) struct UpdateFlags {
    #[command(flatten)]
    pub(crate) resources: ResourceFlags,
    #[command(flatten)]
    pub(crate) targets: Targets,
}

// `rm`.
#[derive(Debug, Args)]
pub(crate) struct RemoveFlags {
    /// Kill those that run
    #[arg(short, long)]
    pub(crate) force: bool,
    /// Only show what would be done
    #[arg(long)]
    pub(crate) dry_run: bool,
    /// Taken for Docker's sake: a container has no volumes of its own
    #[arg(short, long)]
    volumes: bool,
    #[command(flatten)]
    pub(crate) targets: Targets,
}

/// What `wait` waits for.
#[derive(Debug, Clone, Copy, ValueEnum)]
pub(crate) enum Condition {
    /// It does not run
    NotRunning,
    /// It ends once more
    NextExit,
    /// It is removed
    Removed,
}

// `wait`.
#[derive(Debug, Args)]
pub(crate) struct WaitFlags {
    /// What to wait for
    #[arg(long, value_enum, default_value = "not-running")]
    pub(crate) condition: Condition,
    #[command(flatten)]
    pub(crate) targets: Targets,
}

// `exec`.
#[derive(Debug, Args)]
pub(crate) struct ExecFlags {
    /// Connect standard input
    #[arg(short, long)]
    pub(crate) interactive: bool,
    /// Run on a terminal
    #[arg(short, long)]
    pub(crate) tty: bool,
    /// Environment entry, NAME=VALUE; NAME alone takes the caller's value
    #[arg(short, long, value_name = "ENTRY")]
    pub(crate) env: Vec<String>,
    /// File of environment entries, one a line
    #[arg(long = "env-file", value_name = "FILE")]
    pub(crate) env_files: Vec<PathBuf>,
    /// Working directory in the container
    #[arg(short, long, value_name = "DIR")]
    pub(crate) workdir: Option<String>,
    /// User and group, names or ids: USER[:GROUP]
    #[arg(short, long)]
    pub(crate) user: Option<String>,
    /// All capabilities, no seccomp filter
    #[arg(long)]
    pub(crate) privileged: bool,
    /// Kill it after this time, e.g. 30s
    #[arg(long, value_name = "DURATION")]
    pub(crate) timeout: Option<String>,
    /// Container, then the program and its arguments
    #[arg(required = true, num_args = 2.., trailing_var_arg = true, value_names = ["CONTAINER", "PROGRAM"], add = completion::containers())]
    pub(crate) command: Vec<String>,
}

// `attach`.
#[derive(Debug, Args)]
pub(crate) struct AttachFlags {
    /// Leave standard input alone
    #[arg(long)]
    pub(crate) no_stdin: bool,
    #[command(flatten)]
    pub(crate) detach_keys: UntilFlag,
    /// Pass signals on to the container
    #[arg(long, value_name = "BOOL", default_value_t = true, default_missing_value = "true", num_args = 0..=1, require_equals = true, action = ArgAction::Set)]
    pub(crate) sig_proxy: bool,
    /// Id, prefix of an id, or name
    #[arg(add = completion::containers())]
    pub(crate) container: String,
}

// `commit`.
#[derive(Debug, Args)]
pub(crate) struct CommitFlags {
    /// Who made the image
    #[arg(short, long)]
    pub(crate) author: Option<String>,
    /// Comment in the image's history
    #[arg(short, long)]
    pub(crate) message: Option<String>,
    /// Line of a Dockerfile: CMD, ENTRYPOINT, ENV, EXPOSE, LABEL, STOPSIGNAL, USER, VOLUME or WORKDIR
    #[arg(short, long = "change", value_name = "LINE")]
    pub(crate) changes: Vec<String>,
    /// Pause the container meanwhile
    #[arg(short, long, value_name = "BOOL", default_value_t = true, default_missing_value = "true", num_args = 0..=1, require_equals = true, action = ArgAction::Set)]
    pub(crate) pause: bool,
    /// Id, prefix of an id, or name
    #[arg(add = completion::containers())]
    pub(crate) container: String,
    /// Name for the image, a reference without digest
    pub(crate) name: Option<String>,
}

// `diff`.
#[derive(Debug, Args)]
pub(crate) struct DiffFlags {
    #[command(flatten)]
    pub(crate) output: OutputFlag,
    /// Id, prefix of an id, or name
    #[arg(add = completion::containers())]
    pub(crate) container: String,
}

// `cp`.
#[derive(Debug, Args)]
pub(crate) struct CopyFlags {
    /// Keep owners, setuid and setgid bits and all extended attributes; otherwise all belongs to root there, or to you here
    #[arg(short, long)]
    pub(crate) archive: bool,
    /// Copy what a symbolic link leads to
    #[arg(short = 'L', long)]
    pub(crate) follow_link: bool,
    /// Show no progress
    #[arg(short, long)]
    pub(crate) quiet: bool,
    /// CONTAINER:PATH, a path here, or "-" for a tar on standard input; "DIRECTORY/." is what is in it
    #[arg(value_name = "SOURCE")]
    pub(crate) source: String,
    /// CONTAINER:PATH, a path here, or "-" for a tar on standard output
    #[arg(value_name = "TARGET")]
    pub(crate) target: String,
}

// `export`.
#[derive(Debug, Args)]
pub(crate) struct ExportFlags {
    /// File to write; the default is standard output
    #[arg(short, long, value_name = "FILE")]
    pub(crate) output: Option<PathBuf>,
    /// Id, prefix of an id, or name
    #[arg(add = completion::containers())]
    pub(crate) container: String,
}
