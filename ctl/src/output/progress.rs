//! How far a long work is, for a person at a terminal: lines on standard error that change in place.

use std::io::{self, IsTerminal as _};

use indicatif::{MultiProgress, ProgressBar, ProgressDrawTarget, ProgressStyle};

/// A line while bytes come or go; the bar takes what is left of the terminal's width.
const MOVING: &str = "{prefix}: {msg:<13} [{wide_bar}] {decimal_bytes:>9}/{decimal_total_bytes:<9}";
/// Another line.
const STILL: &str = "{prefix}: {msg}";
/// A line that says only what its text says.
const TEXT: &str = "{wide_msg}";

/// One thing that is worked on.
#[derive(Debug)]
pub(crate) struct Step<'a> {
    /// What it is, in the same width for all.
    pub(crate) name: &'a str,
    /// What is being done.
    pub(crate) state: &'a str,
    /// Bytes done and to do, while it moves.
    pub(crate) bytes: Option<(u64, u64)>,
}

/// The lines. Nothing is shown where nobody looks, and none is in colour.
#[derive(Debug)]
pub(crate) struct Progress {
    area: MultiProgress,
    lines: Vec<Line>,
}

#[derive(Debug)]
struct Line {
    bar: ProgressBar,
    template: &'static str,
}

impl Progress {
    /// No line yet; never one where the caller wants it quiet, or standard error is no terminal that can move its cursor.
    pub(crate) fn new(quiet: bool) -> Self {
        let dumb = std::env::var_os("TERM").is_none_or(|term| term == "dumb");
        let shown = !quiet && !dumb && io::stderr().is_terminal();
        let target = if shown { ProgressDrawTarget::stderr() } else { ProgressDrawTarget::hidden() };
        Self { area: MultiProgress::with_draw_target(target), lines: Vec::new() }
    }

    /// Shows one of several things, counted from 0.
    pub(crate) fn step(&mut self, at: usize, step: &Step<'_>) {
        let template = if step.bytes.is_some() { MOVING } else { STILL };
        let bar = self.line(at, template);
        if bar.prefix() != step.name {
            bar.set_prefix(step.name.to_owned());
        }
        if let Some((done, total)) = step.bytes {
            bar.set_length(total);
            bar.set_position(done);
        }
        if bar.message() != step.state {
            bar.set_message(step.state.to_owned());
        }
    }

    /// Shows a text alone.
    pub(crate) fn text(&mut self, text: String) {
        self.line(0, TEXT).set_message(text);
    }

    /// Takes all lines away.
    pub(crate) fn clear(&mut self) {
        self.lines.drain(..).for_each(|line| line.bar.finish_and_clear());
    }

    fn line(&mut self, at: usize, template: &'static str) -> &ProgressBar {
        while self.lines.len() <= at {
            let bar = self.area.add(ProgressBar::new(0));
            self.lines.push(Line { bar, template: "" });
        }
        let line = &mut self.lines[at];
        if line.template != template {
            let style = ProgressStyle::with_template(template).unwrap_or_else(|_| ProgressStyle::default_bar());
            line.bar.set_style(style.progress_chars("=> "));
            line.template = template;
        }
        &line.bar
    }
}

/// The lines stay as they are, and what follows is written below.
impl Drop for Progress {
    fn drop(&mut self) {
        self.lines.iter().for_each(|line| line.bar.abandon());
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn templates_are_understood() {
        for template in [MOVING, STILL, TEXT] {
            ProgressStyle::with_template(template).unwrap();
        }
    }
}
