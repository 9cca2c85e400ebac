//! Which containers.

use std::collections::{BTreeMap, BTreeSet};

use super::sample::Identity;

/// Which containers.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Selector {
    /// Ids. Empty: all that are registered, those that come later included.
    pub(crate) ids: BTreeSet<String>,
    /// All of these labels; an empty value matches any value.
    pub(crate) labels: BTreeMap<String, String>,
}

impl Selector {
    pub(super) fn matches(&self, identity: &Identity) -> bool {
        (self.ids.is_empty() || self.ids.contains(&*identity.id))
            && self
                .labels
                .iter()
                .all(|(key, value)| identity.labels.get(key).is_some_and(|found| value.is_empty() || found == value))
    }
}
