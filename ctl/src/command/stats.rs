//! `stats`.

use std::io::Write as _;

use hull_proto::v1::{StatsGroup, StatsSelector, StreamStatsRequest};

use crate::cli::{DataFormat, StatsFlags};
use crate::client::Client;
use crate::error::{Error, Result};
use crate::output::{self, Before, FrameView, ListShape, NODE_HEADINGS, Table};
use crate::spec;
use crate::terminal::terminal_size;

/// Time between the two frames of `--no-stream`, where none is given.
const SINGLE: prost_types::Duration = prost_types::Duration { seconds: 0, nanos: 500_000_000 };
/// Columns that give way on a narrow terminal, the first one first.
const GIVING_WAY: [&str; 4] = ["NET I/O", "BLOCK I/O", "NAME", "MEM USAGE / LIMIT"];
/// Cursor to the first column of the first line.
const HOME: &str = "\x1b[H";
/// Clears to the end of the line.
const CLEAR_LINE: &str = "\x1b[K";
/// Clears to the end of the screen.
const CLEAR_BELOW: &str = "\x1b[J";

/// Shows what containers use, again and again.
pub(crate) async fn stats(connect: impl Future<Output = Result<Client>>, flags: StatsFlags) -> Result<u8> {
    let shape = ListShape::of(&flags.output)?;
    let interval = pace("--interval", flags.interval.as_deref())?.or(flags.no_stream.then_some(SINGLE));
    let selector = StatsSelector { containers: flags.containers, ..StatsSelector::default() };
    let groups = if flags.node { vec![StatsGroup::Node.into()] } else { Vec::new() };
    let request = StreamStatsRequest { selector: Some(selector), interval, groups, ..StreamStatsRequest::default() };
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
        let (whole, once) = (flags.no_trunc, flags.no_stream);
        match &shape {
            ListShape::Data(DataFormat::Json) => json(&frame)?,
            ListShape::Data(DataFormat::Yaml) => yaml(&frame)?,
            ListShape::Table { .. } if flags.node => show(node(&frame).shown_lines(), once)?,
            ListShape::Table { wide: false } => show(table(&frame, whole).shown_lines(), once)?,
            ListShape::Table { wide: true } => show(wide(&frame, whole).shown_lines(), once)?,
            ListShape::Names => output::line(&frame.names().collect::<Vec<_>>().join("\n"))?,
            ListShape::Template(template) => {
                let lines = template.lines(FrameView::FIELDS, frame.fields(whole))?;
                show(lines.into_iter(), once)?;
            }
        }
        if flags.no_stream {
            break;
        }
    }
    Ok(0)
}

/// Time between frames, as a flag says it.
pub(super) fn pace(flag: &str, text: Option<&str>) -> Result<Option<prost_types::Duration>> {
    let interval = text.map(|text| spec::duration(flag, text)).transpose()?;
    let interval = interval.map(prost_types::Duration::try_from).transpose();
    interval.map_err(|_| Error::new(format!("{flag}: too long")))
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

fn node(frame: &FrameView) -> Table {
    let mut table = Table::new(&NODE_HEADINGS);
    frame.node_row().into_iter().for_each(|row| table.row(row));
    table
}

fn table(frame: &FrameView, whole_ids: bool) -> Table {
    let mut table = Table::new(&FrameView::HEADINGS).fitting(&GIVING_WAY);
    frame.rows(whole_ids).for_each(|row| table.row(row));
    table
}

fn wide(frame: &FrameView, whole_ids: bool) -> Table {
    let mut table = Table::new(&[&FrameView::HEADINGS[..], &FrameView::FURTHER_HEADINGS].concat());
    let rows = frame.rows(whole_ids).zip(frame.further_cells());
    rows.for_each(|(row, further)| table.row(row.into_iter().chain(further)));
    table
}

/// In place on a terminal if more are to come, as far as its height goes.
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
