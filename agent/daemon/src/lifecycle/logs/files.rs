//! The files of a log, as the shim makes them: see [`hull_wire::LogPlan`].

use std::fs::File;
use std::io::{ErrorKind, Result};
use std::num::ParseIntError;
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};
use std::str::FromStr;

use hull_wire::{log_file, log_number};
use nix::libc::{ELOOP, O_NOFOLLOW};

/// A place in a log. It stays one for ever: a file that has a successor does not change, and no number comes twice.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Place {
    /// Of the file.
    pub(super) number: u64,
    pub(super) offset: u64,
}

impl std::fmt::Display for Place {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(formatter, "{}.{}", self.number, self.offset)
    }
}

impl FromStr for Place {
    type Err = ParseIntError;

    fn from_str(text: &str) -> std::result::Result<Self, ParseIntError> {
        let (number, offset) = text.split_once('.').unwrap_or((text, ""));
        Ok(Self { number: number.parse()?, offset: offset.parse()? })
    }
}

/// Where they are.
#[derive(Debug)]
pub(super) struct Files {
    directory: PathBuf,
    /// Name of the link to the newest.
    link: String,
}

impl Files {
    pub(super) fn new(link: &Path) -> Self {
        let name = link.file_name().unwrap_or_default().to_string_lossy().into_owned();
        Self { directory: link.parent().unwrap_or(Path::new("/")).to_owned(), link: name }
    }

    /// Numbers of the files, in their order. None: nothing was written yet.
    pub(super) fn numbers(&self) -> Result<Vec<u64>> {
        let entries = match std::fs::read_dir(&self.directory) {
            Ok(entries) => entries,
            // The container is being removed.
            Err(error) if error.kind() == ErrorKind::NotFound => return Ok(Vec::new()),
            Err(error) => return Err(error),
        };
        let mut numbers = Vec::new();
        for entry in entries {
            numbers.extend(entry?.file_name().to_str().and_then(|name| log_number(&self.link, name)));
        }
        numbers.sort_unstable();
        if numbers.is_empty() && self.open(0)?.is_some() {
            numbers.push(0);
        }
        Ok(numbers)
    }

    /// Opens a file; `None`: it is not there.
    pub(super) fn open(&self, number: u64) -> Result<Option<File>> {
        let found = self.open_name(&log_file(&self.link, number))?;
        // A log from before logs had numbers is one file, in the place of the link.
        if found.is_none() && number == 0 { self.open_name(&self.link) } else { Ok(found) }
    }

    fn open_name(&self, name: &str) -> Result<Option<File>> {
        match File::options().read(true).custom_flags(O_NOFOLLOW).open(self.directory.join(name)) {
            Ok(file) => Ok(Some(file)),
            Err(error) if error.kind() == ErrorKind::NotFound || error.raw_os_error() == Some(ELOOP) => Ok(None),
            Err(error) => Err(error),
        }
    }
}

/// Bytes in all files of a log; those that cannot be asked count as empty.
pub(crate) fn bytes(link: &Path) -> u64 {
    let files = Files::new(link);
    let length =
        |number| files.open(number).ok().flatten().and_then(|file| file.metadata().ok()).map_or(0, |file| file.len());
    files.numbers().unwrap_or_default().into_iter().map(length).sum()
}
