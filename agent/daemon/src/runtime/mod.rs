//! How a decision reaches the kernel.

mod blocking;
pub(crate) mod cgroup;
pub(crate) mod dirs;
pub(crate) mod features;
pub(crate) mod memfd;
pub(crate) mod shim;
pub(crate) mod stdio;
pub(crate) mod watched;

pub(crate) use blocking::blocking;
