//! `hull-shim`: sets one container up, monitors it, and outlives the agent.
//!
//! Static, single-threaded, small. It decides nothing: the plan comes from the agent (see `hull_wire`), `setup` obeys it,
//! `monitor` keeps watch until init has ended, `sys` is the only unsafe code. Imports go one way: main -> setup, monitor -> sys.

mod failure;
mod layer;
mod log;
mod monitor;
mod setup;
mod startup;
mod sys;
mod view;

use std::ffi::OsString;
use std::io::Write;
use std::process::ExitCode;

fn main() -> ExitCode {
    let arguments: Vec<OsString> = std::env::args_os().skip(1).collect();
    let words: Vec<&str> = arguments.iter().map(|word| word.to_str().unwrap_or_default()).collect();
    let outcome = match words.as_slice() {
        [] => serve(),
        ["--version"] => {
            write_line(&mut std::io::stdout(), concat!("hull-shim ", env!("CARGO_PKG_VERSION")));
            Ok(())
        }
        ["mount-layer", _, _] => layer::mount(arguments[1].as_ref(), arguments[2].as_ref()),
        _ => Err("usage: hull-shim [--version | mount-layer FILE TARGET]; it is started by hulld".to_owned()),
    };
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(message) => {
            write_line(&mut std::io::stderr(), &message);
            ExitCode::FAILURE
        }
    }
}

/// Waits for the agent's one Setup, obeys it, and monitors the container until its end.
fn serve() -> Result<(), String> {
    let agent = startup::become_shim().map_err(|(what, errno)| format!("{what}: {errno}"))?;
    let network =
        setup::ahead::network().map_err(|errno| format!("returning from a new network namespace: {errno}"))?;
    let order = startup::wait_for_order(&agent).map_err(|errno| format!("receiving the plan: {errno}"))?;
    let startup::SetupRequest { seq, order, attach } = *match order {
        None => return Ok(()),
        Some(startup::Order::View { seq, plan }) => {
            drop(network);
            view::serve(agent, seq, plan.and_then(|plan| setup::view::make(&plan)));
            return Ok(());
        }
        Some(startup::Order::Setup(request)) => request,
    };
    match order.and_then(|(plan, listener)| setup::start(&plan, listener, network)) {
        Ok(container) => monitor::run(container, agent, seq, attach),
        Err(failure) => {
            monitor::report_failed_setup(agent, seq, failure);
            Ok(())
        }
    }
}

/// Standard error may be gone; there is nobody to tell then.
fn write_line(to: &mut impl Write, line: &str) {
    let _gone = writeln!(to, "{line}");
}
