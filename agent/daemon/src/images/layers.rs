//! Layers where containers find them: each EROFS file mounted once per node, below RUN/layers, for as long as a container uses it.
//! The shim's program does the mounting, for it may need a loop device.

use std::collections::HashMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use hull_wire::Step;
use nix::errno::Errno;
use nix::mount::{MntFlags, umount2};

use super::base::BASE_LAYER;
use super::{Image, Images};
use crate::error::{Error, Reason, Result};

/// Digits of a diff id that name its mount point: 128 bits, and a hundred of them fit into one page of mount options.
const NAME_DIGITS: usize = 32;

/// The mounted layers of the node. All methods block.
#[derive(Debug, Clone)]
pub(crate) struct LayerMounts {
    shared: Arc<Shared>,
}

#[derive(Debug)]
struct Shared {
    directory: PathBuf,
    images: Images,
    shim: String,
    /// By name of the mount point.
    layers: Mutex<HashMap<String, Arc<Mutex<Layer>>>>,
}

/// One layer. Its lock is held while it is mounted or unmounted: whoever waits needs that very layer.
#[derive(Debug, Default)]
struct Layer {
    mounted: bool,
    users: usize,
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl LayerMounts {
    /// Adopts what an earlier agent mounted below `run_dir`. `shim`: path of the shim's program.
    ///
    /// # Errors
    /// `System` if the directory cannot be made or the mount table not be read.
    pub(crate) fn new(run_dir: &Path, images: Images, shim: String) -> Result<Self> {
        let directory = run_dir.join("layers");
        fs::create_dir_all(&directory)
            .map_err(|error| Error::io(format_args!("creating {}", directory.display()), &error))?;
        let mounted = |name| (name, Arc::new(Mutex::new(Layer { mounted: true, users: 0 })));
        let layers = Mutex::new(mounted_below(&directory)?.into_iter().map(mounted).collect());
        Ok(Self { shared: Arc::new(Shared { directory, images, shim, layers }) })
    }

    /// Mounts the layers that are not mounted yet and counts one more user of each. Returns their mount points, the topmost first.
    ///
    /// # Errors
    /// `StartFailed` if a layer cannot be mounted; then none is counted.
    pub(crate) fn acquire(&self, image: &Image) -> Result<Vec<PathBuf>> {
        for (index, layer) in layers(image).enumerate() {
            if let Err(error) = self.acquire_layer(layer) {
                layers(image).take(index).try_for_each(|acquired| self.release_layer(acquired))?;
                return Err(error);
            }
        }
        Ok(self.mounted(image))
    }

    /// The mount points of layers that the caller has acquired, the topmost first.
    pub(crate) fn mounted(&self, image: &Image) -> Vec<PathBuf> {
        layers(image).rev().map(|layer| self.shared.directory.join(name(layer))).collect()
    }

    /// Counts one user of each layer less, and unmounts those without any.
    ///
    /// # Errors
    /// `System` if one cannot be unmounted.
    pub(crate) fn release(&self, image: &Image) -> Result<()> {
        layers(image).try_for_each(|layer| self.release_layer(layer))
    }

    /// Unmounts everything that nobody has acquired.
    ///
    /// # Errors
    /// `System` if one cannot be unmounted.
    pub(crate) fn sweep(&self) -> Result<()> {
        let layers: Vec<_> =
            lock(&self.shared.layers).iter().map(|(name, layer)| (name.clone(), layer.clone())).collect();
        for (name, layer) in layers {
            let mut layer = lock(&layer);
            if layer.users == 0 && layer.mounted {
                self.unmount(&name)?;
                layer.mounted = false;
            }
        }
        let unused = fs::read_dir(&self.shared.directory).into_iter().flatten().flatten();
        for directory in unused {
            // Fails for those in use, as it must.
            let _ = fs::remove_dir(directory.path());
        }
        Ok(())
    }

    /// Unmounts everything, for an agent that ends and has no container left: what lingers has no user.
    ///
    /// # Errors
    /// `System` if one cannot be unmounted.
    pub(crate) fn clear(&self) -> Result<()> {
        let layers: Vec<_> = lock(&self.shared.layers).values().cloned().collect();
        for layer in layers {
            lock(&layer).users = 0;
        }
        self.sweep()
    }

    fn layer(&self, name: &str) -> Arc<Mutex<Layer>> {
        Arc::clone(lock(&self.shared.layers).entry(name.to_owned()).or_default())
    }

    fn acquire_layer(&self, diff_id: &str) -> Result<()> {
        let name = name(diff_id);
        let layer = self.layer(name);
        let mut layer = lock(&layer);
        if !layer.mounted {
            if let Err(error) = self.mount(diff_id, name) {
                match self.shared.images.mend(diff_id) {
                    Ok(true) => self.mount(diff_id, name)?,
                    Ok(false) => return Err(error),
                    Err(why) => {
                        let hint = format!("{why}: repair the image with `hullctl image verify --repair`");
                        return Err(error.hint(hint));
                    }
                }
            }
            layer.mounted = true;
        }
        layer.users += 1;
        Ok(())
    }

    fn release_layer(&self, diff_id: &str) -> Result<()> {
        let name = name(diff_id);
        let layer = self.layer(name);
        let mut held = lock(&layer);
        held.users = held.users.saturating_sub(1);
        if held.users == 0 && held.mounted {
            self.unmount(name)?;
            held.mounted = false;
        }
        drop(held);
        let mut layers = lock(&self.shared.layers);
        // The map's and ours: nobody else is about to use it.
        if Arc::strong_count(&layer) == 2 && !lock(&layer).mounted {
            layers.remove(name);
        }
        Ok(())
    }

    fn mount(&self, diff_id: &str, name: &str) -> Result<()> {
        let file = self.shared.images.layer_path(diff_id);
        let target = self.shared.directory.join(name);
        fs::create_dir_all(&target)
            .map_err(|error| Error::io(format_args!("creating {}", target.display()), &error))?;
        let output = Command::new(&self.shared.shim)
            .arg("mount-layer")
            .args([&file, &target])
            .env_clear()
            .stdin(Stdio::null())
            .output()
            .map_err(|error| Error::io("starting the shim", &error).step(Step::Layers))?;
        if output.status.success() {
            return Ok(());
        }
        let _ = fs::remove_dir(&target);
        let line = String::from_utf8_lossy(&output.stderr);
        Err(Error::new(Reason::StartFailed, format!("{}: {}", file.display(), line.trim())).step(Step::Layers))
    }

    fn unmount(&self, name: &str) -> Result<()> {
        let target = self.shared.directory.join(name);
        let failed = |errno| Error::os(format_args!("unmounting {}", target.display()), errno);
        match umount2(&target, MntFlags::UMOUNT_NOFOLLOW) {
            // Somebody looks at it from outside: it goes when they go.
            Err(Errno::EBUSY) => umount2(&target, MntFlags::MNT_DETACH | MntFlags::UMOUNT_NOFOLLOW).map_err(failed)?,
            result => result.map_err(failed)?,
        }
        fs::remove_dir(&target).map_err(|error| Error::io(format_args!("removing {}", target.display()), &error))
    }
}

/// What the overlay of an image's containers lies over, the lowest first.
fn layers(image: &Image) -> impl DoubleEndedIterator<Item = &str> {
    std::iter::once(BASE_LAYER).chain(image.layers.iter().map(|layer| layer.diff_id.as_str()))
}

/// Name of a layer's mount point.
fn name(diff_id: &str) -> &str {
    let digits = diff_id.split_once(':').map_or(diff_id, |(_, digits)| digits);
    digits.get(..NAME_DIGITS).unwrap_or(digits)
}

/// Names of the mount points in a directory, see proc_pid_mountinfo(5).
fn mounted_below(directory: &Path) -> Result<Vec<String>> {
    let table = fs::read_to_string("/proc/self/mountinfo")
        .map_err(|error| Error::io("reading /proc/self/mountinfo", &error))?;
    let point = |line: &str| PathBuf::from(unescape(line.split(' ').nth(4).unwrap_or_default()));
    let points = table.lines().map(point).filter(|point| point.parent() == Some(directory));
    Ok(points.filter_map(|point| Some(point.file_name()?.to_str()?.to_owned())).collect())
}

/// Undoes mountinfo's escapes of blank, tab, line end and backslash.
fn unescape(text: &str) -> String {
    [("\\040", " "), ("\\011", "\t"), ("\\012", "\n"), ("\\134", "\\")]
        .into_iter()
        .fold(text.to_owned(), |text, (escape, plain)| text.replace(escape, plain))
}

#[cfg(test)]
mod tests;
