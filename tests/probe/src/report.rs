//! Collects the report, from /proc/self and a few system calls.

use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::{FileTypeExt as _, MetadataExt as _};
use std::path::Path;

use hull_probe::{Caps, Fd, Node, Report, parse_mounts};

use crate::sys;

const NAMESPACES: [&str; 8] = ["cgroup", "ipc", "mnt", "net", "pid", "time", "user", "uts"];

const RLIMITS: [(&str, u32); 16] = [
    ("cpu", libc::RLIMIT_CPU),
    ("fsize", libc::RLIMIT_FSIZE),
    ("data", libc::RLIMIT_DATA),
    ("stack", libc::RLIMIT_STACK),
    ("core", libc::RLIMIT_CORE),
    ("rss", libc::RLIMIT_RSS),
    ("nproc", libc::RLIMIT_NPROC),
    ("nofile", libc::RLIMIT_NOFILE),
    ("memlock", libc::RLIMIT_MEMLOCK),
    ("as", libc::RLIMIT_AS),
    ("locks", libc::RLIMIT_LOCKS),
    ("sigpending", libc::RLIMIT_SIGPENDING),
    ("msgqueue", libc::RLIMIT_MSGQUEUE),
    ("nice", libc::RLIMIT_NICE),
    ("rtprio", libc::RLIMIT_RTPRIO),
    ("rttime", libc::RLIMIT_RTTIME),
];

/// Everything that can be seen from here. What cannot be read is empty.
pub(crate) fn collect() -> Report {
    // First, before anything of our own is opened.
    let fds = descriptors();
    let status: BTreeMap<String, String> = text("/proc/self/status")
        .lines()
        .filter_map(|line| line.split_once(":\t").map(|(key, value)| (key.to_owned(), value.trim().to_owned())))
        .collect();
    let field = |name: &str| status.get(name).cloned().unwrap_or_default();
    let numbers =
        |name: &str| field(name).split_whitespace().filter_map(|word| word.parse().ok()).collect::<Vec<u32>>();
    let mask = |name: &str| u64::from_str_radix(&field(name), 16).unwrap_or(0);
    let mut groups = numbers("Groups");
    groups.sort_unstable();
    Report {
        argv: std::env::args().collect(),
        env: std::env::vars().collect(),
        cwd: std::env::current_dir().map(|path| path.display().to_string()).unwrap_or_default(),
        pid: i32::try_from(std::process::id()).unwrap_or(0),
        parent: i32::try_from(std::os::unix::process::parent_id()).unwrap_or(0),
        session: sys::session(),
        uids: numbers("Uid"),
        gids: numbers("Gid"),
        groups,
        umask: u32::from_str_radix(&field("Umask"), 8).unwrap_or(u32::MAX),
        caps: Caps {
            inheritable: mask("CapInh"),
            permitted: mask("CapPrm"),
            effective: mask("CapEff"),
            bounding: mask("CapBnd"),
            ambient: mask("CapAmb"),
        },
        no_new_privs: field("NoNewPrivs") == "1",
        seccomp: field("Seccomp").parse().unwrap_or(u32::MAX),
        dumpable: sys::dumpable(),
        rlimits: RLIMITS.iter().map(|(name, number)| ((*name).to_owned(), sys::rlimit(*number))).collect(),
        namespaces: NAMESPACES.iter().map(|name| ((*name).to_owned(), namespace(name))).collect(),
        mounts: parse_mounts(&text("/proc/self/mountinfo")),
        fds,
        hostname: text("/proc/sys/kernel/hostname").trim().to_owned(),
        domainname: text("/proc/sys/kernel/domainname").trim().to_owned(),
        oom_score_adj: text("/proc/self/oom_score_adj").trim().parse().unwrap_or(i32::MAX),
        uid_map: map("/proc/self/uid_map"),
        gid_map: map("/proc/self/gid_map"),
        cgroups: text("/proc/self/cgroup").lines().map(str::to_owned).collect(),
        dev: nodes(Path::new("/dev")),
        blocked: mask("SigBlk"),
        ignored: mask("SigIgn"),
        monotonic: sys::clock(libc::CLOCK_MONOTONIC),
        boottime: sys::clock(libc::CLOCK_BOOTTIME),
        interfaces: text("/proc/self/net/dev")
            .lines()
            .filter_map(|line| line.split_once(':').map(|(name, _)| name.trim().to_owned()))
            .collect(),
    }
}

fn text(path: &str) -> String {
    fs::read_to_string(path).unwrap_or_default()
}

fn namespace(name: &str) -> u64 {
    fs::read_link(format!("/proc/self/ns/{name}"))
        .ok()
        .and_then(|link| link.to_str()?.split_once('[')?.1.strip_suffix(']')?.parse().ok())
        .unwrap_or(0)
}

fn map(path: &str) -> Vec<Vec<u32>> {
    text(path).lines().map(|line| line.split_whitespace().filter_map(|word| word.parse().ok()).collect()).collect()
}

/// Open descriptors, without the one that reads the list.
fn descriptors() -> Vec<Fd> {
    let mut found: Vec<Fd> = fs::read_dir("/proc/self/fd")
        .into_iter()
        .flatten()
        .flatten()
        .filter_map(|entry| {
            let number = entry.file_name().to_str()?.parse().ok()?;
            let target = fs::read_link(entry.path()).ok()?.display().to_string();
            Some(Fd { number, target })
        })
        .filter(|fd| !(fd.target.starts_with("/proc/") && fd.target.ends_with("/fd")))
        .collect();
    found.sort_by_key(|fd| fd.number);
    found
}

/// All nodes below a directory, two levels deep.
fn nodes(directory: &Path) -> Vec<Node> {
    let mut found = Vec::new();
    let mut entries: Vec<_> =
        fs::read_dir(directory).into_iter().flatten().flatten().map(|entry| entry.path()).collect();
    entries.sort();
    for path in entries {
        let Ok(meta) = fs::symlink_metadata(&path) else { continue };
        let kind = meta.file_type();
        let is_dir = kind.is_dir();
        found.push(Node {
            path: path.display().to_string(),
            kind: match () {
                () if kind.is_dir() => "dir",
                () if kind.is_symlink() => "link",
                () if kind.is_char_device() => "char",
                () if kind.is_block_device() => "block",
                () if kind.is_fifo() => "fifo",
                () if kind.is_socket() => "socket",
                () => "file",
            }
            .to_owned(),
            device: (libc::major(meta.rdev()), libc::minor(meta.rdev())),
            mode: meta.mode() & 0o7777,
            uid: meta.uid(),
            gid: meta.gid(),
            link: fs::read_link(&path).map(|link| link.display().to_string()).unwrap_or_default(),
        });
        if is_dir && directory == Path::new("/dev") {
            found.extend(nodes(&path));
        }
    }
    found
}
