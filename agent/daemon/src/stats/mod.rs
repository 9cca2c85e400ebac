//! What containers use: one sampler for any number of subscribers.
//!
//! ```text
//!   control group files --pread--> sampler thread --frames--> slot of each subscriber (newest frame, count of missed ones)
//! ```
//!
//! Subscribers at different intervals share passes: each one's frames fall on multiples of its interval on one common clock. The
//! thread is there only while somebody subscribes, and files stay open only as long.

mod hub;
mod parse;
mod reader;
mod sample;
mod sampler;
mod subscription;
#[cfg(test)]
mod tests;

pub(crate) use hub::{Selector, StatsHub};
pub(crate) use sample::{CpuStats, DeviceIo, MemoryStats, PidsStats, Sample};
pub(crate) use subscription::Subscription;
