//! What takes the disk.

use hull_proto::v1;
use jiff::Timestamp;
use serde::Serialize;

use super::time::moment;

/// What takes the disk, with the field names of protobuf's JSON mapping.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct DiskUsageView {
    images: UsageView,
    partial_pulls: UsageView,
    containers: UsageView,
    logs: UsageView,
    container: Vec<ContainerUsageView>,
    filesystem_bytes: u64,
    filesystem_free_bytes: u64,
    filesystem_inodes: u64,
    filesystem_free_inodes: u64,
}

#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct UsageView {
    count: u32,
    active: u32,
    bytes: u64,
    reclaimable_bytes: u64,
}

#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct ContainerUsageView {
    id: String,
    name: String,
    writable_bytes: u64,
    writable_inodes: u64,
    #[serde(skip_serializing_if = "Option::is_none")]
    measured_at: Option<Timestamp>,
    log_bytes: u64,
}

impl From<v1::GetDiskUsageResponse> for DiskUsageView {
    fn from(usage: v1::GetDiskUsageResponse) -> Self {
        let kind = |usage: Option<v1::DiskUsage>| UsageView::from(usage.unwrap_or_default());
        Self {
            images: kind(usage.images),
            partial_pulls: kind(usage.partial_pulls),
            containers: kind(usage.containers),
            logs: kind(usage.logs),
            container: usage.container.into_iter().map(ContainerUsageView::from).collect(),
            filesystem_bytes: usage.filesystem_bytes,
            filesystem_free_bytes: usage.filesystem_free_bytes,
            filesystem_inodes: usage.filesystem_inodes,
            filesystem_free_inodes: usage.filesystem_free_inodes,
        }
    }
}

impl From<v1::DiskUsage> for UsageView {
    fn from(usage: v1::DiskUsage) -> Self {
        let v1::DiskUsage { count, active, bytes, reclaimable_bytes } = usage;
        Self { count, active, bytes, reclaimable_bytes }
    }
}

impl From<v1::ContainerDiskUsage> for ContainerUsageView {
    fn from(usage: v1::ContainerDiskUsage) -> Self {
        Self {
            measured_at: moment(usage.measured_at.as_ref()),
            id: usage.id,
            name: usage.name,
            writable_bytes: usage.writable_bytes,
            writable_inodes: usage.writable_inodes,
            log_bytes: usage.log_bytes,
        }
    }
}
