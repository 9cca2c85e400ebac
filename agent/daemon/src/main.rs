//! `hulld`, the hull node agent.
#![forbid(unsafe_code)]

mod app;
mod blocking;
mod config;
mod error;
mod events;
mod exposition;
mod images;
mod lifecycle;
mod metrics;
mod runtime;
mod service;
mod space;
mod stats;
mod store;

use std::io::Write as _;
use std::process::ExitCode;

use clap::Parser as _;
use tracing_subscriber::EnvFilter;

use crate::config::{Config, Flags, LogFormat};
use crate::error::{Error, Result};

fn main() -> ExitCode {
    match run() {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            // Standard error is all there is left to tell it to.
            let _ = writeln!(std::io::stderr(), "hulld: {error}");
            ExitCode::FAILURE
        }
    }
}

fn run() -> Result<()> {
    let flags = Flags::parse();
    let check_only = flags.check_config;
    let config = Config::load(flags)?;
    if check_only {
        return Ok(());
    }
    start_tracing(&config)?;
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build();
    runtime.map_err(|error| Error::io("starting the async runtime", &error))?.block_on(app::run(config))
}

/// Events go to standard error, from where systemd takes them to the journal.
fn start_tracing(config: &Config) -> Result<()> {
    let filter = EnvFilter::try_new(&config.log_level).map_err(|error| Error::invalid("log-level", error))?;
    let builder = tracing_subscriber::fmt().with_env_filter(filter).with_writer(std::io::stderr);
    match config.log_format {
        LogFormat::Text => builder.with_ansi(false).init(),
        LogFormat::Json => builder.json().init(),
    }
    Ok(())
}
