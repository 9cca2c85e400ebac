//! A fresh file system of the benchmark's own: ext4 with a journal, as a node has it, in a file behind a loop device. What it costs
//! to make a directory on the machine's own disk depends on what was deleted there lately, by a factor of five.

use std::path::{Path, PathBuf};
use std::process::Command;

use crate::Result;
use crate::report::complain;

/// Mounted for as long as it lives.
#[derive(Debug)]
pub(crate) struct Disk {
    directory: PathBuf,
}

impl Disk {
    /// Makes and mounts one of that many bytes; they are taken from the machine's disk as they are written.
    pub(crate) fn make(bytes: u64) -> Result<Self> {
        let directory = std::env::temp_dir().join(format!("hull-bench-{}", std::process::id()));
        std::fs::create_dir(&directory)?;
        let disk = Self { directory };
        let image = disk.directory.with_extension("ext4");
        std::fs::File::create_new(&image)?.set_len(bytes)?;
        let made = run("mkfs.ext4", &["-q", "-E", "lazy_itable_init=0,lazy_journal_init=0"], &[&image])
            .and_then(|()| run("mount", &["-o", "loop"], &[&image, &disk.directory]));
        // From here on the mount alone keeps it.
        std::fs::remove_file(&image)?;
        made.map(|()| disk)
    }

    pub(crate) fn path(&self) -> &Path {
        &self.directory
    }
}

impl Drop for Disk {
    fn drop(&mut self) {
        let gone = run("umount", &[], &[&self.directory]);
        let removed = std::fs::remove_dir(&self.directory).map_err(Into::into);
        if let Err(error) = gone.and(removed) {
            complain(&format!("bench: removing {}: {error}", self.directory.display()));
        }
    }
}

fn run(program: &str, options: &[&str], paths: &[&Path]) -> Result<()> {
    let output = Command::new(program).args(options).args(paths).output().map_err(|e| format!("{program}: {e}"))?;
    if output.status.success() {
        return Ok(());
    }
    Err(format!("{program}: {}: {}", output.status, String::from_utf8_lossy(&output.stderr).trim()).into())
}
