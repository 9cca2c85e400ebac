//! gRPC clients over the agent's unix socket.

use std::path::{Path, PathBuf};

use hull_proto::v1::container_service_client::ContainerServiceClient;
use hull_proto::v1::image_service_client::ImageServiceClient;
use hull_proto::v1::node_service_client::NodeServiceClient;
use hull_proto::v1::stats_service_client::StatsServiceClient;
use hyper_util::rt::TokioIo;
use tokio::net::UnixStream;
use tonic::transport::{Channel, Endpoint, Error};
use tower::service_fn;

/// Most bytes of an answer that a client takes.
const MAX_ANSWER: usize = 64 * 1024 * 1024;

/// One client of each service, over one connection.
#[derive(Debug, Clone)]
pub struct Clients {
    /// The connection.
    pub channel: Channel,
    /// Containers.
    pub containers: ContainerServiceClient<Channel>,
    /// Images.
    pub images: ImageServiceClient<Channel>,
    /// Statistics.
    pub stats: StatsServiceClient<Channel>,
    /// The node.
    pub node: NodeServiceClient<Channel>,
}

impl Clients {
    /// Clients over a connection.
    pub fn over(channel: Channel) -> Self {
        Self {
            containers: ContainerServiceClient::new(channel.clone()).max_decoding_message_size(MAX_ANSWER),
            images: ImageServiceClient::new(channel.clone()).max_decoding_message_size(MAX_ANSWER),
            stats: StatsServiceClient::new(channel.clone()).max_decoding_message_size(MAX_ANSWER),
            node: NodeServiceClient::new(channel.clone()),
            channel,
        }
    }
}

/// Connects to a unix socket.
///
/// # Errors
/// If nothing listens there.
pub async fn connect(socket: &Path) -> Result<Clients, Error> {
    let socket: PathBuf = socket.to_owned();
    let connector = service_fn(move |_| {
        let socket = socket.clone();
        async move { UnixStream::connect(socket).await.map(TokioIo::new) }
    });
    Ok(Clients::over(Endpoint::from_static("http://hull").connect_with_connector(connector).await?))
}
