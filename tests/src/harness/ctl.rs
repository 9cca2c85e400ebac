//! `hullctl` as a process, with pipes or on a terminal.

use std::fs::File;
use std::io::{Read as _, Write as _};
use std::num::NonZero;
use std::os::fd::AsFd as _;
use std::process::{Child, Command, Stdio};
use std::time::Instant;

use nix::poll::{PollFd, PollFlags, PollTimeout, poll};

use super::{Agent, agent, wait};

/// What `hullctl` wrote, and its exit code.
#[derive(Debug)]
pub struct Ctl {
    /// Exit code; 128 + signal where one ended it.
    pub code: i32,
    /// Standard output.
    pub stdout: Vec<u8>,
    /// Standard error.
    pub stderr: Vec<u8>,
}

impl Ctl {
    /// `hullctl` for an agent, not yet started.
    pub fn command(agent: &Agent, words: &[&str]) -> Command {
        let mut command = Command::new(agent::binary("hullctl"));
        command.arg("-H").arg(agent.endpoint()).args(words).stdin(Stdio::null());
        command
    }

    /// Runs `hullctl` to its end.
    ///
    /// # Panics
    /// If it does not end in time.
    pub fn run(agent: &Agent, words: &[&str]) -> Self {
        Self::finish(Self::command(agent, words), &[])
    }

    /// Runs `hullctl` with bytes on its standard input.
    pub fn run_with(agent: &Agent, words: &[&str], input: &[u8]) -> Self {
        let mut command = Self::command(agent, words);
        command.stdin(Stdio::piped());
        Self::finish(command, input)
    }

    /// Runs a command to its end, with bytes on its standard input if that is a pipe.
    ///
    /// # Panics
    /// If it does not end in time.
    pub fn finish(mut command: Command, input: &[u8]) -> Self {
        let described = format!("{command:?}");
        let mut child = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().expect("starting hullctl");
        let mut stdout = child.stdout.take().expect("a pipe");
        let mut stderr = child.stderr.take().expect("a pipe");
        let stdin = child.stdin.take();
        std::thread::scope(|scope| {
            scope.spawn(move || {
                if let Some(mut stdin) = stdin {
                    // A program that has read enough may close its end.
                    let _closed = stdin.write_all(input);
                }
            });
            let out = scope.spawn(move || read_all(&mut stdout));
            let err = scope.spawn(move || read_all(&mut stderr));
            let code = exit_code(&mut child, &described);
            Self { code, stdout: out.join().expect("reading"), stderr: err.join().expect("reading") }
        })
    }

    /// Standard output as text, without the last line's end.
    pub fn text(&self) -> String {
        String::from_utf8_lossy(&self.stdout).trim_end().to_owned()
    }

    /// Standard error as text.
    pub fn error(&self) -> String {
        String::from_utf8_lossy(&self.stderr).trim_end().to_owned()
    }

    /// Standard output, of a command that must succeed.
    ///
    /// # Panics
    /// If it did not.
    pub fn ok(self) -> String {
        assert_eq!(self.code, 0, "stdout: {}\nstderr: {}", self.text(), self.error());
        self.text()
    }
}

fn read_all(from: &mut impl std::io::Read) -> Vec<u8> {
    let mut data = Vec::new();
    from.read_to_end(&mut data).expect("reading from hullctl");
    data
}

/// Waits for a process, with the deadline of all waits; kills it after that.
fn exit_code(child: &mut Child, described: &str) -> i32 {
    use std::os::unix::process::ExitStatusExt as _;
    let start = Instant::now();
    loop {
        if let Some(status) = child.try_wait().expect("waiting for hullctl") {
            return status.code().unwrap_or_else(|| 128 + status.signal().unwrap_or(0));
        }
        if start.elapsed() > wait::soon() * 3 {
            let _gone = child.kill();
            let _status = child.wait();
            panic!("{described} did not end in {:?}", start.elapsed());
        }
        std::thread::sleep(std::time::Duration::from_millis(2));
    }
}

/// `hullctl` on a terminal of its own.
pub struct Pty {
    child: Child,
    master: File,
    seen: String,
    screen: vt100::Parser,
}

impl Pty {
    /// Starts `hullctl` on a new terminal of a size.
    ///
    /// # Panics
    /// If it cannot.
    pub fn start(agent: &Agent, words: &[&str], rows: u16, columns: u16) -> Self {
        Self::start_with(agent, words, rows, columns, &[])
    }

    /// The same, with variables of the environment.
    ///
    /// # Panics
    /// If it cannot.
    pub fn start_with(agent: &Agent, words: &[&str], rows: u16, columns: u16, variables: &[(&str, &str)]) -> Self {
        let size = nix::pty::Winsize { ws_row: rows, ws_col: columns, ws_xpixel: 0, ws_ypixel: 0 };
        let pair = nix::pty::openpty(Some(&size), None).expect("openpty");
        let mut command = Command::new("setsid");
        command
            .arg("--ctty")
            .arg("--wait")
            .arg(agent::binary("hullctl"))
            .arg("-H")
            .arg(agent.endpoint())
            .args(words)
            .env("TERM", "xterm")
            .envs(variables.iter().copied());
        let slave = || Stdio::from(pair.slave.try_clone().expect("dup"));
        let child = command.stdin(slave()).stdout(slave()).stderr(slave()).spawn().expect("starting hullctl");
        let screen = vt100::Parser::new(cells(rows), cells(columns), 0);
        Self { child, master: File::from(pair.master), seen: String::new(), screen }
    }

    /// Process id of `hullctl`.
    pub fn pid(&self) -> i32 {
        i32::try_from(self.child.id()).expect("a process id")
    }

    /// Types.
    ///
    /// # Panics
    /// If the terminal is gone.
    pub fn write(&mut self, text: &str) {
        self.master.write_all(text.as_bytes()).expect("writing to the terminal");
    }

    /// Changes the size of the window.
    ///
    /// # Panics
    /// If the terminal is gone.
    pub fn resize(&mut self, rows: u16, columns: u16) {
        self.screen.screen_mut().set_size(cells(rows), cells(columns));
        let size = rustix::termios::Winsize { ws_row: rows, ws_col: columns, ws_xpixel: 0, ws_ypixel: 0 };
        rustix::termios::tcsetwinsize(&self.master, size).expect("resizing the terminal");
    }

    /// Reads until the terminal has shown a text; all that it showed since the last such text.
    ///
    /// # Panics
    /// If it does not show it in time.
    pub fn until(&mut self, text: &str) -> String {
        let start = Instant::now();
        loop {
            if let Some(at) = self.seen.find(text) {
                let rest = self.seen.split_off(at + text.len());
                return std::mem::replace(&mut self.seen, rest);
            }
            assert!(self.read(), "the terminal ended before {text:?}: {:?}", self.seen);
            assert!(start.elapsed() < wait::soon(), "{text:?} did not come: {:?}", self.seen);
        }
    }

    /// What a person sees.
    pub fn screen(&self) -> &vt100::Screen {
        self.screen.screen()
    }

    /// Reads until what a person sees fulfils a condition.
    ///
    /// # Panics
    /// If it does not in time.
    pub fn until_seen(&mut self, what: &str, fulfilled: impl Fn(&str) -> bool) {
        let start = Instant::now();
        while !fulfilled(&self.screen().contents()) {
            let ended = !self.read();
            assert!(!ended && start.elapsed() < wait::soon(), "{what}: {}", self.screen().contents());
        }
    }

    /// Whether lines are edited and echoed by the terminal, as a shell leaves it.
    ///
    /// # Panics
    /// If the terminal is gone.
    pub fn is_cooked(&self) -> bool {
        use rustix::termios::LocalModes;
        let modes = rustix::termios::tcgetattr(&self.master).expect("tcgetattr").local_modes;
        modes.contains(LocalModes::ICANON | LocalModes::ECHO | LocalModes::ISIG)
    }

    /// Waits for the end without reading; the exit code.
    pub fn wait_unread(&mut self) -> i32 {
        exit_code(&mut self.child, "hullctl on a terminal that nobody reads")
    }

    /// Reads what there is; false at the end.
    fn read(&mut self) -> bool {
        let mut ready = [PollFd::new(self.master.as_fd(), PollFlags::POLLIN)];
        if poll(&mut ready, PollTimeout::from(100_u8)).unwrap_or(0) == 0 {
            return true;
        }
        let mut buffer = [0_u8; 4096];
        match self.master.read(&mut buffer) {
            Ok(0) | Err(_) => false,
            Ok(length) => {
                self.screen.process(&buffer[..length]);
                self.seen.push_str(&String::from_utf8_lossy(&buffer[..length]));
                true
            }
        }
    }

    /// Reads to the end; the exit code and what was shown since the last text that was waited for.
    pub fn finish(mut self) -> (i32, String) {
        let code = self.end();
        (code, std::mem::take(&mut self.seen))
    }

    /// Reads to the end; the exit code.
    pub fn end(&mut self) -> i32 {
        let start = Instant::now();
        while self.read()
            && start.elapsed() < wait::soon()
            && self.child.try_wait().is_ok_and(|status| status.is_none())
        {}
        exit_code(&mut self.child, "hullctl on a terminal")
    }
}

impl std::fmt::Debug for Pty {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Pty").field("child", &self.child).field("seen", &self.seen).finish_non_exhaustive()
    }
}

/// Rows or columns of a terminal that can be looked at.
fn cells(count: u16) -> NonZero<u16> {
    NonZero::new(count).expect("a terminal with cells")
}

impl Drop for Pty {
    fn drop(&mut self) {
        if self.child.try_wait().is_ok_and(|status| status.is_none()) {
            let _gone = self.child.kill();
            let _status = self.child.wait();
        }
    }
}
