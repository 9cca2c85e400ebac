//! A real root file system as layers: what a container sees is what GNU tar and umoci unpack, entry by entry.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::os::unix::fs::{FileTypeExt as _, MetadataExt as _};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use hull_proto::v1::{ContainerConfig, ImportStart};
use hull_tests::harness::image::{header, import};
use hull_tests::harness::oci::{Compression, Layout, tar_of};
use hull_tests::harness::{Rootfs, Session, host, probe, wait, workspace};
use sha2::{Digest as _, Sha256};

/// Entries that a tree must have to be called real.
const ENTRIES: usize = 10_000;

/// What is hard to get right, made on disk below `odd`.
const ODD: &str = r#"
mkdir -p odd/kept/sub odd/opaque/sub odd/dir-gone/sub odd/was-dir/sub odd/was-dir-too odd/meta odd/sticky
for name in kept/a kept/sub/b opaque/old opaque/sub/old dir-gone/sub/x was-dir/sub/x was-dir-too/x meta/x \
    file-gone was-file suid sgid none foreign attributes; do echo "$name" >"odd/$name"; done
echo linked >odd/linked-1; ln odd/linked-1 odd/linked-2; ln odd/linked-1 odd/kept/linked-3
ln -s kept odd/was-link; ln -s /not/there odd/dangling; ln odd/dangling odd/dangling-again; ln -s file-gone odd/link-gone
ln -s "$(printf 't/%.0s' $(seq 2000))" odd/long-link
mknod odd/char c 5 1; mknod odd/block b 259 1048575; mknod odd/was-device c 1 3; mknod odd/device-gone b 7 0; mkfifo odd/fifo
for name in - '!' ... '..a' 'a b' 'back\slash' '"' 'new
line' "$(printf '\303\251')" "$(printf '\377\001')" "$(printf 'n%.0s' $(seq 255))" "$(printf '\303\251%.0s' $(seq 127))"; do
    echo "$name" >"odd/$name"; done
chmod 4755 odd/suid; chmod 2711 odd/sgid; chmod 0 odd/none; chmod 1777 odd/sticky; chown 4000000000:2097152 odd/foreign
setcap cap_net_raw,cap_net_bind_service+ep odd/suid
setfattr -n user.binary -v 0x000a3d0a31322073697a653d390a odd/attributes; setfattr -n trusted.note -v kept odd/kept
truncate -s 5M odd/sparse; echo here | dd of=odd/sparse bs=1M seek=3 conv=notrunc status=none
touch -d '1960-01-02 03:04:05.678' odd/none; touch -h -d '2100-01-02 03:04:05.000000009' odd/foreign odd/dangling
"#;

/// Runs a tool that must succeed; what it wrote.
fn run(command: &mut Command) -> Vec<u8> {
    let output = command.output().unwrap_or_else(|error| panic!("{command:?}: {error}: run `make deps`"));
    assert!(output.status.success(), "{command:?}: {}", String::from_utf8_lossy(&output.stderr));
    output.stdout
}

fn unpack(tar: &Path, root: &Path) {
    let words = ["--xattrs", "--xattrs-include=*", "--numeric-owner", "--same-owner", "-p", "--exclude=.wh.*"];
    run(Command::new("tar").args(words).arg("-C").arg(root).arg("-xf").arg(tar));
}

/// A Debian root file system by mmdebstrap (unpacked only: no package's scripts are run), kept between runs; where no mirror is
/// to be had, as many files of this machine.
fn lowest_layer(work: &Path) -> PathBuf {
    let kept = workspace().join("target/layers-real/debian.tar");
    if !kept.exists() {
        fs::create_dir_all(kept.parent().expect("a parent")).expect("mkdir");
        let new = tempfile::NamedTempFile::new_in(kept.parent().expect("a parent")).expect("a file");
        let limit = wait::scaled(std::time::Duration::from_secs(120)).as_secs().to_string();
        // In a mount namespace of its own: nothing that it mounts is seen here, or stays.
        let made = Command::new("unshare")
            .args(["--mount", "timeout", &limit, "mmdebstrap", "--quiet", "--variant=extract"])
            .args(["--include=?essential", "--include=apt,python3,tzdata,manpages-dev", "bookworm", "-"])
            .stdout(new.reopen().expect("the file"))
            .output()
            .expect("unshare");
        if made.status.success() {
            new.persist(&kept).expect("keeping the archive");
        } else {
            println!("no Debian from mmdebstrap: {}", String::from_utf8_lossy(&made.stderr));
        }
    }
    println!("the tree is {}", if kept.exists() { "Debian by mmdebstrap" } else { "of this machine's own files" });
    if kept.exists() { kept } else { own_files(&work.join("own.tar")) }
}

/// Files of this machine, their directories first.
fn own_files(tar: &Path) -> PathBuf {
    let mut names: BTreeSet<PathBuf> = [".", "etc", "usr", "usr/lib", "usr/share"].map(PathBuf::from).into();
    for top in ["usr/share/doc", "usr/share/zoneinfo", "usr/share", "usr/lib"] {
        let mut pending = vec![PathBuf::from(top)];
        while let Some(name) = pending.pop().filter(|_| names.len() < ENTRIES * 5 / 4) {
            let path = Path::new("/").join(&name);
            let Ok(metadata) = path.symlink_metadata() else { continue };
            if metadata.is_dir() {
                let children = fs::read_dir(&path).expect("reading a directory").flatten();
                pending.extend(children.map(|child| name.join(child.file_name())));
            }
            if metadata.len() < 1 << 20 {
                names.insert(name);
            }
        }
    }
    let list = tar.with_extension("list");
    let bytes: Vec<u8> = names.iter().flat_map(|name| [name.as_os_str().as_encoded_bytes(), b"\0"].concat()).collect();
    fs::write(&list, bytes).expect("writing");
    let words = ["--no-recursion", "--format=pax", "--xattrs", "--numeric-owner", "-C", "/", "--null", "-T"];
    run(Command::new("tar").args(words).arg(&list).arg("-cf").arg(tar));
    tar.to_owned()
}

fn odd_layer(work: &Path) -> PathBuf {
    let (tree, tar) = (work.join("odd"), work.join("odd.tar"));
    fs::create_dir(&tree).expect("mkdir");
    run(Command::new("sh").args(["-ec", ODD]).current_dir(&tree).env("LC_ALL", "C"));
    fs::copy(probe(), tree.join("probe")).expect("copying the probe");
    let words = ["--format=pax", "--xattrs", "--xattrs-include=*", "--numeric-owner", "-C"];
    run(Command::new("tar").args(words).arg(&tree).arg("-cf").arg(&tar).args(["odd", "probe"]));
    tar
}

/// What the highest layer takes away or replaces; without it, GNU tar unpacks the same tree.
const GONE: [&str; 14] = [
    "usr/share/doc",
    "usr/share/zoneinfo",
    "odd/opaque",
    "odd/dir-gone",
    "odd/file-gone",
    "odd/link-gone",
    "odd/device-gone",
    "odd/linked-1",
    "odd/linked-2",
    "odd/was-file",
    "odd/was-dir",
    "odd/was-dir-too",
    "odd/was-link",
    "odd/was-device",
];

/// Whiteouts, opaque directories, and what was of another type below. Each directory's entries follow it at once: GNU tar sets
/// its time when it leaves it.
fn highest_layer(tar: &Path) {
    let mut rootfs = Rootfs::empty().dir("usr", 0o755).dir("usr/share", 0o755);
    // The opaque mark after what it must not hide.
    rootfs = rootfs.dir("usr/share/zoneinfo", 0o755).file("usr/share/zoneinfo/Mars", 0o644, "red");
    rootfs = rootfs.file("usr/share/zoneinfo/.wh..wh..opq", 0o644, "").file("usr/share/.wh.doc", 0o644, "");
    rootfs = rootfs.dir("odd", 0o750);
    for name in ["dir-gone", "file-gone", "link-gone", "device-gone", "linked-1"] {
        rootfs = rootfs.file(&format!("odd/.wh.{name}"), 0o644, "");
    }
    rootfs
        .dir("odd/opaque", 0o711)
        .file("odd/opaque/.wh..wh..opq", 0o644, "")
        .file("odd/opaque/new", 0o600, "new")
        .file("odd/linked-2", 0o640, "no link any more")
        .dir("odd/was-file", 0o700)
        .file("odd/was-file/inside", 0o644, "x")
        .file("odd/was-dir", 0o4711, "a program")
        .link("odd/was-dir-too", "kept")
        .dir("odd/was-link", 0o2755)
        .owned("odd/was-link/inside", 0o644, 77, "x")
        .entry("odd/was-device", header(tar::EntryType::Fifo, 0o600, 5), &[])
        .dir("odd/meta", 0o3777)
        .write(tar);
}

/// Everything about a file that a program in a container can see.
#[derive(Debug, PartialEq, Eq)]
struct Seen {
    mode: u32,
    owner: (u32, u32),
    mtime: (i64, i64),
    size: u64,
    device: u64,
    /// The first name of the same inode.
    same_as: PathBuf,
    xattrs: BTreeMap<Vec<u8>, Vec<u8>>,
    /// Digest of the data, or the link's target.
    content: Vec<u8>,
}

fn xattrs(path: &Path) -> BTreeMap<Vec<u8>, Vec<u8>> {
    let mut names = vec![0; 1 << 12];
    let length = rustix::fs::llistxattr(path, &mut names).expect("listing attributes");
    let names = names[..length].split(|byte| *byte == 0).filter(|name| !name.is_empty());
    let value = |name: &[u8]| {
        let mut value = vec![0; 1 << 12];
        let length = rustix::fs::lgetxattr(path, name, &mut value).expect("reading an attribute");
        value.truncate(length);
        value
    };
    names.map(|name| (name.to_vec(), value(name))).collect()
}

/// The tree below a directory, but for some of its paths.
fn look(root: &Path, but: &[PathBuf]) -> BTreeMap<PathBuf, Seen> {
    let (mut first, mut seen) = (BTreeMap::new(), BTreeMap::new());
    let mut pending = vec![root.to_owned()];
    while let Some(path) = pending.pop() {
        let name = path.strip_prefix(root).expect("below the root").to_owned();
        if but.contains(&name) {
            continue;
        }
        let metadata = path.symlink_metadata().expect("metadata");
        let kind = metadata.file_type();
        let content = if kind.is_symlink() {
            fs::read_link(&path).expect("a target").into_os_string().into_encoded_bytes()
        } else if kind.is_file() {
            Sha256::digest(fs::read(&path).expect("reading")).to_vec()
        } else {
            Vec::new()
        };
        if kind.is_dir() {
            // In the order of names, so that the first name of an inode is the same everywhere.
            let mut children: Vec<_> =
                fs::read_dir(&path).expect("a directory").map(|child| child.expect("an entry").path()).collect();
            children.sort_by(|a, b| b.cmp(a));
            pending.extend(children);
        }
        let value = Seen {
            mode: metadata.mode(),
            owner: (metadata.uid(), metadata.gid()),
            // The root's time is that of the container's writable layer.
            mtime: if path == root { (0, 0) } else { (metadata.mtime(), metadata.mtime_nsec()) },
            size: if kind.is_dir() { 0 } else { metadata.size() },
            device: if kind.is_block_device() || kind.is_char_device() { metadata.rdev() } else { 0 },
            same_as: first.entry((metadata.dev(), metadata.ino())).or_insert_with(|| name.clone()).clone(),
            xattrs: xattrs(&path),
            content,
        };
        seen.insert(name, value);
    }
    seen
}

fn assert_same(what: &str, ours: &BTreeMap<PathBuf, Seen>, theirs: &BTreeMap<PathBuf, Seen>) {
    let names: BTreeSet<_> = ours.keys().chain(theirs.keys()).collect();
    let different: Vec<String> = names
        .into_iter()
        .filter(|name| ours.get(*name) != theirs.get(*name))
        .map(|name| format!("{}:\n  ours   {:?}\n  theirs {:?}", name.display(), ours.get(name), theirs.get(name)))
        .collect();
    let shown = different.iter().take(20).map(String::as_str).collect::<Vec<_>>().join("\n");
    assert!(different.is_empty(), "{what}: {} entries differ\n{shown}", different.len());
}

/// What a container of the image sees, and what is mounted over it.
async fn in_a_container(image: PathBuf) -> (BTreeMap<PathBuf, Seen>, Vec<PathBuf>) {
    let hull = Session::own().await;
    let start = ImportStart { tags: vec!["test/real:1".into()], ..ImportStart::default() };
    let archive = tokio::task::spawn_blocking(move || tar_of(&image)).await.expect("tar");
    import(&hull.clients, start, archive).await.expect("import");
    let id = hull.run(ContainerConfig { image: "test/real:1".into(), ..hull.probe(&["sleep"]) }).await;
    let pid = hull.get(&id).await.pid;
    let mounts: Vec<PathBuf> = host::text(format!("/proc/{pid}/mountinfo"))
        .lines()
        .filter_map(|line| line.split(' ').nth(4))
        .filter(|point| *point != "/")
        .map(|point| point.trim_start_matches('/').into())
        .collect();
    let but = mounts.clone();
    let root = PathBuf::from(format!("/proc/{pid}/root/"));
    let seen = tokio::task::spawn_blocking(move || look(&root, &but)).await.expect("looking");
    hull.remove(&id).await;
    (seen, mounts)
}

#[tokio::test]
async fn a_container_sees_what_tar_and_umoci_unpack() {
    let work = tempfile::tempdir().expect("a directory");
    let at = |name: &str| work.path().join(name);
    let layers = [lowest_layer(work.path()), odd_layer(work.path()), at("highest.tar")];
    highest_layer(&layers[2]);
    let tars: Vec<Vec<u8>> = layers.iter().map(|layer| fs::read(layer).expect("a layer")).collect();
    let pack = |name: &str, compression| {
        let mut layout = Layout::new(at(name));
        let packed: Vec<_> = tars.iter().map(|tar| (tar.clone(), compression)).collect();
        let image = layout.image(&packed, "linux/amd64");
        layout.name(&image, "real");
    };
    pack("gz", Compression::Gzip);
    pack("zstd", Compression::Zstd);

    let tar_root = at("tar");
    fs::create_dir(&tar_root).expect("mkdir");
    unpack(&layers[0], &tar_root);
    unpack(&layers[1], &tar_root);
    let before = look(&tar_root, &[]).len();
    assert!(before > ENTRIES, "only {before} entries");
    for name in GONE {
        let path = tar_root.join(name);
        assert!(path.symlink_metadata().is_ok(), "{name} is not in the lower layers");
        run(Command::new("rm").arg("-rf").arg(path));
    }
    unpack(&layers[2], &tar_root);
    let image = format!("{}:real", at("gz").display());
    run(Command::new("umoci").args(["unpack", "--image", &image]).arg(at("umoci")).stdin(Stdio::null()));

    for name in ["gz", "zstd"] {
        let (ours, mounts) = in_a_container(at(name)).await;
        let by_tar = look(&tar_root, &mounts);
        let covered = ["dev", "proc", "sys", "etc/hostname", "etc/hosts", "etc/resolv.conf"];
        assert!(mounts.iter().all(|point| covered.iter().any(|top| point.starts_with(top))), "{mounts:?}");
        println!("{name}: {} entries compared, of {before} in the lower layers", by_tar.len());
        assert_same(&format!("{name} and GNU tar"), &ours, &by_tar);
        assert_same(&format!("{name} and umoci"), &ours, &look(&at("umoci/rootfs"), &mounts));
    }
}
