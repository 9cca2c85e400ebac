//! Values for a shim that may be larger than a packet, in anonymous memory.

use std::fs::File;
use std::io::Write as _;
use std::os::fd::OwnedFd;

use nix::sys::memfd::{MFdFlags, memfd_create};

use crate::error::{Error, Reason, Result};

/// The encoded value in a memfd of this name.
pub(crate) fn encoded<T: serde::Serialize>(name: &str, value: &T) -> Result<OwnedFd> {
    let bytes = hull_wire::encode(value).map_err(|error| Error::new(Reason::Internal, error.to_string()))?;
    let memfd =
        memfd_create(name, MFdFlags::MFD_CLOEXEC).map_err(|errno| Error::os("making a memfd for the plan", errno))?;
    let mut file = File::from(memfd);
    file.write_all(&bytes).map_err(|error| Error::io("writing the plan", &error))?;
    Ok(file.into())
}
