//! From files to a tar. What changes meanwhile is read as it is found: the container is not held up.

use std::io::Write;
use std::os::fd::{AsFd, OwnedFd};

use rustix::fs::{FileType, fstatfs};

use super::path::{Path, mount_id};
use crate::error::{Error, Reason, Result};
use crate::images::changes::{Entries, Found, Owners, Root, Shrunk, failed};
use crate::images::limits::DEPTH_MAX;

/// File systems in which the kernel shows itself (linux/magic.h): their files have no size and no end, and some wait for ever.
const KERNELS_OWN: [(i64, &str); 14] = [
    (0x9fa0, "proc"),
    (0x6265_6572, "sysfs"),
    (0x0027_e0eb, "cgroup"),
    (0x6367_7270, "cgroup2"),
    (0x1cd1, "devpts"),
    (0x6462_6720, "debugfs"),
    (0x7472_6163, "tracefs"),
    (0x7363_6673, "securityfs"),
    (0xf97c_ff8c, "selinuxfs"),
    (0xcafe_4a11, "bpf"),
    (0x6165_676c, "pstore"),
    (0x6265_6570, "configfs"),
    (0x6e73_6673, "nsfs"),
    (0x0187, "autofs"),
];

/// Writes what was found at `path`, and what is in it, mounts included.
pub(super) fn pack(found: Found, path: &Path<'_>, owners: Owners, output: impl Write) -> Result<Shrunk> {
    let mut entries = Entries::new(output, owners);
    let name = path.name().as_bytes();
    if found.kind() == FileType::Directory {
        let directory =
            found.as_fd().try_clone_to_owned().map_err(|error| Error::io("duplicating a descriptor", &error))?;
        let root = Root::with_mounts(directory, path.shown());
        Packing { root, prefix: name, entries: &mut entries, mounts: Mounts::Crossed }.run(&found)?;
    } else {
        entries.found(name, &found)?;
    }
    entries.finish()
}

/// Writes all that is below `root` but what is mounted there, in whose place something empty stands.
pub(super) fn export(root: OwnedFd, owners: Owners, output: impl Write) -> Result<Shrunk> {
    let mut entries = Entries::new(output, owners);
    let root = Root::with_mounts(root, "/".to_owned());
    let found = root.find(b"")?.ok_or_else(|| Error::new(Reason::System, "the root of the container is gone"))?;
    let mounts = Mounts::LeftOut(mount_of(&found)?);
    Packing { root, prefix: b"", entries: &mut entries, mounts }.run(&found)?;
    entries.finish()
}

/// Refuses files that the kernel makes up.
pub(super) fn refuse_kernels_own(found: &Found, path: &Path<'_>) -> Result<()> {
    let Some(name) = kernels_own(found)? else { return Ok(()) };
    let line = format!("{} is one of the kernel's own files ({name}), which are not copied", path.shown());
    Err(Error::new(Reason::UnsupportedFeature, line).hint("read it inside, with `hullctl exec CONTAINER cat`"))
}

/// What becomes of mounts.
#[derive(Debug, Clone, Copy)]
enum Mounts {
    /// They are gone into, but those of the kernel itself.
    Crossed,
    /// Only this one is gone into.
    LeftOut(u64),
}

struct Packing<'a, W: Write> {
    root: Root,
    /// What names in the tar begin with.
    prefix: &'a [u8],
    entries: &'a mut Entries<W>,
    mounts: Mounts,
}

/// A directory being gone through.
struct Frame {
    path: Vec<u8>,
    names: std::vec::IntoIter<Box<[u8]>>,
    mount: u64,
}

impl<W: Write> Packing<'_, W> {
    fn run(mut self, top: &Found) -> Result<()> {
        self.entries.found(self.prefix, top)?;
        let mut frames =
            vec![Frame { path: Vec::new(), names: self.root.names(b"")?.into_iter(), mount: mount_of(top)? }];
        while let Some(frame) = frames.last_mut() {
            let Some(name) = frame.names.next() else {
                frames.pop();
                continue;
            };
            let (path, mount) = (join(&frame.path, &name), frame.mount);
            if let Some(frame) = self.one(path, mount)? {
                if frames.len() > DEPTH_MAX {
                    let line = format!("there are more than {DEPTH_MAX} directories within one another");
                    return Err(Error::new(Reason::LimitExceeded, line));
                }
                frames.push(frame);
            }
        }
        Ok(())
    }

    /// Writes one file; a directory is to be gone into.
    fn one(&mut self, path: Vec<u8>, above: u64) -> Result<Option<Frame>> {
        let Some(found) = self.root.find(&path)? else { return Ok(None) };
        let name = join(self.prefix, &path);
        let mount = mount_of(&found)?;
        let left_out = match self.mounts {
            Mounts::LeftOut(own) => mount != own,
            Mounts::Crossed => mount != above && kernels_own(&found)?.is_some(),
        };
        if left_out {
            self.entries.stand_in(&name, &found)?;
            return Ok(None);
        }
        self.entries.found(&name, &found)?;
        if found.kind() != FileType::Directory {
            return Ok(None);
        }
        let names = self.root.names(&path)?.into_iter();
        Ok(Some(Frame { path, names, mount }))
    }
}

fn join(above: &[u8], name: &[u8]) -> Vec<u8> {
    if above.is_empty() { name.to_vec() } else { [above, b"/", name].concat() }
}

fn mount_of(found: &Found) -> Result<u64> {
    mount_id(found).map_err(|errno| failed("asking for the mount of a file", errno))
}

fn kernels_own(found: &Found) -> Result<Option<&'static str>> {
    let statfs = fstatfs(found).map_err(|errno| failed("asking for the file system of a file", errno))?;
    Ok(KERNELS_OWN.iter().find(|(magic, _)| *magic == statfs.f_type).map(|(_, name)| *name))
}
