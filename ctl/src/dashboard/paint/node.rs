//! Three lines about the node.

use hull_proto::v1::DiskUsage;
use ratatui::buffer::Buffer;
use ratatui::layout::Rect;
use ratatui::style::Style;
use ratatui::text::{Line, Span};
use ratatui::widgets::Widget as _;

use super::super::app::{Node, memory};
use super::super::history::History;
use super::super::row::{float, percent_of};
use super::super::theme::Theme;
use super::words::{percent, stalls};
use super::{cell, line};
use crate::output::{bytes, bytes_decimal};

const LABEL: usize = 5;
const AMOUNT: usize = 22;
/// Cells of what is said beside an amount; where there are as many again, the history is shown, too.
const BESIDE: usize = 36;

/// One line: how much of something is taken.
struct Gauge<'a> {
    label: &'static str,
    percent: Option<f64>,
    amount: String,
    beside: String,
    /// What was, what is a whole bar of it, and how it looks.
    history: Option<(&'a History, u64, Style)>,
}

/// Paints it.
pub(super) fn paint(buffer: &mut Buffer, area: Rect, node: &Node, theme: Theme) {
    for (at, gauge) in (0..).zip([processors(node, theme), memory_of(node, theme), disk(node)]) {
        let area = line(area, at);
        gauge.line(area.width.into(), theme).render(area, buffer);
    }
}

fn processors(node: &Node, theme: Theme) -> Gauge<'_> {
    let cpus = node.last.as_ref().and_then(|stats| stats.cpu.as_ref()).map_or(0, |cpu| cpu.cpus);
    let load = node.last.as_ref().and_then(|stats| stats.load.as_ref());
    let load = load.map(|load| format!("load {:.2} {:.2} {:.2}", load.load1, load.load5, load.load15));
    Gauge {
        label: "CPU",
        percent: node.busy.filter(|_| cpus > 0).map(|busy| busy / f64::from(cpus)),
        amount: format!("{}% of {cpus} cpus", percent(node.busy)),
        beside: load.unwrap_or_default(),
        history: Some((&node.cpu, u64::from(cpus) * 10_000, theme.cpu())),
    }
}

fn memory_of(node: &Node, theme: Theme) -> Gauge<'_> {
    let known = node.last.as_ref().and_then(memory);
    let amount = known.map(|(used, total)| format!("{} of {}", bytes(used), bytes(total)));
    Gauge {
        label: "Mem",
        percent: known.and_then(|(used, total)| percent_of(used, total)),
        amount: amount.unwrap_or_default(),
        beside: stalls(node.last.as_ref().and_then(|stats| stats.pressure.as_ref())),
        history: known.map(|(_, total)| (&node.memory, total, theme.memory())),
    }
}

/// The file system of images and containers.
fn disk(node: &Node) -> Gauge<'_> {
    let known = node.last.as_ref().and_then(|stats| stats.disk.as_ref());
    let known = known.map(|disk| (disk.bytes.saturating_sub(disk.free_bytes), disk.bytes));
    let amount = known.map(|(used, total)| format!("{} of {}", bytes_decimal(used), bytes_decimal(total)));
    let store = node.disk.as_ref().map(|usage| {
        let of = |usage: &Option<DiskUsage>| usage.as_ref().map_or(0, |usage| usage.bytes);
        let containers = of(&usage.containers).saturating_add(of(&usage.logs));
        format!("images {} containers {}", bytes_decimal(of(&usage.images)), bytes_decimal(containers))
    });
    Gauge {
        label: "Store",
        percent: known.and_then(|(used, total)| percent_of(used, total)),
        amount: amount.unwrap_or_default(),
        beside: store.unwrap_or_default(),
        history: None,
    }
}

impl Gauge<'_> {
    fn line(self, width: usize, theme: Theme) -> Line<'static> {
        let bar = (width / 5).clamp(8, 40);
        #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "a share of some cells")]
        let full =
            self.percent.map_or(0, |percent| (percent.clamp(0.0, 100.0) / 100.0 * float(bar as u64)).round() as usize);
        let mut spans = vec![
            Span::styled(cell(self.label, LABEL + 1, false), theme.heading()),
            Span::styled("█".repeat(full), theme.share(self.percent.unwrap_or_default())),
            Span::styled("░".repeat(bar - full), theme.quiet()),
            Span::raw(" "),
            Span::raw(cell(&self.amount, AMOUNT, false)),
        ];
        let left = width.saturating_sub(LABEL + 1 + bar + 1 + AMOUNT);
        let beside = self.beside;
        match self.history.filter(|_| left >= BESIDE * 2) {
            Some((history, most, style)) => {
                spans.push(Span::raw(cell(&beside, BESIDE, false)));
                spans.push(Span::styled(history.line(left - BESIDE, most), style));
            }
            None => spans.push(Span::raw(cell(&beside, left, false))),
        }
        Line::from(spans)
    }
}
