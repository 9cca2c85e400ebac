//! Images.

use hull_proto::v1;

use super::config::unknown_enum;
use super::time;
use crate::error::{Error, Result};
use crate::images::{ArchiveFormat, CommitOptions, Image, ImageConfig, ImportOptions};

/// Most names that one import gives.
const MAX_TAGS: usize = 32;
/// Most bytes of what is written into an image's history.
const MAX_TEXT: usize = 4096;

/// How to import.
pub(crate) fn import(start: v1::ImportStart) -> Result<ImportOptions> {
    if start.tags.len() > MAX_TAGS {
        return Err(Error::invalid("start.tags", format!("more than {MAX_TAGS} names")));
    }
    let format = match v1::ArchiveFormat::try_from(start.format) {
        Ok(v1::ArchiveFormat::Unspecified) => None,
        Ok(v1::ArchiveFormat::RootfsTar) => Some(ArchiveFormat::RootfsTar),
        Ok(v1::ArchiveFormat::Oci) => Some(ArchiveFormat::Oci),
        Ok(v1::ArchiveFormat::Docker) => Some(ArchiveFormat::Docker),
        Err(_) => return Err(unknown_enum("start.format", start.format)),
    };
    Ok(ImportOptions { tags: start.tags, format, config: start.config.map(config) })
}

/// How to commit.
pub(crate) fn commit(request: v1::CommitContainerRequest) -> Result<CommitOptions> {
    for (field, text) in [("author", &request.author), ("comment", &request.comment)] {
        if text.len() > MAX_TEXT {
            return Err(Error::invalid(field, format!("is longer than {MAX_TEXT} bytes")));
        }
    }
    Ok(CommitOptions {
        name: Some(request.name).filter(|name| !name.is_empty()),
        author: request.author,
        comment: request.comment,
        created_by: String::new(),
        config: request.config.map(config).unwrap_or_default(),
    })
}

/// One image.
pub(crate) fn image(image: &Image) -> v1::Image {
    v1::Image {
        digest: image.digest.clone(),
        names: image.names.clone(),
        created_at: image.created_nanos().map(time::to_timestamp),
        imported_at: Some(time::to_timestamp(image.imported_nanos())),
        architecture: image.architecture.clone(),
        os: image.os.clone(),
        config: Some(render_config(&image.config)),
        layers: image
            .layers
            .iter()
            .map(|layer| v1::Layer { diff_id: layer.diff_id.clone(), size: layer.size })
            .collect(),
        size: image.size(),
    }
}

fn config(config: v1::ImageConfig) -> ImageConfig {
    ImageConfig {
        entrypoint: config.entrypoint,
        cmd: config.cmd,
        env: config.env,
        working_dir: config.working_dir,
        user: config.user,
        stop_signal: config.stop_signal,
        labels: config.labels.into_iter().collect(),
        exposed_ports: config.exposed_ports,
        volumes: config.volumes,
    }
}

fn render_config(config: &ImageConfig) -> v1::ImageConfig {
    v1::ImageConfig {
        entrypoint: config.entrypoint.clone(),
        cmd: config.cmd.clone(),
        env: config.env.clone(),
        working_dir: config.working_dir.clone(),
        user: config.user.clone(),
        stop_signal: config.stop_signal.clone(),
        labels: config.labels.clone().into_iter().collect(),
        exposed_ports: config.exposed_ports.clone(),
        volumes: config.volumes.clone(),
    }
}
