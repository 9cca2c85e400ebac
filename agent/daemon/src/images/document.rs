//! The JSON documents of images, read strictly.
//!
//! What two readers could understand differently is refused: a key that comes twice, a key that differs from a known one
//! in case only (Go's reader takes it for the known one), a manifest that is an index as well (GHSA-5j5w-g665-5m35).

use std::collections::BTreeMap;
use std::fmt;
use std::time::SystemTime;

use serde::de::{DeserializeOwned, IgnoredAny};
use serde::{Deserialize, Serialize};

use crate::error::{Error, Reason, Result};
use crate::images::limits::LAYERS_MAX;
use crate::images::record::ImageConfig;
use crate::images::reference::is_digest;
use crate::images::well_formed::WellFormed;

/// A manifest or an index: which one shows only after reading.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
struct ManifestOrIndex {
    schema_version: u32,
    media_type: Option<String>,
    config: Option<Descriptor>,
    layers: Option<Vec<Descriptor>>,
    manifests: Option<Vec<Descriptor>>,
    fs_layers: Option<IgnoredAny>,
    #[serde(flatten)]
    others: BTreeMap<String, IgnoredAny>,
}

/// What an image consists of.
#[derive(Debug)]
pub(super) enum Document {
    /// One image.
    Manifest { config: Descriptor, layers: Vec<Descriptor> },
    /// A choice of images.
    Index(Vec<Descriptor>),
}

/// A reference to a blob.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Descriptor {
    #[serde(default)]
    pub(super) media_type: String,
    pub(super) digest: String,
    pub(super) size: u64,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) platform: Option<Platform>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) annotations: Option<BTreeMap<String, String>>,
}

/// What an image runs on.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(super) struct Platform {
    pub(super) architecture: String,
    pub(super) os: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) variant: Option<String>,
}

impl fmt::Display for Platform {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.os, self.architecture)?;
        self.variant.iter().try_for_each(|variant| write!(f, "/{variant}"))
    }
}

/// An image's config.
#[derive(Debug, Serialize, Deserialize)]
pub(super) struct ConfigDocument {
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) created: Option<String>,
    pub(super) architecture: String,
    pub(super) os: String,
    #[serde(default)]
    config: Option<RuntimeConfig>,
    pub(super) rootfs: RootFs,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) history: Option<Vec<HistoryDocument>>,
}

/// One step of an image's making.
#[derive(Debug, Default, Serialize, Deserialize)]
pub(super) struct HistoryDocument {
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) created: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) created_by: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) author: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) comment: Option<String>,
    /// Whether the step made no layer.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) empty_layer: Option<bool>,
}

/// The layers that a config knows.
#[derive(Debug, Serialize, Deserialize)]
pub(super) struct RootFs {
    #[serde(rename = "type")]
    kind: String,
    pub(super) diff_ids: Vec<String>,
}

/// What Docker and OCI call `config` within the config.
#[derive(Debug, Default, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
struct RuntimeConfig {
    #[serde(skip_serializing_if = "Option::is_none")]
    user: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    exposed_ports: Option<BTreeMap<String, Empty>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    env: Option<Vec<String>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    entrypoint: Option<Vec<String>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    cmd: Option<Vec<String>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    volumes: Option<BTreeMap<String, Empty>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    working_dir: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    labels: Option<BTreeMap<String, String>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    stop_signal: Option<String>,
}

/// `{}`.
#[derive(Debug, Default, Serialize, Deserialize)]
struct Empty {}

/// An entry of docker-archive's manifest.json.
#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub(super) struct DockerManifest {
    pub(super) config: String,
    #[serde(default)]
    pub(super) repo_tags: Option<Vec<String>>,
    pub(super) layers: Vec<String>,
}

impl DockerManifest {
    /// Encodes manifest.json.
    pub(super) fn encode(manifests: &[Self]) -> Result<Vec<u8>> {
        encode(&manifests)
    }
}

/// Reads a JSON document, all of it: a value that nobody asks for must be well-formed, too.
pub(super) fn parse<T: DeserializeOwned>(what: &str, bytes: &[u8]) -> Result<T> {
    serde_json::from_slice::<WellFormed>(bytes)
        .and_then(|WellFormed| serde_json::from_slice(bytes))
        .map_err(|error| refused(what, &error.to_string()))
}

/// Reads a manifest or index.
pub(super) fn parse_manifest(what: &str, bytes: &[u8]) -> Result<Document> {
    let read: ManifestOrIndex = parse(what, bytes)?;
    let known = ["schemaversion", "mediatype", "config", "layers", "manifests", "fslayers"];
    if let Some(key) = read.others.keys().find(|key| known.contains(&key.to_ascii_lowercase().as_str())) {
        return Err(refused(what, &format!("the key {key:?} differs from a known one in case only")));
    }
    if read.schema_version != 2 || read.fs_layers.is_some() {
        return Err(refused(what, "its schema version is not 2"));
    }
    let is_index = read.media_type.as_deref().map(|kind| kind.contains(".index.") || kind.contains(".list."));
    let document = match (read.config, read.layers, read.manifests) {
        (Some(config), Some(layers), None) if is_index != Some(true) => Document::Manifest { config, layers },
        (None, None, Some(manifests)) if is_index != Some(false) => Document::Index(manifests),
        _ => return Err(refused(what, "it is not clearly either a manifest or an index")),
    };
    let descriptors = match &document {
        Document::Manifest { layers, .. } if layers.len() > LAYERS_MAX => {
            let line = format!("{what} has {} layers; at most {LAYERS_MAX} can be mounted", layers.len());
            return Err(Error::new(Reason::LimitExceeded, line));
        }
        Document::Manifest { config, layers } => std::iter::once(config).chain(layers).collect::<Vec<_>>(),
        Document::Index(manifests) => manifests.iter().collect(),
    };
    if let Some(other) = descriptors.iter().find(|descriptor| !is_digest(&descriptor.digest)) {
        return Err(refused(what, &format!("{:?} is no SHA-256 digest", other.digest)));
    }
    Ok(document)
}

/// The media type that a manifest or index says it has.
pub(super) fn media_type(manifest: &[u8]) -> Result<Option<String>> {
    let read: ManifestOrIndex = parse("the manifest", manifest)?;
    Ok(read.media_type)
}

/// Encodes a manifest of hull's own making.
pub(super) fn manifest(config: &Descriptor, layers: &[Descriptor]) -> Result<Vec<u8>> {
    #[derive(Serialize)]
    #[serde(rename_all = "camelCase")]
    struct Manifest<'a> {
        schema_version: u32,
        media_type: &'static str,
        config: &'a Descriptor,
        layers: &'a [Descriptor],
    }
    let media_type = crate::images::content::MANIFEST_TYPE;
    encode(&Manifest { schema_version: 2, media_type, config, layers })
}

fn encode(document: &impl Serialize) -> Result<Vec<u8>> {
    serde_json::to_vec(document).map_err(|error| Error::new(Reason::Internal, format!("encoding JSON: {error}")))
}

impl ConfigDocument {
    /// The config of a root file system that came without one.
    pub(super) fn of_rootfs(config: &ImageConfig, architecture: &str, diff_id: String) -> Self {
        let some = |list: &Vec<String>| (!list.is_empty()).then(|| list.clone());
        let text = |text: &String| (!text.is_empty()).then(|| text.clone());
        let set = |list: &[String]| {
            (!list.is_empty()).then(|| list.iter().map(|key| (key.clone(), Empty {})).collect::<BTreeMap<_, _>>())
        };
        Self {
            created: None,
            architecture: architecture.to_owned(),
            os: "linux".to_owned(),
            config: Some(RuntimeConfig {
                user: text(&config.user),
                exposed_ports: set(&config.exposed_ports),
                env: some(&config.env),
                entrypoint: some(&config.entrypoint),
                cmd: some(&config.cmd),
                volumes: set(&config.volumes),
                working_dir: text(&config.working_dir),
                labels: (!config.labels.is_empty()).then(|| config.labels.clone()),
                stop_signal: text(&config.stop_signal),
            }),
            rootfs: RootFs { kind: "layers".to_owned(), diff_ids: vec![diff_id] },
            history: None,
        }
    }

    pub(super) fn encode(&self) -> Result<Vec<u8>> {
        encode(self)
    }

    /// Reads and checks a config for so many layers.
    pub(super) fn parse(bytes: &[u8], layers: usize) -> Result<Self> {
        let config: Self = parse("the image's config", bytes)?;
        let wrong = |problem: String| Err(refused("the image's config", &problem));
        if config.rootfs.kind != "layers" || config.rootfs.diff_ids.len() != layers {
            return wrong(format!("it names {} layers, the manifest {layers}", config.rootfs.diff_ids.len()));
        }
        if let Some(other) = config.rootfs.diff_ids.iter().find(|digest| !is_digest(digest)) {
            return wrong(format!("{other:?} is no SHA-256 digest"));
        }
        let host = host_architecture();
        if config.os != "linux" || config.architecture != host {
            let line = format!("the image is for {}/{}, this node is linux/{host}", config.os, config.architecture);
            return Err(Error::new(Reason::UnsupportedFeature, line));
        }
        Ok(config)
    }

    /// When it says it was made.
    pub(super) fn created_at(&self) -> Option<SystemTime> {
        time(self.created.as_deref())
    }

    /// What it says about containers.
    pub(super) fn image_config(&mut self) -> ImageConfig {
        let config = self.config.take().unwrap_or_default();
        ImageConfig {
            entrypoint: config.entrypoint.unwrap_or_default(),
            cmd: config.cmd.unwrap_or_default(),
            env: config.env.unwrap_or_default(),
            working_dir: config.working_dir.unwrap_or_default(),
            user: config.user.unwrap_or_default(),
            stop_signal: config.stop_signal.unwrap_or_default(),
            labels: config.labels.unwrap_or_default(),
            exposed_ports: config.exposed_ports.unwrap_or_default().into_keys().collect(),
            volumes: config.volumes.unwrap_or_default().into_keys().collect(),
        }
    }
}

impl HistoryDocument {
    /// When it says that the step was done.
    pub(super) fn created_at(&self) -> Option<SystemTime> {
        time(self.created.as_deref())
    }
}

/// A time of a config; Go's zero time means that there is none.
fn time(text: Option<&str>) -> Option<SystemTime> {
    let time: jiff::Timestamp = text?.parse().ok()?;
    (time >= jiff::Timestamp::UNIX_EPOCH).then(|| time.into())
}

/// This node's architecture as OCI (and Go) call it.
pub(super) const fn host_architecture() -> &'static str {
    if cfg!(target_arch = "x86_64") {
        "amd64"
    } else if cfg!(target_arch = "aarch64") {
        "arm64"
    } else {
        std::env::consts::ARCH
    }
}

fn refused(what: &str, problem: &str) -> Error {
    Error::new(Reason::InvalidArchive, format!("{what}: {problem}"))
}
