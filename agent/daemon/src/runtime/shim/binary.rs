//! The shim's program as a sealed memfd: a container that reaches /proc/PID/exe of a shim cannot write what other
//! containers run (CVE-2019-5736), and replacing the file on disk harms no agent that runs.

use std::fs::File;
use std::os::fd::AsRawFd as _;
use std::path::Path;
use std::sync::Arc;

use nix::fcntl::{FcntlArg, SealFlag, fcntl};
use nix::sys::memfd::{MFdFlags, memfd_create};

use crate::error::{Error, Reason, Result};

/// The program of every shim that this agent starts.
#[derive(Clone, Debug)]
pub(crate) struct ShimBinary {
    memfd: Arc<File>,
}

impl ShimBinary {
    /// Reads and seals the program. Blocking.
    pub(crate) fn load(path: &Path) -> Result<Self> {
        let mut source = File::open(path).map_err(|error| {
            Error::io(format!("opening the shim {}", path.display()), &error)
                .hint("install hull-shim beside hulld or name it with --shim")
        })?;
        let memfd = memfd_create("hull-shim", MFdFlags::MFD_CLOEXEC | MFdFlags::MFD_ALLOW_SEALING)
            .map_err(|errno| Error::os("making a memfd for the shim", errno))?;
        let mut memfd = File::from(memfd);
        let length =
            std::io::copy(&mut source, &mut memfd).map_err(|error| Error::io("copying the shim to a memfd", &error))?;
        if length == 0 {
            return Err(Error::new(Reason::System, format!("the shim {} is empty", path.display())));
        }
        let seals = SealFlag::F_SEAL_SEAL | SealFlag::F_SEAL_SHRINK | SealFlag::F_SEAL_GROW | SealFlag::F_SEAL_WRITE;
        fcntl(&memfd, FcntlArg::F_ADD_SEALS(seals)).map_err(|errno| Error::os("sealing the shim", errno))?;
        Ok(Self { memfd: Arc::new(memfd) })
    }

    /// Path by which this process, or a child before its execve, executes it.
    pub(crate) fn path(&self) -> String {
        format!("/proc/self/fd/{}", self.memfd.as_raw_fd())
    }
}
