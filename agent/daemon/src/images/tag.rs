//! Gives images names.

use std::sync::Arc;

use super::Shared;
use super::limits::NAMES_MAX;
use super::record::Image;
use super::reference::Reference;
use crate::error::{Error, Reason, Result};
use crate::events::{ImageChange, What};
use crate::store::{Commit, Table, Write};

/// Gives an image a further name; one that another image had goes over to it.
pub(super) fn tag(shared: &Shared, reference: &str, name: &str) -> Result<Arc<Image>> {
    let parsed = Reference::parse(name)?;
    if parsed.digest().is_some() {
        return Err(Error::invalid("name", format_args!("{name:?} has a digest; a name has none")));
    }
    let name = parsed.to_string();
    let _changes = shared.lock_changes();
    let (image, _) = shared.catalog.find(reference)?;
    if image.names.contains(&name) {
        return Ok(image);
    }
    if image.names.len() >= NAMES_MAX {
        let line = format!("the image {} has {NAMES_MAX} names already", image.digest);
        return Err(Error::new(Reason::LimitExceeded, line).hint("remove names that nobody needs"));
    }
    let value = image.digest.clone().into_bytes();
    let writes = vec![Write::Put { table: Table::ImageNames, key: name.clone(), value }];
    shared.commit(Commit {
        writes,
        events: vec![What::image(&image.digest, std::slice::from_ref(&name), ImageChange::Tagged).encode_now()?],
    })?;
    let mut image = (*image).clone();
    image.names.push(name);
    image.names.sort();
    let image = shared.catalog.insert(image);
    shared.mirror_index();
    Ok(image)
}
