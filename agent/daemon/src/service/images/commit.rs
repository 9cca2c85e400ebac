//! CommitContainer.

use hull_proto::v1;
use tonic::{Response, Status};

use crate::service::Edge;
use crate::service::convert::{images as parse, reference};
use crate::service::status::shutting_down;

/// Makes an image of a container.
pub(super) async fn commit(
    edge: &Edge,
    request: v1::CommitContainerRequest,
) -> Result<Response<v1::CommitContainerResponse>, Status> {
    let (container, running) = (reference("container", &request.container)?.to_owned(), request.without_pause);
    let options = parse::commit(request)?;
    tokio::select! {
        image = edge.containers.commit(&container, options, running) => {
            Ok(Response::new(v1::CommitContainerResponse { image: Some(parse::image(&*image?)) }))
        }
        () = edge.shutdown.cancelled() => Err(shutting_down().into()),
    }
}
