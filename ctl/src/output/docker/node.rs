//! The node, versions, and what takes the disk.

use hull_proto::v1::{CgroupMode, DiskUsage, GetDiskUsageResponse, GetInfoResponse};
use serde_json::{Value, json};

use super::rfc3339;
use crate::output::template::Fields;
use crate::output::{ClientVersion, bytes_decimal, moment};

/// Fields of a row of `df`.
pub(crate) const DISK: Fields = &[
    ("Type", "TYPE"),
    ("TotalCount", "TOTAL"),
    ("Active", "ACTIVE"),
    ("Size", "SIZE"),
    ("Reclaimable", "RECLAIMABLE"),
];

/// Fields of a row of `context ls`.
pub(crate) const CONTEXT: Fields = &[
    ("Name", "NAME"),
    ("Current", "CURRENT"),
    ("Description", "DESCRIPTION"),
    ("DockerEndpoint", "DOCKER ENDPOINT"),
    ("Error", "ERROR"),
];

/// A row for each kind of thing on the disk.
pub(crate) fn disk_rows(usage: &GetDiskUsageResponse) -> impl Iterator<Item = Value> {
    let kinds = [
        ("Images", usage.images),
        ("Partial pulls", usage.partial_pulls),
        ("Containers", usage.containers),
        ("Logs", usage.logs),
    ];
    kinds.into_iter().map(|(kind, usage)| {
        let usage = usage.unwrap_or_default();
        json!({
            "Type": kind,
            "TotalCount": usage.count.to_string(),
            "Active": usage.active.to_string(),
            "Size": bytes_decimal(usage.bytes),
            "Reclaimable": reclaimable(usage),
        })
    })
}

/// Bytes, and what part of all that is.
fn reclaimable(usage: DiskUsage) -> String {
    let percent = u128::from(usage.reclaimable_bytes) * 100 / u128::from(usage.bytes.max(1));
    format!("{} ({percent}%)", bytes_decimal(usage.reclaimable_bytes))
}

/// The node as Docker's `info` shows it.
pub(crate) fn node_details(info: &GetInfoResponse) -> Value {
    let version = if info.cgroup_mode() == CgroupMode::Unified { "2" } else { "1" };
    json!({
        "Name": info.hostname,
        "Containers": info.containers,
        "ContainersRunning": info.containers_running,
        "Images": info.images,
        "ServerVersion": info.version,
        "KernelVersion": info.kernel_version,
        "OSType": "linux",
        "Architecture": info.architecture,
        "NCPU": info.cpus,
        "MemTotal": info.memory_bytes,
        "DockerRootDir": info.data_dir,
        "Driver": "overlay",
        "CgroupDriver": "cgroupfs",
        "CgroupVersion": version,
        "ClientInfo": {"Version": ClientVersion::OWN.version},
    })
}

/// Versions as Docker's `version` shows them.
pub(crate) fn version_details(client: &ClientVersion, agent: Option<&GetInfoResponse>) -> Value {
    let server = agent.map(|agent| {
        json!({
            "Version": agent.version,
            "APIVersion": agent.api_version,
            "Os": "linux",
            "Arch": agent.architecture,
            "KernelVersion": agent.kernel_version,
            "StartedAt": rfc3339(moment(agent.started_at.as_ref())),
        })
    });
    json!({
        "Client": {
            "Version": client.version,
            "APIVersion": client.api_version,
            "Os": client.os,
            "Arch": client.architecture,
        },
        "Server": server,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_row_per_kind() {
        let images = DiskUsage { count: 3, active: 1, bytes: 4_000_000, reclaimable_bytes: 1_000_000 };
        let usage = GetDiskUsageResponse { images: Some(images), ..Default::default() };
        let rows: Vec<Value> = disk_rows(&usage).collect();
        assert_eq!(
            rows[0],
            json!({"Type": "Images", "TotalCount": "3", "Active": "1", "Size": "4MB", "Reclaimable": "1MB (25%)"})
        );
        assert_eq!(rows[3]["Reclaimable"], "0B (0%)");
        assert_eq!(DISK.len(), rows[0].as_object().unwrap().len());
    }
}
