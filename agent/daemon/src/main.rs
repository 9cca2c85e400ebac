//! `hulld`, the hull node agent.
#![forbid(unsafe_code)]

mod error;
mod lifecycle;

fn main() {}
