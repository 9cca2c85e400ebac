//! From a reference to the manifest of one image.

use crate::error::{Error, Reason, Result};
use crate::images::document::{Descriptor, Document, media_type, parse_manifest};
use crate::images::limits::{ARCHIVE_BYTES_MAX, JSON_MAX};
use crate::images::media::{self, DocumentKind};
use crate::images::platform::WantedPlatform;
use crate::images::reference::Reference;
use crate::images::registry::{Fetched, Session};

/// Indexes within indexes that are followed.
const INDEX_DEPTH_MAX: usize = 2;

/// The manifest of one image.
#[derive(Debug, Clone)]
pub(super) struct Resolved {
    pub(super) digest: String,
    pub(super) bytes: Vec<u8>,
    /// Digest of the index that it was chosen from.
    pub(super) index: Option<String>,
    pub(super) config: Descriptor,
    pub(super) layers: Vec<Descriptor>,
}

impl Resolved {
    /// Digests of manifest, config and layers.
    pub(super) fn blobs(&self) -> Vec<String> {
        let layers = self.layers.iter().map(|layer| layer.digest.clone());
        [self.digest.clone(), self.config.digest.clone()].into_iter().chain(layers).collect()
    }
}

/// Asks for the manifest, and for that of this platform if it is an index.
pub(super) async fn resolve(session: &Session, reference: &Reference, platform: &WantedPlatform) -> Result<Resolved> {
    let mut wanted = reference.digest().or(reference.tag()).unwrap_or_default().to_owned();
    let mut said = String::new();
    let mut index = None;
    for _ in 0..=INDEX_DEPTH_MAX {
        let fetched = session.manifest(&wanted).await?;
        match read(&fetched, &said)? {
            Document::Manifest { config, layers } => {
                return check(Resolved { digest: fetched.digest, bytes: fetched.bytes, index, config, layers });
            }
            Document::Index(entries) => {
                let chosen = platform.choose(&entries)?;
                (wanted, said) = (chosen.digest.clone(), chosen.media_type.clone());
                index.get_or_insert(fetched.digest);
            }
        }
    }
    Err(Error::new(Reason::InvalidArchive, format!("indexes are nested more than {INDEX_DEPTH_MAX} deep")))
}

/// Reads a manifest or index. What the registry says that it is, what the index that names it says, and what it says itself
/// must be the same.
fn read(fetched: &Fetched, said: &str) -> Result<Document> {
    // First, as what is no image's may be of any form.
    for media_type in [&fetched.media_type, said] {
        media::document(media_type)?;
    }
    let document = parse_manifest("the manifest", &fetched.bytes)?;
    let own = media_type(&fetched.bytes)?;
    let kind = match document {
        Document::Manifest { .. } => DocumentKind::Manifest,
        Document::Index(_) => DocumentKind::Index,
    };
    for media_type in [own.as_deref().unwrap_or_default(), &fetched.media_type, said] {
        if media::document(media_type)?.is_some_and(|other| other != kind) {
            let line = format!("the manifest {} is not of type {media_type:?}, as is said", fetched.digest);
            return Err(Error::new(Reason::InvalidArchive, line));
        }
    }
    Ok(document)
}

/// Only images of layers that hull can unpack.
fn check(resolved: Resolved) -> Result<Resolved> {
    media::check_config(&resolved.config.media_type)?;
    resolved.layers.iter().try_for_each(|layer| media::check_layer(&layer.media_type))?;
    let total = resolved.layers.iter().try_fold(0_u64, |total, layer| total.checked_add(layer.size));
    if total.is_none_or(|total| total > ARCHIVE_BYTES_MAX) {
        return Err(Error::new(Reason::LimitExceeded, format!("the image is larger than {ARCHIVE_BYTES_MAX} bytes")));
    }
    if resolved.config.size > JSON_MAX as u64 {
        return Err(Error::new(Reason::LimitExceeded, format!("the image's config is larger than {JSON_MAX} bytes")));
    }
    Ok(resolved)
}

#[cfg(test)]
mod tests {
    use super::*;

    const OCI: &str = media::OCI_MANIFEST;

    fn manifest(media_type: &str, config: &str, layer: &str) -> Vec<u8> {
        let digest = format!("sha256:{}", "0".repeat(64));
        let descriptor =
            |kind: &str, size: u64| format!(r#"{{"mediaType":"{kind}","digest":"{digest}","size":{size}}}"#);
        let own = if media_type.is_empty() { String::new() } else { format!(r#""mediaType":"{media_type}","#) };
        let (config, layer) = (descriptor(config, 2), descriptor(layer, 3));
        format!(r#"{{"schemaVersion":2,{own}"config":{config},"layers":[{layer}]}}"#).into_bytes()
    }

    fn read_as(bytes: Vec<u8>, served: &str, said: &str) -> Result<Resolved> {
        let fetched = Fetched { bytes, digest: "sha256:x".into(), media_type: served.into() };
        match read(&fetched, said)? {
            Document::Manifest { config, layers } => {
                check(Resolved { digest: fetched.digest, bytes: fetched.bytes, index: None, config, layers })
            }
            Document::Index(_) => Err(Error::new(Reason::Internal, "an index")),
        }
    }

    fn problem(resolved: Result<Resolved>) -> String {
        resolved.unwrap_err().to_string()
    }

    #[test]
    fn what_all_sides_say_must_be_the_same() {
        let layer = "application/vnd.oci.image.layer.v1.tar+gzip";
        let good = || manifest(OCI, media::OCI_CONFIG, layer);
        read_as(good(), OCI, OCI).unwrap();
        read_as(good(), "application/json", "").unwrap();
        read_as(manifest("", media::OCI_CONFIG, layer), OCI, "").unwrap();
        read_as(good(), media::DOCKER_MANIFEST, "").unwrap();
        for (served, said) in [(media::OCI_INDEX, ""), (OCI, media::OCI_INDEX)] {
            assert!(problem(read_as(good(), served, said)).contains("as is said"));
        }
        let schema1 = "application/vnd.docker.distribution.manifest.v1+json";
        assert!(problem(read_as(good(), schema1, "")).contains("schema 1"));
    }

    #[test]
    fn only_images_of_known_layers_are_taken() {
        let artifact = manifest(OCI, "application/vnd.example.chart", "application/vnd.example.content");
        assert!(problem(read_as(artifact, OCI, "")).contains("artifact"));
        let foreign = manifest(OCI, media::OCI_CONFIG, "application/vnd.docker.image.rootfs.foreign.diff.tar.gzip");
        assert!(problem(read_as(foreign, OCI, "")).contains("foreign"));
    }
}
