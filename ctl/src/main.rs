//! `hullctl`, the command line of hull: a client of `hull.v1` and nothing more.
#![forbid(unsafe_code)]

mod cli;
mod client;
mod command;
mod completion;
mod context;
mod copy;
mod dashboard;
mod error;
mod output;
mod registry;
mod spec;
mod terminal;

use std::process::ExitCode;

use clap::Parser as _;

fn main() -> ExitCode {
    if let Some(answered) = completion::answer() {
        return match answered {
            Ok(()) => ExitCode::SUCCESS,
            Err(error) => error.report(1),
        };
    }
    let cli = match cli::Cli::try_parse() {
        Ok(cli) => cli,
        Err(error) => return cli::usage(&error),
    };
    output::choose(cli.color);
    let own_errors = cli.command.error_code();
    // One thread is enough for a client, and is ready sooner than several.
    let runtime = match tokio::runtime::Builder::new_current_thread().enable_all().build() {
        Ok(runtime) => runtime,
        Err(error) => return error::Error::new(format!("starting: {error}")).report(own_errors),
    };
    let outcome = runtime.block_on(command::run(cli));
    // A thread may sit in a read of standard input; it ends with the process.
    runtime.shutdown_background();
    match outcome {
        Ok(code) => ExitCode::from(code),
        Err(error) => error.report(own_errors),
    }
}
