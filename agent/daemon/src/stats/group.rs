//! Values that are read together, and sets of such groups.

/// A group of values.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Group {
    Cpu,
    Memory,
    Pids,
    Io,
    Hugetlb,
    Pressure,
    Network,
    WritableLayer,
    OpenFiles,
    /// Totals of the node, beside the containers.
    Node,
}

/// Which groups are wanted, or were read.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Groups(u16);

impl Groups {
    pub(crate) const NONE: Self = Self(0);
    /// All that a container has.
    pub(crate) const CONTAINER: Self = Self((1 << Group::Node as u16) - 1);

    /// Whether a group is among them.
    pub(crate) const fn has(self, group: Group) -> bool {
        self.0 & (1 << group as u16) != 0
    }

    /// These and one more.
    pub(crate) const fn with(self, group: Group) -> Self {
        Self(self.0 | (1 << group as u16))
    }

    /// These and those.
    pub(crate) const fn union(self, other: Self) -> Self {
        Self(self.0 | other.0)
    }

    /// Whether all of those are among these.
    pub(crate) const fn contain(self, other: Self) -> bool {
        self.0 & other.0 == other.0
    }

    /// Whether containers are read for them.
    pub(crate) const fn of_containers(self) -> bool {
        self.intersection(Self::CONTAINER).0 != 0
    }

    /// What is in both.
    pub(crate) const fn intersection(self, other: Self) -> Self {
        Self(self.0 & other.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sets_of_groups() {
        let few = Groups::NONE.with(Group::Cpu).with(Group::Network);
        assert!(few.has(Group::Cpu) && few.has(Group::Network) && !few.has(Group::Memory));
        assert!(Groups::CONTAINER.contain(few) && !few.contain(Groups::CONTAINER));
        assert!(Groups::CONTAINER.has(Group::WritableLayer) && !Groups::CONTAINER.has(Group::Node));
        let node = Groups::NONE.with(Group::Node);
        assert_eq!(few.union(node).intersection(Groups::CONTAINER), few);
    }
}
