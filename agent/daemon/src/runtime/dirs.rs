//! Where things lie. Everything that the agent makes lies below its data directory (survives a boot) or its run directory.

use std::fs::{self, DirBuilder};
use std::io;
use std::os::unix::fs::DirBuilderExt as _;
use std::path::{Path, PathBuf};

use hull_wire::{EXIT_FILE, SHIM_SOCKET};

use crate::error::{Error, Result};

/// The two directories of an agent.
#[derive(Clone, Debug)]
pub(crate) struct Dirs {
    data: PathBuf,
    run: PathBuf,
}

/// The places of one container.
#[derive(Clone, Debug)]
pub(crate) struct ContainerDirs {
    /// Writable layer and log; survives a boot.
    pub(crate) data: PathBuf,
    /// Socket and exit record; of this boot.
    pub(crate) run: PathBuf,
}

impl Dirs {
    /// Makes the directories that are missing, closed to everyone but root (CVE-2024-25621). Blocking.
    pub(crate) fn create(data: &Path, run: &Path) -> Result<Self> {
        let dirs = Self { data: data.to_owned(), run: run.to_owned() };
        for path in [data, run, &dirs.data_containers(), &dirs.run_containers(), &dirs.trash()] {
            DirBuilder::new()
                .recursive(true)
                .mode(0o700)
                .create(path)
                .map_err(|error| Error::io(format!("creating {}", path.display()), &error))?;
        }
        Ok(dirs)
    }

    /// The data directory.
    pub(crate) fn data(&self) -> &Path {
        &self.data
    }

    fn data_containers(&self) -> PathBuf {
        self.data.join("containers")
    }

    fn run_containers(&self) -> PathBuf {
        self.run.join("containers")
    }

    fn trash(&self) -> PathBuf {
        self.data.join("trash")
    }

    /// The places of the container `id`.
    pub(crate) fn container(&self, id: &str) -> ContainerDirs {
        // Half of the id keeps the socket's path short, and 128 bits are still unique.
        ContainerDirs {
            data: self.data_containers().join(id),
            run: self.run_containers().join(&id[..id.len().min(32)]),
        }
    }

    /// Names found in the directories of containers: ids, and in the run directory their first half. Blocking.
    pub(crate) fn found(&self) -> Result<(Vec<String>, Vec<String>)> {
        Ok((names(&self.data_containers())?, names(&self.run_containers())?))
    }

    /// Moves a container's data aside, atomically: from then on it does not exist. Blocking.
    pub(crate) fn discard(&self, id: &str) -> Result<()> {
        let from = self.container(id).data;
        match fs::rename(&from, self.trash().join(id)) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => {
                Err(Error::io(format!("removing {}", from.display()), &error))
            }
            _ => Ok(()),
        }
    }

    /// Deletes what was discarded as `id`. Blocking, as long as the tree is large.
    pub(crate) fn empty_trash_of(&self, id: &str) {
        let path = self.trash().join(id);
        if let Err(error) = fs::remove_dir_all(&path)
            && error.kind() != io::ErrorKind::NotFound
        {
            tracing::warn!(path = %path.display(), %error, "cannot delete; it is tried again when the agent starts");
        }
    }

    /// Deletes everything that was discarded before. Blocking.
    pub(crate) fn empty_trash(&self) -> Result<()> {
        for name in names(&self.trash())? {
            self.empty_trash_of(&name);
        }
        Ok(())
    }
}

impl ContainerDirs {
    /// Overlay's upper directory: the writable layer.
    pub(crate) fn upper(&self) -> PathBuf {
        self.data.join("upper")
    }

    /// Overlay's work directory.
    pub(crate) fn work(&self) -> PathBuf {
        self.data.join("work")
    }

    /// The log.
    pub(crate) fn log(&self) -> PathBuf {
        self.data.join("log")
    }

    /// The shim's socket.
    pub(crate) fn socket(&self) -> PathBuf {
        self.run.join(SHIM_SOCKET)
    }

    /// The exit record.
    pub(crate) fn exit(&self) -> PathBuf {
        self.run.join(EXIT_FILE)
    }

    /// Makes what a start needs; `owner` is the host's id of the container's root. Blocking.
    pub(crate) fn prepare(&self, owner: u32) -> Result<()> {
        self.prepare_layer(owner)?;
        make(&self.run, 0o700).map(drop)
    }

    /// Makes the writable layer alone, if it is not there. Blocking.
    pub(crate) fn prepare_layer(&self, owner: u32) -> Result<()> {
        make(&self.data, 0o700)?;
        if make(&self.upper(), 0o755)? && owner != 0 {
            std::os::unix::fs::chown(self.upper(), Some(owner), Some(owner))
                .map_err(|error| Error::io("changing the owner of the writable layer", &error))?;
        }
        make(&self.work(), 0o700).map(drop)
    }

    /// Removes what belongs to a run: socket, exit record and their directory. Blocking.
    pub(crate) fn remove_run(&self) -> Result<()> {
        match fs::remove_dir_all(&self.run) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => {
                Err(Error::io(format!("removing {}", self.run.display()), &error))
            }
            _ => Ok(()),
        }
    }
}

/// Makes a directory; whether it was missing.
fn make(path: &Path, mode: u32) -> Result<bool> {
    match DirBuilder::new().mode(mode).create(path) {
        Ok(()) => Ok(true),
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => Ok(false),
        Err(error) => Err(Error::io(format!("creating {}", path.display()), &error)),
    }
}

fn names(path: &Path) -> Result<Vec<String>> {
    let what = |error: &io::Error| Error::io(format!("reading {}", path.display()), error);
    let mut found = Vec::new();
    for entry in fs::read_dir(path).map_err(|error| what(&error))? {
        found.push(entry.map_err(|error| what(&error))?.file_name().to_string_lossy().into_owned());
    }
    Ok(found)
}
