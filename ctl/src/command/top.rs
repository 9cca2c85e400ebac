//! `top`: the processes of a container, or a dashboard.

use std::time::Duration;

use hull_proto::v1::{Process, TopContainerRequest};
use jiff::Timestamp;
use serde::Serialize;

use super::stats::pace;
use crate::cli::{Connection, DataFormat, TopFlags};
use crate::client::Client;
use crate::dashboard;
use crate::error::Result;
use crate::output::{self, Table, ago, bytes, duration_text, moment};

const HEADINGS: [&str; 9] = ["PID", "INSIDE", "PPID", "UID", "STATE", "TIME", "RSS", "STARTED", "COMMAND"];

/// A process, with the field names of protobuf's JSON mapping.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct ProcessView {
    pid: i32,
    container_pid: i32,
    parent_pid: i32,
    uid: u32,
    state: String,
    threads: u32,
    cpu_time: String,
    resident_bytes: u64,
    #[serde(skip_serializing_if = "Option::is_none")]
    started_at: Option<Timestamp>,
    name: String,
    args: Vec<String>,
}

/// Shows those of one container, or the dashboard of all.
pub(crate) async fn top(
    connection: &Connection,
    connect: impl Future<Output = Result<Client>>,
    flags: TopFlags,
) -> Result<u8> {
    match flags.container {
        Some(container) => processes(connect.await?, container, flags.output).await,
        None => Box::pin(dashboard::run(connection, pace("--interval", flags.interval.as_deref())?)).await,
    }
}

async fn processes(client: Client, container: String, format: Option<DataFormat>) -> Result<u8> {
    let answer = client.containers().top_container(TopContainerRequest { container }).await?.into_inner();
    if let Some(format) = format {
        output::data(format, &answer.processes.into_iter().map(ProcessView::from).collect::<Vec<_>>())?;
        return Ok(0);
    }
    let now = Timestamp::now();
    let mut table = Table::new(&HEADINGS);
    for process in &answer.processes {
        let started = moment(process.started_at.as_ref());
        table.row([
            process.pid.to_string(),
            process.container_pid.to_string(),
            process.parent_pid.to_string(),
            process.uid.to_string(),
            process.state.clone(),
            clock(cpu_time(process)),
            bytes(process.resident_bytes),
            format!("{} ago", ago(started, now)),
            command(process),
        ]);
    }
    table.print()?;
    if answer.truncated {
        output::line("there are more processes than are shown")?;
    }
    Ok(0)
}

fn cpu_time(process: &Process) -> Duration {
    process.cpu_time.and_then(|time| Duration::try_from(time).ok()).unwrap_or_default()
}

/// Minutes and seconds, as ps(1) has them.
fn clock(time: Duration) -> String {
    let (seconds, hundredths) = (time.as_secs(), time.subsec_millis() / 10);
    format!("{}:{:02}.{hundredths:02}", seconds / 60, seconds % 60)
}

/// Its arguments; in brackets the name of one that has none.
fn command(process: &Process) -> String {
    if process.args.is_empty() { format!("[{}]", process.name) } else { process.args.join(" ") }
}

impl From<Process> for ProcessView {
    fn from(process: Process) -> Self {
        Self {
            cpu_time: duration_text(process.cpu_time.unwrap_or_default()),
            started_at: moment(process.started_at.as_ref()),
            pid: process.pid,
            container_pid: process.container_pid,
            parent_pid: process.parent_pid,
            uid: process.uid,
            state: process.state,
            threads: process.threads,
            resident_bytes: process.resident_bytes,
            name: process.name,
            args: process.args,
        }
    }
}
