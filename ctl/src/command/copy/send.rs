//! From here to a container.

use std::io::{self, Read as _, Write};
use std::path::Path;

use bytes::Bytes;
use hull_proto::v1::copy_to_request::Message;
use hull_proto::v1::{CopyToRequest, CopyToResponse, CopyToStart, PathKind};
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;

use super::{LINKS_MAX, PIECE, QUEUE, is_directory, stat};
use crate::cli::CopyFlags;
use crate::client::Client;
use crate::copy::{Destination, Packing, Source, pack, place};
use crate::error::{Error, Result, one_line};
use crate::output::{self, Progress, bytes_decimal};

/// Sends the tar on standard input; how many bytes the files had.
pub(super) async fn from_stdin(client: &Client, container: &str, path: &str, flags: &CopyFlags) -> Result<u64> {
    if io::IsTerminal::is_terminal(&io::stdin()) {
        return Err(Error::new("an archive is not typed on a terminal; give a path, or a pipe"));
    }
    let there = stat(client, container, path, true).await?;
    if !there.as_ref().is_some_and(is_directory) {
        return Err(Error::new(format!("destination \"{container}:{path}\" must be a directory")));
    }
    let sending = |mut pieces: Pieces| {
        let (mut stdin, mut buffer) = (io::stdin().lock(), vec![0; PIECE]);
        loop {
            match stdin.read(&mut buffer) {
                Ok(0) => return Ok(()),
                Ok(count) => pieces.write_all(&buffer[..count]).map_err(|error| Error::new(error.to_string()))?,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(Error::new(format!("reading standard input: {error}"))),
            }
        }
    };
    send(client, container, path, flags, sending).await
}

/// Packs what is at `local` and sends it; how many bytes the files had.
pub(super) async fn from_path(
    client: &Client,
    local: &str,
    container: &str,
    path: &str,
    flags: &CopyFlags,
) -> Result<u64> {
    let wrong = |error: io::Error| Error::file(Path::new(local), &error);
    let of_directory = local.ends_with('/') || local == "." || local.ends_with("/.");
    let follow = flags.follow_link || of_directory;
    let found = if follow { std::fs::metadata(local) } else { std::fs::symlink_metadata(local) }.map_err(wrong)?;
    if of_directory && !found.is_dir() {
        return Err(Error::new(format!("{local}: it is not a directory")));
    }
    let name = name_of(local).map_err(wrong)?;
    let (target, there) = destination(client, container, path).await?;
    let source = Source { name: &name, is_directory: found.is_dir() };
    let place = place(source, Destination { path: &target, is_directory: there })?;
    let packing = Packing { path: local.into(), name: place.name, follow };
    let sending = move |pieces: Pieces| pack(&packing, io::BufWriter::with_capacity(PIECE, pieces));
    send(client, container, &place.directory, flags, sending).await
}

/// The name of what is at a path; "." where it is what is in it.
fn name_of(local: &str) -> io::Result<String> {
    if local == "." || local.ends_with("/.") || local.chars().all(|c| c == '/') {
        return Ok(".".to_owned());
    }
    let trimmed = local.trim_end_matches('/');
    match trimmed.rsplit('/').next() {
        Some(name) if name != ".." => Ok(name.to_owned()),
        _ => {
            let whole = std::fs::canonicalize(local)?;
            let name = whole.file_name().map_or_else(|| ".".into(), |name| name.to_string_lossy().into_owned());
            Ok(name)
        }
    }
}

/// The target with links to nowhere followed, and what is there. Where nothing is, its directory may be.
async fn destination(client: &Client, container: &str, path: &str) -> Result<(String, Option<bool>)> {
    let mut path = path.to_owned();
    for _ in 0..LINKS_MAX {
        if let Some(found) = stat(client, container, &path, true).await? {
            return Ok((path, Some(is_directory(&found))));
        }
        let trimmed = path.trim_end_matches('/');
        let link = stat(client, container, if trimmed.is_empty() { "/" } else { trimmed }, false).await?;
        let Some(link) = link.filter(|found| found.kind() == PathKind::Symlink) else { return Ok((path, None)) };
        let above = trimmed.rsplit_once('/').map_or("", |(above, _)| above);
        path =
            if link.link_target.starts_with('/') { link.link_target } else { format!("{above}/{}", link.link_target) };
    }
    Err(Error::new(format!("{container}:{path}: too many symbolic links")))
}

/// Sends what `sending` writes.
async fn send(
    client: &Client,
    container: &str,
    path: &str,
    flags: &CopyFlags,
    sending: impl FnOnce(Pieces) -> Result<()> + Send + 'static,
) -> Result<u64> {
    let (requests, queue) = mpsc::channel(QUEUE);
    let start = CopyToStart { container: container.to_owned(), path: path.to_owned(), keep_ownership: flags.archive };
    // The queue is empty and its other end is here: it takes the message.
    let _ = requests.send(CopyToRequest { message: Some(Message::Start(start)) }).await;
    let pieces = Pieces { requests: requests.clone(), progress: Progress::new(flags.quiet), bytes: 0 };
    let sent = tokio::task::spawn_blocking(move || sending(pieces));
    // The queue stays open until all was read: a tar that breaks off must not look complete.
    let sending = async move {
        sent.await.map_err(|error| Error::new(format!("a thread failed: {error}")))??;
        drop(requests);
        std::future::pending::<Result<CopyToResponse>>().await
    };
    let mut containers = client.containers();
    let answered = async { Ok::<_, Error>(containers.copy_to(ReceiverStream::new(queue)).await?.into_inner()) };
    let answer = tokio::select! {
        biased;
        answer = answered => answer?,
        failed = sending => failed?,
    };
    if answer.bare > 0 {
        let first = one_line(&answer.first_bare);
        output::warn(&format!(
            "{} files lost extended attributes that cannot be kept there, {first} first",
            answer.bare
        ));
    }
    Ok(answer.bytes)
}

/// Bytes as messages.
struct Pieces {
    requests: mpsc::Sender<CopyToRequest>,
    progress: Progress,
    bytes: u64,
}

impl Write for Pieces {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let piece = &bytes[..bytes.len().min(PIECE)];
        let message = Message::Data(Bytes::copy_from_slice(piece));
        // Where the call is over, the agent's answer tells why.
        let _ = self.requests.blocking_send(CopyToRequest { message: Some(message) });
        self.bytes += piece.len() as u64;
        self.progress.text(format!("Copying to container - {}", bytes_decimal(self.bytes)));
        Ok(piece.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        self.progress.clear();
        Ok(())
    }
}
