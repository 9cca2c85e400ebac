//! What every container's task works with. Made once, in `app.rs`.

use std::time::Duration;

use super::security::seccomp::SeccompCache;
use super::userns::UsernsRanges;
use crate::images::{Images, LayerMounts};
use crate::runtime::cgroup::CgroupManager;
use crate::runtime::dirs::Dirs;
use crate::runtime::shim::ShimPool;
use crate::stats::StatsHub;
use crate::store::Store;

/// The parts below the life cycle.
#[derive(Debug)]
pub(crate) struct Context {
    pub(crate) store: Store,
    pub(crate) images: Images,
    pub(crate) layers: LayerMounts,
    pub(crate) cgroups: CgroupManager,
    pub(crate) stats: StatsHub,
    pub(crate) dirs: Dirs,
    pub(crate) shims: ShimPool,
    pub(crate) userns: UsernsRanges,
    pub(crate) seccomp: SeccompCache,
    pub(crate) boot_id: String,
}

/// Time for a shim to set a container up. Image layers on slow disks and bind mounts on network file systems count.
pub(crate) const START_DEADLINE: Duration = Duration::from_secs(60);

/// Grace period between stop signal and SIGKILL where nobody said otherwise.
pub(crate) const STOP_TIMEOUT: Duration = Duration::from_secs(10);

/// Time for a killed container to be gone. Longer only if a process hangs in the kernel.
pub(crate) const KILL_DEADLINE: Duration = Duration::from_secs(10);
