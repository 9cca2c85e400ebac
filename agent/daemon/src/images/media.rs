//! Media types of images: which are known, and what is said of those that are refused.

use crate::error::{Error, Reason, Result};

pub(super) const OCI_MANIFEST: &str = "application/vnd.oci.image.manifest.v1+json";
pub(super) const OCI_INDEX: &str = "application/vnd.oci.image.index.v1+json";
pub(super) const OCI_CONFIG: &str = "application/vnd.oci.image.config.v1+json";
pub(super) const DOCKER_MANIFEST: &str = "application/vnd.docker.distribution.manifest.v2+json";
const DOCKER_LIST: &str = "application/vnd.docker.distribution.manifest.list.v2+json";
const DOCKER_CONFIG: &str = "application/vnd.docker.container.image.v1+json";

/// What a registry is asked for.
pub(super) const MANIFESTS: [&str; 4] = [OCI_INDEX, DOCKER_LIST, OCI_MANIFEST, DOCKER_MANIFEST];
/// Layers that are tars; how they are compressed shows in their first bytes.
const LAYERS: [&str; 6] = [
    "application/vnd.oci.image.layer.v1.tar",
    "application/vnd.oci.image.layer.v1.tar+gzip",
    "application/vnd.oci.image.layer.v1.tar+zstd",
    "application/vnd.docker.image.rootfs.diff.tar",
    "application/vnd.docker.image.rootfs.diff.tar.gzip",
    "application/vnd.docker.image.rootfs.diff.tar.zstd",
];

/// What a document of a media type is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum DocumentKind {
    Manifest,
    Index,
}

/// What a manifest's media type says; `None` for one that says nothing, as some servers do.
///
/// # Errors
/// `UNSUPPORTED_FEATURE` for what is no image.
pub(super) fn document(media_type: &str) -> Result<Option<DocumentKind>> {
    match media_type {
        OCI_MANIFEST | DOCKER_MANIFEST => Ok(Some(DocumentKind::Manifest)),
        OCI_INDEX | DOCKER_LIST => Ok(Some(DocumentKind::Index)),
        "" | "application/json" | "application/octet-stream" | "text/plain" => Ok(None),
        schema1 if schema1.starts_with("application/vnd.docker.distribution.manifest.v1") => {
            let line = "the image has a manifest of schema 1, which Docker gave up in 2017";
            Err(Error::new(Reason::UnsupportedFeature, line).hint("push it again with a newer tool"))
        }
        other => Err(refused("a manifest", other)),
    }
}

/// # Errors
/// `UNSUPPORTED_FEATURE` for what is no image's config: the manifest is some other artifact's.
pub(super) fn check_config(media_type: &str) -> Result<()> {
    match media_type {
        OCI_CONFIG | DOCKER_CONFIG => Ok(()),
        other => {
            let line = format!("the manifest is no image's but an artifact's: its config is of type {other:?}");
            Err(Error::new(Reason::UnsupportedFeature, line))
        }
    }
}

/// # Errors
/// `UNSUPPORTED_FEATURE` for a layer that hull does not take.
pub(super) fn check_layer(media_type: &str) -> Result<()> {
    if LAYERS.contains(&media_type) {
        return Ok(());
    }
    if is_foreign(media_type) {
        let line = format!("a layer of type {media_type:?} is kept elsewhere by its licence and is not fetched");
        return Err(Error::new(Reason::UnsupportedFeature, line));
    }
    if media_type.ends_with("+encrypted") {
        let line = format!("a layer of type {media_type:?} is encrypted, which is not supported");
        return Err(Error::new(Reason::UnsupportedFeature, line));
    }
    Err(refused("layers", media_type))
}

/// As [`check_layer`], for an archive: it holds layers, too, that no registry would give away.
///
/// # Errors
/// `UNSUPPORTED_FEATURE`.
pub(super) fn check_archived_layer(media_type: &str) -> Result<()> {
    if is_foreign(media_type) { Ok(()) } else { check_layer(media_type) }
}

fn is_foreign(media_type: &str) -> bool {
    media_type.starts_with("application/vnd.oci.image.layer.nondistributable.v1.tar")
        || media_type.starts_with("application/vnd.docker.image.rootfs.foreign.diff.tar")
}

fn refused(what: &str, media_type: &str) -> Error {
    Error::new(Reason::UnsupportedFeature, format!("{what} of type {media_type:?} are not supported"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn layers_are_taken_or_refused_by_name() {
        for taken in LAYERS {
            check_layer(taken).unwrap();
            check_archived_layer(taken).unwrap();
        }
        for (refused, part) in [
            ("application/vnd.oci.image.layer.nondistributable.v1.tar+gzip", "kept elsewhere"),
            ("application/vnd.docker.image.rootfs.foreign.diff.tar.gzip", "kept elsewhere"),
            ("application/vnd.oci.image.layer.v1.tar+gzip+encrypted", "encrypted"),
            ("application/vnd.wasm.content.layer.v1+wasm", "not supported"),
            ("application/vnd.oci.image.layer.v1.tar+bzip2", "not supported"),
            ("", "not supported"),
        ] {
            let error = check_layer(refused).unwrap_err();
            assert_eq!(error.reason, Reason::UnsupportedFeature);
            assert!(error.message.contains(part) && error.message.contains(refused), "{error}");
        }
        check_archived_layer("application/vnd.oci.image.layer.nondistributable.v1.tar").unwrap();
    }

    #[test]
    fn documents_are_told_apart() {
        assert_eq!(document(OCI_INDEX).unwrap(), Some(DocumentKind::Index));
        assert_eq!(document(DOCKER_LIST).unwrap(), Some(DocumentKind::Index));
        assert_eq!(document(DOCKER_MANIFEST).unwrap(), Some(DocumentKind::Manifest));
        assert_eq!(document("application/json").unwrap(), None);
        let schema1 = document("application/vnd.docker.distribution.manifest.v1+prettyjws").unwrap_err();
        assert!(schema1.message.contains("schema 1"));
        document("application/vnd.cncf.helm.chart").unwrap_err();
        check_config(OCI_CONFIG).unwrap();
        assert!(check_config("application/vnd.oci.empty.v1+json").unwrap_err().message.contains("artifact"));
    }
}
