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
