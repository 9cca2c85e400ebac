//! Limits of containers' logs.

use crate::error::{Error, Result};
use crate::lifecycle::config::LogLimits;

pub(super) fn check(max_size: Option<&str>, max_files: Option<u32>) -> Result<LogLimits> {
    let mut limits = LogLimits::default();
    if let Some(text) = max_size {
        limits.max_size = size(text).filter(|size| LogLimits::SIZES.contains(size)).ok_or_else(|| {
            Error::invalid("container-log-max-size", format!("{text:?} is not a size between 64k and 1t, such as 16m"))
        })?;
    }
    if let Some(files) = max_files {
        if !LogLimits::FILES.contains(&files) {
            return Err(Error::invalid("container-log-max-files", "must be between 1 and 10000"));
        }
        limits.max_files = files;
    }
    Ok(limits)
}

/// Bytes, or with k, m, g or t at the end a multiple of 1024 of them.
fn size(text: &str) -> Option<u64> {
    let shift = match text.bytes().last()?.to_ascii_lowercase() {
        b'k' => 10,
        b'm' => 20,
        b'g' => 30,
        b't' => 40,
        _ => return text.parse().ok(),
    };
    text.get(..text.len() - 1)?.parse::<u64>().ok()?.checked_mul(1 << shift)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn limits_are_checked() {
        assert_eq!(check(None, None).unwrap(), LogLimits::default());
        assert_eq!(check(Some("8M"), Some(100)).unwrap(), LogLimits { max_size: 8 << 20, max_files: 100 });
        assert_eq!(check(Some("65536"), None).unwrap().max_size, 64 << 10);
        for wrong in ["", "m", "63k", "2t", "-1", "1x", "99999999999t"] {
            assert!(check(Some(wrong), None).is_err(), "{wrong}");
        }
        assert!(check(None, Some(0)).is_err());
    }
}
