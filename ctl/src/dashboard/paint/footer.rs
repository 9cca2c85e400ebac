//! The line at the bottom: the keys that do something now, or the filter while it is typed.

use ratatui::buffer::Buffer;
use ratatui::layout::Rect;
use ratatui::text::{Line, Span};
use ratatui::widgets::Widget as _;
use unicode_width::UnicodeWidthStr as _;

use super::super::app::App;
use super::super::theme::Theme;
use crate::error::one_line;

type Hint = (&'static str, String);

/// Paints it.
pub(super) fn paint(buffer: &mut Buffer, area: Rect, app: &App, theme: Theme) {
    let mut spans = Vec::new();
    let filter = &app.table.filter.text;
    if app.typing || (!filter.is_empty() && app.detail.is_none()) {
        let cursor = if app.typing { "█" } else { "" };
        spans.push(Span::styled("filter: ", theme.key()));
        spans.push(Span::raw(format!("{}{cursor}  ", one_line(filter))));
    }
    let mut left = usize::from(area.width).saturating_sub(spans.iter().map(Span::width).sum());
    for (key, what) in hints(app) {
        let wide = key.width() + 1 + what.width();
        // The first that has no room ends it.
        let Some(rest) = left.checked_sub(wide) else { break };
        left = rest.saturating_sub(2);
        spans.push(Span::styled(key, theme.key()));
        spans.push(Span::raw(format!(" {what}  ")));
    }
    Line::from(spans).render(area, buffer);
}

fn hints(app: &App) -> Vec<Hint> {
    let hint = |key, what: &str| (key, what.to_owned());
    if app.typing {
        return vec![hint("Enter", "keep"), hint("Esc", "clear"), hint("↑↓", "choose")];
    }
    if app.detail.is_some() {
        let scroll = [hint("↑↓ PgUp PgDn", "scroll"), hint("End", "follow")];
        return [hint("Esc", "back"), hint("q", "quit")].into_iter().chain(scroll).chain([hint("?", "help")]).collect();
    }
    let others = if app.table.filter.all { "running only" } else { "ended, too" };
    vec![
        hint("q", "quit"),
        hint("?", "help"),
        hint("↑↓", "choose"),
        hint("Enter", "open"),
        hint("/", "filter"),
        hint("s", "sort"),
        hint("r", "turn"),
        hint("a", others),
        hint("c m p w d u t n", "sort by cpu, memory, pids, network, disk, age, state, name"),
    ]
}
