//! Verbs that tell what happened, and to whom.

use clap::{Args, ValueEnum};

use super::{DataFormat, OutputFlag};
use crate::completion;

// `rename`.
#[derive(Debug, Args)]
pub(crate) struct RenameFlags {
    /// Id, prefix of an id, or name
    #[arg(add = completion::containers())]
    pub(crate) container: String,
    /// The new name
    pub(crate) name: String,
}

// `top`.
#[derive(Debug, Args)]
pub(crate) struct TopFlags {
    /// Format of the list of processes
    #[arg(short, long, value_enum, value_name = "FORMAT", requires = "container")]
    pub(crate) output: Option<DataFormat>,
    /// Time between readings of the dashboard, 100ms to 1h
    #[arg(long, value_name = "DURATION", conflicts_with = "container")]
    pub(crate) interval: Option<String>,
    /// Id, prefix of an id, or name; without it, a dashboard of all
    #[arg(add = completion::containers())]
    pub(crate) container: Option<String>,
}

/// How events are shown.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum EventFormat {
    /// One line each, as Docker prints them
    Text,
    /// One JSON object a line
    Json,
}

// `events`.
#[derive(Debug, Args)]
pub(crate) struct EventsFlags {
    /// Begin with events of this time: RFC 3339, a local date and time, Unix seconds, or a duration before now such as 10m
    #[arg(long, value_name = "TIME", conflicts_with = "after")]
    pub(crate) since: Option<String>,
    /// End with events of this time
    #[arg(long, value_name = "TIME")]
    pub(crate) until: Option<String>,
    /// Begin after the event with this number; 0 for the oldest that is kept
    #[arg(long, value_name = "NUMBER")]
    pub(crate) after: Option<u64>,
    /// End once all is told that happened, instead of waiting for more
    #[arg(long)]
    pub(crate) no_follow: bool,
    /// Condition: type=container|image|daemon, event=NAME, or container=NAME
    #[arg(short, long = "filter", value_name = "CONDITION")]
    pub(crate) filters: Vec<String>,
    /// Go template with Docker's field names, or `json`
    #[arg(long, value_name = "TEMPLATE", conflicts_with = "output")]
    pub(crate) format: Option<String>,
    /// How to show them
    #[arg(short, long, value_enum, default_value_t = EventFormat::Text)]
    pub(crate) output: EventFormat,
}

// `why`.
#[derive(Debug, Args)]
pub(crate) struct WhyFlags {
    /// Last lines of its log to show
    #[arg(short = 'n', long, value_name = "LINES", default_value_t = 10)]
    pub(crate) lines: u32,
    #[command(flatten)]
    pub(crate) output: OutputFlag,
    /// Id, prefix of an id, or name; of a removed container its id
    #[arg(add = completion::containers())]
    pub(crate) container: String,
}

// `trace`.
#[derive(Debug, Args)]
pub(crate) struct TraceFlags {
    #[command(flatten)]
    pub(crate) output: OutputFlag,
    /// Id, prefix of an id, or name
    #[arg(add = completion::containers())]
    pub(crate) container: String,
}
