//! What containers changed: told as a list, or kept as an image.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use super::container::{Hold, Reading, Request};
use super::containers::Containers;
use super::context::Context;
use super::plan::GENERATED_FILES;
use super::{spec, userns};
use crate::blocking::{CancelOnDrop, blocking};
use crate::error::{Error, Reason, Result};
use crate::images::{Change, CommitOptions, Committing, Image, Owners, WritableLayer};

impl Containers {
    /// Finds out what a container changed. `take` gets the changes in batches and says whether it wants more; it may block.
    pub(crate) async fn diff(
        &self,
        reference: &str,
        take: impl FnMut(Vec<Change>) -> bool + Send + 'static,
    ) -> Result<()> {
        let reading = self.find(reference)?.ask(|reply| Request::Read { still: false, reply }).await?;
        let context = Arc::clone(&self.context);
        blocking(move || with_layer(&context, reading, |layer, _| context.images.diff(layer, take))).await
    }

    /// Makes an image of a container. Unless `running`, it stands still meanwhile. Dropping the future cancels it.
    pub(crate) async fn commit(
        &self,
        reference: &str,
        mut options: CommitOptions,
        running: bool,
    ) -> Result<Arc<Image>> {
        let handle = self.find(reference)?;
        let view = handle.view();
        options.created_by = view.config.args.join(" ");
        let mut reading = handle.ask(|reply| Request::Read { still: !running, reply }).await?;
        let (hold, context) = (reading.hold.take(), Arc::clone(&self.context));
        let cancelled = CancelOnDrop::default();
        let (cancel, disturbed) = (Arc::clone(&cancelled.0), hold.as_ref().map(Hold::disturbed));
        let (told, read) = tokio::sync::oneshot::channel();
        let stood_still = move || {
            // Who commits may have gone.
            let _ = told.send(());
            match disturbed {
                Some(disturbed) if disturbed.load(Ordering::Acquire) => Err(disturbance(&view.name)),
                _ => Ok(()),
            }
        };
        let mut work = std::pin::pin!(blocking(move || {
            with_layer(&context, reading, |layer, image| {
                let committing = Committing { cancelled: &cancel, read: Box::new(stood_still) };
                context.images.commit(image, layer, &options, committing)
            })
        }));
        tokio::select! {
            image = &mut work => return image,
            _ = read => {}
        }
        // What follows does not look at the container any more.
        drop(hold);
        work.await
    }
}

/// Calls `read` with a writable layer and its image, while the layers below it are mounted. Blocking.
fn with_layer<T>(
    context: &Context,
    reading: Reading,
    read: impl FnOnce(&WritableLayer, &Image) -> Result<T>,
) -> Result<T> {
    let Reading { upper, image, userns_base, spec, kept, .. } = reading;
    let owners = userns_base.map_or(Owners::Host, |base| Owners::Mapped { base, size: userns::RANGE });
    let targets = targets(spec.as_deref())?;
    let lower = context.layers.acquire(&image)?;
    let result = read(&WritableLayer { upper, lower, owners, targets }, &image);
    let released = context.layers.release(&image);
    drop(kept);
    result.and_then(|value| released.map(|()| value))
}

/// Where something is mounted in a container, as of its last start.
fn targets(spec: Option<&[u8]>) -> Result<BTreeSet<String>> {
    let mut targets: BTreeSet<String> = GENERATED_FILES.map(str::to_owned).into();
    if let Some(json) = spec {
        let spec = spec::from_json(&String::from_utf8_lossy(json))?;
        let mounts = spec.mounts().iter().flatten();
        let absolute = mounts.filter_map(|mount| mount.destination().to_str()).filter(|path| path.starts_with('/'));
        targets.extend(absolute.map(str::to_owned));
    }
    Ok(targets)
}

fn disturbance(name: &str) -> Error {
    let line =
        format!("container {name} ran on while it was being committed: it was started, resumed, stopped or copied to");
    Error::new(Reason::InvalidState, line).hint("commit it again")
}
