//! The files that layers are mounted from: keeping them, reading them again, setting them aside.

use std::fs::{self, File};
use std::io::{self, ErrorKind};
use std::os::unix::fs::FileExt as _;

use tempfile::NamedTempFile;

use super::Shared;
use super::content::sync_directory;
use super::layer::Converted;
use super::reading::{open_cold, read_problem, unreadable};
use super::record::Layer;
use super::verity::{BLOCK, Hasher};
use crate::error::{Error, Result};

/// Blocks read at once.
const BLOCKS: usize = 64;

/// What is known of a layer whose file is there. One that is not as long as it was is set aside and taken for missing.
pub(super) fn find(shared: &Shared, diff_id: &str) -> Result<Option<Layer>> {
    let path = shared.layer_path(diff_id);
    let failed = |error| Error::io(format!("reading {}", path.display()), &error);
    let file = match File::open(&path) {
        Ok(file) => file,
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(failed(error)),
    };
    let size = file.metadata().map_err(failed)?.len();
    match shared.catalog.layer(diff_id) {
        Some(known) if known.size == size && known.digest.is_some() => Ok(Some(known)),
        Some(known) if known.size != size => set_aside(shared, diff_id).map(|()| None),
        // An import in flight has just kept it.
        _ => {
            let digest = digest(&file, |_| Ok(())).map_err(failed)?;
            Ok(Some(Layer { diff_id: diff_id.to_owned(), size, digest: Some(digest) }))
        }
    }
}

/// Moves a synced EROFS file to its place. The same layer, converted twice at once, is kept once.
pub(super) fn keep(shared: &Shared, diff_id: &str, file: NamedTempFile, converted: &Converted) -> Result<Layer> {
    let path = shared.layer_path(diff_id);
    match file.persist_noclobber(&path) {
        Err(error) if error.error.kind() != ErrorKind::AlreadyExists => {
            Err(Error::io(format!("keeping the layer {}", path.display()), &error.error))
        }
        _ => Ok(Layer { diff_id: diff_id.to_owned(), size: converted.size, digest: Some(converted.digest.clone()) }),
    }
}

/// Moves a layer's file out of the way. Who has it mounted keeps it.
pub(super) fn set_aside(shared: &Shared, diff_id: &str) -> Result<()> {
    let path = shared.layer_path(diff_id);
    let target = shared.damaged.join(path.file_name().unwrap_or_default());
    match fs::rename(&path, &target) {
        Err(error) if error.kind() != ErrorKind::NotFound => {
            Err(Error::io(format!("setting {} aside", path.display()), &error))
        }
        _ => sync_directory(&shared.layers),
    }
}

/// Reads a layer's file and says what is wrong with it, if anything is. `read` as for [`digest`].
pub(super) fn problem(
    shared: &Shared,
    layer: &Layer,
    read: &mut dyn FnMut(usize) -> io::Result<()>,
) -> Result<Option<String>> {
    let file = match open_cold(&shared.layer_path(&layer.diff_id)) {
        Ok(file) => file,
        Err(error) => return Ok(Some(unreadable(&error))),
    };
    let found = digest(&file, read).map(|digest| match &layer.digest {
        Some(known) if *known != digest => Some(format!("its fs-verity digest is {digest}, not {known}")),
        _ => None,
    });
    found.or_else(|error| read_problem("reading a layer", error).map(Some))
}

/// Reads a file from its start to its end; `read` is told how many bytes each time and may stop it.
pub(super) fn digest(file: &File, mut read: impl FnMut(usize) -> io::Result<()>) -> io::Result<String> {
    let mut first = [0; BLOCK];
    let length = fill(file, &mut first, 0)?;
    read(length)?;
    let mut hasher = Hasher::new();
    let (mut buffer, mut at) = (vec![0; BLOCKS * BLOCK], BLOCK as u64);
    loop {
        let length = fill(file, &mut buffer, at)?;
        if length == 0 {
            break;
        }
        read(length)?;
        at += length as u64;
        buffer[..length].chunks(BLOCK).for_each(|block| hasher.block(block));
    }
    let size = if at == BLOCK as u64 { length as u64 } else { at };
    Ok(hasher.finish(&first[..length], size))
}

/// Reads until the buffer is full or the file ends; how many bytes that were.
fn fill(file: &File, buffer: &mut [u8], at: u64) -> io::Result<usize> {
    let mut filled = 0;
    while filled < buffer.len() {
        match file.read_at(&mut buffer[filled..], at + filled as u64) {
            Ok(0) => break,
            Ok(length) => filled += length,
            Err(error) if error.kind() == ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    Ok(filled)
}
