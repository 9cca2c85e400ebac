//! `container prune`.

use std::collections::HashMap;
use std::io::Write as _;

use futures_util::{StreamExt as _, stream};
use hull_proto::v1::{Container, GetDiskUsageRequest, RemoveContainerRequest};
use serde::Serialize;

use super::AT_ONCE;
use super::filter::PruneConditions;
use super::list::pages;
use super::upkeep::{Words, is_wanted};
use crate::cli::ContainerPruneFlags;
use crate::client::Client;
use crate::error::{Error, Result};
use crate::output::{self, bytes_decimal, short_id};

/// What went, or would go.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct PruneView {
    removed: Vec<PrunedView>,
    freed_bytes: u64,
}

#[derive(Debug, Serialize)]
struct PrunedView {
    id: String,
    name: String,
    /// What its log and its writable layer took; absent while that was not measured.
    #[serde(skip_serializing_if = "Option::is_none")]
    bytes: Option<u64>,
}

/// Removes containers that do not run; prints what went. One that is started meanwhile stays, which is told.
pub(crate) async fn prune(connect: impl Future<Output = Result<Client>>, flags: ContainerPruneFlags) -> Result<u8> {
    let ContainerPruneFlags { filters, how } = flags;
    let conditions = PruneConditions::parse(&filters)?;
    let which = if filters.is_empty() { "all containers that do not run" } else { "containers that do not run" };
    if !is_wanted(how, which).await? {
        return Ok(0);
    }
    let client = &connect.await?;
    let mut containers = pages(client, conditions.agent.clone(), usize::MAX).await?;
    containers.retain(|container| conditions.fit(container));
    let sizes = &sizes(client).await?;
    let work = containers.into_iter().map(|container| async move {
        if !how.dry_run {
            let request = RemoveContainerRequest { container: container.id.clone(), force: false };
            client.containers().remove_container(request).await?;
        }
        Ok::<_, Error>(pruned(container, sizes))
    });
    let mut answers = stream::iter(work).buffered(AT_ONCE);
    let mut view = PruneView { removed: Vec::new(), freed_bytes: 0 };
    let mut failed = false;
    while let Some(answer) = answers.next().await {
        match answer {
            Ok(pruned) => {
                view.freed_bytes += pruned.bytes.unwrap_or_default();
                view.removed.push(pruned);
            }
            Err(error) => {
                failed = true;
                output::complain(&error);
            }
        }
    }
    match how.output.output {
        Some(format) => output::data(format, &view)?,
        None => print(&view, how.dry_run)?,
    }
    if failed { Err(Error::Reported) } else { Ok(0) }
}

/// What each container takes; nothing where its writable layer was not measured yet.
async fn sizes(client: &Client) -> Result<HashMap<String, Option<u64>>> {
    let usage = client.node().get_disk_usage(GetDiskUsageRequest {}).await?.into_inner();
    let size = |usage: hull_proto::v1::ContainerDiskUsage| {
        (usage.id, usage.measured_at.map(|_| usage.writable_bytes.saturating_add(usage.log_bytes)))
    };
    Ok(usage.container.into_iter().map(size).collect())
}

fn pruned(container: Container, sizes: &HashMap<String, Option<u64>>) -> PrunedView {
    let bytes = sizes.get(&container.id).copied().flatten();
    PrunedView { id: container.id, name: container.name, bytes }
}

fn print(view: &PruneView, dry_run: bool) -> Result<()> {
    let mut out = output::stdout();
    let Words { deleted, reclaimed } = Words::of(dry_run);
    for PrunedView { id, name, bytes } in &view.removed {
        let size = bytes.map_or_else(|| "not yet measured".to_owned(), bytes_decimal);
        writeln!(out, "{deleted}: {name} ({}): {size}", short_id(id))?;
    }
    let unknown = view.removed.iter().filter(|pruned| pruned.bytes.is_none()).count();
    let rest = if unknown == 0 { String::new() } else { format!(", and that of {unknown} not yet measured") };
    writeln!(out, "{reclaimed}: {}{rest}", bytes_decimal(view.freed_bytes))?;
    Ok(out.flush()?)
}
