//! `make bench`: hull beside its peers, in one run, on one machine.
//!
//! Ratios count, absolute figures drift with the machine: whoever is compared takes turns within each round. Nothing here
//! knows a result; the goals stand beside the figures that they belong to. Each section prints its tables and writes every
//! sample to `target/bench/SECTION.json`.
//!
//! ```text
//!   bench [--only start,exec,streams,rate,memory,stats,syscalls,pull] [--parts small-gz,eight,…] [--rounds N] [--containers N]
//! ```
#![forbid(unsafe_code)]

mod client;
mod cpu;
mod disk;
mod engines;
mod exec;
mod floor;
mod latency;
mod memory;
mod node;
mod peers;
mod pull;
mod rate;
mod report;
mod stats;
mod streams;
mod summary;
mod syscalls;

use std::process::ExitCode;

/// Errors of the benchmark: one line for the person who runs it.
type Error = Box<dyn std::error::Error + Send + Sync>;
type Result<T, E = Error> = std::result::Result<T, E>;

const USAGE: &str = "usage: bench [--only start,exec,streams,rate,memory,stats,syscalls,pull] [--parts small-gz,eight,…] [--rounds N] [--containers N]";
const SECTIONS: [&str; 8] = ["start", "exec", "streams", "rate", "memory", "stats", "syscalls", "pull"];

/// What to measure.
#[derive(Debug)]
struct Options {
    sections: Vec<String>,
    /// Measured rounds of each latency, after the warm-up.
    rounds: usize,
    /// Containers of the sustained rate and of the removal (default: 300), and of statistics (1,000).
    containers: Option<usize>,
    /// Parts of the section `pull`; none: all.
    parts: Vec<String>,
}

fn main() -> ExitCode {
    let options = match options(std::env::args().skip(1)) {
        Ok(options) => options,
        Err(error) => return fail(&error),
    };
    let runtime = match tokio::runtime::Builder::new_current_thread().enable_all().build() {
        Ok(runtime) => runtime,
        Err(error) => return fail(&error.into()),
    };
    match runtime.block_on(run(&options)) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => fail(&error),
    }
}

fn fail(error: &Error) -> ExitCode {
    report::complain(&format!("bench: {error}"));
    ExitCode::FAILURE
}

fn options(mut arguments: impl Iterator<Item = String>) -> Result<Options> {
    let mut options =
        Options { sections: SECTIONS.map(String::from).to_vec(), rounds: 100, containers: None, parts: Vec::new() };
    while let Some(argument) = arguments.next() {
        let mut value = || arguments.next().ok_or_else(|| format!("{argument} needs a value\n{USAGE}"));
        match argument.as_str() {
            "--only" => options.sections = value()?.split(',').map(String::from).collect(),
            "--parts" => options.parts = value()?.split(',').map(String::from).collect(),
            "--rounds" => options.rounds = value()?.parse()?,
            "--containers" => options.containers = Some(value()?.parse()?),
            _ => return Err(format!("unknown argument {argument}\n{USAGE}").into()),
        }
    }
    if let Some(unknown) = options.sections.iter().find(|name| !SECTIONS.contains(&name.as_str())) {
        return Err(format!("unknown section {unknown}\n{USAGE}").into());
    }
    if options.rounds < 10 || options.containers.is_some_and(|count| count < 100) {
        return Err("fewer than 10 rounds or 100 containers say nothing".into());
    }
    Ok(options)
}

async fn run(options: &Options) -> Result<()> {
    for section in &options.sections {
        // Each publishes before its agent goes, which fails where anything is left behind.
        match section.as_str() {
            "start" => latency::measure(options.rounds).await?,
            "exec" => exec::measure(options.rounds).await?,
            "streams" => streams::measure().await?,
            "rate" => rate::measure(options.containers.unwrap_or(300)).await?,
            "memory" => memory::measure().await?,
            "stats" => stats::measure(options.containers.unwrap_or(1000)).await?,
            "pull" => pull::measure(options.rounds, &options.parts).await?,
            _ => syscalls::measure().await?,
        }
    }
    Ok(())
}
