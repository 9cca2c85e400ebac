//! Pages of lists that are sorted newest first.

use std::cmp::Reverse;

use crate::error::{Error, Result};

/// Entries of a page where the request does not say.
const DEFAULT_SIZE: usize = 100;
/// Most entries of a page.
const MAX_SIZE: usize = 1000;
/// Bytes at which a page ends early: half of the size of a message that every gRPC client takes.
const MAX_BYTES: usize = 2 * 1024 * 1024;
/// Digits of the time in a token.
const TIME_DIGITS: usize = 16;

/// Place of an entry in the order: newest first, then by identity.
type Key = (Reverse<u64>, String);

/// Which part of a list.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Page {
    size: usize,
    after: Option<Key>,
}

impl Page {
    /// The page that `page_size` and `page_token` of a request ask for.
    pub(crate) fn parse(size: i32, token: &str) -> Result<Self> {
        let size = match usize::try_from(size) {
            Ok(0) => DEFAULT_SIZE,
            Ok(size) if size <= MAX_SIZE => size,
            _ => return Err(Error::invalid("page_size", format!("must be between 1 and {MAX_SIZE}"))),
        };
        let after = (!token.is_empty()).then(|| decode(token)).transpose()?;
        Ok(Self { size, after })
    }

    /// The entries of this page, rendered, and the token of the next one (empty on the last).
    /// `key` gives time and identity of an entry, `weigh` the encoded size of a rendered one.
    pub(crate) fn cut<T, U>(
        &self,
        mut entries: Vec<T>,
        key: impl Fn(&T) -> (u64, &str),
        render: impl Fn(&T) -> U,
        weigh: impl Fn(&U) -> usize,
    ) -> (Vec<U>, String) {
        let place = |entry: &T| -> Key {
            let (time, identity) = key(entry);
            (Reverse(time), identity.to_owned())
        };
        if let Some(after) = &self.after {
            entries.retain(|entry| place(entry) > *after);
        }
        entries.sort_by_cached_key(&place);
        let mut rendered = Vec::new();
        let mut bytes = 0;
        for (index, entry) in entries.iter().enumerate() {
            let item = render(entry);
            bytes += weigh(&item);
            if index > 0 && (index == self.size || bytes > MAX_BYTES) {
                return (rendered, encode(&place(&entries[index - 1])));
            }
            rendered.push(item);
        }
        (rendered, String::new())
    }
}

fn encode((Reverse(time), identity): &Key) -> String {
    format!("{time:0TIME_DIGITS$x}{identity}")
}

fn decode(token: &str) -> Result<Key> {
    let malformed = || Error::invalid("page_token", "is not one that this agent gave out");
    let (time, identity) = token.split_at_checked(TIME_DIGITS).ok_or_else(malformed)?;
    let time = u64::from_str_radix(time, 16).map_err(|_| malformed())?;
    Ok((Reverse(time), identity.to_owned()))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn walk(mut entries: Vec<(u64, String)>, size: i32, weight: usize) -> Vec<(u64, String)> {
        let (mut seen, mut token) = (Vec::new(), String::new());
        loop {
            let page = Page::parse(size, &token).unwrap();
            let (items, next) = page.cut(entries.clone(), |e| (e.0, e.1.as_str()), |e| e.clone(), |_| weight);
            assert!(!items.is_empty() || next.is_empty());
            seen.extend(items);
            if next.is_empty() {
                return seen;
            }
            token = next;
            entries.rotate_left(1);
        }
    }

    proptest! {
        #[test]
        fn all_pages_together_are_the_list(
            times in proptest::collection::vec(0u64..4, 0..40), size in 1i32..7, weight in 0usize..(3 << 20)
        ) {
            let entries: Vec<_> = times.iter().enumerate().map(|(n, t)| (*t, format!("{n:03}"))).collect();
            let mut expected = entries.clone();
            expected.sort_by_key(|(time, id)| (Reverse(*time), id.clone()));
            prop_assert_eq!(walk(entries, size, weight), expected);
        }

        #[test]
        fn no_token_panics(token: String) {
            let _ = Page::parse(0, &token);
        }
    }

    #[test]
    fn sizes_out_of_range_are_refused() {
        assert!(Page::parse(-1, "").is_err());
        assert!(Page::parse(1001, "").is_err());
        assert_eq!(Page::parse(0, "").unwrap().size, DEFAULT_SIZE);
    }

    #[test]
    fn a_foreign_token_is_refused() {
        assert_eq!(Page::parse(0, "nope").unwrap_err().message, "page_token: is not one that this agent gave out");
        assert!(Page::parse(0, "zzzzzzzzzzzzzzzzabc").is_err());
    }
}
