//! Files that stay open between readings, as many as the budget allows.

use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;

use nix::errno::Errno;
use nix::sys::resource::{Resource, getrlimit};

use crate::stats::sample::Usage;

/// The most that one file is read of; the kernel's own are some kilobytes, but for lists of very many processes.
const MAX_FILE: usize = 1 << 20;

/// How many descriptors may be kept. Beyond it files are opened for each reading.
#[derive(Debug)]
pub(in crate::stats) struct Budget {
    left: usize,
    /// Of those, what only files that are always read may take.
    reserved: usize,
    /// A file could not be opened for want of descriptors.
    exhausted: bool,
}

impl Budget {
    /// Three quarters of what the process may open; the rest is for sockets, shims and logs.
    pub(in crate::stats) fn of_process() -> Self {
        let limit = getrlimit(Resource::RLIMIT_NOFILE).map_or(0, |(soft, _)| soft);
        let left = usize::try_from(limit / 4 * 3).unwrap_or(usize::MAX);
        Self { left, reserved: left / 3, exhausted: false }
    }

    /// Whether one more may be kept.
    fn has_room(&self, keep: Keep) -> bool {
        match keep {
            Keep::First => self.left > 0,
            Keep::IfRoom => self.left > self.reserved,
            Keep::Never => false,
        }
    }
}

/// Whether a file is to stay open.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Keep {
    /// It is read each time.
    First,
    /// It is read often.
    IfRoom,
    /// It is read rarely.
    Never,
}

/// What is read with: scratch space, and what may be kept open.
#[derive(Debug)]
pub(in crate::stats) struct Scratch {
    pub(super) buffer: Vec<u8>,
    /// What the tell-tales of a container say.
    pub(super) tales: Usage,
    pub(super) budget: Budget,
}

impl Scratch {
    pub(in crate::stats) fn new(budget: Budget) -> Self {
        Self { buffer: Vec::new(), tales: Usage::default(), budget }
    }

    /// Whether a file could not be opened for want of descriptors: kept ones must go.
    pub(in crate::stats) fn is_exhausted(&self) -> bool {
        self.budget.exhausted
    }

    /// From now on nothing more is kept open.
    pub(in crate::stats) fn stop_keeping(&mut self) {
        self.budget = Budget { left: 0, reserved: 0, exhausted: false };
    }
}

/// A file that is read again and again.
#[derive(Debug, Default)]
pub(super) enum Kept {
    /// Opened for the next reading.
    #[default]
    No,
    /// Stays open.
    Open(File),
    /// There is no such file, and there will be none.
    Missing,
}

/// What came of a reading.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Outcome {
    /// So many bytes are in the buffer.
    Read(usize),
    /// There is no such file, or it does not tell.
    Absent,
    /// What it tells of is gone.
    Gone,
}

/// Why a file cannot be opened.
#[derive(Debug)]
pub(super) enum Unopened {
    /// It does not exist, and will not.
    Missing,
    /// What it tells of is gone.
    Gone,
    Error(io::Error),
}

impl Kept {
    /// Fills the buffer. `open` is called where the file is not open.
    pub(super) fn read(
        &mut self,
        open: impl Fn() -> Result<File, Unopened>,
        keep: Keep,
        scratch: &mut Scratch,
    ) -> Outcome {
        match self {
            Self::Missing => Outcome::Absent,
            Self::Open(file) => read_all(file, &mut scratch.buffer),
            Self::No => {
                let file = match open_within(open, &mut scratch.budget) {
                    Ok(file) => file,
                    Err(Unopened::Missing) => {
                        *self = Self::Missing;
                        return Outcome::Absent;
                    }
                    Err(Unopened::Gone) => return Outcome::Gone,
                    Err(Unopened::Error(error)) => {
                        tracing::debug!(%error, "a file with statistics cannot be opened");
                        return Outcome::Absent;
                    }
                };
                let outcome = read_all(&file, &mut scratch.buffer);
                if scratch.budget.has_room(keep) {
                    scratch.budget.left -= 1;
                    *self = Self::Open(file);
                }
                outcome
            }
        }
    }

    pub(super) fn close(&mut self, budget: &mut Budget) {
        if matches!(std::mem::take(self), Self::Open(_)) {
            budget.left += 1;
        }
    }
}

/// Whoever else opens files may use up the limit.
fn open_within(open: impl Fn() -> Result<File, Unopened>, budget: &mut Budget) -> Result<File, Unopened> {
    let result = open();
    if let Err(Unopened::Error(error)) = &result {
        let full = [Errno::EMFILE as i32, Errno::ENFILE as i32];
        budget.exhausted |= error.raw_os_error().is_some_and(|errno| full.contains(&errno));
    }
    result
}

/// A control file gives its whole text to one read of sufficient size. ENODEV: the group is gone.
fn read_all(file: &File, buffer: &mut Vec<u8>) -> Outcome {
    loop {
        match file.read_at(buffer, 0) {
            Ok(length) if length < buffer.len() || buffer.len() >= MAX_FILE => return Outcome::Read(length),
            Ok(_) => {
                let larger = (buffer.len() * 2).clamp(8192, MAX_FILE);
                buffer.resize(larger, 0);
            }
            Err(error) if error.raw_os_error() == Some(Errno::ENODEV as i32) => return Outcome::Gone,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(_) => return Outcome::Absent,
        }
    }
}
