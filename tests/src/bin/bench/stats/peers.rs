//! `podman stats` and containerd's metrics, beside frames of as many of hull's containers.

use std::path::{Path, PathBuf};
use std::process::{Child, Command};
use std::time::Duration;

use hull_tests::harness::Clients;
use hyper_util::rt::TokioIo;
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use tokio::net::UnixStream;
use tonic::transport::{Channel, Endpoint};
use tonic_prost::ProstCodec;
use tonic_prost::prost;

use crate::Result;
use crate::client::SLEEP;
use crate::cpu::{of_children, of_process};
use crate::disk::run;
use crate::engines::{self, is_installed};
use crate::node::Node;
use crate::peers::Groups;
use crate::report::{Goal, Measure, Report};
use crate::summary::median;

/// Containers of each.
const CONTAINERS: usize = 100;
/// Readings of each.
const ROUNDS: usize = 12;
/// Containers of podman and containerd are in a namespace of theirs; hull's are in none.
const NAMESPACE: &str = "bench";

/// Readings of each of them in turn, in one run.
pub(super) async fn measure(node: &Node, clients: &Clients, ids: &[String], report: &mut Report) -> Result<()> {
    let rootfs = node.rootfs()?;
    let groups = Groups;
    let podman = if is_installed("podman") && is_installed("runc") {
        Some(Podman::start(node.beside("podman"), &rootfs)?)
    } else {
        None
    };
    let containerd = if is_installed("containerd") && is_installed("ctr") && is_installed("runc") {
        Some(Containerd::start(node.beside("containerd"), &rootfs).await?)
    } else {
        None
    };
    let mut stream = super::subscribe(clients, &ids[..CONTAINERS], Duration::from_secs(1)).await?;
    for _ in 0..super::SETTLING {
        super::frame(&mut stream).await?;
    }
    let (mut hull, mut of_podman, mut of_containerd) = (Vec::new(), Vec::new(), Vec::new());
    for _ in 0..ROUNDS {
        let before = of_process(node.agent.pid())?;
        if let Some(podman) = &podman {
            of_podman.push(podman.read()?);
        }
        if let Some(containerd) = &containerd {
            of_containerd.push(containerd.read().await?);
        }
        super::frame(&mut stream).await?;
        hull.push(of_process(node.agent.pid())? - before);
    }
    let each = super::mean(&hull);
    report.figure(format!("a frame of {CONTAINERS}, cpu"), "ms", each, Goal::None);
    for (name, readings) in [("podman stats", of_podman), ("containerd's metrics", of_containerd)] {
        if readings.is_empty() {
            report.notes.push(format!("{name} was not measured: it is not installed"));
            continue;
        }
        let times = median(&readings) / each;
        report.figure(format!("{name} of {CONTAINERS}, times that"), "x", times, Goal::AtLeast(50.0));
        report.measure(Measure::new(format!("{name} of {CONTAINERS}, cpu"), "ms", readings));
    }
    report.measure(Measure::new(format!("a frame of {CONTAINERS}, cpu"), "ms", hull));
    // The groups go when nobody is in them.
    drop((podman, containerd));
    drop(groups);
    Ok(())
}

/// podman, with storage of its own, at a path of less than 50 bytes.
#[derive(Debug)]
struct Podman {
    dir: PathBuf,
}

impl Podman {
    fn start(dir: PathBuf, rootfs: &Path) -> Result<Self> {
        let podman = Self { dir };
        for _ in 0..CONTAINERS {
            let mut command = podman.command();
            command.args(["run", "-d", "--network=none", "--ulimit=nofile=1024:1024", "--ulimit=nproc=1024:1024"]);
            command.arg(format!("--cgroup-parent=/{}", Groups::parent())).arg("--rootfs").arg(rootfs);
            run(command.args(SLEEP))?;
        }
        Ok(podman)
    }

    fn command(&self) -> Command {
        let mut command = engines::podman(Command::new("podman"), &self.dir, "vfs");
        command.args(["--cgroup-manager=cgroupfs", "--runtime=runc"]);
        command
    }

    /// One reading; milliseconds of processor time.
    fn read(&self) -> Result<f64> {
        let before = of_children()?;
        let output = self.command().args(["stats", "--no-stream", "--format=json"]).output()?;
        let spent = (of_children()? - before) * 1e3;
        let found: Vec<serde_json::Value> = serde_json::from_slice(&output.stdout)?;
        if found.len() != CONTAINERS || found.iter().any(|container| container["pids"] != "1") {
            return Err(format!("podman stats told of {} containers", found.len()).into());
        }
        Ok(spent)
    }
}

impl Drop for Podman {
    fn drop(&mut self) {
        if let Err(error) = run(self.command().args(["rm", "--all", "--force", "--time=0"])) {
            crate::report::complain(&format!("bench: {error}"));
        }
    }
}

/// containerd, with state of its own.
#[derive(Debug)]
struct Containerd {
    dir: PathBuf,
    child: Child,
    channel: Channel,
    shims: Vec<i32>,
}

/// `containerd.services.tasks.v1.MetricsRequest`: without filters, all.
#[derive(Clone, PartialEq, prost::Message)]
#[prost(prost_path = "tonic_prost::prost")]
struct MetricsRequest {}

/// Its answer, as far as it matters.
#[derive(Clone, PartialEq, prost::Message)]
#[prost(prost_path = "tonic_prost::prost")]
struct MetricsResponse {
    #[prost(message, repeated, tag = "1")]
    metrics: Vec<Metric>,
}

#[derive(Clone, PartialEq, prost::Message)]
#[prost(prost_path = "tonic_prost::prost")]
struct Metric {
    #[prost(string, tag = "2")]
    id: String,
}

impl Containerd {
    async fn start(dir: PathBuf, rootfs: &Path) -> Result<Self> {
        let child = engines::containerd(Command::new("containerd"), &dir)?;
        let socket = dir.join("sock");
        let connector = tower::service_fn(move |_| {
            let socket = socket.clone();
            async move { UnixStream::connect(socket).await.map(TokioIo::new) }
        });
        let channel = Endpoint::from_static("http://containerd").connect_with_connector(connector).await?;
        let mut containerd = Self { dir, child, channel, shims: Vec::new() };
        for at in 0..CONTAINERS {
            let group = format!("/{}/c{at}", Groups::parent());
            let mut command = containerd.ctr(&["run", "--detach", "--null-io", "--cgroup", &group, "--rootfs"]);
            run(command.arg(rootfs).arg(format!("c{at}")).args(SLEEP))?;
        }
        containerd.shims = containerd.find_shims()?;
        if containerd.shims.len() != CONTAINERS {
            return Err(format!("containerd has {} shims", containerd.shims.len()).into());
        }
        Ok(containerd)
    }

    fn ctr(&self, words: &[&str]) -> Command {
        let mut command = Command::new("ctr");
        command.arg("--address").arg(self.dir.join("sock")).args(["--namespace", NAMESPACE]).args(words);
        command
    }

    /// Processes with its socket on their command line.
    fn find_shims(&self) -> Result<Vec<i32>> {
        let socket = self.dir.join("sock").display().to_string();
        let mut shims = Vec::new();
        for entry in std::fs::read_dir("/proc")? {
            let path = entry?.path();
            let Some(pid) = path.file_name().and_then(|name| name.to_str()?.parse().ok()) else { continue };
            // One may end meanwhile.
            let words = std::fs::read(path.join("cmdline")).unwrap_or_default();
            let mut words = words.split(|byte| *byte == 0);
            let is_shim = words.next().is_some_and(|word| word.ends_with(b"containerd-shim-runc-v2"));
            if is_shim && words.any(|word| word == socket.as_bytes()) {
                shims.push(pid);
            }
        }
        Ok(shims)
    }

    /// One reading; milliseconds of processor time of the daemon and its shims.
    async fn read(&self) -> Result<f64> {
        let pids = || self.shims.iter().copied().chain([self.child.id().cast_signed()]);
        let spent = || pids().map(of_process).sum::<Result<f64>>();
        let before = spent()?;
        let mut client = tonic::client::Grpc::new(self.channel.clone());
        client.ready().await?;
        let mut request = tonic::Request::new(MetricsRequest {});
        request.metadata_mut().insert("containerd-namespace", NAMESPACE.parse()?);
        let method =
            tonic::codegen::http::uri::PathAndQuery::from_static("/containerd.services.tasks.v1.Tasks/Metrics");
        let codec: ProstCodec<MetricsRequest, MetricsResponse> = ProstCodec::default();
        let answer = client.unary(request, method, codec).await?.into_inner();
        if answer.metrics.len() != CONTAINERS {
            return Err(format!("containerd told of {} containers", answer.metrics.len()).into());
        }
        Ok(spent()? - before)
    }
}

impl Drop for Containerd {
    fn drop(&mut self) {
        for at in 0..CONTAINERS {
            let id = format!("c{at}");
            for words in [&["task", "rm", "--force", &id][..], &["container", "rm", &id]] {
                // It says with which code the task ended, which is that of its killing.
                let _output = self.ctr(words).output();
            }
        }
        let _gone = kill(Pid::from_raw(self.child.id().cast_signed()), Signal::SIGTERM);
        let _status = self.child.wait();
    }
}
