//! A writable layer as the tar of an OCI layer: its entries, and ".wh." files for what it hides.

use std::io::Write;

use super::WritableLayer;
use super::entries::Entries;
use super::walk::{Entry, Purpose, Walk, What};
use crate::error::{Error, Reason, Result};
use crate::images::tar::shown;
use crate::images::tree::{WHITEOUT, WHITEOUT_OPAQUE};

/// Writes the layer to its end mark.
pub(in crate::images) fn write(layer: &WritableLayer, output: impl Write) -> Result<()> {
    let mut entries = Entries::new(output, layer.owners);
    if let Some(mut walk) = Walk::begin(layer, Purpose::Layer)? {
        while let Some(entry) = walk.next()? {
            add(&mut entries, entry)?;
        }
    }
    entries.finish().map(drop)
}

fn add(entries: &mut Entries<impl Write>, entry: Entry) -> Result<()> {
    let (above, name) = split(&entry.path);
    if name.starts_with(WHITEOUT) {
        let line = format!("{} cannot be kept in a layer, where it would hide another file", shown(&entry.path));
        return Err(Error::new(Reason::UnsupportedFeature, line).hint("rename or remove it"));
    }
    match entry.what {
        What::Hidden => Ok(()),
        What::Whiteout => entries.mark(&[above, WHITEOUT, name].concat()),
        What::Opaque(found) => {
            entries.found(&entry.path, &found)?;
            entries.mark(&[&*entry.path, b"/", WHITEOUT_OPAQUE].concat())
        }
        What::Here(found) => entries.found(&entry.path, &found),
    }
}

/// A path up to its last slash, that included, and what follows.
fn split(path: &[u8]) -> (&[u8], &[u8]) {
    path.split_at(path.iter().rposition(|byte| *byte == b'/').map_or(0, |at| at + 1))
}
