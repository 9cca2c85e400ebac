//! The whole terminal as a picture. Pictures are made in memory and written by a thread: a terminal that takes its time costs
//! pictures, never whoever makes them. The terminal is as it was before when this goes, in a panic, too.

use std::cell::RefCell;
use std::io::{self, Write};
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use ratatui::backend::{Backend as _, ClearType, CrosstermBackend};
use ratatui::{Frame, Terminal};
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::termios::{QueueSelector, tcflush};
use tokio::time::timeout;

use super::raw::RawMode;
use super::stdio::{Sink, Writer};
use crate::error::{Error, Result};

/// The other screen, without a cursor.
const ENTER: &[u8] = b"\x1b[?1049h\x1b[?25l";
/// Back to the caller's: colours off, the cursor shown.
const LEAVE: &[u8] = b"\x1b[?2026l\x1b[0m\x1b[?25h\x1b[?1049l";
/// Terminals that know these show what is between them at once; others ignore them.
const BEGIN: &[u8] = b"\x1b[?2026h";
const END: &[u8] = b"\x1b[?2026l";
/// How long a terminal may take to show the last picture, and to be given back.
const PATIENCE: Duration = Duration::from_millis(500);

/// Bytes for the terminal.
#[derive(Debug, Clone, Default)]
struct Pending(Rc<RefCell<Vec<u8>>>);

impl Write for Pending {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.borrow_mut().extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// Gives the terminal back, once.
#[derive(Debug, Clone)]
struct Restore {
    raw: Arc<RawMode>,
    done: Arc<AtomicBool>,
}

impl Restore {
    fn restore(&self) {
        if self.done.swap(true, Ordering::SeqCst) {
            return;
        }
        let mut stdout = io::stdout();
        // Nobody can be told that the terminal has gone. One that does not read is left as it is, rather than waited for.
        let fd = rustix::stdio::stdout();
        let wait = Timespec { tv_sec: 0, tv_nsec: PATIENCE.subsec_nanos().into() };
        let mut ready = [PollFd::new(&fd, PollFlags::OUT)];
        if poll(&mut ready, Some(&wait)).is_ok_and(|count| count > 0) {
            let _ = stdout.write_all(LEAVE).and_then(|()| stdout.flush());
        }
        self.raw.restore();
    }
}

/// The terminal while it shows pictures.
#[derive(Debug)]
pub(crate) struct Screen {
    terminal: Terminal<CrosstermBackend<Pending>>,
    pending: Pending,
    writer: Option<Writer>,
    restore: Restore,
}

impl Screen {
    /// Takes the terminal of standard input and output.
    pub(crate) fn enter() -> Result<Self> {
        let wrong = |error: io::Error| Error::new(format!("setting up the terminal: {error}"));
        let pending = Pending::default();
        // One picture is written, one waits: what is seen is never old.
        let writer = Writer::spawn(1)?;
        let restore = Restore { raw: Arc::new(RawMode::enter()?), done: Arc::default() };
        let in_panic = restore.clone();
        let before = std::panic::take_hook();
        std::panic::set_hook(Box::new(move |panic| {
            in_panic.restore();
            before(panic);
        }));
        let terminal = Terminal::new(CrosstermBackend::new(pending.clone())).map_err(wrong)?;
        pending.0.borrow_mut().extend_from_slice(ENTER);
        Ok(Self { terminal, pending, writer: Some(writer), restore })
    }

    /// Makes a picture once the terminal has taken those before it. Cancel-safe.
    pub(crate) async fn draw(&mut self, picture: impl FnOnce(&mut Frame<'_>)) -> Result<()> {
        let Some(writer) = &self.writer else { return Ok(()) };
        let Some(room) = writer.room().await else { return Err(Error::BrokenPipe) };
        self.pending.0.borrow_mut().extend_from_slice(BEGIN);
        let drawn = self.terminal.draw(picture);
        drawn.map_err(|error| Error::new(format!("drawing: {error}")))?;
        self.pending.0.borrow_mut().extend_from_slice(END);
        let bytes = std::mem::take(&mut *self.pending.0.borrow_mut());
        room.send((Sink::Stdout, bytes.into()));
        Ok(())
    }

    /// The next picture is drawn whole, whatever the terminal shows.
    pub(crate) fn forget(&mut self) -> Result<()> {
        // Not `Terminal::clear`, which asks the terminal where its cursor is and waits for the answer.
        let cleared = self.terminal.backend_mut().clear_region(ClearType::All);
        cleared.map_err(|error| Error::new(format!("clearing the terminal: {error}")))?;
        self.terminal.swap_buffers();
        Ok(())
    }

    /// Gives the terminal back once it has shown the last picture, or does not want to.
    pub(crate) async fn leave(mut self) {
        let Some(writer) = self.writer.take() else { return };
        let mut finish = std::pin::pin!(writer.finish());
        if timeout(PATIENCE, &mut finish).await.is_err() {
            // What the terminal has not taken by now is thrown away, so that it can be given back.
            let _ = tcflush(io::stdout(), QueueSelector::OFlush);
            let _ = timeout(PATIENCE, finish).await;
        }
    }
}

impl Drop for Screen {
    fn drop(&mut self) {
        self.restore.restore();
    }
}

#[cfg(test)]
mod tests {
    use std::fs::File;
    use std::io::Read as _;
    use std::process::{Command, Stdio};

    use nix::pty::openpty;
    use rustix::termios::{LocalModes, tcgetattr};

    use super::*;

    #[test]
    #[ignore = "the program that a_panic_gives_the_terminal_back looks at"]
    fn panics_on_its_terminal() {
        let _screen = Screen::enter().unwrap();
        panic!("on purpose");
    }

    #[test]
    fn a_panic_gives_the_terminal_back_and_is_seen() {
        let pair = openpty(None, None).unwrap();
        let before = tcgetattr(&pair.master).unwrap();
        let slave = || Stdio::from(pair.slave.try_clone().unwrap());
        let mut program = Command::new(std::env::current_exe().unwrap());
        program.args(["--ignored", "--exact", "--nocapture", "terminal::screen::tests::panics_on_its_terminal"]);
        let mut child = program.stdin(slave()).stdout(slave()).stderr(slave()).spawn().unwrap();
        let master = pair.master.try_clone().unwrap();
        let reader = std::thread::spawn(move || {
            let mut shown = Vec::new();
            // A terminal that nobody holds any more answers EIO.
            let _ = File::from(master).read_to_end(&mut shown);
            String::from_utf8_lossy(&shown).into_owned()
        });
        assert!(!child.wait().unwrap().success());
        let after = tcgetattr(&pair.master).unwrap();
        drop((program, pair.slave));
        let shown = reader.join().unwrap();
        let left = shown.find("\u{1b}[?1049l").expect("the caller's screen");
        assert!(shown[left..].contains("on purpose"), "{shown:?}");
        assert!(after.local_modes.contains(LocalModes::ICANON | LocalModes::ECHO));
        assert_eq!((after.local_modes, after.output_modes), (before.local_modes, before.output_modes));
        assert_eq!(shown.matches("\u{1b}[?1049l").count(), 1, "{shown:?}");
    }
}
