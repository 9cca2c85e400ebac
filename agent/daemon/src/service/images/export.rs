//! ExportImage: the archive goes out in pieces, as fast as the client takes them.

use hull_proto::v1;
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tonic::{Response, Status};

use super::QUEUE;
use crate::error::Result;
use crate::service::convert::images as parse;
use crate::service::pieces::Outgoing;
use crate::service::status::shutting_down;
use crate::service::{Edge, blocking};

type Answer = Result<v1::ExportImageResponse, Status>;

/// Starts the export. What is wrong with the request is said at once, and not in the stream.
pub(super) fn start(edge: &Edge, request: &v1::ExportImageRequest) -> Result<Response<ReceiverStream<Answer>>, Status> {
    let export = edge.images.export(&request.images, parse::export_format(request.format)?)?;
    let (answers, stream) = mpsc::channel(QUEUE);
    let shutdown = edge.shutdown.clone();
    tokio::spawn(async move {
        let pieces = Outgoing::new(answers.clone(), |data| Ok(v1::ExportImageResponse { data }));
        let failed = tokio::select! {
            written = blocking(move || export.write(pieces)) => written.err(),
            // The writer's next piece finds nobody.
            () = answers.closed() => None,
            () = shutdown.cancelled() => Some(shutting_down()),
        };
        if let Some(error) = failed {
            let _ = answers.send(Err(error.into())).await;
        }
    });
    Ok(Response::new(ReceiverStream::new(stream)))
}
