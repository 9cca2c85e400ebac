//! Control files that `cgroups-rs` cannot write, or writes in a way that does not serve:
//! - `cgroup.kill`, `cgroup.subtree_control`, `memory.reclaim`, `io.weight` and `blkio.bfq.weight`: it has no setter, or ignores errors;
//! - `devices.allow`: it opens and closes the file once per rule, which is most of the cost of the usual dozen of rules;
//! - removing directories: it sleeps between its tries instead of waiting for the group to become empty.

use std::fs::{self, DirBuilder, File, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::DirBuilderExt;
use std::path::Path;

use rustix::fs::{XattrFlags, getxattr, setxattr};

/// Marks directories that hull made itself, so that only those are removed, also by a later agent.
const MADE_BY_HULL: &str = "trusted.hull.made";

/// Writes one value with one write(2), without creating or truncating.
pub(super) fn write(dir: &Path, name: &str, value: &str) -> io::Result<()> {
    open(dir, name)?.write_all(value.as_bytes())
}

/// Writes several values, one write(2) each, as the kernel wants them.
pub(super) fn write_each<'a>(dir: &Path, name: &str, values: impl IntoIterator<Item = &'a str>) -> io::Result<()> {
    let mut file = open(dir, name)?;
    values.into_iter().try_for_each(|value| file.write_all(value.as_bytes()))
}

fn open(dir: &Path, name: &str) -> io::Result<File> {
    OpenOptions::new().write(true).open(dir.join(name))
}

/// Reads a whole control file, trimmed.
pub(super) fn read(dir: &Path, name: &str) -> io::Result<String> {
    let mut text = fs::read_to_string(dir.join(name))?;
    text.truncate(text.trim_end().len());
    Ok(text)
}

/// Makes a group that only root can make groups in, whatever the agent's umask.
pub(super) fn make(dir: &Path) -> io::Result<()> {
    DirBuilder::new().mode(0o755).create(dir)
}

/// Makes a group, marked as hull's own. `false`: it was there.
pub(super) fn make_marked(dir: &Path) -> io::Result<bool> {
    match make(dir) {
        Ok(()) => {
            // Without the mark (no trusted.* attributes) an agent that started anew leaves an empty parent behind.
            let _ = setxattr(dir, MADE_BY_HULL, b"1", XattrFlags::empty());
            Ok(true)
        }
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists && dir.is_dir() => Ok(false),
        Err(error) => Err(error),
    }
}

/// Whether hull made this group by [`make_marked`].
pub(super) fn is_marked(dir: &Path) -> bool {
    let mut value = [0_u8; 1];
    getxattr(dir, MADE_BY_HULL, &mut value).is_ok()
}

/// Groups directly below a group. A group that is gone has none.
pub(super) fn children(dir: &Path) -> io::Result<Vec<std::ffi::OsString>> {
    let entries = match fs::read_dir(dir) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        other => other?,
    };
    let mut names = Vec::new();
    for entry in entries {
        let entry = entry?;
        if entry.file_type()?.is_dir() {
            names.push(entry.file_name());
        }
    }
    Ok(names)
}
