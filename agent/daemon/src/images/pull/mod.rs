//! Pulls images: manifest, config, then the layers side by side.
//!
//! ```text
//! DATA/images/parts/     blobs on their way, and those of pulls that did not come to their end
//! ```
//!
//! Until all is there, nothing leaves `parts`; then blobs and layers are moved to where they stay and the image is recorded.
//! So a pull that fails or is cancelled leaves parts and nothing else, and the next one goes on from them.

mod fetch;
mod flight;
mod layer;
mod part;
mod progress;
mod refetch;
mod resolve;

use std::sync::Arc;

use futures_util::{StreamExt as _, TryStreamExt as _, stream};
use tokio::sync::{Semaphore, SemaphorePermit};

use super::Shared;
use super::catalog::Pins;
use super::document::Descriptor;
use super::import::{Unpacked, UnpackedLayer};
use super::install::{self, Origin};
use super::platform::WantedPlatform;
use super::record::{Image, Layer, Source};
use super::reference::Reference;
use super::registry::{Credentials, Purpose, Registries, Session};
use crate::blocking::blocking;
use crate::error::{Error, Reason, Result};
use flight::{Flights, Ticket};
use layer::Wanted;
use progress::BlobProgress;
use resolve::Resolved;

pub(crate) use part::PartFile;
pub(crate) use progress::{LayerProgress, PullPhase, PullProgress};
pub(super) use refetch::refetch;

/// Layers of one pull that are fetched at once.
const LAYERS_AT_ONCE: usize = 4;
/// Layers of the whole node that are fetched at once; each takes some threads and megabytes.
const LAYERS_AT_ONCE_NODE: usize = 16;
/// Flights of others that are joined before an own one is insisted on.
const JOINS_MAX: usize = 3;

/// An image to pull.
#[derive(Debug, Clone)]
pub(crate) struct PullRequest {
    /// Which.
    pub(crate) reference: Reference,
    /// Which of an index.
    pub(crate) platform: WantedPlatform,
    /// `None`: the node's own.
    pub(crate) credentials: Option<Credentials>,
}

/// What a pull came to.
#[derive(Debug, Clone)]
pub(crate) struct Pulled {
    /// The image.
    pub(crate) image: Arc<Image>,
    /// Whether everything was there before.
    pub(crate) up_to_date: bool,
    /// Bytes that came over the network.
    pub(crate) bytes_fetched: u64,
}

/// What pulls share.
#[derive(Debug)]
pub(super) struct Pulls {
    pub(super) registries: Registries,
    pub(super) flights: Flights,
    slots: Semaphore,
}

impl Pulls {
    pub(super) fn new(registries: Registries) -> Self {
        Self { registries, flights: Flights::default(), slots: Semaphore::new(LAYERS_AT_ONCE_NODE) }
    }

    async fn slot(&self) -> Result<SemaphorePermit<'_>> {
        let closed = |_| Error::new(Reason::Internal, "the agent takes no more pulls");
        self.slots.acquire().await.map_err(closed)
    }
}

/// Pulls an image. Dropping the future cancels it.
pub(super) async fn pull(shared: &Arc<Shared>, request: PullRequest, progress: &PullProgress) -> Result<Pulled> {
    let PullRequest { reference, platform, credentials } = request;
    let session = shared.pulls.registries.session(&reference, credentials, Purpose::Pull).await?;
    let session = Arc::new(session);
    let resolved = resolve::resolve(&session, &reference, &platform).await?;
    let source = Source { repository: session.repository(), index: resolved.index.clone() };
    let names: Vec<_> = reference.name().into_iter().collect();
    if let Some(image) = present(shared, &resolved.digest, names.clone(), source.clone()).await? {
        return Ok(Pulled { image, up_to_date: true, bytes_fetched: 0 });
    }
    let document = resolve::config(shared, &session, &resolved).await?;
    let pull = Pull { shared, session: &session, resolved: &resolved, progress };
    let diff_ids = document.document.rootfs.diff_ids.clone();
    let _pins = pull.pin(&diff_ids).await?;
    let slots = pull.begin(&diff_ids).await?;
    let layers: Vec<_> = slots.iter().enumerate().map(|(index, slot)| pull.layer(index, slot)).collect();
    let brought: Vec<_> = stream::iter(layers).buffered(LAYERS_AT_ONCE).try_collect().await?;
    let bytes_fetched = brought.iter().flatten().map(|ticket: &Ticket| ticket.progress().fetched()).sum();
    let image = pull.finish(document, slots, brought, names, source).await?;
    Ok(Pulled { image, up_to_date: bytes_fetched == 0, bytes_fetched })
}

/// A layer of the image.
#[derive(Debug, Clone)]
struct Slot {
    wanted: Wanted,
    diff_id: String,
    /// What is known of it, if it is there.
    present: Option<Layer>,
}

struct Pull<'a> {
    shared: &'a Arc<Shared>,
    session: &'a Arc<Session>,
    resolved: &'a Resolved,
    progress: &'a PullProgress,
}

impl Pull<'_> {
    /// Keeps what is there of the image from being swept until it is recorded.
    async fn pin(&self, diff_ids: &[String]) -> Result<Pins> {
        let blobs = self.resolved.blobs();
        let digests = blobs.into_iter().chain(diff_ids.iter().cloned()).collect();
        let shared = Arc::clone(self.shared);
        blocking(move || {
            let _changes = shared.lock_changes();
            Ok(shared.catalog.pin(digests))
        })
        .await
    }

    /// Finds out which layers are there, and shows that.
    async fn begin(&self, diff_ids: &[String]) -> Result<Vec<Slot>> {
        let layers: Vec<Descriptor> = self.resolved.layers.clone();
        let (shared, diff_ids) = (Arc::clone(self.shared), diff_ids.to_vec());
        let slots: Vec<Slot> = blocking(move || {
            let slots = layers.into_iter().zip(diff_ids).map(|(layer, diff_id)| {
                let present = shared.catalog.layer_of(&layer.digest, &diff_id);
                let present = present.filter(|known| shared.has_layer(known) && shared.content.has(&layer.digest));
                Slot { wanted: Wanted { digest: layer.digest, size: layer.size }, diff_id, present }
            });
            Ok(slots.collect())
        })
        .await?;
        let layers = slots.iter().map(|slot| {
            let blob = BlobProgress::default();
            if slot.present.is_some() {
                blob.set_phase(PullPhase::Present);
                blob.set_done(slot.wanted.size);
            }
            LayerProgress { digest: slot.wanted.digest.clone(), size: slot.wanted.size, blob: Arc::new(blob) }
        });
        self.progress.begin(&self.resolved.digest, layers.collect());
        Ok(slots)
    }

    /// Brings one layer, or joins whoever does.
    async fn layer(&self, index: usize, slot: &Slot) -> Result<Option<Ticket>> {
        if slot.present.is_some() {
            return Ok(None);
        }
        let mut joins = 0;
        loop {
            let fly = |progress| {
                layer::bring(Arc::clone(self.shared), Arc::clone(self.session), slot.wanted.clone(), progress)
            };
            let ticket = self.shared.pulls.flights.board(&slot.wanted.digest, fly).await;
            self.progress.join(index, ticket.progress());
            match ticket.landed().await {
                Ok(landed) if landed.diff_id == slot.diff_id => return Ok(Some(ticket)),
                Ok(landed) => return Err(install::other_layer(&landed.diff_id, &slot.diff_id)),
                // Another's registry, mirror or credentials may have failed: ours get their turn.
                Err(error) if ticket.first || joins >= JOINS_MAX => return Err(error),
                Err(_) => joins += 1,
            }
        }
    }

    /// Keeps everything and records the image. What the tickets brought stays theirs until then.
    async fn finish(
        &self,
        config: resolve::Config,
        slots: Vec<Slot>,
        brought: Vec<Option<Ticket>>,
        names: Vec<String>,
        source: Source,
    ) -> Result<Arc<Image>> {
        let mut landed = Vec::new();
        for ticket in &brought {
            landed.push(match ticket {
                Some(ticket) => Some(ticket.landed().await?),
                None => None,
            });
        }
        let (shared, manifest) = (Arc::clone(self.shared), self.resolved.bytes.clone());
        let installed = blocking(move || {
            let (mut kept, mut layers) = (Vec::new(), Vec::new());
            for (slot, landed) in slots.into_iter().zip(landed) {
                kept.push(match (slot.present, landed) {
                    (Some(present), _) => present,
                    (None, Some(landed)) => landed.keep(&shared)?,
                    (None, None) => return Err(Error::new(Reason::Internal, "a layer was not brought")),
                });
                let (digest, diff_id) = (slot.wanted.digest, slot.diff_id);
                layers.push(UnpackedLayer { digest, diff_id, blob: None, converted: None });
            }
            let unpacked = Unpacked {
                manifest: shared.content.write(&manifest)?,
                config: shared.content.write(&config.bytes)?,
                document: config.document,
                layers,
                names,
            };
            install::install_pulled(&shared, unpacked, Origin { source, layers: kept })
        });
        let image = installed.await;
        drop(brought);
        image
    }
}

/// The image, if all of it is there; then it gets the name and the source.
async fn present(shared: &Arc<Shared>, digest: &str, names: Vec<String>, source: Source) -> Result<Option<Arc<Image>>> {
    let (shared, digest) = (Arc::clone(shared), digest.to_owned());
    blocking(move || {
        let _changes = shared.lock_changes();
        let Ok(image) = shared.catalog.get(&digest) else { return Ok(None) };
        let layers = image.layers.iter().all(|layer| shared.has_layer(layer));
        if !layers || !image.blobs.iter().all(|blob| shared.content.has(blob)) {
            return Ok(None);
        }
        if names.iter().all(|name| image.names.contains(name)) && image.sources.contains(&source) {
            return Ok(Some(image));
        }
        let mut record = image.record.clone();
        record.sources.push(source);
        install::record_image(&shared, digest, names, record).map(Some)
    })
    .await
}

/// Parts that no pull is at.
pub(super) fn idle_parts(shared: &Shared) -> Result<Vec<PartFile>> {
    let mut parts = part::list(&shared.parts)?;
    parts.retain(|part| !shared.pulls.flights.has(&part.digest));
    Ok(parts)
}

/// Removes a part unless a pull is at it; returns the bytes that became free.
pub(super) fn remove_part(shared: &Shared, digest: &str) -> Result<u64> {
    let Some(_claim) = shared.pulls.flights.claim(digest) else { return Ok(0) };
    part::remove(&shared.parts, digest)
}
