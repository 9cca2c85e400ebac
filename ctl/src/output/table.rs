//! Aligned columns, as Docker prints them: no borders, three blanks between columns, headings in capitals. On a terminal they
//! fit its width.

use std::io::Write;

use unicode_width::{UnicodeWidthChar as _, UnicodeWidthStr as _};

use super::color::{self, Style};
use crate::error::{Result, one_line};
use crate::terminal::terminal_size;

const GAP: usize = 3;
/// A column that gives way keeps this width, or its heading's.
const LEAST: usize = 10;

/// One cell: its text, and what that is to a reader.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Cell {
    text: String,
    style: Option<Style>,
}

impl Cell {
    /// A cell in a style.
    pub(crate) fn styled(text: String, style: Option<Style>) -> Self {
        Self { text, style }
    }
}

impl From<String> for Cell {
    fn from(text: String) -> Self {
        Self { text, style: None }
    }
}

/// A table with a heading.
#[derive(Debug)]
pub(crate) struct Table {
    rows: Vec<Vec<Cell>>,
    /// Columns that give way where there is no room, the first one first; nothing where none may.
    giving_way: Option<Vec<usize>>,
}

impl Table {
    /// A table without rows.
    pub(crate) fn new(headings: &[&str]) -> Self {
        let heading = |text: &&str| Cell::styled((*text).to_owned(), Some(Style::Heading));
        Self { rows: vec![headings.iter().map(heading).collect()], giving_way: None }
    }

    /// The table, whose columns of these headings give way on a narrow terminal, the first one first.
    pub(crate) fn fitting(mut self, headings: &[&str]) -> Self {
        let column = |heading: &&str| self.rows[0].iter().position(|cell| cell.text == **heading);
        self.giving_way = Some(headings.iter().filter_map(column).collect());
        self
    }

    /// Adds a row. Cells may hold what containers say of themselves: control characters are made harmless.
    pub(crate) fn row(&mut self, cells: impl IntoIterator<Item = impl Into<Cell>>) {
        let harmless = |cell: Cell| Cell { text: one_line(&cell.text), style: cell.style };
        self.rows.push(cells.into_iter().map(|cell| harmless(cell.into())).collect());
    }

    /// The lines as wide as they are, without trailing blanks.
    #[cfg(test)]
    pub(crate) fn lines(&self) -> impl Iterator<Item = String> {
        self.lines_within(None, false)
    }

    /// The lines as they suit standard output.
    pub(crate) fn shown_lines(&self) -> impl Iterator<Item = String> {
        let terminal = super::is_terminal().then(terminal_size).flatten();
        let width = terminal.and_then(|size| usize::try_from(size.columns).ok());
        self.lines_within(width, color::on_stdout())
    }

    /// Prints it.
    pub(crate) fn print(&self) -> Result<()> {
        let mut out = super::stdout();
        for line in self.shown_lines() {
            writeln!(out, "{line}")?;
        }
        Ok(out.flush()?)
    }

    fn lines_within(&self, width: Option<usize>, colored: bool) -> impl Iterator<Item = String> {
        let widths = self.widths(width);
        let room = width.filter(|_| self.giving_way.is_some()).unwrap_or(usize::MAX);
        self.rows.iter().map(move |row| line(row, &widths, room, colored))
    }

    /// Widths of the columns, made to fit as far as they give way.
    fn widths(&self, within: Option<usize>) -> Vec<usize> {
        let columns = self.rows.iter().map(Vec::len).max().unwrap_or_default();
        let widest =
            |column: usize| self.rows.iter().filter_map(|row| row.get(column)).map(|cell| cell.text.width()).max();
        let mut widths: Vec<usize> = (0..columns).map(|column| widest(column).unwrap_or_default()).collect();
        let (Some(within), Some(giving_way)) = (within, &self.giving_way) else { return widths };
        for &column in giving_way {
            let all = widths.iter().sum::<usize>() + GAP * columns.saturating_sub(1);
            let least = self.rows[0][column].text.width().max(LEAST);
            if all > within && widths[column] > least {
                widths[column] = widths[column].saturating_sub(all - within).max(least);
            }
        }
        widths
    }
}

/// One line, at most `room` columns wide.
fn line(row: &[Cell], widths: &[usize], mut room: usize, colored: bool) -> String {
    let mut line = String::new();
    let last = row.iter().rposition(|cell| !cell.text.is_empty()).map_or(0, |last| last + 1);
    for (at, (cell, &width)) in row[..last].iter().zip(widths).enumerate() {
        let text = cut(&cell.text, width.min(room));
        let used = text.width();
        let painted = cell.style.map_or_else(|| text.clone(), |style| style.paint(&text, colored));
        line.push_str(&painted);
        room = room.saturating_sub(width + GAP);
        if room == 0 {
            break;
        }
        if at + 1 < last {
            line.extend(std::iter::repeat_n(' ', width - used + GAP));
        }
    }
    line
}

/// At most `width` columns of a text, with an ellipsis where something is missing.
pub(crate) fn cut(text: &str, width: usize) -> String {
    if text.width() <= width {
        return text.to_owned();
    }
    let mut taken = String::new();
    let mut left = width.saturating_sub(1);
    for c in text.chars() {
        match left.checked_sub(c.width().unwrap_or_default()) {
            Some(rest) => left = rest,
            None => break,
        }
        taken.push(c);
    }
    if width > 0 {
        taken.push('…');
    }
    taken
}

#[cfg(test)]
mod tests {
    use super::*;

    fn table() -> Table {
        let mut table = Table::new(&["ID", "COMMAND", "IMAGE NAME", "NAME"]).fitting(&["COMMAND", "IMAGE NAME"]);
        let command = "0123456789".repeat(4);
        table.row(["abcdefabcdef".into(), command, "registry/image/of/some/length".into(), String::from("web")]);
        table
    }

    #[test]
    fn columns_are_as_wide_as_their_widest_cell() {
        let mut table = Table::new(&["ID", "NAME"]);
        table.row(["abcdef".to_owned(), "é\u{1b}[1m".into()]);
        table.row(["x".to_owned(), String::new()]);
        table.row(["日本".to_owned(), "y".into()]);
        let lines: Vec<String> = table.lines().collect();
        assert_eq!(lines, ["ID       NAME", "abcdef   é\\u{1b}[1m", "x", "日本     y"]);
    }

    #[test]
    fn columns_give_way_in_their_order() {
        let lines = |width| table().lines_within(Some(width), false).collect::<Vec<_>>();
        assert_eq!(lines(200), table().lines().collect::<Vec<_>>());
        assert_eq!(lines(80)[1], "abcdefabcdef   0123456789012345678901234…   registry/image/of/some/length   web");
        assert_eq!(lines(60)[1], "abcdefabcdef   012345678…   registry/image/of/some/l…   web");
        for width in [10, 20, 31, 32, 40, 60, 80] {
            assert!(lines(width).iter().all(|line| line.width() <= width), "{width}: {:?}", lines(width));
        }
    }

    #[test]
    fn tables_that_do_not_give_way_are_whole() {
        let mut whole = table();
        whole.giving_way = None;
        assert_eq!(whole.lines_within(Some(20), false).collect::<Vec<_>>(), whole.lines().collect::<Vec<_>>());
    }

    #[test]
    fn wide_characters_are_cut_whole() {
        assert_eq!(cut("日本語", 6), "日本語");
        assert_eq!(cut("日本語", 5), "日本…");
        assert_eq!(cut("日本語", 4), "日…");
        assert_eq!(cut("abc", 0), "");
        assert_eq!(cut("ab", 1), "…");
    }

    #[test]
    fn styles_take_no_room() {
        let mut table = Table::new(&["A", "B"]);
        table.row([Cell::styled("up".into(), Some(Style::Good)), Cell::from("x".to_owned())]);
        let lines: Vec<String> = table.lines_within(None, true).collect();
        assert_eq!(lines[1], "\u{1b}[32mup\u{1b}[0m   x");
    }
}
