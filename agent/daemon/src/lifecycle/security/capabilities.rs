//! Capabilities: names, bits and sets, see capabilities(7).

use oci_spec::runtime::{Capabilities, Capability};

use crate::error::{Error, Reason, Result};
use crate::lifecycle::config::Security;

/// Names without "CAP_", by bit (linux/capability.h).
const NAMES: [&str; 41] = [
    "CHOWN",
    "DAC_OVERRIDE",
    "DAC_READ_SEARCH",
    "FOWNER",
    "FSETID",
    "KILL",
    "SETGID",
    "SETUID",
    "SETPCAP",
    "LINUX_IMMUTABLE",
    "NET_BIND_SERVICE",
    "NET_BROADCAST",
    "NET_ADMIN",
    "NET_RAW",
    "IPC_LOCK",
    "IPC_OWNER",
    "SYS_MODULE",
    "SYS_RAWIO",
    "SYS_CHROOT",
    "SYS_PTRACE",
    "SYS_PACCT",
    "SYS_ADMIN",
    "SYS_BOOT",
    "SYS_NICE",
    "SYS_RESOURCE",
    "SYS_TIME",
    "SYS_TTY_CONFIG",
    "MKNOD",
    "LEASE",
    "AUDIT_WRITE",
    "AUDIT_CONTROL",
    "SETFCAP",
    "MAC_OVERRIDE",
    "MAC_ADMIN",
    "SYSLOG",
    "WAKE_ALARM",
    "BLOCK_SUSPEND",
    "AUDIT_READ",
    "PERFMON",
    "BPF",
    "CHECKPOINT_RESTORE",
];

/// What a container gets unless told otherwise: the same 14 as Docker's.
const DEFAULT: [&str; 14] = [
    "AUDIT_WRITE",
    "CHOWN",
    "DAC_OVERRIDE",
    "FOWNER",
    "FSETID",
    "KILL",
    "MKNOD",
    "NET_BIND_SERVICE",
    "NET_RAW",
    "SETFCAP",
    "SETGID",
    "SETPCAP",
    "SETUID",
    "SYS_CHROOT",
];

/// All capabilities that hull knows.
const KNOWN: u64 = (1 << NAMES.len()) - 1;

/// What the host can give. In a user namespace of its own a container may have whatever the kernel knows; otherwise
/// only what the agent itself holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct HostCapabilities {
    /// Capabilities of the kernel.
    pub(crate) kernel: u64,
    /// Those that the agent may hand on.
    pub(crate) agent: u64,
}

impl HostCapabilities {
    /// Reads /proc. Done once at start; the answer does not change.
    pub(crate) fn read() -> Result<Self> {
        let read = |path: &str| {
            std::fs::read_to_string(path).map_err(|error| Error::io(format_args!("reading {path}"), &error))
        };
        let last_path = "/proc/sys/kernel/cap_last_cap";
        let last: u32 = read(last_path)?
            .trim()
            .parse()
            .map_err(|_| Error::new(Reason::System, format!("{last_path} holds no number")))?;
        let kernel = 1u64.checked_shl(last.saturating_add(1)).map_or(u64::MAX, |bit| bit - 1) & KNOWN;
        let status = read("/proc/self/status")?;
        let field = |name: &str| {
            status
                .lines()
                .find_map(|line| u64::from_str_radix(line.strip_prefix(name)?.trim(), 16).ok())
                .ok_or_else(|| Error::new(Reason::System, format!("/proc/self/status has no {name}")))
        };
        Ok(Self { kernel, agent: kernel & field("CapPrm:")? & field("CapBnd:")? })
    }

    /// Capabilities that a container can have at most.
    pub(crate) fn available(self, own_user_namespace: bool) -> u64 {
        if own_user_namespace { self.kernel } else { self.agent }
    }
}

/// One entry of a list of capabilities.
enum Entry {
    All,
    One(u32),
}

/// Reads "CAP_NET_ADMIN", "net_admin" or "ALL".
fn parse(name: &str) -> Option<Entry> {
    let upper = name.to_ascii_uppercase();
    if upper == "ALL" || upper == "CAP_ALL" {
        return Some(Entry::All);
    }
    let bare = upper.strip_prefix("CAP_").unwrap_or(&upper);
    NAMES.iter().zip(0..).find_map(|(known, bit)| (*known == bare).then_some(Entry::One(bit)))
}

/// Bit of "CAP_NET_ADMIN" or "net_admin".
pub(crate) fn bit(name: &str) -> Option<u32> {
    match parse(name)? {
        Entry::All => None,
        Entry::One(bit) => Some(bit),
    }
}

/// Bits of a list, and whether it says ALL.
fn parse_list(field: &str, names: &[String]) -> Result<(u64, bool)> {
    let (mut bits, mut all) = (0, false);
    for (index, name) in names.iter().enumerate() {
        match parse(name) {
            Some(Entry::All) => all = true,
            Some(Entry::One(bit)) => bits |= 1 << bit,
            None => {
                return Err(Error::invalid(&format!("{field}[{index}]"), format_args!("unknown capability {name:?}")));
            }
        }
    }
    Ok((bits, all))
}

/// Checks the lists of a request.
pub(crate) fn validate(security: &Security) -> Result<()> {
    let (add, _) = parse_list("config.security.cap_add", &security.cap_add)?;
    let (drop, _) = parse_list("config.security.cap_drop", &security.cap_drop)?;
    if add & drop != 0 {
        return Err(Error::invalid(
            "config.security.cap_drop",
            format_args!("{} is both added and dropped", describe(add & drop)),
        ));
    }
    Ok(())
}

/// The set of a container: default (or all, where privileged), less what is dropped, and what is added. `available` is
/// the most that it can have; a capability asked for by name that is not among it is refused.
pub(crate) fn resolve(security: &Security, available: u64) -> Result<u64> {
    validate(security)?;
    let (add, add_all) = parse_list("config.security.cap_add", &security.cap_add)?;
    let (drop, drop_all) = parse_list("config.security.cap_drop", &security.cap_drop)?;
    let missing = add & !available;
    if missing != 0 {
        return Err(Error::new(
            Reason::UnsupportedFeature,
            format!("config.security.cap_add: the agent or the kernel does not have {}", describe(missing)),
        )
        .hint("run the agent with these capabilities, or give the container a user namespace of its own"));
    }
    let base = match (security.privileged || add_all, drop_all) {
        (true, _) => available,
        (false, true) => 0,
        (false, false) => default_set() & available,
    };
    Ok((base & !drop) | add)
}

/// Whether the set of a container has CAP_SYS_PTRACE.
pub(crate) fn may_trace(security: &Security) -> Result<bool> {
    let bits = resolve(security, KNOWN)?;
    Ok(bit("SYS_PTRACE").is_some_and(|bit| bits >> bit & 1 == 1))
}

/// The default set.
pub(crate) fn default_set() -> u64 {
    DEFAULT.iter().filter_map(|name| bit(name)).fold(0, |bits, bit| bits | 1 << bit)
}

/// Names with "CAP_", joined by ", ".
pub(crate) fn describe(bits: u64) -> String {
    names(bits).map(|name| format!("CAP_{name}")).collect::<Vec<_>>().join(", ")
}

fn names(bits: u64) -> impl Iterator<Item = &'static str> {
    NAMES.iter().enumerate().filter(move |(bit, _)| bits >> bit & 1 == 1).map(|(_, name)| *name)
}

/// Bits as the runtime spec writes them.
pub(crate) fn to_oci(bits: u64) -> Capabilities {
    names(bits).filter_map(|name| name.parse::<Capability>().ok()).collect()
}

/// Bits of a set of the runtime spec.
pub(crate) fn from_oci(set: Option<&Capabilities>) -> u64 {
    set.into_iter().flatten().filter_map(|capability| bit(&capability.to_string())).fold(0, |bits, bit| bits | 1 << bit)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn security(add: &[&str], drop: &[&str]) -> Security {
        Security {
            cap_add: add.iter().map(ToString::to_string).collect(),
            cap_drop: drop.iter().map(ToString::to_string).collect(),
            ..Security::default()
        }
    }

    #[test]
    fn default_is_fourteen() {
        assert_eq!(resolve(&security(&[], &[]), KNOWN).unwrap(), 0x0000_0000_a804_25fb);
        assert_eq!(default_set().count_ones(), 14);
    }

    #[test]
    fn add_and_drop() {
        let net_admin = 1 << 12;
        assert_eq!(resolve(&security(&["net_admin"], &["ALL"]), KNOWN).unwrap(), net_admin);
        assert_eq!(resolve(&security(&["CAP_NET_ADMIN"], &[]), KNOWN).unwrap(), default_set() | net_admin);
        assert_eq!(resolve(&security(&["all"], &["net_admin"]), KNOWN).unwrap(), KNOWN & !net_admin);
        assert_eq!(resolve(&security(&["ALL"], &["ALL"]), KNOWN).unwrap(), KNOWN);
        assert_eq!(resolve(&security(&[], &["CHOWN"]), KNOWN).unwrap(), default_set() & !1);
        let privileged = Security { privileged: true, ..security(&[], &["SYS_BOOT"]) };
        assert_eq!(resolve(&privileged, KNOWN).unwrap(), KNOWN & !(1 << 22));
    }

    #[test]
    fn refusals_name_the_entry() {
        let error = resolve(&security(&["chown", "CAP_FLY"], &[]), KNOWN).unwrap_err();
        assert_eq!(error.message, "config.security.cap_add[1]: unknown capability \"CAP_FLY\"");
        let error = resolve(&security(&["CHOWN"], &["CHOWN"]), KNOWN).unwrap_err();
        assert!(error.message.contains("CAP_CHOWN is both"), "{error}");
        let error = resolve(&security(&["SYS_RESOURCE"], &[]), KNOWN & !(1 << 24)).unwrap_err();
        assert_eq!(error.reason, Reason::UnsupportedFeature);
    }

    #[test]
    fn oci_round_trip() {
        for (bit, name) in NAMES.iter().enumerate() {
            assert_eq!(from_oci(Some(&to_oci(1 << bit))), 1 << bit, "{name}");
        }
    }

    #[test]
    fn host_is_readable() {
        let host = HostCapabilities::read().unwrap();
        assert_eq!(host.agent & !host.kernel, 0);
        assert_ne!(host.kernel, 0);
    }
}
