//! Images in memory: by digest and by name, what is being used, and what files an import relies on. Never blocks on I/O.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use super::record::{Image, Layer};
use super::reference::{Reference, is_digest};
use crate::error::{Error, Reason, Result};

/// Fewest digits of a digest's prefix.
const PREFIX_MIN: usize = 3;

#[derive(Debug, Clone, Default)]
pub(super) struct Catalog(Arc<Mutex<State>>);

#[derive(Debug, Default)]
struct State {
    images: BTreeMap<String, Arc<Image>>,
    names: BTreeMap<String, String>,
    /// Creates in flight, by the image's digest.
    leases: BTreeMap<String, usize>,
    /// Digests of blobs and diff ids that imports in flight rely on.
    pins: BTreeMap<String, usize>,
}

/// Keeps an image from being removed.
#[derive(Debug)]
pub(crate) struct Lease {
    image: Arc<Image>,
    catalog: Catalog,
}

impl Drop for Lease {
    fn drop(&mut self) {
        count_down(&mut self.catalog.state().leases, &self.image.digest);
    }
}

/// Keeps files of an image that is being imported.
#[derive(Debug)]
pub(super) struct Pins {
    digests: Vec<String>,
    catalog: Catalog,
}

impl Drop for Pins {
    fn drop(&mut self) {
        let mut state = self.catalog.state();
        self.digests.iter().for_each(|digest| count_down(&mut state.pins, digest));
    }
}

fn count_down(counts: &mut BTreeMap<String, usize>, key: &str) {
    match counts.get_mut(key) {
        Some(count) if *count > 1 => *count -= 1,
        _ => drop(counts.remove(key)),
    }
}

impl Catalog {
    fn state(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn get(&self, reference: &str) -> Result<Arc<Image>> {
        self.state().find(reference).map(|(image, _)| image)
    }

    /// The image, and the name that was asked for if it was one.
    pub(super) fn find(&self, reference: &str) -> Result<(Arc<Image>, Option<String>)> {
        self.state().find(reference)
    }

    pub(super) fn list(&self) -> Vec<Arc<Image>> {
        let mut images: Vec<_> = self.state().images.values().cloned().collect();
        images.sort_by(|a, b| b.imported_at.cmp(&a.imported_at).then_with(|| a.digest.cmp(&b.digest)));
        images
    }

    pub(super) fn lease(&self, reference: &str) -> Result<Lease> {
        let mut state = self.state();
        let (image, _) = state.find(reference)?;
        *state.leases.entry(image.digest.clone()).or_default() += 1;
        Ok(Lease { image, catalog: self.clone() })
    }

    pub(super) fn pin(&self, digests: Vec<String>) -> Pins {
        let mut state = self.state();
        for digest in &digests {
            *state.pins.entry(digest.clone()).or_default() += 1;
        }
        Pins { digests, catalog: self.clone() }
    }

    /// Adds or replaces an image; its names go over to it.
    pub(super) fn insert(&self, image: Image) -> Arc<Image> {
        let mut state = self.state();
        let digest = image.digest.clone();
        for name in &image.names {
            if let Some(old) = state.names.insert(name.clone(), digest.clone()).filter(|old| *old != digest)
                && let Some(old) = state.images.get_mut(&old)
            {
                Arc::make_mut(old).names.retain(|other| other != name);
            }
        }
        let image = Arc::new(image);
        state.images.insert(digest, Arc::clone(&image));
        image
    }

    /// Takes a name away; the image stays.
    pub(super) fn untag(&self, name: &str) {
        let mut state = self.state();
        if let Some(digest) = state.names.remove(name)
            && let Some(image) = state.images.get_mut(&digest)
        {
            Arc::make_mut(image).names.retain(|other| other != name);
        }
    }

    /// Takes an image out, unless a create in flight uses it.
    pub(super) fn take(&self, digest: &str) -> Result<()> {
        let mut state = self.state();
        if state.leases.contains_key(digest) {
            let line = format!("a container is being created from the image {digest}");
            return Err(Error::new(Reason::ImageInUse, line).hint("try again when it is created"));
        }
        if let Some(image) = state.images.remove(digest) {
            image.names.iter().for_each(|name| drop(state.names.remove(name)));
        }
        Ok(())
    }

    /// What is known of the layer that an image has made of this blob, if it is of this diff id.
    pub(super) fn layer_of(&self, blob: &str, diff_id: &str) -> Option<Layer> {
        let state = self.state();
        let mut layers = state.images.values().flat_map(|image| image.layers.iter().zip(image.blobs.iter().skip(2)));
        layers.find(|(layer, digest)| layer.diff_id == diff_id && *digest == blob).map(|(layer, _)| layer.clone())
    }

    /// Digests of blobs and diff ids that images or imports in flight need.
    pub(super) fn needed(&self) -> BTreeSet<String> {
        let state = self.state();
        let images = state.images.values().flat_map(|image| {
            image.blobs.iter().cloned().chain(image.layers.iter().map(|layer| layer.diff_id.clone()))
        });
        images.chain(state.pins.keys().cloned()).collect()
    }
}

impl State {
    fn find(&self, reference: &str) -> Result<(Arc<Image>, Option<String>)> {
        if let Some(image) = self.find_digest(reference) {
            return Ok((image, None));
        }
        if is_digest(reference) {
            return Err(not_found(reference));
        }
        let parsed = Reference::parse(reference);
        if let Ok(parsed) = &parsed
            && let Some(found) = self.find_parsed(parsed)
        {
            return Ok(found);
        }
        if let Some(prefix) = hex_prefix(reference) {
            let first = format!("sha256:{prefix}");
            let mut fitting = self.images.range(first.clone()..).take_while(|(digest, _)| digest.starts_with(&first));
            return match (fitting.next(), fitting.next()) {
                (Some((_, image)), None) => Ok((Arc::clone(image), None)),
                (Some(_), Some(_)) => {
                    let line = format!("several images have a digest that starts with {prefix}");
                    Err(Error::new(Reason::AmbiguousReference, line).hint("give more of its digits"))
                }
                (None, _) => Err(not_found(reference)),
            };
        }
        parsed.and_then(|parsed| Err(not_found(&parsed.to_string())))
    }

    /// The image of a manifest, or the newest one that was chosen from an index.
    fn find_digest(&self, digest: &str) -> Option<Arc<Image>> {
        let chosen = || {
            let chosen = self.images.values().filter(|image| image.has_digest(digest));
            chosen.max_by_key(|image| image.imported_at)
        };
        self.images.get(digest).or_else(chosen).cloned()
    }

    fn find_parsed(&self, parsed: &Reference) -> Option<(Arc<Image>, Option<String>)> {
        // With a digest, the digest says which image; the tag beside it is only for people.
        if let Some(digest) = parsed.digest() {
            return self.find_digest(digest).map(|image| (image, None));
        }
        let name = parsed.to_string();
        let image = self.images.get(self.names.get(&name)?)?;
        Some((Arc::clone(image), Some(name)))
    }
}

/// The hexadecimal digits, if the text can be a digest's prefix.
fn hex_prefix(text: &str) -> Option<&str> {
    let hex = text.strip_prefix("sha256:").unwrap_or(text);
    let fits =
        (PREFIX_MIN..=64).contains(&hex.len()) && hex.bytes().all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f'));
    fits.then_some(hex)
}

fn not_found(reference: &str) -> Error {
    Error::new(Reason::ImageNotFound, format!("no image {reference}")).hint("pull or import it first")
}
