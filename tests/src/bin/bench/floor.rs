//! Driver of `tests/floor/floor.c`.

use std::io::{BufRead as _, BufReader, Write as _};
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};

use crate::Result;
use crate::node::group_prefix;
use crate::peers::remove_group;
use crate::report::complain;

/// The floor program, waiting for rounds.
#[derive(Debug)]
pub(crate) struct Floor {
    process: Child,
    requests: ChildStdin,
    answers: BufReader<ChildStdout>,
    groups: Vec<PathBuf>,
}

/// One round of the floor, milliseconds.
#[derive(Debug)]
pub(crate) struct Round {
    /// Until the program's first instruction.
    pub(crate) start: f64,
    /// Until everything is cleaned up.
    pub(crate) whole: f64,
    pub(crate) steps: Vec<(String, f64)>,
}

impl Floor {
    /// Compiles and starts it in `state`, on a root file system, with a filter that allows `syscalls`.
    pub(crate) fn start(state: &Path, rootfs: &Path, syscalls: &[u32]) -> Result<Self> {
        let program = state.join("floor");
        compile("floor.c", &program, &[])?;
        let directory = state.join("floor-state");
        std::fs::create_dir(&directory)?;
        let allowed = state.join("floor-syscalls");
        std::fs::write(&allowed, syscalls.iter().map(|n| format!("{n}\n")).collect::<String>())?;
        let parent = format!("{}-floor", group_prefix());
        let groups = make_groups(&parent)?;
        let mut process = Command::new(&program)
            .arg(rootfs)
            .arg(&directory)
            .arg(&parent)
            .arg(&allowed)
            .args(crate::client::STAMP)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()?;
        let (requests, answers) = process.stdin.take().zip(process.stdout.take()).ok_or("the floor has no pipes")?;
        Ok(Self { process, requests, answers: BufReader::new(answers), groups })
    }

    /// One container, from request to cleaned up.
    pub(crate) fn round(&mut self) -> Result<Round> {
        self.requests.write_all(b"\n")?;
        let mut line = String::new();
        self.answers.read_line(&mut line)?;
        let mut words = line.split_whitespace();
        let mut next =
            || words.next().ok_or("the floor ended").and_then(|w| w.parse::<f64>().map_err(|_| "bad number"));
        let (start, whole) = (next()? / 1e6, next()? / 1e6);
        let steps = words.filter_map(|w| w.split_once('=')).filter_map(|(k, v)| Some((k.to_owned(), v.parse().ok()?)));
        Ok(Round { start, whole, steps: steps.map(|(name, nanos): (String, f64)| (name, nanos / 1e3)).collect() })
    }
}

impl Drop for Floor {
    fn drop(&mut self) {
        // Between two rounds nothing of it is left but its control groups' parents.
        let ended = self.process.kill().and_then(|()| self.process.wait());
        if let Err(error) = ended {
            complain(&format!("bench: ending the floor: {error}"));
        }
        self.groups.iter().for_each(|group| remove_group(group));
    }
}

/// Compiles a source of `tests/floor` to a static program.
pub(crate) fn compile(source: &str, program: &Path, flags: &[&str]) -> Result<()> {
    let source = Path::new(env!("CARGO_MANIFEST_DIR")).join("floor").join(source);
    let status = Command::new("cc")
        .args(["-O2", "-static", "-Wall", "-Wextra", "-Werror"])
        .args(flags)
        .arg("-o")
        .arg(program)
        .arg(&source)
        .status()
        .map_err(|e| format!("cc: {e} (apt-get install gcc libc6-dev)"))?;
    if status.success() { Ok(()) } else { Err(format!("cc {}: {status}", source.display()).into()) }
}

/// The parents of the floor's control groups, in every hierarchy that it uses.
fn make_groups(parent: &str) -> Result<Vec<PathBuf>> {
    let root = Path::new("/sys/fs/cgroup");
    if root.join("cgroup.controllers").exists() {
        let group = root.join(parent);
        std::fs::create_dir(&group)?;
        std::fs::write(root.join("cgroup.subtree_control"), "+memory +pids +cpu")?;
        std::fs::write(group.join("cgroup.subtree_control"), "+memory +pids +cpu")?;
        return Ok(vec![group]);
    }
    let groups: Vec<PathBuf> = ["memory", "pids", "cpu"].iter().map(|h| root.join(h).join(parent)).collect();
    groups.iter().try_for_each(|group| std::fs::create_dir(group).map_err(|e| format!("{}: {e}", group.display())))?;
    Ok(groups)
}
