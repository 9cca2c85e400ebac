//! Measures a directory tree that a container may be changing meanwhile: by descriptor, through no link, and onto no other
//! file system.

use std::collections::HashSet;
use std::ffi::CString;
use std::io;
use std::os::fd::OwnedFd;
use std::path::Path;

use rustix::fs::{AtFlags, CWD, Dir, FileType, Mode, OFlags, Stat, fstat, openat, statat};
use rustix::io::Errno;

use crate::error::{Error, Reason, Result};

/// Most directories that wait to be looked into.
const WAITING_MAX: usize = 1 << 20;
/// Most files with several names that are counted once; further ones count as often as they are named.
const LINKED_MAX: usize = 1 << 20;

/// What a tree takes.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Measured {
    /// Bytes on the disk.
    pub(crate) bytes: u64,
    pub(crate) inodes: u64,
}

/// A directory on the way down to the current one.
struct Level {
    /// Device and inode: whoever goes back up must arrive here.
    id: (u64, u64),
    /// Directories in it that have not been looked into.
    waiting: Vec<CString>,
}

struct Walk {
    current: OwnedFd,
    levels: Vec<Level>,
    waiting: usize,
    linked: HashSet<u64>,
    measured: Measured,
}

/// Measures what is at and below `root`. Blocks, as long as the tree is large or until `stop` says so.
///
/// # Errors
/// `System` if the tree cannot be read or is moved about while it is; `LimitExceeded` if it is too wide to be measured.
pub(crate) fn measure(root: &Path, stop: &dyn Fn() -> bool) -> Result<Measured> {
    walk(root, stop).map_err(|error| match error.get_ref().and_then(|inner| inner.downcast_ref::<Error>()) {
        Some(own) => own.clone(),
        None => Error::io(format_args!("measuring {}", root.display()), &error),
    })
}

fn walk(root: &Path, stop: &dyn Fn() -> bool) -> io::Result<Measured> {
    let current = openat(CWD, root, flags(), Mode::empty())?;
    let mut walk =
        Walk { current, levels: Vec::new(), waiting: 0, linked: HashSet::new(), measured: Measured::default() };
    let root = fstat(&walk.current)?;
    walk.count(&root);
    walk.enter(&root)?;
    loop {
        if stop() {
            return Err(io::ErrorKind::Interrupted.into());
        }
        let Some(level) = walk.levels.last_mut() else { return Ok(walk.measured) };
        match level.waiting.pop() {
            Some(name) => {
                walk.waiting -= 1;
                walk.down(&name, &root)?;
            }
            None => walk.up()?,
        }
    }
}

fn flags() -> OFlags {
    OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC
}

impl Walk {
    fn count(&mut self, stat: &Stat) {
        let is_directory = FileType::from_raw_mode(stat.st_mode) == FileType::Directory;
        if stat.st_nlink > 1 && !is_directory && self.linked.len() < LINKED_MAX && !self.linked.insert(stat.st_ino) {
            return;
        }
        self.measured.inodes += 1;
        self.measured.bytes += u64::try_from(stat.st_blocks).unwrap_or(0).saturating_mul(512);
    }

    /// Counts what is in the current directory.
    fn enter(&mut self, stat: &Stat) -> io::Result<()> {
        let mut waiting = Vec::new();
        for entry in Dir::read_from(&self.current)? {
            let entry = entry?;
            let name = entry.file_name();
            if matches!(name.to_bytes(), b"." | b"..") {
                continue;
            }
            let found = match statat(&self.current, name, AtFlags::SYMLINK_NOFOLLOW) {
                Err(Errno::NOENT) => continue,
                found => found?,
            };
            self.count(&found);
            if FileType::from_raw_mode(found.st_mode) == FileType::Directory && found.st_dev == stat.st_dev {
                waiting.push(name.to_owned());
            }
        }
        self.waiting += waiting.len();
        if self.waiting > WAITING_MAX {
            let line = format!("more than {WAITING_MAX} directories side by side are too many to be measured");
            return Err(io::Error::other(Error::new(Reason::LimitExceeded, line)));
        }
        self.levels.push(Level { id: (stat.st_dev, stat.st_ino), waiting });
        Ok(())
    }

    fn down(&mut self, name: &CString, root: &Stat) -> io::Result<()> {
        let child = match openat(&self.current, name, flags(), Mode::empty()) {
            // It has gone, or become something else.
            Err(Errno::NOENT | Errno::NOTDIR | Errno::LOOP) => return Ok(()),
            child => child?,
        };
        let stat = fstat(&child)?;
        if stat.st_dev != root.st_dev {
            return Ok(());
        }
        self.current = child;
        self.enter(&stat)
    }

    fn up(&mut self) -> io::Result<()> {
        self.levels.pop();
        let Some(level) = self.levels.last() else { return Ok(()) };
        let parent = openat(&self.current, "..", flags(), Mode::empty())?;
        let stat = fstat(&parent)?;
        if (stat.st_dev, stat.st_ino) != level.id {
            return Err(io::Error::other(Error::new(Reason::System, "the tree was moved about while it was measured")));
        }
        self.current = parent;
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::os::unix::fs::{MetadataExt as _, symlink};

    use super::*;

    #[test]
    fn a_tree_is_counted_as_it_is_on_the_disk() {
        let dir = tempfile::tempdir().unwrap();
        let root = dir.path().join("root");
        fs::create_dir_all(root.join("a/b/c")).unwrap();
        fs::write(root.join("a/file"), vec![1; 100_000]).unwrap();
        fs::hard_link(root.join("a/file"), root.join("a/b/again")).unwrap();
        fs::write(dir.path().join("outside"), vec![1; 1 << 20]).unwrap();
        symlink("../outside", root.join("link")).unwrap();
        symlink("..", root.join("a/up")).unwrap();
        fs::File::create(root.join("sparse")).unwrap().set_len(1 << 30).unwrap();
        let blocks = |name: &str| fs::symlink_metadata(root.join(name)).unwrap().blocks() * 512;
        let all = ["", "a", "a/b", "a/b/c", "a/file", "link", "a/up", "sparse"];
        let bytes = all.iter().map(|name| blocks(name)).sum();
        assert_eq!(measure(&root, &|| false).unwrap(), Measured { bytes, inodes: all.len() as u64 });
        assert!(measure(&root, &|| true).is_err());
        assert!(measure(&root.join("none"), &|| false).is_err());
        assert!(measure(&root.join("link"), &|| false).is_err());
    }

    #[test]
    fn depth_takes_no_descriptors() {
        let dir = tempfile::tempdir().unwrap();
        let mut current = openat(CWD, dir.path(), flags(), Mode::empty()).unwrap();
        for _ in 0..5000 {
            rustix::fs::mkdirat(&current, "d", Mode::RWXU).unwrap();
            current = openat(&current, "d", flags(), Mode::empty()).unwrap();
        }
        drop(current);
        assert_eq!(measure(dir.path(), &|| false).unwrap().inodes, 5001);
        let gone = std::process::Command::new("rm").arg("-rf").arg(dir.path()).status().unwrap();
        assert!(gone.success());
    }
}
