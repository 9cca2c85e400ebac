//! Section `syscalls`: how many system calls one start costs in agent, shim and container together, counted by strace.

use std::collections::BTreeMap;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::Duration;

use hull_proto::v1::WaitCondition;
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use crate::Result;
use crate::client::STAMP;
use crate::node::Node;
use crate::report::{Goal, Measure, Report};

/// Two runs that differ in their number of starts: in their difference there is nothing that an agent does once, and the
/// shims that were warm before strace came are missing in both.
const FEW: u32 = 10;
const MANY: u32 = 60;
/// Time for the agent to come to rest.
const REST: Duration = Duration::from_millis(500);
/// System calls shown, the most frequent first.
const SHOWN: usize = 20;

/// Counts the calls of whole cycles: create, start, exit, remove.
pub(crate) async fn measure() -> Result<()> {
    let mut report = Report::new("syscalls", "system calls of one run to exited and removed, agent + shim + container");
    if Command::new("strace").arg("--version").output().is_err() {
        report.notes.push("not measured: strace is not installed".into());
        return report.publish();
    }
    let node = Node::start().await?;
    let few = count(&node, FEW).await?;
    let many = count(&node, MANY).await?;
    let per_cycle = |(name, calls): (String, u32)| {
        let before = few.get(&name).copied().unwrap_or(0);
        (name, (f64::from(calls) - f64::from(before)) / f64::from(MANY - FEW))
    };
    let mut calls: Vec<(String, f64)> = many.into_iter().map(per_cycle).collect();
    calls.sort_by(|a, b| b.1.total_cmp(&a.1));
    report.figure("system calls per cycle", "calls", calls.iter().map(|(_, n)| n).sum(), Goal::None);
    for (name, calls) in calls.into_iter().take(SHOWN) {
        report.measure(Measure::new(name, "calls", vec![calls]));
    }
    report.publish()?;
    node.close().await;
    Ok(())
}

/// Calls by name during that many cycles.
async fn count(node: &Node, cycles: u32) -> Result<BTreeMap<String, u32>> {
    // Attaching to an agent that is just starting a warm shim would leave both waiting for each other.
    tokio::time::sleep(REST).await;
    let table = node.state.join(format!("strace-{cycles}"));
    let pid = node.agent.pid();
    let mut strace = Command::new("strace");
    strace.args(["-q", "-f", "-c", "-o"]).arg(&table).args(["-p", &pid.to_string()]);
    let mut strace = strace.stdin(Stdio::null()).stderr(Stdio::null()).spawn()?;
    hull_tests::harness::wait::until("strace has attached to every thread", || all_traced(pid).then_some(()));
    for _ in 0..cycles {
        let created = node.client.start(STAMP, true).await?;
        node.client.wait(&created.id, WaitCondition::Removed).await?;
    }
    kill(Pid::from_raw(i32::try_from(strace.id())?), Signal::SIGINT)?;
    strace.wait()?;
    parse(&table)
}

fn all_traced(pid: i32) -> bool {
    let Ok(mut threads) = std::fs::read_dir(format!("/proc/{pid}/task")) else { return false };
    threads.all(|thread| {
        let status = thread.map(|thread| std::fs::read_to_string(thread.path().join("status")).unwrap_or_default());
        status.is_ok_and(|status| !status.contains("TracerPid:\t0\n"))
    })
}

/// strace's summary: "% time, seconds, usecs/call, calls, [errors,] name".
fn parse(table: &Path) -> Result<BTreeMap<String, u32>> {
    let text = std::fs::read_to_string(table).map_err(|e| format!("{}: {e}", table.display()))?;
    let rows = text.lines().filter_map(|line| {
        let words: Vec<&str> = line.split_whitespace().collect();
        let (name, calls) = (words.last()?, words.get(3)?.parse().ok()?);
        (*name != "total").then(|| ((*name).to_owned(), calls))
    });
    Ok(rows.collect())
}
