//! Control groups: opened before init is made, which is then born in them or enters them first of all.

use std::fs::File;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::fs::FileExt;

use hull_wire::{CgroupPlan, Step};
use nix::errno::Errno;
use nix::fcntl::{OFlag, open};
use nix::sys::stat::Mode;

use crate::failure::{At, Result, failed};
use crate::sys::bpf;

/// The groups of a container.
#[derive(Debug)]
pub(crate) struct Groups {
    pub(crate) unified: Option<OwnedFd>,
    pub(crate) tasks: Vec<OwnedFd>,
    pub(crate) oom: OomCounter,
}

/// Opens the groups, and loads the device filter.
pub(crate) fn open_groups(plan: &CgroupPlan) -> Result<Groups> {
    let file = |path: &String, flags: OFlag| {
        open(path.as_str(), flags | OFlag::O_CLOEXEC, Mode::empty()).at(Step::EnterCgroup, path)
    };
    let unified = plan.unified.as_ref().map(|path| file(path, OFlag::O_RDONLY | OFlag::O_DIRECTORY)).transpose()?;
    let tasks = plan.v1_tasks.iter().map(|path| file(path, OFlag::O_WRONLY)).collect::<Result<_>>()?;
    if let Some(instructions) = &plan.device_program {
        let Some(group) = &unified else {
            return Err(failed(Step::DeviceFilter, Errno::EINVAL, "no control group of version 2 to attach it to"));
        };
        let program = bpf::load_device_program(instructions).at(Step::DeviceFilter, "loading")?;
        bpf::attach_device_program(group.as_fd(), program.as_fd()).at(Step::DeviceFilter, "attaching")?;
    }
    let oom = plan.oom_file.as_ref().map(|path| file(path, OFlag::O_RDONLY).map(File::from)).transpose()?;
    Ok(Groups { unified, tasks, oom: OomCounter::new(oom) })
}

/// How often the out-of-memory killer has come since the start.
#[derive(Debug)]
pub(crate) struct OomCounter {
    file: Option<File>,
    before: u64,
}

impl OomCounter {
    fn new(file: Option<File>) -> Self {
        let before = file.as_ref().map_or(0, count);
        Self { file, before }
    }

    /// Whether it came.
    pub(crate) fn has_come(&self) -> bool {
        self.file.as_ref().map_or(0, count) > self.before
    }
}

/// Reads the line "oom_kill N" of memory.events or memory.oom_control. 0 if the group is gone.
fn count(file: &File) -> u64 {
    let mut text = [0; 512];
    let length = file.read_at(&mut text, 0).unwrap_or_default();
    let text = String::from_utf8_lossy(&text[..length]);
    text.lines().find_map(|line| line.strip_prefix("oom_kill ")).and_then(|number| number.parse().ok()).unwrap_or(0)
}
