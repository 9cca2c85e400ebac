//! How a decision reaches the kernel.

pub(crate) mod cgroup;
