//! Registries as the caller knows them: which one a name means, and what Docker's configuration has for it.

mod config;
mod helper;

use hull_proto::v1::RegistryAuth;

use crate::error::Result;

pub(crate) use config::{DockerConfig, Kept};

/// The registry that is meant where none is named.
pub(crate) const DOCKER_HUB: &str = "docker.io";
/// What Docker's configuration calls it.
const DOCKER_HUB_KEY: &str = "https://index.docker.io/v1/";

/// Credentials for the registry of a reference; nothing where the caller has none.
pub(crate) fn credentials(reference: &str) -> Result<Option<RegistryAuth>> {
    DockerConfig::open()?.credentials(of_reference(reference))
}

/// Host and port of the registry that a reference means, as Docker understands it.
pub(crate) fn of_reference(reference: &str) -> &str {
    match reference.split_once('/') {
        Some((first, _)) if first.contains(['.', ':']) || first == "localhost" || has_capitals(first) => server(first),
        _ => DOCKER_HUB,
    }
}

/// Host and port of a registry that is named by itself, by a URL or with a path behind.
pub(crate) fn server(name: &str) -> &str {
    let rest = name.strip_prefix("https://").or_else(|| name.strip_prefix("http://")).unwrap_or(name);
    match rest.split_once('/').map_or(rest, |(host, _)| host) {
        "docker.io" | "index.docker.io" | "registry-1.docker.io" => DOCKER_HUB,
        host => host,
    }
}

/// Names of repositories have none, so what has is a host.
fn has_capitals(text: &str) -> bool {
    text.chars().any(|c| c.is_ascii_uppercase())
}

/// The key of a registry in Docker's configuration and at its helpers.
fn key(server: &str) -> &str {
    if server == DOCKER_HUB { DOCKER_HUB_KEY } else { server }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_registry_of_a_reference() {
        for (reference, server) in [
            ("alpine", DOCKER_HUB),
            ("alpine:3.20", DOCKER_HUB),
            ("demo/busybox", DOCKER_HUB),
            ("docker.io/library/alpine", DOCKER_HUB),
            ("index.docker.io/library/alpine", DOCKER_HUB),
            ("ghcr.io/o/r@sha256:00", "ghcr.io"),
            ("127.0.0.1:5000/x/y:tag", "127.0.0.1:5000"),
            ("localhost/x", "localhost"),
            ("[::1]:5000/x", "[::1]:5000"),
            ("HOST/x", "HOST"),
        ] {
            assert_eq!(of_reference(reference), server, "{reference}");
        }
    }

    #[test]
    fn a_registry_by_itself() {
        for (name, host) in [
            ("https://index.docker.io/v1/", DOCKER_HUB),
            ("http://localhost:5000", "localhost:5000"),
            ("https://quay.io/user", "quay.io"),
            ("ghcr.io", "ghcr.io"),
        ] {
            assert_eq!(server(name), host, "{name}");
        }
    }
}
