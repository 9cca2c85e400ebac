//! Pushes images: layers and config that the registry lacks, side by side, then the manifest under its tag.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use futures_util::{StreamExt as _, TryStreamExt as _, stream};

use super::Shared;
use super::document::{Descriptor, Document, parse_manifest};
use super::record::Image;
use super::reference::Reference;
use super::registry::{Credentials, Placed, Purpose, Session, Upload, sha256};
use crate::blocking::blocking;
use crate::error::{Error, Reason, Result};

/// Blobs of one push that are sent at once.
const BLOBS_AT_ONCE: usize = 4;

/// An image to push.
#[derive(Debug, Clone)]
pub(crate) struct PushRequest {
    /// Reference, digest or prefix of an image of this node.
    pub(crate) image: String,
    /// Where to, without a digest. `None`: to the name that `image` is.
    pub(crate) destination: Option<Reference>,
    /// `None`: the node's own.
    pub(crate) credentials: Option<Credentials>,
}

/// What a push came to.
#[derive(Debug, Clone)]
pub(crate) struct Pushed {
    /// The name that the image has in the registry.
    pub(crate) reference: String,
    /// Digest of the manifest.
    pub(crate) digest: String,
}

/// How far one blob of a push is.
#[derive(Debug, Clone)]
pub(crate) struct BlobSent {
    /// Its digest.
    pub(crate) digest: String,
    /// Its bytes.
    pub(crate) size: u64,
    sent: Arc<AtomicU64>,
    present: Arc<AtomicBool>,
}

impl BlobSent {
    /// Bytes that were sent.
    pub(crate) fn sent(&self) -> u64 {
        self.sent.load(Ordering::Relaxed)
    }

    /// Whether the registry had it.
    pub(crate) fn present(&self) -> bool {
        self.present.load(Ordering::Relaxed)
    }
}

/// How far a push is.
#[derive(Debug, Default)]
pub(crate) struct PushProgress(Mutex<Vec<BlobSent>>);

impl PushProgress {
    fn lock(&self) -> MutexGuard<'_, Vec<BlobSent>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Layers, the lowest first, then the config; empty until they are known.
    pub(crate) fn snapshot(&self) -> Vec<BlobSent> {
        self.lock().clone()
    }
}

/// Pushes an image. Dropping the future cancels it.
pub(super) async fn push(shared: &Arc<Shared>, request: PushRequest, progress: &PushProgress) -> Result<Pushed> {
    let (image, name) = shared.catalog.find(&request.image)?;
    let _lease = shared.catalog.lease(&image.digest)?;
    let destination = match (request.destination, name) {
        (Some(destination), _) => destination,
        (None, Some(name)) => Reference::parse(&name)?,
        (None, None) => return Err(Error::invalid("destination", "is required: the image was not given by a name")),
    };
    let tag = destination.tag().unwrap_or_default();
    let mount_from = mount_from(&image, &destination);
    let purpose = Purpose::Push { mount_from: mount_from.clone() };
    let session = shared.pulls.registries.session(&destination, request.credentials, purpose).await?;
    let (manifest, blobs) = read(shared, &image).await?;
    let blobs: Vec<_> = blobs.into_iter().map(BlobSent::new).collect();
    progress.lock().clone_from(&blobs);
    // A layer that comes twice is sent once.
    let once: BTreeMap<_, _> = blobs.iter().map(|blob| (blob.digest.as_str(), blob)).collect();
    let sends: Vec<_> =
        once.into_values().map(|blob| send(shared, &session, blob, &blobs, mount_from.clone())).collect();
    stream::iter(sends).buffer_unordered(BLOBS_AT_ONCE).try_collect::<Vec<()>>().await?;
    session.put_manifest(tag, &image.media_type, manifest).await?;
    Ok(Pushed { reference: destination.to_string(), digest: image.digest.clone() })
}

impl BlobSent {
    fn new(descriptor: Descriptor) -> Self {
        Self { digest: descriptor.digest, size: descriptor.size, sent: Arc::default(), present: Arc::default() }
    }
}

/// A repository of the same registry that should have the image's blobs.
fn mount_from(image: &Image, destination: &Reference) -> Option<String> {
    let known = image.repositories().into_iter().filter_map(|name| Reference::parse(&name).ok());
    let mut others = known.filter(|other| other.domain() == destination.domain() && other.path() != destination.path());
    others.next().map(|other| other.path().to_owned())
}

/// The manifest, and what it consists of: layers, then the config.
async fn read(shared: &Arc<Shared>, image: &Arc<Image>) -> Result<(Vec<u8>, Vec<Descriptor>)> {
    let (shared, digest) = (Arc::clone(shared), image.digest.clone());
    let manifest = blocking(move || {
        let manifest = shared.content.read_document(&digest)?;
        if sha256(&manifest) != digest {
            let line = format!("the manifest of the image {digest} is damaged");
            return Err(Error::new(Reason::BlobDamaged, line).hint("see `hullctl image verify --repair`"));
        }
        Ok(manifest)
    });
    let manifest = manifest.await?;
    match parse_manifest("the manifest", &manifest)? {
        Document::Manifest { config, mut layers } => {
            layers.push(config);
            Ok((manifest, layers))
        }
        Document::Index(_) => Err(Error::new(Reason::Internal, "an image's manifest is an index")),
    }
}

async fn send(
    shared: &Shared,
    session: &Session,
    blob: &BlobSent,
    all: &[BlobSent],
    mount_from: Option<String>,
) -> Result<()> {
    let upload = Upload {
        digest: blob.digest.clone(),
        size: blob.size,
        path: shared.content.path(&blob.digest),
        sent: Arc::clone(&blob.sent),
        mount_from,
    };
    let placed = session.place(&upload).await?;
    for same in all.iter().filter(|other| other.digest == blob.digest) {
        same.sent.store(if placed == Placed::Sent { blob.size } else { 0 }, Ordering::Relaxed);
        same.present.store(placed != Placed::Sent, Ordering::Relaxed);
    }
    Ok(())
}
