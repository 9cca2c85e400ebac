//! Control groups of containers, on version 2 (unified), version 1 (legacy) and both together (hybrid).
//!
//! Each container has the group `<parent>/<id>` in every hierarchy that it needs. There is no branching by mode: each controller
//! lives in some hierarchy of some version, and whoever needs it asks where ([`apply::Place`]). What version 2 offers without
//! controllers (kill, freeze, events, clone into a group) is used wherever it is mounted, hybrid hosts included.
//!
//! Cost, measured on a hybrid host with six hierarchies: making the groups with limits 0.4 ms, removing them 0.2 ms, nearly all
//! of it mkdir(2) and rmdir(2) in the kernel (a memory group alone 0.08 and 0.05 ms). Where cpuacct is mounted by itself
//! beside version 2, containers get no group there: `cpu.stat` of version 2 tells the same without it.
//!
//! All functions block and belong on a thread that may.

mod apply;
mod control;
mod file;
mod group;
mod hierarchy;
mod limits;
#[cfg(test)]
mod tests;

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;

pub(crate) use group::{ContainerCgroup, StatDirs};
pub(crate) use hierarchy::Version;
use hierarchy::{Controller, Hierarchy};

use crate::error::{Error, Reason, Result};
use crate::lifecycle::config::Resources;

/// Which versions of control groups this host uses.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum CgroupMode {
    /// Version 1 alone.
    Legacy,
    /// Controllers in version 1, version 2 beside them.
    Hybrid,
    /// Version 2 alone.
    Unified,
}

/// Makes, finds and removes the groups of containers below one parent.
#[derive(Debug, Clone)]
pub(crate) struct CgroupManager {
    host: Arc<Host>,
}

/// The host's hierarchies, looked at once.
#[derive(Debug)]
pub(crate) struct Host {
    /// Without slashes at its ends.
    parent: String,
    mode: CgroupMode,
    hierarchies: Vec<Hierarchy>,
}

impl CgroupManager {
    /// Looks at the host and makes `parent` ("/hull"), below the root of every hierarchy that all containers need.
    ///
    /// # Errors
    /// `InvalidArgument` for a parent that is no plain absolute path, `UnsupportedFeature` on a host without control groups,
    /// `PermissionDenied` where groups cannot be made.
    pub(crate) fn detect(parent: &str) -> Result<Self> {
        let mountinfo = fs::read_to_string("/proc/self/mountinfo")
            .map_err(|error| Error::io("reading /proc/self/mountinfo", &error))?;
        let offered = |mount: &Path| fs::read_to_string(mount.join("cgroup.controllers")).unwrap_or_default();
        Self::with(parent, hierarchy::find(&mountinfo, offered))
    }

    fn with(parent: &str, hierarchies: Vec<Hierarchy>) -> Result<Self> {
        let parent = checked_parent(parent)?;
        let v2 = hierarchies.iter().any(|hierarchy| hierarchy.version == Version::V2);
        let v1 = hierarchies.iter().any(|hierarchy| hierarchy.version == Version::V1);
        let mode = match (v1, v2) {
            (false, true) => CgroupMode::Unified,
            (true, true) => CgroupMode::Hybrid,
            (true, false) => CgroupMode::Legacy,
            (false, false) => {
                return Err(Error::new(Reason::UnsupportedFeature, "no control group hierarchy is mounted")
                    .hint("mount cgroup2 at /sys/fs/cgroup"));
            }
        };
        let host = Host { parent, mode, hierarchies };
        for hierarchy in host.hierarchies.iter().filter(|hierarchy| host.is_basic(hierarchy)) {
            hierarchy.make_parent(&host.parent)?;
        }
        Ok(Self { host: Arc::new(host) })
    }

    /// On a hybrid host: as if version 2 were not mounted, so that legacy hosts are tested where none is at hand.
    #[cfg(test)]
    pub(crate) fn detect_legacy(parent: &str) -> Option<Self> {
        let mut hierarchies = hierarchy::find(&fs::read_to_string("/proc/self/mountinfo").ok()?, |_| String::new());
        hierarchies.retain(|hierarchy| hierarchy.version == Version::V1);
        Self::with(parent, hierarchies).ok()
    }

    /// Which versions this host uses.
    pub(crate) fn mode(&self) -> CgroupMode {
        self.host.mode
    }

    /// The controllers that containers can be limited by, by their version 2 names, sorted.
    pub(crate) fn controllers(&self) -> Vec<&'static str> {
        let found = self.host.hierarchies.iter().flat_map(|hierarchy| &hierarchy.controllers);
        let names: BTreeSet<_> = found.filter_map(|controller| controller.v2_name()).collect();
        names.into_iter().collect()
    }

    /// Whether devices are allowed by rules of the version 1 controller (`device_rules_v1` of [`Self::make`]); otherwise by a
    /// BPF program attached to the container's version 2 group.
    pub(crate) fn has_v1_devices(&self) -> bool {
        self.host.home(Controller::Devices).is_some()
    }

    /// The groups that a container with these limits needs; [`Self::make`] makes them.
    ///
    /// # Errors
    /// `UnsupportedFeature` (what the host lacks, by name), `LimitExceeded`, `System`.
    pub(crate) fn group(&self, id: &str, resources: &Resources) -> Result<ContainerCgroup> {
        let wanted = self.host.wanted(resources)?;
        Ok(ContainerCgroup::new(self.host.clone(), checked_id(id)?.to_owned(), wanted))
    }

    /// Makes the groups of a container and limits them. On failure everything that was made is removed again.
    ///
    /// `device_rules_v1`: what the container may use, as lines of `devices.allow` ("c 1:3 rwm"), all else being denied; not
    /// asked for where [`Self::has_v1_devices`] is false, elsewhere once the groups are there.
    ///
    /// An empty group that an earlier start left is replaced.
    ///
    /// # Errors
    /// `InvalidArgument` (a wrong limit, by its field), `UnsupportedFeature` (what the host lacks, by name), `InvalidState` (the
    /// group exists and has processes), `PermissionDenied`, `LimitExceeded`, `System`; those of `device_rules_v1`.
    pub(crate) fn make(
        &self,
        group: &ContainerCgroup,
        resources: &Resources,
        device_rules_v1: impl FnOnce() -> Result<Vec<String>>,
    ) -> Result<()> {
        let changes = limits::changes(&Resources::default(), resources, self.host.memory_version())?;
        let allow = || if self.has_v1_devices() { group.allow_devices(&device_rules_v1()?) } else { Ok(()) };
        let made = group.make().and_then(|()| allow()).and_then(|()| apply::apply(group, &changes));
        made.map_err(|error| {
            if error.reason != Reason::InvalidState
                && let Err(left) = group.remove()
            {
                tracing::warn!(group = group.path(), error = %left, "a control group is left behind");
            }
            error.step(hull_wire::Step::Cgroup)
        })
    }

    /// The groups of a container that exist already, `None` if there is none in any hierarchy.
    pub(crate) fn open(&self, id: &str) -> Option<ContainerCgroup> {
        let id = checked_id(id).ok()?;
        let exists = |at: &usize| self.host.parent_dir(&self.host.hierarchies[*at]).join(id).is_dir();
        let members: Vec<usize> = (0..self.host.hierarchies.len()).filter(exists).collect();
        (!members.is_empty()).then(|| ContainerCgroup::new(self.host.clone(), id.to_owned(), members))
    }

    /// The path of a container's groups in every hierarchy, made or not ("/hull/ID").
    pub(crate) fn path_of(&self, id: &str) -> String {
        format!("/{}/{id}", self.host.parent)
    }

    /// The ids of all groups below the parent in any hierarchy, sorted.
    ///
    /// # Errors
    /// `System` if a directory cannot be read.
    pub(crate) fn list(&self) -> Result<Vec<String>> {
        let mut ids = BTreeSet::new();
        for hierarchy in &self.host.hierarchies {
            let dir = self.host.parent_dir(hierarchy);
            let names =
                file::children(&dir).map_err(|error| Error::io(format!("listing {}", dir.display()), &error))?;
            ids.extend(names.into_iter().filter_map(|name| name.into_string().ok()));
        }
        Ok(ids.into_iter().collect())
    }

    /// Removes the parent, as far as hull made it (this agent or one before) and nothing is in it.
    ///
    /// # Errors
    /// `System` if the kernel refuses for another reason than groups or processes in it.
    pub(crate) fn remove_parent(&self) -> Result<()> {
        for hierarchy in &self.host.hierarchies {
            let mut dir = self.host.parent_dir(hierarchy);
            while dir != hierarchy.mount && file::is_marked(&dir) {
                match fs::remove_dir(&dir) {
                    Ok(()) => {}
                    Err(error) if error.raw_os_error() == Some(nix::libc::EBUSY) => break,
                    Err(error) => return Err(Error::io(format!("removing control group {}", dir.display()), &error)),
                }
                dir.pop();
            }
        }
        Ok(())
    }
}

impl Host {
    /// The hierarchy with a controller.
    fn home(&self, controller: Controller) -> Option<usize> {
        self.hierarchies.iter().position(|hierarchy| hierarchy.has(controller))
    }

    fn unified(&self) -> Option<&Hierarchy> {
        self.hierarchies.iter().find(|hierarchy| hierarchy.version == Version::V2)
    }

    fn memory_version(&self) -> Version {
        self.home(Controller::Memory).map_or(Version::V2, |at| self.hierarchies[at].version)
    }

    fn parent_dir(&self, hierarchy: &Hierarchy) -> PathBuf {
        hierarchy.mount.join(&self.parent)
    }

    /// Whether every container has a group in this hierarchy.
    fn is_basic(&self, hierarchy: &Hierarchy) -> bool {
        let unified = self.unified().is_some();
        let needed = |controller: &Controller| match controller {
            Controller::Cpu | Controller::Memory | Controller::Pids | Controller::Devices | Controller::Io => true,
            // Version 2 accounts processor time and freezes without controllers.
            Controller::Cpuacct | Controller::Freezer => !unified,
            Controller::Cpuset | Controller::Hugetlb => false,
        };
        hierarchy.version == Version::V2 || hierarchy.controllers.iter().any(needed)
    }

    /// The hierarchies in which a container with these limits has a group; what only some ask for is prepared.
    fn wanted(&self, resources: &Resources) -> Result<Vec<usize>> {
        let mut wanted: Vec<usize> =
            (0..self.hierarchies.len()).filter(|at| self.is_basic(&self.hierarchies[*at])).collect();
        for controller in asked(resources) {
            let Some(at) = self.prepare(controller)? else { continue };
            if !wanted.contains(&at) {
                wanted.push(at);
            }
        }
        Ok(wanted)
    }

    /// Makes a controller usable below the parent. `None`: the host does not have it, which is told when a limit is written.
    fn prepare(&self, controller: Controller) -> Result<Option<usize>> {
        let Some(at) = self.home(controller) else { return Ok(None) };
        let hierarchy = &self.hierarchies[at];
        let name = controller.v1_name();
        hierarchy.prepare(controller, &self.parent).map_err(|error| {
            Error::io(format!("enabling the {name} controller in cgroup.subtree_control"), &error).hint(
                "a group with processes of its own, or another manager, stands between the root and hull's parent",
            )
        })?;
        if hierarchy.version == Version::V1 {
            hierarchy.make_parent(&self.parent)?;
        }
        if hierarchy.version == Version::V1 && controller == Controller::Cpuset {
            let dir = self.parent_dir(hierarchy);
            hierarchy::fill_cpuset(&dir).map_err(|error| hierarchy::unusable(&dir, &error))?;
        }
        Ok(Some(at))
    }
}

/// Controllers that only those limits need.
fn asked(resources: &Resources) -> impl Iterator<Item = Controller> {
    let cpuset = resources.cpuset_cpus.is_some() || resources.cpuset_mems.is_some();
    let hugetlb = !resources.hugetlb.is_empty();
    [(cpuset, Controller::Cpuset), (hugetlb, Controller::Hugetlb)]
        .into_iter()
        .filter_map(|(asked, controller)| asked.then_some(controller))
}

fn checked_parent(parent: &str) -> Result<String> {
    let inner = parent.trim_matches('/');
    let plain = |name: &str| !matches!(name, "" | "." | "..") && !name.contains(['\n', '\0']);
    if !parent.starts_with('/') || inner.is_empty() || !inner.split('/').all(plain) {
        return Err(Error::invalid("cgroup-parent", format_args!("{parent:?} is not an absolute path such as /hull")));
    }
    Ok(inner.to_owned())
}

fn checked_id(id: &str) -> Result<&str> {
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_' | b'.');
    if id.is_empty() || id.starts_with('.') || !id.bytes().all(plain) {
        return Err(Error::invalid("id", format_args!("{id:?} cannot name a control group")));
    }
    Ok(id)
}
