//! How a decision reaches the kernel.

pub(crate) mod cgroup;
pub(crate) mod dirs;
pub(crate) mod features;
pub(crate) mod measure;
pub(crate) mod memfd;
pub(crate) mod processes;
pub(crate) mod shim;
pub(crate) mod stdio;
pub(crate) mod watched;
