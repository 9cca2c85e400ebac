//! From a reference to the manifest of one image and its config.

use std::sync::Arc;

use super::Shared;
use crate::blocking::blocking;
use crate::error::{Error, Reason, Result};
use crate::images::document::{ConfigDocument, Descriptor, Document, media_type, parse_manifest};
use crate::images::limits::{ARCHIVE_BYTES_MAX, JSON_MAX};
use crate::images::media::{self, DocumentKind};
use crate::images::platform::WantedPlatform;
use crate::images::reference::Reference;
use crate::images::registry::{Fetched, Session, sha256};

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

/// An image's config.
#[derive(Debug)]
pub(super) struct Config {
    pub(super) bytes: Vec<u8>,
    pub(super) document: ConfigDocument,
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

/// The image's config, from the content store if it is there.
pub(super) async fn config(shared: &Arc<Shared>, session: &Session, resolved: &Resolved) -> Result<Config> {
    let (store, digest) = (Arc::clone(shared), resolved.config.digest.clone());
    let stored = blocking(move || {
        let bytes = store.content.read_document(&digest).ok();
        Ok(bytes.filter(|bytes| sha256(bytes) == digest))
    });
    let bytes = match stored.await? {
        Some(bytes) => bytes,
        None => session.small_blob(&resolved.config.digest).await?,
    };
    if bytes.len() as u64 != resolved.config.size {
        let line = format!("the config has {} bytes, the manifest says {}", bytes.len(), resolved.config.size);
        return Err(Error::new(Reason::InvalidArchive, line));
    }
    let document = ConfigDocument::parse(&bytes, resolved.layers.len())?;
    Ok(Config { bytes, document })
}
