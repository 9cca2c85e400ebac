//! An OCI image layout.

use std::io::Write;

use super::{Archive, Selected, document};
use crate::error::Result;
use crate::images::Shared;
use crate::images::content::{LAYOUT, index};

pub(super) fn write<W: Write>(shared: &Shared, images: &[Selected], archive: &mut Archive<W>) -> Result<()> {
    let mut entries = Vec::new();
    for selected in images {
        let digest = &selected.image().digest;
        let manifest = document(shared, digest)?;
        let names = selected.names.iter().cloned().collect::<Vec<_>>();
        entries.push((digest.clone(), selected.image().media_type.clone(), manifest.len() as u64, names));
    }
    let index = index(entries)?;
    archive.file("oci-layout", LAYOUT.len() as u64, LAYOUT.as_bytes())?;
    archive.file("index.json", index.len() as u64, &*index)?;
    for digest in images.iter().flat_map(|selected| &selected.image().blobs) {
        archive.blob(shared, digest, &format!("blobs/{}", digest.replacen(':', "/", 1)))?;
    }
    Ok(())
}
