//! Registries: where they are, who the agent is to them, and the requests of the OCI distribution specification.
//!
//! ```text
//! Registries ── session(repository, credentials) ──> Session
//!                                                     │  one line per host of hosts.toml, the registry itself last
//!   hosts        where to                             ▼
//!   credentials, docker_config, challenge, auth   Line ── transport (tls, redirects, stalls) ──> registry
//!   retry, answer  what a failure means
//! ```

mod answer;
mod auth;
mod challenge;
mod check;
mod credentials;
mod docker_config;
mod fetch;
mod hosts;
mod line;
mod retry;
mod tls;
mod transport;
mod upload;

use std::path::PathBuf;
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use super::reference::Reference;
use crate::error::{Error, Reason, Result};
use auth::Tokens;
use hosts::{Endpoint, TlsFiles};
use line::Line;
use transport::Transport;

pub(crate) use credentials::Credentials;
pub(super) use fetch::{Fetched, sha256};
pub(super) use retry::{Backoff, Trouble};
pub(super) use transport::Answer;
pub(super) use upload::{Placed, Upload};

/// How registries are reached.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct RegistryConfig {
    /// Directory with `HOST/hosts.toml`.
    pub(crate) hosts: PathBuf,
    /// A Docker config.json with credentials.
    pub(crate) auth_file: Option<PathBuf>,
    /// Time without a byte after which a connection counts as lost.
    pub(crate) stall_timeout: Duration,
}

impl Default for RegistryConfig {
    fn default() -> Self {
        Self { hosts: "/etc/hull/certs.d".into(), auth_file: None, stall_timeout: Duration::from_secs(30) }
    }
}

/// All registries, as this node sees them. Clones share connections and tokens.
#[derive(Debug, Clone)]
pub(super) struct Registries {
    shared: Arc<Shared>,
}

#[derive(Debug)]
struct Shared {
    config: RegistryConfig,
    /// For endpoints without TLS files of their own.
    transport: OnceLock<Transport>,
    tokens: Tokens,
}

/// What a session is for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Purpose {
    Pull,
    /// With another repository that blobs may be taken over from.
    Push {
        mount_from: Option<String>,
    },
}

/// One repository of a registry, for one user.
#[derive(Debug)]
pub(super) struct Session {
    registries: Registries,
    /// "library/alpine".
    repository: String,
    /// The registry's name, "docker.io".
    domain: String,
    lines: Vec<Line>,
}

impl Registries {
    pub(super) fn new(config: RegistryConfig) -> Self {
        Self { shared: Arc::new(Shared { config, transport: OnceLock::new(), tokens: Tokens::default() }) }
    }

    /// A session with the repository of `reference`. `credentials` are for the registry itself and not for its mirrors;
    /// without any the node's own are used.
    ///
    /// # Errors
    /// `REGISTRY_CONFIG` if the node's configuration is wrong.
    pub(super) async fn session(
        &self,
        reference: &Reference,
        credentials: Option<Credentials>,
        purpose: Purpose,
    ) -> Result<Session> {
        let scope = |path: &str, actions: &str| format!("repository:{path}:{actions}");
        let scopes = match purpose {
            Purpose::Pull => vec![scope(reference.path(), "pull")],
            Purpose::Push { mount_from } => {
                let own = scope(reference.path(), "pull,push");
                [own].into_iter().chain(mount_from.map(|path| scope(&path, "pull"))).collect()
            }
        };
        let lines = self.lines(reference.domain(), credentials, scopes).await?;
        let (repository, domain) = (reference.path().to_owned(), reference.domain().to_owned());
        Ok(Session { registries: self.clone(), repository, domain, lines })
    }

    /// A line to each endpoint of a registry.
    async fn lines(&self, domain: &str, given: Option<Credentials>, scopes: Vec<String>) -> Result<Vec<Line>> {
        let (registries, name) = (self.clone(), domain.to_owned());
        let ready = tokio::task::spawn_blocking(move || registries.endpoints(&name)).await;
        let ready = ready.map_err(|error| Error::new(Reason::Internal, format!("a task ended early: {error}")))??;
        let mut lines = Vec::new();
        for (endpoint, transport) in ready {
            let credentials = match (&given, &self.shared.config.auth_file) {
                (Some(given), _) if endpoint.is_server => Some(given.clone()),
                (_, Some(file)) => {
                    let name = if endpoint.is_server { domain } else { &endpoint.authority };
                    docker_config::credentials(file, name).await?
                }
                (_, None) => None,
            };
            lines.push(Line::new(endpoint, transport, credentials, scopes.clone()));
        }
        Ok(lines)
    }

    /// The endpoints of a registry and the means to reach them. Blocks on the disk.
    fn endpoints(&self, domain: &str) -> Result<Vec<(Endpoint, Transport)>> {
        let endpoints = hosts::endpoints(&self.shared.config.hosts, domain)?;
        let ready = endpoints.into_iter().map(|endpoint| {
            let transport = self.transport(&endpoint)?;
            Ok((endpoint, transport))
        });
        ready.collect()
    }

    fn transport(&self, endpoint: &Endpoint) -> Result<Transport> {
        let make = || Transport::new(&endpoint.tls, endpoint.dial_timeout, self.shared.config.stall_timeout);
        if endpoint.tls != TlsFiles::default() || endpoint.dial_timeout != hosts::DIAL_TIMEOUT {
            return make();
        }
        if let Some(transport) = self.shared.transport.get() {
            return Ok(transport.clone());
        }
        let made = make()?;
        Ok(self.shared.transport.get_or_init(|| made).clone())
    }
}

impl Session {
    /// "docker.io/library/alpine".
    pub(super) fn repository(&self) -> String {
        format!("{}/{}", self.domain, self.repository)
    }
}
