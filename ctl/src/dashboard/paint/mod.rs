//! How it looks. Everything fits the terminal, however small.

mod detail;
mod footer;
mod help;
mod node;
mod table;
mod words;

use jiff::Zoned;
use ratatui::Frame;
use ratatui::layout::{Constraint, Layout, Rect};
use ratatui::text::Line;
use ratatui::widgets::Widget as _;
use unicode_width::UnicodeWidthStr as _;

use super::app::App;
use super::theme::Theme;
use crate::error::one_line;
use crate::output::cut;

/// Lines about the node.
const NODE: u16 = 3;

/// Paints all of it.
pub(super) fn paint(frame: &mut Frame<'_>, app: &mut App, theme: Theme) {
    let node = if app.detail.is_some() { 0 } else { NODE };
    let whole = frame.area();
    let [title, node, body, footer] =
        Layout::vertical([Constraint::Length(1), Constraint::Length(node), Constraint::Min(0), Constraint::Length(1)])
            .areas(whole);
    let buffer = frame.buffer_mut();
    bar(app, title.width.into()).render(title, buffer);
    buffer.set_style(title, if app.away.is_some() { theme.alarm() } else { theme.title() });
    match &app.detail {
        Some(detail) => {
            let row = app.table.row(&detail.id);
            app.page = detail::paint(buffer, body, detail, row, theme);
        }
        None => {
            node::paint(buffer, node, &app.node, theme);
            table::paint(buffer, body, app, theme);
        }
    }
    footer::paint(buffer, footer, app, theme);
    if app.help {
        help::paint(buffer, whole, theme);
    }
}

/// The line at the top: what is looked at, and at its right end the time.
fn bar(app: &App, width: usize) -> Line<'static> {
    let left = match (&app.away, &app.detail) {
        (Some((why, since)), _) => {
            format!(" AGENT AWAY for {} s, asking again. {}", since.elapsed().as_secs(), one_line(why))
        }
        (None, Some(detail)) => words::title(app.table.row(&detail.id), &detail.id),
        (None, None) => {
            let (running, all) = app.table.counts();
            let info = app.node.info.as_ref();
            let node = info.map(|info| format!("{}   hulld {}   ", one_line(&info.hostname), info.version));
            format!(" {}{running} running, {all} in all", node.unwrap_or_default())
        }
    };
    Line::from(both_ends(&left, &Zoned::now().strftime("%H:%M:%S ").to_string(), width))
}

/// Two texts at the ends of a line; the first gives way.
fn both_ends(left: &str, right: &str, width: usize) -> String {
    let room = width.saturating_sub(right.width() + 1);
    let left = cut(left, room);
    let gap = room.saturating_sub(left.width()) + 1;
    cut(&format!("{left}{:gap$}{right}", ""), width)
}

/// A text in a cell of this width, at its left or right end.
fn cell(text: &str, width: usize, at_right: bool) -> String {
    let text = cut(text, width);
    let gap = width.saturating_sub(text.width());
    if at_right { format!("{:gap$}{text}", "") } else { format!("{text}{:gap$}", "") }
}

/// One line of an area.
fn line(area: Rect, at: u16) -> Rect {
    let y = area.y.saturating_add(at);
    if at < area.height { Rect { y, height: 1, ..area } } else { Rect { height: 0, ..area } }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn texts_keep_their_width() {
        assert_eq!(both_ends("left", "right", 12), "left   right");
        assert_eq!(both_ends("a long text", "12:00", 12), "a lon… 12:00");
        assert_eq!(both_ends("left", "right", 3), " r…");
        assert_eq!((cell("ab", 4, true), cell("ab", 4, false)), ("  ab".into(), "ab  ".into()));
        assert_eq!((cell("日本語", 5, false), cell("", 0, true)), ("日本…".into(), String::new()));
    }
}
