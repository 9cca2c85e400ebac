//! Raw mode, and the size of the terminal.

use std::io::{self, IsTerminal as _};

use hull_proto::v1::TerminalSize;
use rustix::termios::{OptionalActions, Termios, tcgetattr, tcgetwinsize, tcsetattr};

use crate::error::{Error, Result};

/// The terminal of standard input in raw mode: every key goes to the container. The old mode comes back when this goes,
/// a panic included.
#[derive(Debug)]
pub(crate) struct RawMode {
    before: Termios,
}

impl RawMode {
    /// Switches to raw mode.
    pub(crate) fn enter() -> Result<Self> {
        let wrong = |errno| Error::new(format!("setting the terminal to raw mode: {errno}"));
        let before = tcgetattr(io::stdin()).map_err(wrong)?;
        let mut raw = before.clone();
        raw.make_raw();
        tcsetattr(io::stdin(), OptionalActions::Now, &raw).map_err(wrong)?;
        Ok(Self { before })
    }

    /// Switches back, ahead of its end.
    pub(super) fn restore(&self) {
        // It fails only where the terminal has gone, and then there is nothing to restore.
        let _ = tcsetattr(io::stdin(), OptionalActions::Now, &self.before);
    }
}

impl Drop for RawMode {
    fn drop(&mut self) {
        self.restore();
    }
}

/// Whether standard input is a terminal.
pub(crate) fn stdin_is_terminal() -> bool {
    io::stdin().is_terminal()
}

/// Size of the terminal that the caller looks at; nothing where there is none or it has no size.
pub(crate) fn terminal_size() -> Option<TerminalSize> {
    let size = tcgetwinsize(io::stdout()).or_else(|_| tcgetwinsize(io::stdin())).ok()?;
    let size = TerminalSize { rows: size.ws_row.into(), columns: size.ws_col.into() };
    (size.rows > 0 && size.columns > 0).then_some(size)
}
