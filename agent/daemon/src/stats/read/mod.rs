//! Reads what a container or the node uses, from files that stay open: a reading is one pread(2) per file into a buffer that is used
//! again, and of a container at rest one of few files.

mod files;
mod kept;
mod network;
mod node;
mod open_files;
mod rest;

use std::fs::File;
use std::io;
use std::path::Path;
use std::sync::Arc;

use self::files::{ControlFile, Role};
pub(super) use self::kept::{Budget, Scratch};
use self::kept::{Keep, Kept, Outcome, Unopened};
pub(super) use self::node::NodeReader;
use self::open_files::Members;
use self::rest::{Rest, Tale, Told};
use super::group::{Group, Groups};
use super::parse;
use super::sample::{Sample, Usage};
use super::target::Target;

/// Reads one container.
#[derive(Debug)]
pub(super) struct Reader {
    target: Arc<Target>,
    /// Tell-tales first.
    files: Box<[(&'static ControlFile, Kept)]>,
    /// `/proc/PID/net/dev` of its init.
    interfaces: Kept,
    rest: Rest,
    /// Nothing waited lately, nor since then.
    stalls_are_over: bool,
}

/// The container's groups, or its init, are gone.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Gone;

impl Reader {
    /// A reader that has opened nothing yet.
    pub(super) fn new(target: Arc<Target>) -> Self {
        let mut files: Vec<_> = files::of(&target.dirs).map(|file| (file, Kept::No)).collect();
        files.sort_by_key(|(file, _)| file.role != Role::Telltale);
        Self { target, files: files.into(), interfaces: Kept::No, rest: Rest::default(), stalls_are_over: false }
    }

    pub(super) fn target(&self) -> &Arc<Target> {
        &self.target
    }

    /// Reads the sample's groups into it. `known`: it has the values of the reading before, which stay where they hold still.
    /// `afresh`: none does, rest or not.
    ///
    /// # Errors
    /// [`Gone`] if the container has ended, or is about to be torn down.
    pub(super) fn read(
        &mut self,
        sample: &mut Sample,
        known: bool,
        afresh: bool,
        scratch: &mut Scratch,
    ) -> Result<(), Gone> {
        let (groups, now, usage) = (sample.groups, sample.at.monotonic_nanos, &mut sample.usage);
        let pressure = usage.pressure;
        let limits = self.target.limits();
        let (mut tale, mut tales) = (Tale::default(), std::mem::take(&mut scratch.tales));
        tales.clear();
        self.read_files(groups, &mut tales, scratch, |role, _| role == Role::Telltale, |_, text| tale.add(text))?;
        let told = Told::new(&tale, groups, limits);
        if known && !afresh && self.rest.holds(told, now, self.target.run) {
            self.read_moving(groups, usage, scratch)?;
        } else {
            let limits_hold = known && self.rest.limits_hold(told, now, self.target.run);
            if limits_hold {
                (tales.memory.limit, tales.pids.limit) = (usage.memory.limit, usage.pids.limit);
            }
            usage.copy(&tales);
            self.read_whole(groups, usage, !limits_hold, scratch)?;
            // Who does not know whether a process ran, or lacked descriptors, does not know of rest.
            if usage.cpu.usage_nanos.is_some() && !scratch.is_exhausted() {
                self.rest.read(told, now);
            } else {
                self.rest.forget();
            }
        }
        scratch.tales = tales;
        self.stalls_are_over = known && usage.pressure.stalls_are_over(&pressure);
        Ok(())
    }

    /// All but the tell-tales.
    fn read_whole(
        &mut self,
        groups: Groups,
        usage: &mut Usage,
        limits: bool,
        scratch: &mut Scratch,
    ) -> Result<(), Gone> {
        let is_due = |role, usage: &Usage| match role {
            Role::Telltale => false,
            Role::Limit => limits,
            Role::Members | Role::Nested => usage.pids.current != Some(1),
            Role::Always | Role::Stalls | Role::Own => true,
        };
        let mut members = Members::default();
        let see = |role, text: &[u8]| {
            if role == Role::Members {
                members.add_all(text);
            }
        };
        self.read_files(groups, usage, scratch, is_due, see)?;
        if usage.pids.current == Some(1) && self.target.dirs.unified.is_some() {
            usage.pids.processes = Some(1);
            // It is init.
            members = Members::one(self.target.pid);
        }
        if groups.has(Group::OpenFiles) {
            usage.open_files = members.open_files(usage.pids.processes);
        }
        if groups.has(Group::Network) {
            self.read_interfaces(usage, scratch)?;
        }
        if groups.has(Group::WritableLayer) {
            usage.writable = self.target.writable();
        }
        Ok(())
    }

    /// What changes of a container at rest.
    fn read_moving(&mut self, groups: Groups, usage: &mut Usage, scratch: &mut Scratch) -> Result<(), Gone> {
        let stalls = !self.stalls_are_over;
        let is_due = |role, _: &Usage| role == Role::Always || (stalls && role == Role::Stalls);
        self.read_files(groups, usage, scratch, is_due, |_, _| {})?;
        if groups.has(Group::Network) && !usage.network.is_loopback() {
            self.read_interfaces(usage, scratch)?;
        }
        if groups.has(Group::WritableLayer) {
            usage.writable = self.target.writable();
        }
        Ok(())
    }

    /// Reads those files of the groups that are due by their role and by what was read so far.
    fn read_files(
        &mut self,
        groups: Groups,
        usage: &mut Usage,
        scratch: &mut Scratch,
        is_due: impl Fn(Role, &Usage) -> bool,
        mut see: impl FnMut(Role, &[u8]),
    ) -> Result<(), Gone> {
        for (file, kept) in self.files.iter_mut().filter(|(file, _)| file.is_for(groups)) {
            let Some(dir) = file.dir(&self.target.dirs).filter(|_| is_due(file.role, usage)) else { continue };
            match kept.read(|| open(dir, file.name()), file.role.keep(), scratch) {
                Outcome::Read(length) => {
                    let text = &scratch.buffer[..length];
                    see(file.role, text);
                    file.parse(text, usage);
                }
                Outcome::Absent => {}
                Outcome::Gone => return Err(Gone),
            }
        }
        Ok(())
    }

    fn read_interfaces(&mut self, usage: &mut Usage, scratch: &mut Scratch) -> Result<(), Gone> {
        let target = &self.target;
        match self.interfaces.read(|| network::open(target.pid, &target.identity().id), Keep::IfRoom, scratch) {
            Outcome::Read(length) => parse::interfaces(&scratch.buffer[..length], &mut usage.network),
            Outcome::Absent => {}
            Outcome::Gone => return Err(Gone),
        }
        Ok(())
    }

    /// Closes what is not needed for these groups.
    pub(super) fn keep_only(&mut self, groups: Groups, budget: &mut Scratch) {
        for (_, kept) in self.files.iter_mut().filter(|(file, _)| !file.is_for(groups)) {
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
