//! The connection to an agent: a unix socket, or TCP with mutual TLS.

use std::path::{Path, PathBuf};
use std::time::Duration;

use hull_proto::v1::container_service_client::ContainerServiceClient;
use hull_proto::v1::event_service_client::EventServiceClient;
use hull_proto::v1::image_service_client::ImageServiceClient;
use hull_proto::v1::node_service_client::NodeServiceClient;
use hull_proto::v1::stats_service_client::StatsServiceClient;
use hyper_util::rt::TokioIo;
use tokio::net::UnixStream;
use tonic::transport::{Certificate, Channel, ClientTlsConfig, Endpoint, Identity, Uri};
use tower::service_fn;

use crate::cli::Connection;
use crate::context::{self, Endpoint as Agent};
use crate::error::{Error, Result};

/// Largest answer taken: a page of a thousand containers, each with all the labels it may have, fits.
const MAX_ANSWER: usize = 128 << 20;
/// Bytes under way per stream, so that output is not slowed by the agent waiting for acknowledgements.
const STREAM_WINDOW: u32 = 1 << 20;
/// Bytes under way over all streams; more than a stream's, so that a stalled one does not hold up the others.
const CONNECTION_WINDOW: u32 = 4 << 20;
const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);
const KEEP_ALIVE: Duration = Duration::from_secs(30);

/// Where an agent listens.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Address {
    /// Path of a socket.
    Unix(PathBuf),
    /// Host and port as in a URI.
    Tcp(String),
}

impl Address {
    /// What `--host` says.
    pub(crate) fn parse(host: &str) -> Result<Self> {
        if let Some(path) = host.strip_prefix("unix://") {
            if !path.starts_with('/') {
                return Err(Error::new(format!("--host {host}: the path of the socket must be absolute")));
            }
            return Ok(Self::Unix(path.into()));
        }
        match host.strip_prefix("tcp://").map(|rest| rest.trim_end_matches('/')) {
            Some(authority) if authority.contains(':') && !authority.contains(['/', '@']) => {
                Ok(Self::Tcp(authority.to_owned()))
            }
            Some(_) => Err(Error::new(format!("--host {host}: expected tcp://HOST:PORT"))),
            None => Err(Error::new(format!("--host {host}: expected unix://PATH or tcp://HOST:PORT"))),
        }
    }
}

/// A connection, over which the services are called.
#[derive(Debug, Clone)]
pub(crate) struct Client {
    channel: Channel,
}

impl Client {
    /// Connects to the agent that the flags name.
    pub(crate) async fn connect(connection: &Connection) -> Result<Self> {
        let agent = context::endpoint(connection)?;
        let channel = match Address::parse(&agent.host)? {
            Address::Unix(path) => unix(path).await,
            Address::Tcp(authority) => {
                tcp(&authority, &agent)?.connect().await.map_err(|error| Error::new(unreachable(&agent.host, &error)))
            }
        }?;
        Ok(Self { channel })
    }

    /// The ContainerService.
    pub(crate) fn containers(&self) -> ContainerServiceClient<Channel> {
        ContainerServiceClient::new(self.channel.clone()).max_decoding_message_size(MAX_ANSWER)
    }

    /// The EventService.
    pub(crate) fn events(&self) -> EventServiceClient<Channel> {
        EventServiceClient::new(self.channel.clone()).max_decoding_message_size(MAX_ANSWER)
    }

    /// The ImageService.
    pub(crate) fn images(&self) -> ImageServiceClient<Channel> {
        ImageServiceClient::new(self.channel.clone()).max_decoding_message_size(MAX_ANSWER)
    }

    /// The NodeService.
    pub(crate) fn node(&self) -> NodeServiceClient<Channel> {
        NodeServiceClient::new(self.channel.clone())
    }

    /// The StatsService.
    pub(crate) fn stats(&self) -> StatsServiceClient<Channel> {
        StatsServiceClient::new(self.channel.clone()).max_decoding_message_size(MAX_ANSWER)
    }
}

async fn unix(path: PathBuf) -> Result<Channel> {
    // HTTP/2 wants an authority; a unix socket has none.
    let endpoint = windows(Endpoint::from_static("http://localhost"));
    let host = format!("unix://{}", path.display());
    let connector = service_fn(move |_: Uri| {
        let path = path.clone();
        async move { UnixStream::connect(path).await.map(TokioIo::new) }
    });
    endpoint.connect_with_connector(connector).await.map_err(|error| Error::new(unreachable(&host, &error)))
}

fn tcp(authority: &str, agent: &Agent) -> Result<Endpoint> {
    let (Some(ca), Some(cert), Some(key)) = (&agent.tls_ca, &agent.tls_cert, &agent.tls_key) else {
        return Err(Error::new("tcp:// needs mutual TLS: give --tls-ca, --tls-cert and --tls-key"));
    };
    let tls = ClientTlsConfig::new()
        .ca_certificate(Certificate::from_pem(read(ca)?))
        .identity(Identity::from_pem(read(cert)?, read(key)?));
    let endpoint = Endpoint::from_shared(format!("https://{authority}"))
        .and_then(|endpoint| endpoint.tls_config(tls))
        .map_err(|error| Error::new(format!("TLS to tcp://{authority}: {}", innermost(&error))))?;
    Ok(windows(endpoint)
        .connect_timeout(CONNECT_TIMEOUT)
        .http2_keep_alive_interval(KEEP_ALIVE)
        .keep_alive_while_idle(true))
}

fn windows(endpoint: Endpoint) -> Endpoint {
    endpoint.initial_stream_window_size(STREAM_WINDOW).initial_connection_window_size(CONNECTION_WINDOW)
}

fn read(path: &Path) -> Result<Vec<u8>> {
    std::fs::read(path).map_err(|error| Error::file(path, &error))
}

/// One line for an agent that cannot be reached, with what to do.
fn unreachable(host: &str, error: &(dyn std::error::Error + 'static)) -> String {
    let mut cause = error;
    while let Some(next) = cause.source() {
        cause = next;
    }
    let kind = cause.downcast_ref::<std::io::Error>().map(std::io::Error::kind);
    let hint = match kind {
        Some(std::io::ErrorKind::PermissionDenied) => "run as root or as a member of the socket's group",
        Some(std::io::ErrorKind::NotFound | std::io::ErrorKind::ConnectionRefused) => {
            "start the agent (`systemctl start hulld`, or `hulld --config /etc/hull/hulld.toml`), or name another with --host"
        }
        _ => "is this an agent, and do both ends trust each other's certificates?",
    };
    format!("cannot reach the agent at {host}: {cause}; {hint}")
}

fn innermost(error: &dyn std::error::Error) -> String {
    error.source().map_or_else(|| error.to_string(), innermost)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses() {
        assert_eq!(Address::parse("unix:///run/x.sock").unwrap(), Address::Unix("/run/x.sock".into()));
        assert_eq!(Address::parse("tcp://[::1]:7443/").unwrap(), Address::Tcp("[::1]:7443".into()));
        for wrong in ["unix://x.sock", "/run/x.sock", "tcp://host", "http://h:1", "tcp://a@h:1", ""] {
            assert!(Address::parse(wrong).is_err(), "{wrong}");
        }
    }

    #[tokio::test]
    async fn an_agent_that_is_not_there_is_named_with_what_to_do() {
        let error = unix("/nonexistent/hull.sock".into()).await.unwrap_err().to_string();
        assert!(error.contains("unix:///nonexistent/hull.sock") && error.contains("systemctl start hulld"), "{error}");
    }

    #[test]
    fn tcp_without_certificates_is_refused() {
        let connection = Agent { host: "tcp://h:1".into(), ..Agent::default() };
        assert!(tcp("h:1", &connection).unwrap_err().to_string().contains("--tls-ca"));
    }
}
