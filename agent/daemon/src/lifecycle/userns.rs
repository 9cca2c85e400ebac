//! Ranges of host ids for user namespaces: 65536 ids each, no two containers share any.

use std::collections::BTreeSet;
use std::sync::{Mutex, PoisonError};

use crate::error::{Error, Reason, Result};

/// Ids of one range.
pub(crate) const RANGE: u32 = 65536;

/// Who has which range. Remembered in the containers' records, rebuilt from them.
#[derive(Debug)]
pub(crate) struct UsernsRanges {
    base: u32,
    count: u32,
    taken: Mutex<BTreeSet<u32>>,
}

impl UsernsRanges {
    /// `count` ranges from the host id `base` on.
    pub(crate) fn new(base: u32, count: u32) -> Self {
        Self { base, count, taken: Mutex::new(BTreeSet::new()) }
    }

    /// Takes the lowest free range: its first host id.
    pub(crate) fn take(&self) -> Result<u32> {
        let mut taken = self.taken.lock().unwrap_or_else(PoisonError::into_inner);
        let free = (0..self.count).map(|index| self.base + index * RANGE).find(|base| !taken.contains(base));
        let base = free.ok_or_else(|| {
            Error::new(Reason::LimitExceeded, format!("all {} ranges of user namespace ids are in use", self.count))
                .hint("remove containers, or raise userns.count in the configuration")
        })?;
        taken.insert(base);
        Ok(base)
    }

    /// Marks a range of a record as taken.
    pub(crate) fn adopt(&self, base: u32) {
        self.taken.lock().unwrap_or_else(PoisonError::into_inner).insert(base);
    }

    /// Gives a range back.
    pub(crate) fn release(&self, base: u32) {
        self.taken.lock().unwrap_or_else(PoisonError::into_inner).remove(&base);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ranges_are_distinct_reused_and_bounded() {
        let ranges = UsernsRanges::new(1 << 19, 2);
        ranges.adopt(1 << 19);
        let second = ranges.take().expect("one is free");
        assert_eq!(second, (1 << 19) + RANGE);
        assert_eq!(ranges.take().expect_err("none is free").reason, Reason::LimitExceeded);
        ranges.release(second);
        assert_eq!(ranges.take().expect("free again"), second);
    }
}
