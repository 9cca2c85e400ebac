//! Section `syscalls`: how many system calls one start costs in agent, shim and container together, counted by strace.

use std::collections::BTreeMap;
use std::path::Path;

use hull_proto::v1::WaitCondition;

use crate::Result;
use crate::client::STAMP;
use crate::node::Node;
use crate::report::{Goal, Measure, Report};

/// Two runs that differ in their number of starts: their difference is free of what the agent does once.
const FEW: u32 = 10;
const MANY: u32 = 60;
/// System calls shown, the most frequent first.
const SHOWN: usize = 20;

/// Counts the calls of whole cycles: create, start, exit, remove.
pub(crate) async fn measure() -> Result<Report> {
    let mut report = Report::new("syscalls", "system calls of one run to exited and removed, agent + shim + container");
    if std::process::Command::new("strace").arg("--version").output().is_err() {
        report.notes.push("not measured: strace is not installed".into());
        return Ok(report);
    }
    let few = count(FEW).await?;
    let many = count(MANY).await?;
    let mut calls: Vec<(String, f64)> = many
        .into_iter()
        .map(|(name, calls)| {
            let before = few.get(&name).copied().unwrap_or(0);
            (name, (f64::from(calls) - f64::from(before)) / f64::from(MANY - FEW))
        })
        .collect();
    calls.sort_by(|a, b| b.1.total_cmp(&a.1));
    report.figure("system calls per cycle", "calls", calls.iter().map(|(_, n)| n).sum(), Goal::None);
    for (name, calls) in calls.into_iter().take(SHOWN) {
        report.measure(Measure::new(name, "calls", vec![calls]));
    }
    Ok(report)
}

/// Calls by name of an agent's whole life with that many cycles in it.
async fn count(cycles: u32) -> Result<BTreeMap<String, u32>> {
    let directory = tempfile::tempdir()?;
    let table = directory.path().join("strace");
    let wrapper = ["strace", "-f", "-c", "-o"].map(String::from).into_iter().chain([table.display().to_string()]);
    let node = Node::start(&wrapper.collect::<Vec<_>>()).await?;
    for _ in 0..cycles {
        let created = node.client.start(STAMP, true).await?;
        node.client.wait(&created.id, WaitCondition::Removed).await?;
    }
    node.stop()?;
    parse(&table)
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
