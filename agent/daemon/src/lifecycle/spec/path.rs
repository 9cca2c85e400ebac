//! Absolute paths given by users, as text: never followed here, only made plain.

use crate::error::{Error, Result};

/// PATH_MAX less its NUL.
const MAX_PATH: usize = 4095;

/// The path without empty and "." parts. Refused: a relative one, "..", NUL, an overlong one.
pub(crate) fn absolute(field: &str, path: &str) -> Result<String> {
    let problem = if path.is_empty() {
        "the path is empty".to_owned()
    } else if path.len() > MAX_PATH {
        format!("the path is longer than {MAX_PATH} bytes")
    } else if path.contains('\0') {
        "the path holds a NUL".to_owned()
    } else if !path.starts_with('/') {
        format!("{path:?} is not absolute")
    } else if path.split('/').any(|part| part == "..") {
        format!("{path:?} holds \"..\"")
    } else {
        let parts: Vec<&str> = path.split('/').filter(|part| !part.is_empty() && *part != ".").collect();
        return Ok(format!("/{}", parts.join("/")));
    };
    Err(Error::invalid(field, problem))
}

/// Whether `path` is `top` or lies below it; both as [`absolute`] returns them.
pub(crate) fn is_within(path: &str, top: &str) -> bool {
    top == "/" || path.strip_prefix(top).is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn plain() {
        assert_eq!(absolute("f", "//a/./b//").unwrap(), "/a/b");
        assert_eq!(absolute("f", "/").unwrap(), "/");
        assert_eq!(absolute("f", "/..a/b..").unwrap(), "/..a/b..");
    }

    #[test]
    fn refused() {
        for path in ["", "a", "./a", "/..", "/a/../b", "/a/..", "/a\0b", &"/a".repeat(3000)] {
            assert!(absolute("f", path).unwrap_err().message.starts_with("f: "));
        }
    }

    #[test]
    fn within() {
        assert!(is_within("/a/b", "/a") && is_within("/a", "/a") && is_within("/a", "/"));
        assert!(!is_within("/ab", "/a") && !is_within("/", "/a"));
    }
}
