//! One container: histories, what it uses, what happened to it, what it wrote.

use std::collections::VecDeque;

use jiff::Timestamp;
use ratatui::buffer::Buffer;
use ratatui::layout::{Constraint, Layout, Rect};
use ratatui::style::Style;
use ratatui::text::{Line, Span};
use ratatui::widgets::{RenderDirection, Sparkline, Widget as _};

use super::super::detail::Detail;
use super::super::history::History;
use super::super::row::{Row, Usage};
use super::super::theme::Theme;
use super::words::{ABSENT, percent, percent_sign, rate, stalls};
use super::{cell, line};
use crate::output::{EventView, ago, bytes, bytes_decimal, cut};

/// From this width on, the log stands beside the rest.
const WIDE: u16 = 120;
const FACTS: u16 = 4;

/// Paints it; how many lines of the log there is room for.
pub(super) fn paint(buffer: &mut Buffer, area: Rect, detail: &Detail, row: Option<&Row>, theme: Theme) -> usize {
    let wide = area.width >= WIDE;
    let [left, right] =
        Layout::horizontal([Constraint::Fill(2), Constraint::Fill(if wide { 3 } else { 0 })]).spacing(1).areas(area);
    let sizes = if wide {
        [Constraint::Percentage(40), Constraint::Length(FACTS), Constraint::Min(0), Constraint::Length(0)]
    } else {
        [Constraint::Max(5), Constraint::Length(FACTS), Constraint::Max(5), Constraint::Fill(1)]
    };
    let [charts, figures, events, below] = Layout::vertical(sizes).areas(if wide { left } else { area });
    if let Some(row) = row {
        let halves = [Constraint::Fill(1); 2];
        let [cpu, memory] = if wide {
            Layout::vertical(halves).areas(charts)
        } else {
            Layout::horizontal(halves).spacing(2).areas(charts)
        };
        paint_cpu(buffer, cpu, row, theme);
        paint_memory(buffer, memory, row, theme);
        paint_facts(buffer, figures, row);
    }
    paint_events(buffer, events, &detail.events, theme);
    paint_log(buffer, if wide { right } else { below }, detail, theme)
}

fn paint_cpu(buffer: &mut Buffer, area: Rect, row: &Row, theme: Theme) {
    let most = row.cpu.most(area.width.into());
    let now = percent_sign(row.usage.as_ref().and_then(|usage| usage.cpu));
    #[expect(clippy::cast_precision_loss, reason = "one digit is shown")]
    let text = format!("CPU {now}, at most {:.1}%", most as f64 / 100.0);
    chart(buffer, area, &text, &row.cpu, most.max(1_000), (theme.heading(), theme.cpu()));
}

fn paint_memory(buffer: &mut Buffer, area: Rect, row: &Row, theme: Theme) {
    let usage = row.usage.as_ref();
    let most = row.memory.most(area.width.into());
    let now = usage.and_then(|usage| usage.memory).map_or_else(|| ABSENT.to_owned(), bytes);
    let limit = usage.and_then(|usage| usage.limit);
    let text = match limit {
        Some(limit) => {
            format!("Memory {now} of {} ({}%)", bytes(limit), percent(usage.and_then(Usage::memory_share)))
        }
        None => format!("Memory {now}, at most {}", bytes(most)),
    };
    let full = limit.unwrap_or(most.saturating_add(most / 3));
    chart(buffer, area, &text, &row.memory, full, (theme.heading(), theme.memory()));
}

fn chart(buffer: &mut Buffer, area: Rect, text: &str, history: &History, full: u64, styles: (Style, Style)) {
    let [heading, bars] = Layout::vertical([Constraint::Length(1), Constraint::Min(0)]).areas(area);
    Line::styled(cut(text, area.width.into()), styles.0).render(heading, buffer);
    let mut values: Vec<u64> = history.last(area.width.into()).collect();
    values.reverse();
    Sparkline::default()
        .data(&values)
        .max(full.max(1))
        .direction(RenderDirection::RightToLeft)
        .style(styles.1)
        .render(bars, buffer);
}

fn paint_facts(buffer: &mut Buffer, area: Rect, row: &Row) {
    let usage = row.usage.clone().unwrap_or_default();
    let stats = row.last.as_ref();
    let number = |value: Option<u64>| value.map_or_else(|| ABSENT.to_owned(), |value| value.to_string());
    let limit = stats.and_then(|stats| stats.pids.as_ref()?.limit);
    let limit = limit.map(|limit| format!(" of {limit}")).unwrap_or_default();
    let kills = stats.and_then(|stats| stats.memory.as_ref()?.oom_kills);
    let written = stats.and_then(|stats| stats.writable_layer.as_ref()).map(|layer| bytes_decimal(layer.bytes));
    let pid = if row.container.pid > 0 { row.container.pid.to_string() } else { ABSENT.to_owned() };
    let lines = [
        format!("pid {pid}   threads {}{limit}   throttled {}", number(usage.pids), percent_sign(usage.throttled)),
        format!(
            "net rx {}/s tx {}/s   disk read {}/s write {}/s",
            rate(usage.received),
            rate(usage.sent),
            rate(usage.read),
            rate(usage.written)
        ),
        format!(
            "{}   oom kills {}   layer {}",
            stalls(stats.and_then(|stats| stats.pressure.as_ref())),
            number(kills),
            written.unwrap_or_else(|| ABSENT.to_owned())
        ),
    ];
    for (at, text) in (0..).zip(lines) {
        Line::raw(cut(&text, area.width.into())).render(line(area, at), buffer);
    }
}

fn paint_events(buffer: &mut Buffer, area: Rect, events: &VecDeque<EventView>, theme: Theme) {
    Line::styled("Events", theme.heading()).render(line(area, 0), buffer);
    let room = usize::from(area.height.saturating_sub(1));
    let now = Timestamp::now();
    let last = events.iter().skip(events.len().saturating_sub(room));
    for (at, event) in (1..).zip(last) {
        let when = cell(&format!("{} ago", ago(event.at, now)), 24, true);
        let words = cut(&event.words(), usize::from(area.width).saturating_sub(26));
        let spans = vec![Span::styled(when, theme.quiet()), Span::raw("  "), Span::raw(words)];
        Line::from(spans).render(line(area, at), buffer);
    }
}

fn paint_log(buffer: &mut Buffer, area: Rect, detail: &Detail, theme: Theme) -> usize {
    let room = usize::from(area.height.saturating_sub(1));
    let state = match detail.back {
        _ if detail.is_silent() => "empty".to_owned(),
        0 => "followed".to_owned(),
        back => format!("{back} lines back; End follows"),
    };
    let spans = vec![Span::styled("Log", theme.heading()), Span::styled(format!("  {state}"), theme.quiet())];
    Line::from(spans).render(line(area, 0), buffer);
    for (at, entry) in (1..).zip(detail.lines(room)) {
        let style = if entry.stderr { theme.waiting() } else { Style::new() };
        Line::styled(cut(&entry.text, area.width.into()), style).render(line(area, at), buffer);
    }
    room
}
