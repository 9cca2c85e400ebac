//! Section `exec`: how long a further process in a running container takes, hull and its peers by turns, and what a probe a second in
//! each of many containers costs.

use std::time::{Duration, Instant};

use hull_proto::v1::{ExecStart, ExecSyncRequest};
use hull_tests::harness::{Clients, Ctl, ExecSession, connect, host};

use crate::Result;
use crate::client::{SLEEP, words};
use crate::cpu::{of_family, of_process};
use crate::node::Node;
use crate::peers::{self, Groups, Peer, WithoutUnified};
use crate::rate::{remove_all, start_sleepers};
use crate::report::{Goal, Measure, Report};
use crate::summary::{median, p99};

/// Rounds before the first one that counts.
const WARM_UP: usize = 5;
/// Pause between two turns, in which the kernel finishes what the turn before left.
const PAUSE: Duration = Duration::from_millis(5);
/// What is executed.
const TRUE: [&str; 2] = ["/bin/busybox", "true"];
/// Containers with a probe a second.
const PROBED: usize = 100;
/// Seconds of them.
const PROBED_FOR: u32 = 10;

/// Measures `rounds` rounds after the warm-up.
pub(crate) async fn measure(rounds: usize) -> Result<()> {
    let node = Node::start().await?;
    let clients = connect(&node.agent.socket()).await?;
    let mut report = Report::new("exec", "a further process, /bin/busybox true; then probes");
    latencies(&node, &clients, rounds, &mut report).await?;
    probes(&node, &clients, &mut report).await?;
    report.publish()?;
    drop(clients);
    node.close().await;
    Ok(())
}

/// Who executes something, and its samples in milliseconds.
type Turns = Vec<(String, Vec<f64>)>;

async fn latencies(node: &Node, clients: &Clients, rounds: usize, report: &mut Report) -> Result<()> {
    let spec = node.runtime_spec().await?;
    let ours = node.client.start(SLEEP, false).await?.id;
    let (state, rootfs) = (&node.state, node.rootfs()?);
    let peers = ["crun", "runc"].iter().filter_map(|name| Peer::prepare(name, state, &rootfs, &spec).transpose());
    let mut peers = peers.collect::<Result<Vec<_>>>()?;
    let groups = Groups;
    let hidden = WithoutUnified::enter()?;
    let mut theirs = Vec::new();
    for peer in &mut peers {
        theirs.push(peer.start_sleeper().await?);
    }
    let mut turns: Turns =
        ["hull: Exec", "hull: ExecSync", "hullctl exec"].map(|name| (name.to_owned(), Vec::new())).to_vec();
    turns.extend(peers.iter().map(|peer| (format!("{} exec", peer.name), Vec::new())));
    for round in 0..WARM_UP + rounds {
        for turn in 0..turns.len() {
            tokio::time::sleep(PAUSE).await;
            let turn = (turn + round) % turns.len();
            let took = match turn {
                0 => exec(clients, &ours).await?,
                1 => exec_sync(clients, &ours).await?,
                2 => {
                    peers::finish(&mut Ctl::command(&node.agent, &[&["exec", &ours], &TRUE[..]].concat()).into())
                        .await?
                }
                peer => peers[peer - 3].exec(&theirs[peer - 3], &TRUE).await?,
            };
            if round >= WARM_UP {
                turns[turn].1.push(took);
            }
        }
    }
    for (peer, id) in peers.iter().zip(&theirs) {
        peer.delete(id).await?;
        report.notes.push(peer.version.clone());
    }
    if hidden.is_some() {
        report.notes.push("the peers run without the version 2 hierarchy, which crun refuses on a hybrid host".into());
    }
    drop((hidden, groups));
    node.client.remove(&ours).await?;
    figures(report, &turns);
    turns.into_iter().for_each(|(name, samples)| report.measure(Measure::new(name, "ms", samples)));
    Ok(())
}

fn figures(report: &mut Report, turns: &Turns) {
    for (name, theirs) in &turns[3..] {
        // The goals are set against crun; runc is there to compare.
        let goal = |limit| if name.starts_with("crun") { Goal::AtMost(limit) } else { Goal::None };
        let mut ratio =
            |what: &str, value: f64, limit| report.figure(format!("{what} / {name}"), "x", value, goal(limit));
        ratio("Exec", median(&turns[0].1) / median(theirs), 0.6);
        ratio("Exec, p99", p99(&turns[0].1) / p99(theirs), 0.6);
        ratio("hullctl exec", median(&turns[2].1) / median(theirs), 1.0);
    }
    if !turns.iter().any(|(name, _)| name.starts_with("crun")) {
        report.notes.push("crun is not installed: the figures against it are missing".into());
    }
}

/// From the call to its end, milliseconds.
async fn exec(clients: &Clients, id: &str) -> Result<f64> {
    let begun = Instant::now();
    let start = ExecStart { container: id.into(), argv: words(&TRUE), ..ExecStart::default() };
    let done = ExecSession::start(clients, start).await?.finish().await?;
    let took = begun.elapsed().as_secs_f64() * 1e3;
    if done.exit.code == 0 { Ok(took) } else { Err(format!("exec ended with {}", done.exit.code).into()) }
}

async fn exec_sync(clients: &Clients, id: &str) -> Result<f64> {
    let begun = Instant::now();
    let request = ExecSyncRequest { container: id.into(), argv: words(&TRUE), ..ExecSyncRequest::default() };
    let done = clients.containers.clone().exec_sync(request).await?.into_inner();
    let took = begun.elapsed().as_secs_f64() * 1e3;
    let code = done.exit.map_or(-1, |exit| exit.code);
    if code == 0 { Ok(took) } else { Err(format!("exec ended with {code}").into()) }
}

/// Containers with a probe a second each.
async fn probes(node: &Node, clients: &Clients, report: &mut Report) -> Result<()> {
    let created = start_sleepers(&node.client, PROBED).await?;
    let shims = created.iter().filter_map(|container| Some(host::stat(container.pid)?.1)).collect::<Vec<_>>();
    let ids: Vec<String> = created.into_iter().map(|container| container.id).collect();
    let all = || shims.iter().copied().chain([node.agent.pid()]);
    // Everybody once, so that what is made at the first exec is there.
    futures_util::future::join_all(ids.iter().map(|id| exec_sync(clients, id)))
        .await
        .into_iter()
        .collect::<Result<Vec<_>>>()?;
    let begun = Instant::now();
    let own = || all().map(of_process).sum::<Result<f64>>();
    let whole = || all().map(|pid| Ok(of_family(pid)? * 1e3)).sum::<Result<f64>>();
    let before = (own()?, whole()?);
    let probes = ids.iter().enumerate().map(|(index, id)| async move {
        let spread = Duration::from_secs(1) * u32::try_from(index)? / u32::try_from(PROBED)?;
        let mut clock = tokio::time::interval_at((begun + spread).into(), Duration::from_secs(1));
        let mut samples = Vec::new();
        for _ in 0..PROBED_FOR {
            clock.tick().await;
            samples.push(exec_sync(clients, id).await?);
        }
        Result::<Vec<f64>>::Ok(samples)
    });
    let samples = futures_util::future::join_all(probes).await.into_iter().collect::<Result<Vec<_>>>()?.concat();
    let seconds = begun.elapsed().as_secs_f64();
    let share = |before: f64, now: f64| (now - before) / seconds / 10.0;
    let (own, whole) = (share(before.0, own()?), share(before.1, whole()?));
    report.figure(
        format!("{PROBED} containers, a probe a second: agent and shims"),
        "% of a core",
        own,
        Goal::AtMost(5.0),
    );
    report.figure("the same with births and the programs themselves", "% of a core", whole, Goal::None);
    report.measure(Measure::new("a probe", "ms", samples));
    remove_all(&node.client, &ids).await.map(drop)
}
