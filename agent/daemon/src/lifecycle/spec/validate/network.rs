//! Names: of the container, of hosts and name servers.

use std::net::IpAddr;

use super::{check_count, no_effect};
use crate::error::{Error, Result};
use crate::lifecycle::config::{ContainerConfig, DnsConfig, NamespaceMode};

/// Longest host name that sethostname(2) takes.
const MAX_HOSTNAME: usize = 64;
/// Longest name in DNS.
const MAX_DOMAIN: usize = 253;

pub(super) fn validate(config: &ContainerConfig) -> Result<()> {
    let own_uts = config.namespaces.uts == NamespaceMode::Private;
    let names = [("config.hostname", &config.hostname), ("config.domainname", &config.domainname)];
    for (field, name) in names {
        let Some(name) = name else { continue };
        if !own_uts {
            return Err(no_effect(field, "where the uts namespace is not the container's own"));
        }
        if name.len() > MAX_HOSTNAME || !is_domain(name) {
            return Err(Error::invalid(
                field,
                format_args!(
                    "must be 1 to {MAX_HOSTNAME} letters, digits, \"-\" and \".\", and start with a letter or digit"
                ),
            ));
        }
    }
    check_count("config.extra_hosts", config.extra_hosts.len(), 512)?;
    for (index, (address, name)) in config.extra_hosts.iter().enumerate() {
        if address.parse::<IpAddr>().is_err() {
            return Err(Error::invalid(
                &format!("config.extra_hosts[{index}].ip"),
                format_args!("{address:?} is not an IP address"),
            ));
        }
        if !is_domain(name) {
            return Err(Error::invalid(
                &format!("config.extra_hosts[{index}].hostname"),
                format_args!("{name:?} is not a host name"),
            ));
        }
    }
    config.dns.as_ref().map_or(Ok(()), dns)
}

fn dns(dns: &DnsConfig) -> Result<()> {
    check_count("config.dns.servers", dns.servers.len(), 8)?;
    check_count("config.dns.searches", dns.searches.len(), 32)?;
    check_count("config.dns.options", dns.options.len(), 32)?;
    let check = |field: &str, list: &[String], good: &dyn Fn(&str) -> bool, what: &str| {
        list.iter().enumerate().find(|(_, text)| !good(text)).map_or(Ok(()), |(index, text)| {
            Err(Error::invalid(&format!("config.dns.{field}[{index}]"), format_args!("{text:?} is not {what}")))
        })
    };
    check("servers", &dns.servers, &|text| text.parse::<IpAddr>().is_ok(), "an IP address")?;
    check(
        "searches",
        &dns.searches,
        &|text| text == "." || is_domain(text.strip_suffix('.').unwrap_or(text)),
        "a domain",
    )?;
    let option = |text: &str| {
        let plain = |byte: u8| byte.is_ascii_alphanumeric() || b"-_:.".contains(&byte);
        !text.is_empty() && text.len() <= 64 && text.bytes().all(plain)
    };
    check("options", &dns.options, &option, "an option of resolv.conf(5)")
}

/// Letters, digits, "-", "_" and "." in parts that are not empty; no leading "-".
fn is_domain(name: &str) -> bool {
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || b"-_".contains(&byte);
    let part = |part: &str| !part.is_empty() && part.len() <= 63 && !part.starts_with('-') && part.bytes().all(plain);
    name.len() <= MAX_DOMAIN && name.split('.').all(part)
}
