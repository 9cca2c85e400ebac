//! The files of a log: numbered, bounded in size and number, the newest under a link. See [`hull_wire::LogPlan`].
//!
//! The next file is made before the link leads to it, and the link is replaced in one step. So whatever moment the shim ends at, the
//! next one finds the newest file. No number comes twice, whatever becomes of the link.

use std::os::fd::OwnedFd;

use hull_wire::{LogPlan, Step, log_file, log_number};
use nix::errno::Errno;
use nix::fcntl::{OFlag, open, openat, readlinkat, renameat};
use nix::sys::stat::{Mode, fstat};
use nix::sys::uio::pread;
use nix::unistd::{UnlinkatFlags, ftruncate, symlinkat, unlinkat, write};

use crate::failure::{At, Result};

/// The files.
#[derive(Debug)]
pub(crate) struct Files {
    directory: OwnedFd,
    /// Name of the link.
    link: String,
    newest: OwnedFd,
    /// Number of the newest.
    number: u64,
    /// Bytes of whole lines in the newest.
    size: u64,
    /// A part of a line is behind them that could not be taken back.
    torn: bool,
    max_size: u64,
    max_files: u64,
}

impl Files {
    /// Opens a log, and makes it if it is missing.
    pub(crate) fn open(plan: &LogPlan) -> Result<Self> {
        Self::find(plan).at(Step::RunDir, &plan.path)
    }

    fn find(plan: &LogPlan) -> nix::Result<Self> {
        let (path, link) = plan.path.rsplit_once('/').ok_or(Errno::EINVAL)?;
        let directory = open(path, OFlag::O_RDONLY | OFlag::O_DIRECTORY | OFlag::O_CLOEXEC, Mode::empty())?;
        let linked = linked(&directory, link)?;
        let numbers = numbers(path, link)?;
        let number = numbers.iter().copied().chain(linked).max().unwrap_or(0);
        let newest = open_file(&directory, &log_file(link, number))?;
        let mut files = Self {
            link: link.to_owned(),
            size: 0,
            torn: false,
            max_size: plan.max_size,
            max_files: plan.max_files.max(1).into(),
            directory,
            newest,
            number,
        };
        files.size = size(&files.newest)?;
        if linked != Some(number) {
            files.show()?;
        }
        // What follows a line that a crash has torn would be taken for its rest.
        if files.is_torn() {
            files.next()?;
        }
        for old in numbers {
            if old.saturating_add(files.max_files) <= files.number {
                files.remove(old);
            }
        }
        Ok(files)
    }

    /// Most bytes of lines that are taken at once.
    pub(super) fn most(&self) -> usize {
        usize::try_from(self.max_size).unwrap_or(usize::MAX)
    }

    /// Appends whole lines, in a new file where they have no room in this one. Returns how much of them was written, which is whole
    /// lines again.
    pub(super) fn append(&mut self, lines: &[u8]) -> usize {
        let more = lines.len() as u64;
        if self.torn && self.cut().is_err() && self.next().is_err() {
            return 0;
        }
        if self.size > 0 && self.size.saturating_add(more) > self.max_size && self.next().is_err() {
            return 0;
        }
        let written = write_all(&self.newest, lines);
        let whole = match written == lines.len() {
            true => written,
            false => memchr::memrchr(b'\n', &lines[..written]).map_or(0, |end| end + 1),
        };
        self.size += whole as u64;
        if whole < written {
            self.torn = true;
            // Otherwise before the next line.
            let _stays_torn = self.cut();
        }
        whole
    }

    /// Takes back what is behind the last whole line.
    fn cut(&mut self) -> nix::Result<()> {
        ftruncate(&self.newest, i64::try_from(self.size).map_err(|_| Errno::EFBIG)?)?;
        self.torn = false;
        Ok(())
    }

    /// Begins the next file. The oldest goes before, so that its room is there for the new one.
    fn next(&mut self) -> nix::Result<()> {
        let number = self.number.checked_add(1).ok_or(Errno::EOVERFLOW)?;
        if let Some(old) = number.checked_sub(self.max_files) {
            self.remove(old);
        }
        let newest = open_file(&self.directory, &log_file(&self.link, number))?;
        (self.size, self.newest, self.number, self.torn) = (size(&newest)?, newest, number, false);
        // Readers go by the numbers; the link is for people, and the next file will have it.
        let _shown_later = self.show();
        Ok(())
    }

    /// Makes the link lead to the newest file.
    fn show(&self) -> nix::Result<()> {
        let link = self.link.as_str();
        let new = format!("{link}~");
        let target = log_file(link, self.number);
        match symlinkat(target.as_str(), &self.directory, new.as_str()) {
            Err(Errno::EEXIST) => {
                unlinkat(&self.directory, new.as_str(), UnlinkatFlags::NoRemoveDir)?;
                symlinkat(target.as_str(), &self.directory, new.as_str())?;
            }
            made => made?,
        }
        renameat(&self.directory, new.as_str(), &self.directory, link)
    }

    /// Removes a file that is too much. What can't be removed now is when the log is opened again.
    fn remove(&self, number: u64) {
        let _later = unlinkat(&self.directory, log_file(&self.link, number).as_str(), UnlinkatFlags::NoRemoveDir);
    }

    fn is_torn(&self) -> bool {
        let mut last = [b'\n'];
        let Some(end) = self.size.checked_sub(1).and_then(|end| i64::try_from(end).ok()) else { return false };
        pread(&self.newest, &mut last, end).is_ok_and(|length| length == 1) && last != [b'\n']
    }
}

/// The number of the file that the link leads to. A file in its place is a log from before logs had numbers: it becomes the first.
fn linked(directory: &OwnedFd, link: &str) -> nix::Result<Option<u64>> {
    match readlinkat(directory, link) {
        Ok(target) => Ok(target.to_str().and_then(|name| log_number(link, name))),
        Err(Errno::ENOENT) => Ok(None),
        Err(Errno::EINVAL) => {
            renameat(directory, link, directory, log_file(link, 0).as_str())?;
            Ok(None)
        }
        Err(errno) => Err(errno),
    }
}

/// Numbers of the files in a directory.
fn numbers(directory: &str, link: &str) -> nix::Result<Vec<u64>> {
    let failed = |error: std::io::Error| error.raw_os_error().map_or(Errno::EIO, Errno::from_raw);
    let mut numbers = Vec::new();
    for entry in std::fs::read_dir(directory).map_err(failed)? {
        let name = entry.map_err(failed)?.file_name();
        numbers.extend(name.to_str().and_then(|name| log_number(link, name)));
    }
    Ok(numbers)
}

fn open_file(directory: &OwnedFd, name: &str) -> nix::Result<OwnedFd> {
    let flags = OFlag::O_RDWR | OFlag::O_CREAT | OFlag::O_APPEND | OFlag::O_NOFOLLOW | OFlag::O_NOCTTY;
    openat(directory, name, flags | OFlag::O_CLOEXEC, Mode::from_bits_truncate(0o640))
}

fn size(file: &OwnedFd) -> nix::Result<u64> {
    Ok(u64::try_from(fstat(file)?.st_size).unwrap_or_default())
}

/// Writes everything, or as much as there is room for, and returns how much that was.
fn write_all(file: &OwnedFd, bytes: &[u8]) -> usize {
    let mut total = 0;
    while total < bytes.len() {
        match write(file, &bytes[total..]) {
            Err(Errno::EINTR) => {}
            Ok(0) | Err(_) => break,
            Ok(written) => total += written,
        }
    }
    total
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::path::Path;

    use super::*;

    fn plan(directory: &Path, max_size: u64, max_files: u32) -> LogPlan {
        LogPlan { path: directory.join("log").display().to_string(), max_size, max_files, rate: None }
    }

    fn names(directory: &Path) -> Vec<String> {
        let entries = fs::read_dir(directory).unwrap();
        let mut names: Vec<_> = entries.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
        names.sort();
        names
    }

    #[test]
    fn files_are_bounded_and_the_link_shows_the_newest() {
        let directory = tempfile::tempdir().unwrap();
        let mut files = Files::open(&plan(directory.path(), 10, 2)).unwrap();
        for line in ["one\n", "two\n", "three\n", "four\n", "five\n"] {
            assert_eq!(files.append(line.as_bytes()), line.len());
        }
        assert_eq!(names(directory.path()), ["log", "log.1", "log.2"]);
        assert_eq!(fs::read_to_string(directory.path().join("log.1")).unwrap(), "three\n");
        assert_eq!(fs::read_to_string(directory.path().join("log")).unwrap(), "four\nfive\n");
        // Fewer the next time: what is too much goes at once.
        drop(files);
        Files::open(&plan(directory.path(), 10, 1)).unwrap();
        assert_eq!(names(directory.path()), ["log", "log.2"]);
    }

    #[test]
    fn an_interrupted_rotation_is_gone_on_with() {
        let directory = tempfile::tempdir().unwrap();
        let at = |name: &str| directory.path().join(name);
        Files::open(&plan(directory.path(), 10, 3)).unwrap().append(b"old\n");
        // The next file was made, and the link under its first name; then the shim ended.
        fs::write(at("log.1"), "new\n").unwrap();
        std::os::unix::fs::symlink("log.9", at("log~")).unwrap();
        let mut files = Files::open(&plan(directory.path(), 10, 3)).unwrap();
        files.append(b"next\n");
        assert_eq!(fs::read_to_string(at("log")).unwrap(), "new\nnext\n");
        assert_eq!(names(directory.path()), ["log", "log.0", "log.1"]);
    }

    #[test]
    fn no_number_comes_twice_and_no_gap_keeps_files() {
        let directory = tempfile::tempdir().unwrap();
        for name in ["log.2", "log.3", "log.6", "log.7"] {
            fs::write(directory.path().join(name), format!("{name}\n")).unwrap();
        }
        let mut files = Files::open(&plan(directory.path(), 10, 3)).unwrap();
        assert_eq!(names(directory.path()), ["log", "log.6", "log.7"]);
        assert_eq!(files.append(b"more\n"), 5);
        assert_eq!(fs::read_to_string(directory.path().join("log")).unwrap(), "more\n");
        assert_eq!(names(directory.path()), ["log", "log.6", "log.7", "log.8"]);
    }

    #[test]
    fn a_log_without_numbers_becomes_the_first_file() {
        let directory = tempfile::tempdir().unwrap();
        fs::write(directory.path().join("log"), "old\n").unwrap();
        Files::open(&plan(directory.path(), 100, 3)).unwrap().append(b"new\n");
        assert_eq!(fs::read_to_string(directory.path().join("log.0")).unwrap(), "old\nnew\n");
        assert_eq!(names(directory.path()), ["log", "log.0"]);
    }

    #[test]
    fn nothing_is_written_after_a_torn_line() {
        let directory = tempfile::tempdir().unwrap();
        Files::open(&plan(directory.path(), 100, 3)).unwrap();
        fs::write(directory.path().join("log.0"), "whole\nto").unwrap();
        Files::open(&plan(directory.path(), 100, 3)).unwrap().append(b"new\n");
        assert_eq!(fs::read_to_string(directory.path().join("log.0")).unwrap(), "whole\nto");
        assert_eq!(fs::read_to_string(directory.path().join("log")).unwrap(), "new\n");
    }
}
