//! The order of the table, and which containers are in it.

use std::cmp::Ordering;

use hull_proto::v1::ContainerState;

use super::row::Row;

/// What containers are sorted by.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Key {
    Name,
    State,
    Cpu,
    Memory,
    Pids,
    Network,
    Disk,
    Age,
}

/// The keys in the order in which they are gone through.
pub(super) const KEYS: [Key; 8] =
    [Key::Cpu, Key::Memory, Key::Pids, Key::Network, Key::Disk, Key::Age, Key::State, Key::Name];

impl Key {
    /// What it is called.
    pub(super) fn name(self) -> &'static str {
        match self {
            Self::Name => "name",
            Self::State => "state",
            Self::Cpu => "cpu",
            Self::Memory => "memory",
            Self::Pids => "pids",
            Self::Network => "network",
            Self::Disk => "disk",
            Self::Age => "age",
        }
    }

    /// The letter that chooses it.
    pub(super) fn letter(self) -> char {
        match self {
            Self::Name => 'n',
            Self::State => 't',
            Self::Cpu => 'c',
            Self::Memory => 'm',
            Self::Pids => 'p',
            Self::Network => 'w',
            Self::Disk => 'd',
            Self::Age => 'u',
        }
    }
}

/// An order.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Sort {
    pub(super) key: Key,
    pub(super) reversed: bool,
}

impl Default for Sort {
    fn default() -> Self {
        Self { key: Key::Cpu, reversed: false }
    }
}

impl Sort {
    /// Chooses a key; the one that is chosen already turns the order round.
    pub(super) fn choose(&mut self, key: Key) {
        *self = Self { key, reversed: self.key == key && !self.reversed };
    }

    /// Goes on to another key.
    pub(super) fn step(&mut self, forward: bool) {
        let at = KEYS.iter().position(|key| *key == self.key).unwrap_or_default();
        let next = if forward { at + 1 } else { at + KEYS.len() - 1 };
        *self = Self { key: KEYS[next % KEYS.len()], reversed: false };
    }

    /// Names and states rise, quantities fall; what has no value comes last either way, and the same value is ordered by name.
    pub(super) fn compare(self, a: &Row, b: &Row) -> Ordering {
        let turned = |ordering: Ordering| if self.reversed { ordering.reverse() } else { ordering };
        let by_name = || a.name().cmp(b.name());
        match self.key {
            Key::Name => turned(by_name()),
            Key::State => turned(a.state_name().cmp(b.state_name())).then_with(by_name),
            key => match (a.value(key), b.value(key)) {
                (Some(a), Some(b)) => turned(b.total_cmp(&a)),
                (a, b) => b.is_some().cmp(&a.is_some()),
            }
            .then_with(by_name),
        }
    }
}

/// What is typed to narrow the table: all of these words are in the name, the id, the image, the state or a label.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Filter {
    pub(super) text: String,
    /// Those that do not run, too.
    pub(super) all: bool,
}

impl Filter {
    /// Whether a container is shown.
    pub(super) fn shows(&self, row: &Row) -> bool {
        let alive = !matches!(
            row.container.state(),
            ContainerState::Unspecified | ContainerState::Created | ContainerState::Exited | ContainerState::Removing
        );
        (alive || self.all) && self.text.split_whitespace().all(|word| fits(row, &word.to_lowercase()))
    }
}

fn fits(row: &Row, word: &str) -> bool {
    let within = |text: &str| text.to_lowercase().contains(word);
    let config = row.container.config.as_ref();
    within(row.name())
        || row.container.id.starts_with(word)
        || within(row.state_name())
        || config.is_some_and(|config| {
            within(&config.image) || config.labels.iter().any(|(key, value)| within(&format!("{key}={value}")))
        })
}

#[cfg(test)]
mod tests {
    use hull_proto::v1::{Container, ContainerConfig};

    use super::*;
    use crate::dashboard::row::Usage;

    fn row(name: &str, cpu: Option<f64>) -> Row {
        let config = ContainerConfig {
            image: "demo/Web:1".into(),
            labels: [("tier".to_owned(), "front".to_owned())].into(),
            ..ContainerConfig::default()
        };
        let container = Container {
            id: "abc".into(),
            name: name.into(),
            state: ContainerState::Running.into(),
            config: Some(config),
            ..Container::default()
        };
        let usage = Some(Usage { cpu, ..Usage::default() });
        Row { usage, ..Row::new(container) }
    }

    fn sorted(sort: Sort) -> Vec<String> {
        let mut rows = [row("b", Some(5.0)), row("d", None), row("a", Some(5.0)), row("c", Some(70.5))];
        rows.sort_by(|a, b| sort.compare(a, b));
        rows.iter().map(|row| row.name().to_owned()).collect()
    }

    #[test]
    fn the_largest_comes_first_and_what_is_not_known_last() {
        assert_eq!(sorted(Sort::default()), ["c", "a", "b", "d"]);
        assert_eq!(sorted(Sort { key: Key::Cpu, reversed: true }), ["a", "b", "c", "d"]);
        assert_eq!(sorted(Sort { key: Key::Name, reversed: false }), ["a", "b", "c", "d"]);
        assert_eq!(sorted(Sort { key: Key::Name, reversed: true }), ["d", "c", "b", "a"]);
        assert_eq!(sorted(Sort { key: Key::Memory, reversed: true }), ["a", "b", "c", "d"]);
    }

    #[test]
    fn keys_are_gone_through_and_turned() {
        let mut sort = Sort::default();
        sort.choose(Key::Cpu);
        assert!(sort.reversed);
        sort.choose(Key::Name);
        assert_eq!(sort, Sort { key: Key::Name, reversed: false });
        sort.step(true);
        assert_eq!(sort.key, Key::Cpu);
        sort.step(false);
        assert_eq!(sort.key, Key::Name);
        let mut letters: Vec<char> = KEYS.iter().map(|key| key.letter()).collect();
        letters.sort_unstable();
        letters.dedup();
        assert_eq!(letters.len(), KEYS.len());
    }

    #[test]
    fn filters_look_at_what_people_know() {
        let shows = |text: &str| Filter { text: text.into(), all: false }.shows(&row("Shop-1", None));
        for text in ["", "shop", "SHOP run", "web:1 shop", "abc", "front", "tier=fr", "  running  "] {
            assert!(shows(text), "{text}");
        }
        for text in ["bc", "shop x", "exited"] {
            assert!(!shows(text), "{text}");
        }
        let mut ended = row("x", None);
        ended.container.state = ContainerState::Exited.into();
        assert!(!Filter::default().shows(&ended) && Filter { all: true, ..Filter::default() }.shows(&ended));
    }
}
