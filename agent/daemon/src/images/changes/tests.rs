//! Writable layers made by hand, over layers that are plain directories.

use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::{MetadataExt, PermissionsExt, symlink};
use std::os::unix::net::UnixListener;
use std::path::{Path, PathBuf};
use std::process::Command;

use super::*;
use crate::error::Reason;
use crate::images::tar::{Entry, Kind, TarReader};

/// An upper directory and lower ones, the topmost first.
struct Tree {
    dir: tempfile::TempDir,
    targets: &'static [&'static str],
    owners: Owners,
}

impl Tree {
    /// `None` without root: overlay's marks cannot be set then.
    fn new(lower: usize) -> Option<Self> {
        if !nix::unistd::geteuid().is_root() {
            return None;
        }
        let dir = tempfile::tempdir().unwrap();
        fs::create_dir(dir.path().join("upper")).unwrap();
        (0..lower).for_each(|index| fs::create_dir(dir.path().join(format!("lower{index}"))).unwrap());
        Some(Self { dir, targets: &[], owners: Owners::Host })
    }

    fn at(&self, path: &str) -> PathBuf {
        self.dir.path().join(path)
    }

    fn dir(&self, path: &str) -> &Self {
        fs::create_dir_all(self.at(path)).unwrap();
        self
    }

    fn file(&self, path: &str, data: &str) -> &Self {
        self.dir(Path::new(path).parent().unwrap().to_str().unwrap());
        fs::write(self.at(path), data).unwrap();
        self
    }

    fn whiteout(&self, path: &str) -> &Self {
        self.dir(Path::new(path).parent().unwrap().to_str().unwrap());
        self.run("mknod", &[self.at(path).to_str().unwrap(), "c", "0", "0"])
    }

    fn mark(&self, path: &str, name: &str, value: &str) -> &Self {
        self.run("setfattr", &["-h", "-n", name, "-v", value, self.at(path).to_str().unwrap()])
    }

    fn run(&self, program: &str, words: &[&str]) -> &Self {
        assert!(Command::new(program).args(words).status().unwrap().success(), "{program} {words:?}");
        self
    }

    fn layer(&self) -> WritableLayer {
        let lower = (0..).map(|index| self.at(&format!("lower{index}"))).take_while(|path| path.exists()).collect();
        let upper = Some(File::open(self.at("upper")).unwrap());
        let targets = self.targets.iter().map(|target| (*target).to_owned()).collect();
        WritableLayer { upper, lower, owners: self.owners, targets }
    }

    fn diff(&self) -> Vec<String> {
        let mut lines = Vec::new();
        diff(&self.layer(), |batch| {
            lines.extend(batch.iter().map(|change| {
                let letter = &format!("{:?}", change.kind)[..1];
                format!("{letter} {}", change.path.escape_ascii())
            }));
            true
        })
        .unwrap();
        lines
    }

    fn tar(&self) -> Result<Vec<Entry>, crate::error::Error> {
        let mut tar = Vec::new();
        write(&self.layer(), &mut tar)?;
        let mut archive = TarReader::new(&*tar);
        let mut entries = Vec::new();
        while let Some(entry) = archive.next()? {
            entries.push(entry);
        }
        Ok(entries)
    }

    fn names(&self) -> Vec<String> {
        self.tar().unwrap().iter().map(|entry| entry.path.escape_ascii().to_string()).collect()
    }
}

#[test]
fn what_was_there_before_decides_what_a_change_is() {
    let Some(tree) = Tree::new(2) else { return };
    // Seen below: a (of the upper layer), b/one (of both), c hidden by the upper layer, d opaque in the upper layer.
    tree.file("lower0/a", "").file("lower0/b/two", "").whiteout("lower0/c").file("lower0/d/new", "");
    tree.mark("lower0/d", "trusted.overlay.opaque", "y");
    tree.file("lower1/a/x", "")
        .file("lower1/b/one", "")
        .file("lower1/c", "")
        .file("lower1/d/old", "")
        .file("lower1/e", "");
    for path in ["a", "b/one", "b/two", "c", "d/new", "d/old", "e", "f"] {
        tree.file(&format!("upper/{path}"), "changed");
    }
    assert_eq!(
        tree.diff(),
        ["M /a", "M /b", "M /b/one", "M /b/two", "A /c", "M /d", "M /d/new", "A /d/old", "M /e", "A /f"]
    );
}

#[test]
fn whiteouts_tell_of_what_was_there_only() {
    let Some(tree) = Tree::new(1) else { return };
    tree.file("lower0/dir/gone", "").file("lower0/dir/stays", "").file("lower0/top", "").file("lower0/mark", "");
    tree.whiteout("upper/dir/gone").whiteout("upper/dir/never").whiteout("upper/top").file("upper/mark", "");
    tree.mark("upper/mark", "trusted.overlay.whiteout", "y");
    assert_eq!(tree.diff(), ["M /dir", "D /dir/gone", "D /mark", "D /top"]);
    assert_eq!(tree.names(), ["./", "dir/", "dir/.wh.gone", ".wh.mark", ".wh.top"]);
}

#[test]
fn an_opaque_directory_hides_what_was_in_it() {
    let Some(tree) = Tree::new(2) else { return };
    tree.file("lower0/d/kept", "").file("lower0/d/sub/deep", "").whiteout("lower0/d/long-gone");
    tree.file("lower1/d/old", "").file("lower1/d/long-gone", "").file("lower0/d/sub/again", "");
    tree.file("upper/d/kept", "").file("upper/d/sub/again", "").file("upper/d/new", "").mark(
        "upper/d",
        "trusted.overlay.opaque",
        "y",
    );
    assert_eq!(
        tree.diff(),
        ["M /d", "M /d/kept", "A /d/new", "D /d/old", "M /d/sub", "M /d/sub/again", "D /d/sub/deep"]
    );
    assert_eq!(tree.names(), ["./", "d/", "d/.wh..wh..opq", "d/kept", "d/new", "d/sub/", "d/sub/again"]);
}

#[test]
fn a_directory_is_told_for_itself_or_for_what_is_in_it() {
    let Some(tree) = Tree::new(1) else { return };
    for path in ["idle/deep", "mode", "label"] {
        tree.dir(&format!("lower0/{path}")).dir(&format!("upper/{path}"));
    }
    fs::set_permissions(tree.at("upper/mode"), fs::Permissions::from_mode(0o700)).unwrap();
    tree.mark("upper/label", "user.label", "x");
    assert_eq!(tree.diff(), ["M /label", "M /mode"]);
    // A layer keeps them all: a time may be all that has changed.
    assert_eq!(tree.names(), ["./", "idle/", "idle/deep/", "label/", "mode/"]);
}

#[test]
fn targets_of_mounts_are_no_changes_unless_something_is_in_them() {
    let Some(mut tree) = Tree::new(1) else { return };
    tree.targets = &["/proc", "/etc/hosts", "/data/deep/down", "/full", "/old"];
    tree.dir("lower0/old").dir("upper/old").dir("upper/proc").file("upper/etc/hosts", "").dir("upper/data/deep/down");
    assert_eq!(tree.diff(), Vec::<String>::new());
    assert_eq!(tree.names(), ["./", "old/"]);
    tree.file("upper/full/file", "")
        .file("upper/data/own", "")
        .file("upper/etc/hosts", "written before it was mounted");
    assert_eq!(tree.diff(), ["A /data", "A /data/own", "A /etc", "A /etc/hosts", "A /full", "A /full/file"]);
}

#[test]
fn everything_about_a_file_is_kept() {
    let Some(mut tree) = Tree::new(0) else { return };
    tree.owners = Owners::Mapped { base: 500_000, size: 65536 };
    let long = format!("upper/{}", "n".repeat(200));
    tree.file("upper/one", "data").file(&long, "").file("upper/set", "x");
    fs::hard_link(tree.at("upper/one"), tree.at("upper/two")).unwrap();
    symlink("t".repeat(150), tree.at("upper/link")).unwrap();
    tree.run("mkfifo", &[tree.at("upper/fifo").to_str().unwrap()]);
    tree.run("mknod", &[tree.at("upper/dev").to_str().unwrap(), "b", "259", "70000"]);
    drop(UnixListener::bind(tree.at("upper/socket")).unwrap());
    fs::set_permissions(tree.at("upper/set"), fs::Permissions::from_mode(0o4751)).unwrap();
    std::os::unix::fs::chown(tree.at("upper/one"), Some(501_000), Some(500_005)).unwrap();
    tree.run("touch", &["-d", "1960-01-02 03:04:05.25", tree.at("upper/one").to_str().unwrap()]);
    tree.mark("upper/one", "user.binary", "0x0a3d00").mark("upper/one", "trusted.overlay.origin", "x");
    tree.mark("upper/one", "trusted.own", "kept").mark("upper/one", "user.overlay.opaque", "y");
    let entries: BTreeMap<_, _> =
        tree.tar().unwrap().into_iter().map(|entry| (entry.path.escape_ascii().to_string(), entry)).collect();
    let one = &entries["one"];
    assert_eq!((&one.kind, one.uid, one.gid), (&Kind::File(4), 1000, 5));
    let metadata = tree.at("upper/one").metadata().unwrap();
    assert_eq!((one.mtime.seconds, i64::from(one.mtime.nanos)), (metadata.mtime(), metadata.mtime_nsec()));
    let xattrs: Vec<_> =
        one.xattrs.iter().map(|xattr| (xattr.name.escape_ascii().to_string(), xattr.value.len())).collect();
    assert_eq!(
        xattrs,
        [("trusted.own".to_owned(), 4), ("user.binary".to_owned(), 3), ("user.overlay.opaque".to_owned(), 1)]
    );
    assert_eq!(entries["two"].kind, Kind::HardLink(b"one".to_vec()));
    assert_eq!(entries["link"].kind, Kind::Symlink(vec![b't'; 150]));
    assert_eq!(
        (entries["fifo"].kind.clone(), entries["dev"].kind.clone()),
        (Kind::Fifo, Kind::BlockDevice(259, 70_000))
    );
    assert_eq!((entries["set"].mode, entries["set"].uid), (0o4751, 65534), "root of the host is nobody inside");
    assert!(entries.contains_key(&"n".repeat(200)) && !entries.contains_key("socket"));
}

#[test]
fn what_no_layer_can_hold_is_refused_by_name() {
    let Some(tree) = Tree::new(1) else { return };
    tree.file("upper/dir/.wh.x", "");
    let error = tree.tar().unwrap_err();
    assert!(error.reason == Reason::UnsupportedFeature && error.message.contains("dir/.wh.x"), "{error}");
    assert_eq!(tree.diff(), ["A /dir", "A /dir/.wh.x"]);
    fs::remove_dir_all(tree.at("upper/dir")).unwrap();
    tree.dir("upper/moved").mark("upper/moved", "trusted.overlay.redirect", "/elsewhere");
    assert_eq!(tree.tar().unwrap_err().reason, Reason::UnsupportedFeature);
}

#[test]
fn links_are_never_followed() {
    let Some(tree) = Tree::new(1) else { return };
    tree.dir("outside").file("outside/secret", "x").dir("lower0/dir");
    symlink(tree.at("outside"), tree.at("upper/dir")).unwrap();
    symlink("../outside", tree.at("lower0/up")).unwrap();
    tree.file("upper/up/secret", "");
    assert_eq!(tree.diff(), ["M /dir", "M /up", "A /up/secret"]);
    assert_eq!(tree.names(), ["./", "dir", "up/", "up/secret"]);
}

#[test]
fn depth_is_bounded() {
    let Some(tree) = Tree::new(0) else { return };
    tree.dir(&format!("upper/{}", "d/".repeat(1030)));
    let mut error = tree.tar().unwrap_err();
    assert_eq!(error.reason, Reason::LimitExceeded);
    error = diff(&tree.layer(), |_| true).unwrap_err();
    assert_eq!(error.reason, Reason::LimitExceeded);
}
