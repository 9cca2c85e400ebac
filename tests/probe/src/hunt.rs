//! Hunts processes while they are born: tries, in a loop and in every way that /proc and ptrace(2) offer, to reach what a process
//! holds that is to become one of this container, but still carries its monitor's memory and descriptors.

use std::fs;
use std::os::unix::fs::MetadataExt;

use crate::sys;

/// What a process is called until it executes its program.
const UNBORN: &str = "hull-shim\n";

/// Hunts until standard input ends, then prints "met N", how many times an unborn process was seen, "tries N", how many
/// times one of them refused, and a line "reached PID HOW" for each time that one did not.
pub(crate) fn hunt() {
    let done = until_input_ends();
    let own = std::process::id();
    let (mut met, mut refused, mut reached) = (0_u64, 0_u64, Vec::new());
    while !done.is_finished() {
        for pid in processes().filter(|pid| *pid != own && is_unborn(*pid)) {
            met += 1;
            for (how, attempt) in ATTEMPTS {
                match attempt(pid) {
                    Some(what) => reached.push(format!("reached {pid} {how} {what}")),
                    None => refused += 1,
                }
            }
        }
    }
    println!("met {met}\ntries {refused}");
    reached.iter().for_each(|line| println!("{line}"));
}

/// Traces unborn processes until standard input ends, and compares what they carry with what the hunter itself has, a process of the same
/// container; prints "met N", how many were looked at while they stood still, and a line "carried PID WHAT" for each difference.
pub(crate) fn trace() {
    let done = until_input_ends();
    let own = std::process::id();
    let ours = belongings("self");
    let (mut met, mut carried) = (0_u64, Vec::new());
    while !done.is_finished() {
        for pid in processes().filter(|pid| *pid != own && is_unborn(*pid)) {
            let look = || (belongings(&pid.to_string()), descriptors(pid), is_unborn(pid));
            let Ok((theirs, strange, true)) = sys::while_traced(pid, look) else { continue };
            met += 1;
            let different = theirs.iter().zip(&ours).filter(|(theirs, ours)| theirs != ours).map(|(theirs, _)| theirs);
            carried.extend(different.chain(&strange).map(|what| format!("carried {pid} {what}")));
        }
    }
    println!("met {met}");
    carried.iter().for_each(|line| println!("{line}"));
}

/// Credentials, namespaces, control groups and directories of a process, one a line.
fn belongings(process: &str) -> Vec<String> {
    const FIELDS: [&str; 10] =
        ["Uid", "Gid", "Groups", "CapInh", "CapPrm", "CapEff", "CapBnd", "CapAmb", "NoNewPrivs", "Seccomp"];
    const NAMESPACES: [&str; 8] = ["cgroup", "ipc", "mnt", "net", "pid", "pid_for_children", "user", "uts"];
    let read = |name: &str| fs::read_to_string(format!("/proc/{process}/{name}")).unwrap_or_default();
    let status = read("status");
    let field = |name: &&str| {
        let value = status.lines().find_map(|line| line.strip_prefix(*name)?.strip_prefix(':')).unwrap_or_default();
        format!("{name} {}", value.trim())
    };
    let namespace = |name: &&str| format!("{name} {:?}", fs::read_link(format!("/proc/{process}/ns/{name}")).ok());
    let directory = |name: &&str| {
        let found = fs::metadata(format!("/proc/{process}/{name}/."));
        format!("{name} {:?}", found.map(|found| (found.dev(), found.ino())).ok())
    };
    let mut all: Vec<String> = FIELDS.iter().map(field).collect();
    all.extend(NAMESPACES.iter().map(namespace));
    all.extend(["root", "cwd"].iter().map(directory));
    all.extend(read("cgroup").lines().map(str::to_owned));
    all
}

/// Says that the hunt is on; the thread lives until standard input ends.
fn until_input_ends() -> std::thread::JoinHandle<()> {
    let thread = std::thread::spawn(|| {
        let _ended = std::io::copy(&mut std::io::stdin().lock(), &mut std::io::sink());
    });
    println!("hunting");
    thread
}

/// All processes that are seen.
fn processes() -> impl Iterator<Item = u32> {
    let entries = fs::read_dir("/proc").into_iter().flatten().flatten();
    entries.filter_map(|entry| entry.file_name().to_str()?.parse().ok())
}

/// Whether this is the name of a process that has not executed its program yet.
fn is_unborn(pid: u32) -> bool {
    fs::read_to_string(format!("/proc/{pid}/comm")).is_ok_and(|name| name == UNBORN)
}

/// A way to reach into a process. `Some`: what it came to.
type Attempt = fn(u32) -> Option<String>;

const ATTEMPTS: [(&str, Attempt); 8] = [
    ("fd", descriptors),
    ("maps", |pid| foreign(&fs::read_to_string(format!("/proc/{pid}/maps")).ok()?)),
    ("environ", |pid| still_unborn(pid, fs::read(format!("/proc/{pid}/environ")).is_ok())),
    ("mem", |pid| still_unborn(pid, fs::OpenOptions::new().read(true).write(true).open(mem(pid)).is_ok())),
    ("exe", |pid| foreign(&fs::read_link(format!("/proc/{pid}/exe")).ok()?.display().to_string())),
    ("root", |pid| still_unborn(pid, fs::read_link(format!("/proc/{pid}/root")).is_ok())),
    ("process_vm_readv", |pid| still_unborn(pid, sys::read_memory(pid).is_ok())),
    ("ptrace", |pid| sys::while_traced(pid, || is_unborn(pid)).ok()?.then(|| "attached".to_owned())),
];

fn mem(pid: u32) -> String {
    format!("/proc/{pid}/mem")
}

/// A success counts if the process is unborn after it, too: one that has executed its program meanwhile is a peer.
fn still_unborn(pid: u32, done: bool) -> Option<String> {
    (done && is_unborn(pid)).then(|| "let in".to_owned())
}

/// What names the monitor's program.
fn foreign(text: &str) -> Option<String> {
    text.lines().find(|line| line.contains("hull-shim")).map(str::to_owned)
}

/// A descriptor that no process of a container has: all of them hold pipes and null devices, unborn ones a socket to their monitor.
fn descriptors(pid: u32) -> Option<String> {
    let links = fs::read_dir(format!("/proc/{pid}/fd")).ok()?.flatten();
    let targets = links.filter_map(|link| Some(fs::read_link(link.path()).ok()?.display().to_string()));
    let known = |target: &String| target.starts_with("pipe:") || target.starts_with("socket:") || target == "/dev/null";
    let (known, mut strange): (Vec<_>, Vec<_>) = targets.partition(known);
    let sockets = known.into_iter().filter(|target| target.starts_with("socket:"));
    strange.extend(sockets.skip(1));
    strange.pop()
}
