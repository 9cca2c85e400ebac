//! Questions to the person at the terminal.

use std::io::{self, BufRead as _, Read as _, Write as _};
use std::thread;

use rustix::termios::{LocalModes, OptionalActions, Termios, tcgetattr, tcsetattr};
use tokio::sync::oneshot;

use super::{Signals, stdin_is_terminal};
use crate::error::{Error, Result};

/// Longest answer that is read, in bytes.
const LONGEST: u64 = 64 << 10;

/// Asks for a line. A signal ends the command.
pub(crate) async fn ask(question: &str) -> Result<String> {
    line(question, false).await
}

/// Asks for a line that must not be seen.
pub(crate) async fn ask_secretly(question: &str) -> Result<String> {
    line(question, true).await
}

async fn line(question: &str, secret: bool) -> Result<String> {
    if !stdin_is_terminal() {
        return Err(Error::new(format!("{}: standard input is not a terminal", question.trim_end_matches([' ', ':']))));
    }
    // First, so that no signal ends the command while the terminal is changed.
    let mut signals = Signals::catch()?;
    let _unseen = secret.then(Unseen::enter).transpose()?;
    // Where it cannot be written, nobody sees the answer either.
    let _ = write!(io::stderr(), "{question}").and_then(|()| io::stderr().flush());
    let (end, line) = oneshot::channel();
    let read = move || {
        let mut line = String::new();
        let read = io::stdin().lock().take(LONGEST).read_line(&mut line);
        // Nobody waits any more where the command was interrupted.
        let _ = end.send(read.map(|_| line));
    };
    let spawned = thread::Builder::new().name("answer".to_owned()).spawn(read);
    spawned.map_err(|error| Error::new(format!("starting a thread: {error}")))?;
    let line = tokio::select! {
        line = line => line.unwrap_or_else(|_| Ok(String::new())),
        number = signals.next() => return Err(Error::Interrupted(number)),
    };
    let line = line.map_err(|error| Error::new(format!("reading the answer: {error}")))?;
    match line.strip_suffix('\n') {
        Some(answer) => Ok(answer.strip_suffix('\r').unwrap_or(answer).to_owned()),
        None => Err(Error::new("standard input ended before the answer")),
    }
}

/// The terminal of standard input without echo, but for the end of a line. The old mode comes back when this goes.
#[derive(Debug)]
struct Unseen {
    before: Termios,
}

impl Unseen {
    fn enter() -> Result<Self> {
        let wrong = |errno| Error::new(format!("turning the terminal's echo off: {errno}"));
        let before = tcgetattr(io::stdin()).map_err(wrong)?;
        let mut unseen = before.clone();
        unseen.local_modes.remove(LocalModes::ECHO);
        unseen.local_modes.insert(LocalModes::ECHONL);
        tcsetattr(io::stdin(), OptionalActions::Flush, &unseen).map_err(wrong)?;
        Ok(Self { before })
    }
}

impl Drop for Unseen {
    fn drop(&mut self) {
        // It fails only where the terminal has gone, and then there is nothing to restore.
        let _ = tcsetattr(io::stdin(), OptionalActions::Now, &self.before);
    }
}
