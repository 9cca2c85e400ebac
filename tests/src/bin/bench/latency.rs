//! Section `start`: how long one job takes, hull and its peers by turns.

use std::time::Instant;

use hull_proto::v1::WaitCondition;
use hull_tests::harness::Ctl;

use crate::Result;
use crate::client::{Client, IMAGE, MEMORY_MAX, PIDS_MAX, STAMP};
use crate::floor::Floor;
use crate::node::Node;
use crate::peers::{self, Groups, Monotonic, Peer, WithoutUnified, timed};
use crate::report::{Goal, Measure, Report};
use crate::summary::{median, p99};

/// Rounds before the first one that counts.
const WARM_UP: usize = 5;
/// Pause between two turns, in which the kernel finishes what the turn before left (namespaces die asynchronously).
const PAUSE: std::time::Duration = std::time::Duration::from_millis(10);

/// Samples of each turn, milliseconds; steps in microseconds.
#[derive(Debug, Default)]
struct Samples {
    first: Vec<f64>,
    answer: Vec<f64>,
    cycle: Vec<f64>,
    command: Vec<f64>,
    steps: Vec<(String, Vec<f64>)>,
    floor_first: Vec<f64>,
    floor_whole: Vec<f64>,
    floor_steps: Vec<(String, Vec<f64>)>,
    /// Per peer: until the first instruction, until the command's end.
    peers: Vec<(Vec<f64>, Vec<f64>)>,
}

/// Everybody who takes turns.
struct Contest {
    hidden: Option<WithoutUnified>,
    floor: Floor,
    peers: Vec<Peer>,
    _groups: Groups,
    node: Node,
}

/// Measures `rounds` rounds after the warm-up.
pub(crate) async fn measure(rounds: usize) -> Result<()> {
    let mut contest = Contest::prepare().await?;
    let mut samples = Samples::default();
    let turns = 4 + contest.peers.len();
    for round in 0..WARM_UP + rounds {
        if round == WARM_UP {
            samples = Samples::default();
        }
        samples.peers.resize_with(contest.peers.len(), Default::default);
        for turn in 0..turns {
            tokio::time::sleep(PAUSE).await;
            contest.take_turn((turn + round) % turns, &mut samples).await?;
        }
    }
    let versions: Vec<_> = contest.peers.iter().map(|peer| (peer.name, peer.version.clone())).collect();
    let mut report = report(samples, &versions);
    if contest.hidden.is_some() {
        report.notes.push("the peers run without the version 2 hierarchy, which crun refuses on a hybrid host".into());
    }
    report.publish()?;
    let Contest { hidden, floor, peers: _, _groups: groups, node } = contest;
    // First, for the agent is looked after from the namespace that it was started in.
    drop(hidden);
    drop((floor, groups));
    node.close().await;
    Ok(())
}

impl Contest {
    async fn prepare() -> Result<Self> {
        let node = Node::start().await?;
        let spec = node.runtime_spec().await?;
        let (state, rootfs) = (&node.state, node.rootfs()?);
        let peers = ["crun", "runc"].iter().filter_map(|name| Peer::prepare(name, state, &rootfs, &spec).transpose());
        let peers = peers.collect::<Result<Vec<_>>>()?;
        let floor = Floor::start(state, &rootfs, &peers::allowed_syscalls(&spec)?)?;
        let hidden = WithoutUnified::enter()?;
        Ok(Self { hidden, floor, peers, _groups: Groups, node })
    }

    async fn take_turn(&mut self, turn: usize, samples: &mut Samples) -> Result<()> {
        match turn {
            0 => first_instruction(&self.node.client, samples).await,
            1 => {
                samples.cycle.push(cycle(&self.node.client).await?);
                Ok(())
            }
            2 => {
                samples.command.push(self.command().await?);
                Ok(())
            }
            3 => {
                let round = self.floor.round()?;
                samples.floor_first.push(round.start);
                samples.floor_whole.push(round.whole);
                add_steps(&mut samples.floor_steps, round.steps);
                Ok(())
            }
            peer => {
                let run = self.peers[peer - 4].run().await?;
                samples.peers[peer - 4].0.push(run.start);
                samples.peers[peer - 4].1.push(run.whole);
                Ok(())
            }
        }
    }

    /// `hullctl run --rm` as a whole process, milliseconds.
    async fn command(&self) -> Result<f64> {
        let (memory, pids) = (MEMORY_MAX.to_string(), PIDS_MAX.to_string());
        let flags = ["run", "--rm", "--cpus", "0.5", "--memory", &memory, "--pids-limit", &pids, IMAGE];
        let command = Ctl::command(&self.node.agent, &[&flags[..], STAMP].concat());
        Ok(timed(command.into()).await.map_err(|e| format!("hullctl run: {e}"))?.whole)
    }
}

/// Request to the program's first instruction; the container is waited for and removed off the clock.
async fn first_instruction(client: &Client, samples: &mut Samples) -> Result<()> {
    let clock = Monotonic::now()?;
    let started = Instant::now();
    let created = client.start(STAMP, false).await?;
    samples.answer.push(started.elapsed().as_secs_f64() * 1e3);
    client.wait(&created.id, WaitCondition::NotRunning).await?;
    let (container, _) = client.get(&created.id).await?;
    let log = std::fs::read_to_string(&container.log_path).map_err(|e| format!("{}: {e}", container.log_path))?;
    let printed = log.lines().next().and_then(|line| line.splitn(4, ' ').nth(3)).unwrap_or_default();
    samples.first.push(clock.millis_until(printed)?);
    let micros = |d: &prost_types::Duration| {
        f64::from(u32::try_from(d.seconds * 1_000_000_000 + i64::from(d.nanos)).unwrap_or(u32::MAX)) / 1e3
    };
    add_steps(
        &mut samples.steps,
        container.start_steps.into_iter().map(|s| (s.step, s.duration.as_ref().map_or(0.0, micros))),
    );
    client.remove(&created.id).await
}

/// Request to exited and removed, milliseconds.
async fn cycle(client: &Client) -> Result<f64> {
    let started = Instant::now();
    let created = client.start(STAMP, true).await?;
    client.wait(&created.id, WaitCondition::Removed).await?;
    Ok(started.elapsed().as_secs_f64() * 1e3)
}

/// Adds one start's steps; a step that comes several times in a start counts with its sum.
fn add_steps(all: &mut Vec<(String, Vec<f64>)>, steps: impl IntoIterator<Item = (String, f64)>) {
    let mut sums: Vec<(String, f64)> = Vec::new();
    for (name, micros) in steps {
        match sums.iter_mut().find(|(known, _)| *known == name) {
            Some((_, sum)) => *sum += micros,
            None => sums.push((name, micros)),
        }
    }
    for (name, micros) in sums {
        match all.iter_mut().find(|(known, _)| *known == name) {
            Some((_, samples)) => samples.push(micros),
            None => all.push((name, vec![micros])),
        }
    }
}

fn report(samples: Samples, versions: &[(&str, String)]) -> Report {
    let mut report = Report::new("start", "latency of one job; seccomp, limits, six namespaces");
    figures(&mut report, &samples, versions);
    report.measure(Measure::new("hull: create+start to first instruction", "ms", samples.first));
    report.measure(Measure::new("hull: create+start to the answer", "ms", samples.answer));
    report.measure(Measure::new("hull: run to exited and removed", "ms", samples.cycle));
    report.measure(Measure::new("hullctl run --rm", "ms", samples.command));
    report.measure(Measure::new("floor: to first instruction", "ms", samples.floor_first));
    report.measure(Measure::new("floor: to cleaned up", "ms", samples.floor_whole));
    for ((name, version), (first, whole)) in versions.iter().zip(samples.peers) {
        report.measure(Measure::new(format!("{name} run: to first instruction"), "ms", first));
        report.measure(Measure::new(format!("{name} run"), "ms", whole));
        report.notes.push(version.clone());
    }
    for (name, micros) in samples.steps {
        report.measure(Measure::new(format!("hull step: {name}"), "us", micros));
    }
    for (name, micros) in samples.floor_steps {
        report.measure(Measure::new(format!("floor step: {name}"), "us", micros));
    }
    report
}

fn figures(report: &mut Report, samples: &Samples, versions: &[(&str, String)]) {
    let Samples { first, cycle, command, floor_first, floor_whole, .. } = samples;
    report.figure("first instruction / floor", "x", median(first) / median(floor_first), Goal::AtMost(1.5));
    report.figure("exited and removed / floor cleaned up", "x", median(cycle) / median(floor_whole), Goal::None);
    for ((name, _), (_, whole)) in versions.iter().zip(&samples.peers) {
        // The goals are set against crun; runc is there to compare.
        let goal = |limit| if *name == "crun" { Goal::AtMost(limit) } else { Goal::None };
        let mut ratio =
            |what: &str, value: f64, limit| report.figure(format!("{what} / {name} run"), "x", value, goal(limit));
        ratio("first instruction", median(first) / median(whole), 0.18);
        ratio("first instruction, p99", p99(first) / p99(whole), 0.25);
        ratio("exited and removed", median(cycle) / median(whole), 0.25);
        ratio("hullctl run --rm", median(command) / median(whole), 0.35);
    }
    if !versions.iter().any(|(name, _)| *name == "crun") {
        report.notes.push("crun is not installed: the figures against it are missing".into());
    }
}
