//! One `hulld` process with a state directory, control groups and a network namespace of its own.

use std::collections::BTreeSet;
use std::fs;
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use super::{Network, census, host, wait};

/// How an agent is started; the default serves most tests.
#[derive(Debug, Clone, Default)]
pub struct AgentOptions {
    /// Further arguments of `hulld`.
    pub arguments: Vec<String>,
    /// Give it a mount namespace of its own in which every mount is shared.
    pub shared_mounts: bool,
    /// Its network namespace is the host's.
    pub host_network: bool,
    /// Its data directory, on a file system of the test's own. The test looks after what is left there.
    pub data_dir: Option<PathBuf>,
    /// Its network namespace is this one, where others live, too.
    pub network: Option<Arc<Network>>,
    /// Its directory is made in this one, which is on the file system that it is to use. Default: /tmp.
    pub below: Option<PathBuf>,
}

/// A running agent. When it is dropped it must leave nothing behind.
#[derive(Debug)]
pub struct Agent {
    /// Holds `data` and `run`.
    dir: PathBuf,
    cgroup: String,
    options: AgentOptions,
    state: Mutex<State>,
}

/// What changes when the process is started anew.
#[derive(Debug, Default)]
struct State {
    child: Option<Child>,
    /// Network namespaces it had, kept open so that their inode numbers stay theirs.
    networks: Vec<(u64, fs::File)>,
    /// Files that a fresh agent has.
    skeleton: Option<BTreeSet<PathBuf>>,
}

static NUMBER: AtomicU32 = AtomicU32::new(0);

impl Agent {
    /// Starts an agent and waits until it serves.
    ///
    /// # Panics
    /// If it does not.
    pub fn start(options: AgentOptions) -> Self {
        let name = format!("{}-{}", std::process::id(), NUMBER.fetch_add(1, Ordering::Relaxed));
        let below = options.below.as_deref().unwrap_or(Path::new("/tmp"));
        let dir = below.join(format!("hull-test-{name}"));
        fs::create_dir(&dir).expect("creating the agent's directory");
        let cgroup = format!("/hull-test-{name}");
        let agent = Self { dir, cgroup, options, state: Mutex::default() };
        agent.spawn();
        agent
    }

    /// Starts the process (again) and waits until it serves.
    ///
    /// # Panics
    /// If it ends instead, with what it said.
    pub fn spawn(&self) {
        let log = fs::File::options().create(true).append(true).open(self.log_path()).expect("opening the agent's log");
        let mut child =
            self.command().stdout(log.try_clone().expect("dup")).stderr(log).spawn().expect("starting hulld");
        let pid = pid_of(&child);
        let start = Instant::now();
        while !self.serves(pid) {
            if let Some(status) = child.try_wait().expect("waiting for hulld") {
                panic!("hulld ended with {status}:\n{}", self.log());
            }
            if start.elapsed() > wait::soon() {
                let _gone = child.kill();
                let _status = child.wait();
                panic!("hulld ({pid}) does not serve after {:?}:\n{}", start.elapsed(), self.log());
            }
            std::thread::sleep(Duration::from_millis(2));
        }
        let mut state = self.state();
        if !self.options.host_network && self.options.network.is_none() {
            // The census takes whoever is in there for the agent's: it must never be the network of everyone.
            let inode = host::namespace(pid, "net");
            assert!(
                inode != 0 && inode != host::own_namespace("net"),
                "hulld is not in a network namespace of its own"
            );
            let network = fs::File::open(format!("/proc/{pid}/ns/net")).expect("opening the network namespace");
            state.networks.push((inode, network));
        }
        state.child = Some(child);
        if state.skeleton.is_none() {
            drop(state);
            let files = census::Census::take(&self.scope(), Some(pid)).files().clone();
            self.state().skeleton = Some(files);
        }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn scope(&self) -> census::Scope {
        let networks = self.state().networks.iter().map(|(inode, _)| *inode).collect();
        census::Scope { dir: self.dir.clone(), cgroup: self.cgroup.clone(), networks }
    }

    /// The command line: `hulld` in namespaces of its own. Every step is an exec, so the process id is hulld's.
    pub fn command(&self) -> Command {
        let hulld = binary("hulld");
        let mut words: Vec<String> = Vec::new();
        let own_network = !self.options.host_network && self.options.network.is_none();
        if let Some(network) = &self.options.network {
            words.extend(["nsenter".into(), format!("--net={}", network.path()), "--".into()]);
        }
        if own_network || self.options.shared_mounts {
            words.push("unshare".into());
            if own_network {
                words.push("--net".into());
            }
            if self.options.shared_mounts {
                words.extend(["--mount".into(), "--propagation".into(), "shared".into()]);
            }
            let up = if own_network { "busybox ip link set lo up; " } else { "" };
            words.extend(["--".into(), "sh".into(), "-c".into(), format!("{up}exec \"$@\""), "sh".into()]);
        }
        words.push(hulld.display().to_string());
        words.extend([
            "--data-dir".into(),
            self.data_dir().display().to_string(),
            "--run-dir".into(),
            self.run_dir().display().to_string(),
            "--cgroup-parent".into(),
            self.cgroup.clone(),
            "--listen".into(),
            self.endpoint(),
            "--shim".into(),
            shim().display().to_string(),
        ]);
        words.extend(self.options.arguments.iter().cloned());
        let mut command = Command::new(&words[0]);
        command.args(&words[1..]).stdin(Stdio::null()).process_group(0);
        command
    }

    /// Whether it is this process that listens on the socket: that of a killed one may live on for a moment in a child of its.
    fn serves(&self, pid: i32) -> bool {
        std::os::unix::net::UnixStream::connect(self.socket()).is_ok_and(|stream| {
            let peer = nix::sys::socket::getsockopt(&stream, nix::sys::socket::sockopt::PeerCredentials);
            peer.is_ok_and(|peer| peer.pid() == pid)
        })
    }

    /// Directory of images and containers.
    pub fn data_dir(&self) -> PathBuf {
        self.options.data_dir.clone().unwrap_or_else(|| self.dir.join("data"))
    }

    /// Directory of sockets and mounts.
    pub fn run_dir(&self) -> PathBuf {
        self.dir.join("run")
    }

    /// A directory for the test's own files; gone with the agent.
    ///
    /// # Panics
    /// If it cannot be made.
    pub fn scratch(&self, name: &str) -> PathBuf {
        let path = self.dir.join("scratch").join(name);
        fs::create_dir_all(&path).expect("creating a scratch directory");
        path
    }

    /// The unix socket it listens on.
    pub fn socket(&self) -> PathBuf {
        self.run_dir().join("hull.sock")
    }

    /// Its address as `--listen` and `hullctl -H` take it.
    pub fn endpoint(&self) -> String {
        format!("unix://{}", self.socket().display())
    }

    /// Its parent control group.
    pub fn cgroup(&self) -> &str {
        &self.cgroup
    }

    /// Its directory.
    pub fn dir(&self) -> &Path {
        &self.dir
    }

    fn log_path(&self) -> PathBuf {
        self.dir.join("hulld.log")
    }

    /// What it wrote so far.
    pub fn log(&self) -> String {
        host::text(self.log_path())
    }

    /// Its process id.
    ///
    /// # Panics
    /// If it does not run.
    pub fn pid(&self) -> i32 {
        pid_of(self.state().child.as_ref().expect("the agent runs"))
    }

    /// Ends it with SIGKILL, as a crash would.
    ///
    /// # Panics
    /// If it does not run.
    pub fn kill(&self) {
        let mut child = self.state().child.take().expect("the agent runs");
        child.kill().expect("killing hulld");
        child.wait().expect("waiting for hulld");
    }

    /// Asks it to end with SIGTERM and waits for that; the exit code.
    ///
    /// # Panics
    /// If it does not end.
    pub fn terminate(&self) -> Option<i32> {
        self.try_terminate().expect("hulld ends after SIGTERM")
    }

    /// Kills and starts it again.
    pub fn crash_and_restart(&self) {
        self.kill();
        self.spawn();
    }

    /// What is on the host that should not be; polls, for the kernel frees some things a little later.
    fn leftovers(&self) -> Vec<String> {
        let scope = self.scope();
        let (agent, skeleton) = {
            let state = self.state();
            (state.child.as_ref().map(pid_of), state.skeleton.clone().unwrap_or_default())
        };
        let allowed = match agent {
            Some(pid) => census::Allowed::RunningAgent { pid },
            None => census::Allowed::Files(&skeleton),
        };
        let start = Instant::now();
        loop {
            let left = census::Census::take(&scope, agent).beyond(&scope, allowed);
            if left.is_empty() || start.elapsed() > wait::scaled(Duration::from_secs(3)) {
                return left;
            }
            std::thread::sleep(Duration::from_millis(10));
        }
    }

    /// Fails if anything of a container is on the host, while the agent runs.
    ///
    /// # Panics
    /// With the list of what is there.
    pub fn assert_no_container_left(&self) {
        let left = self.leftovers();
        assert!(
            left.is_empty(),
            "left by containers that are gone:\n  {}\nlog of hulld:\n{}",
            left.join("\n  "),
            self.log()
        );
    }

    /// Removes all containers and images, looks, ends the agent, looks again; what is wrong.
    fn close(&self) -> Vec<String> {
        if self.state().child.is_none() {
            return self.leftovers();
        }
        let mut problems = super::session::remove_everything(self);
        problems.extend(self.leftovers().into_iter().map(|line| format!("while it runs: {line}")));
        match self.try_terminate() {
            Some(Some(0)) => problems.extend(self.leftovers().into_iter().map(|line| format!("after its end: {line}"))),
            Some(code) => problems.push(format!("hulld ended with {code:?}")),
            None => problems.push("hulld did not end after SIGTERM".into()),
        }
        problems
    }

    /// SIGTERM, then a bounded wait; the exit code, or `None` if it had to be killed.
    fn try_terminate(&self) -> Option<Option<i32>> {
        let mut child = self.state().child.take()?;
        let _gone = kill(Pid::from_raw(pid_of(&child)), Signal::SIGTERM);
        let start = Instant::now();
        while start.elapsed() < wait::soon() {
            if let Ok(Some(status)) = child.try_wait() {
                return Some(status.code());
            }
            std::thread::sleep(Duration::from_millis(2));
        }
        let _gone = child.kill();
        let _status = child.wait();
        None
    }
}

impl Drop for Agent {
    fn drop(&mut self) {
        if std::thread::panicking() {
            let _ended = self.try_terminate();
            eprintln!("log of hulld:\n{}", self.log());
            census::sweep(&self.scope());
            return;
        }
        let problems = self.close();
        let log = self.log();
        census::sweep(&self.scope());
        assert!(problems.is_empty(), "left behind:\n  {}\nlog of hulld:\n{log}", problems.join("\n  "));
    }
}

fn pid_of(child: &Child) -> i32 {
    i32::try_from(child.id()).expect("a process id")
}

/// The workspace.
pub fn workspace() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().expect("the workspace").to_owned()
}

/// `hulld` or `hullctl`: in HULL_BIN_DIR, by default where `make build` has put it.
///
/// # Panics
/// If it has not been built.
pub fn binary(name: &str) -> PathBuf {
    let built = || workspace().join(if name == "hullctl" { "target/static" } else { "target/release" });
    let dir = std::env::var_os("HULL_BIN_DIR").map_or_else(built, PathBuf::from);
    existing(dir.join(name))
}

/// `hull-shim`: HULL_SHIM, by default the static build.
///
/// # Panics
/// If it has not been built.
pub fn shim() -> PathBuf {
    static_binary("HULL_SHIM", "hull-shim")
}

/// The probe: HULL_PROBE, by default the static build.
///
/// # Panics
/// If it has not been built.
pub fn probe() -> PathBuf {
    static_binary("HULL_PROBE", "hull-probe")
}

fn static_binary(variable: &str, name: &str) -> PathBuf {
    let default = || workspace().join("target/static").join(name);
    existing(std::env::var_os(variable).map_or_else(default, PathBuf::from))
}

fn existing(path: PathBuf) -> PathBuf {
    assert!(path.is_file(), "{} is missing: run `make build`", path.display());
    path
}
