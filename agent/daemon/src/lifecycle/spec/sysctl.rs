//! Kernel parameters that a container may set: those of its own namespaces, on a list (CVE-2022-0811, CVE-2022-0532).

use std::collections::BTreeMap;

use crate::error::{Error, Result};
use crate::lifecycle::config::{ContainerConfig, NamespaceMode};

/// Parameters of the ipc namespace, see ipc_namespaces(7), and beside them everything below fs/mqueue.
const IPC: [&str; 8] = [
    "kernel/msgmax",
    "kernel/msgmnb",
    "kernel/msgmni",
    "kernel/sem",
    "kernel/shmall",
    "kernel/shmmax",
    "kernel/shmmni",
    "kernel/shm_rmid_forced",
];

/// Most bytes of a value.
const MAX_VALUE: usize = 1024;

/// Path below /proc/sys of a name with dots or slashes, as sysctl(8) reads it: the separator that comes first separates, the
/// other one stands for it within a part ("net/ipv4/conf/eth0.1/forwarding", "net.ipv4.conf.eth0/1.forwarding").
pub(crate) fn path(name: &str) -> String {
    if name.find(['.', '/']).is_some_and(|at| name.as_bytes().get(at) == Some(&b'.')) {
        name.chars()
            .map(|letter| match letter {
                '.' => '/',
                '/' => '.',
                other => other,
            })
            .collect()
    } else {
        name.to_owned()
    }
}

/// Checks the parameters of a request.
pub(super) fn validate(config: &ContainerConfig) -> Result<()> {
    let mut seen = BTreeMap::new();
    for (name, value) in &config.sysctls {
        let field = format!("config.sysctls[{name:?}]");
        check_name(&field, name)?;
        check_value(&field, value)?;
        check_allowed(config, &field, &path(name))?;
        if let Some(other) = seen.insert(path(name), name) {
            return Err(Error::invalid(&field, format_args!("the same parameter is given as {other:?}")));
        }
    }
    Ok(())
}

fn check_name(field: &str, name: &str) -> Result<()> {
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || b"_-.@:".contains(&byte);
    let part = |part: &str| !part.is_empty() && part != "." && part != ".." && part.bytes().all(plain);
    if name.len() <= 256 && path(name).split('/').all(part) {
        Ok(())
    } else {
        Err(Error::invalid(field, "is not the name of a kernel parameter"))
    }
}

/// Numbers, words and lists of them are all that parameters of namespaces take.
fn check_value(field: &str, value: &str) -> Result<()> {
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || b" \t-_.,:/@".contains(&byte);
    match value.bytes().find(|byte| !plain(*byte)) {
        Some(byte) => Err(Error::invalid(field, format_args!("the value holds {:?}", char::from(byte)))),
        None if value.is_empty() => Err(Error::invalid(field, "the value is empty")),
        None if value.len() > MAX_VALUE => {
            Err(Error::invalid(field, format_args!("the value is longer than {MAX_VALUE} bytes")))
        }
        None => Ok(()),
    }
}

fn check_allowed(config: &ContainerConfig, field: &str, path: &str) -> Result<()> {
    let namespaces = &config.namespaces;
    let (kind, mode) = if IPC.contains(&path) || path.starts_with("fs/mqueue/") {
        ("ipc", &namespaces.ipc)
    } else if path.starts_with("net/") {
        ("network", &namespaces.network)
    } else if path == "kernel/domainname" {
        if config.domainname.is_some() {
            return Err(Error::invalid(field, "config.domainname is given too"));
        }
        ("uts", &namespaces.uts)
    } else if path == "kernel/hostname" {
        return Err(Error::invalid(field, "give config.hostname instead"));
    } else {
        return Err(Error::invalid(field, "is not a parameter of a namespace of the container's own"));
    };
    match mode {
        NamespaceMode::Private => Ok(()),
        _ => Err(Error::invalid(
            field,
            format_args!("belongs to the {kind} namespace, which is not the container's own"),
        )),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn with(name: &str, value: &str) -> ContainerConfig {
        ContainerConfig { sysctls: BTreeMap::from([(name.to_owned(), value.to_owned())]), ..ContainerConfig::default() }
    }

    #[test]
    fn paths() {
        assert_eq!(path("net.ipv4.ip_forward"), "net/ipv4/ip_forward");
        assert_eq!(path("net/ipv4/conf/eth0.1/forwarding"), "net/ipv4/conf/eth0.1/forwarding");
        assert_eq!(path("net.ipv4.conf.eth0/1.forwarding"), "net/ipv4/conf/eth0.1/forwarding");
    }

    #[test]
    fn allowed() {
        for (name, value) in [
            ("net.ipv4.ip_local_port_range", "1024 65000"),
            ("net/ipv4/conf/eth0.1/forwarding", "1"),
            ("kernel.sem", "250\t32000\t100\t128"),
            ("kernel.shm_rmid_forced", "1"),
            ("fs.mqueue.msg_max", "20"),
            ("kernel.domainname", "example.org"),
        ] {
            validate(&with(name, value)).unwrap();
        }
    }

    #[test]
    fn refused() {
        for (name, value) in [
            ("kernel.core_pattern", "x"),
            ("kernel.hostname", "x"),
            ("kernel.shm_rmid_forced", "1+kernel.core_pattern=x"),
            ("kernel.shm_rmid_forced", "1\nkernel.core_pattern=x"),
            ("kernel.shm_rmid_forced", ""),
            ("net..ipv4", "1"),
            ("net.ipv4.//.x", "1"),
            ("net/../kernel/core_pattern", "1"),
            ("net/ipv4/../../kernel/core_pattern", "1"),
            ("/net/ipv4/ip_forward", "1"),
            ("net", "1"),
            ("", "1"),
            ("vm.swappiness", "1"),
            ("fs.mqueue", "1"),
            ("net.ipv4.a b", "1"),
        ] {
            let error = validate(&with(name, value)).unwrap_err();
            assert!(error.message.starts_with("config.sysctls["), "{name}: {error}");
        }
    }

    #[test]
    fn refused_in_a_namespace_of_another() {
        let mut config = with("net.ipv4.ip_forward", "1");
        config.namespaces.network = NamespaceMode::Host;
        assert!(validate(&config).unwrap_err().message.contains("network namespace"));
        config.namespaces.network = NamespaceMode::Container("x".to_owned());
        assert!(validate(&config).is_err());
        let mut config = with("kernel.sem", "1 2 3 4");
        config.namespaces.ipc = NamespaceMode::Host;
        assert!(validate(&config).unwrap_err().message.contains("ipc namespace"));
    }
}
