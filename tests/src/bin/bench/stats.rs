//! Section `stats`: what statistics of many idle containers cost the agent.
//!
//! The processor time is the kernel's own count of each thread of the agent (`/proc/PID/task/TID/schedstat`). What the kernel needs
//! for the files alone is measured beside it: this program reads the very files that the agent keeps open, with pread(2) and no
//! more, turn by turn with the agent's passes.

use std::fs::File;
use std::os::unix::fs::FileExt as _;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use futures_util::StreamExt as _;
use hull_proto::v1::{StreamStatsRequest, StreamStatsResponse};
use hull_tests::harness::{Clients, connect, duration};
use nix::time::{ClockId, clock_gettime};
use tonic::Streaming;

use crate::Result;
use crate::client::SLEEP;
use crate::node::Node;
use crate::rate::remove_all;
use crate::report::{Goal, Measure, Report};
use crate::summary::median;

/// Frames of each measurement, one a second.
const FRAMES: usize = 8;
/// Subscribers that read side by side.
const SUBSCRIBERS: usize = 50;
/// Containers that a reading of podman and containerd was measured with.
const PEERS_CONTAINERS: f64 = 100.0;
/// Processor time that `podman stats --no-stream` took for them, in milliseconds; containerd's metrics took 188.
const PODMAN: f64 = 154.0;

pub(crate) async fn measure(containers: usize) -> Result<()> {
    let node = Node::start().await?;
    let starts = futures_util::stream::iter(0..containers).map(|_| node.client.start(SLEEP, false));
    let created = starts.buffer_unordered(4).collect::<Vec<_>>().await.into_iter().collect::<Result<Vec<_>>>()?;
    let ids: Vec<String> = created.into_iter().map(|container| container.id).collect();
    let mut report = Report::new("stats", format!("{containers} idle containers, all groups, one frame a second"));
    let alone = one_subscriber(&node, containers, &mut report).await?;
    let many = subscribers(&node, SUBSCRIBERS).await?;
    report.figure(format!("agent with {SUBSCRIBERS} subscribers"), "% of a core", many, Goal::None);
    report.figure("times that with one", "x", many / alone, Goal::AtMost(1.1));
    report.figure("agent with nobody listening", "% of a core", idle(&node).await?, Goal::None);
    remove_all(&node.client, &ids).await?;
    report.publish()?;
    node.close().await;
    Ok(())
}

/// One subscriber; what the agent takes of a core, in percent.
async fn one_subscriber(node: &Node, containers: usize, report: &mut Report) -> Result<f64> {
    let mut stream = subscribe(&connect(&node.agent.socket()).await?).await?;
    frame(&mut stream).await?;
    let files = open_files(node)?;
    let mut buffer = vec![0; 64 * 1024];
    let (mut passes, mut reads, mut walls, mut sizes) = (Vec::new(), Vec::new(), Vec::new(), Vec::new());
    let mut spent = Vec::new();
    let mut before = (Instant::now(), cpu_millis(node, |_| true)?, cpu_millis(node, is_sampler)?);
    for _ in 0..FRAMES {
        let frame = frame(&mut stream).await?;
        let now = (Instant::now(), cpu_millis(node, |_| true)?, cpu_millis(node, is_sampler)?);
        spent.push((now.1 - before.1) / (now.0 - before.0).as_secs_f64() / 10.0);
        passes.push(now.2 - before.2);
        before = now;
        let times = frame.stats.iter().map(|stats| stats.monotonic_nanos);
        let span = times.clone().max().unwrap_or(0) - times.min().unwrap_or(0);
        walls.push(Duration::from_nanos(span).as_secs_f64() * 1e3);
        sizes.push(f64::from(u32::try_from(tonic_prost::prost::Message::encoded_len(&frame))?) / 1024.0);
        reads.push(read_all(&files, &mut buffer)?);
    }
    #[expect(clippy::cast_precision_loss, reason = "thousands of containers")]
    let of_hundred = median(&passes) * PEERS_CONTAINERS / containers as f64;
    let each = f64::from(u32::try_from(files.len())?) / f64::from(u32::try_from(containers)?);
    report.figure("files kept open a container", "", each, Goal::None);
    report.figure("one pass beside pread alone, cpu", "x", median(&passes) / median(&reads), Goal::AtMost(1.3));
    let thousand = 1000.0 / f64::from(u32::try_from(containers)?);
    report.figure("one pass over 1,000, wall clock", "ms", median(&walls) * thousand, Goal::AtMost(40.0));
    report.figure("agent, as of 1,000", "% of a core", median(&spent) * thousand, Goal::AtMost(5.0));
    report.figure("a reading of 100, cpu", "ms", of_hundred, Goal::AtMost(PODMAN / 50.0));
    report.measure(Measure::new("one pass, cpu", "ms", passes));
    report.measure(Measure::new("the same files with pread alone, cpu", "ms", reads));
    report.measure(Measure::new("one pass, wall clock", "ms", walls));
    report.measure(Measure::new("a frame", "kB", sizes));
    let share = median(&spent);
    report.measure(Measure::new("agent with one subscriber", "% of a core", spent));
    report
        .notes
        .push(format!("podman stats took {PODMAN} ms for 100 containers on such a machine, containerd's metrics 188"));
    Ok(share)
}

/// So many subscribers; what the agent takes of a core, in percent.
async fn subscribers(node: &Node, count: usize) -> Result<f64> {
    let mut readers = tokio::task::JoinSet::new();
    for _ in 0..count {
        let mut stream = subscribe(&connect(&node.agent.socket()).await?).await?;
        readers.spawn(async move { while frame(&mut stream).await.is_ok() {} });
    }
    let mut stream = subscribe(&connect(&node.agent.socket()).await?).await?;
    // Their first frames, and those that are read for them alone.
    for _ in 0..3 {
        frame(&mut stream).await?;
    }
    let mut spent = Vec::new();
    let mut before = (Instant::now(), cpu_millis(node, |_| true)?);
    for _ in 0..FRAMES {
        frame(&mut stream).await?;
        let now = (Instant::now(), cpu_millis(node, |_| true)?);
        spent.push((now.1 - before.1) / (now.0 - before.0).as_secs_f64() / 10.0);
        before = now;
    }
    readers.shutdown().await;
    Ok(median(&spent))
}

/// Nobody; what the agent takes of a core, in percent.
async fn idle(node: &Node) -> Result<f64> {
    tokio::time::sleep(Duration::from_secs(1)).await;
    let (begun, before) = (Instant::now(), cpu_millis(node, |_| true)?);
    tokio::time::sleep(Duration::from_secs(3)).await;
    Ok((cpu_millis(node, |_| true)? - before) / begun.elapsed().as_secs_f64() / 10.0)
}

async fn subscribe(clients: &Clients) -> Result<Streaming<StreamStatsResponse>> {
    let request = StreamStatsRequest { interval: Some(duration(Duration::from_secs(1))), ..Default::default() };
    Ok(clients.stats.clone().stream_stats(request).await?.into_inner())
}

async fn frame(stream: &mut Streaming<StreamStatsResponse>) -> Result<StreamStatsResponse> {
    Ok(stream.message().await?.ok_or("the stream ended")?)
}

/// Milliseconds of processor time that those threads of the agent have had whose names are right.
fn cpu_millis(node: &Node, is_counted: impl Fn(&str) -> bool) -> Result<f64> {
    let mut nanos = 0_u64;
    for task in std::fs::read_dir(format!("/proc/{}/task", node.agent.pid()))? {
        let path = task?.path();
        // One may end meanwhile.
        let Ok(name) = std::fs::read_to_string(path.join("comm")) else { continue };
        let Ok(times) = std::fs::read_to_string(path.join("schedstat")) else { continue };
        if is_counted(name.trim()) {
            nanos += times.split(' ').next().unwrap_or_default().parse::<u64>()?;
        }
    }
    Ok(Duration::from_nanos(nanos).as_secs_f64() * 1e3)
}

fn is_sampler(name: &str) -> bool {
    name == "stats"
}

/// The files that the agent keeps open for statistics, opened once more.
fn open_files(node: &Node) -> Result<Vec<File>> {
    let mut files = Vec::new();
    for link in std::fs::read_dir(format!("/proc/{}/fd", node.agent.pid()))? {
        let Ok(path) = std::fs::read_link(link?.path()) else { continue };
        let text = path.to_string_lossy();
        if (text.contains("/cgroup/") && text.contains(node.agent.cgroup())) || text.ends_with("/net/dev") {
            files.push(File::open(PathBuf::from(&path)).map_err(|e| format!("{}: {e}", path.display()))?);
        }
    }
    Ok(files)
}

/// Reads every file once; milliseconds of this thread's processor time.
fn read_all(files: &[File], buffer: &mut [u8]) -> Result<f64> {
    let clock = || clock_gettime(ClockId::CLOCK_THREAD_CPUTIME_ID).map(Duration::from);
    let before = clock()?;
    for file in files {
        file.read_at(buffer, 0)?;
    }
    Ok((clock()? - before).as_secs_f64() * 1e3)
}
