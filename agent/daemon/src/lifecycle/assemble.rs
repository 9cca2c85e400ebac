//! From record and image to everything that a shim needs: control group, directories, mounted layers, socket, plan.
//! The one place where these come together.

use std::os::fd::OwnedFd;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Instant;

use hull_wire::{Step, StepTime};
use oci_spec::runtime::Spec;
use tokio::sync::oneshot;

use super::config::{ContainerConfig, NamespaceMode};
use super::container::{clean_cgroup, nanos_since};
use super::context::Context;
use super::index::Index;
use super::plan::{self, DEFAULT_TERMINAL_SIZE, PlanContext};
use super::record::{Record, View};
use super::security::capabilities;
use super::security::devices::DevicePolicy;
use super::spec::{self, ImageDefaults, JoinedNamespaces, SpecContext, UserNamespaceRange};
use super::state::refused;
use super::userns;
use crate::blocking::blocking;
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
        if name == "pid" {
            refuse_tracers(index, view.pid, &view.name)?;
        }
        *path = Some(format!("/proc/{}/ns/{name}", view.pid));
        if name == "uts" {
            joined.hostname = Some(hostname_of(&view));
        }
    }
    Ok(joined)
}

/// A process with CAP_SYS_PTRACE in the host's user namespace could take over an init that is born into its pid namespace, while that
/// still carries what is the host's. Privileged containers have the host already.
fn refuse_tracers(index: &Index, target: i32, name: &str) -> Result<()> {
    let namespace = |pid: i32| std::fs::metadata(format!("/proc/{pid}/ns/pid")).map(|found| found.ino()).ok();
    let there = namespace(target);
    for handle in index.all() {
        let view = handle.view();
        let security = &view.config.security;
        if view.pid != 0
            && !security.privileged
            && !view.config.namespaces.user_auto
            && capabilities::may_trace(security)?
            && namespace(view.pid) == there
        {
            let what = format!("cannot share the pid namespace of container {name}");
            let why = format!("container {}, which is in it, has CAP_SYS_PTRACE and could reach the host", view.name);
            return Err(Error::new(Reason::InvalidState, format!("{what}: {why}"))
                .hint("drop the capability there, or give that container a user namespace of its own"));
        }
    }
    Ok(())
}

fn hostname_of(view: &View) -> String {
    view.config.hostname.clone().unwrap_or_else(|| view.id[..view.id.len().min(12)].to_owned())
}

/// Makes everything for one start: the control groups on one thread, all else on another, for either takes the kernel long. On
/// failure nothing is left but directories that the next start uses again.
pub(crate) async fn assemble(context: &Arc<Context>, start: Start) -> Result<Assembled> {
    let cgroup = context.cgroups.group(&start.record.id, &start.record.config.resources)?;
    let start = Arc::new(start);
    let (device_rules, awaited) = oneshot::channel();
    // Queued first, for the groups wait for the device rules: however few threads there are, those come.
    let parts = {
        let (context, start, cgroup) = (Arc::clone(context), Arc::clone(&start), cgroup.clone());
        blocking(move || make_parts(&context, &start, &cgroup, device_rules))
    };
    let groups = {
        let (context, start, cgroup) = (Arc::clone(context), Arc::clone(&start), cgroup.clone());
        blocking(move || make_groups(&context, &start, &cgroup, awaited))
    };
    match tokio::join!(parts, groups) {
        (Ok(parts), Ok(groups)) => {
            let Parts { plan, listener, spec, mut steps } = parts;
            steps.push(groups);
            Ok(Assembled { plan, listener, cgroup, spec, steps })
        }
        (parts, groups) => {
            let error = parts.as_ref().err().or(groups.as_ref().err()).cloned();
            let (made_parts, made_groups) = (parts.is_ok(), groups.is_ok());
            let context = Arc::clone(context);
            let undone = blocking(move || {
                if made_groups {
                    clean_cgroup(&cgroup)?;
                }
                if made_parts && !start.holds_layers {
                    context.layers.release(&start.image)?;
                }
                Ok(())
            });
            undone.await?;
            Err(error.unwrap_or_else(|| Error::new(Reason::Internal, "a start failed without a word")))
        }
    }
}

/// What a start needs beside control groups.
struct Parts {
    plan: OwnedFd,
    listener: OwnedFd,
    /// The OCI runtime spec as JSON.
    spec: Vec<u8>,
    steps: Vec<StepTime>,
}

/// Measures steps that follow one another.
struct Laps {
    begun: Instant,
    steps: Vec<StepTime>,
}

impl Laps {
    fn lap(&mut self, step: Step) {
        self.steps.push(StepTime { step, nanos: nanos_since(self.begun) });
        self.begun = Instant::now();
    }
}

fn make_groups(
    context: &Context,
    start: &Start,
    cgroup: &ContainerCgroup,
    device_rules: oneshot::Receiver<Vec<String>>,
) -> Result<StepTime> {
    let begun = Instant::now();
    // Where they do not come, the parts have failed and tell why.
    let rules =
        || device_rules.blocking_recv().map_err(|_| Error::new(Reason::Internal, "the device rules did not come"));
    context.cgroups.make(cgroup, &start.record.config.resources, rules)?;
    Ok(StepTime { step: Step::Cgroup, nanos: nanos_since(begun) })
}

fn make_parts(
    context: &Context,
    start: &Start,
    cgroup: &ContainerCgroup,
    device_rules: oneshot::Sender<Vec<String>>,
) -> Result<Parts> {
    let mut laps = Laps { begun: Instant::now(), steps: Vec::with_capacity(4) };
    let layers =
        if start.holds_layers { context.layers.mounted(&start.image) } else { context.layers.acquire(&start.image)? };
    laps.lap(Step::Layers);
    let parts = make_parts_over(context, start, cgroup, &layers, device_rules, laps);
    if parts.is_err() && !start.holds_layers {
        context.layers.release(&start.image)?;
    }
    parts
}

fn make_parts_over(
    context: &Context,
    start: &Start,
    cgroup: &ContainerCgroup,
    layers: &[PathBuf],
    device_rules: oneshot::Sender<Vec<String>>,
    mut laps: Laps,
) -> Result<Parts> {
    let record = &start.record;
    let image = defaults(&start.image);
    let uts_hostname = start.joined.hostname.clone().unwrap_or_else(|| context.host.name());
    let spec = build_spec(context, start, &image, &uts_hostname)?;
    // Nobody waits for them where there is no version 1 controller.
    let _unused = device_rules.send(v1_device_lines(context, &spec)?);
    let spec_json = spec::to_json(&spec)?;
    let dirs = context.dirs.container(&record.id);
    let sources = Sources { dirs: &dirs, layers, image: &image, spec: &spec, cgroup, uts_hostname: &uts_hostname };
    let plan = compile(context, start, &sources)?;
    let plan = memfd::encoded("hull-plan", &plan)?;
    laps.lap(Step::Plan);
    dirs.prepare(record.userns_base.unwrap_or(0)).map_err(|error| error.step(Step::RunDir))?;
    let listener = shim::listen(&dirs.socket()).map_err(|error| error.step(Step::RunDir))?;
    laps.lap(Step::RunDir);
    Ok(Parts { plan, listener, spec: spec_json.into_bytes(), steps: laps.steps })
}

/// What a plan is compiled from.
struct Sources<'a> {
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

fn compile(context: &Context, start: &Start, sources: &Sources<'_>) -> Result<hull_wire::Plan> {
    let record = &start.record;
    let layers: Vec<String> = sources.layers.iter().map(|path| text(path)).collect::<Result<_>>()?;
    let read = |path: &str| std::fs::read_to_string(path).unwrap_or_default();
    let shares_host = record.config.namespaces.network == NamespaceMode::Host;
    plan::compile(
        sources.spec,
        &PlanContext {
            config: &record.config,
            image: sources.image,
            id: &record.id,
            run_dir: &text(&sources.dirs.run)?,
            log: context.logs.plan(text(&sources.dirs.log())?, &record.config.log),
            layers: &layers,
            upper: &text(&sources.dirs.upper())?,
            work: &text(&sources.dirs.work())?,
            cgroup: sources.cgroup.plan(),
            device_filter: !context.cgroups.has_v1_devices(),
            cgroup_v1: &sources.cgroup.v1_dirs(),
            host_resolv_conf: &read("/etc/resolv.conf"),
            host_hosts: &if shares_host { read("/etc/hosts") } else { String::new() },
            uts_hostname: sources.uts_hostname,
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
