//! An archive that the agent streams, to standard output or a file.

use std::io::{self, IsTerminal as _};
use std::path::{Path, PathBuf};

use bytes::Bytes;
use futures_util::{Stream, StreamExt as _};
use tokio::io::{AsyncWrite, AsyncWriteExt as _, BufWriter};

use crate::error::{Error, Result};

/// Bytes that are gathered before they are written.
const BUFFER: usize = 1 << 20;

/// Refuses to show an archive on a terminal.
pub(super) fn refuse_terminal(hint: &str) -> Result<()> {
    if io::stdout().is_terminal() {
        return Err(Error::new(format!("an archive is not shown on a terminal; give {hint}, or a pipe")));
    }
    Ok(())
}

/// Writes the pieces; `None`: to standard output.
pub(super) async fn write(pieces: impl Stream<Item = Result<Bytes>>, output: Option<PathBuf>) -> Result<()> {
    match output {
        None => copy(pieces, tokio::io::stdout(), Error::from).await,
        Some(path) => to_file(pieces, path).await,
    }
}

/// The file is there once it is whole; what is no file is written to as it is.
async fn to_file(pieces: impl Stream<Item = Result<Bytes>>, path: PathBuf) -> Result<()> {
    let wrong = |error: io::Error| Error::file(&path, &error);
    if path.exists() && !path.is_file() {
        let file = tokio::fs::OpenOptions::new().write(true).open(&path).await.map_err(wrong)?;
        return copy(pieces, file, wrong).await;
    }
    let dir = match path.parent() {
        Some(dir) if !dir.as_os_str().is_empty() => dir,
        _ => Path::new("."),
    };
    let (file, part) = tempfile::NamedTempFile::with_prefix_in(".hullctl", dir).map_err(wrong)?.into_parts();
    copy(pieces, tokio::fs::File::from_std(file), wrong).await?;
    part.persist(&path).map_err(|error| wrong(error.error))
}

async fn copy(
    pieces: impl Stream<Item = Result<Bytes>>,
    output: impl AsyncWrite + Unpin,
    wrong: impl Fn(io::Error) -> Error,
) -> Result<()> {
    let mut output = BufWriter::with_capacity(BUFFER, output);
    let mut pieces = std::pin::pin!(pieces);
    while let Some(piece) = pieces.next().await {
        output.write_all(&piece?).await.map_err(&wrong)?;
    }
    output.flush().await.map_err(wrong)
}
