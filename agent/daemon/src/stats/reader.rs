//! Reads what one container uses, from files that stay open: a reading is one pread(2) per file into a buffer that is used again.

use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};

use super::parse::{self, Counted};
use super::sample::Usage;
use crate::runtime::cgroup::{StatDirs, Version};

/// The most that one file is read of; the kernel's own are some kilobytes.
const MAX_FILE: usize = 1 << 20;

/// Where a number in a file goes.
type Parse = fn(&[u8], &mut Usage);

/// A control file and what to do with its text.
#[derive(Debug)]
struct Source {
    path: PathBuf,
    parse: Parse,
    file: Kept,
}

#[derive(Debug)]
enum Kept {
    /// Opened for each reading.
    No,
    /// Stays open.
    Open(File),
    /// This kernel has no such file.
    Missing,
}

/// Reads one container.
#[derive(Debug)]
pub(super) struct Reader {
    sources: Vec<Source>,
    keep: bool,
}

/// The container's groups are gone.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Gone;

impl Reader {
    /// A reader of these directories. `keep`: keep the files open between readings, [`Self::descriptors`] of them at most.
    pub(super) fn new(dirs: &StatDirs, keep: bool) -> Self {
        let mut sources = Vec::with_capacity(12);
        let mut add = |dir: &Path, name: &str, parse: Parse| {
            sources.push(Source { path: dir.join(name), parse, file: Kept::No });
        };
        cpu_sources(dirs, &mut add);
        if let Some((dir, version)) = &dirs.memory {
            memory_sources(dir, *version, &mut add);
        }
        if let Some((dir, _)) = &dirs.pids {
            add(dir, "pids.current", |text, usage| usage.pids.current = parse::number(text));
            add(dir, "pids.max", |text, usage| usage.pids.limit = parse::number(text));
        }
        match &dirs.io {
            Some((dir, Version::V2)) => add(dir, "io.stat", |text, usage| parse::io_v2(text, &mut usage.io)),
            Some((dir, Version::V1)) => {
                add(dir, "blkio.throttle.io_service_bytes_recursive", |text, usage| {
                    parse::io_v1(text, Counted::Bytes, &mut usage.io);
                });
                add(dir, "blkio.throttle.io_serviced_recursive", |text, usage| {
                    parse::io_v1(text, Counted::Operations, &mut usage.io);
                });
            }
            None => {}
        }
        Self { sources, keep }
    }

    /// How many descriptors it keeps at most.
    pub(super) fn descriptors(&self) -> usize {
        if self.keep { self.sources.len() } else { 0 }
    }

    /// Reads everything. `buffer` is scratch space.
    ///
    /// # Errors
    /// [`Gone`] if not one file can be read.
    pub(super) fn read(&mut self, buffer: &mut Vec<u8>) -> Result<Usage, Gone> {
        let mut usage = Usage::default();
        let mut any = false;
        for source in &mut self.sources {
            if let Some(length) = source.read(self.keep, buffer) {
                (source.parse)(&buffer[..length], &mut usage);
                any = true;
            }
        }
        if any { Ok(usage) } else { Err(Gone) }
    }
}

fn cpu_sources(dirs: &StatDirs, add: &mut impl FnMut(&Path, &str, Parse)) {
    if let Some(dir) = &dirs.unified {
        add(dir, "cpu.stat", |text, usage| parse::cpu_v2(text, &mut usage.cpu));
    } else if let Some(dir) = &dirs.cpuacct_v1 {
        // Nanoseconds all three; cpuacct.stat would be in ticks of 10 ms.
        add(dir, "cpuacct.usage", |text, usage| usage.cpu.usage_nanos = parse::number(text));
        add(dir, "cpuacct.usage_user", |text, usage| usage.cpu.user_nanos = parse::number(text));
        add(dir, "cpuacct.usage_sys", |text, usage| usage.cpu.system_nanos = parse::number(text));
    }
    if let Some(dir) = &dirs.cpu_v1 {
        add(dir, "cpu.stat", |text, usage| parse::cpu_v1(text, &mut usage.cpu));
    }
}

fn memory_sources(dir: &Path, version: Version, add: &mut impl FnMut(&Path, &str, Parse)) {
    // Usage comes first: the working set is worked out from it.
    match version {
        Version::V2 => {
            add(dir, "memory.current", |text, usage| usage.memory.usage = parse::number(text));
            add(dir, "memory.stat", |text, usage| parse::memory_v2(text, &mut usage.memory));
            add(dir, "memory.events", |text, usage| usage.memory.oom_kills = parse::oom_kills(text));
            add(dir, "memory.swap.current", |text, usage| usage.memory.swap = parse::number(text));
            add(dir, "memory.peak", |text, usage| usage.memory.peak = parse::number(text));
            add(dir, "memory.max", |text, usage| usage.memory.limit = parse::number(text));
        }
        Version::V1 => {
            add(dir, "memory.usage_in_bytes", |text, usage| usage.memory.usage = parse::number(text));
            add(dir, "memory.stat", |text, usage| parse::memory_v1(text, &mut usage.memory));
            add(dir, "memory.oom_control", |text, usage| usage.memory.oom_kills = parse::oom_kills(text));
            add(dir, "memory.max_usage_in_bytes", |text, usage| usage.memory.peak = parse::number(text));
            add(dir, "memory.kmem.usage_in_bytes", |text, usage| usage.memory.kernel = parse::number(text));
        }
    }
}

impl Source {
    /// Fills the buffer; the length of what was read, `None` if there is nothing to read.
    fn read(&mut self, keep: bool, buffer: &mut Vec<u8>) -> Option<usize> {
        if !keep {
            return read_all(&File::open(&self.path).ok()?, buffer).ok();
        }
        if matches!(self.file, Kept::No) {
            self.file = match File::open(&self.path) {
                Ok(file) => Kept::Open(file),
                Err(error) if error.kind() == io::ErrorKind::NotFound => Kept::Missing,
                Err(_) => return None,
            };
        }
        let Kept::Open(file) = &self.file else { return None };
        read_all(file, buffer).ok()
    }
}

/// A control file gives its whole text to one read of sufficient size. ENODEV: the group is gone.
fn read_all(file: &File, buffer: &mut Vec<u8>) -> io::Result<usize> {
    loop {
        let length = file.read_at(buffer, 0)?;
        if length < buffer.len() || buffer.len() >= MAX_FILE {
            return Ok(length);
        }
        let larger = (buffer.len() * 2).clamp(8192, MAX_FILE);
        buffer.resize(larger, 0);
    }
}
