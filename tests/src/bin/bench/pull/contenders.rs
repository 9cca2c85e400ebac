//! Who pulls: hull by its API, and its peers by their commands.

use std::path::{Path, PathBuf};
use std::process::{Child, Command};
use std::sync::Arc;
use std::time::{Duration, Instant};

use hull_proto::v1;
use hull_proto::v1::image_service_client::ImageServiceClient;
use hull_tests::harness::{Agent, Clients, Network, host};
use tonic::transport::Channel;

use crate::Result;
use crate::client::Client;
use crate::cpu::{of_children, of_family};
use crate::disk::run;
use crate::engines::{self, is_installed};

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
        let (before, begun) = (of_family(pid)?, Instant::now());
        let request = v1::PullImageRequest { image: image.into(), ..Default::default() };
        let mut answers = self.images.clone().pull_image(request).await?.into_inner();
        let mut done = false;
        while let Some(answer) = answers.message().await? {
            done = matches!(answer.message, Some(v1::pull_image_response::Message::Result(_)));
        }
        if !done {
            return Err(format!("pulling {image} ended without a result").into());
        }
        Ok(Cost { wall: begun.elapsed().as_secs_f64(), cpu: of_family(pid)? - before })
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
        Ok(f64::from(u32::try_from(host::peak(self.agent.pid()) >> 10)?) * 1024.0 / 1e6)
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
    let mut all = Vec::new();
    let network = || Arc::clone(network);
    if is_installed("containerd") && is_installed("ctr") {
        all.push(containerd(network(), disk.join("containerd"))?);
    }
    if is_installed("podman") {
        all.push(Contender::Podman { network: network(), dir: disk.join("podman") });
    }
    if is_installed("skopeo") && is_installed("umoci") {
        all.push(Contender::Umoci { network: network(), dir: disk.join("umoci") });
    }
    all.push(Contender::Tar { layer: layer.to_owned(), dir: disk.join("tar") });
    Ok(all)
}

fn containerd(network: Arc<Network>, dir: PathBuf) -> Result<Contender> {
    let child = engines::containerd(network.command("containerd"), &dir)?;
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
                let daemon = of_family(pid)?;
                let mut cost = timed(|| ctr(&["images", "pull", "--plain-http", image]))?;
                cost.cpu += of_family(pid)? - daemon;
                ctr(&["images", "rm", "--sync", image])?;
                Ok(cost)
            }
            Self::Podman { network, dir } => {
                let podman =
                    |words: &[&str]| run(engines::podman(network.command("podman"), dir, "overlay").args(words));
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
            engines::release_podman(dir);
        }
    }
}

/// Wall time of what is done, and processor time of the commands that it runs.
fn timed(work: impl FnOnce() -> Result<()>) -> Result<Cost> {
    let (before, begun) = (of_children()?, Instant::now());
    work()?;
    Ok(Cost { wall: begun.elapsed().as_secs_f64(), cpu: of_children()? - before })
}
