//! The image as erofs-utils read it; no privileges needed. Mounted images are compared in `layer/tests.rs`.

use std::fs::{self, File};
use std::process::Command;
use std::sync::atomic::AtomicU64;

use crate::images::layer;
use crate::images::testing::Tar;

fn fsck(image: &std::path::Path, options: &[&str]) {
    let output = Command::new("fsck.erofs").args(options).arg(image).output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
}

fn write(tar: &[u8], path: &std::path::Path) -> layer::Converted {
    layer::convert(tar, File::create(path).unwrap(), tempfile::tempfile().unwrap(), &AtomicU64::new(0)).unwrap()
}

#[test]
fn erofs_utils_read_it_back() {
    let dir = tempfile::tempdir().unwrap();
    let image = dir.path().join("x.erofs");
    let mut tar = Tar::default();
    let sizes = [0, 1, 4031, 4032, 4033, 4095, 4096, 4097, 10_000, 300_000];
    for size in sizes {
        let data: Vec<u8> = (0..=250).cycle().take(size).collect();
        tar = tar.file(&format!("dir/of-{size}"), &data);
    }
    for n in 0..500 {
        tar = tar.file(&format!("many/{n:090}"), b"");
    }
    write(&tar.link("again", b'1', "dir/of-4033").link("link", b'2', "dir/of-1").end(), &image);
    let out = dir.path().join("out");
    fsck(&image, &[&format!("--extract={}", out.display()), "--no-preserve"]);
    for size in sizes {
        let data: Vec<u8> = (0..=250).cycle().take(size).collect();
        assert_eq!(fs::read(out.join(format!("dir/of-{size}"))).unwrap(), data);
    }
    assert_eq!(fs::read_dir(out.join("many")).unwrap().count(), 500);
    assert_eq!(fs::read_link(out.join("link")).unwrap().to_str(), Some("dir/of-1"));
    assert_eq!(fs::metadata(out.join("again")).unwrap().len(), 4033);
}

#[test]
fn an_empty_layer_is_a_root_directory() {
    let dir = tempfile::tempdir().unwrap();
    let image = dir.path().join("x.erofs");
    let converted = write(&Tar::default().end(), &image);
    assert_eq!(converted.size, 2 * super::BLOCK as u64);
    fsck(&image, &[]);
}

/// Found by fuzzing: a root that does not fit behind the place that no inode may have lay elsewhere than the superblock said.
#[test]
fn the_root_may_be_as_large_as_any_directory() {
    let dir = tempfile::tempdir().unwrap();
    let image = dir.path().join("x.erofs");
    let out = dir.path().join("out");
    // Around the sizes at which it is just too large: 12 bytes and the name for each entry, 64 for the inode.
    for last in 1..=120 {
        let tar = (0..38).fold(Tar::default(), |tar, n| tar.file(&format!("{n:090}"), b""));
        write(&tar.file(&"l".repeat(last), b"x").end(), &image);
        fsck(&image, &["--extract"]);
    }
    let attribute = vec![b'v'; 32_294];
    write(&Tar::default().pax(&[("SCHILY.xattr.user.a", &attribute)]).dir(".").file("f", b"x").end(), &image);
    fsck(&image, &[&format!("--extract={}", out.display()), "--no-preserve"]);
    assert_eq!(fs::read(out.join("f")).unwrap(), b"x");
}

#[test]
fn the_same_tar_makes_the_same_image() {
    let dir = tempfile::tempdir().unwrap();
    let tar = Tar::default().pax(&[("SCHILY.xattr.user.b", b"2"), ("SCHILY.xattr.user.a", b"1")]).file("x", b"y").end();
    let files = ["one", "two"].map(|name| dir.path().join(name));
    let made = files.each_ref().map(|file| write(&tar, file));
    assert_eq!(made[0], made[1]);
    assert_eq!(fs::read(&files[0]).unwrap(), fs::read(&files[1]).unwrap());
}

#[test]
fn zeros_take_no_room_on_the_disk() {
    use std::os::unix::fs::MetadataExt;
    let dir = tempfile::tempdir().unwrap();
    let image = dir.path().join("x.erofs");
    let converted = write(&Tar::default().file("zeros", &vec![0; 16 << 20]).end(), &image);
    assert!(converted.size > 16 << 20);
    assert!(image.metadata().unwrap().blocks() < 100);
    fsck(&image, &["--extract"]);
}
