//! Which containers there are, by id, name and request. One lock, held for map operations only.

use std::collections::{BTreeMap, HashMap, VecDeque};
use std::sync::{Arc, PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard};

use super::container::Handle;
use super::record::{RequestKey, Tombstone};
use crate::error::{Error, Reason, Result};

/// Removed containers that are remembered.
const TOMBSTONES: usize = 4096;

/// Fewest characters of an id's prefix.
const PREFIX: usize = 3;

/// The containers of the node.
#[derive(Debug, Default)]
pub(crate) struct Index {
    maps: RwLock<Maps>,
}

#[derive(Debug, Default)]
struct Maps {
    by_id: BTreeMap<String, Arc<Handle>>,
    /// Name to id; a name is taken before its container is there.
    names: HashMap<String, String>,
    /// Request id to the container that it made.
    requests: HashMap<String, (RequestKey, String)>,
    tombstones: VecDeque<Tombstone>,
}

impl Index {
    fn read(&self) -> RwLockReadGuard<'_, Maps> {
        self.maps.read().unwrap_or_else(PoisonError::into_inner)
    }

    fn write(&self) -> RwLockWriteGuard<'_, Maps> {
        self.maps.write().unwrap_or_else(PoisonError::into_inner)
    }

    /// Takes a name for a container that is going to be.
    pub(crate) fn reserve(&self, name: &str, id: &str) -> Result<()> {
        let mut maps = self.write();
        if let Some(owner) = maps.names.get(name) {
            return Err(Error::new(Reason::NameInUse, format!("the name {name} belongs to container {owner}"))
                .hint("remove that container, or choose another name"));
        }
        maps.names.insert(name.to_owned(), id.to_owned());
        Ok(())
    }

    /// Gives a reserved name back.
    pub(crate) fn unreserve(&self, name: &str) {
        self.write().names.remove(name);
    }

    /// Gives a name back that the container `id` has no longer.
    pub(crate) fn unreserve_of(&self, name: &str, id: &str) {
        let mut maps = self.write();
        if maps.names.get(name).is_some_and(|owner| owner == id) {
            maps.names.remove(name);
        }
    }

    /// Makes a container known.
    pub(crate) fn insert(&self, handle: Arc<Handle>, request: Option<&RequestKey>) {
        let mut maps = self.write();
        let view = handle.view();
        maps.names.insert(view.name.clone(), view.id.clone());
        if let Some(key) = request {
            maps.requests.insert(key.id.clone(), (key.clone(), view.id.clone()));
        }
        maps.by_id.insert(view.id.clone(), handle);
    }

    /// Forgets a container but for its tombstone. Returns the tombstone that is forgotten for it, if any.
    pub(crate) fn remove(&self, tombstone: Tombstone) -> Option<Tombstone> {
        let mut maps = self.write();
        maps.by_id.remove(&tombstone.id);
        if maps.names.get(&tombstone.name) == Some(&tombstone.id) {
            maps.names.remove(&tombstone.name);
        }
        maps.bury(tombstone)
    }

    /// Remembers a tombstone of the store.
    pub(crate) fn bury(&self, tombstone: Tombstone) -> Option<Tombstone> {
        let mut maps = self.write();
        if let Some(key) = &tombstone.request {
            maps.requests.insert(key.id.clone(), (key.clone(), tombstone.id.clone()));
        }
        maps.bury(tombstone)
    }

    /// The container that an earlier request with this key made: its id and name.
    pub(crate) fn request(&self, key: &RequestKey) -> Result<Option<(String, String)>> {
        let maps = self.read();
        let Some((known, id)) = maps.requests.get(&key.id) else { return Ok(None) };
        if known.fingerprint != key.fingerprint {
            return Err(Error::new(
                Reason::RequestIdReused,
                format!("request_id {} came before with another request; it made container {id}", key.id),
            )
            .hint("use a new request_id for a new request"));
        }
        let name = match maps.by_id.get(id) {
            Some(handle) => handle.view().name.clone(),
            None => maps.tombstones.iter().find(|stone| stone.id == *id).map(|s| s.name.clone()).unwrap_or_default(),
        };
        Ok(Some((id.clone(), name)))
    }

    /// The container with this id, name or unambiguous prefix of an id.
    pub(crate) fn find(&self, reference: &str) -> Result<Arc<Handle>> {
        let maps = self.read();
        if let Some(handle) = maps.by_id.get(reference) {
            return Ok(Arc::clone(handle));
        }
        if let Some(handle) = maps.names.get(reference).and_then(|id| maps.by_id.get(id)) {
            return Ok(Arc::clone(handle));
        }
        let mut fitting = Vec::new();
        if reference.len() >= PREFIX {
            let from = maps.by_id.range(reference.to_owned()..);
            fitting = from.take_while(|(id, _)| id.starts_with(reference)).take(2).map(|(_, handle)| handle).collect();
        }
        match fitting.as_slice() {
            [handle] => Ok(Arc::clone(handle)),
            [] => Err(not_found(reference)),
            _ => Err(Error::new(Reason::AmbiguousReference, format!("several containers have ids with {reference}"))
                .hint("give more digits of the id")),
        }
    }

    /// Id of the removed container that this id or name meant last.
    pub(crate) fn find_removed(&self, reference: &str) -> Option<String> {
        let maps = self.read();
        let stone = maps.tombstones.iter().rev().find(|stone| stone.id == reference || stone.name == reference);
        stone.map(|stone| stone.id.clone())
    }

    /// All containers.
    pub(crate) fn all(&self) -> Vec<Arc<Handle>> {
        self.read().by_id.values().cloned().collect()
    }
}

impl Maps {
    fn bury(&mut self, tombstone: Tombstone) -> Option<Tombstone> {
        self.tombstones.push_back(tombstone);
        if self.tombstones.len() <= TOMBSTONES {
            return None;
        }
        let forgotten = self.tombstones.pop_front()?;
        if let Some(key) = &forgotten.request
            && self.requests.get(&key.id).is_some_and(|(_, id)| *id == forgotten.id)
        {
            self.requests.remove(&key.id);
        }
        Some(forgotten)
    }
}

fn not_found(reference: &str) -> Error {
    let shown: String = reference.chars().take(80).collect();
    Error::new(Reason::ContainerNotFound, format!("no container {shown:?}"))
        .hint("`hullctl ps -a` lists all containers")
}
