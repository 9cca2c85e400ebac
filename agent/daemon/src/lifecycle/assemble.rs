//! From record and image to everything that a shim needs: control group, directories, mounted layers, socket, plan.
//! The one place where these come together; in one go, on a blocking thread.

use std::os::fd::OwnedFd;
use std::time::Instant;

use hull_wire::{Step, StepTime};

use super::config::{ContainerConfig, NamespaceMode};
use super::container::clean_cgroup;
use super::context::Context;
use super::index::Index;
use super::record::Record;
use crate::error::Result;
use crate::images::Image;
use crate::runtime::cgroup::ContainerCgroup;
use crate::runtime::{memfd, shim};

/// What the shim gets, and what the agent keeps.
#[derive(Debug)]
pub(crate) struct Assembled {
    /// The encoded plan.
    pub(crate) plan: OwnedFd,
    /// The shim's listening socket.
    pub(crate) listener: OwnedFd,
    pub(crate) cgroup: ContainerCgroup,
    /// The OCI runtime spec as JSON.
    pub(crate) spec: Vec<u8>,
    /// How long the agent's own steps took.
    pub(crate) steps: Vec<StepTime>,
}
pub(crate) struct Joined;
pub(crate) fn joined_namespaces(_: &Index, _: &ContainerConfig) -> Result<Joined> {
    Ok(Joined)
}
pub(crate) fn assemble(_: &Context, _: &Record, _: &Image, _: bool, _: Joined) -> Result<Assembled> {
    Err(crate::error::Error::invalid("a", "b"))
}
