//! Commands as people write them.

use crate::error::{Error, Result};

/// A JSON array of strings, or words with blanks between; quotes and backslashes as in sh(1), without any expansion.
pub(crate) fn words(flag: &str, text: &str) -> Result<Vec<String>> {
    if text.starts_with('[') {
        return serde_json::from_str(text)
            .map_err(|error| Error::new(format!("{flag}: not a JSON array of strings: {error}")));
    }
    let unfinished = || Error::new(format!("{flag} {text}: ends within quotes or after a backslash"));
    let mut words = Vec::new();
    let mut word: Option<String> = None;
    let mut chars = text.chars();
    while let Some(c) = chars.next() {
        match c {
            c if c.is_whitespace() => words.extend(word.take()),
            '\\' => word.get_or_insert_default().push(chars.next().ok_or_else(unfinished)?),
            '\'' => {
                let word = word.get_or_insert_default();
                loop {
                    match chars.next().ok_or_else(unfinished)? {
                        '\'' => break,
                        c => word.push(c),
                    }
                }
            }
            '"' => quoted(&mut chars, word.get_or_insert_default()).ok_or_else(unfinished)?,
            c => word.get_or_insert_default().push(c),
        }
    }
    words.extend(word);
    Ok(words)
}

/// The rest of a text in double quotes, where a backslash takes the meaning of `"`, `\`, `$` and a backquote alone.
fn quoted(chars: &mut impl Iterator<Item = char>, word: &mut String) -> Option<()> {
    loop {
        match chars.next()? {
            '"' => return Some(()),
            '\\' => match chars.next()? {
                c @ ('"' | '\\' | '$' | '`') => word.push(c),
                c => word.extend(['\\', c]),
            },
            c => word.push(c),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_as_a_shell_splits_them() {
        for (text, expected) in [
            ("httpd -f", &["httpd", "-f"][..]),
            ("  a  'b c' \"d \\\" e\\n\" f\\ g ", &["a", "b c", "d \" e\\n", "f g"]),
            ("sh -c ''", &["sh", "-c", ""]),
            ("[\"a b\", \"c\"]", &["a b", "c"]),
            ("", &[]),
        ] {
            assert_eq!(words("--cmd", text).unwrap(), expected, "{text}");
        }
        for wrong in ["'a", "\"a", "a\\", "[1]", "[\"a\""] {
            assert!(words("--cmd", wrong).is_err(), "{wrong}");
        }
    }
}
