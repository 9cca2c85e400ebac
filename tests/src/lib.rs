//! What the black-box tests stand on: see [`harness`].
#![forbid(unsafe_code)]

pub mod harness;
