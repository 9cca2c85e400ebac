//! crun and runc, running the very job that hull runs: their bundle's `config.json` is hull's own runtime spec.

use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Instant;

use nix::mount::{MntFlags, MsFlags, mount, umount2};
use nix::sched::{CloneFlags, setns, unshare};
use serde_json::{Value, json};

use crate::Result;
use crate::client::{SLEEP, STAMP};
use crate::node::group_prefix;
use crate::report::complain;

/// A runtime and a bundle for it.
#[derive(Debug)]
pub(crate) struct Peer {
    pub(crate) name: &'static str,
    /// What `--version` says first.
    pub(crate) version: String,
    root: PathBuf,
    bundle: PathBuf,
    spec: Value,
    runs: u32,
}

/// One run, milliseconds.
#[derive(Debug)]
pub(crate) struct Run {
    /// Until the program's first instruction.
    pub(crate) start: f64,
    /// Until the command ended.
    pub(crate) whole: f64,
}

impl Peer {
    /// Prepares a bundle below `state`; `None` if the runtime is not installed.
    pub(crate) fn prepare(name: &'static str, state: &Path, rootfs: &Path, runtime_spec: &str) -> Result<Option<Self>> {
        let Ok(output) = std::process::Command::new(name).arg("--version").output() else { return Ok(None) };
        let version = String::from_utf8_lossy(&output.stdout).lines().next().unwrap_or_default().to_owned();
        let bundle = state.join(format!("{name}-bundle"));
        std::fs::create_dir(&bundle)?;
        let mut spec: Value = serde_json::from_str(runtime_spec)?;
        spec["ociVersion"] = json!("1.0.2");
        spec["root"] = json!({ "path": rootfs, "readonly": false });
        spec["process"]["terminal"] = json!(false);
        Ok(Some(Self { name, version, root: state.join(format!("{name}-state")), bundle, spec, runs: 0 }))
    }

    /// Runs the job to its end.
    pub(crate) async fn run(&mut self) -> Result<Run> {
        let id = self.next(STAMP)?;
        let mut command = self.command(&["run", "--bundle"]);
        command.arg(&self.bundle).arg(&id);
        timed(command).await.map_err(|e| format!("{} run: {e}", self.name).into())
    }

    /// Starts a container that sleeps; its id.
    pub(crate) async fn start_sleeper(&mut self) -> Result<String> {
        let id = self.next(SLEEP)?;
        let mut command = self.command(&["run", "--detach", "--bundle"]);
        // Its streams are the container's, so they must not be pipes that somebody reads to the end.
        let status = command.arg(&self.bundle).arg(&id).stdout(Stdio::null()).stderr(Stdio::null()).status().await?;
        status.success().then_some(id).ok_or_else(|| format!("{} run --detach: {status}", self.name).into())
    }

    /// Executes a program in a container, to its end; milliseconds.
    pub(crate) async fn exec(&self, id: &str, argv: &[&str]) -> Result<f64> {
        let mut command = self.command(&["exec", id]);
        finish(command.args(argv)).await.map_err(|e| format!("{} exec: {e}", self.name).into())
    }

    /// Kills and removes a container.
    pub(crate) async fn delete(&self, id: &str) -> Result<()> {
        finish(&mut self.command(&["delete", "--force", id])).await.map(drop)
    }

    /// Writes the bundle's next spec; the container's id.
    pub(crate) fn next(&mut self, argv: &[&str]) -> Result<String> {
        self.runs += 1;
        let id = format!("{}-{}-{}", self.name, std::process::id(), self.runs);
        self.spec["linux"]["cgroupsPath"] = json!(format!("/{}-peers/{id}", group_prefix()));
        self.spec["process"]["args"] = json!(argv);
        std::fs::write(self.bundle.join("config.json"), serde_json::to_vec(&self.spec)?)?;
        Ok(id)
    }

    /// The directory of the bundle.
    pub(crate) fn bundle(&self) -> &Path {
        &self.bundle
    }

    /// The command with what it always needs, and these words.
    pub(crate) fn command(&self, words: &[&str]) -> tokio::process::Command {
        let mut command = tokio::process::Command::new(self.name);
        command.arg("--root").arg(&self.root);
        if self.name == "crun" {
            command.arg("--cgroup-manager=cgroupfs");
        }
        command.args(words).stdin(Stdio::null());
        command
    }
}

/// Runs a command to its end; milliseconds.
pub(crate) async fn finish(command: &mut tokio::process::Command) -> Result<f64> {
    let started = Instant::now();
    let output = command.output().await?;
    let whole = started.elapsed().as_secs_f64() * 1e3;
    match output.status.success() {
        true => Ok(whole),
        false => Err(format!("{}: {}", output.status, String::from_utf8_lossy(&output.stderr).trim()).into()),
    }
}

/// Runs a command that passes the job's output through, and takes its times.
pub(crate) async fn timed(mut command: tokio::process::Command) -> Result<Run> {
    let clock = Monotonic::now()?;
    let started = Instant::now();
    let output = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn()?.wait_with_output().await?;
    let whole = started.elapsed().as_secs_f64() * 1e3;
    if !output.status.success() {
        return Err(format!("{}: {}", output.status, String::from_utf8_lossy(&output.stderr).trim()).into());
    }
    Ok(Run { start: clock.millis_until(&String::from_utf8_lossy(&output.stdout))?, whole })
}

/// A reading of the clock that the measured program reads too.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Monotonic(i64);

impl Monotonic {
    pub(crate) fn now() -> Result<Self> {
        let time = nix::time::clock_gettime(nix::time::ClockId::CLOCK_MONOTONIC)?;
        Ok(Self(time.tv_sec() * 1_000_000_000 + time.tv_nsec()))
    }

    /// Milliseconds from this reading to the one that the measured program printed.
    pub(crate) fn millis_until(self, printed: &str) -> Result<f64> {
        let stamp: i64 = printed.trim().parse().map_err(|_| format!("the measured program printed {printed:?}"))?;
        let nanos =
            u32::try_from(stamp - self.0).map_err(|_| format!("the program started {} ns off", stamp - self.0))?;
        Ok(f64::from(nanos) / 1e6)
    }
}

/// While it lives, this thread and what it starts are in a mount namespace without the version 2 hierarchy of a hybrid
/// host: crun refuses to run where that hierarchy has a controller of its own.
#[derive(Debug)]
pub(crate) struct WithoutUnified(std::fs::File);

impl WithoutUnified {
    /// `None` where the host is not hybrid.
    pub(crate) fn enter() -> Result<Option<Self>> {
        let unified = "/sys/fs/cgroup/unified";
        if !Path::new(unified).exists() {
            return Ok(None);
        }
        let before = std::fs::File::open("/proc/thread-self/ns/mnt")?;
        unshare(CloneFlags::CLONE_NEWNS)?;
        mount(None::<&str>, "/", None::<&str>, MsFlags::MS_REC | MsFlags::MS_PRIVATE, None::<&str>)?;
        umount2(unified, MntFlags::MNT_DETACH)?;
        Ok(Some(Self(before)))
    }
}

impl Drop for WithoutUnified {
    fn drop(&mut self) {
        if let Err(error) = setns(&self.0, CloneFlags::CLONE_NEWNS) {
            complain(&format!("bench: back to the first mount namespace: {error}"));
        }
    }
}

/// The parent control groups that the peers make and never remove: gone when this is dropped.
#[derive(Debug)]
pub(crate) struct Groups;

impl Drop for Groups {
    fn drop(&mut self) {
        let name = format!("{}-peers", group_prefix());
        let root = Path::new("/sys/fs/cgroup");
        let hierarchies = std::fs::read_dir(root).into_iter().flatten().filter_map(|entry| Some(entry.ok()?.path()));
        let groups = hierarchies.chain([root.to_owned()]).map(|hierarchy| hierarchy.join(&name));
        groups.filter(|group| group.is_dir()).for_each(|group| remove_group(&group));
    }
}

/// Removes a control group.
pub(crate) fn remove_group(group: &Path) {
    if let Err(error) = std::fs::remove_dir(group) {
        complain(&format!("bench: removing {}: {error}", group.display()));
    }
}

/// Numbers of the system calls that a runtime spec's seccomp profile allows, whatever their arguments, ascending.
pub(crate) fn allowed_syscalls(runtime_spec: &str) -> Result<Vec<u32>> {
    let spec: Value = serde_json::from_str(runtime_spec)?;
    let rules = spec["linux"]["seccomp"]["syscalls"].as_array().ok_or("the runtime spec has no seccomp profile")?;
    let allowed = rules.iter().filter(|rule| rule["action"] == "SCMP_ACT_ALLOW");
    let names = allowed.flat_map(|rule| rule["names"].as_array().into_iter().flatten()).filter_map(Value::as_str);
    let numbers =
        names.filter_map(|name| name.parse::<syscalls::Sysno>().ok()).filter_map(|n| u32::try_from(n.id()).ok());
    Ok(numbers.collect::<std::collections::BTreeSet<_>>().into_iter().collect())
}
