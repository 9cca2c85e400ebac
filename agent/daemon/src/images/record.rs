//! What hull remembers of an image.

use std::collections::BTreeMap;
use std::time::SystemTime;

use serde::{Deserialize, Serialize};

use super::media::OCI_MANIFEST;
use super::reference::Reference;

/// One image: a manifest whose layers are ready to be mounted.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Image {
    /// Digest of the manifest, "sha256:…".
    pub(crate) digest: String,
    /// Normalized names, sorted.
    pub(crate) names: Vec<String>,
    /// What never changes about it.
    pub(crate) record: Record,
}

/// The part of an image that is stored under its digest.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Record {
    /// What it says about containers.
    pub(crate) config: ImageConfig,
    /// When its config says it was made.
    pub(crate) created: Option<SystemTime>,
    /// When it came to this node.
    pub(crate) imported_at: SystemTime,
    /// Processor architecture as OCI calls it, "amd64".
    pub(crate) architecture: String,
    /// Operating system, "linux".
    pub(crate) os: String,
    /// The lowest first.
    pub(crate) layers: Vec<Layer>,
    /// Digests of the blobs in the content store: manifest, config, layers.
    pub(crate) blobs: Vec<String>,
    /// Media type of the manifest.
    #[serde(default = "oci_manifest")]
    pub(crate) media_type: String,
    /// Where it was pulled from.
    #[serde(default)]
    pub(crate) sources: Vec<Source>,
}

/// A place that an image was pulled from.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Source {
    /// Registry and repository, "docker.io/library/alpine".
    pub(crate) repository: String,
    /// Digest of the index that it was chosen from; it names the image, too.
    pub(crate) index: Option<String>,
}

fn oci_manifest() -> String {
    OCI_MANIFEST.to_owned()
}

/// A layer as it is kept for mounting.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Layer {
    /// Digest of the uncompressed tar, "sha256:…".
    pub(crate) diff_id: String,
    /// Bytes of its EROFS file.
    pub(crate) size: u64,
}

/// What an image says about containers made from it.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub(crate) struct ImageConfig {
    /// Entry point.
    pub(crate) entrypoint: Vec<String>,
    /// Command, or arguments of the entry point.
    pub(crate) cmd: Vec<String>,
    /// "NAME=value".
    pub(crate) env: Vec<String>,
    /// Working directory; empty: "/".
    pub(crate) working_dir: String,
    /// "user[:group]", names or numbers; empty: root.
    pub(crate) user: String,
    /// Name or number; empty: SIGTERM.
    pub(crate) stop_signal: String,
    /// Labels.
    pub(crate) labels: BTreeMap<String, String>,
    /// "80/tcp".
    pub(crate) exposed_ports: Vec<String>,
    /// Paths it declares as volumes.
    pub(crate) volumes: Vec<String>,
}

impl Image {
    /// When its config says it was made, in nanoseconds since the epoch.
    pub(crate) fn created_nanos(&self) -> Option<u64> {
        self.record.created.map(nanos)
    }

    /// When it came to this node, in nanoseconds since the epoch.
    pub(crate) fn imported_nanos(&self) -> u64 {
        nanos(self.record.imported_at)
    }

    /// Repositories that should have it: those that it was pulled from, then those of its names.
    pub(super) fn repositories(&self) -> Vec<String> {
        let pulled = self.record.sources.iter().map(|source| source.repository.clone());
        let named = self.names.iter().filter_map(|name| Reference::parse(name).ok());
        let mut repositories = Vec::new();
        for repository in pulled.chain(named.map(|name| name.repository())) {
            if !repositories.contains(&repository) {
                repositories.push(repository);
            }
        }
        repositories
    }

    /// Whether it is named by this digest: of its manifest, or of an index that it was chosen from.
    pub(super) fn has_digest(&self, digest: &str) -> bool {
        self.digest == digest || self.record.sources.iter().any(|source| source.index.as_deref() == Some(digest))
    }

    /// Bytes of its layers as kept for mounting.
    pub(crate) fn size(&self) -> u64 {
        self.record.layers.iter().map(|layer| layer.size).sum()
    }
}

fn nanos(time: SystemTime) -> u64 {
    let since = time.duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
    u64::try_from(since.as_nanos()).unwrap_or(u64::MAX)
}

impl std::ops::Deref for Image {
    type Target = Record;

    fn deref(&self) -> &Record {
        &self.record
    }
}
