//! NodeService.

use std::path::PathBuf;

use hull_proto::v1;
use hull_proto::v1::node_service_server::NodeService;
use tonic::{Request, Response, Status};

use super::convert::time;
use super::{Edge, blocking};
use crate::images::Usage;
use crate::lifecycle::ContainerUsage;
use crate::runtime::cgroup::CgroupMode;
use crate::runtime::features::Feature;
use crate::space::Space;

/// Version of the API that this agent serves.
const API_VERSION: &str = "hull.v1";

/// What does not change while the agent runs.
#[derive(Debug, Clone)]
pub(crate) struct NodeInfo {
    pub(crate) hostname: String,
    pub(crate) kernel_version: String,
    /// In OCI terms, e.g. "amd64".
    pub(crate) architecture: String,
    pub(crate) cgroup_mode: CgroupMode,
    pub(crate) cgroup_controllers: Vec<String>,
    pub(crate) cgroup_parent: String,
    pub(crate) data_dir: PathBuf,
    pub(crate) run_dir: PathBuf,
    pub(crate) cpus: u32,
    pub(crate) memory_bytes: u64,
    pub(crate) features: Vec<Feature>,
    /// Nanoseconds since the epoch.
    pub(crate) started_at_nanos: u64,
}

#[tonic::async_trait]
impl NodeService for Edge {
    async fn get_info(&self, _: Request<v1::GetInfoRequest>) -> Result<Response<v1::GetInfoResponse>, Status> {
        let node = self.node.as_ref();
        let (containers, running) = self.containers.counts();
        let images = self.images.list().len();
        Ok(Response::new(v1::GetInfoResponse {
            version: env!("CARGO_PKG_VERSION").to_owned(),
            api_version: API_VERSION.to_owned(),
            hostname: node.hostname.clone(),
            kernel_version: node.kernel_version.clone(),
            architecture: node.architecture.clone(),
            cgroup_mode: cgroup_mode(node.cgroup_mode).into(),
            cgroup_controllers: node.cgroup_controllers.clone(),
            cgroup_parent: node.cgroup_parent.clone(),
            data_dir: node.data_dir.display().to_string(),
            run_dir: node.run_dir.display().to_string(),
            cpus: node.cpus,
            memory_bytes: node.memory_bytes,
            features: node.features.iter().map(feature).collect(),
            containers: count(containers),
            containers_running: count(running),
            images: count(images),
            started_at: Some(time::to_timestamp(node.started_at_nanos)),
            pid: std::process::id().cast_signed(),
        }))
    }

    async fn get_disk_usage(
        &self,
        _: Request<v1::GetDiskUsageRequest>,
    ) -> Result<Response<v1::GetDiskUsageResponse>, Status> {
        let found = self.containers.disk_usage().await?;
        let (images, containers, data_dir) = (self.images.clone(), self.containers.clone(), self.node.data_dir.clone());
        let (images, parts, space) = blocking(move || {
            let used = images.usage(&|digest| containers.user_of(digest))?;
            Ok((used, images.usage_of_parts()?, Space::of(&data_dir)?))
        })
        .await?;
        Ok(Response::new(v1::GetDiskUsageResponse {
            images: Some(disk_usage(images)),
            partial_pulls: Some(disk_usage(parts)),
            containers: Some(sum(&found, |container| container.writable.map_or(0, |(measured, _)| measured.bytes))),
            logs: Some(sum(&found, |container| container.log_bytes)),
            container: found.into_iter().map(container_usage).collect(),
            filesystem_bytes: space.bytes,
            filesystem_free_bytes: space.free_bytes,
            filesystem_inodes: space.inodes,
            filesystem_free_inodes: space.free_inodes,
        }))
    }
}

fn disk_usage(usage: Usage) -> v1::DiskUsage {
    let Usage { count: all, active, bytes, reclaimable_bytes } = usage;
    v1::DiskUsage { count: count(all), active: count(active), bytes, reclaimable_bytes }
}

/// What something of all containers takes; that of those that do not run can be had back.
fn sum(containers: &[ContainerUsage], bytes_of: impl Fn(&ContainerUsage) -> u64) -> v1::DiskUsage {
    let bytes = containers.iter().map(&bytes_of).sum();
    let idle = containers.iter().filter(|container| !container.active).map(&bytes_of);
    let active = containers.iter().filter(|container| container.active).count();
    disk_usage(Usage { count: containers.len(), active, bytes, reclaimable_bytes: idle.sum() })
}

fn container_usage(container: ContainerUsage) -> v1::ContainerDiskUsage {
    let (measured, at) = container.writable.unzip();
    let measured = measured.unwrap_or_default();
    v1::ContainerDiskUsage {
        id: container.id,
        name: container.name,
        writable_bytes: measured.bytes,
        writable_inodes: measured.inodes,
        measured_at: at.map(time::to_timestamp),
        log_bytes: container.log_bytes,
    }
}

fn cgroup_mode(mode: CgroupMode) -> v1::CgroupMode {
    match mode {
        CgroupMode::Legacy => v1::CgroupMode::Legacy,
        CgroupMode::Hybrid => v1::CgroupMode::Hybrid,
        CgroupMode::Unified => v1::CgroupMode::Unified,
    }
}

fn feature(feature: &Feature) -> v1::Feature {
    v1::Feature { name: feature.name.to_owned(), available: feature.available, detail: feature.detail.clone() }
}

fn count(number: usize) -> u32 {
    u32::try_from(number).unwrap_or(u32::MAX)
}
