//! The containers that are known, those that are shown, and the one that is chosen.

use std::collections::HashMap;

use hull_proto::v1::{Container, ContainerState, ContainerStats, StreamStatsResponse};

use super::row::Row;
use super::sort::{Filter, Sort};

/// The table.
#[derive(Debug, Default)]
pub(super) struct Table {
    rows: HashMap<String, Row>,
    /// Ids of those that are shown, in their order.
    shown: Vec<String>,
    /// Id of the one that is chosen; it stays chosen wherever it moves.
    chosen: Option<String>,
    /// Somebody has chosen; before, it is whoever comes first.
    moved: bool,
    pub(super) sort: Sort,
    pub(super) filter: Filter,
}

impl Table {
    /// All containers that there are; what was read of them before stays.
    pub(super) fn replace(&mut self, containers: Vec<Container>) {
        let mut before = std::mem::take(&mut self.rows);
        for container in containers {
            let row = before.remove(&container.id);
            self.put(container, row);
        }
        self.arrange();
    }

    /// A container that is new, or another than it was.
    pub(super) fn change(&mut self, container: Container) {
        let row = self.rows.remove(&container.id);
        self.put(container, row);
        self.arrange();
    }

    fn put(&mut self, container: Container, before: Option<Row>) {
        let id = container.id.clone();
        let mut row = match before {
            Some(row) => Row { container, ..row },
            None => Row::new(container),
        };
        if row.container.pid == 0 {
            row.stopped();
        }
        self.rows.insert(id, row);
    }

    /// A container that is no more.
    pub(super) fn forget(&mut self, id: &str) {
        self.rows.remove(id);
        self.arrange();
    }

    /// A reading of all that run.
    pub(super) fn take(&mut self, frame: StreamStatsResponse) {
        for id in &frame.stopped {
            if let Some(row) = self.rows.get_mut(id) {
                row.stopped();
            }
        }
        for stats in frame.stats {
            self.rows.entry(stats.id.clone()).or_insert_with(|| unlisted(&stats)).take(stats);
        }
        self.arrange();
    }

    /// Puts those that are to be shown in order, after any change.
    pub(super) fn arrange(&mut self) {
        let at = self.position().filter(|_| self.moved);
        if !self.moved {
            self.chosen = None;
        }
        let mut shown: Vec<(&String, &Row)> = self.rows.iter().filter(|(_, row)| self.filter.shows(row)).collect();
        shown.sort_by(|(_, a), (_, b)| self.sort.compare(a, b));
        self.shown = shown.into_iter().map(|(id, _)| id.clone()).collect();
        if self.position().is_none() {
            // Who stood where the lost one did is chosen.
            let last = self.shown.len().saturating_sub(1);
            self.chosen = self.shown.get(at.unwrap_or_default().min(last)).cloned();
        }
    }

    /// Where the chosen one stands.
    pub(super) fn position(&self) -> Option<usize> {
        let chosen = self.chosen.as_ref()?;
        self.shown.iter().position(|id| id == chosen)
    }

    /// Chooses another, so many places on; it ends at the ends.
    pub(super) fn step(&mut self, places: isize) {
        self.moved = true;
        let last = self.shown.len().saturating_sub(1);
        let at = self.position().unwrap_or_default().saturating_add_signed(places).min(last);
        self.chosen = self.shown.get(at).cloned();
    }

    /// The chosen one.
    pub(super) fn chosen(&self) -> Option<&Row> {
        self.rows.get(self.chosen.as_ref()?).filter(|_| self.position().is_some())
    }

    /// A container by its id.
    pub(super) fn row(&self, id: &str) -> Option<&Row> {
        self.rows.get(id)
    }

    /// Those that are shown, from one place on.
    pub(super) fn shown(&self, from: usize) -> impl Iterator<Item = &Row> {
        self.shown.iter().skip(from).filter_map(|id| self.rows.get(id))
    }

    /// How many are shown.
    pub(super) fn len(&self) -> usize {
        self.shown.len()
    }

    /// How many run, and how many there are.
    pub(super) fn counts(&self) -> (usize, usize) {
        let runs = Filter::default();
        (self.rows.values().filter(|row| runs.shows(row)).count(), self.rows.len())
    }
}

/// A container that was read before it was told of.
fn unlisted(stats: &ContainerStats) -> Row {
    let (id, name) = (stats.id.clone(), stats.name.clone());
    Row::new(Container { id, name, state: ContainerState::Running.into(), pid: -1, ..Container::default() })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn container(id: &str, state: ContainerState) -> Container {
        let pid = i32::from(state == ContainerState::Running);
        Container { id: id.into(), name: format!("n{id}"), state: state.into(), pid, ..Container::default() }
    }

    fn table() -> Table {
        let mut table = Table::default();
        let running = ["a", "b", "c"].map(|id| container(id, ContainerState::Running));
        table.replace(running.into_iter().chain([container("d", ContainerState::Exited)]).collect());
        table
    }

    fn names(table: &Table) -> Vec<&str> {
        table.shown(0).map(Row::name).collect()
    }

    #[test]
    fn the_chosen_one_stays_so_wherever_it_moves() {
        let mut table = table();
        assert_eq!((names(&table), table.counts()), (vec!["na", "nb", "nc"], (3, 4)));
        assert_eq!(table.position(), Some(0));
        table.step(1);
        let stats = |id: &str, used: u64| ContainerStats {
            id: id.into(),
            monotonic_nanos: used * 10,
            cpu: Some(hull_proto::v1::CpuStats { usage_nanos: Some(used * used), ..Default::default() }),
            ..Default::default()
        };
        for at in [1, 2] {
            let stats = vec![stats("a", at), stats("b", at), stats("c", at * 3)];
            table.take(StreamStatsResponse { stats, ..Default::default() });
        }
        assert_eq!(names(&table), ["nc", "na", "nb"]);
        assert_eq!((table.position(), table.chosen().map(Row::name)), (Some(2), Some("nb")));
        table.forget("b");
        assert_eq!(table.chosen().map(Row::name), Some("na"));
        table.step(-9);
        assert_eq!(table.position(), Some(0));
        table.step(99);
        assert_eq!(table.position(), Some(1));
    }

    #[test]
    fn what_ends_goes_from_sight_and_what_was_read_stays() {
        let mut table = table();
        table.take(StreamStatsResponse {
            stats: vec![ContainerStats { id: "x".into(), name: "nx".into(), ..Default::default() }],
            ..Default::default()
        });
        assert_eq!(names(&table), ["na", "nb", "nc", "nx"]);
        table.change(container("x", ContainerState::Exited));
        table.change(container("a", ContainerState::Exited));
        assert_eq!(names(&table), ["nb", "nc"]);
        table.filter.all = true;
        table.filter.text = "n".into();
        table.arrange();
        assert_eq!(table.len(), 5);
        table.filter.text = "nothing".into();
        table.arrange();
        assert!(table.chosen().is_none() && table.len() == 0);
        table.step(1);
        table.filter.text.clear();
        table.arrange();
        assert_eq!(table.position(), Some(0));
    }
}
