//! Writes limits to a group, through `cgroups-rs` where it has a setter that reports errors (its own `Cgroup::apply` drops them).

use std::io;
use std::os::unix::fs::{FileTypeExt, MetadataExt};
use std::path::{Path, PathBuf};

use cgroups_rs::fs::blkio::BlkIoController;
use cgroups_rs::fs::cpu::CpuController;
use cgroups_rs::fs::cpuset::CpuSetController;
use cgroups_rs::fs::hugetlb::HugeTlbController;
use cgroups_rs::fs::memory::{MemController, SetMemory};
use cgroups_rs::fs::pid::PidController;
use cgroups_rs::fs::{MaxValue, error};
use nix::libc;
use nix::sys::stat::{major, minor};

use super::file;
use super::hierarchy::{Controller, Version};
use super::limits::{Change, Limit};
use crate::error::{Error, Reason, Result};
use crate::lifecycle::config::IoMax;

/// Where a group has which controller.
pub(super) trait Place {
    /// Directory of the hierarchy with this controller, if the group is in one.
    fn place(&self, controller: Controller) -> Option<(PathBuf, Version)>;
}

/// Applies all changes, or none: what was changed before a failure is set back.
pub(super) fn apply(group: &impl Place, changes: &[Change]) -> Result<()> {
    for (at, change) in changes.iter().enumerate() {
        let Err(mut error) = apply_one(group, &change.to, &change.from) else { continue };
        // The failed change itself included: some take several writes.
        for done in changes[..=at].iter().rev() {
            if let Err(undo) = apply_one(group, &done.from, &done.to)
                && done != change
            {
                error.message = format!("{} (and {} could not be set back: {undo})", error.message, done.from.field());
            }
        }
        return Err(error);
    }
    Ok(())
}

fn apply_one(group: &impl Place, to: &Limit, from: &Limit) -> Result<()> {
    let controller = controller(to);
    let Some((dir, version)) = group.place(controller) else {
        let name = controller.v1_name();
        return Err(Error::new(
            Reason::UnsupportedFeature,
            format!("{}: the container's control groups have no {name} controller", to.field()),
        )
        .hint(format!(
            "enable the {name} controller on this host; cpuset and hugetlb must be set at creation on version 1"
        )));
    };
    let target = Target { dir: &dir, version };
    let file = target.file(to);
    let written = match to {
        Limit::IoMax(limit) => return target.io_max(limit),
        Limit::IoWeight(weight) => return target.io_weight(*weight),
        _ => target.write(to, from),
    };
    written.map_err(|error| refused(to, &dir, &file, &error))
}

fn controller(limit: &Limit) -> Controller {
    match limit {
        Limit::MemoryMax(_)
        | Limit::MemoryHigh(_)
        | Limit::MemoryLow(_)
        | Limit::SwapMax(_)
        | Limit::MemorySwapSum(_) => Controller::Memory,
        Limit::CpuWeight(_) | Limit::CpuBandwidth { .. } => Controller::Cpu,
        Limit::CpusetCpus(_) | Limit::CpusetMems(_) => Controller::Cpuset,
        Limit::Pids(_) => Controller::Pids,
        Limit::IoWeight(_) | Limit::IoMax(_) => Controller::Io,
        Limit::Hugetlb { .. } => Controller::Hugetlb,
    }
}

/// A group's directory in one hierarchy.
struct Target<'a> {
    dir: &'a Path,
    version: Version,
}

impl Target<'_> {
    fn is_v2(&self) -> bool {
        self.version == Version::V2
    }

    /// The file that a limit is written to, for messages and to tell what the host lacks.
    fn file(&self, limit: &Limit) -> String {
        let (v1, v2) = match limit {
            Limit::MemoryMax(_) => ("memory.limit_in_bytes", "memory.max"),
            // No version 1 file: its name is what the error says is missing.
            Limit::MemoryHigh(_) => ("memory.high", "memory.high"),
            Limit::MemoryLow(_) => ("memory.soft_limit_in_bytes", "memory.low"),
            Limit::SwapMax(_) | Limit::MemorySwapSum(_) => ("memory.memsw.limit_in_bytes", "memory.swap.max"),
            Limit::CpuWeight(_) => ("cpu.shares", "cpu.weight"),
            Limit::CpuBandwidth { .. } => ("cpu.cfs_quota_us", "cpu.max"),
            Limit::CpusetCpus(_) => ("cpuset.cpus", "cpuset.cpus"),
            Limit::CpusetMems(_) => ("cpuset.mems", "cpuset.mems"),
            Limit::Pids(_) => ("pids.max", "pids.max"),
            Limit::IoWeight(_) => ("blkio.bfq.weight", "io.weight"),
            Limit::IoMax(_) => ("blkio.throttle", "io.max"),
            Limit::Hugetlb { size, .. } if self.is_v2() => return format!("hugetlb.{size}.max"),
            Limit::Hugetlb { size, .. } => return format!("hugetlb.{size}.limit_in_bytes"),
        };
        if self.is_v2() { v2.to_owned() } else { v1.to_owned() }
    }

    fn write(&self, limit: &Limit, from: &Limit) -> io::Result<()> {
        let dir = self.dir.to_owned();
        let root = PathBuf::new();
        let v2 = self.is_v2();
        let memory = |dir| MemController::new(dir, PathBuf::new(), v2);
        let result = match limit {
            Limit::MemoryMax(bytes) => memory(dir).set_limit(*bytes),
            Limit::MemoryLow(bytes) => memory(dir).set_soft_limit(*bytes),
            Limit::MemoryHigh(_) if !v2 => return Err(io::Error::from_raw_os_error(libc::ENOENT)),
            Limit::MemoryHigh(bytes) => {
                memory(dir).set_mem(SetMemory { high: Some(max_value(*bytes)), low: None, min: None, max: None })
            }
            Limit::SwapMax(bytes) | Limit::MemorySwapSum(bytes) => memory(dir).set_memswap_limit(*bytes),
            Limit::CpuWeight(weight) if v2 => CpuController::new(dir, root, v2).set_shares(u64::from(*weight)),
            Limit::CpuWeight(weight) => CpuController::new(dir, root, v2).set_shares(shares(*weight)),
            Limit::CpuBandwidth { quota, period } => {
                return bandwidth(&CpuController::new(dir, root, v2), v2, *quota, *period, from);
            }
            Limit::CpusetCpus(list) => {
                let list = self.cpuset_list("cpuset.cpus", list.as_deref())?;
                CpuSetController::new(dir, root, v2).set_cpus(&list)
            }
            Limit::CpusetMems(list) => {
                let list = self.cpuset_list("cpuset.mems", list.as_deref())?;
                CpuSetController::new(dir, root, v2).set_mems(&list)
            }
            Limit::Pids(count) => PidController::new(dir, root, v2).set_pid_max(max_value(*count)),
            Limit::Hugetlb { size, bytes: Some(bytes) } => {
                HugeTlbController::new(dir, root, v2).set_limit_in_bytes(size, *bytes)
            }
            Limit::Hugetlb { bytes: None, .. } => {
                return file::write(&dir, &self.file(limit), if v2 { "max" } else { "-1" });
            }
            Limit::IoWeight(_) | Limit::IoMax(_) => Ok(()),
        };
        result.map_err(os_error)
    }

    /// `None`: what the parent has. Version 2 takes an empty line for that (and cgroups-rs writes nothing for an empty text).
    fn cpuset_list(&self, name: &str, list: Option<&str>) -> io::Result<String> {
        match (list, self.dir.parent()) {
            (Some(list), _) => Ok(list.to_owned()),
            (None, Some(parent)) if !self.is_v2() => file::read(parent, name),
            (None, _) => Ok("\n".to_owned()),
        }
    }

    /// Weights: `io.weight` belongs to the iocost policy, `io.bfq.weight` and `blkio.bfq.weight` to the BFQ scheduler; which of
    /// them counts depends on each device's scheduler, so every one that is there is set.
    fn io_weight(&self, weight: u32) -> Result<()> {
        let bfq = bfq_weight(weight).to_string();
        let files: &[(&str, String)] = if self.is_v2() {
            &[("io.weight", format!("default {weight}")), ("io.bfq.weight", bfq)]
        } else {
            &[("blkio.bfq.weight", bfq)]
        };
        let mut set = 0;
        for (name, value) in files {
            match file::write(self.dir, name, value) {
                Ok(()) => set += 1,
                Err(error) if error.kind() == io::ErrorKind::NotFound => {}
                Err(error) => return Err(refused(&Limit::IoWeight(weight), self.dir, name, &error)),
            }
        }
        if set == 0 {
            return Err(Error::new(
                Reason::UnsupportedFeature,
                "io_weight: the kernel has neither the iocost policy nor the BFQ scheduler for control groups",
            )
            .hint("load the bfq module or use io_max"));
        }
        Ok(())
    }

    fn io_max(&self, limit: &IoMax) -> Result<()> {
        let (major, minor) = block_device(&limit.device)?;
        let controller = BlkIoController::new(self.dir.to_owned(), PathBuf::new(), self.is_v2());
        // "No limit" is 0 in version 1; version 2 takes its largest number for "max".
        let none = if self.is_v2() { u64::MAX } else { 0 };
        let value = |value: Option<u64>| value.unwrap_or(none);
        controller
            .throttle_read_bps_for_device(major, minor, value(limit.read_bps))
            .and_then(|()| controller.throttle_write_bps_for_device(major, minor, value(limit.write_bps)))
            .and_then(|()| controller.throttle_read_iops_for_device(major, minor, value(limit.read_iops)))
            .and_then(|()| controller.throttle_write_iops_for_device(major, minor, value(limit.write_iops)))
            .map_err(|error| {
                let name = if self.is_v2() { "io.max" } else { "blkio.throttle.read_bps_device" };
                let mut error = refused(&Limit::IoMax(limit.clone()), self.dir, name, &os_error(error));
                if error.errno == Some(nix::errno::Errno::ENODEV) {
                    error = error.hint(format!("{} must be a whole disk, not a partition", limit.device));
                }
                error
            })
    }
}

/// Period and quota on version 1 are two files: a quota is lifted while the period changes, so that no mixture of old and new
/// is refused for exceeding what the parent allows.
fn bandwidth(cpu: &CpuController, v2: bool, quota: i64, period: u64, from: &Limit) -> io::Result<()> {
    if v2 {
        return cpu.set_cfs_quota_and_period(Some(quota), Some(period)).map_err(os_error);
    }
    let Limit::CpuBandwidth { quota: old_quota, period: old_period } = *from else {
        return Err(io::Error::from_raw_os_error(libc::EINVAL));
    };
    if period != old_period {
        if old_quota != -1 {
            cpu.set_cfs_quota(-1).map_err(os_error)?;
        }
        cpu.set_cfs_period(period).map_err(os_error)?;
    }
    cpu.set_cfs_quota(quota).map_err(os_error)
}

/// The cpu.shares that give the scheduler the same weight as a cpu.weight: it multiplies by 1024/100 (kernel/sched/core.c,
/// `sched_weight_from_cgroup`), and so does this, unlike runc's linear conversion, which makes the default 100 a 2597.
fn shares(weight: u32) -> u64 {
    (u64::from(weight) * 1024 + 50) / 100
}

/// BFQ takes 1 to 1000 with the same default of 100: the lower range as it is, the upper range scaled, as systemd does.
fn bfq_weight(weight: u32) -> u32 {
    if weight <= 100 { weight } else { 100 + (weight - 100) * 900 / 9900 }
}

fn max_value(value: i64) -> MaxValue {
    if value == -1 { MaxValue::Max } else { MaxValue::Value(value) }
}

fn block_device(path: &str) -> Result<(u64, u64)> {
    let metadata = std::fs::metadata(path).map_err(|error| {
        let mut result = Error::io(format!("io_max: device {path}"), &error);
        result.reason = Reason::InvalidArgument;
        result
    })?;
    if !metadata.file_type().is_block_device() {
        return Err(Error::invalid("io_max", format_args!("{path} is not a block device")));
    }
    Ok((major(metadata.rdev()), minor(metadata.rdev())))
}

/// The errno inside an error of `cgroups-rs`.
pub(super) fn os_error(error: error::Error) -> io::Error {
    let errno = std::error::Error::source(&error)
        .and_then(|cause| cause.downcast_ref::<io::Error>())
        .and_then(io::Error::raw_os_error);
    errno.map_or_else(|| io::Error::other(error), io::Error::from_raw_os_error)
}

/// Why the kernel did not take a value.
fn refused(limit: &Limit, dir: &Path, name: &str, error: &io::Error) -> Error {
    let field = limit.field();
    if !dir.join(name).exists() {
        return missing(limit, name);
    }
    let mut result = Error::io(format!("{field}: writing {name}"), error);
    match error.raw_os_error() {
        Some(libc::EBUSY) if matches!(limit, Limit::MemoryMax(_) | Limit::MemorySwapSum(_)) => {
            result.reason = Reason::InvalidState;
            result.hint("the container uses more than that and the kernel cannot reclaim it; choose a higher limit")
        }
        Some(libc::EINVAL | libc::ERANGE | libc::ENODEV | libc::ENOSPC | libc::EBUSY | libc::E2BIG | libc::ENXIO) => {
            result.reason = Reason::InvalidArgument;
            result
        }
        Some(libc::EOPNOTSUPP) => {
            result.reason = Reason::UnsupportedFeature;
            result
        }
        Some(libc::EACCES | libc::EPERM | libc::EROFS) => {
            result.reason = Reason::PermissionDenied;
            result
        }
        _ => result,
    }
}

fn missing(limit: &Limit, name: &str) -> Error {
    let field = limit.field();
    let (what, hint) = match limit {
        Limit::MemoryHigh(_) => ("memory.high needs control groups version 2".to_owned(), "use memory_max"),
        Limit::SwapMax(_) | Limit::MemorySwapSum(_) => {
            (format!("{name} is missing: the kernel does not account swap"), "boot with swapaccount=1")
        }
        Limit::Hugetlb { size, .. } => (
            format!("{name} is missing: no huge pages of {size} or no hugetlb controller"),
            "see /sys/kernel/mm/hugepages",
        ),
        _ => (format!("{name} is missing in this kernel or the controller is not enabled"), "see cgroup.controllers"),
    };
    Error::new(Reason::UnsupportedFeature, format!("{field}: {what}")).hint(hint)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn weights() {
        assert_eq!([shares(1), shares(100), shares(10_000)], [10, 1024, 102_400]);
        assert_eq!([bfq_weight(1), bfq_weight(100), bfq_weight(5_050), bfq_weight(10_000)], [1, 100, 550, 1000]);
    }

    #[test]
    fn not_a_block_device() {
        let error = block_device("/dev/null").unwrap_err();
        assert_eq!(error.reason, Reason::InvalidArgument);
        assert_eq!(block_device("/dev/no-such-disk").unwrap_err().reason, Reason::InvalidArgument);
    }
}
