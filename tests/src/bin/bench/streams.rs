//! Section `streams`: bytes through an exec and an attachment, and lines into the log; hull and its peers by turns.

use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::{Duration, Instant};

use hull_proto::v1::{
    ContainerConfig, CreateContainerRequest, ExecStart, LogConfig, StartContainerRequest, WaitCondition,
    attach_response, exec_response,
};
use hull_tests::harness::{AttachSession, Clients, ExecSession, connect, wait};

use crate::Result;
use crate::client::{IMAGE, SLEEP, words};
use crate::cpu::of_process;
use crate::engines::{is_installed, podman, release_podman};
use crate::node::Node;
use crate::peers::{self, Groups, Peer, WithoutUnified};
use crate::report::{Goal, Measure, Report};
use crate::summary::median;

/// Turns of everybody.
const ROUNDS: usize = 5;
/// Bytes of each turn, and as the count of blocks that the writer is told.
const BYTES: u64 = 2 << 30;
const WRITER: [&str; 5] = ["/bin/busybox", "dd", "if=/dev/zero", "bs=1M", "count=2048"];
/// Lines of each turn, and who writes them.
const LINES: u32 = 2_000_000;
const LINE: &str = "/bin/busybox yes 'a line of a log as long as such lines are, 64 bytes with its end' | /bin/busybox head -n 2000000";

pub(crate) async fn measure() -> Result<()> {
    let node = Node::start().await?;
    let clients = connect(&node.agent.socket()).await?;
    let mut report = Report::new("streams", "bytes through an exec and an attachment, lines into the log");
    let spec = node.runtime_spec().await?;
    let rootfs = node.rootfs()?;
    let peer = Peer::prepare("crun", &node.state, &rootfs, &spec)?;
    let groups = Groups;
    let hidden = WithoutUnified::enter()?;
    bytes(&node, &clients, &rootfs, &mut report).await?;
    lines(&node, &clients, peer, &mut report).await?;
    drop((hidden, groups));
    report.publish()?;
    drop(clients);
    node.close().await;
    Ok(())
}

/// Bytes through an exec, both ways, and an attachment; and through `podman exec`.
async fn bytes(node: &Node, clients: &Clients, rootfs: &Path, report: &mut Report) -> Result<()> {
    let podman = Podman::start(&node.state, rootfs).await?;
    let ours = unlimited(clients, SLEEP).await?;
    start(clients, &ours).await?;
    let (mut out, mut into, mut attached, mut theirs) = (Vec::new(), Vec::new(), Vec::new(), Vec::new());
    for _ in 0..ROUNDS {
        out.push(rate(exec_output(clients, &ours)).await?);
        into.push(rate(exec_input(clients, &ours)).await?);
        attached.push(rate(attachment(node, clients)).await?);
        if let Some(podman) = &podman {
            theirs.push(rate(podman.exec()).await?);
        }
    }
    node.client.remove(&ours).await?;
    report.figure("output of an exec", "GB/s", median(&out), Goal::AtLeast(1.0));
    report.figure("output of init to an attachment, logged too", "GB/s", median(&attached), Goal::None);
    if let Some(podman) = podman {
        podman.stop().await?;
        report.figure("output of an exec / podman exec", "x", median(&out) / median(&theirs), Goal::AtLeast(3.0));
        report.figure("attachment / podman exec", "x", median(&attached) / median(&theirs), Goal::AtLeast(3.0));
    } else {
        report.notes.push("podman is not installed: the figures against it are missing".into());
    }
    for (name, samples) in
        [("output of an exec", out), ("input of an exec", into), ("attachment", attached), ("podman exec", theirs)]
    {
        report.measure(Measure::new(name, "GB/s", samples));
    }
    Ok(())
}

/// Gigabytes per second of something that moves [`BYTES`].
async fn rate(work: impl Future<Output = Result<u64>>) -> Result<f64> {
    let begun = Instant::now();
    let moved = work.await?;
    if moved != BYTES {
        return Err(format!("{moved} bytes instead of {BYTES}").into());
    }
    #[expect(clippy::cast_precision_loss, reason = "a measurement")]
    Ok(moved as f64 / 1e9 / begun.elapsed().as_secs_f64())
}

/// A container without limits, created.
async fn unlimited(clients: &Clients, argv: &[&str]) -> Result<String> {
    let log = Some(LogConfig { max_size: Some(64 << 20), max_files: Some(4), rate: None });
    let config = ContainerConfig { image: IMAGE.into(), args: words(argv), log, ..ContainerConfig::default() };
    let request = CreateContainerRequest { config: Some(config), ..CreateContainerRequest::default() };
    Ok(clients.containers.clone().create_container(request).await?.into_inner().id)
}

async fn start(clients: &Clients, id: &str) -> Result<()> {
    let request = StartContainerRequest { container: id.into() };
    clients.containers.clone().start_container(request).await?;
    Ok(())
}

async fn exec_output(clients: &Clients, id: &str) -> Result<u64> {
    let start = ExecStart { container: id.into(), argv: words(&WRITER), ..ExecStart::default() };
    let mut session = ExecSession::start(clients, start).await?;
    let mut seen = 0;
    while let Some(message) = session.next().await? {
        if let exec_response::Message::Stdout(data) = message {
            seen += data.len() as u64;
        }
    }
    Ok(seen)
}

async fn exec_input(clients: &Clients, id: &str) -> Result<u64> {
    let argv = words(&["/bin/busybox", "wc", "-c"]);
    let start = ExecStart { container: id.into(), argv, stdin: true, ..ExecStart::default() };
    let session = ExecSession::start(clients, start).await?;
    let sender = session.sender();
    let writer = async move {
        let piece = bytes::Bytes::from(vec![0_u8; 64 << 10]);
        for _ in 0..BYTES / piece.len() as u64 {
            sender.stdin(piece.clone()).await;
        }
        sender.close().await;
    };
    let (done, ()) = tokio::join!(session.finish(), writer);
    Ok(done?.text().trim().parse()?)
}

/// An attachment that starts its container.
async fn attachment(node: &Node, clients: &Clients) -> Result<u64> {
    let id = unlimited(clients, &WRITER).await?;
    let mut session = AttachSession::start(clients, &id, false, true).await?;
    let mut seen = 0;
    while let Some(message) = session.next().await? {
        if let attach_response::Message::Stdout(data) = message {
            seen += data.len() as u64;
        }
    }
    node.client.remove(&id).await?;
    Ok(seen)
}

/// Lines into the log, hull's shim and conmon with crun by turns.
async fn lines(node: &Node, clients: &Clients, peer: Option<Peer>, report: &mut Report) -> Result<()> {
    let mut conmon =
        peer.filter(|_| is_installed("conmon")).map(|peer| Conmon { peer, state: node.state.join("conmon") });
    let writer = ["/bin/busybox", "sh", "-c", LINE];
    let (mut ours, mut theirs, mut agent) = (Vec::new(), Vec::new(), Vec::new());
    for _ in 0..ROUNDS {
        let before = of_process(node.agent.pid())?;
        ours.push(hull_lines(node, clients, &writer).await?);
        agent.push(of_process(node.agent.pid())? - before);
        if let Some(conmon) = &mut conmon {
            theirs.push(conmon.lines(&writer).await?);
        }
    }
    if conmon.is_some() {
        report.figure("lines into the log / conmon", "x", median(&ours) / median(&theirs), Goal::AtLeast(2.0));
    } else {
        report.notes.push("conmon or crun is not installed: the figure against it is missing".into());
    }
    report.measure(Measure::new("hull: lines into the log", "million/s", ours));
    report.measure(Measure::new("hull: the agent's cpu for a container of them", "ms", agent));
    report.measure(Measure::new("conmon: lines into the log", "million/s", theirs));
    Ok(())
}

/// Millions of lines per second.
fn per_second(begun: Instant) -> f64 {
    f64::from(LINES) / 1e6 / begun.elapsed().as_secs_f64()
}

async fn hull_lines(node: &Node, clients: &Clients, writer: &[&str]) -> Result<f64> {
    let id = unlimited(clients, writer).await?;
    let begun = Instant::now();
    start(clients, &id).await?;
    node.client.wait(&id, WaitCondition::NotRunning).await?;
    let rate = per_second(begun);
    node.client.remove(&id).await?;
    Ok(rate)
}

/// conmon, which writes the logs of podman's and CRI-O's containers.
struct Conmon {
    peer: Peer,
    state: PathBuf,
}

impl Conmon {
    async fn lines(&mut self, writer: &[&str]) -> Result<f64> {
        let _missing_at_first = std::fs::remove_dir_all(&self.state);
        std::fs::create_dir_all(&self.state)?;
        let id = self.peer.next(writer)?;
        let path = |name: &str| self.state.join(name).display().to_string();
        let (log, pidfile, exits) = (format!("k8s-file:{}", path("log")), path("pid"), path("exits"));
        std::fs::create_dir(&exits)?;
        let words =
            ["--api-version", "1", "-c", &id, "-u", &id, "-n", &id, "-l", &log, "-p", &pidfile, "--exit-dir", &exits];
        let runtime = String::from_utf8(tokio::process::Command::new("which").arg("crun").output().await?.stdout)?;
        let mut command = tokio::process::Command::new("conmon");
        command.args(words).arg("-b").arg(self.peer.bundle()).args(["-r", runtime.trim()]);
        for argument in self.peer.command(&[]).as_std().get_args() {
            command.arg("--runtime-arg").arg(argument);
        }
        // It goes on in the background, with these streams.
        let status = command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null()).status().await?;
        if !status.success() {
            return Err(format!("conmon: {status}").into());
        }
        wait::until("conmon has made its container", || std::fs::metadata(&pidfile).ok());
        let begun = Instant::now();
        peers::finish(&mut self.peer.command(&["start", &id])).await?;
        let exit = Path::new(&exits).join(&id);
        while !exit.exists() {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
        let rate = per_second(begun);
        self.peer.delete(&id).await?;
        Ok(rate)
    }
}

/// A container of podman's that sleeps.
struct Podman {
    dir: PathBuf,
}

impl Podman {
    /// `None`: it is not installed.
    async fn start(state: &Path, rootfs: &Path) -> Result<Option<Self>> {
        if !is_installed("podman") {
            return Ok(None);
        }
        let this = Self { dir: state.join("podman") };
        // The host's limits may be lower than podman's defaults, which it cannot raise then.
        let flags = ["run", "--detach", "--name", "bench", "--network=none", "--cgroups=disabled"];
        let limits = ["--ulimit=nofile=1024:1024", "--ulimit=nproc=1024:1024", "--rootfs"];
        let mut command = this.command(&[&flags[..], &limits].concat());
        // Its conmon holds the streams.
        let status = command.arg(rootfs).args(SLEEP).stdout(Stdio::null()).stderr(Stdio::null()).status().await?;
        status.success().then_some(Some(this)).ok_or_else(|| format!("podman run: {status}").into())
    }

    fn command(&self, words: &[&str]) -> tokio::process::Command {
        let mut command = podman(std::process::Command::new("podman"), &self.dir, "overlay");
        command.arg("--cgroup-manager=cgroupfs").args(words).stdin(Stdio::null());
        command.into()
    }

    async fn exec(&self) -> Result<u64> {
        let mut child =
            self.command(&["exec", "bench"]).args(WRITER).stdout(Stdio::piped()).stderr(Stdio::null()).spawn()?;
        let mut output = child.stdout.take().ok_or("no pipe")?;
        let seen = tokio::io::copy(&mut output, &mut tokio::io::sink()).await?;
        let status = child.wait().await?;
        if status.success() { Ok(seen) } else { Err(format!("podman exec: {status}").into()) }
    }

    async fn stop(self) -> Result<()> {
        peers::finish(&mut self.command(&["rm", "--force", "--time", "0", "bench"])).await?;
        release_podman(&self.dir);
        Ok(())
    }
}
