//! Who a file belongs to that is made. File systems of a user namespace, and mounts with mapped ids, take files of their own ids
//! alone (EOVERFLOW otherwise), so that whoever makes one has to be root of that namespace for file systems, see setfsuid(2).

use nix::unistd::{Gid, Uid, setfsgid, setfsuid};
use rustix::thread::{capabilities, set_capabilities};

use crate::error::{Error, Result};
use crate::images::changes::Owners;

/// Makes the calling thread, which has to end with this work, the container's root for file systems. It keeps its privileges,
/// which setfsuid(2) takes from whoever is not root.
pub(super) fn become_root_of(owners: Owners) -> Result<()> {
    if owners == Owners::Host {
        return Ok(());
    }
    let failed = |errno: rustix::io::Errno| {
        Error::os("becoming a container's root", nix::errno::Errno::from_raw(errno.raw_os_error()))
    };
    let privileges = capabilities(None).map_err(failed)?;
    let root = owners.outside(0)?;
    setfsgid(Gid::from_raw(root));
    setfsuid(Uid::from_raw(root));
    set_capabilities(None, privileges).map_err(failed)
}
