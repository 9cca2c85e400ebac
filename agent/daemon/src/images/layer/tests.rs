//! Layers against GNU tar: the same archive unpacked by it and mounted from hull's EROFS file must look the same.

use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::{FileTypeExt, MetadataExt, PermissionsExt, symlink};
use std::path::{Path, PathBuf};
use std::process::Command;

use super::*;

fn run(program: &str, arguments: &[&str]) -> Vec<u8> {
    let output = Command::new(program).args(arguments).output().unwrap();
    assert!(output.status.success(), "{program} {arguments:?}: {}", String::from_utf8_lossy(&output.stderr));
    output.stdout
}

fn text(path: &Path) -> &str {
    path.to_str().unwrap()
}

fn is_root() -> bool {
    nix::unistd::geteuid().is_root()
}

fn to_erofs(tar: &[u8], dir: &Path) -> Result<PathBuf> {
    let path = dir.join("layer.erofs");
    let file = File::create(&path).unwrap();
    convert(tar, file, tempfile::tempfile().unwrap(), &AtomicU64::new(0))?;
    run("fsck.erofs", &["--extract", text(&path)]);
    Ok(path)
}

/// A mounted layer.
struct Mounted(PathBuf);

impl Mounted {
    fn new(erofs: &Path, dir: &Path) -> Self {
        let point = dir.join("mounted");
        fs::create_dir(&point).unwrap();
        run("mount", &["-t", "erofs", "-o", "ro,loop", text(erofs), text(&point)]);
        Self(point)
    }
}

impl Drop for Mounted {
    fn drop(&mut self) {
        // Lazily: a process that another test is about to make holds, until it executes its program, what was open here just now.
        run("umount", &["--lazy", text(&self.0)]);
        fs::remove_dir(&self.0).unwrap();
    }
}

/// Everything about a file that a program in a container can see.
#[derive(Debug, PartialEq, Eq)]
struct Seen {
    mode: u32,
    owner: (u32, u32),
    links: u64,
    /// The first name of the same inode.
    same_as: PathBuf,
    device: u64,
    mtime: (i64, i64),
    size: u64,
    digest: Vec<u8>,
    xattrs: BTreeMap<Vec<u8>, Vec<u8>>,
}

fn xattrs(path: &Path) -> BTreeMap<Vec<u8>, Vec<u8>> {
    let mut names = vec![0; 1 << 16];
    let length = rustix::fs::llistxattr(path, &mut names).unwrap();
    names.truncate(length);
    let names = names.split(|byte| *byte == 0).filter(|name| !name.is_empty());
    let value = |name: &[u8]| {
        let mut value = vec![0; 1 << 16];
        let length = rustix::fs::lgetxattr(path, name, &mut value).unwrap();
        value.truncate(length);
        value
    };
    names.map(|name| (name.to_vec(), value(name))).collect()
}

fn look(root: &Path) -> BTreeMap<PathBuf, Seen> {
    let mut first: BTreeMap<u64, PathBuf> = BTreeMap::new();
    let mut seen = BTreeMap::new();
    let mut pending = vec![root.to_owned()];
    while let Some(path) = pending.pop() {
        let metadata = path.symlink_metadata().unwrap();
        let name = path.strip_prefix(root).unwrap().to_owned();
        let kind = metadata.file_type();
        let digest = if kind.is_symlink() {
            fs::read_link(&path).unwrap().into_os_string().into_encoded_bytes()
        } else if kind.is_file() {
            let mut hash = Sha256::new();
            io::copy(&mut File::open(&path).unwrap(), &mut Hasher(&mut hash)).unwrap();
            hash.finalize().to_vec()
        } else {
            Vec::new()
        };
        if kind.is_dir() {
            // In the order of names, so that the first name of an inode is the same everywhere.
            let mut children: Vec<_> = fs::read_dir(&path).unwrap().map(|entry| entry.unwrap().path()).collect();
            children.sort_by(|a, b| b.cmp(a));
            pending.extend(children);
        }
        let is_device = kind.is_block_device() || kind.is_char_device();
        let value = Seen {
            mode: metadata.mode(),
            owner: (metadata.uid(), metadata.gid()),
            links: metadata.nlink(),
            same_as: first.entry(metadata.ino()).or_insert_with(|| name.clone()).clone(),
            device: if is_device { metadata.rdev() } else { 0 },
            mtime: (metadata.mtime(), metadata.mtime_nsec()),
            size: if kind.is_dir() { 0 } else { metadata.size() },
            digest,
            xattrs: xattrs(&path),
        };
        seen.insert(name, value);
    }
    seen
}

struct Hasher<'a>(&'a mut Sha256);

impl io::Write for Hasher<'_> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.update(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// Unpacks with GNU tar, mounts ours, compares.
fn compare(tar: &Path) {
    let dir = tempfile::tempdir().unwrap();
    let unpacked = dir.path().join("unpacked");
    fs::create_dir(&unpacked).unwrap();
    let arguments = ["--xattrs", "--xattrs-include=*", "-p", "--same-owner", "--numeric-owner", "-C", text(&unpacked)];
    run("tar", &[&arguments[..], &["-xf", text(tar)]].concat());
    let erofs = to_erofs(&fs::read(tar).unwrap(), dir.path()).unwrap();
    let mounted = Mounted::new(&erofs, dir.path());
    let (mut expected, mut ours) = (look(&unpacked), look(&mounted.0));
    // The root may not be in the archive.
    expected.remove(Path::new(""));
    ours.remove(Path::new(""));
    assert_eq!(ours.keys().collect::<Vec<_>>(), expected.keys().collect::<Vec<_>>());
    for (name, expected) in expected {
        assert_eq!(ours[&name], expected, "{}", name.display());
    }
}

/// A tree with what is hard to get right.
fn hard_tree(root: &Path) {
    let at = |name: &str| root.join(name);
    fs::write(at("plain"), "plain").unwrap();
    fs::write(at("empty"), "").unwrap();
    for size in [1, 511, 512, 513, 4031, 4032, 4033, 4095, 4096, 4097, 8192, 12_345, 300_000] {
        fs::write(at(&format!("of-{size}")), vec![b'x'; size]).unwrap();
    }
    fs::write(at("zeros"), vec![0; 1 << 20]).unwrap();
    fs::hard_link(at("plain"), at("plain-again")).unwrap();
    fs::hard_link(at("of-12345"), at("z-later")).unwrap();
    symlink("plain", at("link")).unwrap();
    symlink("/nowhere/at/all", at("dangling")).unwrap();
    symlink("t/".repeat(2047), at("long-link")).unwrap();
    symlink("s".repeat(90), at("link-of-90")).unwrap();
    symlink("s".repeat(101), at("link-of-101")).unwrap();
    fs::hard_link(at("link"), at("link-again")).unwrap();
    fs::create_dir(at("many")).unwrap();
    for n in 0..1000 {
        fs::write(at(&format!("many/a-file-with-a-longer-name-{n}")), n.to_string()).unwrap();
    }
    for name in ["-", "!", "#x", "+", ".a", "..a", "...", "é", "a b", "\u{1}", "back\\slash", "\"", "new\nline"] {
        fs::write(at(&format!("many/{name}")), name).unwrap();
    }
    fs::write(at(&"n".repeat(255)), "longest").unwrap();
    let mut deep = root.to_owned();
    for _ in 0..12 {
        deep.push("d".repeat(200));
    }
    fs::create_dir_all(&deep).unwrap();
    fs::write(deep.join("bottom"), "deep").unwrap();
    run("mkfifo", &[text(&at("fifo"))]);
    run("mknod", &[text(&at("char")), "c", "5", "1"]);
    run("mknod", &[text(&at("block")), "b", "259", "1048575"]);
    for (name, mode) in [("suid", 0o4755), ("sgid", 0o2711), ("none", 0)] {
        fs::write(at(name), name).unwrap();
        fs::set_permissions(at(name), fs::Permissions::from_mode(mode)).unwrap();
    }
    fs::create_dir(at("sticky")).unwrap();
    fs::set_permissions(at("sticky"), fs::Permissions::from_mode(0o1777)).unwrap();
    fs::write(at("foreign"), "").unwrap();
    std::os::unix::fs::chown(at("foreign"), Some(4_000_000_000), Some(2_097_152)).unwrap();
    run("setfattr", &["-n", "user.binary", "-v", "0x000a3d0a31322073697a653d390a", text(&at("plain"))]);
    run("setfattr", &["-n", "user.large", "-v", &"v".repeat(3000), text(&at("of-4031"))]);
    run("setfattr", &["-n", "trusted.note", "-v", "kept", text(&at("many"))]);
    run("setcap", &["cap_net_raw+ep", text(&at("suid"))]);
    let sparse = File::create(at("sparse")).unwrap();
    std::os::unix::fs::FileExt::write_all_at(&sparse, b"here", 1 << 20).unwrap();
    std::os::unix::fs::FileExt::write_all_at(&sparse, b"and here", 5 << 20).unwrap();
    sparse.set_len(9 << 20).unwrap();
    let pieces = File::create(at("pieces")).unwrap();
    for n in 0..100u64 {
        std::os::unix::fs::FileExt::write_all_at(&pieces, &[b'p'; 4096], n * 65_536).unwrap();
    }
    for (name, time) in [("before", "1960-01-02 03:04:05.678"), ("after", "2100-01-02 03:04:05.000000009")] {
        fs::write(at(name), "").unwrap();
        run("touch", &["-d", time, text(&at(name))]);
    }
}

#[test]
fn a_hard_tree_in_every_format() {
    if !is_root() {
        return;
    }
    let dir = tempfile::tempdir().unwrap();
    let tree = dir.path().join("tree");
    fs::create_dir(&tree).unwrap();
    hard_tree(&tree);
    let tar = dir.path().join("tree.tar");
    let with = |options: &[&str]| {
        run("tar", &[options, &["-C", text(&tree), "--numeric-owner", "-cf", text(&tar), "."]].concat());
        compare(&tar);
    };
    let pax = ["--format=pax", "--xattrs", "--xattrs-include=*"];
    with(&pax);
    with(&[&pax[..], &["--sparse", "--sparse-version=1.0"]].concat());
    with(&[&pax[..], &["--sparse", "--sparse-version=0.1"]].concat());
    with(&[&pax[..], &["--sparse", "--sparse-version=0.0"]].concat());
    with(&["--format=gnu"]);
    with(&["--format=gnu", "--sparse"]);
}

#[test]
fn real_trees() {
    if !is_root() {
        return;
    }
    let dir = tempfile::tempdir().unwrap();
    let tar = dir.path().join("tree.tar");
    for tree in ["/etc", "/usr/share/zoneinfo"] {
        run("tar", &["--xattrs", "--format=pax", "-C", tree, "-cf", text(&tar), "."]);
        compare(&tar);
    }
}

#[test]
fn old_formats() {
    if !is_root() {
        return;
    }
    let dir = tempfile::tempdir().unwrap();
    let tree = dir.path().join("tree");
    fs::create_dir_all(tree.join("sub").join("p".repeat(90)).join("q".repeat(60))).unwrap();
    fs::write(tree.join("sub").join("p".repeat(90)).join("q".repeat(60)).join("file"), "x").unwrap();
    let tar = dir.path().join("tree.tar");
    run("tar", &["--format=ustar", "-C", text(&tree), "-cf", text(&tar), "."]);
    compare(&tar);
    let short = dir.path().join("short");
    fs::create_dir_all(short.join("sub")).unwrap();
    fs::write(short.join("sub/file"), "x").unwrap();
    run("tar", &["--format=v7", "-C", text(&short), "-cf", text(&tar), "."]);
    compare(&tar);
}

#[test]
fn later_entries_replace_earlier_ones() {
    if !is_root() {
        return;
    }
    let dir = tempfile::tempdir().unwrap();
    let tar = dir.path().join("tree.tar");
    let tree = dir.path().join("tree");
    fs::create_dir_all(tree.join("dir/kept")).unwrap();
    for (mode, names, content) in [(0o700, "-cf", "one"), (0o711, "-rf", "the second, longer"), (0o755, "-rf", "3")] {
        fs::write(tree.join("file"), content).unwrap();
        fs::set_permissions(tree.join("dir"), fs::Permissions::from_mode(mode)).unwrap();
        run("tar", &["-C", text(&tree), names, text(&tar), "."]);
    }
    compare(&tar);
}
