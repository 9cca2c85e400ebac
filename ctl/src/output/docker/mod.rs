//! What the API says, with the names that Docker has for it: for `--format`. `-o` has the API's own.

mod container;
mod image;
mod inspect;
mod node;

use jiff::Timestamp;
use jiff::tz::TimeZone;

pub(crate) use container::{CONTAINER, ContainerRow, network_name};
pub(crate) use image::{HISTORY, IMAGE, MISSING, familiar, history_row, image_details, image_rows, repository_and_tag};
pub(crate) use inspect::container_details;
pub(crate) use node::{CONTEXT, DISK, disk_rows, node_details, version_details};

/// A point in time as Docker's lists have it: local, "2026-01-02 15:04:05 +0100 CET".
fn local(time: Option<Timestamp>) -> String {
    let zoned = time.map(|time| time.to_zoned(TimeZone::system()));
    zoned.map(|time| time.strftime("%Y-%m-%d %H:%M:%S %z %Z").to_string()).unwrap_or_default()
}

/// A point in time as Docker's details have it: RFC 3339, and year 1 for none.
fn rfc3339(time: Option<Timestamp>) -> String {
    time.map_or_else(|| "0001-01-01T00:00:00Z".to_owned(), |time| time.to_string())
}
