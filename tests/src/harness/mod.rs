//! Starts the real `hulld`, talks to it as any client does, and fails if anything is left when it ends.
//!
//! - [`Agent`]: one daemon with a state directory, a cgroup subtree and a network namespace of its own;
//! - [`Session`]: what one test works with: an agent (its own, or one shared by the tests that run at the moment), clients, and
//!   the containers it made, which go when it ends;
//! - [`Network`], [`Registry`], [`Proxy`]: a network of the tests', a real registry in it, and what makes the way there a bad one;
//! - [`monitoring`]: those who ask for metrics, a real Prometheus among them;
//! - [`census`]: what is on the host under an agent's names, before and after;
//! - [`bulk()`], [`given()`]: how much of what is done in bulk;
//! - [`wait`]: the only way to wait: poll a condition until a deadline, scaled by one factor.

mod agent;
mod authority;
mod bulk;
pub mod census;
mod client;
pub mod copy;
mod ctl;
pub mod host;
pub mod image;
pub mod keep;
pub mod monitoring;
mod network;
pub mod oci;
mod proxy;
pub mod registry;
mod session;
pub mod site;
mod small_disk;
pub mod stats;
mod stream;
pub mod wait;

pub use agent::{Agent, AgentOptions, binary, probe, shim, workspace};
pub use authority::Authority;
pub use bulk::{bulk, given};
pub use client::{Clients, connect, connect_with_window};
pub use ctl::{Ctl, Pty};
pub use hull_probe::Report;
pub use image::{BASE_IMAGE, Rootfs};
pub use network::Network;
pub use proxy::{Asked, Fault, Proxy};
pub use registry::{Registry, RegistryOptions};
pub use session::{Output, Session, assert_error, duration, error_info, metadata};
pub use small_disk::SmallDisk;
pub use stream::{AttachSession, ExecOutput, ExecSession};
