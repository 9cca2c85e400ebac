//! What every container's task works with. Made once, in `app.rs`.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::Semaphore;

use super::config::LogLimits;
use super::disk::WritableLayers;
use super::record::Record;
use super::security::capabilities::HostCapabilities;
use super::security::seccomp::SeccompCache;
use super::userns::UsernsRanges;
use crate::error::{Error, Result};
use crate::images::{Images, LayerMounts};
use crate::metrics::Metrics;
use crate::runtime::cgroup::{CgroupManager, ContainerCgroup};
use crate::runtime::dirs::Dirs;
use crate::runtime::features;
use crate::runtime::shim::ShimPool;
use crate::stats::{Registration, StatsHub};
use crate::store::Store;

/// The parts below the life cycle.
#[derive(Debug)]
pub(crate) struct Context {
    pub(crate) store: Store,
    pub(crate) images: Images,
    pub(crate) layers: LayerMounts,
    pub(crate) cgroups: CgroupManager,
    pub(crate) stats: StatsHub,
    pub(crate) metrics: Metrics,
    pub(crate) dirs: Dirs,
    pub(crate) writable: WritableLayers,
    pub(crate) shims: ShimPool,
    /// A permit for each copy of files that is under way.
    pub(crate) copies: Arc<Semaphore>,
    pub(crate) userns: UsernsRanges,
    pub(crate) seccomp: SeccompCache,
    pub(crate) logs: LogLimits,
    pub(crate) host: Host,
}

impl Context {
    /// A container runs: what it uses can be read from now on.
    pub(crate) fn register_stats(&self, record: &Record, cgroup: &ContainerCgroup) {
        self.stats.register(Registration {
            id: record.id.clone(),
            name: record.name.clone(),
            labels: record.config.labels.clone(),
            dirs: cgroup.stat_dirs(),
            pid: record.pid,
            writable: self.writable.last(&record.id),
        });
    }
}

/// What does not change about the host until it boots again.
#[derive(Debug)]
pub(crate) struct Host {
    pub(crate) boot_id: String,
    pub(crate) capabilities: HostCapabilities,
    /// Kernel version, major and minor.
    pub(crate) kernel: (u32, u32),
}

impl Host {
    /// Asks the kernel. Blocking, for a moment.
    pub(crate) fn read() -> Result<Self> {
        let path = "/proc/sys/kernel/random/boot_id";
        let boot_id =
            std::fs::read_to_string(path).map_err(|error| Error::io(format_args!("reading {path}"), &error))?;
        let uname = nix::sys::utsname::uname().map_err(|errno| Error::os("asking for the kernel's version", errno))?;
        let kernel = features::kernel_version(&uname.release().to_string_lossy());
        Ok(Self { boot_id: boot_id.trim().to_owned(), capabilities: HostCapabilities::read()?, kernel })
    }

    /// The host's name, which may change.
    #[expect(clippy::unused_self, reason = "the host is asked, not the process at large")]
    pub(crate) fn name(&self) -> String {
        nix::unistd::gethostname().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default()
    }
}

/// Time for a shim to set a container up. Image layers on slow disks and bind mounts on network file systems count.
pub(crate) const START_DEADLINE: Duration = Duration::from_secs(60);

/// Most copies of files at once: each has a thread of its own, which a slow disk or a hung mount may hold up.
pub(crate) const COPIES_MAX: usize = 64;

/// Grace period between stop signal and SIGKILL where nobody said otherwise.
pub(crate) const STOP_TIMEOUT: Duration = Duration::from_secs(10);

/// Time for a killed container to be gone. Longer only if a process hangs in the kernel.
pub(crate) const KILL_DEADLINE: Duration = Duration::from_secs(10);
