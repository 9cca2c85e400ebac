//! `df`.

use std::io::Write as _;

use hull_proto::v1::{ContainerDiskUsage, DiskUsage, GetDiskUsageRequest, GetDiskUsageResponse};
use jiff::Timestamp;

use crate::cli::DiskFlags;
use crate::client::Client;
use crate::error::Result;
use crate::output::{self, DiskUsageView, Table, ago, bytes_decimal, moment, short_id};

/// Shows what takes the disk.
pub(crate) async fn usage(client: Client, flags: DiskFlags) -> Result<u8> {
    let usage = client.node().get_disk_usage(GetDiskUsageRequest {}).await?.into_inner();
    if let Some(format) = flags.output.output {
        output::data(format, &DiskUsageView::from(usage))?;
        return Ok(0);
    }
    kinds(&usage).print()?;
    let mut out = output::stdout();
    let (size, free) = (bytes_decimal(usage.filesystem_bytes), bytes_decimal(usage.filesystem_free_bytes));
    writeln!(out, "\nFile system: {free} of {size} free{}", inodes(&usage))?;
    out.flush()?;
    drop(out);
    if flags.verbose {
        output::line("")?;
        containers(&usage.container).print()?;
    }
    Ok(0)
}

fn kinds(usage: &GetDiskUsageResponse) -> Table {
    let mut table = Table::new(&["TYPE", "TOTAL", "ACTIVE", "SIZE", "RECLAIMABLE"]);
    for (kind, usage) in [
        ("Images", usage.images),
        ("Partial pulls", usage.partial_pulls),
        ("Containers", usage.containers),
        ("Logs", usage.logs),
    ] {
        let usage = usage.unwrap_or_default();
        let (total, active) = (usage.count.to_string(), usage.active.to_string());
        table.row([kind.to_owned(), total, active, bytes_decimal(usage.bytes), reclaimable(usage)]);
    }
    table
}

/// Bytes, and what part of all that is.
fn reclaimable(usage: DiskUsage) -> String {
    let percent = u128::from(usage.reclaimable_bytes) * 100 / u128::from(usage.bytes.max(1));
    format!("{} ({percent}%)", bytes_decimal(usage.reclaimable_bytes))
}

fn inodes(usage: &GetDiskUsageResponse) -> String {
    match usage.filesystem_inodes {
        0 => String::new(),
        inodes => format!(", {} of {inodes} inodes free", usage.filesystem_free_inodes),
    }
}

fn containers(containers: &[ContainerDiskUsage]) -> Table {
    let mut table = Table::new(&["CONTAINER ID", "NAME", "WRITABLE", "INODES", "MEASURED", "LOG"]);
    let now = Timestamp::now();
    for container in containers {
        let measured = moment(container.measured_at.as_ref());
        let (bytes, inodes, when) = match measured {
            None => ("-".to_owned(), "-".to_owned(), "not yet".to_owned()),
            Some(_) => {
                let inodes = container.writable_inodes.to_string();
                (bytes_decimal(container.writable_bytes), inodes, format!("{} ago", ago(measured, now)))
            }
        };
        let id = short_id(&container.id).to_owned();
        table.row([id, container.name.clone(), bytes, inodes, when, bytes_decimal(container.log_bytes)]);
    }
    table
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_row_per_kind() {
        let images = DiskUsage { count: 3, active: 1, bytes: 4_000_000, reclaimable_bytes: 1_000_000 };
        let usage = GetDiskUsageResponse { images: Some(images), ..Default::default() };
        let lines: Vec<String> = kinds(&usage).lines().collect();
        assert_eq!(lines[1], "Images          3       1        4MB    1MB (25%)");
        assert_eq!(lines[4], "Logs            0       0        0B     0B (0%)");
    }
}
