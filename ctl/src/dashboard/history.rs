//! What a value was, reading by reading.

use std::collections::VecDeque;

/// Readings that are kept: more than fit a wide terminal.
const KEPT: usize = 240;
/// From nothing to all.
const LEVELS: [char; 8] = ['▁', '▂', '▃', '▄', '▅', '▆', '▇', '█'];

/// The last readings of a value, oldest first.
#[derive(Debug, Clone, Default)]
pub(super) struct History(VecDeque<u64>);

impl History {
    /// Adds a reading; the oldest goes where there are too many.
    pub(super) fn push(&mut self, value: u64) {
        if self.0.len() == KEPT {
            self.0.pop_front();
        }
        self.0.push_back(value);
    }

    /// Adds a share in percent, which is kept in hundredths.
    pub(super) fn push_percent(&mut self, share: f64) {
        #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "a share is small and positive")]
        self.push((share * 100.0) as u64);
    }

    /// The last `count` readings, oldest first.
    pub(super) fn last(&self, count: usize) -> impl Iterator<Item = u64> {
        self.0.iter().skip(self.0.len().saturating_sub(count)).copied()
    }

    /// The largest of the last `count`.
    pub(super) fn most(&self, count: usize) -> u64 {
        self.last(count).max().unwrap_or_default()
    }

    /// The last `width` readings as a line of bars, the newest at its right end; `full` or more is a whole bar.
    pub(super) fn line(&self, width: usize, full: u64) -> String {
        let bars: String = self.last(width).map(|value| LEVELS[eighths(value, full)]).collect();
        format!("{bars:>width$}")
    }
}

/// Of `full` in eighths, less one.
fn eighths(value: u64, full: u64) -> usize {
    let eighths = u128::from(value) * 8 / u128::from(full.max(1));
    usize::try_from(eighths).unwrap_or(usize::MAX).min(LEVELS.len() - 1)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_newest_are_kept() {
        let mut history = History::default();
        (0..1000).for_each(|value| history.push(value));
        assert_eq!(history.last(usize::MAX).count(), KEPT);
        assert_eq!(history.last(2).collect::<Vec<_>>(), [998, 999]);
        assert_eq!((history.most(3), History::default().most(3)), (999, 0));
    }

    #[test]
    fn lines_are_right_aligned_and_scaled() {
        let mut history = History::default();
        [0, 50, 100, 400].into_iter().for_each(|value| history.push(value));
        assert_eq!(history.line(6, 100), "  ▁▅██");
        assert_eq!(history.line(2, 800), "▂▅");
        assert_eq!(History::default().line(3, 0), "   ");
        history.push(u64::MAX);
        assert_eq!(history.line(1, 1), "█");
    }
}
