//! `hulld`, the hull node agent.
#![forbid(unsafe_code)]

mod error;
mod images;
mod lifecycle;
mod runtime;
mod stats;
mod store;

fn main() {}
