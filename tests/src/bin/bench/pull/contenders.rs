//! Who pulls: hull by its API, and its peers by their commands.

use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::time::{Duration, Instant};

use hull_proto::v1;
use hull_proto::v1::image_service_client::ImageServiceClient;
use hull_tests::harness::{Agent, Clients, Network, wait};
use nix::sys::resource::{UsageWho, getrusage};
use tonic::transport::Channel;

use crate::Result;
use crate::client::Client;
use crate::cpu::cpu_of;
use crate::disk::run;

/// What one pull costs, seconds.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Cost {
    pub(crate) wall: f64,
    /// User and system time.
    pub(crate) cpu: f64,
}

/// hull, as a client sees it.
#[derive(Debug)]
pub(crate) struct Hull {
    images: ImageServiceClient<Channel>,
    client: Client,
    agent: Agent,
}

impl Hull {
    pub(crate) fn new(clients: Clients, agent: Agent) -> Self {
        Self { images: clients.images.clone(), client: Client::new(clients), agent }
    }

    /// Pulls an image.
    pub(crate) async fn pull(&self, image: &str) -> Result<Cost> {
        let pid = self.agent.pid();
        let (before, begun) = (cpu_of(pid)?, Instant::now());
        let request = v1::PullImageRequest { image: image.into(), ..Default::default() };
        let mut answers = self.images.clone().pull_image(request).await?.into_inner();
        let mut done = false;
        while let Some(answer) = answers.message().await? {
            done = matches!(answer.message, Some(v1::pull_image_response::Message::Result(_)));
        }
        if !done {
            return Err(format!("pulling {image} ended without a result").into());
        }
        Ok(Cost { wall: begun.elapsed().as_secs_f64(), cpu: cpu_of(pid)? - before })
    }

    /// Removes an image; seconds.
    pub(crate) async fn remove(&self, image: &str) -> Result<f64> {
        let begun = Instant::now();
        self.images.clone().remove_image(v1::RemoveImageRequest { image: image.into() }).await?;
        Ok(begun.elapsed().as_secs_f64())
    }

    /// Runs the image's command to its end in a container that goes with it.
    pub(crate) async fn run(&self, image: &str) -> Result<()> {
        let id = self.client.start_image(image).await?;
        self.client.wait(&id, v1::WaitCondition::Removed).await
    }

    /// Begins the peak of resident memory anew, proc_pid_clear_refs(5).
    pub(crate) fn forget_peak(&self) -> Result<()> {
        Ok(std::fs::write(format!("/proc/{}/clear_refs", self.agent.pid()), "5")?)
    }

    /// The peak of resident memory, MB.
    pub(crate) fn peak(&self) -> Result<f64> {
        let status = std::fs::read_to_string(format!("/proc/{}/status", self.agent.pid()))?;
        let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:")).ok_or("no VmHWM")?;
        let kilobytes: f64 = line.trim().trim_end_matches("kB").trim().parse()?;
        Ok(kilobytes * 1024.0 / 1e6)
    }

    /// Ends the agent, which waits for open connections: the runtime gets the time to close this one first.
    pub(crate) async fn close(self) {
        let Self { images, client, agent } = self;
        drop((images, client));
        tokio::time::sleep(Duration::from_millis(50)).await;
        drop(agent);
    }
}

/// Who is measured beside hull.
#[derive(Debug)]
pub(crate) enum Contender {
    Containerd {
        network: Arc<Network>,
        dir: PathBuf,
        child: Child,
    },
    Podman {
        network: Arc<Network>,
        dir: PathBuf,
    },
    Umoci {
        network: Arc<Network>,
        dir: PathBuf,
    },
    /// The layer unpacked alone, with no registry and no image.
    Tar {
        layer: PathBuf,
        dir: PathBuf,
    },
}

/// All that are installed.
pub(crate) fn all(network: &Arc<Network>, disk: &Path, layer: &Path) -> Result<Vec<Contender>> {
    let has = |program: &str| Command::new(program).arg("--version").output().is_ok();
    let mut all = Vec::new();
    let network = || Arc::clone(network);
    if has("containerd") && has("ctr") {
        all.push(containerd(network(), disk.join("containerd"))?);
    }
    if has("podman") {
        all.push(Contender::Podman { network: network(), dir: disk.join("podman") });
    }
    if has("skopeo") && has("umoci") {
        all.push(Contender::Umoci { network: network(), dir: disk.join("umoci") });
    }
    all.push(Contender::Tar { layer: layer.to_owned(), dir: disk.join("tar") });
    Ok(all)
}

fn containerd(network: Arc<Network>, dir: PathBuf) -> Result<Contender> {
    std::fs::create_dir_all(&dir)?;
    let config = dir.join("config.toml");
    let path = |name: &str| dir.join(name).display().to_string();
    // Without CRI, which wants a network of its own.
    let text = format!(
        "version = 2\nroot = {:?}\nstate = {:?}\ndisabled_plugins = [\"io.containerd.grpc.v1.cri\"]\n[grpc]\naddress = {:?}\n",
        path("root"),
        path("state"),
        path("sock")
    );
    std::fs::write(&config, text)?;
    let log = std::fs::File::create(dir.join("log"))?;
    let child = network.command("containerd").arg("--config").arg(&config).stdout(Stdio::null()).stderr(log).spawn()?;
    wait::until("containerd serves", || std::os::unix::net::UnixStream::connect(dir.join("sock")).ok());
    Ok(Contender::Containerd { network, dir, child })
}

impl Contender {
    pub(crate) fn name(&self) -> &'static str {
        match self {
            Self::Containerd { .. } => "containerd",
            Self::Podman { .. } => "podman",
            Self::Umoci { .. } => "skopeo + umoci",
            Self::Tar { .. } => "tar",
        }
    }

    /// Pulls an image, and removes it again.
    pub(crate) fn pull(&mut self, image: &str) -> Result<Cost> {
        match self {
            Self::Containerd { network, dir, child } => {
                let ctr = |words: &[&str]| run(network.command("ctr").arg("-a").arg(dir.join("sock")).args(words));
                let pid = i32::try_from(child.id())?;
                let daemon = cpu_of(pid)?;
                let mut cost = timed(|| ctr(&["images", "pull", "--plain-http", image]))?;
                cost.cpu += cpu_of(pid)? - daemon;
                ctr(&["images", "rm", "--sync", image])?;
                Ok(cost)
            }
            Self::Podman { network, dir } => {
                let podman = |words: &[&str]| {
                    let mut command = network.command("podman");
                    for (flag, name) in [("--root", "root"), ("--runroot", "run"), ("--tmpdir", "tmp")] {
                        command.arg(flag).arg(dir.join(name));
                    }
                    run(command.args(["--storage-driver=overlay", "--events-backend=none"]).args(words))
                };
                let cost = timed(|| podman(&["pull", "--quiet", "--tls-verify=false", image]))?;
                podman(&["rmi", "--force", image])?;
                Ok(cost)
            }
            Self::Umoci { network, dir } => {
                std::fs::create_dir_all(&*dir)?;
                let (layout, bundle) = (dir.join("layout").display().to_string(), dir.join("bundle"));
                let cost = timed(|| {
                    let (from, to) = (format!("docker://{image}"), format!("oci:{layout}:it"));
                    run(network.command("skopeo").args(["copy", "--quiet", "--src-tls-verify=false", &from, &to]))?;
                    run(Command::new("umoci").args(["unpack", "--image", &format!("{layout}:it")]).arg(&bundle))
                });
                std::fs::remove_dir_all(&*dir)?;
                cost
            }
            Self::Tar { layer, dir } => {
                std::fs::create_dir_all(&*dir)?;
                let program = if layer.extension().is_some_and(|kind| kind == "gz") { "gzip" } else { "zstd" };
                let line = "\"$1\" -dc \"$2\" | tar -xp --same-owner -C \"$3\"";
                let cost = timed(|| run(Command::new("sh").args(["-c", line, "sh", program]).arg(&*layer).arg(&*dir)));
                std::fs::remove_dir_all(&*dir)?;
                cost
            }
        }
    }
}

impl Drop for Contender {
    fn drop(&mut self) {
        if let Self::Containerd { child, .. } = self {
            let ended = nix::unistd::Pid::from_raw(child.id().cast_signed());
            let _gone = nix::sys::signal::kill(ended, nix::sys::signal::Signal::SIGTERM);
            let _status = child.wait();
        }
        if let Self::Podman { dir, .. } = self {
            // It leaves its storage mounted on itself.
            let _none = Command::new("umount").arg(dir.join("root/overlay")).stderr(Stdio::null()).status();
        }
    }
}

/// Wall time of what is done, and processor time of the commands that it runs.
fn timed(work: impl FnOnce() -> Result<()>) -> Result<Cost> {
    let (before, begun) = (cpu_of_children()?, Instant::now());
    work()?;
    Ok(Cost { wall: begun.elapsed().as_secs_f64(), cpu: cpu_of_children()? - before })
}

/// Processor time of the children of this process that have ended, seconds.
fn cpu_of_children() -> Result<f64> {
    let usage = getrusage(UsageWho::RUSAGE_CHILDREN)?;
    let seconds = |time: nix::sys::time::TimeVal| {
        Duration::from_micros((time.tv_sec() * 1_000_000 + time.tv_usec()).cast_unsigned())
    };
    Ok((seconds(usage.user_time()) + seconds(usage.system_time())).as_secs_f64())
}
