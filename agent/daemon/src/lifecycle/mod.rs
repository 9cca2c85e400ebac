//! What a container is and what it may do next.

pub(crate) mod config;
mod containers;
pub(crate) mod logs;
mod state;

pub(crate) use containers::{AttachConfig, Containers, Created, Exit, View, WaitCondition};
pub(crate) use hull_wire::StepTime;
pub(crate) use state::State;

pub(crate) use crate::runtime::stdio::{Control, Input, Output, Session};
