//! What containers and the node use: one sampler for any number of readers.
//!
//! ```text
//!   files of the kernel --pread--> sampler's thread --one reading--> slot of each subscriber (the newest, and how many it missed)
//!                                                                --> whoever asked for one reading, as `/metrics` does
//! ```
//!
//! Subscribers at different intervals share passes: each one's frames fall on multiples of its interval on one common clock. Those
//! that want the same share one reading. The thread is there only while somebody wants something; what nobody wants is not read,
//! and its files are closed.

mod group;
mod hub;
mod parse;
mod read;
mod sample;
mod sampler;
mod selector;
mod shared;
mod subscription;
mod target;
#[cfg(test)]
mod tests;

pub(crate) use group::{Group, Groups};
pub(crate) use hub::StatsHub;
pub(crate) use sample::{
    CpuStats, DeviceIo, HugetlbSize, Interface, MemoryStats, NodeCpu, NodeLoad, NodeMemory, NodeSample, PidsStats,
    Pressure, PressureStats, Sample, Stall, Usage, Writable,
};
#[cfg(test)]
pub(crate) use sample::{Identity, IoStats, Moment};
pub(crate) use selector::Selector;
pub(crate) use shared::Passes;
pub(crate) use subscription::{Frame, Reading, Subscription};
pub(crate) use target::Registration;
