//! A small file system of the test's own, to be filled.

use std::fs;
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU32, Ordering};

use nix::mount::{MntFlags, MsFlags, mount, umount2};

/// A tmpfs; gone when it is dropped, which must be after the agent that uses it.
#[derive(Debug)]
pub struct SmallDisk {
    path: PathBuf,
}

static NUMBER: AtomicU32 = AtomicU32::new(0);

impl SmallDisk {
    /// Mounts one of so many bytes and inodes.
    ///
    /// # Panics
    /// If it cannot be mounted.
    pub fn new(bytes: u64, inodes: u64) -> Self {
        let number = NUMBER.fetch_add(1, Ordering::Relaxed);
        let path = Path::new("/tmp").join(format!("hull-small-disk-{}-{number}", std::process::id()));
        fs::create_dir(&path).expect("creating a mount point");
        let options = format!("size={bytes},nr_inodes={inodes},mode=700");
        let mounted = mount(Some("hull-small-disk"), &path, Some("tmpfs"), MsFlags::empty(), Some(options.as_str()));
        mounted.expect("mounting a tmpfs");
        Self { path }
    }

    /// Where the agent may have its data directory.
    pub fn data_dir(&self) -> PathBuf {
        self.path.join("data")
    }

    /// Takes all room that is left.
    ///
    /// # Panics
    /// If something else than room is missing.
    pub fn fill(&self) {
        let mut file = fs::File::create(self.path.join("ballast")).expect("creating the ballast");
        let page = [7; 4096];
        loop {
            if let Err(error) = file.write_all(&page) {
                assert_eq!(error.raw_os_error(), Some(nix::libc::ENOSPC), "{error}");
                return;
            }
        }
    }

    /// Takes all inodes that are left.
    ///
    /// # Panics
    /// If something else than an inode is missing.
    pub fn fill_inodes(&self) {
        let ballast = self.path.join("inodes");
        fs::create_dir(&ballast).expect("creating a directory");
        for number in 0.. {
            if let Err(error) = fs::File::create(ballast.join(format!("{number}"))) {
                assert_eq!(error.raw_os_error(), Some(nix::libc::ENOSPC), "{error}");
                return;
            }
        }
    }

    /// Gives all of it back.
    pub fn empty(&self) {
        let _absent = fs::remove_file(self.path.join("ballast"));
        let _absent = fs::remove_dir_all(self.path.join("inodes"));
    }
}

impl Drop for SmallDisk {
    fn drop(&mut self) {
        let _gone = umount2(&self.path, MntFlags::MNT_DETACH);
        let _gone = fs::remove_dir(&self.path);
    }
}
