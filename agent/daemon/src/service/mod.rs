//! The gRPC edge: requests are parsed, handed to the life cycle, and answers rendered. Nothing is decided here.

mod calls;
mod changes;
mod containers;
mod convert;
mod copy;
mod deadline;
mod events;
mod exec;
mod images;
pub(crate) mod listen;
mod logs;
mod node;
mod pieces;
mod stats;
mod status;

use std::sync::Arc;

use hull_proto::rendered_v1::stats_service_server::StatsServiceServer;
use hull_proto::v1::container_service_server::ContainerServiceServer;
use hull_proto::v1::event_service_server::EventServiceServer;
use hull_proto::v1::image_service_server::ImageServiceServer;
use hull_proto::v1::node_service_server::NodeServiceServer;
use tokio_util::sync::CancellationToken;
use tonic::service::Routes;

pub(crate) use self::calls::CallsLayer;
pub(crate) use self::deadline::DeadlineLayer;
pub(crate) use self::node::NodeInfo;
use crate::blocking::blocking;
use crate::events::Events;
use crate::images::Images;
use crate::lifecycle::Containers;
use crate::stats::StatsHub;

/// Most bytes of one request.
const MAX_REQUEST: usize = 4 * 1024 * 1024;

/// What the handlers hand requests to.
#[derive(Debug, Clone)]
pub(crate) struct Edge {
    pub(crate) containers: Containers,
    pub(crate) images: Images,
    pub(crate) events: Events,
    pub(crate) stats: StatsHub,
    pub(crate) node: Arc<NodeInfo>,
    /// Cancelled when the agent is asked to end: streams and waits end with UNAVAILABLE.
    pub(crate) shutdown: CancellationToken,
}

impl Edge {
    /// The services of `hull.v1`.
    pub(crate) fn routes(&self) -> Routes {
        Routes::new(ContainerServiceServer::new(self.clone()).max_decoding_message_size(MAX_REQUEST))
            .add_service(ImageServiceServer::new(self.clone()).max_decoding_message_size(MAX_REQUEST))
            .add_service(EventServiceServer::new(self.clone()).max_decoding_message_size(MAX_REQUEST))
            .add_service(StatsServiceServer::new(self.clone()).max_decoding_message_size(MAX_REQUEST))
            .add_service(NodeServiceServer::new(self.clone()).max_decoding_message_size(MAX_REQUEST))
    }
}
