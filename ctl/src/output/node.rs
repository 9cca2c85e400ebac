//! The node and versions.

use hull_proto::v1;
use jiff::Timestamp;
use serde::Serialize;

use super::time::moment;

/// The node and its agent, with the field names of protobuf's JSON mapping.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct NodeView {
    version: String,
    api_version: String,
    hostname: String,
    kernel_version: String,
    architecture: String,
    cgroup_mode: &'static str,
    cgroup_controllers: Vec<String>,
    cgroup_parent: String,
    data_dir: String,
    run_dir: String,
    cpus: u32,
    memory_bytes: u64,
    features: Vec<FeatureView>,
    containers: u32,
    containers_running: u32,
    images: u32,
    #[serde(skip_serializing_if = "Option::is_none")]
    started_at: Option<Timestamp>,
    pid: i32,
}

#[derive(Debug, Serialize)]
struct FeatureView {
    name: String,
    available: bool,
    #[serde(skip_serializing_if = "String::is_empty")]
    detail: String,
}

impl From<v1::GetInfoResponse> for NodeView {
    fn from(info: v1::GetInfoResponse) -> Self {
        Self {
            cgroup_mode: info.cgroup_mode().as_str_name(),
            version: info.version,
            api_version: info.api_version,
            hostname: info.hostname,
            kernel_version: info.kernel_version,
            architecture: info.architecture,
            cgroup_controllers: info.cgroup_controllers,
            cgroup_parent: info.cgroup_parent,
            data_dir: info.data_dir,
            run_dir: info.run_dir,
            cpus: info.cpus,
            memory_bytes: info.memory_bytes,
            features: info.features.into_iter().map(FeatureView::from).collect(),
            containers: info.containers,
            containers_running: info.containers_running,
            images: info.images,
            started_at: moment(info.started_at.as_ref()),
            pid: info.pid,
        }
    }
}

impl From<v1::Feature> for FeatureView {
    fn from(feature: v1::Feature) -> Self {
        Self { name: feature.name, available: feature.available, detail: feature.detail }
    }
}

/// Versions of both ends.
#[derive(Debug, Serialize)]
pub(crate) struct Versions {
    pub(crate) client: ClientVersion,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) agent: Option<AgentVersion>,
}

/// This program.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct ClientVersion {
    pub(crate) version: &'static str,
    pub(crate) api_version: &'static str,
    pub(crate) os: &'static str,
    pub(crate) architecture: &'static str,
}

impl ClientVersion {
    /// Of this program.
    pub(crate) const OWN: Self = Self {
        version: env!("CARGO_PKG_VERSION"),
        api_version: "hull.v1",
        os: std::env::consts::OS,
        architecture: std::env::consts::ARCH,
    };
}

/// The agent.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct AgentVersion {
    pub(crate) version: String,
    pub(crate) api_version: String,
    pub(crate) kernel_version: String,
    pub(crate) architecture: String,
}

impl From<v1::GetInfoResponse> for AgentVersion {
    fn from(info: v1::GetInfoResponse) -> Self {
        let (version, api_version) = (info.version, info.api_version);
        Self { version, api_version, kernel_version: info.kernel_version, architecture: info.architecture }
    }
}
