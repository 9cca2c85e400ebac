//! Reading the writable layer of a container: what is needed for it is taken in the container's turn, so that whatever
//! happens to the container afterwards, its removal included, what is read is whole.

use std::fs::File;
use std::sync::Arc;

use tokio::sync::OwnedRwLockReadGuard;

use super::{Container, Hold};
use crate::blocking::blocking;
use crate::error::{Error, Result};
use crate::images::{Image, Lease};
use crate::lifecycle::state::{State, refused};
use crate::store::Table;

/// Somebody reads the writable layer.
#[derive(Debug)]
pub(crate) struct Reading {
    /// Its directory; `None` if the container was never started.
    pub(crate) upper: Option<File>,
    /// What it lies on.
    pub(crate) image: Arc<Image>,
    /// Host id of the container's root, where it has a user namespace.
    pub(crate) userns_base: Option<u32>,
    /// The runtime spec of its last start, as JSON.
    pub(crate) spec: Option<Vec<u8>>,
    /// The container stands still for as long as this is there.
    pub(crate) hold: Option<Hold>,
    /// What lasts as long as it is read.
    pub(crate) kept: Kept,
}

/// Keeps the files of the writable layer and of the image, though the container may be removed.
#[derive(Debug)]
pub(crate) struct Kept {
    _files: OwnedRwLockReadGuard<()>,
    _image: Lease,
}

impl Container {
    /// Keeps the files of the container and of its image.
    pub(super) async fn keep(&self, image: &Image) -> Result<Kept> {
        let files = Arc::clone(&self.readers).read_owned().await;
        Ok(Kept { _files: files, _image: self.context.images.lease(&image.digest)? })
    }

    /// Lets somebody read the writable layer; `still`: for as long as the hold is there, nothing in it changes.
    pub(super) async fn read(&mut self, still: bool) -> Result<Reading> {
        if self.record.state == State::Removing {
            return Err(refused(&self.record.name, self.record.state, "read"));
        }
        let image = self.context.images.get(&self.record.image_digest)?;
        let kept = self.keep(&image).await?;
        let hold = if still { Some(self.hold().await?) } else { None };
        let (context, id) = (Arc::clone(&self.context), self.record.id.clone());
        let (upper, spec) = blocking(move || {
            let path = context.dirs.container(&id).upper();
            let upper = match File::open(&path) {
                Ok(directory) => Some(directory),
                Err(error) if error.kind() == std::io::ErrorKind::NotFound => None,
                Err(error) => return Err(Error::io(format_args!("opening {}", path.display()), &error)),
            };
            Ok((upper, context.store.get(Table::Specs, &id)?))
        })
        .await?;
        Ok(Reading { upper, image, userns_base: self.record.userns_base, spec, hold, kept })
    }
}
