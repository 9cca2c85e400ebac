//! A fresh ext4 in a file, for everybody to write to; gone when it is dropped. What it costs to make a directory on the machine's own
//! disk depends on what was deleted there lately, by a factor of five.

use std::path::{Path, PathBuf};
use std::process::Command;

use crate::Result;
use crate::report::complain;

#[derive(Debug)]
pub(crate) struct Disk {
    file: PathBuf,
    point: PathBuf,
}

impl Disk {
    /// Makes and mounts it.
    pub(crate) fn new(bytes: u64) -> Result<Self> {
        // The agent's socket lies below it, whose path must be short.
        let point = PathBuf::from(format!("/tmp/hull-bench-{}", std::process::id()));
        let disk = Self { file: point.with_extension("ext4"), point };
        std::fs::File::create(&disk.file)?.set_len(bytes)?;
        std::fs::create_dir(&disk.point)?;
        let words = |path: &Path| path.display().to_string();
        run(Command::new("mkfs.ext4")
            .args(["-q", "-F", "-E", "lazy_itable_init=0,lazy_journal_init=0"])
            .arg(words(&disk.file)))?;
        run(Command::new("mount").args(["-o", "loop"]).args([words(&disk.file), words(&disk.point)]))?;
        Ok(disk)
    }

    pub(crate) fn path(&self) -> &Path {
        &self.point
    }
}

impl Drop for Disk {
    fn drop(&mut self) {
        if let Err(error) = run(Command::new("umount").arg(&self.point)) {
            complain(&format!("bench: {error}"));
        }
        let removed = std::fs::remove_dir(&self.point).and_then(|()| std::fs::remove_file(&self.file));
        if let Err(error) = removed {
            complain(&format!("bench: removing {}: {error}", self.file.display()));
        }
    }
}

/// Runs a command that must succeed.
pub(crate) fn run(command: &mut Command) -> Result<()> {
    let program = command.get_program().to_string_lossy().into_owned();
    let output = command.stdin(std::process::Stdio::null()).output().map_err(|error| format!("{program}: {error}"))?;
    if output.status.success() {
        return Ok(());
    }
    let words: Vec<_> = command.get_args().map(|word| word.to_string_lossy().into_owned()).collect();
    let error = String::from_utf8_lossy(&output.stderr).trim().replace('\n', "; ");
    Err(format!("{program} {}: {}: {error}", words.join(" "), output.status).into())
}
