//! ExecSync: a process from its start to its end in one answer.

use bytes::Bytes;
use hull_proto::v1;
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;
use tonic::Status;

use super::{Outgoing, QUEUE, output};
use crate::lifecycle::Containers;
use crate::service::convert::{self, config};
use crate::service::status::shutting_down;

/// The first bytes of an output.
#[derive(Debug)]
struct Kept {
    bytes: Vec<u8>,
    most: usize,
    truncated: bool,
}

impl Kept {
    fn new(most: usize) -> Self {
        Self { bytes: Vec::new(), most, truncated: false }
    }

    fn add(&mut self, piece: &[u8]) {
        let room = self.most - self.bytes.len();
        self.bytes.extend_from_slice(&piece[..piece.len().min(room)]);
        self.truncated |= piece.len() > room;
    }
}

/// Runs a further process to its end. Dropping the future kills it.
pub(in crate::service) async fn exec_sync(
    containers: &Containers,
    request: v1::ExecSyncRequest,
    shutdown: CancellationToken,
) -> Result<v1::ExecSyncResponse, Status> {
    let (container, config, most) = config::exec_sync(request)?;
    let mut session = containers.exec(convert::reference("container", &container)?, config).await?;
    let (pieces, mut queue) = mpsc::channel(QUEUE);
    let run = async {
        let exit = output::<Outgoing>(&mut session, &pieces).await;
        drop(pieces);
        exit
    };
    let (mut stdout, mut stderr) = (Kept::new(most), Kept::new(most));
    let keep = async {
        while let Some(Ok(piece)) = queue.recv().await {
            match piece {
                Outgoing::Stdout(piece) => stdout.add(&piece),
                Outgoing::Stderr(piece) => stderr.add(&piece),
                Outgoing::Started { .. } | Outgoing::Exit(_) => {}
            }
        }
    };
    let exit = tokio::select! {
        (exit, ()) = async { tokio::join!(run, keep) } => exit?,
        () = shutdown.cancelled() => return Err(shutting_down().into()),
    };
    Ok(v1::ExecSyncResponse {
        exit: Some(convert::render::exit(&exit)),
        stdout: Bytes::from(stdout.bytes),
        stderr: Bytes::from(stderr.bytes),
        stdout_truncated: stdout.truncated,
        stderr_truncated: stderr.truncated,
        timed_out: session.timed_out.load(std::sync::atomic::Ordering::Relaxed),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_bytes_are_kept_and_the_rest_is_told_of() {
        let mut kept = Kept::new(5);
        kept.add(b"abc");
        kept.add(b"de");
        assert_eq!((kept.bytes.as_slice(), kept.truncated), (b"abcde".as_slice(), false));
        kept.add(b"");
        assert!(!kept.truncated);
        kept.add(b"f");
        assert_eq!((kept.bytes.as_slice(), kept.truncated), (b"abcde".as_slice(), true));
        let mut nothing = Kept::new(0);
        nothing.add(b"x");
        assert!(nothing.bytes.is_empty() && nothing.truncated);
    }
}
