//! One container: what it wrote and what happened to it, beside what it uses.

use std::collections::VecDeque;

use hull_proto::v1::{LogEntry, LogStream};

use crate::error::one_line;
use crate::output::EventView;

/// Lines of a log, and events, that are kept.
const KEPT: usize = 2000;

/// A line of a log.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct LogLine {
    pub(super) text: String,
    pub(super) stderr: bool,
}

/// A container that is looked at.
#[derive(Debug)]
pub(super) struct Detail {
    pub(super) id: String,
    log: VecDeque<LogLine>,
    pub(super) events: VecDeque<EventView>,
    /// Lines between the last one and the last that is shown; 0: new ones are followed.
    pub(super) back: usize,
}

impl Detail {
    /// A container of which nothing was told yet.
    pub(super) fn new(id: String) -> Self {
        Self { id, log: VecDeque::new(), events: VecDeque::new(), back: 0 }
    }

    /// It is told anew from the beginning.
    pub(super) fn begin_anew(&mut self) {
        *self = Self::new(std::mem::take(&mut self.id));
    }

    /// Takes what it wrote. Who has gone back stays with what is in sight.
    pub(super) fn wrote(&mut self, entries: Vec<LogEntry>) {
        for entry in entries {
            if self.log.len() == KEPT {
                self.log.pop_front();
            }
            let stderr = entry.stream() == LogStream::Stderr;
            self.log.push_back(LogLine { text: readable(&String::from_utf8_lossy(&entry.line)), stderr });
            if self.back > 0 {
                self.back = (self.back + 1).min(self.log.len().saturating_sub(1));
            }
        }
    }

    /// Takes what happened to it.
    pub(super) fn happened(&mut self, events: Vec<EventView>) {
        self.events.extend(events);
        let over = self.events.len().saturating_sub(KEPT);
        self.events.drain(..over);
    }

    /// Goes back in the log, or forward again.
    pub(super) fn scroll(&mut self, back: isize) {
        self.back = self.back.saturating_add_signed(back).min(self.log.len().saturating_sub(1));
    }

    /// The lines that are in sight where there is room for so many.
    pub(super) fn lines(&self, room: usize) -> impl Iterator<Item = &LogLine> {
        // At the beginning of the log the whole room is filled.
        let end = self.log.len().saturating_sub(self.back).max(room.min(self.log.len()));
        self.log.range(end.saturating_sub(room)..end)
    }

    /// Whether nothing was written.
    pub(super) fn is_silent(&self) -> bool {
        self.log.is_empty()
    }
}

/// Without colours and the like, which are for a terminal of its own; what else is not text is shown as such.
fn readable(line: &str) -> String {
    let mut text = String::with_capacity(line.len());
    let mut chars = line.chars().peekable();
    while let Some(c) = chars.next() {
        match c {
            '\u{1b}' if chars.peek() == Some(&'[') => {
                chars.next();
                // Parameters, up to the letter that ends it.
                while chars.next_if(|c| ('\u{20}'..'\u{40}').contains(c)).is_some() {}
                chars.next_if(|c| ('\u{40}'..'\u{7f}').contains(c));
            }
            '\t' => text.push_str("    "),
            c => text.push(c),
        }
    }
    one_line(&text)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn entries(range: std::ops::Range<usize>) -> Vec<LogEntry> {
        range.map(|at| LogEntry { line: at.to_string().into(), ..LogEntry::default() }).collect()
    }

    fn seen(detail: &Detail, room: usize) -> Vec<&str> {
        detail.lines(room).map(|line| line.text.as_str()).collect()
    }

    #[test]
    fn a_log_is_followed_until_somebody_goes_back() {
        let mut detail = Detail::new("a".into());
        assert!(seen(&detail, 3).is_empty() && detail.is_silent());
        detail.scroll(5);
        detail.wrote(entries(0..10));
        assert_eq!(seen(&detail, 3), ["7", "8", "9"]);
        detail.scroll(2);
        assert_eq!(seen(&detail, 3), ["5", "6", "7"]);
        detail.wrote(entries(10..12));
        assert_eq!(seen(&detail, 3), ["5", "6", "7"]);
        detail.scroll(100);
        assert_eq!(seen(&detail, 3), ["0", "1", "2"]);
        detail.scroll(-100);
        assert_eq!((seen(&detail, 2), seen(&detail, 99).len()), (vec!["10", "11"], 12));
    }

    #[test]
    fn a_long_log_is_bounded() {
        let mut detail = Detail::new("a".into());
        detail.wrote(entries(0..5));
        detail.scroll(1);
        detail.wrote(entries(5..10_000));
        assert_eq!((seen(&detail, usize::MAX).len(), detail.back), (KEPT, KEPT - 1));
        assert_eq!(seen(&detail, 1), ["8000"]);
        detail.begin_anew();
        assert!(detail.is_silent() && detail.back == 0 && detail.id == "a");
    }

    #[test]
    fn colours_of_a_log_are_left_out_and_nothing_reaches_the_terminal() {
        assert_eq!(readable("\u{1b}[1;31merror\u{1b}[0m: x\ty"), "error: x    y");
        assert_eq!(readable("a\u{1b}]0;title\u{7}b\u{1b}[2"), "a\\u{1b}]0;title\\u{7}b");
    }
}
