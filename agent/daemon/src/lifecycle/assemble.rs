//! From record and image to everything that a shim needs: control group, directories, mounted layers, socket, plan.
//! The one place where these come together; in one go, on a blocking thread.

use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Instant;

use hull_wire::{Step, StepTime};
use oci_spec::runtime::Spec;

use super::config::{ContainerConfig, NamespaceMode};
use super::container::{clean_cgroup, nanos_since};
use super::context::Context;
use super::index::Index;
use super::plan::{self, DEFAULT_TERMINAL_SIZE, PlanContext};
use super::record::{Record, View};
use super::security::devices::DevicePolicy;
use super::spec::{self, ImageDefaults, JoinedNamespaces, SpecContext, UserNamespaceRange};
use super::state::refused;
use super::userns;
use crate::error::{Error, Reason, Result};
use crate::images::Image;
use crate::runtime::cgroup::{CgroupMode, ContainerCgroup};
use crate::runtime::dirs::ContainerDirs;
use crate::runtime::{memfd, shim};

/// What the shim gets, and what the agent keeps.
#[derive(Debug)]
pub(crate) struct Assembled {
    /// The encoded plan.
    pub(crate) plan: OwnedFd,
    /// The shim's listening socket.
    pub(crate) listener: OwnedFd,
    pub(crate) cgroup: ContainerCgroup,
    /// The OCI runtime spec as JSON.
    pub(crate) spec: Vec<u8>,
    /// How long the agent's own steps took.
    pub(crate) steps: Vec<StepTime>,
}

/// What a start is made from.
#[derive(Debug)]
pub(crate) struct Start {
    pub(crate) record: Record,
    pub(crate) image: Arc<Image>,
    pub(crate) joined: Joined,
    /// Whether the container counts among the users of the image's mounted layers already.
    pub(crate) holds_layers: bool,
    /// Rows and columns of the terminal, where somebody is there to look at it.
    pub(crate) terminal_size: Option<(u16, u16)>,
}

/// What a container shares with others.
#[derive(Debug, Default)]
pub(crate) struct Joined {
    namespaces: JoinedNamespaces,
    /// Name that the joined uts namespace shows.
    hostname: Option<String>,
}

/// Finds the namespaces of the containers that `config` joins.
///
/// # Errors
/// `ContainerNotFound`, or `InvalidState` for one that does not run.
pub(crate) fn joined_namespaces(index: &Index, config: &ContainerConfig) -> Result<Joined> {
    let mut joined = Joined::default();
    let wanted = &config.namespaces;
    for (mode, name, path) in [
        (&wanted.pid, "pid", &mut joined.namespaces.pid),
        (&wanted.network, "net", &mut joined.namespaces.network),
        (&wanted.ipc, "ipc", &mut joined.namespaces.ipc),
        (&wanted.uts, "uts", &mut joined.namespaces.uts),
    ] {
        let NamespaceMode::Container(id) = mode else { continue };
        let view = index.find(id)?.view();
        if view.pid == 0 {
            return Err(refused(&view.name, view.state, "share the namespaces of"));
        }
        *path = Some(format!("/proc/{}/ns/{name}", view.pid));
        if name == "uts" {
            joined.hostname = Some(hostname_of(&view));
        }
    }
    Ok(joined)
}

fn hostname_of(view: &View) -> String {
    view.config.hostname.clone().unwrap_or_else(|| view.id[..view.id.len().min(12)].to_owned())
}

/// Makes everything for one start. On failure nothing is left but directories that the next start uses again.
pub(crate) fn assemble(context: &Context, start: &Start) -> Result<Assembled> {
    let mut begun = Instant::now();
    let mut steps = Vec::with_capacity(4);
    let mut lap = |step: Step| {
        steps.push(StepTime { step, nanos: nanos_since(begun) });
        begun = Instant::now();
    };
    let layers =
        if start.holds_layers { context.layers.mounted(&start.image) } else { context.layers.acquire(&start.image)? };
    lap(Step::Layers);
    let result = make(context, start, &layers, &mut lap);
    if result.is_err() && !start.holds_layers {
        context.layers.release(&start.image)?;
    }
    let (plan, listener, cgroup, spec) = result?;
    Ok(Assembled { plan, listener, cgroup, spec, steps })
}

fn make(
    context: &Context,
    start: &Start,
    layers: &[PathBuf],
    lap: &mut impl FnMut(Step),
) -> Result<(OwnedFd, OwnedFd, ContainerCgroup, Vec<u8>)> {
    let record = &start.record;
    let dirs = context.dirs.container(&record.id);
    dirs.prepare(record.userns_base.unwrap_or(0)).map_err(|error| error.step(Step::RunDir))?;
    let listener = shim::listen(&dirs.socket()).map_err(|error| error.step(Step::RunDir))?;
    lap(Step::RunDir);
    let image = defaults(&start.image);
    let uts_hostname = start.joined.hostname.clone().unwrap_or_else(|| context.host.name());
    let spec = build_spec(context, start, &image, &uts_hostname)?;
    let spec_json = spec::to_json(&spec)?;
    lap(Step::Plan);
    let lines = v1_device_lines(context, &spec)?;
    let cgroup = context.cgroups.create(&record.id, &record.config.resources, &lines)?;
    lap(Step::Cgroup);
    let parts = Parts { dirs: &dirs, layers, image: &image, spec: &spec, cgroup: &cgroup, uts_hostname: &uts_hostname };
    let plan = compile(context, start, &parts);
    match plan.and_then(|plan| memfd::encoded("hull-plan", &plan)) {
        Ok(plan) => {
            lap(Step::Plan);
            Ok((plan, listener, cgroup, spec_json.into_bytes()))
        }
        Err(error) => {
            clean_cgroup(&cgroup)?;
            Err(error)
        }
    }
}

/// What a plan is compiled from.
struct Parts<'a> {
    dirs: &'a ContainerDirs,
    layers: &'a [PathBuf],
    image: &'a ImageDefaults,
    spec: &'a Spec,
    cgroup: &'a ContainerCgroup,
    uts_hostname: &'a str,
}

fn build_spec(context: &Context, start: &Start, image: &ImageDefaults, uts_hostname: &str) -> Result<Spec> {
    let record = &start.record;
    let host_files = spec::host::probe(&record.config)?;
    let cgroup_path = context.cgroups.path_of(&record.id);
    let range = record.userns_base.map(|base| UserNamespaceRange { base, size: userns::RANGE });
    spec::build(
        &record.config,
        image,
        &SpecContext {
            id: &record.id,
            cgroup_path: &cgroup_path,
            cgroup2: context.cgroups.mode() == CgroupMode::Unified,
            user_namespace: range,
            joined: &start.joined.namespaces,
            uts_hostname,
            host: &host_files,
            capabilities: context.host.capabilities,
            kernel: context.host.kernel,
        },
    )
}

/// The device rules as lines of the version 1 controller; none where a BPF program does it.
fn v1_device_lines(context: &Context, spec: &Spec) -> Result<Vec<String>> {
    if !context.cgroups.has_v1_devices() {
        return Ok(Vec::new());
    }
    let resources = spec.linux().as_ref().and_then(|linux| linux.resources().as_ref());
    let rules = resources.and_then(|resources| resources.devices().as_ref());
    Ok(DevicePolicy::from_rules(rules.map_or(&[], Vec::as_slice))?.v1_lines())
}

fn compile(context: &Context, start: &Start, parts: &Parts<'_>) -> Result<hull_wire::Plan> {
    let record = &start.record;
    let layers: Vec<String> = parts.layers.iter().map(|path| text(path)).collect::<Result<_>>()?;
    let read = |path: &str| std::fs::read_to_string(path).unwrap_or_default();
    let shares_host = record.config.namespaces.network == NamespaceMode::Host;
    plan::compile(
        parts.spec,
        &PlanContext {
            config: &record.config,
            image: parts.image,
            id: &record.id,
            run_dir: &text(&parts.dirs.run)?,
            log_path: Some(&text(&parts.dirs.log())?),
            layers: &layers,
            upper: &text(&parts.dirs.upper())?,
            work: &text(&parts.dirs.work())?,
            cgroup: parts.cgroup.plan(),
            device_filter: !context.cgroups.has_v1_devices(),
            cgroup_v1: &parts.cgroup.v1_dirs(),
            host_resolv_conf: &read("/etc/resolv.conf"),
            host_hosts: &if shares_host { read("/etc/hosts") } else { String::new() },
            uts_hostname: parts.uts_hostname,
            terminal_size: start.terminal_size.unwrap_or(DEFAULT_TERMINAL_SIZE),
            seccomp: &context.seccomp,
        },
    )
}

/// What the image says about its containers.
pub(crate) fn defaults(image: &Image) -> ImageDefaults {
    let config = &image.config;
    ImageDefaults {
        entrypoint: config.entrypoint.clone(),
        cmd: config.cmd.clone(),
        env: config.env.clone(),
        working_dir: config.working_dir.clone(),
        user: config.user.clone(),
    }
}

fn text(path: &Path) -> Result<String> {
    let text = path.to_str().map(str::to_owned);
    text.ok_or_else(|| Error::new(Reason::System, format!("the path {} is not UTF-8", path.display())))
}
