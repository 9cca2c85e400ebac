//! Removes names and images, and the files that then nobody needs.

use std::fs;
use std::path::Path;

use super::Shared;
use super::base::BASE_LAYER;
use crate::error::{Error, Reason, Result};
use crate::store::{Table, Write};

/// What a removal did.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Removed {
    /// Names that are gone.
    pub(crate) untagged: Vec<String>,
    /// Digest of the manifest, if the image is gone.
    pub(crate) deleted: Option<String>,
    /// Bytes of the files that are gone.
    pub(crate) freed_bytes: u64,
}

pub(super) fn remove(shared: &Shared, reference: &str, in_use: &dyn Fn(&str) -> Option<String>) -> Result<Removed> {
    let _changes = shared.lock_changes();
    let (image, name) = shared.registry.find(reference)?;
    if let Some(name) = name.filter(|_| image.names.len() > 1) {
        shared.store.commit_durable_blocking(vec![Write::Delete { table: Table::ImageNames, key: name.clone() }])?;
        shared.registry.untag(&name);
        mirror(shared);
        return Ok(Removed { untagged: vec![name], deleted: None, freed_bytes: 0 });
    }
    let refuse = |container: String| {
        let line = format!("the image {} is used by the container {container}", image.digest);
        Err(Error::new(Reason::ImageInUse, line).hint("remove the container first"))
    };
    if let Some(container) = in_use(&image.digest) {
        return refuse(container);
    }
    shared.registry.take(&image.digest)?;
    // Asked again: a create whose lease ended between the two has its record by now, and no new one can begin.
    if let Some(container) = in_use(&image.digest) {
        shared.registry.insert((*image).clone());
        return refuse(container);
    }
    // The index goes first: should the agent end here, the database still has the image and the index is written anew.
    mirror(shared);
    let mut writes = vec![Write::Delete { table: Table::Images, key: image.digest.clone() }];
    writes.extend(image.names.iter().map(|name| Write::Delete { table: Table::ImageNames, key: name.clone() }));
    if let Err(error) = shared.store.commit_durable_blocking(writes) {
        shared.registry.insert((*image).clone());
        mirror(shared);
        return Err(error);
    }
    let freed_bytes = sweep(shared)?;
    Ok(Removed { untagged: image.names.clone(), deleted: Some(image.digest.clone()), freed_bytes })
}

fn mirror(shared: &Shared) {
    if let Err(error) = shared.write_index() {
        tracing::warn!(%error, "the content store's index could not be written");
    }
}

/// Removes blobs and layer files that neither an image nor an import in flight needs; returns their bytes. Call with the
/// changes locked.
pub(super) fn sweep(shared: &Shared) -> Result<u64> {
    let needed = shared.registry.needed();
    let mut freed = 0;
    for digest in shared.content.list()?.into_iter().filter(|digest| !needed.contains(digest)) {
        freed += unlink(&shared.content.path(&digest))?;
    }
    let kept: std::collections::BTreeSet<_> =
        needed.iter().map(String::as_str).chain([BASE_LAYER]).map(|layer| shared.layer_path(layer)).collect();
    let failed = |error| Error::io(format!("listing {}", shared.layers.display()), &error);
    for entry in fs::read_dir(&shared.layers).map_err(failed)? {
        let path = entry.map_err(failed)?.path();
        if !kept.contains(&path) {
            freed += unlink(&path)?;
        }
    }
    Ok(freed)
}

fn unlink(path: &Path) -> Result<u64> {
    let size = fs::metadata(path).map_or(0, |metadata| metadata.len());
    fs::remove_file(path).map_err(|error| Error::io(format!("removing {}", path.display()), &error))?;
    Ok(size)
}
