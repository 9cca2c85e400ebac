//! gRPC clients over the agent's unix socket.

use std::path::{Path, PathBuf};
use std::sync::OnceLock;

use hull_proto::v1::container_service_client::ContainerServiceClient;
use hull_proto::v1::event_service_client::EventServiceClient;
use hull_proto::v1::image_service_client::ImageServiceClient;
use hull_proto::v1::node_service_client::NodeServiceClient;
use hull_proto::v1::stats_service_client::StatsServiceClient;
use hyper_util::rt::TokioIo;
use tokio::net::UnixStream;
use tokio::runtime::Runtime;
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
    /// Events.
    pub events: EventServiceClient<Channel>,
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
            events: EventServiceClient::new(channel.clone()).max_decoding_message_size(MAX_ANSWER),
            images: ImageServiceClient::new(channel.clone()).max_decoding_message_size(MAX_ANSWER),
            stats: StatsServiceClient::new(channel.clone()).max_decoding_message_size(MAX_ANSWER),
            node: NodeServiceClient::new(channel.clone()),
            channel,
        }
    }
}

/// Where connections live: not in the tests' own runtimes, which stand still while a test looks at the host. A client that stands
/// still would hold up an agent that drains.
fn connections() -> &'static Runtime {
    static RUNTIME: OnceLock<Runtime> = OnceLock::new();
    RUNTIME.get_or_init(|| {
        tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().expect("a runtime")
    })
}

/// Connects to a unix socket.
///
/// # Errors
/// If nothing listens there.
///
/// # Panics
/// If the task that connects does.
pub async fn connect(socket: &Path) -> Result<Clients, Error> {
    connect_as(Endpoint::from_static("http://hull"), socket).await
}

/// Connects to a unix socket, ready to take but so many bytes that nobody has read.
///
/// # Errors
/// If nothing listens there.
///
/// # Panics
/// If the task that connects does.
pub async fn connect_with_window(socket: &Path, bytes: u32) -> Result<Clients, Error> {
    connect_as(Endpoint::from_static("http://hull").initial_stream_window_size(bytes), socket).await
}

async fn connect_as(endpoint: Endpoint, socket: &Path) -> Result<Clients, Error> {
    let socket: PathBuf = socket.to_owned();
    let connector = service_fn(move |_| {
        let socket = socket.clone();
        async move { UnixStream::connect(socket).await.map(TokioIo::new) }
    });
    let connecting = async move { endpoint.connect_with_connector(connector).await };
    Ok(Clients::over(connections().spawn(connecting).await.expect("the connecting task")?))
}
