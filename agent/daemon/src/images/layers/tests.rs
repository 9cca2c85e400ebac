//! Real mounts, as root; `mount` stands in for the shim.

use std::os::unix::fs::PermissionsExt;
use std::sync::atomic::AtomicBool;

use super::super::{ImportOptions, Progress, RegistryConfig};
use super::*;
use crate::store::Store;

struct Fixture {
    dir: tempfile::TempDir,
    images: Images,
    image: Arc<Image>,
    shim: PathBuf,
}

fn fixture() -> Fixture {
    let dir = tempfile::tempdir().unwrap();
    let store = Store::open(&dir.path().join("hull.redb")).unwrap();
    let images = Images::open(dir.path(), store, RegistryConfig::default()).unwrap();
    fs::create_dir(dir.path().join("tree")).unwrap();
    fs::write(dir.path().join("tree/file"), "content").unwrap();
    let tar = Command::new("tar").args(["-C", dir.path().join("tree").to_str().unwrap(), "-cf", "-", "."]).output();
    let options = ImportOptions { tags: vec!["x".into()], ..ImportOptions::default() };
    let archive = tar.unwrap().stdout;
    let imported = images.import(&options, &*archive, &Progress::default(), &AtomicBool::new(false));
    let image = imported.unwrap().remove(0);
    let shim = dir.path().join("shim");
    fs::write(&shim, "#!/bin/sh\n[ \"$1\" = mount-layer ] && exec mount -t erofs -o ro,loop \"$2\" \"$3\"\n").unwrap();
    fs::set_permissions(&shim, fs::Permissions::from_mode(0o755)).unwrap();
    Fixture { dir, images, image, shim }
}

impl Fixture {
    fn mounts(&self) -> LayerMounts {
        LayerMounts::new(self.dir.path(), self.images.clone(), self.shim.display().to_string()).unwrap()
    }

    fn mounted(&self) -> usize {
        mounted_below(&self.dir.path().join("layers")).unwrap().len()
    }
}

#[test]
fn layers_are_mounted_once_and_go_with_the_last_user() {
    if !nix::unistd::geteuid().is_root() {
        return;
    }
    let fixture = fixture();
    let mounts = fixture.mounts();
    let points: Vec<_> = std::thread::scope(|scope| {
        let threads: Vec<_> = (0..4).map(|_| scope.spawn(|| mounts.acquire(&fixture.image).unwrap())).collect();
        threads.into_iter().map(|thread| thread.join().unwrap()).collect()
    });
    assert!(points.windows(2).all(|pair| pair[0] == pair[1]));
    assert_eq!(fs::read(points[0][0].join("file")).unwrap(), b"content");
    assert_eq!(fixture.mounted(), 2, "its layer and the base layer");

    // The agent restarts: one container still uses the image.
    drop(mounts);
    let mounts = fixture.mounts();
    assert_eq!(mounts.acquire(&fixture.image).unwrap(), points[0]);
    mounts.sweep().unwrap();
    assert_eq!(fixture.mounted(), 2, "its layer and the base layer");
    mounts.release(&fixture.image).unwrap();
    assert_eq!(fixture.mounted(), 0);
    assert_eq!(fs::read_dir(fixture.dir.path().join("layers")).unwrap().count(), 0);

    // It restarts again: nobody does.
    mounts.acquire(&fixture.image).unwrap();
    fs::create_dir(fixture.dir.path().join("layers/left-over")).unwrap();
    let mounts = fixture.mounts();
    mounts.sweep().unwrap();
    assert_eq!(fixture.mounted(), 0);
    assert_eq!(fs::read_dir(fixture.dir.path().join("layers")).unwrap().count(), 0);
}

#[test]
fn a_mount_that_fails_says_why_and_holds_nothing() {
    let fixture = fixture();
    fs::write(&fixture.shim, "#!/bin/sh\necho mounting it: EPERM >&2\nexit 1\n").unwrap();
    let mounts = fixture.mounts();
    let error = mounts.acquire(&fixture.image).unwrap_err();
    assert!(error.message.ends_with("mounting it: EPERM"), "{error}");
    assert_eq!(fs::read_dir(fixture.dir.path().join("layers")).unwrap().count(), 0);
    assert!(lock(&mounts.shared.layers).values().all(|layer| lock(layer).users == 0));
}

#[test]
fn escapes_of_mountinfo() {
    assert_eq!(unescape("/a\\040b\\134040"), "/a b\\040");
}
