//! Layers against GNU tar: the same archive unpacked by it and mounted from our EROFS file must look the same.

use std::path::{Path, PathBuf};
use std::process::Command;

use super::*;

fn run(program: &str, arguments: &[&str]) -> String {
    let output = Command::new(program).args(arguments).output().unwrap();
    let text = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{program} {arguments:?}: {text}");
    String::from_utf8_lossy(&output.stdout).into_owned()
}

fn is_root() -> bool {
    nix::unistd::geteuid().is_root()
}

fn text(path: &Path) -> &str {
    path.to_str().unwrap()
}

fn to_erofs(tar: &[u8], dir: &Path) -> Result<PathBuf> {
    let path = dir.join("layer.erofs");
    let file = File::create(&path).unwrap();
    convert(tar, file, tempfile::tempfile().unwrap(), &AtomicU64::new(0))?;
    Ok(path)
}

#[test]
fn smoke() {
    let dir = tempfile::tempdir_in("/work").unwrap();
    let tar = dir.path().join("x.tar");
    run("tar", &["--xattrs", "-C", "/usr/share", "-cf", text(&tar), "doc"]);
    let bytes = std::fs::read(&tar).unwrap();
    let start = std::time::Instant::now();
    let erofs = to_erofs(&bytes, dir.path()).unwrap();
    eprintln!(
        "{} MB tar -> {} MB erofs in {:?}",
        bytes.len() >> 20,
        erofs.metadata().unwrap().len() >> 20,
        start.elapsed()
    );
    run("fsck.erofs", &["--extract", text(&erofs)]);
}
