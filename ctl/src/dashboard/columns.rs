//! Which columns a table has, and how wide they are.

use super::sort::Key;

/// What a column shows.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Column {
    Name,
    Cpu,
    CpuHistory,
    Memory,
    MemoryShare,
    MemoryHistory,
    Pids,
    State,
    Age,
    Received,
    Sent,
    Read,
    Written,
    Throttled,
    Image,
    Id,
}

/// A column and its width in cells.
pub(super) type Sized = (Column, usize);

/// Cells between columns.
pub(super) const GAP: usize = 1;
/// Columns in their order on the screen, each with its least and its largest width.
const ORDER: [(Column, usize, usize); 16] = [
    (Column::Name, 14, 32),
    (Column::State, 8, 8),
    (Column::Cpu, 7, 7),
    (Column::CpuHistory, 8, 24),
    (Column::Memory, 8, 8),
    (Column::MemoryShare, 6, 6),
    (Column::MemoryHistory, 8, 24),
    (Column::Pids, 5, 5),
    (Column::Received, 9, 9),
    (Column::Sent, 9, 9),
    (Column::Read, 9, 9),
    (Column::Written, 9, 9),
    (Column::Throttled, 6, 6),
    (Column::Age, 7, 7),
    (Column::Image, 16, 40),
    (Column::Id, 12, 12),
];
/// Which columns are let in first where there is no room for all.
const PRIORITY: [Column; 16] = [
    Column::Name,
    Column::Cpu,
    Column::Memory,
    Column::State,
    Column::CpuHistory,
    Column::MemoryHistory,
    Column::MemoryShare,
    Column::Pids,
    Column::Age,
    Column::Received,
    Column::Sent,
    Column::Read,
    Column::Written,
    Column::Image,
    Column::Throttled,
    Column::Id,
];

impl Column {
    /// Its heading.
    pub(super) fn heading(self) -> &'static str {
        match self {
            Self::Name => "NAME",
            Self::Cpu => "CPU %",
            Self::CpuHistory | Self::MemoryHistory => "",
            Self::Memory => "MEM",
            Self::MemoryShare => "MEM %",
            Self::Pids => "PIDS",
            Self::State => "STATE",
            Self::Age => "AGE",
            Self::Received => "NET RX/s",
            Self::Sent => "NET TX/s",
            Self::Read => "READ/s",
            Self::Written => "WRITE/s",
            Self::Throttled => "THROT",
            Self::Image => "IMAGE",
            Self::Id => "ID",
        }
    }

    /// Whether its text stands at the right: numbers do.
    pub(super) fn at_right(self) -> bool {
        !matches!(self, Self::Name | Self::State | Self::Image | Self::Id | Self::CpuHistory | Self::MemoryHistory)
    }

    /// What it is sorted by.
    pub(super) fn key(self) -> Option<Key> {
        match self {
            Self::Name => Some(Key::Name),
            Self::Cpu => Some(Key::Cpu),
            Self::Memory => Some(Key::Memory),
            Self::Pids => Some(Key::Pids),
            Self::State => Some(Key::State),
            Self::Age => Some(Key::Age),
            Self::Received => Some(Key::Network),
            Self::Read => Some(Key::Disk),
            _ => None,
        }
    }
}

/// The columns that fit a width, with what they get of it. What is left is shared out to those that can use it: first names,
/// then images, then histories.
pub(super) fn fitting(width: usize) -> Vec<Sized> {
    let mut chosen = Vec::new();
    let mut left = (width + GAP).saturating_sub(ORDER[0].1 + GAP);
    chosen.push(Column::Name);
    for column in &PRIORITY[1..] {
        let least = ORDER.iter().find(|(other, ..)| other == column).map_or(0, |(_, least, _)| *least);
        // The first that does not fit ends it: which columns there are is easier to foresee so.
        let Some(rest) = left.checked_sub(least + GAP) else { break };
        left = rest;
        chosen.push(*column);
    }
    let mut columns: Vec<(Column, usize, usize)> =
        ORDER.into_iter().filter(|(column, ..)| chosen.contains(column)).collect();
    for wanting in [&[Column::Name][..], &[Column::Image], &[Column::CpuHistory, Column::MemoryHistory]] {
        let growing = columns.iter().filter(|(column, ..)| wanting.contains(column)).count();
        let mut share = left / growing.max(1);
        for (_, now, most) in columns.iter_mut().filter(|(column, ..)| wanting.contains(column)) {
            share = share.min(left);
            let more = share.min(*most - *now);
            *now += more;
            left -= more;
        }
    }
    columns.into_iter().map(|(column, now, _)| (column, now)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn taken(columns: &[Sized]) -> usize {
        columns.iter().map(|(_, width)| width).sum::<usize>() + GAP * (columns.len() - 1)
    }

    #[test]
    fn every_column_has_its_place() {
        for (column, least, most) in ORDER {
            assert!(PRIORITY.contains(&column) && least <= most && column.heading().len() <= least, "{column:?}");
        }
    }

    #[test]
    fn columns_fit_every_width_and_none_goes_as_it_grows() {
        let mut before = 0;
        for width in 14..300 {
            let columns = fitting(width);
            assert!(taken(&columns) <= width, "{width}: {columns:?}");
            assert!(columns.len() >= before, "{width}: {columns:?}");
            before = columns.len();
        }
        assert_eq!(before, ORDER.len());
    }

    #[test]
    fn a_small_terminal_has_what_counts_and_a_large_one_all() {
        let names = |width| fitting(width).into_iter().map(|(column, _)| column).collect::<Vec<_>>();
        let small = [
            Column::Name,
            Column::State,
            Column::Cpu,
            Column::CpuHistory,
            Column::Memory,
            Column::MemoryShare,
            Column::MemoryHistory,
            Column::Pids,
            Column::Age,
        ];
        assert_eq!(names(80), small);
        assert_eq!(taken(&fitting(80)), 80);
        assert_eq!(names(200).len(), ORDER.len());
        assert_eq!(names(10), [Column::Name]);
    }
}
