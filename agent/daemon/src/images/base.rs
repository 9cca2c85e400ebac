//! The base layer: the mount points that every container needs, lowest in every overlay. An image that lacks them (most have no
//! /etc/hosts) would get them made in each container's writable layer, where they cost a start 0.15 ms and show as changes. An
//! image's own files and directories hide those of the base layer.

use std::io;

use super::Shared;
use super::content::{scratch_file, sync_directory};
use super::erofs::Writer;
use super::tar::Time;
use super::tree::{Attributes, Content, Directory, Node, Tree};
use crate::error::{Error, Result};

/// In place of a diff id. A base layer with other contents needs another name.
pub(super) const BASE_LAYER: &str = "base-1";
const DIRECTORIES: [&str; 4] = ["dev", "etc", "proc", "sys"];
const FILES: [&str; 3] = ["etc/hostname", "etc/hosts", "etc/resolv.conf"];

/// Writes the layer's file if it is not there.
pub(super) fn make(shared: &Shared) -> Result<()> {
    let path = shared.layer_path(BASE_LAYER);
    if path.exists() {
        return Ok(());
    }
    let file = scratch_file(&shared.scratch)?;
    let tails = tempfile::tempfile_in(&shared.scratch).map_err(|error| Error::io("making a scratch file", &error))?;
    let duplicate = file.as_file().try_clone().map_err(|error| Error::io("duplicating a descriptor", &error))?;
    let mut writer = Writer::new(duplicate, tails);
    let mut tree = Tree::new();
    for directory in DIRECTORIES {
        put(&mut tree, directory, 0o755, Content::Directory(Directory::default()))?;
    }
    for name in FILES {
        let empty = writer.data(io::empty(), 0, &[])?;
        put(&mut tree, name, 0o644, Content::File(empty))?;
    }
    tree.finish();
    writer.finish(&tree, [0; 16])?;
    file.persist(&path).map_err(|error| Error::io(format!("keeping the layer {}", path.display()), &error.error))?;
    sync_directory(&shared.layers)
}

fn put(tree: &mut Tree, path: &str, mode: u16, content: Content) -> Result<()> {
    let place = tree.place(path.as_bytes(), Time::default())?;
    tree.put(place, Node { attributes: Attributes { mode, ..Attributes::default() }, content })
}
