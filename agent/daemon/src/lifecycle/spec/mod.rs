//! What a user asked for, made an OCI runtime spec (`config.json`): the contract with the ecosystem, shown by inspect, compiled by
//! [`super::plan`].
//!
//! Volumes that an image declares are plain directories of the container's writable layer: hull keeps no data beyond the life of
//! a container that nobody asked it to keep. Mount something there to keep it.

pub(crate) mod host;
pub(crate) mod linux;
pub(crate) mod mounts;
pub(crate) mod path;
pub(crate) mod process;
mod resources;
pub(crate) mod rlimit;
pub(crate) mod sysctl;
#[cfg(test)]
mod tests;
pub(crate) mod validate;

use oci_spec::runtime::{Root, Spec};

pub(crate) use validate::validate;

use crate::error::{Error, Reason, Result};
use crate::lifecycle::config::{ContainerConfig, NamespaceMode};
use crate::lifecycle::security::capabilities::{self, HostCapabilities};

/// Version of the runtime spec that hull writes.
const OCI_VERSION: &str = "1.2.0";

/// What an image says about containers made from it. Untrusted.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct ImageDefaults {
    pub(crate) entrypoint: Vec<String>,
    pub(crate) cmd: Vec<String>,
    pub(crate) env: Vec<String>,
    /// Empty: "/".
    pub(crate) working_dir: String,
    /// Empty: user 0.
    pub(crate) user: String,
}

/// Host ids of a user namespace.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct UserNamespaceRange {
    /// Host id of the container's id 0.
    pub(crate) base: u32,
    /// How many ids.
    pub(crate) size: u32,
}

/// Paths of the namespaces of other containers that this one joins ("/proc/123/ns/net").
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct JoinedNamespaces {
    pub(crate) pid: Option<String>,
    pub(crate) network: Option<String>,
    pub(crate) ipc: Option<String>,
    pub(crate) uts: Option<String>,
}

/// What a spec depends on beside configuration and image.
#[derive(Debug, Clone, Copy)]
pub(crate) struct SpecContext<'a> {
    /// Id of the container.
    pub(crate) id: &'a str,
    /// Its path in every cgroup hierarchy ("/hull/ID").
    pub(crate) cgroup_path: &'a str,
    /// Whether the host has version 2 alone; otherwise the container sees version 1 hierarchies.
    pub(crate) cgroup2: bool,
    /// Ids of its user namespace; given if and only if the configuration asks for one.
    pub(crate) user_namespace: Option<UserNamespaceRange>,
    /// Namespaces that it joins.
    pub(crate) joined: &'a JoinedNamespaces,
    /// Host name in the uts namespace where that is not its own: the host's, or the joined container's.
    pub(crate) uts_hostname: &'a str,
    /// What [`host::probe`] found.
    pub(crate) host: &'a host::HostFiles,
    /// Capabilities of the kernel and the agent.
    pub(crate) capabilities: HostCapabilities,
    /// Kernel version, major and minor.
    pub(crate) kernel: (u32, u32),
}

impl SpecContext<'_> {
    /// Capabilities of the container, as bits.
    fn container_capabilities(&self, config: &ContainerConfig) -> Result<u64> {
        capabilities::resolve(&config.security, self.capabilities.available(self.user_namespace.is_some()))
    }
}

/// Host name of a container; `None` where the uts namespace is not its own.
fn hostname<'a>(config: &'a ContainerConfig, ctx: &SpecContext<'a>) -> Option<&'a str> {
    let own = config.namespaces.uts == NamespaceMode::Private;
    own.then(|| config.hostname.as_deref().unwrap_or(ctx.id.get(..12).unwrap_or(ctx.id)))
}

/// Builds the runtime spec of one start.
///
/// # Errors
/// `InvalidArgument` with the field (also of the image: "image.config.user"), `UnsupportedFeature` for a capability that the host
/// does not have.
pub(crate) fn build(config: &ContainerConfig, image: &ImageDefaults, ctx: &SpecContext<'_>) -> Result<Spec> {
    if config.namespaces.user_auto != ctx.user_namespace.is_some() {
        return Err(Error::new(Reason::Internal, "the ids of the user namespace do not fit the configuration"));
    }
    let mut root = Root::default();
    root.set_path("rootfs".into()).set_readonly(Some(config.read_only_rootfs));
    let mut spec = Spec::default();
    spec.set_version(OCI_VERSION.to_owned())
        .set_root(Some(root))
        .set_process(Some(process::build(config, image, ctx)?))
        .set_hostname(hostname(config, ctx).map(str::to_owned))
        .set_domainname(config.domainname.clone())
        .set_mounts(Some(mounts::build(config, ctx)?))
        .set_linux(Some(linux::build(config, ctx)?))
        .set_annotations(None);
    Ok(spec)
}

/// The spec as JSON, to be kept with the container.
pub(crate) fn to_json(spec: &Spec) -> Result<String> {
    serde_json::to_string(spec).map_err(|error| coding("encoding", &error))
}

/// What [`to_json`] wrote as it is shown: maps and sets, which have no order of their own, sorted.
pub(crate) fn for_display(json: &str) -> Result<String> {
    let mut value: serde_json::Value = serde_json::from_str(json).map_err(|error| coding("reading", &error))?;
    let sets = value.pointer_mut("/process/capabilities").and_then(serde_json::Value::as_object_mut);
    for set in sets.into_iter().flat_map(|sets| sets.values_mut()) {
        if let Some(names) = set.as_array_mut() {
            names.sort_by(|a, b| a.as_str().cmp(&b.as_str()));
        }
    }
    serde_json::to_string(&value).map_err(|error| coding("encoding", &error))
}

/// Reads a spec that [`to_json`] wrote.
pub(crate) fn from_json(json: &str) -> Result<Spec> {
    serde_json::from_str(json).map_err(|error| coding("reading", &error))
}

fn coding(what: &str, error: &serde_json::Error) -> Error {
    Error::new(Reason::Internal, format!("{what} the runtime spec: {error}"))
}
