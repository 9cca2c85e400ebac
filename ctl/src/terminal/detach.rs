//! The keys that end an attachment.

use crate::error::{Error, Result};

/// Finds a sequence of keys in what is typed, and lets everything else through.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct DetachKeys {
    keys: Vec<u8>,
    /// Typed keys that may be the beginning of the sequence.
    held: Vec<u8>,
}

impl DetachKeys {
    /// From Docker's syntax: single characters or ctrl-X, with commas between; nothing for an empty text.
    pub(crate) fn parse(text: &str) -> Result<Option<Self>> {
        if text.is_empty() {
            return Ok(None);
        }
        let key = |part: &str| match *part.as_bytes() {
            [key] => Some(key),
            [b'c', b't', b'r', b'l', b'-', key] => match key.to_ascii_lowercase() {
                // The control keys of ASCII are the characters from @ on less 64.
                key @ b'a'..=b'z' => Some(key - b'a' + 1),
                key @ (b'@' | b'['..=b'_') => Some(key - b'@'),
                _ => None,
            },
            _ => None,
        };
        let keys = text.split(',').map(key).collect::<Option<Vec<u8>>>();
        let wrong = || Error::new(format!("--detach-keys {text}: expected keys such as ctrl-p,ctrl-q or ctrl-a,d"));
        Ok(Some(Self { keys: keys.ok_or_else(wrong)?, held: Vec::new() }))
    }

    /// What of `typed` goes to the container; whether the sequence is complete (what follows it is dropped).
    pub(crate) fn pass(&mut self, typed: &[u8]) -> (Vec<u8>, bool) {
        let mut through = Vec::with_capacity(typed.len());
        for &key in typed {
            self.held.push(key);
            // What is held is always the longest end of the input that begins the sequence.
            while !self.keys.starts_with(&self.held) {
                through.push(self.held.remove(0));
            }
            if self.held.len() == self.keys.len() {
                self.held.clear();
                return (through, true);
            }
        }
        (through, false)
    }

    /// Keys still held when no more will be typed.
    pub(crate) fn rest(&mut self) -> Vec<u8> {
        std::mem::take(&mut self.held)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn keys(text: &str) -> DetachKeys {
        DetachKeys::parse(text).unwrap().unwrap()
    }

    #[test]
    fn syntax() {
        assert_eq!(keys("ctrl-p,ctrl-q").keys, [0x10, 0x11]);
        assert_eq!(keys("ctrl-@,a,ctrl-[,ctrl-_,ctrl-A").keys, [0, b'a', 0x1b, 0x1f, 1]);
        assert_eq!(DetachKeys::parse("").unwrap(), None);
        for wrong in ["ctrl-", "ctrl-1", "ab", "a,", "alt-x"] {
            assert!(DetachKeys::parse(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn a_whole_sequence_detaches_wherever_it_is_cut() {
        let mut matcher = keys("ctrl-p,ctrl-q");
        assert_eq!(matcher.pass(b"ab\x10"), (b"ab".to_vec(), false));
        assert_eq!(matcher.pass(b"\x11rest"), (Vec::new(), true));
    }

    #[test]
    fn a_part_of_it_goes_through_in_order() {
        let mut matcher = keys("ctrl-p,ctrl-q");
        assert_eq!(matcher.pass(b"\x10x"), (b"\x10x".to_vec(), false));
        assert_eq!(matcher.pass(b"\x10\x10"), (b"\x10".to_vec(), false));
        assert_eq!(matcher.pass(b"\x11"), (Vec::new(), true));
        assert_eq!(matcher.pass(b"\x10"), (Vec::new(), false));
        assert_eq!(matcher.rest(), b"\x10");
    }

    #[test]
    fn sequences_that_overlap_themselves() {
        let mut matcher = keys("a,a,b");
        assert_eq!(matcher.pass(b"aaab"), (b"a".to_vec(), true));
        let mut matcher = keys("a,b,a,c");
        assert_eq!(matcher.pass(b"ababac"), (b"ab".to_vec(), true));
    }
}
