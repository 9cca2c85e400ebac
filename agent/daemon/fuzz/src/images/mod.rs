//! The parts of hulld's `images` that read what others wrote, and what each target does with them.

#[path = "../../../src/images/ahead.rs"]
mod ahead;
#[path = "../../../src/images/compression.rs"]
mod compression;
#[path = "../../../src/images/content.rs"]
mod content;
#[path = "../../../src/images/document.rs"]
mod document;
#[path = "../../../src/images/erofs/mod.rs"]
mod erofs;
#[path = "../../../src/images/layer.rs"]
mod layer;
#[path = "../../../src/images/limits.rs"]
mod limits;
#[path = "../../../src/images/media.rs"]
mod media;
#[path = "../../../src/images/record.rs"]
mod record;
#[path = "../../../src/images/reference.rs"]
mod reference;
#[path = "../../../src/images/tar/mod.rs"]
mod tar;
#[path = "../../../src/images/tree.rs"]
mod tree;
#[path = "../../../src/images/verity.rs"]
mod verity;
#[path = "../../../src/images/well_formed.rs"]
mod well_formed;
pub mod targets;
