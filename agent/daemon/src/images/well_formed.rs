//! Whether all of a JSON text is well-formed.

use std::fmt;

use serde::de::{Deserialize, Deserializer, MapAccess, SeqAccess, Visitor};

/// Any value, read to its end and dropped. `IgnoredAny` would skip strings without decoding them, and so take bytes that are not
/// UTF-8 and halves of surrogate pairs, which other readers refuse or replace.
pub(super) struct WellFormed;

impl<'de> Deserialize<'de> for WellFormed {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(WellFormed)
    }
}

impl<'de> Visitor<'de> for WellFormed {
    type Value = Self;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a JSON value")
    }

    fn visit_unit<E>(self) -> Result<Self, E> {
        Ok(self)
    }

    fn visit_bool<E>(self, _: bool) -> Result<Self, E> {
        Ok(self)
    }

    fn visit_i64<E>(self, _: i64) -> Result<Self, E> {
        Ok(self)
    }

    fn visit_u64<E>(self, _: u64) -> Result<Self, E> {
        Ok(self)
    }

    fn visit_f64<E>(self, _: f64) -> Result<Self, E> {
        Ok(self)
    }

    fn visit_str<E>(self, _: &str) -> Result<Self, E> {
        Ok(self)
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut values: A) -> Result<Self, A::Error> {
        while values.next_element::<Self>()?.is_some() {}
        Ok(self)
    }

    fn visit_map<A: MapAccess<'de>>(self, mut entries: A) -> Result<Self, A::Error> {
        while entries.next_entry::<Self, Self>()?.is_some() {}
        Ok(self)
    }
}

#[cfg(test)]
mod tests {
    use super::WellFormed;
    use crate::error::Reason;
    use crate::images::document::{parse, parse_manifest};

    /// A manifest with this text as the value of a field that nobody reads.
    fn manifest(ignored: &[u8]) -> Vec<u8> {
        let digest = format!("sha256:{}", "0".repeat(64));
        let known = format!(
            r#"{{"schemaVersion":2,"config":{{"mediaType":"a","digest":"{digest}","size":2}},"layers":[],"ignored":"#
        );
        [known.as_bytes(), ignored, b"}"].concat()
    }

    #[test]
    fn what_is_ignored_must_be_well_formed_too() {
        for good in [&br#""a\ud83d\ude00""#[..], b"[null,true,-1,2,0.5,{\"a\":[]}]", "\"\u{1f600}\"".as_bytes()] {
            assert!(parse_manifest("it", &manifest(good)).is_ok(), "{}", good.escape_ascii());
        }
        for bad in [
            &b"\"\xff\""[..],
            br#""\ud83d""#,
            br#""\ude00\ud83d""#,
            b"[{\"a\":[\"\xc3\"]}]",
            b"{\"\xff\":1}",
            b"\"\x01\"",
            b"01",
            b"[1,]",
        ] {
            let error = parse_manifest("it", &manifest(bad)).expect_err("a manifest that is not JSON");
            assert_eq!(error.reason, Reason::InvalidArchive, "{}", bad.escape_ascii());
        }
    }

    #[test]
    fn depth_is_bounded() {
        assert!(parse::<WellFormed>("it", "[".repeat(100_000).as_bytes()).is_err());
        let nested = format!("{}{}", "[".repeat(100), "]".repeat(100));
        assert!(parse::<WellFormed>("it", nested.as_bytes()).is_ok());
    }
}
