//! An OCI image layout on disk, as the tar archive that it would be: the same bytes for the same files.

use std::fs::{self, File};
use std::io::{self, Read, Write};
use std::path::{Path, PathBuf};

use tar::{Builder, EntryType, Header};

use crate::error::{Error, Result};

/// What a layout is known by.
const MARK: &str = "oci-layout";

/// Writes the archive: the mark, the index and the blobs in the order of their names, and nothing else of the directory.
pub(super) fn archive(root: &Path, archive: impl Write) -> Result<()> {
    if !root.join(MARK).is_file() {
        let dir = root.display();
        let hint = format!("for a root file system: tar -C {dir} -c . | hullctl image import --tag NAME -");
        return Err(Error::new(format!("{dir}: is no OCI image layout (it holds no {MARK}); {hint}")));
    }
    let mut builder = Builder::new(archive);
    for name in [MARK, "index.json"] {
        append(&mut builder, root, Path::new(name))?;
    }
    let blobs = Path::new("blobs");
    for algorithm in names(&root.join(blobs))? {
        let folder = blobs.join(algorithm);
        for blob in names(&root.join(&folder))? {
            append(&mut builder, root, &folder.join(blob))?;
        }
    }
    builder.into_inner().and_then(|mut archive| archive.flush()).map_err(|error| Error::file(root, &error))
}

fn names(folder: &Path) -> Result<Vec<PathBuf>> {
    let entries = fs::read_dir(folder).and_then(|entries| entries.map(|entry| Ok(entry?.file_name().into())).collect());
    let mut names: Vec<PathBuf> = entries.map_err(|error| Error::file(folder, &error))?;
    names.sort();
    Ok(names)
}

fn append(builder: &mut Builder<impl Write>, root: &Path, name: &Path) -> Result<()> {
    let path = root.join(name);
    let wrong = |error: io::Error| Error::file(&path, &error);
    if !fs::symlink_metadata(&path).map_err(wrong)?.is_file() {
        return Err(Error::new(format!("{}: is no regular file", path.display())));
    }
    let file = File::open(&path).map_err(wrong)?;
    let size = file.metadata().map_err(wrong)?.len();
    let mut header = Header::new_ustar();
    header.set_entry_type(EntryType::Regular);
    header.set_size(size);
    header.set_mode(0o644);
    header.set_uid(0);
    header.set_gid(0);
    header.set_mtime(0);
    builder.append_data(&mut header, name, Exactly(file.take(size))).map_err(wrong)
}

/// A file that has the length which its header says, or fails.
struct Exactly(io::Take<File>);

impl Read for Exactly {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        match self.0.read(buffer)? {
            0 if self.0.limit() > 0 && !buffer.is_empty() => {
                Err(io::Error::new(io::ErrorKind::UnexpectedEof, "became shorter while it was read"))
            }
            count => Ok(count),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn layout() -> tempfile::TempDir {
        let dir = tempfile::tempdir().unwrap();
        fs::create_dir_all(dir.path().join("blobs/sha256")).unwrap();
        for (name, text) in [
            ("oci-layout", "{}"),
            ("index.json", "[]"),
            ("blobs/sha256/b", "B"),
            ("blobs/sha256/a", "A"),
            ("other", ""),
        ] {
            fs::write(dir.path().join(name), text).unwrap();
        }
        dir
    }

    #[test]
    fn the_same_files_are_the_same_bytes() {
        let bytes = || {
            let mut bytes = Vec::new();
            archive(layout().path(), &mut bytes).unwrap();
            bytes
        };
        let first = bytes();
        assert_eq!(first, bytes());
        let mut read = tar::Archive::new(&first[..]);
        let names: Vec<String> =
            read.entries().unwrap().map(|entry| entry.unwrap().path().unwrap().display().to_string()).collect();
        assert_eq!(names, ["oci-layout", "index.json", "blobs/sha256/a", "blobs/sha256/b"]);
    }

    #[test]
    fn what_is_no_layout_is_refused_with_the_way_out() {
        let dir = tempfile::tempdir().unwrap();
        let error = archive(dir.path(), Vec::new()).unwrap_err().to_string();
        assert!(error.contains("tar -C"), "{error}");
    }

    #[test]
    fn links_are_not_followed() {
        let dir = layout();
        std::os::unix::fs::symlink("/etc/hostname", dir.path().join("blobs/sha256/c")).unwrap();
        let error = archive(dir.path(), Vec::new()).unwrap_err().to_string();
        assert!(error.contains("blobs/sha256/c"), "{error}");
    }
}
