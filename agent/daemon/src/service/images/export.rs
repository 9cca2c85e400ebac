//! ExportImage: the archive goes out in pieces, as fast as the client takes them.

use std::io::{self, ErrorKind, Write};

use bytes::{Bytes, BytesMut};
use hull_proto::v1;
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tonic::{Response, Status};

use super::QUEUE;
use crate::error::Result;
use crate::service::convert::images as parse;
use crate::service::status::shutting_down;
use crate::service::{Edge, blocking};

/// Bytes of an archive in one message.
const PIECE: usize = 256 * 1024;

type Answer = Result<v1::ExportImageResponse, Status>;

/// Starts the export. What is wrong with the request is said at once, and not in the stream.
pub(super) fn start(edge: &Edge, request: &v1::ExportImageRequest) -> Result<Response<ReceiverStream<Answer>>, Status> {
    let export = edge.images.export(&request.images, parse::export_format(request.format)?)?;
    let (answers, stream) = mpsc::channel(QUEUE);
    let shutdown = edge.shutdown.clone();
    tokio::spawn(async move {
        let pieces = Pieces { answers: answers.clone(), piece: BytesMut::with_capacity(PIECE) };
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

/// The archive as it is written: whole pieces, each waiting for the client to take one before.
struct Pieces {
    answers: mpsc::Sender<Answer>,
    piece: BytesMut,
}

impl Pieces {
    fn send(&mut self) -> io::Result<()> {
        let data: Bytes = std::mem::replace(&mut self.piece, BytesMut::with_capacity(PIECE)).freeze();
        let sent = self.answers.blocking_send(Ok(v1::ExportImageResponse { data }));
        sent.map_err(|_| io::Error::from(ErrorKind::BrokenPipe))
    }
}

impl Write for Pieces {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let taken = bytes.len().min(PIECE - self.piece.len());
        self.piece.extend_from_slice(&bytes[..taken]);
        if self.piece.len() == PIECE {
            self.send()?;
        }
        Ok(taken)
    }

    fn flush(&mut self) -> io::Result<()> {
        if self.piece.is_empty() { Ok(()) } else { self.send() }
    }
}
