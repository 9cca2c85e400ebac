//! What a container is and what it may do next.

pub(crate) mod config;
pub(crate) mod plan;
pub(crate) mod security;
pub(crate) mod spec;
