//! podman and containerd, each with state of its own.

use std::path::Path;
use std::process::{Child, Command, Stdio};

use hull_tests::harness::wait;

use crate::Result;

/// Whether a program is there.
pub(crate) fn is_installed(program: &str) -> bool {
    Command::new(program).arg("--version").output().is_ok()
}

/// `podman`, which keeps everything below `dir`.
pub(crate) fn podman(mut podman: Command, dir: &Path, driver: &str) -> Command {
    for (flag, name) in [("--root", "root"), ("--runroot", "run"), ("--tmpdir", "tmp")] {
        podman.arg(flag).arg(dir.join(name));
    }
    podman.arg(format!("--storage-driver={driver}")).arg("--events-backend=none");
    podman
}

/// Unmounts what podman's overlay driver leaves mounted on itself.
pub(crate) fn release_podman(dir: &Path) {
    let _none = Command::new("umount").arg(dir.join("root/overlay")).stderr(Stdio::null()).status();
}

/// Starts `containerd`, which keeps everything below `dir` and serves at `dir/sock`. Without CRI, which wants a network of its own.
pub(crate) fn containerd(mut containerd: Command, dir: &Path) -> Result<Child> {
    std::fs::create_dir_all(dir)?;
    let config = dir.join("config.toml");
    let path = |name: &str| dir.join(name).display().to_string();
    let text = format!(
        "version = 2\nroot = {:?}\nstate = {:?}\ndisabled_plugins = [\"io.containerd.grpc.v1.cri\"]\n[grpc]\naddress = {:?}\n",
        path("root"),
        path("state"),
        path("sock")
    );
    std::fs::write(&config, text)?;
    let log = std::fs::File::create(dir.join("log"))?;
    let child = containerd.arg("--config").arg(&config).stdout(Stdio::null()).stderr(log).spawn()?;
    wait::until("containerd serves", || std::os::unix::net::UnixStream::connect(dir.join("sock")).ok());
    Ok(child)
}
