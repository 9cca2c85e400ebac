//! Which file of a control group holds what.

use std::path::Path;
use std::sync::OnceLock;

use super::kept::Keep;
use crate::runtime::cgroup::{StatDirs, Version};
use crate::stats::group::{Group, Groups};
use crate::stats::parse::{self, Counted};
use crate::stats::sample::{HugetlbSize, Usage};

/// A control file and what to do with its text.
#[derive(Debug)]
pub(super) struct ControlFile {
    pub(super) group: Group,
    dir: Dir,
    name: &'static str,
    parse: Parse,
    pub(super) role: Role,
}

/// When a file is read, see [`super::rest`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Role {
    /// Always; it tells whether anything happened in the container.
    Telltale,
    /// Always: it changes while no process of the container runs.
    Always,
    /// Until what it tells of is over.
    Stalls,
    /// Where limits were changed.
    Limit,
    /// Where something happened: only processes of the container change it, and who sets limits.
    Own,
    /// As [`Role::Own`], but not for a single thread, which is one process: the numbers of processes.
    Members,
    /// As [`Role::Members`]: whether there are others.
    Nested,
}

impl Role {
    /// Whether such a file is to stay open between readings.
    pub(super) fn keep(self) -> Keep {
        match self {
            Self::Telltale | Self::Always => Keep::First,
            Self::Stalls | Self::Own | Self::Members | Self::Nested => Keep::IfRoom,
            Self::Limit => Keep::Never,
        }
    }
}

/// In which of the container's directories a file is.
#[derive(Debug, Clone, Copy)]
enum Dir {
    Unified,
    CpuV1,
    CpuacctV1,
    Memory,
    Pids,
    Io,
    Hugetlb,
}

/// Where the numbers in a file go.
#[derive(Debug, Clone, Copy)]
enum Parse {
    Usage(fn(&[u8], &mut Usage)),
    PageSize(&'static str, fn(&[u8], &mut HugetlbSize)),
}

impl ControlFile {
    /// Its directory, for a container with these; `None` if it has no such group.
    pub(super) fn dir<'a>(&self, dirs: &'a StatDirs) -> Option<&'a Path> {
        match self.dir {
            Dir::Unified => dirs.unified.as_deref(),
            Dir::CpuV1 => dirs.cpu_v1.as_deref(),
            Dir::CpuacctV1 => dirs.cpuacct_v1.as_deref(),
            Dir::Memory => dirs.memory.as_ref().map(|(dir, _)| dir.as_path()),
            Dir::Pids => dirs.pids.as_ref().map(|(dir, _)| dir.as_path()),
            Dir::Io => dirs.io.as_ref().map(|(dir, _)| dir.as_path()),
            Dir::Hugetlb => dirs.hugetlb.as_ref().map(|(dir, _)| dir.as_path()),
        }
    }

    /// Whether these groups need it: who counts open files has to know of processes.
    pub(super) fn is_for(&self, groups: Groups) -> bool {
        let of_processes =
            matches!(self.role, Role::Members | Role::Nested | Role::Telltale) && self.group == Group::Pids;
        groups.has(self.group) || (of_processes && groups.has(Group::OpenFiles))
    }

    pub(super) fn name(&self) -> &'static str {
        self.name
    }

    pub(super) fn parse(&self, text: &[u8], usage: &mut Usage) {
        match self.parse {
            Parse::Usage(parse) => parse(text, usage),
            Parse::PageSize(page_size, parse) => parse(text, usage.hugetlb.size(page_size)),
        }
    }
}

/// The files of a container that has these directories, in the order in which they are to be read.
pub(super) fn of(dirs: &StatDirs) -> impl Iterator<Item = &'static ControlFile> {
    let when = |there: bool, files: &'static [ControlFile]| if there { files } else { &[] };
    let memory = match dirs.memory {
        Some((_, Version::V2)) => MEMORY_V2,
        Some((_, Version::V1)) => MEMORY_V1,
        None => &[],
    };
    let io = match dirs.io {
        Some((_, Version::V2)) => IO_V2,
        Some((_, Version::V1)) => IO_V1,
        None => &[],
    };
    let hugetlb = match dirs.hugetlb {
        Some((_, version)) => hugetlb(version),
        None => &[],
    };
    let all = [
        when(dirs.unified.is_some(), UNIFIED),
        when(dirs.unified.is_none() && dirs.cpuacct_v1.is_some(), CPUACCT_TOTALS),
        when(dirs.cpuacct_v1.is_some(), CPUACCT),
        when(dirs.cpu_v1.is_some(), CPU_V1),
        memory,
        when(dirs.pids.is_some(), PIDS),
        io,
        hugetlb,
    ];
    all.into_iter().flatten()
}

const fn file(group: Group, dir: Dir, name: &'static str, parse: fn(&[u8], &mut Usage)) -> ControlFile {
    ControlFile { group, dir, name, parse: Parse::Usage(parse), role: Role::Own }
}

impl ControlFile {
    const fn with(self, role: Role) -> Self {
        Self { role, ..self }
    }
}

/// Version 2 does these without a controller, so that they are there on hybrid hosts, too.
static UNIFIED: &[ControlFile] = &[
    file(Group::Cpu, Dir::Unified, "cpu.stat", |text, usage| parse::cpu_v2(text, &mut usage.cpu)).with(Role::Telltale),
    file(Group::Pids, Dir::Unified, "cgroup.procs", |text, usage| {
        usage.pids.processes = Some(parse::count_lines(text));
    })
    .with(Role::Members),
    file(Group::Pids, Dir::Unified, "cgroup.stat", |text, usage| {
        // Processes of nested groups are in none of the lines above.
        if parse::value_of(text, b"nr_descendants") != Some(0) {
            usage.pids.processes = None;
        }
    })
    .with(Role::Nested),
    // Whoever waits for a processor does not run.
    file(Group::Pressure, Dir::Unified, "cpu.pressure", |text, usage| {
        parse::pressure(text, &mut usage.pressure.cpu);
    })
    .with(Role::Always),
    file(Group::Pressure, Dir::Unified, "memory.pressure", |text, usage| {
        parse::pressure(text, &mut usage.pressure.memory);
    })
    .with(Role::Stalls),
    file(Group::Pressure, Dir::Unified, "io.pressure", |text, usage| {
        parse::pressure(text, &mut usage.pressure.io);
    })
    .with(Role::Stalls),
];

/// What version 2 tells better where it is there. In nanoseconds; `cpuacct.stat` would be in hundredths of a second.
static CPUACCT_TOTALS: &[ControlFile] = &[
    file(Group::Cpu, Dir::CpuacctV1, "cpuacct.usage", |text, usage| usage.cpu.usage_nanos = parse::number(text))
        .with(Role::Telltale),
    file(Group::Cpu, Dir::CpuacctV1, "cpuacct.usage_user", |text, usage| usage.cpu.user_nanos = parse::number(text)),
    file(Group::Cpu, Dir::CpuacctV1, "cpuacct.usage_sys", |text, usage| usage.cpu.system_nanos = parse::number(text)),
];

static CPUACCT: &[ControlFile] =
    &[file(Group::Cpu, Dir::CpuacctV1, "cpuacct.usage_percpu", |text, usage| parse::per_cpu(text, &mut usage.cpu))];

static CPU_V1: &[ControlFile] =
    &[file(Group::Cpu, Dir::CpuV1, "cpu.stat", |text, usage| parse::cpu_v1(text, &mut usage.cpu))];

/// Usage comes first: the working set is worked out from it.
static MEMORY_V2: &[ControlFile] = &[
    memory("memory.current", |text, usage| usage.memory.usage = parse::number(text)).with(Role::Telltale),
    memory("memory.stat", |text, usage| parse::memory_v2(text, &mut usage.memory)),
    memory("memory.events", |text, usage| parse::memory_events(text, &mut usage.memory)),
    memory("memory.swap.current", |text, usage| usage.memory.swap = parse::number(text)),
    memory("memory.peak", |text, usage| usage.memory.peak = parse::number(text)),
    memory("memory.max", |text, usage| usage.memory.limit = parse::number(text)).with(Role::Limit),
];

/// As above.
static MEMORY_V1: &[ControlFile] = &[
    memory("memory.usage_in_bytes", |text, usage| usage.memory.usage = parse::number(text)).with(Role::Telltale),
    memory("memory.stat", |text, usage| parse::memory_v1(text, &mut usage.memory)),
    memory("memory.oom_control", |text, usage| parse::oom_control(text, &mut usage.memory)),
    memory("memory.failcnt", |text, usage| usage.memory.max_events = parse::number(text)),
    memory("memory.max_usage_in_bytes", |text, usage| usage.memory.peak = parse::number(text)),
    memory("memory.kmem.usage_in_bytes", |text, usage| usage.memory.kernel = parse::number(text)),
];

const fn memory(name: &'static str, parse: fn(&[u8], &mut Usage)) -> ControlFile {
    file(Group::Memory, Dir::Memory, name, parse)
}

static PIDS: &[ControlFile] = &[
    file(Group::Pids, Dir::Pids, "pids.current", |text, usage| usage.pids.current = parse::number(text))
        .with(Role::Telltale),
    file(Group::Pids, Dir::Pids, "pids.max", |text, usage| usage.pids.limit = parse::number(text)).with(Role::Limit),
];

/// Written back is long after whoever wrote has gone to sleep.
static IO_V2: &[ControlFile] =
    &[file(Group::Io, Dir::Io, "io.stat", |text, usage| parse::io_v2(text, &mut usage.io)).with(Role::Always)];

static IO_V1: &[ControlFile] = &[
    file(Group::Io, Dir::Io, "blkio.throttle.io_service_bytes_recursive", |text, usage| {
        parse::io_v1(text, Counted::Bytes, &mut usage.io);
    }),
    file(Group::Io, Dir::Io, "blkio.throttle.io_serviced_recursive", |text, usage| {
        parse::io_v1(text, Counted::Operations, &mut usage.io);
    }),
];

/// Where the kernel lists the sizes of huge pages, see Documentation/admin-guide/mm/hugetlbpage.rst.
const PAGE_SIZES: &str = "/sys/kernel/mm/hugepages";

/// The files of each page size. Which sizes there are is fixed at boot.
fn hugetlb(version: Version) -> &'static [ControlFile] {
    static V1: OnceLock<Vec<ControlFile>> = OnceLock::new();
    static V2: OnceLock<Vec<ControlFile>> = OnceLock::new();
    let files = match version {
        Version::V1 => &V1,
        Version::V2 => &V2,
    };
    files.get_or_init(|| {
        let sizes = std::fs::read_dir(PAGE_SIZES).into_iter().flatten().flatten();
        let mut kilobytes: Vec<u64> = sizes
            .filter_map(|entry| {
                entry.file_name().to_str()?.strip_prefix("hugepages-")?.strip_suffix("kB")?.parse().ok()
            })
            .collect();
        kilobytes.sort_unstable();
        kilobytes.iter().flat_map(|size| files_of_page_size(&page_size(*size), version)).collect()
    })
}

/// As the controller names sizes.
fn page_size(kilobytes: u64) -> String {
    match kilobytes {
        size if size >= 1 << 20 => format!("{}GB", size >> 20),
        size if size >= 1 << 10 => format!("{}MB", size >> 10),
        size => format!("{size}KB"),
    }
}

/// Made once for each size of the node, and kept as long as the program runs.
fn files_of_page_size(page_size: &str, version: Version) -> Vec<ControlFile> {
    let page_size: &'static str = page_size.to_owned().leak();
    let file = |name: &str, parse: fn(&[u8], &mut HugetlbSize)| ControlFile {
        group: Group::Hugetlb,
        dir: Dir::Hugetlb,
        name: format!("hugetlb.{page_size}.{name}").leak(),
        parse: Parse::PageSize(page_size, parse),
        role: Role::Own,
    };
    match version {
        Version::V2 => vec![
            file("current", |text, size| size.usage = parse::number(text).unwrap_or(0)),
            file("events", |text, size| size.max_events = parse::value_of(text, b"max")),
        ],
        Version::V1 => vec![
            file("usage_in_bytes", |text, size| size.usage = parse::number(text).unwrap_or(0)),
            file("max_usage_in_bytes", |text, size| size.peak = parse::number(text)),
            file("failcnt", |text, size| size.max_events = parse::number(text)),
        ],
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn huge_pages_of_both_versions() {
        assert_eq!([64, 2048, 1 << 20].map(page_size), ["64KB", "2MB", "1GB"]);
        let read = |version, texts: &[&[u8]]| {
            let mut usage = Usage::default();
            let files = files_of_page_size("2MB", version);
            assert_eq!(files.len(), texts.len());
            files.iter().zip(texts).for_each(|(file, text)| file.parse(text, &mut usage));
            (files.iter().map(ControlFile::name).collect::<Vec<_>>(), usage.hugetlb.sizes)
        };
        let (names, sizes) = read(Version::V2, &[b"4194304\n", b"max 3\n"]);
        assert_eq!(names, ["hugetlb.2MB.current", "hugetlb.2MB.events"]);
        assert_eq!(sizes, [HugetlbSize { page_size: "2MB", usage: 4 << 20, peak: None, max_events: Some(3) }]);
        let (names, sizes) = read(Version::V1, &[b"4194304\n", b"6291456\n", b"5\n"]);
        assert_eq!(names, ["hugetlb.2MB.usage_in_bytes", "hugetlb.2MB.max_usage_in_bytes", "hugetlb.2MB.failcnt"]);
        assert_eq!(sizes, [HugetlbSize { page_size: "2MB", usage: 4 << 20, peak: Some(6 << 20), max_events: Some(5) }]);
    }

    #[test]
    fn processes_of_nested_groups_are_not_guessed() {
        let processes = |stat: &[u8]| {
            let mut usage = Usage::default();
            for (name, text) in [("cgroup.procs", &b"17\n4711\n"[..]), ("cgroup.stat", stat)] {
                UNIFIED.iter().find(|file| file.name == name).unwrap().parse(text, &mut usage);
            }
            usage.pids.processes
        };
        assert_eq!(processes(b"nr_descendants 0\nnr_dying_descendants 4\n"), Some(2));
        assert_eq!(processes(b"nr_descendants 1\nnr_dying_descendants 0\n"), None);
    }
}
