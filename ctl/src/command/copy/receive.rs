//! From a container to here.

use std::io::{self, Read};
use std::path::{Path, PathBuf};

use bytes::{Buf as _, Bytes};
use futures_util::stream;
use hull_proto::v1::copy_from_response::Message;
use hull_proto::v1::{CopyFromRequest, CopyFromResponse, PathStat};
use tokio::sync::mpsc;
use tonic::Streaming;

use super::{LINKS_MAX, QUEUE, archive, cut_short, is_directory, warn_of_shrunk};
use crate::cli::CopyFlags;
use crate::client::Client;
use crate::copy::{Destination, Left, Source, Unpacking, place, unpack};
use crate::error::{Error, Result, one_line};
use crate::output::{self, Progress, bytes_decimal};

/// Writes the tar as it comes.
pub(super) async fn to_stdout(client: &Client, container: &str, path: &str, follow_link: bool) -> Result<u8> {
    let (_, answers) = begin(client, container, path, follow_link).await?;
    let pieces = stream::try_unfold(answers, |mut answers| async {
        match answers.message().await?.and_then(|answer| answer.message) {
            Some(Message::Data(data)) => Ok(Some((data, answers))),
            Some(Message::Done(done)) => {
                warn_of_shrunk(&done);
                Ok(None)
            }
            Some(Message::Stat(_)) | None => Err(cut_short()),
        }
    });
    archive::write(pieces, None).await?;
    Ok(0)
}

/// Unpacks to `target`; how many bytes came.
pub(super) async fn to_directory(
    client: &Client,
    container: &str,
    path: &str,
    target: &str,
    flags: &CopyFlags,
) -> Result<u64> {
    let (stat, mut answers) = begin(client, container, path, flags.follow_link).await?;
    let (target, there) = destination(target)?;
    let source = Source { name: &stat.name, is_directory: is_directory(&stat) };
    let place = place(source, Destination { path: &target, is_directory: there })?;
    let (directory, name) = (place.directory, place.name);
    let unpacking = Unpacking { directory, prefix: stat.name, name, ownership: flags.archive };
    let (pieces, queue) = mpsc::channel(QUEUE);
    let written =
        tokio::task::spawn_blocking(move || unpack(&unpacking, Pieces { queue, rest: Bytes::new(), broken: true }));
    let received = receive(&mut answers, pieces, Progress::new(flags.quiet)).await;
    let written = written.await.map_err(|error| Error::new(format!("a thread failed: {error}")))?;
    // Why the stream broke is the agent's to say; but who could not write says it best.
    let (bytes, left) = match (received, written) {
        (Ok(Some(bytes)), Ok(left)) => (bytes, left),
        (Err(error), _) | (_, Err(error)) => return Err(error),
        (Ok(None), Ok(_)) => return Err(cut_short()),
    };
    warn_of_left(&left);
    Ok(bytes)
}

async fn begin(
    client: &Client,
    container: &str,
    path: &str,
    follow_link: bool,
) -> Result<(PathStat, Streaming<CopyFromResponse>)> {
    let request = CopyFromRequest { container: container.to_owned(), path: path.to_owned(), follow_link };
    let mut answers = client.containers().copy_from(request).await?.into_inner();
    match answers.message().await?.and_then(|answer| answer.message) {
        Some(Message::Stat(stat)) => Ok((stat, answers)),
        _ => Err(cut_short()),
    }
}

/// Passes the pieces on; `None` if whoever takes them wants no more.
async fn receive(
    answers: &mut Streaming<CopyFromResponse>,
    pieces: mpsc::Sender<Option<Bytes>>,
    mut progress: Progress,
) -> Result<Option<u64>> {
    let mut bytes = 0;
    loop {
        match answers.message().await?.and_then(|answer| answer.message) {
            Some(Message::Data(data)) => {
                bytes += data.len() as u64;
                progress.text(format!("Copying from container - {}", bytes_decimal(bytes)));
                if pieces.send(Some(data)).await.is_err() {
                    return Ok(None);
                }
            }
            Some(Message::Done(done)) => {
                progress.clear();
                warn_of_shrunk(&done);
                // It has read to the tar's end and may have gone.
                let _ = pieces.send(None).await;
                return Ok(Some(bytes));
            }
            Some(Message::Stat(_)) | None => return Err(cut_short()),
        }
    }
}

/// The target with links to nowhere followed, and what is there.
fn destination(target: &str) -> Result<(String, Option<bool>)> {
    let mut path = target.to_owned();
    for _ in 0..LINKS_MAX {
        match std::fs::metadata(&path) {
            Ok(found) => return Ok((path, Some(found.is_dir()))),
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            Err(error) => return Err(Error::file(Path::new(&path), &error)),
        }
        let Ok(link) = std::fs::read_link(path.trim_end_matches('/')) else { return Ok((path, None)) };
        let above = Path::new(&path).parent().map(PathBuf::from).unwrap_or_default();
        let next = above.join(link).into_os_string().into_string();
        path = next.map_err(|_| Error::new(format!("{target}: it is a link to a name that is not UTF-8")))?;
    }
    Err(Error::new(format!("{target}: too many symbolic links")))
}

fn warn_of_left(left: &Left) {
    if left.devices > 0 {
        let first = one_line(&left.first);
        output::warn(&format!("{} device nodes were left out, {first} first; -a makes them", left.devices));
    }
}

/// The tar as it comes: pieces, then `None`. A queue that ends without it was broken off.
struct Pieces {
    queue: mpsc::Receiver<Option<Bytes>>,
    rest: Bytes,
    broken: bool,
}

impl Read for Pieces {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        while self.rest.is_empty() && self.broken {
            match self.queue.blocking_recv() {
                Some(Some(piece)) => self.rest = piece,
                Some(None) => self.broken = false,
                None => return Err(io::Error::from(io::ErrorKind::ConnectionAborted)),
            }
        }
        let length = buffer.len().min(self.rest.len());
        self.rest.copy_to_slice(&mut buffer[..length]);
        Ok(length)
    }
}
