//! From files on this side to a tar: owners, modes, times, links, extended attributes. Sockets are left out.

use std::collections::HashMap;
use std::fs::{self, File, Metadata};
use std::io::{self, Read, Write};
use std::os::unix::fs::{FileTypeExt as _, MetadataExt as _};
use std::path::{Path, PathBuf};

use rustix::fs::{lgetxattr, llistxattr, major, minor};
use rustix::io::Errno;
use tar::{Builder, EntryType, Header};

use crate::error::{Error, Result};

/// Most bytes of the names or of one value of a file's extended attributes (XATTR_SIZE_MAX of Linux).
const XATTRS_MAX: usize = 64 << 10;

/// What to pack.
#[derive(Debug)]
pub(crate) struct Packing {
    pub(crate) path: PathBuf,
    /// First name in the tar.
    pub(crate) name: String,
    /// Follow a symbolic link at `path`.
    pub(crate) follow: bool,
}

/// Writes the tar.
pub(crate) fn pack(packing: &Packing, output: impl Write) -> Result<()> {
    let mut tar = Tar { builder: Builder::new(output), links: HashMap::new() };
    let name = PathBuf::from(&packing.name);
    let found = if packing.follow { fs::metadata(&packing.path) } else { fs::symlink_metadata(&packing.path) };
    let found = found.map_err(|error| Error::file(&packing.path, &error))?;
    let mut waiting = vec![(packing.path.clone(), name, Some(found))];
    while let Some((path, name, found)) = waiting.pop() {
        let found = match found {
            Some(found) => found,
            None => match fs::symlink_metadata(&path) {
                // It has gone since its directory was read.
                Err(error) if error.kind() == io::ErrorKind::NotFound => continue,
                found => found.map_err(|error| Error::file(&path, &error))?,
            },
        };
        tar.add(&path, &name, &found)?;
        if found.is_dir() {
            let mut names: Vec<_> = fs::read_dir(&path)
                .and_then(|entries| entries.map(|entry| entry.map(|entry| entry.file_name())).collect())
                .map_err(|error| Error::file(&path, &error))?;
            names.sort_unstable();
            waiting.extend(names.into_iter().rev().map(|entry| (path.join(&entry), name.join(&entry), None)));
        }
    }
    tar.builder.into_inner().and_then(|mut output| output.flush()).map_err(|error| sending(&error))
}

struct Tar<W: Write> {
    builder: Builder<W>,
    /// First names of files that have several, by device and inode.
    links: HashMap<(u64, u64), PathBuf>,
}

impl<W: Write> Tar<W> {
    fn add(&mut self, path: &Path, name: &Path, found: &Metadata) -> Result<()> {
        let kind = found.file_type();
        if kind.is_socket() {
            return Ok(());
        }
        let mut header = Header::new_gnu();
        header.set_metadata(found);
        header.set_size(0);
        if !kind.is_dir() && found.nlink() > 1 {
            if let Some(first) = self.links.get(&(found.dev(), found.ino())) {
                header.set_entry_type(EntryType::Link);
                return self.builder.append_link(&mut header, name, first).map_err(|error| sending(&error));
            }
            self.links.insert((found.dev(), found.ino()), name.to_owned());
        }
        self.extensions(path, found)?;
        if kind.is_symlink() {
            let target = fs::read_link(path).map_err(|error| Error::file(path, &error))?;
            return self.builder.append_link(&mut header, name, target).map_err(|error| sending(&error));
        }
        if !kind.is_file() {
            if kind.is_char_device() || kind.is_block_device() {
                let (high, low) = (major(found.rdev()), minor(found.rdev()));
                let set = header.set_device_major(high).and_then(|()| header.set_device_minor(low));
                set.map_err(|error| Error::file(path, &error))?;
            }
            return self.builder.append_data(&mut header, name, io::empty()).map_err(|error| sending(&error));
        }
        let file = File::open(path).map_err(|error| Error::file(path, &error))?;
        header.set_size(found.size());
        let data = Exactly { inner: file, left: found.size(), path };
        self.builder.append_data(&mut header, name, data).map_err(|error| sending(&error))
    }

    /// Extended attributes and the parts of the time that a header does not hold.
    fn extensions(&mut self, path: &Path, found: &Metadata) -> Result<()> {
        let mut records: Vec<(String, Vec<u8>)> = Vec::new();
        if found.mtime() >= 0 && found.mtime_nsec() > 0 {
            records.push(("mtime".to_owned(), format!("{}.{:09}", found.mtime(), found.mtime_nsec()).into_bytes()));
        }
        for name in attributes(path)? {
            if let Some(value) = attribute(path, &name)? {
                records.push((format!("SCHILY.xattr.{name}"), value));
            }
        }
        let records = records.iter().map(|(key, value)| (key.as_str(), value.as_slice()));
        self.builder.append_pax_extensions(records).map_err(|error| sending(&error))
    }
}

/// Names of the attributes that are copied; those of this host's security modules are not among them.
fn attributes(path: &Path) -> Result<Vec<String>> {
    let mut names = vec![0; XATTRS_MAX];
    let length = match llistxattr(path, &mut names) {
        Ok(length) => length,
        Err(Errno::NOTSUP | Errno::NOENT | Errno::ACCESS | Errno::PERM) => 0,
        Err(errno) => return Err(Error::file(path, &errno.into())),
    };
    let names = names[..length].split(|byte| *byte == 0).filter_map(|name| std::str::from_utf8(name).ok());
    let copied = |name: &&str| {
        let own = ["user.", "trusted.", "system.posix_acl_"].iter().any(|prefix| name.starts_with(prefix));
        (own || *name == "security.capability") && !name.starts_with("trusted.overlay.") && !name.contains('=')
    };
    Ok(names.filter(copied).map(str::to_owned).collect())
}

fn attribute(path: &Path, name: &str) -> Result<Option<Vec<u8>>> {
    let mut value = vec![0; XATTRS_MAX];
    match lgetxattr(path, name, &mut value) {
        Ok(length) => {
            value.truncate(length);
            Ok(Some(value))
        }
        Err(Errno::NODATA | Errno::NOTSUP | Errno::NOENT | Errno::ACCESS | Errno::PERM) => Ok(None),
        Err(errno) => Err(Error::file(path, &errno.into())),
    }
}

/// Yields so many bytes; a file that is shorter by now is an error.
struct Exactly<'a> {
    inner: File,
    left: u64,
    path: &'a Path,
}

impl Read for Exactly<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let room = buffer.len().min(usize::try_from(self.left).unwrap_or(usize::MAX));
        let read = self.inner.read(&mut buffer[..room]);
        let read = read.map_err(|error| io::Error::other(format!("{}: {error}", self.path.display())))?;
        if read == 0 && room > 0 {
            return Err(io::Error::other(format!("{}: it became shorter while it was read", self.path.display())));
        }
        self.left -= read as u64;
        Ok(read)
    }
}

fn sending(error: &io::Error) -> Error {
    match error.kind() {
        io::ErrorKind::BrokenPipe => Error::Reported,
        _ => Error::new(error.to_string()),
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::ffi::OsStrExt as _;

    use super::*;

    #[test]
    fn a_tree_is_packed_with_its_links() {
        let dir = tempfile::tempdir().unwrap();
        let top = dir.path().join("top");
        fs::create_dir(&top).unwrap();
        fs::write(top.join("a"), "hello").unwrap();
        fs::hard_link(top.join("a"), top.join("b")).unwrap();
        std::os::unix::fs::symlink("../x", top.join("c")).unwrap();
        let long = "n".repeat(200);
        fs::write(top.join(&long), "long").unwrap();
        let mut bytes = Vec::new();
        pack(&Packing { path: top, name: "new".into(), follow: false }, &mut bytes).unwrap();
        let mut archive = tar::Archive::new(bytes.as_slice());
        let entries = archive.entries().unwrap().map(|entry| {
            let entry = entry.unwrap();
            let name = String::from_utf8_lossy(entry.path().unwrap().as_os_str().as_bytes()).into_owned();
            (name, entry.link_name().unwrap().map(|link| link.display().to_string()))
        });
        let some = |link: &str| Some(link.to_owned());
        let expected = [
            ("new".to_owned(), None),
            ("new/a".to_owned(), None),
            ("new/b".to_owned(), some("new/a")),
            ("new/c".to_owned(), some("../x")),
            (format!("new/{long}"), None),
        ];
        assert_eq!(entries.collect::<Vec<_>>(), expected);
    }
}
