//! An agent of the benchmark's own, by the tests' harness, with the job's image in it.

use std::path::{Path, PathBuf};
use std::time::Duration;

use hull_proto::v1::{ImportStart, WaitCondition};
use hull_tests::harness::{Agent, AgentOptions, Rootfs, connect, image};

use crate::client::{Client, IMAGE, STAMP};
use crate::disk::Disk;
use crate::{Result, floor};

/// Bytes of the disk.
const DISK: u64 = 8 << 30;
/// Time for a connection to close.
const CLOSING: Duration = Duration::from_millis(50);

/// A running agent. When it is dropped, the harness removes everything and complains about what is left.
#[derive(Debug)]
pub(crate) struct Node {
    pub(crate) client: Client,
    pub(crate) agent: Agent,
    /// Directory for what the benchmark makes beside the agent; gone with it.
    pub(crate) state: PathBuf,
    /// What both lie on; goes last.
    disk: Disk,
}

impl Node {
    /// Starts an agent and imports the job's image.
    pub(crate) async fn start() -> Result<Self> {
        let disk = Disk::new(DISK)?;
        let agent = Agent::start(AgentOptions { below: Some(disk.path().to_owned()), ..AgentOptions::default() });
        let state = agent.scratch("bench");
        let clients = connect(&agent.socket()).await?;
        let start = ImportStart { tags: vec![IMAGE.into()], ..Default::default() };
        image::import(&clients, start, rootfs(&state)?).await?;
        Ok(Self { client: Client::new(clients), agent, state, disk })
    }

    /// Ends the agent, which waits for open connections: the runtime gets the time to close this one first.
    pub(crate) async fn close(self) {
        drop(self.client);
        tokio::time::sleep(CLOSING).await;
    }

    /// A short path on the same disk, for peers that want one.
    pub(crate) fn beside(&self, name: &str) -> PathBuf {
        self.disk.path().join(name)
    }

    /// The OCI runtime spec of the job.
    pub(crate) async fn runtime_spec(&self) -> Result<String> {
        let created = self.client.start(STAMP, false).await?;
        self.client.wait(&created.id, WaitCondition::NotRunning).await?;
        let (_, spec) = self.client.get(&created.id).await?;
        self.client.remove(&created.id).await?;
        Ok(spec)
    }

    /// The image's root file system as a directory, for those who do without images.
    pub(crate) fn rootfs(&self) -> Result<PathBuf> {
        let directory = self.state.join("rootfs");
        tar::Archive::new(rootfs(&self.state)?.as_slice()).unpack(&directory)?;
        Ok(directory)
    }
}

/// Prefix of the control groups that floor and peers run in.
pub(crate) fn group_prefix() -> String {
    format!("hull-bench-{}", std::process::id())
}

/// busybox and the measured program, and the directories that mounts want.
pub(crate) fn rootfs(state: &Path) -> Result<Vec<u8>> {
    let busybox =
        std::fs::read("/bin/busybox").map_err(|e| format!("/bin/busybox: {e} (apt-get install busybox-static)"))?;
    let stamp = state.join("stamp");
    floor::compile("stamp.c", &stamp, &["-nostdlib"])?;
    let directories = ["bin", "dev", "etc", "proc", "sys", "tmp"];
    let rootfs = directories.into_iter().fold(Rootfs::empty(), |rootfs, directory| rootfs.dir(directory, 0o755));
    Ok(rootfs.file("bin/busybox", 0o755, busybox).file("bin/stamp", 0o755, std::fs::read(&stamp)?).tar())
}
