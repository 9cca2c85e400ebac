//! /etc/hostname, /etc/hosts and /etc/resolv.conf.
//!
//! Not generated where the user mounts something there, or at /etc: what is mounted is meant to be seen, and a file made
//! below a bind mount would be made on the host.

use std::fmt::Write;

use hull_wire::FilePlan;
use oci_spec::runtime::Spec;

use super::PlanContext;
use crate::lifecycle::config::{DnsConfig, NamespaceMode};
use crate::lifecycle::spec::path;

/// Names of the loopback addresses.
const LOCALHOST: &str = "127.0.0.1\tlocalhost\n::1\tlocalhost ip6-localhost ip6-loopback\n";

/// What is generated, and for it a target where the image has none.
pub(crate) const GENERATED_FILES: [&str; 3] = [HOSTNAME, HOSTS, RESOLV_CONF];
const HOSTNAME: &str = "/etc/hostname";
const HOSTS: &str = "/etc/hosts";
const RESOLV_CONF: &str = "/etc/resolv.conf";

pub(super) fn generate(spec: &Spec, ctx: &PlanContext<'_>) -> Vec<FilePlan> {
    let own_name = spec.hostname().as_deref();
    let hostname = own_name.unwrap_or(ctx.uts_hostname);
    let file = |target: &str, contents: String| FilePlan { target: target.to_owned(), contents, mode: 0o644 };
    let mut files = vec![
        file(HOSTNAME, format!("{hostname}\n")),
        file(HOSTS, hosts(hostname, ctx)),
        file(RESOLV_CONF, resolv_conf(ctx)),
    ];
    let mounts = spec.mounts().as_deref().unwrap_or_default();
    let covered = |target: &str| {
        mounts.iter().filter_map(|mount| mount.destination().to_str()).any(|mount| path::is_within(target, mount))
    };
    files.retain(|file| !covered(&file.target));
    files
}

/// With the host's network the host's own lines; else loopback, and the container's name on it, so that it can be looked up.
fn hosts(hostname: &str, ctx: &PlanContext<'_>) -> String {
    let mut text = if ctx.config.namespaces.network == NamespaceMode::Host {
        let mut text = ctx.host_hosts.to_owned();
        if !text.is_empty() && !text.ends_with('\n') {
            text.push('\n');
        }
        text
    } else {
        format!("{LOCALHOST}127.0.1.1\t{hostname}\n")
    };
    for (address, name) in &ctx.config.extra_hosts {
        // Writing to a String cannot fail.
        let _ = writeln!(text, "{address}\t{name}");
    }
    text
}

/// What the request says, else nothing without a network, else the host's.
fn resolv_conf(ctx: &PlanContext<'_>) -> String {
    match &ctx.config.dns {
        Some(dns) => resolver(dns),
        None if ctx.config.namespaces.network == NamespaceMode::Private => String::new(),
        None => ctx.host_resolv_conf.to_owned(),
    }
}

/// See resolv.conf(5).
fn resolver(dns: &DnsConfig) -> String {
    let servers: String = dns.servers.iter().map(|server| format!("nameserver {server}\n")).collect();
    let list = |keyword: &str, words: &[String]| {
        if words.is_empty() { String::new() } else { format!("{keyword} {}\n", words.join(" ")) }
    };
    servers + &list("search", &dns.searches) + &list("options", &dns.options)
}
