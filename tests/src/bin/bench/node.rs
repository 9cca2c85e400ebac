//! An agent of the benchmark's own, with the job's image in it, on a state directory of its own.

use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use crate::Result;
use crate::client::Client;

/// How long the agent may take to listen, or to end.
const PATIENCE: Duration = Duration::from_secs(30);

/// A running agent and everything that belongs to it; [`Node::stop`] takes it all away.
#[derive(Debug)]
pub(crate) struct Node {
    pub(crate) client: Client,
    /// Directory of everything that the benchmark makes.
    pub(crate) state: tempfile::TempDir,
    pub(crate) pid: i32,
    /// The agent, or the tracer that it runs under.
    process: Child,
}

impl Node {
    /// Starts an agent, behind `wrapper` where that is not empty, and imports the job's image.
    pub(crate) async fn start(wrapper: &[String]) -> Result<Self> {
        let state = tempfile::Builder::new().prefix("hull-bench-").tempdir()?;
        make_rootfs(&state.path().join("rootfs"))?;
        let target = target_directory()?;
        let mut words = wrapper.to_vec();
        words.push(target.join("release/hulld").display().to_string());
        let mut command = Command::new(&words[0]);
        command
            .args(&words[1..])
            .arg("--data-dir")
            .arg(state.path().join("data"))
            .arg("--run-dir")
            .arg(state.path().join("run"));
        command.arg("--cgroup-parent").arg(cgroup_parent());
        command.arg("--listen").arg(format!("unix://{}", socket(state.path()).display()));
        let log = std::fs::File::create(state.path().join("hulld.log"))?;
        let mut process =
            command.stdin(Stdio::null()).stdout(log.try_clone()?).stderr(log).spawn().map_err(|e| {
                format!("starting {}: {e} (run through `make bench`, which builds it)", words.join(" "))
            })?;
        let client = match connect(state.path(), &mut process).await {
            Ok(client) => client,
            Err(error) => {
                process.kill()?;
                process.wait()?;
                let log = std::fs::read_to_string(state.path().join("hulld.log")).unwrap_or_default();
                return Err(format!("the agent does not serve: {error}\n{log}").into());
            }
        };
        let pid = client.info().await?.pid;
        client.import(rootfs_tar(&state.path().join("rootfs"))?).await?;
        Ok(Self { client, state, pid, process })
    }

    pub(crate) fn socket(&self) -> PathBuf {
        socket(self.state.path())
    }

    /// Ends the agent and waits for its end. All containers must be removed before.
    pub(crate) fn stop(mut self) -> Result<()> {
        kill(Pid::from_raw(self.pid), Signal::SIGTERM)?;
        let deadline = Instant::now() + PATIENCE;
        while self.process.try_wait()?.is_none() {
            if Instant::now() > deadline {
                self.process.kill()?;
                self.process.wait()?;
                return Err("the agent did not end on SIGTERM".into());
            }
            std::thread::sleep(Duration::from_millis(10));
        }
        Ok(())
    }
}

/// Control group of everything that one run of the benchmark makes.
pub(crate) fn cgroup_parent() -> String {
    format!("/hull-bench-{}", std::process::id())
}

/// The `target` directory that this program was built in.
pub(crate) fn target_directory() -> Result<PathBuf> {
    let program = std::env::current_exe()?;
    let target = program.parent().and_then(Path::parent).ok_or("the benchmark does not run from target/release")?;
    Ok(target.to_owned())
}

fn socket(state: &Path) -> PathBuf {
    state.join("run/hull.sock")
}

async fn connect(state: &Path, process: &mut Child) -> Result<Client> {
    let deadline = Instant::now() + PATIENCE;
    loop {
        match Client::connect(&socket(state)).await {
            Ok(client) => return Ok(client),
            Err(_) if process.try_wait()?.is_none() && Instant::now() < deadline => {
                tokio::time::sleep(Duration::from_millis(10)).await;
            }
            Err(error) => return Err(error),
        }
    }
}

/// busybox and the measured program, and the directories that mounts want.
fn make_rootfs(rootfs: &Path) -> Result<()> {
    for directory in ["bin", "dev", "etc", "proc", "sys", "tmp"] {
        std::fs::create_dir_all(rootfs.join(directory))?;
    }
    let busybox = ["/usr/bin/busybox", "/bin/busybox"].into_iter().find(|path| Path::new(path).exists());
    std::fs::copy(busybox.ok_or("busybox is missing: apt-get install busybox-static")?, rootfs.join("bin/busybox"))?;
    crate::floor::compile("stamp.c", &rootfs.join("bin/stamp"), &["-nostdlib"])?;
    for program in ["bin/busybox", "bin/stamp"] {
        std::fs::set_permissions(rootfs.join(program), std::fs::Permissions::from_mode(0o755))?;
    }
    Ok(())
}

fn rootfs_tar(rootfs: &Path) -> Result<Vec<u8>> {
    let mut builder = tar::Builder::new(Vec::new());
    builder.append_dir_all(".", rootfs)?;
    Ok(builder.into_inner()?)
}
