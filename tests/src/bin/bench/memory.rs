//! Section `memory`: what an idle container costs in the shim and in the agent.
//!
//! PSS counts private pages and this process's share of common ones, so that the shims' common program counts once.

use crate::Result;
use crate::node::Node;
use crate::rate::{remove_all, start_sleepers};
use crate::report::{Goal, Measure, Report};
use crate::summary::median;

/// How many containers there are when memory is read.
const LEVELS: [usize; 2] = [100, 500];
/// Time for the agent to come to rest before its memory is read.
const REST: std::time::Duration = std::time::Duration::from_secs(2);

/// Reads the agent's memory with none, 100 and 500 containers, and that of every shim.
pub(crate) async fn measure() -> Result<()> {
    let node = Node::start().await?;
    let mut report = Report::new("memory", "proportional set size");
    tokio::time::sleep(REST).await;
    let none = pss_kib(node.agent.pid())?;
    report.figure("agent with no container", "MB", none / 1024.0, Goal::AtMost(25.0));
    let mut ids: Vec<String> = Vec::new();
    for level in LEVELS {
        let created = start_sleepers(&node.client, level - ids.len()).await?;
        ids.extend(created.into_iter().map(|c| c.id));
        tokio::time::sleep(REST).await;
        let agent = pss_kib(node.agent.pid())?;
        let shims = shims(&node, &ids).await?;
        #[expect(clippy::cast_precision_loss, reason = "hundreds of containers")]
        let growth = (agent - none) / level as f64;
        report.figure(format!("agent with {level} containers"), "MB", agent / 1024.0, Goal::None);
        report.figure(format!("agent's growth per container, {level}"), "kB", growth, Goal::None);
        report.figure(format!("idle container, {level}"), "kB", median(&shims) + growth, Goal::AtMost(200.0));
        report.measure(Measure::new(format!("shim, {level} containers"), "kB", shims));
    }
    remove_all(&node.client, &ids).await?;
    tokio::time::sleep(REST).await;
    report.figure("agent after their removal", "MB", pss_kib(node.agent.pid())? / 1024.0, Goal::None);
    report.publish()?;
    node.close().await;
    Ok(())
}

/// Memory of the shim of each container: the parent of its init.
async fn shims(node: &Node, ids: &[String]) -> Result<Vec<f64>> {
    let mut memory = Vec::new();
    for id in ids {
        let (container, _) = node.client.get(id).await?;
        memory.push(pss_kib(parent(container.pid)?)?);
    }
    Ok(memory)
}

/// Proportional set size of a process in KiB.
fn pss_kib(pid: i32) -> Result<f64> {
    field(&format!("/proc/{pid}/smaps_rollup"), "Pss:")
}

fn parent(pid: i32) -> Result<i32> {
    #[expect(clippy::cast_possible_truncation, reason = "a process id")]
    field(&format!("/proc/{pid}/status"), "PPid:").map(|ppid| ppid as i32)
}

/// The number behind `name` in a file of /proc.
fn field(path: &str, name: &str) -> Result<f64> {
    let text = std::fs::read_to_string(path).map_err(|e| format!("{path}: {e}"))?;
    let line = text.lines().find_map(|line| line.strip_prefix(name)).ok_or_else(|| format!("{path} lacks {name}"))?;
    let number = line.split_whitespace().next().unwrap_or_default();
    Ok(number.parse().map_err(|_| format!("{path}: {name} is {line:?}"))?)
}
