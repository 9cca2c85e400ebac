use crate::error::Result;
use std::path::PathBuf;
use std::sync::Arc;
#[derive(Debug, Clone)]
pub(crate) struct Images;
#[derive(Debug, Clone)]
pub(crate) struct Image {
    pub(crate) digest: String,
}
impl Image {
    pub(crate) fn stop_signal(&self) -> Option<i32> {
        None
    }
}
pub(crate) struct Lease;
impl Images {
    pub(crate) fn get(&self, _: &str) -> Result<Arc<Image>> {
        Err(crate::error::Error::invalid("a", "b"))
    }
    pub(crate) fn lease(&self, _: &str) -> Lease {
        Lease
    }
}
#[derive(Debug, Clone)]
pub(crate) struct LayerMounts;
impl LayerMounts {
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
