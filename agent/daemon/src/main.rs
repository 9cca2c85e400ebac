//! `hulld`, the hull node agent.
#![forbid(unsafe_code)]

mod error;
mod images;
mod lifecycle;
mod store;

fn main() {}
