//! `df`.

use std::io::Write as _;

use hull_proto::v1::{ContainerDiskUsage, GetDiskUsageRequest, GetDiskUsageResponse};
use jiff::Timestamp;

use crate::cli::DiskFlags;
use crate::client::Client;
use crate::error::Result;
use crate::output::docker::{DISK, disk_rows};
use crate::output::{self, DiskUsageView, Shape, Table, ago, bytes_decimal, moment, short_id};

/// Shows what takes the disk.
pub(crate) async fn usage(connect: impl Future<Output = Result<Client>>, flags: DiskFlags) -> Result<u8> {
    let shape = Shape::of(flags.output.output, flags.format.as_deref())?;
    let usage = connect.await?.node().get_disk_usage(GetDiskUsageRequest {}).await?.into_inner();
    match shape {
        Shape::Data(format) => output::data(format, &DiskUsageView::from(usage))?,
        Shape::Template(template) => template.print(DISK, disk_rows(&usage))?,
        Shape::People => print_usage(&usage, flags.verbose)?,
    }
    Ok(0)
}

fn print_usage(usage: &GetDiskUsageResponse, verbose: bool) -> Result<()> {
    kinds(usage).print()?;
    let mut out = output::stdout();
    let (size, free) = (bytes_decimal(usage.filesystem_bytes), bytes_decimal(usage.filesystem_free_bytes));
    writeln!(out, "\nFile system: {free} of {size} free{}", inodes(usage))?;
    out.flush()?;
    drop(out);
    if verbose {
        output::line("")?;
        containers(&usage.container).print()?;
    }
    Ok(())
}

fn kinds(usage: &GetDiskUsageResponse) -> Table {
    let mut table = Table::new(&DISK.iter().map(|(_, heading)| *heading).collect::<Vec<_>>());
    for row in disk_rows(usage) {
        table.row(DISK.iter().map(|(field, _)| row[field].as_str().unwrap_or_default().to_owned()));
    }
    table
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
    use hull_proto::v1::DiskUsage;

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
