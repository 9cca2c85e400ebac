//! `save`.

use std::io::{self, IsTerminal as _};
use std::path::{Path, PathBuf};

use hull_proto::v1::{ArchiveFormat, ExportImageRequest, ExportImageResponse};
use tokio::io::{AsyncWrite, AsyncWriteExt as _, BufWriter};
use tonic::Streaming;

use crate::cli::{SaveFlags, SaveFormat};
use crate::client::Client;
use crate::error::{Error, Result};

/// Bytes that are gathered before they are written.
const BUFFER: usize = 1 << 20;

/// Writes images to an archive.
pub(crate) async fn save(connect: impl Future<Output = Result<Client>>, flags: SaveFlags) -> Result<u8> {
    let SaveFlags { output, format, images } = flags;
    if output.is_none() && io::stdout().is_terminal() {
        return Err(Error::new("an archive is not shown on a terminal; give -o FILE, or a pipe"));
    }
    let format = match format {
        SaveFormat::Oci => ArchiveFormat::Oci,
        SaveFormat::DockerArchive => ArchiveFormat::Docker,
    };
    let request = ExportImageRequest { images, format: format.into() };
    let pieces = connect.await?.images().export_image(request).await?.into_inner();
    match output {
        None => copy(pieces, tokio::io::stdout(), Error::from).await?,
        Some(path) => to_file(pieces, path).await?,
    }
    Ok(0)
}

/// The file is there once it is whole; what is no file is written to as it is.
async fn to_file(pieces: Streaming<ExportImageResponse>, path: PathBuf) -> Result<()> {
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
    mut pieces: Streaming<ExportImageResponse>,
    output: impl AsyncWrite + Unpin,
    wrong: impl Fn(io::Error) -> Error,
) -> Result<()> {
    let mut output = BufWriter::with_capacity(BUFFER, output);
    while let Some(piece) = pieces.message().await? {
        output.write_all(&piece.data).await.map_err(&wrong)?;
    }
    output.flush().await.map_err(wrong)
}
