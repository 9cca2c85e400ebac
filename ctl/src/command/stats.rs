//! `stats`.

use std::io::Write as _;

use hull_proto::v1::{StatsSelector, StreamStatsRequest};

use crate::cli::{DataFormat, StatsFlags};
use crate::client::Client;
use crate::error::{Error, Result};
use crate::output::{self, Before, FrameView, ListShape, Table};
use crate::spec;
use crate::terminal::terminal_size;

/// Time between the two frames of `--no-stream`, where none is given.
const SINGLE: prost_types::Duration = prost_types::Duration { seconds: 0, nanos: 500_000_000 };
/// Cursor to the first column of the first line.
const HOME: &str = "\x1b[H";
/// Clears to the end of the line.
const CLEAR_LINE: &str = "\x1b[K";
/// Clears to the end of the screen.
const CLEAR_BELOW: &str = "\x1b[J";

/// Shows what containers use, again and again.
pub(crate) async fn stats(connect: impl Future<Output = Result<Client>>, flags: StatsFlags) -> Result<u8> {
    let shape = ListShape::of(&flags.output)?;
    let interval = flags.interval.as_deref().map(|text| spec::duration("--interval", text)).transpose()?;
    let interval = interval.map(prost_types::Duration::try_from).transpose();
    let interval = interval.map_err(|_| Error::new("--interval: too long"))?.or(flags.no_stream.then_some(SINGLE));
    let selector = StatsSelector { containers: flags.containers, ..StatsSelector::default() };
    let request = StreamStatsRequest { selector: Some(selector), interval, ..StreamStatsRequest::default() };
    let mut frames = connect.await?.stats().stream_stats(request).await?.into_inner();
    let mut before = Before::new();
    // Rates need two frames.
    if flags.no_stream
        && let Some(frame) = frames.message().await?
    {
        FrameView::new(frame, &mut before);
    }
    while let Some(frame) = frames.message().await? {
        let frame = FrameView::new(frame, &mut before);
        match &shape {
            ListShape::Data(DataFormat::Json) => json(&frame)?,
            ListShape::Data(DataFormat::Yaml) => yaml(&frame)?,
            ListShape::Table { .. } => table(&frame, flags.no_trunc, flags.no_stream)?,
            ListShape::Names => output::line(&frame.names().collect::<Vec<_>>().join("\n"))?,
            ListShape::Template(template) => {
                let lines = template.lines(FrameView::FIELDS, frame.fields(flags.no_trunc))?;
                show(lines.into_iter(), flags.no_stream)?;
            }
        }
        if flags.no_stream {
            break;
        }
    }
    Ok(0)
}

/// One frame, one line.
fn json(frame: &FrameView) -> Result<()> {
    output::line(&serde_json::to_string(frame).map_err(|error| Error::new(format!("formatting the answer: {error}")))?)
}

/// One frame, one document.
fn yaml(frame: &FrameView) -> Result<()> {
    output::line("---")?;
    output::data(DataFormat::Yaml, frame)
}

/// In place on a terminal, as far as its height goes.
fn table(frame: &FrameView, whole_ids: bool, once: bool) -> Result<()> {
    let mut table = Table::new(&FrameView::HEADINGS).fitting(&["NAME", "BLOCK I/O", "MEM USAGE / LIMIT"]);
    frame.rows(whole_ids).for_each(|row| table.row(row));
    show(table.shown_lines(), once)
}

/// Prints lines, in place on a terminal if more are to come.
fn show(lines: impl Iterator<Item = String>, once: bool) -> Result<()> {
    let mut out = output::stdout();
    if once || !output::is_terminal() {
        for line in lines {
            writeln!(out, "{line}")?;
        }
        return Ok(out.flush()?);
    }
    let height = terminal_size().map_or(usize::MAX, |size| usize::try_from(size.rows).unwrap_or(usize::MAX));
    write!(out, "{HOME}")?;
    for line in lines.take(height.saturating_sub(1)) {
        writeln!(out, "{line}{CLEAR_LINE}")?;
    }
    write!(out, "{CLEAR_BELOW}")?;
    Ok(out.flush()?)
}
