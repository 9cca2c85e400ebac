//! Images.
#![expect(dead_code, reason = "being built")]
mod erofs;
mod layer;
mod limits;
mod record;
mod reference;
mod tar;
mod tree;
