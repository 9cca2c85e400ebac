//! Images.

use std::collections::BTreeMap;

use hull_proto::v1;
use jiff::Timestamp;
use serde::Serialize;

use super::time::moment;

/// An image, with the field names of protobuf's JSON mapping.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct ImageView {
    digest: String,
    names: Vec<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    created_at: Option<Timestamp>,
    #[serde(skip_serializing_if = "Option::is_none")]
    imported_at: Option<Timestamp>,
    architecture: String,
    os: String,
    config: ImageConfigView,
    layers: Vec<LayerView>,
    size: u64,
}

#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct ImageConfigView {
    entrypoint: Vec<String>,
    cmd: Vec<String>,
    env: Vec<String>,
    working_dir: String,
    user: String,
    stop_signal: String,
    labels: BTreeMap<String, String>,
    exposed_ports: Vec<String>,
    volumes: Vec<String>,
}

#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct LayerView {
    diff_id: String,
    size: u64,
}

impl From<v1::Image> for ImageView {
    fn from(image: v1::Image) -> Self {
        Self {
            digest: image.digest,
            names: image.names,
            created_at: moment(image.created_at.as_ref()),
            imported_at: moment(image.imported_at.as_ref()),
            architecture: image.architecture,
            os: image.os,
            config: image.config.unwrap_or_default().into(),
            layers: image.layers.into_iter().map(LayerView::from).collect(),
            size: image.size,
        }
    }
}

impl From<v1::ImageConfig> for ImageConfigView {
    fn from(config: v1::ImageConfig) -> Self {
        Self {
            entrypoint: config.entrypoint,
            cmd: config.cmd,
            env: config.env,
            working_dir: config.working_dir,
            user: config.user,
            stop_signal: config.stop_signal,
            labels: config.labels.into_iter().collect(),
            exposed_ports: config.exposed_ports,
            volumes: config.volumes,
        }
    }
}

impl From<v1::Layer> for LayerView {
    fn from(layer: v1::Layer) -> Self {
        Self { diff_id: layer.diff_id, size: layer.size }
    }
}

/// A step of an image's making.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct HistoryView {
    #[serde(skip_serializing_if = "Option::is_none")]
    created_at: Option<Timestamp>,
    created_by: String,
    author: String,
    comment: String,
    diff_id: String,
    size: u64,
}

impl From<v1::HistoryEntry> for HistoryView {
    fn from(entry: v1::HistoryEntry) -> Self {
        Self {
            created_at: moment(entry.created_at.as_ref()),
            created_by: entry.created_by,
            author: entry.author,
            comment: entry.comment,
            diff_id: entry.diff_id,
            size: entry.size,
        }
    }
}

/// What a prune removed and left.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct PruneView {
    removed: Vec<PrunedView>,
    kept: Vec<KeptView>,
    freed_bytes: u64,
}

#[derive(Debug, Serialize)]
struct PrunedView {
    digest: String,
    names: Vec<String>,
}

#[derive(Debug, Serialize)]
struct KeptView {
    digest: String,
    names: Vec<String>,
    reason: String,
    bytes: u64,
}

impl From<v1::PruneImagesResponse> for PruneView {
    fn from(pruned: v1::PruneImagesResponse) -> Self {
        let removed = |image: v1::PrunedImage| PrunedView { digest: image.digest, names: image.names };
        Self {
            removed: pruned.removed.into_iter().map(removed).collect(),
            kept: pruned.kept.into_iter().map(KeptView::from).collect(),
            freed_bytes: pruned.freed_bytes,
        }
    }
}

impl From<v1::KeptImage> for KeptView {
    fn from(image: v1::KeptImage) -> Self {
        Self { digest: image.digest, names: image.names, reason: image.reason, bytes: image.bytes }
    }
}

/// A file that is not what it should be.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct DamageView {
    digest: String,
    kind: &'static str,
    images: Vec<String>,
    problem: String,
    repaired: bool,
    #[serde(skip_serializing_if = "String::is_empty")]
    repair_error: String,
}

impl From<v1::DamagedFile> for DamageView {
    fn from(file: v1::DamagedFile) -> Self {
        Self {
            kind: file.kind().as_str_name(),
            digest: file.digest,
            images: file.images,
            problem: file.problem,
            repaired: file.repaired,
            repair_error: file.repair_error,
        }
    }
}
