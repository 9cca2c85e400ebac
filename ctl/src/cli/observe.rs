//! Verbs that only look.

use clap::{Args, ValueEnum};

use super::{ListOutputFlag, OutputFlag};
use crate::completion;

// `ps`.
#[derive(Debug, Args)]
pub(crate) struct PsFlags {
    /// Show those that do not run, too
    #[arg(short, long)]
    pub(crate) all: bool,
    /// Only ids
    #[arg(short, long)]
    pub(crate) quiet: bool,
    /// Condition: ancestor=, before=, exited=, id=, label=KEY[=VALUE], name=, network=, since=, status= or volume=
    #[arg(short, long = "filter", value_name = "CONDITION")]
    pub(crate) filters: Vec<String>,
    /// The last created, running or not
    #[arg(short = 'n', long, value_name = "NUMBER", value_parser = clap::value_parser!(u32).range(1..))]
    pub(crate) last: Option<u32>,
    /// The last created one, running or not
    #[arg(short, long, conflicts_with = "last")]
    pub(crate) latest: bool,
    /// Whole ids, whole commands
    #[arg(long)]
    pub(crate) no_trunc: bool,
    /// Show how large their writable layers were when last measured
    #[arg(short, long)]
    pub(crate) size: bool,
    #[command(flatten)]
    pub(crate) output: ListOutputFlag,
}

/// What `inspect` looks for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum InspectType {
    /// Containers
    Container,
    /// Images
    Image,
}

// `inspect`.
#[derive(Debug, Args)]
pub(crate) struct InspectFlags {
    /// Look for these alone; the default is a container and, if there is none, an image
    #[arg(long, value_enum)]
    pub(crate) r#type: Option<InspectType>,
    /// Go template with Docker's field names, or `json`
    #[arg(short = 'f', long, value_name = "TEMPLATE", conflicts_with = "output")]
    pub(crate) format: Option<String>,
    #[command(flatten)]
    pub(crate) output: OutputFlag,
    /// Ids, prefixes of ids, names, or references of images
    #[arg(required = true, value_name = "NAME", add = completion::containers())]
    pub(crate) names: Vec<String>,
}

// `logs`.
#[derive(Debug, Args)]
pub(crate) struct LogsFlags {
    /// Go on until the container ends
    #[arg(short, long)]
    pub(crate) follow: bool,
    /// Only the last lines, or "all"
    #[arg(short = 'n', long, value_name = "LINES", default_value = "all")]
    pub(crate) tail: String,
    /// Show when each line was written
    #[arg(short, long)]
    pub(crate) timestamps: bool,
    /// Only lines since then: RFC 3339, a local date and time, Unix seconds, or a duration before now such as 10m
    #[arg(long, value_name = "TIME")]
    pub(crate) since: Option<String>,
    /// Only lines before then
    #[arg(long, value_name = "TIME")]
    pub(crate) until: Option<String>,
    /// Only what went to standard output
    #[arg(long, conflicts_with = "stderr")]
    pub(crate) stdout: bool,
    /// Only what went to standard error
    #[arg(long)]
    pub(crate) stderr: bool,
    /// Id, prefix of an id, or name
    #[arg(add = completion::containers())]
    pub(crate) container: String,
}

// `stats`.
#[derive(Debug, Args)]
pub(crate) struct StatsFlags {
    /// Show one frame and end
    #[arg(long)]
    pub(crate) no_stream: bool,
    /// Time between frames, 100ms to 1h
    #[arg(long, value_name = "DURATION")]
    pub(crate) interval: Option<String>,
    /// Show the totals of the node, and no containers
    #[arg(long, conflicts_with = "containers")]
    pub(crate) node: bool,
    /// Whole ids
    #[arg(long)]
    pub(crate) no_trunc: bool,
    #[command(flatten)]
    pub(crate) output: ListOutputFlag,
    /// Ids, prefixes of ids, or names; the default is all that run
    #[arg(value_name = "CONTAINER", add = completion::containers())]
    pub(crate) containers: Vec<String>,
}

// `version`.
#[derive(Debug, Args)]
pub(crate) struct VersionFlags {
    /// Only this program's, without asking the agent
    #[arg(long)]
    pub(crate) client: bool,
    /// Go template with Docker's field names, or `json`
    #[arg(short = 'f', long, value_name = "TEMPLATE", conflicts_with = "output")]
    pub(crate) format: Option<String>,
    #[command(flatten)]
    pub(crate) output: OutputFlag,
}

// `info`.
#[derive(Debug, Args)]
pub(crate) struct InfoFlags {
    /// Go template with Docker's field names, or `json`
    #[arg(short = 'f', long, value_name = "TEMPLATE", conflicts_with = "output")]
    pub(crate) format: Option<String>,
    #[command(flatten)]
    pub(crate) output: OutputFlag,
}

// `df`.
#[derive(Debug, Args)]
pub(crate) struct DiskFlags {
    /// Show each container, too
    #[arg(short, long)]
    pub(crate) verbose: bool,
    /// Go template with Docker's field names, or `json`
    #[arg(long, value_name = "TEMPLATE", conflicts_with = "output")]
    pub(crate) format: Option<String>,
    #[command(flatten)]
    pub(crate) output: OutputFlag,
}
