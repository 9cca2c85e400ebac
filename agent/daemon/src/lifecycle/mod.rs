//! What a container is and what it may do next.

mod assemble;
mod changes;
pub(crate) mod config;
mod container;
mod containers;
mod context;
mod copy;
mod disk;
mod index;
mod keyed_lock;
pub(crate) mod logs;
mod plan;
mod record;
mod restore;
mod security;
mod session;
pub(crate) mod signal;
mod spec;
mod state;
mod userns;

pub(crate) use containers::{Containers, WaitCondition};
pub(crate) use context::{COPIES_MAX, Context, Host};
pub(crate) use disk::{ContainerUsage, WritableLayers};
pub(crate) use record::{Exit, View};
pub(crate) use security::seccomp::SeccompCache;
pub(crate) use session::{AttachConfig, Control, Session};
pub(crate) use state::State;
pub(crate) use userns::UsernsRanges;

pub(crate) use crate::runtime::stdio::{Input, Output};
