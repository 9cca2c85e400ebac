//! Shims: the sealed binary, a pool of started ones, the connection to one.

mod binary;
mod client;
mod packet;
mod pool;

pub(crate) use binary::ShimBinary;
pub(crate) use client::{Link, ShimClient, listen};
pub(crate) use pool::ShimPool;
