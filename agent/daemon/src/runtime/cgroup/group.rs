//! The groups of one container.

use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use hull_wire::CgroupPlan;

use super::apply::{self, Place};
use super::hierarchy::{self, Controller, Version};
use super::{Host, file, limits};
use crate::error::{Error, Reason, Result};
use crate::lifecycle::config::Resources;

/// The groups of one container, one in each hierarchy that it needs.
#[derive(Debug, Clone)]
pub(crate) struct ContainerCgroup {
    pub(super) host: Arc<Host>,
    id: String,
    /// Indices of hierarchies.
    members: Vec<usize>,
}

/// Directories in which the use of a container can be read.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct StatDirs {
    /// Version 2: `cpu.stat`, processes and pressure, which are there without controllers too.
    pub(crate) unified: Option<PathBuf>,
    /// Version 1: throttling.
    pub(crate) cpu_v1: Option<PathBuf>,
    /// Version 1: processor time.
    pub(crate) cpuacct_v1: Option<PathBuf>,
    /// Memory.
    pub(crate) memory: Option<(PathBuf, Version)>,
    /// Processes.
    pub(crate) pids: Option<(PathBuf, Version)>,
    /// Input and output.
    pub(crate) io: Option<(PathBuf, Version)>,
    /// Huge pages.
    pub(crate) hugetlb: Option<(PathBuf, Version)>,
}

impl Place for ContainerCgroup {
    fn place(&self, controller: Controller) -> Option<(PathBuf, Version)> {
        let at = self.members.iter().find(|at| self.host.hierarchies[**at].has(controller))?;
        Some((self.dir(*at), self.host.hierarchies[*at].version))
    }
}

impl ContainerCgroup {
    pub(super) fn new(host: Arc<Host>, id: String, members: Vec<usize>) -> Self {
        Self { host, id, members }
    }

    /// The path in every hierarchy ("/hull/ID"), as OCI's `cgroupsPath`.
    pub(crate) fn path(&self) -> String {
        format!("/{}/{}", self.host.parent, self.id)
    }

    /// What the shim needs: where the container is born, and where the kernel counts what it killed for want of memory.
    /// `device_program` is the caller's to fill in where [`super::CgroupManager::has_v1_devices`] is false.
    pub(crate) fn plan(&self) -> CgroupPlan {
        let text = |path: PathBuf| path.to_string_lossy().into_owned();
        let v1 = self.members.iter().filter(|at| self.host.hierarchies[**at].version == Version::V1);
        let oom_file = self.place(Controller::Memory).map(|(dir, version)| match version {
            Version::V1 => dir.join("memory.oom_control"),
            Version::V2 => dir.join("memory.events"),
        });
        CgroupPlan {
            unified: self.unified().map(text),
            v1_tasks: v1.map(|at| text(self.dir(*at).join("tasks"))).collect(),
            device_program: None,
            oom_file: oom_file.map(text),
        }
    }

    /// The version 1 controllers of the container and its group of each, for [`hull_wire::MountKind::CgroupV1`]. Co-mounted
    /// controllers share a directory.
    pub(crate) fn v1_dirs(&self) -> Vec<(Vec<&'static str>, PathBuf)> {
        let members = self.members.iter().map(|at| (&self.host.hierarchies[*at], self.dir(*at)));
        members
            .filter(|(hierarchy, _)| hierarchy.version == Version::V1)
            .map(|(hierarchy, dir)| (hierarchy.controllers.iter().map(|c| c.v1_name()).collect(), dir))
            .collect()
    }

    /// Where to read what it uses.
    pub(crate) fn stat_dirs(&self) -> StatDirs {
        let v1 = |controller| match self.place(controller) {
            Some((dir, Version::V1)) => Some(dir),
            _ => None,
        };
        StatDirs {
            unified: self.unified(),
            cpu_v1: v1(Controller::Cpu),
            cpuacct_v1: v1(Controller::Cpuacct),
            memory: self.place(Controller::Memory),
            pids: self.place(Controller::Pids),
            io: self.place(Controller::Io),
            hugetlb: self.place(Controller::Hugetlb),
        }
    }

    /// Changes limits from those of `old` to those of `new`, all or none: after a failure the old ones hold again.
    ///
    /// # Errors
    /// `InvalidArgument` (by field), `UnsupportedFeature` (cpuset and hugetlb limits for a container that was created without
    /// them, on version 1, among others), `InvalidState` if memory in use is above the new limit.
    pub(crate) fn update(&self, old: &Resources, new: &Resources) -> Result<()> {
        let changes = limits::changes(old, new, self.host.memory_version())?;
        for controller in super::asked(new) {
            if matches!(self.place(controller), Some((_, Version::V2))) {
                self.host.prepare(controller)?;
            }
        }
        for change in &changes {
            if let limits::Limit::MemoryMax(bytes) = change.to {
                self.make_room(bytes)?;
            }
        }
        apply::apply(self, &changes)
    }

    /// On version 2 a limit below what is in use makes the kernel kill processes (cgroup-v2.rst, memory.max); version 1 refuses
    /// it. So it is refused here too, after asking the kernel to reclaim the difference (memory.reclaim, Linux 5.19).
    fn make_room(&self, bytes: i64) -> Result<()> {
        let Some((dir, Version::V2)) = self.place(Controller::Memory) else { return Ok(()) };
        let Ok(bytes) = u64::try_from(bytes) else { return Ok(()) };
        let current = || file::read(&dir, "memory.current").ok().and_then(|text| text.parse::<u64>().ok()).unwrap_or(0);
        let excess = current().saturating_sub(bytes);
        if excess == 0 {
            return Ok(());
        }
        // EAGAIN: less than asked was reclaimed, which the next look tells.
        let _ = file::write(&dir, "memory.reclaim", &excess.to_string());
        let used = current();
        if used <= bytes {
            return Ok(());
        }
        Err(Error::new(Reason::InvalidState, format!("memory_max: {bytes} bytes are less than the {used} in use"))
            .errno(nix::errno::Errno::EBUSY)
            .hint("the kernel could not reclaim the difference and would kill processes; choose a higher limit"))
    }

    pub(super) fn id(&self) -> &str {
        &self.id
    }

    /// Directory in the version 2 hierarchy.
    pub(super) fn unified(&self) -> Option<PathBuf> {
        let at = self.members.iter().find(|at| self.host.hierarchies[**at].version == Version::V2)?;
        Some(self.dir(*at))
    }

    /// Its directory in every hierarchy of the host, whether or not it has a group there.
    pub(super) fn every_dir(&self) -> Vec<PathBuf> {
        // Version 2 last: its events tell when the processes are gone from all hierarchies.
        let mut all: Vec<usize> = (0..self.host.hierarchies.len()).collect();
        all.sort_by_key(|at| self.host.hierarchies[*at].version == Version::V2);
        all.into_iter().map(|at| self.dir(at)).collect()
    }

    fn dir(&self, at: usize) -> PathBuf {
        self.host.parent_dir(&self.host.hierarchies[at]).join(&self.id)
    }

    /// Makes the directories. Not by `cgroups-rs`, whose `create` takes a group that exists for a new one.
    pub(super) fn make(&self) -> Result<()> {
        for at in &self.members {
            let dir = self.dir(*at);
            match file::make(&dir) {
                Err(error) if error.kind() == io::ErrorKind::AlreadyExists => self.replace(&dir)?,
                Err(error) if error.kind() == io::ErrorKind::NotFound => {
                    // Someone removed the parent while the agent ran.
                    self.host.hierarchies[*at].make_parent(&self.host.parent)?;
                    file::make(&dir).map_err(|error| hierarchy::unusable(&dir, &error))?;
                }
                other => other.map_err(|error| hierarchy::unusable(&dir, &error))?,
            }
            let hierarchy = &self.host.hierarchies[*at];
            if hierarchy.version == Version::V1 && hierarchy.has(Controller::Cpuset) {
                hierarchy::fill_cpuset(&dir).map_err(|error| hierarchy::unusable(&dir, &error))?;
            }
        }
        Ok(())
    }

    /// A group that an earlier start left has its limits and counters: it makes room for a new one.
    fn replace(&self, dir: &Path) -> Result<()> {
        if self.is_populated() || !file::read(dir, "cgroup.procs").unwrap_or_default().is_empty() {
            return Err(Error::new(
                Reason::InvalidState,
                format!("control group {} exists and has processes", dir.display()),
            )
            .hint("end them or remove the container first"));
        }
        super::control::remove_tree(dir)
            .and_then(|()| file::make(dir))
            .map_err(|error| hierarchy::unusable(dir, &error))
    }

    /// Allows the given devices and denies all others, on version 1.
    pub(super) fn allow_devices(&self, rules: &[String]) -> Result<()> {
        let Some((dir, Version::V1)) = self.place(Controller::Devices) else { return Ok(()) };
        file::write(&dir, "devices.deny", "a")
            .map_err(|error| Error::io(format!("writing {}/devices.deny", dir.display()), &error))?;
        let mut current = "";
        file::write_each(
            &dir,
            "devices.allow",
            rules.iter().map(|rule| {
                current = rule;
                current
            }),
        )
        .map_err(|error| Error::io(format!("devices: allowing {current:?}"), &error))
    }
}
