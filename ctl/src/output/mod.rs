//! What goes to standard output, for people and for programs.

mod color;
mod container;
mod disk;
pub(crate) mod docker;
mod event;
mod human;
mod image;
mod node;
mod progress;
mod reasons;
mod run;
mod shape;
mod stats;
mod table;
mod template;
mod time;

use std::io::{self, BufWriter, IsTerminal as _, StdoutLock, Write};

use serde::Serialize;

use crate::cli::DataFormat;
use crate::error::{Error, Result};

pub(crate) use color::{Style, choose, on_stderr, on_stdout};
pub(crate) use container::{ContainerView, command_text, status_text};
pub(crate) use disk::DiskUsageView;
pub(crate) use event::{EventView, event_types};
pub(crate) use human::{ago, bytes, bytes_decimal, short_digest, short_id};
pub(crate) use image::{DamageView, HistoryView, ImageView, PruneView};
pub(crate) use node::{ClientVersion, NodeView, Versions};
pub(crate) use progress::{Progress, Step};
pub(crate) use reasons::{REASONS, Reason, find as find_reason};
pub(crate) use run::{StepView, duration_text};
pub(crate) use shape::{ListShape, Shape};
pub(crate) use stats::{Before, FrameView, NODE_HEADINGS};
pub(crate) use table::{Cell, Table, cut};
pub(crate) use time::{fixed_width, moment, parse_moment};

/// Standard output, buffered; what is in it goes out with [`Write::flush`].
pub(crate) fn stdout() -> BufWriter<StdoutLock<'static>> {
    BufWriter::with_capacity(64 << 10, io::stdout().lock())
}

/// Prints one line.
pub(crate) fn line(text: &str) -> Result<()> {
    let mut out = stdout();
    writeln!(out, "{text}")?;
    Ok(out.flush()?)
}

/// Prints an answer for programs.
pub(crate) fn data(format: DataFormat, value: &impl Serialize) -> Result<()> {
    let text = match format {
        DataFormat::Json => serde_json::to_string_pretty(value).map_err(|error| error.to_string()),
        DataFormat::Yaml => serde_yaml_ng::to_string(value).map_err(|error| error.to_string()),
    };
    let text = text.map_err(|error| Error::new(format!("formatting the answer: {error}")))?;
    line(text.trim_end())
}

/// Says on standard error what went wrong with one of several things.
pub(crate) fn complain(error: &Error) {
    error.report(0);
}

/// Says on standard error what the user should know of something that succeeded.
pub(crate) fn warn(text: &str) {
    // Nobody can be told that standard error is closed.
    let _ = writeln!(io::stderr().lock(), "hullctl: warning: {text}");
}

/// Whether a person looks at standard output.
pub(crate) fn is_terminal() -> bool {
    io::stdout().is_terminal()
}
