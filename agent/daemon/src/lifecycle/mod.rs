//! What a container is and what it may do next.

pub(crate) mod assemble;
pub(crate) mod config;
pub(crate) mod container;
pub(crate) mod containers;
pub(crate) mod context;
pub(crate) mod index;
pub(crate) mod keyed_lock;
pub(crate) mod plan;
pub(crate) mod record;
pub(crate) mod restore;
pub(crate) mod security;
pub(crate) mod session;
pub(crate) mod spec;
pub(crate) mod state;
pub(crate) mod userns;
