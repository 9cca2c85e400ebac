//! What the processes of a container may do: capabilities, system calls, devices, ids. Pure but for [`capabilities::HostCapabilities::read`].

pub(crate) mod capabilities;
pub(crate) mod devices;
pub(crate) mod seccomp;
pub(crate) mod user;
