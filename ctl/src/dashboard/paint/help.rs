//! The keys, explained.

use ratatui::buffer::Buffer;
use ratatui::layout::Rect;
use ratatui::text::{Line, Span};
use ratatui::widgets::{Block, Clear, Paragraph, Widget as _};

use super::super::sort::KEYS;
use super::super::theme::Theme;
use super::cell;

const KEY: usize = 15;
const WIDTH: u16 = 60;

/// Paints it over the rest.
pub(super) fn paint(buffer: &mut Buffer, area: Rect, theme: Theme) {
    let lines = lines();
    let (width, height) = (WIDTH.min(area.width), (len(&lines) + 2).min(area.height));
    let x = area.x + (area.width - width) / 2;
    let y = area.y + (area.height - height) / 2;
    let area = Rect { x, y, width, height };
    Clear.render(area, buffer);
    let block = Block::bordered().title(Span::styled(" Keys ", theme.heading()));
    let explained: Vec<Line<'_>> = lines
        .iter()
        .map(|(key, what)| {
            Line::from(vec![Span::styled(format!(" {}", cell(key, KEY, false)), theme.key()), Span::raw(what.as_str())])
        })
        .collect();
    Paragraph::new(explained).block(block).render(area, buffer);
}

fn len(lines: &[(String, String)]) -> u16 {
    u16::try_from(lines.len()).unwrap_or(u16::MAX)
}

fn lines() -> Vec<(String, String)> {
    let letters = KEYS.map(|key| format!("{} {}", key.letter(), key.name()));
    let (some, others) = letters.split_at(KEYS.len() / 2);
    [
        ("↑ ↓ k j", "choose a container, scroll the log".to_owned()),
        ("PgUp PgDn", "a page up, a page down".to_owned()),
        ("Home End g G", "first, last; End follows the log".to_owned()),
        ("Enter →", "look at the chosen one: statistics, events, log".to_owned()),
        ("Esc ←", "back to all; clears the filter".to_owned()),
        ("/", "filter: words of name, id, image, state, labels".to_owned()),
        ("a", "those that have ended, too, or not".to_owned()),
        ("s S < >", "sort by the next, by the one before".to_owned()),
        ("r", "turn the order round".to_owned()),
        ("sort by", some.join(", ")),
        ("", others.join(", ")),
        ("Ctrl-L", "draw everything anew".to_owned()),
        ("q Ctrl-C", "quit".to_owned()),
    ]
    .map(|(key, what)| (key.to_owned(), what))
    .to_vec()
}
