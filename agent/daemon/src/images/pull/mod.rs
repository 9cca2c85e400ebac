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

use std::collections::BTreeMap;
use std::sync::Arc;

use futures_util::{StreamExt as _, TryStreamExt as _, stream};
use tokio::sync::{Semaphore, SemaphorePermit};

use super::Shared;
use super::catalog::Pins;
use super::document::{ConfigDocument, Descriptor};
use super::import::{Unpacked, UnpackedLayer};
use super::install::{self, Origin};
use super::platform::WantedPlatform;
use super::record::{Image, Layer, Source};
use super::reference::Reference;
use super::registry::{Credentials, Purpose, Registries, Session, sha256};
use crate::blocking::blocking;
use crate::error::{Error, Reason, Result};
use flight::{Flights, Ticket};
use layer::{Landed, Wanted};
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
    let pull = Pull { shared, session: &session, resolved: &resolved, progress };
    let pulled = pull.run(names, source).await;
    if matches!(&pulled, Err(error) if matches!(error.reason, Reason::InvalidArchive | Reason::UnsupportedFeature)) {
        pull.forget().await?;
    }
    pulled
}

/// An image's config.
#[derive(Debug)]
struct Config {
    bytes: Vec<u8>,
    document: ConfigDocument,
    /// If it had to be fetched.
    ticket: Option<Ticket>,
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
    async fn run(&self, names: Vec<String>, source: Source) -> Result<Pulled> {
        let config = self.config().await?;
        let diff_ids = config.document.rootfs.diff_ids.clone();
        let pins = self.pin(&diff_ids).await?;
        let slots = self.begin(&diff_ids).await?;
        let brought = self.layers(&slots).await?;
        let tickets = brought.iter().chain([&config.ticket]).flatten();
        // A layer that comes twice was fetched once.
        let fetched: BTreeMap<_, _> = tickets.map(|ticket| (ticket.digest(), ticket.progress().fetched())).collect();
        let bytes_fetched = fetched.into_values().sum();
        let brought = Brought { config, slots, layers: brought, pins };
        let (shared, manifest) = (Arc::clone(self.shared), self.resolved.bytes.clone());
        // From here on it goes to its end, whoever waits: what was brought must not be let go while it is being kept.
        let image = blocking(move || brought.keep(&shared, &manifest, names, source)).await?;
        Ok(Pulled { image, up_to_date: bytes_fetched == 0, bytes_fetched })
    }

    /// Removes the parts of an image that will be refused again. Those that another pull is at are its own.
    async fn forget(&self) -> Result<()> {
        let (shared, blobs) = (Arc::clone(self.shared), self.resolved.blobs());
        blocking(move || blobs.iter().try_for_each(|digest| remove_part(&shared, digest).map(drop))).await
    }

    /// The image's config, from the content store if that has it.
    async fn config(&self) -> Result<Config> {
        let descriptor = &self.resolved.config;
        let (shared, digest) = (Arc::clone(self.shared), descriptor.digest.clone());
        let stored = blocking(move || {
            let bytes = shared.content.read_document(&digest).ok();
            Ok(bytes.filter(|bytes| sha256(bytes) == digest))
        });
        let (bytes, ticket) = match stored.await? {
            Some(bytes) => (bytes, None),
            None => {
                let (digest, size) = (descriptor.digest.clone(), descriptor.size);
                let (ticket, landed) = self.bring(Wanted { digest, size, is_layer: false }, |_| {}).await?;
                let shared = Arc::clone(self.shared);
                (blocking(move || landed.read(&shared)).await?, Some(ticket))
            }
        };
        if bytes.len() as u64 != descriptor.size {
            let line = format!("the config has {} bytes, the manifest says {}", bytes.len(), descriptor.size);
            return Err(Error::new(Reason::InvalidArchive, line));
        }
        let document = ConfigDocument::parse(&bytes, self.resolved.layers.len())?;
        Ok(Config { bytes, document, ticket })
    }

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
                Slot { wanted: Wanted { digest: layer.digest, size: layer.size, is_layer: true }, diff_id, present }
            });
            let slots: Vec<_> = slots.collect();
            let missing =
                slots.iter().filter(|slot| slot.present.is_none() && !shared.content.has(&slot.wanted.digest));
            let missing: BTreeMap<_, _> = missing.map(|slot| (slot.wanted.digest.as_str(), slot.wanted.size)).collect();
            part::check_space(&shared.parts, &missing)?;
            Ok(slots)
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

    /// Brings the layers, a few at once.
    async fn layers(&self, slots: &[Slot]) -> Result<Vec<Option<Ticket>>> {
        let one = |(index, slot)| async move { Ok::<_, Error>((index, self.layer(index, slot).await?)) };
        let all: Vec<_> = slots.iter().enumerate().map(one).collect();
        let mut brought: Vec<_> = stream::iter(all).buffer_unordered(LAYERS_AT_ONCE).try_collect().await?;
        brought.sort_by_key(|(index, _)| *index);
        Ok(brought.into_iter().map(|(_, ticket)| ticket).collect())
    }

    /// Brings one layer.
    async fn layer(&self, index: usize, slot: &Slot) -> Result<Option<Ticket>> {
        if slot.present.is_some() {
            return Ok(None);
        }
        let show = |ticket: &Ticket| self.progress.join(index, ticket.progress());
        let (ticket, landed) = self.bring(slot.wanted.clone(), show).await?;
        match &landed.diff_id {
            Some(diff_id) if *diff_id != slot.diff_id => Err(install::other_layer(diff_id, &slot.diff_id)),
            _ => Ok(Some(ticket)),
        }
    }

    /// Brings a blob, or joins whoever does; `show` is told of each flight.
    async fn bring(&self, wanted: Wanted, show: impl Fn(&Ticket)) -> Result<(Ticket, Arc<Landed>)> {
        let mut joins = 0;
        loop {
            let fly =
                |progress| layer::bring(Arc::clone(self.shared), Arc::clone(self.session), wanted.clone(), progress);
            let ticket = self.shared.pulls.flights.board(&wanted.digest, fly).await;
            show(&ticket);
            match ticket.landed().await {
                Ok(landed) => return Ok((ticket, landed)),
                // Another's registry, mirror or credentials may have failed: ours get their turn.
                Err(error) if ticket.first || joins >= JOINS_MAX => return Err(error),
                Err(_) => joins += 1,
            }
        }
    }
}

/// All that an image consists of. What the tickets stand for stays where it is as long as they live.
#[derive(Debug)]
struct Brought {
    config: Config,
    slots: Vec<Slot>,
    layers: Vec<Option<Ticket>>,
    pins: Pins,
}

impl Brought {
    /// Keeps everything and records the image. Blocks on the disk.
    fn keep(self, shared: &Shared, manifest: &[u8], names: Vec<String>, source: Source) -> Result<Arc<Image>> {
        let Self { config, slots, layers: tickets, pins } = self;
        if let Some(ticket) = &config.ticket {
            ticket.brought()?.keep(shared)?;
        }
        let (mut kept, mut layers) = (Vec::new(), Vec::new());
        for (slot, ticket) in slots.into_iter().zip(&tickets) {
            let brought = match ticket {
                Some(ticket) => ticket.brought()?.keep(shared)?,
                None => None,
            };
            let layer = slot.present.or(brought);
            kept.push(layer.ok_or_else(|| Error::new(Reason::Internal, "a layer was not brought"))?);
            let (digest, diff_id) = (slot.wanted.digest, slot.diff_id);
            layers.push(UnpackedLayer { digest, diff_id, blob: None, converted: None });
        }
        let unpacked = Unpacked {
            manifest: shared.content.write(manifest)?,
            config: shared.content.write(&config.bytes)?,
            document: config.document,
            layers,
            names,
        };
        let image = install::install_pulled(shared, unpacked, Origin { source, layers: kept });
        drop((pins, tickets, config.ticket));
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
        if !record.sources.contains(&source) {
            record.sources.push(source);
        }
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
