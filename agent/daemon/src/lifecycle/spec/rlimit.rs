//! Names of resource limits, see getrlimit(2).

use oci_spec::runtime::PosixRlimitType;

/// Reads "RLIMIT_NOFILE" or "nofile".
pub(crate) fn parse(name: &str) -> Option<PosixRlimitType> {
    let upper = name.to_ascii_uppercase();
    let bare = upper.strip_prefix("RLIMIT_").unwrap_or(&upper);
    format!("RLIMIT_{bare}").parse().ok()
}

/// RLIMIT_* of asm-generic/resource.h, which x86-64 and arm64 use.
pub(crate) fn number(kind: PosixRlimitType) -> u32 {
    match kind {
        PosixRlimitType::RlimitCpu => 0,
        PosixRlimitType::RlimitFsize => 1,
        PosixRlimitType::RlimitData => 2,
        PosixRlimitType::RlimitStack => 3,
        PosixRlimitType::RlimitCore => 4,
        PosixRlimitType::RlimitRss => 5,
        PosixRlimitType::RlimitNproc => 6,
        PosixRlimitType::RlimitNofile => 7,
        PosixRlimitType::RlimitMemlock => 8,
        PosixRlimitType::RlimitAs => 9,
        PosixRlimitType::RlimitLocks => 10,
        PosixRlimitType::RlimitSigpending => 11,
        PosixRlimitType::RlimitMsgqueue => 12,
        PosixRlimitType::RlimitNice => 13,
        PosixRlimitType::RlimitRtprio => 14,
        PosixRlimitType::RlimitRttime => 15,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names() {
        assert_eq!(parse("RLIMIT_NOFILE").map(number), Some(7));
        assert_eq!(parse("nofile").map(number), Some(7));
        assert_eq!(parse("rttime").map(number), Some(15));
        for name in ["", "RLIMIT_", "files", "RLIMIT_RLIMIT_CPU"] {
            assert_eq!(parse(name), None, "{name}");
        }
    }
}
