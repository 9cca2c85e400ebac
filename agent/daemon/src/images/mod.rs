//! The images of this node.

use std::collections::BTreeMap;
use std::io::Read;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64};

use crate::error::{Error, Reason, Result};

#[derive(Debug, Default, Clone, PartialEq, Eq)]
pub(crate) struct ImageConfig {
    pub(crate) entrypoint: Vec<String>,
    pub(crate) cmd: Vec<String>,
    pub(crate) env: Vec<String>,
    pub(crate) working_dir: String,
    pub(crate) user: String,
    pub(crate) stop_signal: String,
    pub(crate) labels: BTreeMap<String, String>,
    pub(crate) exposed_ports: Vec<String>,
    pub(crate) volumes: Vec<String>,
}

#[derive(Debug)]
pub(crate) struct Layer {
    pub(crate) diff_id: String,
    pub(crate) size: u64,
}

#[derive(Debug)]
pub(crate) struct Image {
    pub(crate) digest: String,
    pub(crate) names: Vec<String>,
    pub(crate) created_nanos: Option<u64>,
    pub(crate) imported_nanos: u64,
    pub(crate) architecture: String,
    pub(crate) os: String,
    pub(crate) config: ImageConfig,
    pub(crate) layers: Vec<Layer>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum ArchiveFormat {
    RootfsTar,
    Oci,
    Docker,
}

#[derive(Debug)]
pub(crate) struct ImportOptions {
    pub(crate) tags: Vec<String>,
    pub(crate) format: Option<ArchiveFormat>,
    pub(crate) config: Option<ImageConfig>,
}

#[derive(Debug, Default)]
pub(crate) struct Progress {
    pub(crate) bytes_read: AtomicU64,
    pub(crate) layers_done: AtomicU32,
    pub(crate) entries: AtomicU64,
}

#[derive(Debug)]
pub(crate) struct Removed {
    pub(crate) untagged: Vec<String>,
    pub(crate) deleted: Option<String>,
    pub(crate) freed_bytes: u64,
}

#[derive(Debug, Clone)]
pub(crate) struct Images;

#[allow(unused_variables)]
impl Images {
    pub(crate) fn import(
        &self,
        options: ImportOptions,
        reader: impl Read + Send,
        progress: &Progress,
        cancelled: &AtomicBool,
    ) -> Result<Arc<Image>> {
        Err(Error::new(Reason::Internal, "not linked"))
    }
    pub(crate) fn get(&self, reference: &str) -> Result<Arc<Image>> {
        Err(Error::new(Reason::Internal, "not linked"))
    }
    pub(crate) fn list(&self) -> Vec<Arc<Image>> {
        Vec::new()
    }
    pub(crate) fn remove(&self, reference: &str, in_use: &dyn Fn(&str) -> Option<String>) -> Result<Removed> {
        Err(Error::new(Reason::Internal, "not linked"))
    }
}

pub(crate) struct Lease;
#[derive(Debug, Clone)]
pub(crate) struct LayerMounts;
use std::path::{Path, PathBuf};
impl LayerMounts {
    pub(crate) fn new(_: &Path, _: Images, _: String) -> Self {
        Self
    }
    pub(crate) fn mounted(&self, _: &Image) -> Result<Vec<PathBuf>> {
        Ok(vec![])
    }
    pub(crate) fn acquire(&self, _: &Image) -> Result<Vec<PathBuf>> {
        Ok(vec![])
    }
    pub(crate) fn release(&self, _: &Image) -> Result<()> {
        Ok(())
    }
    pub(crate) fn sweep(&self) -> Result<()> {
        Ok(())
    }
}
impl Images {
    pub(crate) fn open(_: &Path, _: crate::store::Store) -> Result<Self> {
        Ok(Self)
    }
    pub(crate) fn lease(&self, _: &str) -> Lease {
        Lease
    }
}
