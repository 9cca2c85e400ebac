//! User strings: "user", "user:group"; names or decimal ids.
//!
//! Strict, for a string that is read wrong must never become user 0: an id has no sign, no leading zero and fits; a name
//! is a portable one. Names are looked up in the container by the shim.

use std::fmt;

use crate::error::{Error, Result};

/// Largest id: the next one is the kernel's "no id".
const MAX_ID: u64 = 4_294_967_294;
/// Longest name in bytes.
const MAX_NAME: usize = 256;

/// A user as it was asked for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct UserSpec {
    /// Name or decimal id.
    pub(crate) user: String,
    /// Name or decimal id; `None`: the user's own.
    pub(crate) group: Option<String>,
}

impl UserSpec {
    /// Reads "user" or "user:group"; `field` is named in errors.
    pub(crate) fn parse(field: &str, text: &str) -> Result<Self> {
        let (user, group) = match text.split_once(':') {
            None => (text, None),
            Some((user, group)) => (user, Some(group)),
        };
        check_name_or_id(field, "user", user)?;
        if let Some(group) = group {
            check_name_or_id(field, "group", group)?;
        }
        Ok(Self { user: user.to_owned(), group: group.map(str::to_owned) })
    }

    /// User 0 with its own group.
    pub(crate) fn root() -> Self {
        Self { user: "0".to_owned(), group: None }
    }

    /// The ids, where they are given as numbers.
    pub(crate) fn numeric(&self) -> (Option<u32>, Option<u32>) {
        (self.user.parse().ok(), self.group.as_ref().and_then(|group| group.parse().ok()))
    }
}

impl fmt::Display for UserSpec {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.user)?;
        self.group.iter().try_for_each(|group| write!(f, ":{group}"))
    }
}

/// Checks one name or decimal id; `what` is "user" or "group".
pub(crate) fn check_name_or_id(field: &str, what: &str, text: &str) -> Result<()> {
    let problem = if text.is_empty() {
        format!("the {what} is empty")
    } else if text.len() > MAX_NAME {
        format!("the {what} is longer than {MAX_NAME} bytes")
    } else if text.bytes().all(|byte| byte.is_ascii_digit()) {
        match text.parse::<u64>() {
            Ok(id) if id <= MAX_ID && (id == 0) == (text == "0") && (id == 0 || !text.starts_with('0')) => {
                return Ok(());
            }
            Ok(id) if id <= MAX_ID => format!("{what} id {text:?} has a leading zero"),
            _ => format!("{what} id {text:?} is larger than {MAX_ID}"),
        }
    } else if is_portable_name(text) {
        return Ok(());
    } else {
        format!("{text:?} is neither a {what} name nor a decimal id")
    };
    Err(Error::invalid(field, problem))
}

/// The names that useradd(8) takes, and dots and upper case, which it takes when told to. No leading digit: "0x0" is
/// no name.
fn is_portable_name(text: &str) -> bool {
    let body = text.strip_suffix('$').unwrap_or(text);
    let first = body.bytes().next().is_some_and(|byte| byte.is_ascii_alphabetic() || byte == b'_');
    first && body.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"_.-".contains(&byte))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn accepts() {
        for text in ["0", "root", "1000", "4294967294", "www-data:www-data", "app:0", "0:0", "svc.a_b$"] {
            assert_eq!(UserSpec::parse("config.user", text).unwrap().to_string(), text);
        }
    }

    #[test]
    fn refuses() {
        for text in [
            "",
            ":",
            "0:",
            ":0",
            "a:b:c",
            "00",
            "01",
            "4294967295",
            "4294967296",
            "18446744073709551616",
            "-1",
            "+0",
            " 0",
            "0 ",
            "0x0",
            "0\n",
            "root\0",
            "a/b",
            "é",
            "$",
            "-a",
            ".a",
        ] {
            let error = UserSpec::parse("config.user", text).unwrap_err();
            assert!(error.message.starts_with("config.user: "), "{text:?}: {error}");
        }
    }

    proptest! {
        /// CVE-2024-40635, CVE-2026-30892: no string but "0" becomes id 0.
        #[test]
        fn never_zero_unasked(text in "[-+ 0-9a-z:_\\n]{0,24}") {
            if let Ok(user) = UserSpec::parse("u", &text) {
                if user.numeric().0 == Some(0) {
                    prop_assert_eq!(&user.user, "0");
                }
                if user.numeric().1 == Some(0) {
                    prop_assert_eq!(user.group.as_deref(), Some("0"));
                }
            }
        }

        #[test]
        fn large_ids(id in 0u64..) {
            prop_assert_eq!(UserSpec::parse("u", &id.to_string()).is_ok(), id <= MAX_ID);
        }
    }
}
