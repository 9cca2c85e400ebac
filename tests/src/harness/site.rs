//! A place to pull in and push from: a registry, a proxy before it, and an agent that reaches both.

use std::collections::HashMap;
use std::path::PathBuf;
use std::sync::Arc;

use hull_proto::v1::{
    GetImageRequest, Image, ListImagesRequest, PullImageRequest, PullImageResponse, PullProgress, PullResult,
    PushImageRequest, PushProgress, PushResult, RegistryAuth, RemoveImageRequest, pull_image_response,
    push_image_response,
};
use serde_json::Value;
use tonic::{Status, Streaming};

use super::oci::{Compression, Layout};
use super::registry::{PASSWORD, USER};
use super::{AgentOptions, BASE_IMAGE, Network, Proxy, Registry, RegistryOptions, Rootfs, Session, wait};

/// A registry, a proxy before it, and an agent, in one network. Fields go in this order.
#[derive(Debug)]
pub struct Site {
    /// The agent and its clients.
    pub hull: Session,
    /// The proxy before the registry; of use for a registry without TLS.
    pub proxy: Proxy,
    /// The registry.
    pub registry: Registry,
    work: tempfile::TempDir,
}

/// A pull that came to its end.
#[derive(Debug)]
pub struct Pull {
    /// What it came to.
    pub result: PullResult,
    /// What was told meanwhile.
    pub progress: Vec<PullProgress>,
}

impl Pull {
    /// The image.
    ///
    /// # Panics
    /// If the answer has none.
    pub fn image(&self) -> &Image {
        self.result.image.as_ref().expect("an image")
    }
}

impl Site {
    /// A plain registry that is open to all.
    pub async fn new() -> Self {
        Self::with(RegistryOptions::default(), &[]).await
    }

    /// A registry of a kind, and further arguments of the agent.
    pub async fn with(options: RegistryOptions, arguments: &[&str]) -> Self {
        let registry = Registry::start(&Network::new(), options);
        let work = tempfile::tempdir().expect("a directory");
        let hull = Self::agent(&registry, &work.path().join("certs.d"), arguments).await;
        Self { hull, proxy: Proxy::before(&registry), registry, work }
    }

    /// A plain registry at an address that is not of loopback, though it leads nowhere else.
    pub async fn at(address: &'static str) -> Self {
        Self::with(RegistryOptions { address: Some(address), ..RegistryOptions::default() }, &[]).await
    }

    /// A further agent in the same network.
    pub async fn another_agent(&self) -> Session {
        Self::agent(&self.registry, &self.work.path().join("certs.d"), &[]).await
    }

    async fn agent(registry: &Registry, hosts: &std::path::Path, arguments: &[&str]) -> Session {
        std::fs::create_dir_all(hosts).expect("mkdir");
        let own = ["--registry-config", &hosts.display().to_string()].map(str::to_owned);
        let arguments = own.into_iter().chain(arguments.iter().map(|&argument| argument.to_owned())).collect();
        let network = Some(Arc::clone(registry.network()));
        Session::own_with(AgentOptions { arguments, network, ..AgentOptions::default() }).await
    }

    /// A path for the test's own files.
    pub fn path(&self, name: &str) -> PathBuf {
        self.work.path().join(name)
    }

    /// Configures how the agents reach a registry.
    pub fn configure(&self, host: &str, hosts_toml: &str) {
        let dir = self.path("certs.d").join(host);
        std::fs::create_dir_all(&dir).expect("mkdir");
        std::fs::write(dir.join("hosts.toml"), hosts_toml).expect("writing");
    }

    /// Puts an image of uncompressed layers into the registry, each packed as told; the descriptor of its manifest.
    pub fn publish(&self, name: &str, layers: &[(Vec<u8>, Compression)]) -> Value {
        let mut layout = Layout::new(self.path(&name.replace(['/', ':'], "-")));
        let image = layout.image(layers, "linux/amd64");
        self.registry.push(&layout.name(&image, "x"), name, &[]);
        image
    }

    /// Puts an image with one layer of a size into the registry; the descriptor of its layer.
    pub fn publish_blob(&self, name: &str, size: usize) -> Value {
        let mut layout = Layout::new(self.path(&name.replace(['/', ':'], "-")));
        let layer = (blob_layer(name, size), Compression::None);
        let image = layout.image(std::slice::from_ref(&layer), "linux/amd64");
        self.registry.push(&layout.name(&image, "x"), name, &[]);
        layout.blob(super::oci::LAYER, &layer.0)
    }

    /// Pulls an image.
    ///
    /// # Errors
    /// What the agent said.
    pub async fn pull(&self, image: &str) -> Result<Pull, Status> {
        pull(&self.hull, PullImageRequest { image: image.into(), ..PullImageRequest::default() }).await
    }

    /// Pulls an image with these credentials.
    ///
    /// # Errors
    /// What the agent said.
    pub async fn pull_as(&self, image: &str, auth: RegistryAuth) -> Result<Pull, Status> {
        let auth = Some(auth);
        pull(&self.hull, PullImageRequest { image: image.into(), auth, ..PullImageRequest::default() }).await
    }

    /// Names of all images but the base image.
    pub async fn images(&self) -> Vec<String> {
        let list = self.hull.clients.images.clone().list_images(ListImagesRequest::default()).await;
        let images = list.expect("ListImages").into_inner().images;
        let mut names: Vec<String> = images.into_iter().flat_map(|image| image.names).collect();
        names.retain(|name| !name.ends_with(BASE_IMAGE));
        names
    }

    /// Digests of what the agent keeps of blobs and of parts of blobs.
    pub fn kept(&self) -> HashMap<&'static str, Vec<String>> {
        let images = self.hull.agent.data_dir().join("images");
        let list = |dir: &str| {
            let entries = std::fs::read_dir(images.join(dir)).expect(dir);
            entries.map(|entry| entry.expect(dir).file_name().to_string_lossy().into_owned()).collect()
        };
        HashMap::from([("blobs", list("content/blobs/sha256")), ("parts", list("parts"))])
    }
}

/// Pulls an image, to its end.
///
/// # Errors
/// What the agent said.
pub async fn pull(hull: &Session, request: PullImageRequest) -> Result<Pull, Status> {
    let mut answers = begin_pull(hull, request).await?;
    let mut progress = Vec::new();
    let result = wait::within("PullImage", async {
        loop {
            match answers.message().await?.and_then(|answer| answer.message) {
                Some(pull_image_response::Message::Progress(now)) => progress.push(now),
                Some(pull_image_response::Message::Result(result)) => return Ok::<_, Status>(result),
                None => panic!("the pull ended without a result"),
            }
        }
    })
    .await?;
    assert!(answers.message().await?.is_none(), "something came after the result");
    Ok(Pull { result, progress })
}

/// Begins to pull an image.
///
/// # Errors
/// What the agent said.
pub async fn begin_pull(hull: &Session, request: PullImageRequest) -> Result<Streaming<PullImageResponse>, Status> {
    Ok(hull.clients.images.clone().pull_image(request).await?.into_inner())
}

/// Pushes an image, to its end; also the last progress that was told.
///
/// # Errors
/// What the agent said.
pub async fn push(hull: &Session, request: PushImageRequest) -> Result<(PushResult, PushProgress), Status> {
    let mut answers = hull.clients.images.clone().push_image(request).await?.into_inner();
    wait::within("PushImage", async {
        let mut progress = PushProgress::default();
        loop {
            match answers.message().await?.and_then(|answer| answer.message) {
                Some(push_image_response::Message::Progress(now)) => progress = now,
                Some(push_image_response::Message::Result(result)) => return Ok((result, progress)),
                None => panic!("the push ended without a result"),
            }
        }
    })
    .await
}

/// An image that is there.
///
/// # Errors
/// What the agent said.
pub async fn image(hull: &Session, image: &str) -> Result<Image, Status> {
    let answer = hull.clients.images.clone().get_image(GetImageRequest { image: image.into() }).await?;
    Ok(answer.into_inner().image.expect("an image"))
}

/// Removes an image.
///
/// # Panics
/// If the agent refuses.
pub async fn remove_image(hull: &Session, image: &str) {
    let request = RemoveImageRequest { image: image.into() };
    hull.clients.images.clone().remove_image(request).await.expect("RemoveImage");
}

/// The user whom registries with a password know.
pub fn user() -> RegistryAuth {
    RegistryAuth { username: USER.into(), password: PASSWORD.into(), ..RegistryAuth::default() }
}

/// A layer with one file of so many bytes that do not compress, others for each seed.
pub fn blob_layer(seed: &str, size: usize) -> Vec<u8> {
    let mut state = seed
        .bytes()
        .fold(0x9e37_79b9_7f4a_7c15_u64, |state, byte| (state ^ u64::from(byte)).wrapping_mul(0x100_0000_01b3))
        | 1;
    let mut data = Vec::with_capacity(size + 8);
    while data.len() < size {
        // xorshift64: the same bytes each time.
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        data.extend_from_slice(&state.to_le_bytes());
    }
    data.truncate(size);
    Rootfs::empty().dir("blob", 0o755).file(&format!("blob/{}", seed.replace(['/', ':'], "-")), 0o644, data).tar()
}
