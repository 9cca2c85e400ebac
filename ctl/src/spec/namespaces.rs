//! Namespaces, and what is known in them of hosts and names.

use hull_proto::v1::{DnsConfig, HostEntry, Namespace, NamespaceMode, Namespaces, TimeOffsets, UserNamespaceMode};

use super::units::{nanos, proto_nanos};
use crate::cli::NamespaceFlags;
use crate::error::{Error, Result};

/// Which namespaces are shared.
pub(crate) fn namespaces(flags: &NamespaceFlags) -> Result<Namespaces> {
    Ok(Namespaces {
        pid: flags.pid.as_deref().map(|mode| namespace("--pid", "private", mode, true)).transpose()?,
        network: flags.network.as_deref().map(|mode| namespace("--network", "none", mode, true)).transpose()?,
        ipc: flags.ipc.as_deref().map(|mode| namespace("--ipc", "private", mode, true)).transpose()?,
        uts: flags.uts.as_deref().map(|mode| namespace("--uts", "private", mode, false)).transpose()?,
        cgroup: flags.cgroupns.as_deref().map(|mode| namespace("--cgroupns", "private", mode, false)).transpose()?,
        user: flags.userns.as_deref().map(user).transpose()?.unwrap_or_default().into(),
        time: flags.time_offset.as_deref().map(time).transpose()?,
    })
}

/// `own`: what the flag calls a namespace of the container's own.
fn namespace(flag: &str, own: &str, mode: &str, container: bool) -> Result<Namespace> {
    let known = |mode: NamespaceMode| Namespace { mode: mode.into(), container: String::new() };
    match mode.split_once(':') {
        None if mode == own => Ok(known(NamespaceMode::Private)),
        None if mode == "host" => Ok(known(NamespaceMode::Host)),
        Some(("container", id)) if container && !id.is_empty() => {
            Ok(Namespace { mode: NamespaceMode::Container.into(), container: id.to_owned() })
        }
        _ => {
            let third = if container { ", host or container:ID" } else { " or host" };
            Err(Error::new(format!("{flag} {mode}: not offered; expected {own}{third}")))
        }
    }
}

fn user(mode: &str) -> Result<UserNamespaceMode> {
    match mode {
        "host" => Ok(UserNamespaceMode::Host),
        "auto" => Ok(UserNamespaceMode::Auto),
        other => Err(Error::new(format!("--userns {other}: not offered; expected host or auto"))),
    }
}

fn time(text: &str) -> Result<TimeOffsets> {
    let mut offsets = TimeOffsets::default();
    for part in text.split(',') {
        let slot = match part.split_once('=') {
            Some(("monotonic", value)) => (&mut offsets.monotonic, value),
            Some(("boottime", value)) => (&mut offsets.boottime, value),
            _ => {
                return Err(Error::new(format!(
                    "--time-offset {text}: expected monotonic=DURATION[,boottime=DURATION]"
                )));
            }
        };
        *slot.0 = Some(proto_nanos(nanos("--time-offset", slot.1)?));
    }
    Ok(offsets)
}

/// Lines of /etc/hosts from NAME:ADDRESS or NAME=ADDRESS; an IPv6 address may stand in brackets.
pub(crate) fn hosts(flags: &NamespaceFlags) -> Result<Vec<HostEntry>> {
    let host = |text: &String| {
        let (name, address) = text.split_once('=').or_else(|| text.split_once(':')).unwrap_or((text, ""));
        let bare = address.strip_prefix('[').and_then(|rest| rest.strip_suffix(']')).unwrap_or(address);
        match bare.parse::<std::net::IpAddr>() {
            Ok(_) if !name.is_empty() => Ok(HostEntry { ip: bare.to_owned(), hostname: name.to_owned() }),
            _ => Err(Error::new(format!("--add-host {text}: expected NAME:ADDRESS"))),
        }
    };
    flags.hosts.iter().map(host).collect()
}

/// Contents of /etc/resolv.conf, where any are given.
pub(crate) fn dns(flags: &NamespaceFlags) -> Option<DnsConfig> {
    let (servers, searches, options) = (flags.dns.clone(), flags.dns_search.clone(), flags.dns_option.clone());
    let given = !(servers.is_empty() && searches.is_empty() && options.is_empty());
    given.then_some(DnsConfig { servers, searches, options })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn modes() {
        let flags = NamespaceFlags {
            network: Some("container:web".into()),
            pid: Some("host".into()),
            userns: Some("auto".into()),
            time_offset: Some("monotonic=-1.5s,boottime=7d".into()),
            ..NamespaceFlags::default()
        };
        let got = namespaces(&flags).unwrap();
        let network = got.network.unwrap();
        assert_eq!((network.mode(), network.container.as_str()), (NamespaceMode::Container, "web"));
        assert_eq!(got.pid.unwrap().mode(), NamespaceMode::Host);
        assert_eq!(got.ipc, None);
        assert_eq!(got.user, i32::from(UserNamespaceMode::Auto));
        let time = got.time.unwrap();
        assert_eq!(time.monotonic, Some(prost_types::Duration { seconds: -1, nanos: -500_000_000 }));
        assert_eq!(time.boottime, Some(prost_types::Duration { seconds: 604_800, nanos: 0 }));
    }

    #[test]
    fn what_is_not_offered_is_refused_by_name() {
        let refused = |flags: NamespaceFlags, word: &str| {
            let error = namespaces(&flags).unwrap_err().to_string();
            assert!(error.contains(word), "{error}");
        };
        refused(NamespaceFlags { network: Some("bridge".into()), ..Default::default() }, "--network bridge");
        refused(NamespaceFlags { network: Some("container:".into()), ..Default::default() }, "container:ID");
        refused(NamespaceFlags { uts: Some("container:x".into()), ..Default::default() }, "private or host");
        refused(NamespaceFlags { userns: Some("keep-id".into()), ..Default::default() }, "--userns keep-id");
        refused(NamespaceFlags { time_offset: Some("realtime=1s".into()), ..Default::default() }, "monotonic");
    }

    #[test]
    fn hosts_of_both_families() {
        let flags = |host: &str| NamespaceFlags { hosts: vec![host.into()], ..Default::default() };
        for (text, name, ip) in
            [("db:10.0.0.2", "db", "10.0.0.2"), ("db:::1", "db", "::1"), ("db=[fe80::1]", "db", "fe80::1")]
        {
            let got = hosts(&flags(text)).unwrap();
            assert_eq!((got[0].hostname.as_str(), got[0].ip.as_str()), (name, ip));
        }
        for wrong in ["db", "db:", ":10.0.0.2", "db:host-gateway"] {
            assert!(hosts(&flags(wrong)).is_err(), "{wrong}");
        }
    }
}
