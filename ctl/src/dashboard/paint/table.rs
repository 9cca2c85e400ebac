//! The table of containers.

use hull_proto::v1::ContainerState;
use jiff::Timestamp;
use ratatui::buffer::Buffer;
use ratatui::layout::Rect;
use ratatui::style::Style;
use ratatui::text::{Line, Span};
use ratatui::widgets::Widget as _;

use super::super::app::App;
use super::super::columns::{Column, GAP, Sized, fitting};
use super::super::row::Row;
use super::super::sort::Sort;
use super::super::theme::Theme;
use super::words::{ABSENT, age, percent, rate, state};
use super::{cell, line};
use crate::error::one_line;
use crate::output::docker::familiar;
use crate::output::{bytes, short_id};

/// The least that is a whole bar of processor use, in hundredths of a percent of one processor.
const BUSY: u64 = 1_000;

/// Paints it.
pub(super) fn paint(buffer: &mut Buffer, area: Rect, app: &mut App, theme: Theme) {
    let columns = fitting(area.width.into());
    heading(&columns, app.table.sort, theme).render(line(area, 0), buffer);
    app.page = usize::from(area.height.saturating_sub(1));
    app.top = first(app.top, app.table.position(), app.page, app.table.len());
    if app.table.len() == 0 {
        let text = if !app.table.filter.text.is_empty() {
            "No container fits the filter; Esc clears it."
        } else if app.table.filter.all {
            "There are no containers."
        } else {
            "No containers run; a shows those that have ended, too."
        };
        Line::styled(text, theme.quiet()).render(line(area, 2), buffer);
    }
    let now = Timestamp::now();
    let chosen = app.table.position().map(|at| at.saturating_sub(app.top));
    for (at, row) in (0..).zip(app.table.shown(app.top).take(app.page)) {
        let area = line(area, at + 1);
        paint_row(row, &columns, now, theme).render(area, buffer);
        if chosen == Some(at.into()) {
            buffer.set_style(area, theme.chosen());
        }
    }
}

/// The first line in sight: as before, moved as little as it takes to see the chosen one.
fn first(before: usize, chosen: Option<usize>, room: usize, all: usize) -> usize {
    let top = before.min(all.saturating_sub(room));
    match chosen {
        Some(at) if at < top => at,
        Some(at) if room > 0 && at >= top + room => at + 1 - room,
        _ => top,
    }
}

fn heading(columns: &[Sized], sort: Sort, theme: Theme) -> Line<'static> {
    let mut spans = Vec::new();
    for (column, width) in columns {
        let mut text = column.heading().to_owned();
        let sorted = column.key() == Some(sort.key);
        if sorted {
            text.push(if sort.reversed { '▲' } else { '▼' });
        }
        let style = if sorted { theme.sorted() } else { theme.heading() };
        spans.push(Span::styled(cell(&text, *width, column.at_right()), style));
        spans.push(Span::raw(" ".repeat(GAP)));
    }
    Line::from(spans)
}

fn paint_row(row: &Row, columns: &[Sized], now: Timestamp, theme: Theme) -> Line<'static> {
    let mut spans = Vec::new();
    for (column, width) in columns {
        let (text, style) = content(row, *column, *width, now, theme);
        spans.push(Span::styled(cell(&text, *width, column.at_right()), style));
        spans.push(Span::raw(" ".repeat(GAP)));
    }
    Line::from(spans)
}

fn content(row: &Row, column: Column, width: usize, now: Timestamp, theme: Theme) -> (String, Style) {
    let usage = row.usage.as_ref();
    let plain = Style::new();
    let container = &row.container;
    match column {
        Column::Name => (one_line(row.name()), plain),
        Column::State => (state(row), state_style(row, theme)),
        Column::Cpu => (percent(usage.and_then(|usage| usage.cpu)), plain),
        Column::CpuHistory => {
            let full = row.cpu.most(width).max(BUSY);
            (row.cpu.line(width, full), theme.cpu())
        }
        Column::Memory => (usage.and_then(|usage| usage.memory).map_or_else(absent, bytes), plain),
        Column::MemoryShare => {
            let share = usage.and_then(super::super::row::Usage::memory_share);
            (percent(share), share.map_or(plain, |share| theme.share(share)))
        }
        Column::MemoryHistory => {
            // Without a limit, what it used most is three quarters of a bar.
            let most = row.memory.most(width);
            let full = usage.and_then(|usage| usage.limit).unwrap_or(most.saturating_add(most / 3));
            (row.memory.line(width, full), theme.memory())
        }
        Column::Pids => (usage.and_then(|usage| usage.pids).map_or_else(absent, |pids| pids.to_string()), plain),
        Column::Received => (rate(usage.and_then(|usage| usage.received)), plain),
        Column::Sent => (rate(usage.and_then(|usage| usage.sent)), plain),
        Column::Read => (rate(usage.and_then(|usage| usage.read)), plain),
        Column::Written => (rate(usage.and_then(|usage| usage.written)), plain),
        Column::Throttled => (percent(usage.and_then(|usage| usage.throttled)), plain),
        Column::Age => (age(row, now), plain),
        Column::Image => {
            let image = container.config.as_ref().map(|config| one_line(familiar(&config.image)));
            (last_of(&image.unwrap_or_default(), width), plain)
        }
        Column::Id => (short_id(&container.id).to_owned(), theme.quiet()),
    }
}

/// The end of a text that is too long: an image's tag says more than its registry.
fn last_of(text: &str, width: usize) -> String {
    let over = text.chars().count().saturating_sub(width);
    if over == 0 { text.to_owned() } else { std::iter::once('…').chain(text.chars().skip(over + 1)).collect() }
}

fn absent() -> String {
    ABSENT.to_owned()
}

fn state_style(row: &Row, theme: Theme) -> Style {
    match row.container.state() {
        ContainerState::Running => theme.good(),
        ContainerState::Starting | ContainerState::Paused | ContainerState::Stopping | ContainerState::Removing => {
            theme.waiting()
        }
        ContainerState::Exited if row.container.exit.as_ref().is_some_and(|exit| exit.code != 0) => theme.bad(),
        ContainerState::Exited | ContainerState::Created | ContainerState::Unspecified => theme.quiet(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn of_a_long_image_the_tag_is_seen() {
        assert_eq!(last_of("registry/web:1", 6), "…web:1");
        assert_eq!((last_of("web:1", 5), last_of("web:1", 1)), ("web:1".into(), "…".into()));
    }

    #[test]
    fn the_chosen_line_is_in_sight_and_the_rest_stays() {
        assert_eq!(first(0, Some(3), 10, 100), 0);
        assert_eq!(first(0, Some(10), 10, 100), 1);
        assert_eq!(first(50, Some(20), 10, 100), 20);
        assert_eq!(first(50, Some(55), 10, 100), 50);
        assert_eq!(first(50, Some(4), 10, 5), 0);
        assert_eq!(first(95, Some(99), 10, 100), 90);
        assert_eq!((first(3, None, 10, 0), first(3, Some(7), 0, 10)), (0, 3));
    }
}
