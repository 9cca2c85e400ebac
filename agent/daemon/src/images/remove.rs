//! Removes names and images, and the files that then nobody needs.

use super::record::Image;
use super::{Shared, sweep};
use crate::error::{Error, Reason, Result};
use crate::events::{ImageChange, What};
use crate::store::{Commit, Table, Write};

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

/// Which container, if any, uses the image of a digest: its name.
pub(crate) type UserOf<'a> = dyn Fn(&str) -> Option<String> + 'a;

pub(super) fn remove(shared: &Shared, reference: &str, user_of: &UserOf<'_>) -> Result<Removed> {
    let _changes = shared.lock_changes();
    let (image, name) = shared.catalog.find(reference)?;
    if let Some(name) = name.filter(|_| image.names.len() > 1) {
        let writes = vec![Write::Delete { table: Table::ImageNames, key: name.clone() }];
        shared.commit(Commit {
            writes,
            events: vec![What::image(&image.digest, std::slice::from_ref(&name), ImageChange::Untagged).encode_now()?],
        })?;
        shared.catalog.untag(&name);
        shared.mirror_index();
        return Ok(Removed { untagged: vec![name], deleted: None, freed_bytes: 0 });
    }
    let safe = forget(shared, &image, user_of)?;
    // What a power cut may bring back keeps its files; they go with the next sweep.
    let freed_bytes = if safe { sweep::sweep(shared)? } else { 0 };
    Ok(Removed { untagged: image.names.clone(), deleted: Some(image.digest.clone()), freed_bytes })
}

/// Removes an image, but not its files; returns whether that is safe from a power cut. Call with the changes locked.
pub(super) fn forget(shared: &Shared, image: &Image, user_of: &UserOf<'_>) -> Result<bool> {
    let refuse = |container: String| {
        let line = format!("the image {} is used by the container {container}", image.digest);
        Err(Error::new(Reason::ImageInUse, line).hint("remove the container first"))
    };
    if let Some(container) = user_of(&image.digest) {
        return refuse(container);
    }
    shared.catalog.take(&image.digest)?;
    // Asked again: a create whose lease ended between the two has its record by now, and no new one can begin.
    if let Some(container) = user_of(&image.digest) {
        shared.catalog.insert(image.clone());
        return refuse(container);
    }
    // The index goes first: should the agent end here, the database still has the image and the index is written anew.
    shared.mirror_index();
    let mut writes = vec![Write::Delete { table: Table::Images, key: image.digest.clone() }];
    writes.extend(image.names.iter().map(|name| Write::Delete { table: Table::ImageNames, key: name.clone() }));
    let events = vec![What::image(&image.digest, &image.names, ImageChange::Removed).encode_now()?];
    shared.commit(Commit { writes, events }).inspect_err(|_| {
        shared.catalog.insert(image.clone());
        shared.mirror_index();
    })
}
