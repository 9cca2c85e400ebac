//! Reads what a container or the node uses, from files that stay open: a reading is one pread(2) per file into a buffer that is used
//! again.

mod files;
mod kept;
mod network;
mod node;

use std::fs::File;
use std::io;
use std::path::Path;
use std::sync::Arc;

use self::files::ControlFile;
pub(super) use self::kept::{Budget, Scratch};
use self::kept::{Kept, Outcome, Unopened};
pub(super) use self::node::NodeReader;
use super::group::{Group, Groups};
use super::parse;
use super::sample::Usage;
use super::target::Target;

/// Reads one container.
#[derive(Debug)]
pub(super) struct Reader {
    target: Arc<Target>,
    files: Vec<(&'static ControlFile, Kept)>,
    /// `/proc/PID/net/dev` of its init.
    interfaces: Kept,
}

/// The container's groups, or its init, are gone.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Gone;

impl Reader {
    /// A reader that has opened nothing yet.
    pub(super) fn new(target: Arc<Target>) -> Self {
        let files = files::of(&target.dirs).map(|file| (file, Kept::No)).collect();
        Self { target, files, interfaces: Kept::No }
    }

    pub(super) fn target(&self) -> &Arc<Target> {
        &self.target
    }

    /// Reads the groups into `usage`, whatever was in it.
    ///
    /// # Errors
    /// [`Gone`] if the container has ended, or is about to be torn down.
    pub(super) fn read(&mut self, groups: Groups, usage: &mut Usage, scratch: &mut Scratch) -> Result<(), Gone> {
        usage.clear();
        for (file, kept) in self.files.iter_mut().filter(|(file, _)| groups.has(file.group)) {
            let Some(dir) = file.dir(&self.target.dirs) else { continue };
            match kept.read(|| open(dir, file.name()), scratch) {
                Outcome::Read(length) => file.parse(&scratch.buffer[..length], usage),
                Outcome::Absent => {}
                Outcome::Gone => return Err(Gone),
            }
        }
        if groups.has(Group::Network) {
            let identity = self.target.identity();
            match self.interfaces.read(|| network::open(self.target.pid, &identity.id), scratch) {
                Outcome::Read(length) => parse::interfaces(&scratch.buffer[..length], &mut usage.network),
                Outcome::Absent => {}
                Outcome::Gone => return Err(Gone),
            }
        }
        if groups.has(Group::WritableLayer) {
            usage.writable = self.target.writable();
        }
        Ok(())
    }

    /// Closes what is not needed for these groups.
    pub(super) fn keep_only(&mut self, groups: Groups, budget: &mut Scratch) {
        for (_, kept) in self.files.iter_mut().filter(|(file, _)| !groups.has(file.group)) {
            kept.close(&mut budget.budget);
        }
        if !groups.has(Group::Network) {
            self.interfaces.close(&mut budget.budget);
        }
    }
}

/// A control file. Where there is none, that is for good if its directory is there.
fn open(dir: &Path, name: &str) -> Result<File, Unopened> {
    File::open(dir.join(name)).map_err(|error| match error.kind() {
        io::ErrorKind::NotFound if dir.exists() => Unopened::Missing,
        io::ErrorKind::NotFound => Unopened::Gone,
        _ => Unopened::Error(error),
    })
}
