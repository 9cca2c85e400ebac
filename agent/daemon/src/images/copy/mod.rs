//! Files of a container as tar streams, in both directions.
//!
//! Everything is found from a descriptor of the container's root, as it is mounted for the container: paths are resolved within
//! that root by the kernel (openat2(2), RESOLVE_IN_ROOT), links of /proc that lead elsewhere are refused, and whatever the
//! container swaps meanwhile, no path is ever looked up from the host's root (CVE-2018-15664, CVE-2019-10152). Nothing of the
//! container is executed or loaded (CVE-2019-14271): it is the agent that reads and writes, by numbers, not by names of users.

mod identity;
mod pack;
mod path;
mod unpack;

use std::io::{Read, Write};
use std::os::fd::OwnedFd;

use super::changes::{Owners, Shrunk};
use crate::error::Result;

pub(crate) use path::{PathKind, PathStat};
pub(crate) use unpack::{UnpackOptions, Unpacked};

/// The file system of one container. All methods block.
#[derive(Debug)]
pub(crate) struct Files {
    root: OwnedFd,
    owners: Owners,
}

impl Files {
    /// The files below `root`, whose ids on the host are as `owners` says.
    pub(crate) fn new(root: OwnedFd, owners: Owners) -> Self {
        Self { root, owners }
    }

    /// What is at a path; with `follow`, where it leads if it is a symbolic link.
    ///
    /// # Errors
    /// `PathNotFound`.
    pub(crate) fn stat(&self, path: &str, follow: bool) -> Result<PathStat> {
        path::Path::parse(path)?.look(&self.root, follow).map(|(_, stat)| stat)
    }

    /// Writes what is at a path as a tar, after `told` was told what it is. Names in the tar begin with the path's last
    /// component, with "." where it is none.
    ///
    /// # Errors
    /// `PathNotFound`; `UnsupportedFeature` for files of the kernel's; what `output` said.
    pub(crate) fn pack(
        &self,
        path: &str,
        follow: bool,
        told: impl FnOnce(PathStat),
        output: impl Write,
    ) -> Result<Shrunk> {
        let path = path::Path::parse(path)?;
        let (found, stat) = path.look(&self.root, follow)?;
        pack::refuse_kernels_own(&found, &path)?;
        told(stat);
        pack::pack(found, &path, self.owners, output)
    }

    /// Writes the whole file system as a tar, without what is mounted in it.
    ///
    /// # Errors
    /// What `output` said, or that a file cannot be read.
    pub(crate) fn export(self, output: impl Write) -> Result<Shrunk> {
        pack::export(self.root, self.owners, output)
    }

    /// Unpacks a tar into the directory at a path.
    ///
    /// # Errors
    /// `PathNotFound`; `InvalidArgument` if it is no directory; `ReadOnlyPath`; `InvalidArchive`; `StorageFull`. What was
    /// written before stays.
    pub(crate) fn unpack(&self, path: &str, options: UnpackOptions, input: impl Read + Send) -> Result<Unpacked> {
        identity::become_root_of(self.owners)?;
        unpack::unpack(&self.root, &path::Path::parse(path)?, self.owners, options, input)
    }
}
