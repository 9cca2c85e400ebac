//! Images.

use hull_proto::v1;

use super::config::unknown_enum;
use super::{reference, required, time};
use crate::error::{Error, Result};
use crate::images::{
    ArchiveFormat, CommitOptions, Credentials, HistoryEntry, Image, ImageConfig, ImportOptions, Pruned, PullRequest,
    PushRequest, Reference, WantedPlatform,
};

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

/// How to write an archive.
pub(crate) fn export_format(format: i32) -> Result<ArchiveFormat> {
    match v1::ArchiveFormat::try_from(format) {
        Ok(v1::ArchiveFormat::Unspecified | v1::ArchiveFormat::Oci) => Ok(ArchiveFormat::Oci),
        Ok(v1::ArchiveFormat::Docker) => Ok(ArchiveFormat::Docker),
        Ok(v1::ArchiveFormat::RootfsTar) => Ok(ArchiveFormat::RootfsTar),
        Err(_) => Err(unknown_enum("format", format)),
    }
}

/// One step of an image's making.
pub(crate) fn history(entry: HistoryEntry) -> v1::HistoryEntry {
    let created_at = entry.created_nanos.map(time::to_timestamp);
    let HistoryEntry { created_by, author, comment, layer, .. } = entry;
    let (diff_id, size) = layer.map(|layer| (layer.diff_id, layer.size)).unwrap_or_default();
    v1::HistoryEntry { created_at, created_by, author, comment, diff_id, size }
}

/// What a prune did.
pub(crate) fn pruned(pruned: Pruned) -> v1::PruneImagesResponse {
    let removed = pruned.removed.into_iter().map(|(digest, names)| v1::PrunedImage { digest, names });
    let kept = pruned.kept.into_iter().map(|image| v1::KeptImage {
        digest: image.digest,
        names: image.names,
        reason: image.reason,
        bytes: image.bytes,
    });
    v1::PruneImagesResponse { removed: removed.collect(), kept: kept.collect(), freed_bytes: pruned.freed_bytes }
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

/// What to pull.
pub(crate) fn pull(request: v1::PullImageRequest) -> Result<PullRequest> {
    let platform = match request.platform.as_str() {
        "" => WantedPlatform::default(),
        platform => WantedPlatform::parse(platform)?,
    };
    Ok(PullRequest {
        reference: Reference::parse(reference("image", &request.image)?)?,
        platform,
        credentials: credentials(request.auth)?,
    })
}

/// What to push.
pub(crate) fn push(request: v1::PushImageRequest) -> Result<PushRequest> {
    let image = reference("image", &request.image)?.to_owned();
    let destination = match request.destination.as_str() {
        "" => None,
        destination => Some(Reference::parse(destination)?),
    };
    if destination.as_ref().is_some_and(|destination| destination.digest().is_some()) {
        return Err(Error::invalid("destination", "is a name without a digest"));
    }
    Ok(PushRequest { image, destination, credentials: credentials(request.auth)? })
}

/// A registry and the credentials to try there.
pub(crate) fn check(request: v1::CheckRegistryAuthRequest) -> Result<(String, Credentials)> {
    let registry = if request.registry.is_empty() { "docker.io" } else { &request.registry };
    // A host is what a name can begin with, and nothing else.
    let parsed = Reference::parse(&format!("{registry}/x/x"));
    let registry = match parsed {
        Ok(parsed) if parsed.path() == "x/x" => parsed.domain().to_owned(),
        _ => return Err(Error::invalid("registry", format_args!("{registry:?} is not host[:port]"))),
    };
    Ok((registry, required("auth", credentials(request.auth)?)?))
}

/// Credentials of a call; `None` if it brings none.
pub(crate) fn credentials(auth: Option<v1::RegistryAuth>) -> Result<Option<Credentials>> {
    let Some(v1::RegistryAuth { username, password, identity_token, registry_token }) = auth else { return Ok(None) };
    if !registry_token.is_empty() {
        return Ok(Some(Credentials::Bearer(registry_token)));
    }
    if !identity_token.is_empty() {
        return Ok(Some(Credentials::Identity(identity_token)));
    }
    match (username.is_empty(), password.is_empty()) {
        (true, true) => Ok(None),
        (true, false) => Err(Error::invalid("auth.username", "is required with a password")),
        (false, _) if username.contains(':') => Err(Error::invalid("auth.username", "cannot hold a colon")),
        (false, _) => Ok(Some(Credentials::Password { username, password })),
    }
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
