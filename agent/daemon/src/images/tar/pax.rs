//! PAX extended headers: what a record of one entry says.
//!
//! A record is "LENGTH KEY=VALUE\n" and may hold any bytes: it is cut by its length, never at line ends (extended
//! attributes are binary). A key that comes twice is refused: readers differ in which one they believe. Keys that say
//! nothing to a mounted file system are passed over, and so are those of other vendors (in capitals, as POSIX reserves
//! them); any other key that is not understood is refused by name.

use std::collections::BTreeMap;

use super::{Time, Xattr, invalid};
use crate::error::Result;

/// Keys without a meaning for the file system that an image becomes.
const PASSED_OVER: [&str; 6] = ["atime", "ctime", "uname", "gname", "comment", "charset"];
/// What would be lost silently if it were passed over with the other keys of its vendor.
const REFUSED: [&str; 4] = ["SCHILY.acl.", "LIBARCHIVE.xattr.", "LIBARCHIVE.symlinktype", "SUN."];

/// What extended headers said about the next entry.
#[derive(Debug, Default)]
pub(super) struct Extensions {
    pub(super) path: Option<Vec<u8>>,
    pub(super) link: Option<Vec<u8>>,
    pub(super) size: Option<u64>,
    pub(super) uid: Option<u64>,
    pub(super) gid: Option<u64>,
    pub(super) mtime: Option<Time>,
    pub(super) xattrs: Vec<Xattr>,
    pub(super) sparse: Sparse,
}

/// GNU's sparse files in PAX headers, formats 0.0, 0.1 and 1.0.
#[derive(Debug, Default)]
pub(super) struct Sparse {
    pub(super) version: Option<(u64, u64)>,
    pub(super) name: Option<Vec<u8>>,
    pub(super) real_size: Option<u64>,
    pub(super) blocks: Option<u64>,
    /// Pairs of offset and length.
    pub(super) map: Vec<u64>,
}

impl Sparse {
    pub(super) const fn is_used(&self) -> bool {
        self.version.is_some() || self.real_size.is_some() || self.blocks.is_some() || !self.map.is_empty()
    }
}

/// Reads the body of an extended header of one entry.
pub(super) fn parse(body: &[u8]) -> Result<Extensions> {
    let mut extensions = Extensions::default();
    let mut seen = BTreeMap::new();
    for record in Records(body) {
        let (key, value) = record?;
        // Format 0.0 tells its map by repeating these two.
        let repeats = matches!(key, "GNU.sparse.offset" | "GNU.sparse.numbytes");
        if !repeats && seen.insert(key, ()).is_some() {
            return Err(invalid(format_args!("an extended header says {key:?} twice")));
        }
        extensions.take(key, value)?;
    }
    if let Some(key) = seen.keys().find_map(|key| key.strip_prefix("LIBARCHIVE.xattr."))
        && !seen.contains_key(format!("SCHILY.xattr.{key}").as_str())
    {
        return Err(invalid(format_args!("extended attribute {key:?} comes in libarchive's form only")));
    }
    Ok(extensions)
}

/// Checks a global extended header: only comments are understood, all else would change entries out of sight.
pub(super) fn check_global(body: &[u8]) -> Result<()> {
    for record in Records(body) {
        let (key, _) = record?;
        if key != "comment" {
            return Err(invalid(format_args!("a global extended header sets {key:?}, which hull does not take")));
        }
    }
    Ok(())
}

impl Extensions {
    fn take(&mut self, key: &str, value: &[u8]) -> Result<()> {
        match key {
            "path" => self.path = Some(name(key, value)?),
            "linkpath" => self.link = Some(name(key, value)?),
            "size" => self.size = Some(decimal(key, value)?),
            "uid" => self.uid = Some(decimal(key, value)?),
            "gid" => self.gid = Some(decimal(key, value)?),
            "mtime" => self.mtime = Some(time(key, value)?),
            "hdrcharset" if matches!(value, b"BINARY" | b"ISO-IR 10646 2000 UTF-8") => {}
            "GNU.sparse.major" => self.sparse.version.get_or_insert_default().0 = decimal(key, value)?,
            "GNU.sparse.minor" => self.sparse.version.get_or_insert_default().1 = decimal(key, value)?,
            "GNU.sparse.name" => self.sparse.name = Some(name(key, value)?),
            "GNU.sparse.size" | "GNU.sparse.realsize" => self.sparse.real_size = Some(decimal(key, value)?),
            "GNU.sparse.numblocks" => self.sparse.blocks = Some(decimal(key, value)?),
            "GNU.sparse.offset" | "GNU.sparse.numbytes" => {
                if self.sparse.map.len().is_multiple_of(2) != (key == "GNU.sparse.offset") {
                    return Err(invalid(format_args!("{key} is out of turn")));
                }
                self.sparse.map.push(decimal(key, value)?);
            }
            "GNU.sparse.map" => {
                for number in value.split(|byte| *byte == b',').filter(|_| !value.is_empty()) {
                    self.sparse.map.push(decimal(key, number)?);
                }
            }
            "RHT.security.selinux" => self.xattr("security.selinux", value),
            _ if PASSED_OVER.contains(&key) => {}
            _ => match key.strip_prefix("SCHILY.xattr.") {
                Some(name) => self.xattr(name, value),
                None if key.starts_with("LIBARCHIVE.xattr.") => {}
                None if REFUSED.iter().any(|prefix| key.starts_with(prefix)) || !key.starts_with(is_capital) => {
                    return Err(invalid(format_args!("extended header key {key:?} is not supported")));
                }
                None => {}
            },
        }
        Ok(())
    }

    fn xattr(&mut self, name: &str, value: &[u8]) {
        self.xattrs.push(Xattr { name: name.as_bytes().into(), value: value.into() });
    }
}

const fn is_capital(c: char) -> bool {
    c.is_ascii_uppercase()
}

fn name(key: &str, value: &[u8]) -> Result<Vec<u8>> {
    if value.is_empty() || value.contains(&0) {
        return Err(invalid(format_args!("{key} in an extended header is empty or has a NUL")));
    }
    Ok(value.to_vec())
}

fn decimal(key: &str, value: &[u8]) -> Result<u64> {
    let digits = !value.is_empty() && value.iter().all(u8::is_ascii_digit);
    let number = std::str::from_utf8(value).ok().filter(|_| digits).and_then(|text| text.parse().ok());
    number.ok_or_else(|| invalid(format_args!("{key} in an extended header is no number")))
}

/// "-1.25" is a second and a quarter before the epoch; digits below nanoseconds are cut off towards the past.
fn time(key: &str, value: &[u8]) -> Result<Time> {
    let wrong = || invalid(format_args!("{key} in an extended header is no time"));
    let text = std::str::from_utf8(value).map_err(|_| wrong())?;
    let (negative, text) = text.strip_prefix('-').map_or((false, text), |rest| (true, rest));
    let (whole, fraction) = text.split_once('.').unwrap_or((text, ""));
    let all_digits = |text: &str| text.bytes().all(|byte| byte.is_ascii_digit());
    if whole.is_empty() || !all_digits(whole) || !all_digits(fraction) {
        return Err(wrong());
    }
    let whole: i64 = whole.parse().map_err(|_| wrong())?;
    let kept: String = fraction.chars().chain("000000000".chars()).take(9).collect();
    let mut nanos: u32 = kept.parse().map_err(|_| wrong())?;
    if !negative {
        return Ok(Time { seconds: whole, nanos });
    }
    if fraction.len() > 9 && fraction[9..].bytes().any(|byte| byte != b'0') {
        nanos += 1;
    }
    match nanos {
        0 => Ok(Time { seconds: -whole, nanos: 0 }),
        nanos => Ok(Time { seconds: -whole - 1, nanos: 1_000_000_000 - nanos }),
    }
}

/// Records of a body, cut by their lengths.
struct Records<'a>(&'a [u8]);

impl<'a> Iterator for Records<'a> {
    type Item = Result<(&'a str, &'a [u8])>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.0.is_empty() {
            return None;
        }
        let record = cut(self.0);
        self.0 = record.map_or(&[], |(_, _, rest)| rest);
        Some(record.map(|(key, value, _)| (key, value)).ok_or_else(|| invalid("an extended header is damaged")))
    }
}

/// Key, value and what follows the first record.
fn cut(body: &[u8]) -> Option<(&str, &[u8], &[u8])> {
    let space = body.iter().take(20).position(|byte| *byte == b' ')?;
    let digits = &body[..space];
    if digits.is_empty() || !digits.iter().all(u8::is_ascii_digit) {
        return None;
    }
    let length: usize = std::str::from_utf8(digits).ok()?.parse().ok()?;
    let (record, rest) = body.split_at_checked(length)?;
    let record = record.get(space + 1..)?.strip_suffix(b"\n")?;
    let equals = record.iter().position(|byte| *byte == b'=')?;
    let key = std::str::from_utf8(&record[..equals]).ok().filter(|key| !key.is_empty())?;
    Some((key, &record[equals + 1..], rest))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::images::testing::pax_record as record;

    #[test]
    fn binary_values_do_not_end_at_line_ends() {
        let body = [record("SCHILY.xattr.user.a", b"\n17 size=9999999\n\0="), record("size", b"12")].concat();
        let extensions = parse(&body).unwrap();
        assert_eq!(extensions.size, Some(12));
        assert_eq!(&*extensions.xattrs[0].value, b"\n17 size=9999999\n\0=");
    }

    #[test]
    fn times() {
        for (text, seconds, nanos) in [
            ("0", 0, 0),
            ("1700000000.123456789", 1_700_000_000, 123_456_789),
            ("5.1234567899", 5, 123_456_789),
            ("-1", -1, 0),
            ("-1.25", -2, 750_000_000),
            ("-0.0000000001", -1, 999_999_999),
        ] {
            assert_eq!(time("mtime", text.as_bytes()).unwrap(), Time { seconds, nanos }, "{text}");
        }
        for text in ["", "-", ".5", "1e3", "1.2.3", "+1", "99999999999999999999"] {
            assert!(time("mtime", text.as_bytes()).is_err(), "{text}");
        }
    }

    #[test]
    fn what_is_not_understood_is_refused() {
        for body in [
            [record("size", b"1"), record("size", b"2")].concat(),
            record("path", b"a\0b"),
            record("path", b""),
            record("size", b"-1"),
            record("size", b"1x"),
            record("SCHILY.acl.access", b"user::rwx"),
            record("LIBARCHIVE.xattr.user.a", b"YQ=="),
            record("novelty", b"1"),
            b"6 a=b".to_vec(),
            b"5 a=b\n".to_vec(),
            b"99999999999999999999999 a=b\n".to_vec(),
            b"+6 a=b\n".to_vec(),
        ] {
            assert!(parse(&body).is_err(), "{}", String::from_utf8_lossy(&body));
        }
        parse(&record("VENDOR.key", b"passed over")).unwrap();
        parse(&record("atime", b"passed over")).unwrap();
        check_global(&record("comment", b"a commit")).unwrap();
        assert!(check_global(&record("path", b"a")).is_err());
    }

    proptest! {
        #[test]
        fn garbage_is_read_without_harm(body in prop::collection::vec(any::<u8>(), 0..200)) {
            drop(parse(&body));
        }
    }
}
