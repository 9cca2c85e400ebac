//! Fetches single blobs of an image again, which were damaged and set aside.

use std::sync::Arc;

use super::Shared;
use super::layer::{self, Wanted};
use crate::blocking::blocking;
use crate::error::{Error, Reason, Result};
use crate::images::document::{Document, parse_manifest};
use crate::images::record::Image;
use crate::images::reference::Reference;
use crate::images::registry::{Credentials, Purpose, Session, sha256};

/// Fetches a blob of `image` that the content store does not have, from a registry that the image came from or has a name
/// of. The manifest must be there or come first: it says how long layers are.
pub(in crate::images) async fn refetch(
    shared: &Arc<Shared>,
    image: &Image,
    digest: &str,
    credentials: Option<Credentials>,
) -> Result<()> {
    let mut failure = Error::new(Reason::ImageNotFound, format!("the image {} came from no registry", image.digest));
    for repository in image.repositories() {
        let reference = Reference::parse(&format!("{repository}@{}", image.digest))?;
        let session = shared.pulls.registries.session(&reference, credentials.clone(), Purpose::Pull).await;
        let fetched = match session {
            Ok(session) => from(shared, Arc::new(session), image, digest).await,
            Err(error) => Err(error),
        };
        match fetched {
            Ok(()) => return Ok(()),
            Err(error) => failure = error,
        }
    }
    Err(failure)
}

async fn from(shared: &Arc<Shared>, session: Arc<Session>, image: &Image, digest: &str) -> Result<()> {
    if digest == image.digest {
        return keep(shared, session.manifest(digest).await?.bytes).await;
    }
    let (store, manifest) = (Arc::clone(shared), image.digest.clone());
    let bytes = blocking(move || store.content.read_document(&manifest)).await?;
    if sha256(&bytes) != image.digest {
        return Err(Error::new(Reason::BlobDamaged, "the image's manifest is damaged itself"));
    }
    let Document::Manifest { config, layers } = parse_manifest("the manifest", &bytes)? else {
        return Err(Error::new(Reason::Internal, "an image's manifest is an index"));
    };
    let config_digest = config.digest.clone();
    let Some(blob) = layers.into_iter().chain([config]).find(|blob| blob.digest == digest) else {
        return Err(Error::new(Reason::Internal, format!("the image {} has no blob {digest}", image.digest)));
    };
    let wanted = Wanted { is_layer: blob.digest != config_digest, digest: blob.digest, size: blob.size };
    let fly = |progress| layer::bring(Arc::clone(shared), Arc::clone(&session), wanted.clone(), progress);
    let ticket = shared.pulls.flights.board(digest, fly).await;
    ticket.landed().await?;
    let shared = Arc::clone(shared);
    blocking(move || {
        ticket.brought()?.keep(&shared)?;
        shared.content.sync()
    })
    .await
}

/// Keeps a manifest.
async fn keep(shared: &Arc<Shared>, bytes: Vec<u8>) -> Result<()> {
    let shared = Arc::clone(shared);
    blocking(move || {
        shared.content.keep(shared.content.write(&bytes)?)?;
        shared.content.sync()
    })
    .await
}
