//! What the fuzz targets call: hulld's own image code, taken in by path, since hulld is a program and no library.
//!
//! A target fails by panicking: in the code itself (overflows and debug assertions are checked), or here, where what came
//! out is not what must have.

#![forbid(unsafe_code)]
#![allow(dead_code, unused_imports, reason = "a part of hulld's code is called, all of it is here")]

pub mod erofs;
#[path = "../../src/error.rs"]
mod error;
mod images;
pub mod made;

pub use images::targets::*;
