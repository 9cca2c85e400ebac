//! This side of a copy: where it goes, and files from and to a tar.

mod pack;
mod place;
mod unpack;

pub(crate) use pack::{Packing, pack};
pub(crate) use place::{Destination, Source, cleaned, place};
pub(crate) use unpack::{Left, Unpacking, unpack};
