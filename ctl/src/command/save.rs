//! `save`.

use futures_util::StreamExt as _;
use hull_proto::v1::{ArchiveFormat, ExportImageRequest};

use super::archive;
use crate::cli::{SaveFlags, SaveFormat};
use crate::client::Client;
use crate::error::{Error, Result};

/// Writes images to an archive.
pub(crate) async fn save(connect: impl Future<Output = Result<Client>>, flags: SaveFlags) -> Result<u8> {
    let SaveFlags { output, format, images } = flags;
    if output.is_none() {
        archive::refuse_terminal("-o FILE")?;
    }
    let format = match format {
        SaveFormat::Oci => ArchiveFormat::Oci,
        SaveFormat::DockerArchive => ArchiveFormat::Docker,
    };
    let request = ExportImageRequest { images, format: format.into() };
    let pieces = connect.await?.images().export_image(request).await?.into_inner();
    archive::write(pieces.map(|piece| piece.map(|piece| piece.data).map_err(Error::from)), output).await?;
    Ok(0)
}
