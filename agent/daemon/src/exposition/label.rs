//! Values of labels, which come from whoever creates containers.

use std::borrow::Cow;

/// Most bytes of a label's value.
const MAX_LABEL: usize = 1024;

/// A label's value as it stands between the quotes of either format, cut where it is longer than fits.
pub(super) fn value(value: &str) -> Cow<'_, str> {
    let most = value.len().min(MAX_LABEL);
    let end = (0..=most).rev().find(|&end| value.is_char_boundary(end)).unwrap_or(0);
    let (value, cut) = (&value[..end], end < value.len());
    if !cut && !value.contains(['\\', '"', '\n']) {
        return Cow::Borrowed(value);
    }
    let mut escaped = String::with_capacity(value.len() + 8);
    for letter in value.chars() {
        match letter {
            '\\' => escaped.push_str("\\\\"),
            '"' => escaped.push_str("\\\""),
            '\n' => escaped.push_str("\\n"),
            letter => escaped.push(letter),
        }
    }
    if cut {
        escaped.push('…');
    }
    Cow::Owned(escaped)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_value_gets_out_of_its_quotes() {
        assert_eq!(value("plain/ünï"), "plain/ünï");
        assert_eq!(value("a\"} 1\n\\x"), "a\\\"} 1\\n\\\\x");
        let long = value(&"ü".repeat(4000)).into_owned();
        assert!(long.len() <= MAX_LABEL + '…'.len_utf8() && long.ends_with("ü…"), "{}", long.len());
        assert_eq!(value(&"x".repeat(MAX_LABEL)).len(), MAX_LABEL);
    }
}
