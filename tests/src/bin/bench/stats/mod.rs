//! Section `stats`: what statistics of many idle containers cost the agent.
//!
//! What the kernel needs for the files alone is measured beside it: this program reads the very files that the agent keeps open, with
//! pread(2) and no more, turn by turn with the agent's passes. podman and containerd run as many containers of the same root file
//! system, and are asked for their statistics in turn with hull's frames.

mod cost;
mod peers;

use std::time::Duration;

use hull_proto::v1::{ContainerStats, GetStatsRequest, StatsSelector, StreamStatsRequest, StreamStatsResponse};
use hull_tests::harness::{Clients, connect, duration, wait};
use tonic::Streaming;

use self::cost::Share;
use crate::Result;
use crate::node::Node;
use crate::rate::{remove_all, start_sleepers};
use crate::report::{Goal, Measure, Report};
use crate::summary::median;

/// Frames of each measurement, one a second: so many that everything is read again within them.
const FRAMES: usize = 12;
/// Frames after which idle containers are at rest.
const SETTLING: usize = 6;
/// Readings of everything.
const WHOLE: usize = 10;
/// Containers whose files are compared with pread(2): all of them can stay open wherever a process may open 20,000.
const COMPARED: usize = 500;
/// Subscribers that read side by side.
const SUBSCRIBERS: usize = 50;

pub(crate) async fn measure(containers: usize) -> Result<()> {
    let node = Node::start().await?;
    let created = start_sleepers(&node.client, containers).await?;
    let ids: Vec<String> = created.into_iter().map(|container| container.id).collect();
    let mut report = Report::new("stats", format!("{containers} idle containers, all groups, one frame a second"));
    let clients = connect(&node.agent.socket()).await?;
    report.figure("agent with nobody listening", "% of a core", idle(&node).await?, Goal::None);
    let alone = one_subscriber(&node, &clients, containers, &mut report).await?;
    let many = subscribers(&node, SUBSCRIBERS).await?;
    report.figure(format!("agent with {SUBSCRIBERS} subscribers"), "% of a core", many, Goal::None);
    report.figure("times that with one", "x", many / alone, Goal::AtMost(1.1));
    everything(&node, &clients, &ids, &mut report).await?;
    peers::measure(&node, &clients, &ids, &mut report).await?;
    remove_all(&node.client, &ids).await?;
    report.publish()?;
    drop(clients);
    node.close().await;
    Ok(())
}

/// One subscriber; what the agent takes of a core, in percent.
async fn one_subscriber(node: &Node, clients: &Clients, containers: usize, report: &mut Report) -> Result<f64> {
    let memory = cost::memory(node)?;
    let mut stream = subscribe(clients, &[], Duration::from_secs(1)).await?;
    for _ in 0..SETTLING {
        frame(&mut stream).await?;
    }
    let (mut passes, mut walls, mut sizes, mut shares) = (Vec::new(), Vec::new(), Vec::new(), Vec::new());
    let (mut share, mut before) = (Share::begin(node)?, cost::of_sampler(node)?);
    for _ in 0..FRAMES {
        let frame = frame(&mut stream).await?;
        shares.push(share.lap()?);
        let now = cost::of_sampler(node)?;
        passes.push(now - before);
        before = now;
        walls.push(span(&frame.stats));
        sizes.push(f64::from(u32::try_from(tonic_prost::prost::Message::encoded_len(&frame))?) / 1024.0);
    }
    let count = f64::from(u32::try_from(containers)?);
    let each = (cost::memory(node)? - memory) / count;
    let alone = mean(&shares);
    report.figure("agent with one subscriber", "% of a core", alone, Goal::AtMost(5.0));
    report.figure("one pass, wall clock", "ms", median(&walls), Goal::AtMost(40.0));
    report.figure("agent's growth per container", "bytes", each, Goal::None);
    report.measure(Measure::new("one pass, cpu", "ms", passes));
    report.measure(Measure::new("one pass, wall clock", "ms", walls));
    report.measure(Measure::new("a frame", "kB", sizes));
    report.measure(Measure::new("agent with one subscriber", "% of a core", shares));
    Ok(alone)
}

/// So many subscribers; what the agent takes of a core, in percent.
async fn subscribers(node: &Node, count: usize) -> Result<f64> {
    let every = Duration::from_secs(1);
    let mut readers = tokio::task::JoinSet::new();
    for _ in 1..count {
        let mut stream = subscribe(&connect(&node.agent.socket()).await?, &[], every).await?;
        readers.spawn(async move { while frame(&mut stream).await.is_ok() {} });
    }
    let mut stream = subscribe(&connect(&node.agent.socket()).await?, &[], every).await?;
    for _ in 0..SETTLING {
        frame(&mut stream).await?;
    }
    let (mut shares, mut share) = (Vec::new(), Share::begin(node)?);
    for _ in 0..FRAMES {
        frame(&mut stream).await?;
        shares.push(share.lap()?);
    }
    readers.shutdown().await;
    Ok(mean(&shares))
}

/// Readings in which every file is read, as they are asked for one by one.
async fn everything(node: &Node, clients: &Clients, ids: &[String], report: &mut Report) -> Result<()> {
    for (compared, chosen) in [(true, &ids[..COMPARED.min(ids.len())]), (false, ids)] {
        // What is still open for who listened before leaves less room. While somebody listens, files stay open.
        wait::until("files are closed", || cost::kept_files(node).ok()?.is_empty().then_some(()));
        let mut stream = subscribe(clients, chosen, Duration::from_secs(3600)).await?;
        frame(&mut stream).await?;
        let (files, mut buffer) = (if compared { cost::kept_files(node)? } else { Vec::new() }, vec![0; 64 * 1024]);
        let (mut passes, mut reads, mut walls) = (Vec::new(), Vec::new(), Vec::new());
        for _ in 0..WHOLE {
            let before = cost::of_sampler(node)?;
            let selector = Some(selector(chosen));
            let request = GetStatsRequest { selector, ..Default::default() };
            let answer = clients.stats.clone().get_stats(request).await?.into_inner();
            walls.push(span(&answer.stats));
            passes.push(cost::of_sampler(node)? - before);
            reads.push(cost::read_all(&files, &mut buffer)?);
        }
        let what = format!("everything of {}", chosen.len());
        if compared {
            let each = f64::from(u32::try_from(files.len())?) / f64::from(u32::try_from(chosen.len())?);
            report.figure("files kept open a container", "", each, Goal::None);
            let times = median(&passes) / median(&reads);
            report.figure(format!("{what} beside pread alone, cpu"), "x", times, Goal::AtMost(1.3));
            report.measure(Measure::new(format!("{what}, pread alone, cpu"), "ms", reads));
        } else {
            report.figure(format!("{what}, wall clock"), "ms", median(&walls), Goal::AtMost(40.0));
        }
        report.measure(Measure::new(format!("{what}, cpu"), "ms", passes));
        report.measure(Measure::new(format!("{what}, wall clock"), "ms", walls));
    }
    Ok(())
}

/// Nobody; what the agent takes of a core, in percent.
async fn idle(node: &Node) -> Result<f64> {
    tokio::time::sleep(Duration::from_secs(1)).await;
    let mut share = Share::begin(node)?;
    tokio::time::sleep(Duration::from_secs(3)).await;
    share.lap()
}

/// Milliseconds between the first and the last container that was read.
fn span(stats: &[ContainerStats]) -> f64 {
    let times = stats.iter().map(|stats| stats.monotonic_nanos);
    let nanos = times.clone().max().unwrap_or(0) - times.min().unwrap_or(0);
    Duration::from_nanos(nanos).as_secs_f64() * 1e3
}

/// Of what is not the same in each: everything is read again of other containers each second.
fn mean(samples: &[f64]) -> f64 {
    #[expect(clippy::cast_precision_loss, reason = "a few samples")]
    let count = samples.len() as f64;
    samples.iter().sum::<f64>() / count
}

fn selector(ids: &[String]) -> StatsSelector {
    StatsSelector { containers: ids.to_vec(), ..Default::default() }
}

/// Frames of these containers; none: all.
async fn subscribe(clients: &Clients, ids: &[String], interval: Duration) -> Result<Streaming<StreamStatsResponse>> {
    let (interval, selector) = (Some(duration(interval)), Some(selector(ids)));
    let request = StreamStatsRequest { interval, selector, ..Default::default() };
    Ok(clients.stats.clone().stream_stats(request).await?.into_inner())
}

async fn frame(stream: &mut Streaming<StreamStatsResponse>) -> Result<StreamStatsResponse> {
    Ok(stream.message().await?.ok_or("the stream ended")?)
}
