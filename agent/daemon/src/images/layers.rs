//! Mounts of layers: each EROFS file once per node, counted, below RUN/layers.
//!
//! The names are short, so that a hundred of them fit the page that overlayfs takes as options: the first 16 hexadecimal
//! digits of the diff id. The mounting itself is the shim's (`hull-shim mount-layer FILE TARGET`), which knows how this
//! kernel takes the file. A mount that is there after a restart of the agent is taken over by who acquires it.

use std::collections::BTreeMap;
use std::fs;
use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::{Arc, Mutex, PoisonError};

use nix::errno::Errno;
use nix::mount::{MntFlags, umount2};

use super::Images;
use super::record::Image;
use crate::error::{Error, Reason, Result};

/// Digits of the diff id in the name of a mount point.
const NAME_DIGITS: usize = 16;

/// The mounted layers of this node. Clones share them. Methods block.
#[derive(Debug, Clone)]
pub(crate) struct LayerMounts {
    shared: Arc<Shared>,
}

#[derive(Debug)]
struct Shared {
    directory: PathBuf,
    images: Images,
    shim: PathBuf,
    /// By mount point. Each has a lock of its own, so that a mount that hangs delays only who needs the same layer.
    layers: Mutex<BTreeMap<PathBuf, Arc<Mutex<State>>>>,
}

#[derive(Debug, Default)]
struct State {
    users: usize,
    mounted: bool,
    /// Whose layer it is; empty after [`LayerMounts::restore`] until someone acquires it.
    diff_id: String,
}

impl LayerMounts {
    /// Below `run_dir`; `shim` is the program that mounts.
    pub(crate) fn new(run_dir: &Path, images: Images, shim: PathBuf) -> Result<Self> {
        let directory = run_dir.join("layers");
        fs::create_dir_all(&directory).map_err(|error| Error::io(format!("making {}", directory.display()), &error))?;
        // Mount points are compared with what the kernel shows, which has no symbolic links in it.
        let directory = directory
            .canonicalize()
            .map_err(|error| Error::io(format!("resolving {}", directory.display()), &error))?;
        Ok(Self { shared: Arc::new(Shared { directory, images, shim, layers: Mutex::default() }) })
    }

    /// Mounts the layers of an image that are not yet; returns their mount points, the topmost first. Each call is
    /// matched by one of [`Self::release`]. If one layer fails, none is held.
    pub(crate) fn acquire(&self, image: &Image) -> Result<Vec<PathBuf>> {
        let mut points = Vec::with_capacity(image.layers.len());
        for layer in &image.layers {
            match self.acquire_layer(&layer.diff_id) {
                Ok(point) => points.push(point),
                Err(error) => {
                    points.iter().for_each(|point| self.release_point(point));
                    return Err(error);
                }
            }
        }
        points.reverse();
        Ok(points)
    }

    /// Gives the layers back; the last one who does unmounts.
    pub(crate) fn release(&self, image: &Image) {
        for layer in &image.layers {
            self.release_point(&self.shared.point(&layer.diff_id));
        }
    }

    /// Takes over what an earlier agent mounted. Call before anything is acquired; then acquire for every container, and
    /// [`Self::sweep`].
    pub(crate) fn restore(&self) -> Result<()> {
        let mut layers = self.shared.lock();
        for point in mounted_below(&self.shared.directory)? {
            let state = State { mounted: true, ..State::default() };
            layers.insert(point, Arc::new(Mutex::new(state)));
        }
        Ok(())
    }

    /// Unmounts what nobody acquired; removes mount points without a mount. Returns how many mounts went.
    pub(crate) fn sweep(&self) -> Result<usize> {
        let points: Vec<_> = self.shared.lock().keys().cloned().collect();
        let mut swept = 0;
        for point in points {
            let Some(entry) = self.shared.entry_of(&point) else { continue };
            let mut state = entry.lock().unwrap_or_else(PoisonError::into_inner);
            if state.users == 0 && state.mounted {
                unmount(&point, &mut state);
                swept += usize::from(!state.mounted);
            }
            drop(state);
            self.shared.forget(&point);
        }
        let failed = |error| Error::io(format!("listing {}", self.shared.directory.display()), &error);
        for entry in fs::read_dir(&self.shared.directory).map_err(failed)? {
            let path = entry.map_err(failed)?.path();
            let layers = self.shared.lock();
            if !layers.contains_key(&path) {
                // Fails if it is none of ours, and then it may stay.
                drop(fs::remove_dir(&path));
            }
        }
        Ok(swept)
    }

    fn acquire_layer(&self, diff_id: &str) -> Result<PathBuf> {
        let point = self.shared.point(diff_id);
        let entry = Arc::clone(self.shared.lock().entry(point.clone()).or_default());
        let mut state = entry.lock().unwrap_or_else(PoisonError::into_inner);
        let held = self.shared.hold(&mut state, &point, diff_id);
        drop(state);
        drop(entry);
        if held.is_err() {
            self.shared.forget(&point);
        }
        held.map(|()| point)
    }

    fn release_point(&self, point: &Path) {
        let Some(entry) = self.shared.entry_of(point) else { return };
        let mut state = entry.lock().unwrap_or_else(PoisonError::into_inner);
        state.users = state.users.saturating_sub(1);
        if state.users == 0 && state.mounted {
            unmount(point, &mut state);
        }
        drop(state);
        drop(entry);
        self.shared.forget(point);
    }
}

impl Shared {
    fn lock(&self) -> std::sync::MutexGuard<'_, BTreeMap<PathBuf, Arc<Mutex<State>>>> {
        self.layers.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn entry_of(&self, point: &Path) -> Option<Arc<Mutex<State>>> {
        self.lock().get(point).cloned()
    }

    fn point(&self, diff_id: &str) -> PathBuf {
        let hex = diff_id.strip_prefix("sha256:").unwrap_or(diff_id);
        self.directory.join(hex.get(..NAME_DIGITS).unwrap_or(hex))
    }

    /// Drops the entry of a mount point that is neither mounted nor waited for.
    fn forget(&self, point: &Path) {
        let mut layers = self.lock();
        // Nobody else has the entry: whoever takes a copy of it holds the same lock.
        let idle = layers.get_mut(point).and_then(Arc::get_mut).is_some_and(|state| {
            let state = state.get_mut().unwrap_or_else(PoisonError::into_inner);
            state.users == 0 && !state.mounted
        });
        if idle {
            layers.remove(point);
        }
    }

    fn hold(&self, state: &mut State, point: &Path, diff_id: &str) -> Result<()> {
        if state.users > 0 && state.diff_id != diff_id {
            let line = format!("the layers {diff_id} and {} have the same first digits", state.diff_id);
            return Err(Error::new(Reason::UnsupportedFeature, line).hint("use one of the two images at a time"));
        }
        if !state.mounted {
            self.mount(point, diff_id)?;
            state.mounted = true;
        }
        state.users += 1;
        diff_id.clone_into(&mut state.diff_id);
        Ok(())
    }

    fn mount(&self, point: &Path, diff_id: &str) -> Result<()> {
        match fs::create_dir(point) {
            Ok(()) => {}
            Err(error) if error.kind() == std::io::ErrorKind::AlreadyExists => {}
            Err(error) => return Err(Error::io(format!("making {}", point.display()), &error)),
        }
        let file = self.images.layer_path(diff_id);
        let output = Command::new(&self.shim)
            .arg("mount-layer")
            .args([&file, point])
            .output()
            .map_err(|error| Error::io(format!("starting {}", self.shim.display()), &error))?;
        if output.status.success() {
            return Ok(());
        }
        drop(fs::remove_dir(point));
        let said = String::from_utf8_lossy(&output.stderr);
        let line = said.lines().next().unwrap_or("it did not say why");
        Err(Error::new(Reason::System, format!("mounting the layer {}: {line}", file.display())))
    }
}

/// Unmounts; if something on the node itself stands in the mount, it goes when that does.
fn unmount(point: &Path, state: &mut State) {
    let unmounted = match umount2(point, MntFlags::UMOUNT_NOFOLLOW) {
        Err(Errno::EBUSY) => umount2(point, MntFlags::UMOUNT_NOFOLLOW | MntFlags::MNT_DETACH),
        other => other,
    };
    match unmounted {
        // EINVAL: it is no mount point any more.
        Ok(()) | Err(Errno::EINVAL | Errno::ENOENT) => {
            state.mounted = false;
            if let Err(error) = fs::remove_dir(point)
                && error.kind() != std::io::ErrorKind::NotFound
            {
                tracing::warn!(mount_point = %point.display(), %error, "removing a layer's mount point");
            }
        }
        Err(errno) => tracing::warn!(mount_point = %point.display(), %errno, "unmounting a layer"),
    }
}

/// Mount points directly below a directory (proc_pid_mountinfo(5), fifth field; blanks are written as octal escapes).
fn mounted_below(directory: &Path) -> Result<Vec<PathBuf>> {
    let failed = |error| Error::io("reading /proc/self/mountinfo", &error);
    let mut points = Vec::new();
    for line in BufReader::new(fs::File::open("/proc/self/mountinfo").map_err(failed)?).lines() {
        let line = line.map_err(failed)?;
        let Some(point) = line.split(' ').nth(4) else { continue };
        let point = PathBuf::from(unescape(point));
        if point.parent() == Some(directory) {
            points.push(point);
        }
    }
    Ok(points)
}

/// Undoes mountinfo's escapes of blank, tab, line end and backslash.
fn unescape(text: &str) -> String {
    [("\\040", " "), ("\\011", "\t"), ("\\012", "\n"), ("\\134", "\\")]
        .into_iter()
        .fold(text.to_owned(), |text, (escape, plain)| text.replace(escape, plain))
}

#[cfg(test)]
mod tests;
