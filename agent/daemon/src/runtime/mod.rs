//! How a decision reaches the kernel.

pub(crate) mod features;
pub(crate) mod stdio;
