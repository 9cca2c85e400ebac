//! User namespaces: id maps, and a namespace to map the ids of mounts by before there is a container.

use std::convert::Infallible;
use std::fs;
use std::os::fd::{AsRawFd, OwnedFd};

use hull_wire::{IdMap, Step, UserNamespace};
use nix::fcntl::{OFlag, open};
use nix::sched::CloneFlags;
use nix::sys::stat::Mode;
use nix::sys::wait::waitpid;
use nix::unistd::{Pid, close, pipe2, read};

use crate::failure::{At, Result};
use crate::sys;
use crate::sys::clone::Memory;

/// A user namespace with the plan's maps that lives as long as its descriptor: made by a process that ends at once.
pub(crate) fn hold(plan: &UserNamespace) -> Result<OwnedFd> {
    let step = Step::UserNamespace;
    let (wait, go) = pipe2(OFlag::O_CLOEXEC).at(step, "making a pipe")?;
    let child = sys::clone::clone(Memory::Copy, CloneFlags::CLONE_NEWUSER, None, || -> Infallible {
        // Ends when the parent closes its end; its own copy of that end is this process's last.
        let _own_copy_closed = close(go.as_raw_fd());
        let _end_of_file = read(&wait, &mut [0]);
        sys::process::end(0)
    })
    .at(step, "making a user namespace")?;
    let held = write_maps(child.pid, plan).and_then(|()| {
        let path = format!("/proc/{}/ns/user", child.pid);
        open(path.as_str(), OFlag::O_RDONLY | OFlag::O_CLOEXEC, Mode::empty()).at(step, path)
    });
    drop(go);
    let _reaped = waitpid(child.pid, None);
    drop(child);
    held
}

/// Writes the id maps of the process `pid`, which has just entered a user namespace.
pub(crate) fn write_maps(pid: Pid, plan: &UserNamespace) -> Result<()> {
    for (name, maps) in [("uid_map", &plan.uid_maps), ("gid_map", &plan.gid_maps)] {
        let text: String = maps.iter().map(line).collect();
        let path = format!("/proc/{pid}/{name}");
        fs::write(&path, text).map_err(|error| io(&error)).at(Step::UserNamespace, format!("writing {name}"))?;
    }
    Ok(())
}

fn line(map: &IdMap) -> String {
    format!("{} {} {}\n", map.container, map.host, map.size)
}

/// The errno of an input or output error.
pub(crate) fn io(error: &std::io::Error) -> nix::errno::Errno {
    nix::errno::Errno::from_raw(error.raw_os_error().unwrap_or(nix::libc::EIO))
}
