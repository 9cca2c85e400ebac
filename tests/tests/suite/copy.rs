//! Files go from and to containers as they are, whatever the container does.

use std::fs;
use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _, symlink};
use std::path::Path;

use hull_proto::v1::{
    ContainerConfig, ContainerState, Mount, MountType, Namespaces, PathKind, PauseContainerRequest, UserNamespaceMode,
};
use hull_tests::harness::copy::{Entry, entries, file, names};
use hull_tests::harness::host::inside;
use hull_tests::harness::image::{base_config, header};
use hull_tests::harness::{Rootfs, Session, assert_error, bulk, host, wait};
use rustix::fs::{CWD, FileType, Mode, Timespec, Timestamps, XattrFlags, lgetxattr, mknodat, setxattr, utimensat};
use tar::EntryType;
use tonic::Code;

async fn sleeping(hull: &Session, config: ContainerConfig) -> (String, i32) {
    let id = hull.run(config).await;
    let pid = hull.get(&id).await.pid;
    (id, pid)
}

fn bind(source: &Path, target: &str, read_only: bool) -> Mount {
    Mount {
        r#type: MountType::Bind.into(),
        source: source.to_str().expect("UTF-8").into(),
        target: target.into(),
        read_only,
        ..Mount::default()
    }
}

fn tmpfs(target: &str) -> Mount {
    Mount { r#type: MountType::Tmpfs.into(), target: target.into(), ..Mount::default() }
}

fn userns_auto() -> Option<Namespaces> {
    Some(Namespaces { user: UserNamespaceMode::Auto.into(), ..Namespaces::default() })
}

fn xattr(path: &Path, name: &str) -> Option<Vec<u8>> {
    let mut value = vec![0; 4096];
    let length = lgetxattr(path, name, &mut value).ok()?;
    value.truncate(length);
    Some(value)
}

/// CAP_NET_BIND_SERVICE, effective, for whatever container it is in.
const CAPABILITY: [u8; 20] = [1, 0, 0, 2, 0, 4, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0];

/// A tree with one of everything, made from outside; ids begin with `base`.
fn make_tree(top: &Path, base: u32) {
    let own = |path: &Path, id: u32| std::os::unix::fs::lchown(path, Some(base + id), Some(base + id)).expect("chown");
    fs::create_dir(top).expect("creating");
    fs::write(top.join("plain"), "plain").expect("writing");
    fs::hard_link(top.join("plain"), top.join("again")).expect("linking");
    symlink("/etc/../plain", top.join("link")).expect("linking");
    fs::write(top.join("setuid"), "program").expect("writing");
    mknodat(CWD, top.join("fifo"), FileType::Fifo, Mode::from_bits_retain(0o622), 0).expect("mkfifo");
    let long = "n".repeat(200);
    fs::create_dir(top.join(&long)).expect("creating");
    fs::write(top.join(&long).join(&long), "long").expect("writing");
    let sparse = fs::File::create(top.join("sparse")).expect("creating");
    sparse.set_len(32 << 20).expect("sizing");
    drop(sparse);
    fs::write(top.join("bytes"), [0, 255, 10, 13]).expect("writing");
    for (name, id) in [("", 3), ("plain", 7), ("link", 8), ("setuid", 9), ("fifo", 10)] {
        own(&if name.is_empty() { top.to_owned() } else { top.join(name) }, id);
    }
    for (name, mode) in [("plain", 0o640), ("setuid", 0o4711), ("fifo", 0o622), (&long, 0o1770)] {
        fs::set_permissions(top.join(name), fs::Permissions::from_mode(mode)).expect("chmod");
    }
    // Not `user.`: tmpfs has had that since Linux 6.6 only.
    setxattr(top.join("bytes"), "trusted.with\nline", b"a\nb", XattrFlags::empty()).expect("setxattr");
    setxattr(top.join("setuid"), "security.capability", &CAPABILITY, XattrFlags::empty()).expect("setxattr");
    let time = Timespec { tv_sec: 1_000_000_000, tv_nsec: 123_456_789 };
    let times = Timestamps { last_access: time, last_modification: time };
    for name in ["plain", &long] {
        utimensat(CWD, top.join(name), &times, rustix::fs::AtFlags::empty()).expect("utimensat");
    }
}

/// Compares a tree with what [`make_tree`] makes.
fn check_tree(top: &Path, base: u32) {
    let stat = |name: &str| fs::symlink_metadata(top.join(name)).unwrap_or_else(|error| panic!("{name}: {error}"));
    let long = "n".repeat(200);
    for (name, id, mode) in [
        ("", 3, 0o755),
        ("plain", 7, 0o640),
        ("link", 8, 0o777),
        ("setuid", 9, 0o4711),
        ("fifo", 10, 0o622),
        (&long, 0, 0o1770),
    ] {
        let stat = if name.is_empty() { fs::symlink_metadata(top).expect("the top") } else { stat(name) };
        // A user namespace's ids are those of its range, but what the test made as root elsewhere stays the host's.
        let owner = if id == 0 { stat.uid() } else { base + id };
        assert_eq!((stat.uid(), stat.mode() & 0o7777), (owner, mode), "{name:?}");
    }
    assert_eq!(fs::read(top.join("plain")).expect("reading"), b"plain");
    assert_eq!(stat("plain").ino(), stat("again").ino());
    assert_eq!(fs::read_link(top.join("link")).expect("reading"), Path::new("/etc/../plain"));
    assert_eq!(fs::read(top.join(&long).join(&long)).expect("reading"), b"long");
    let sparse = stat("sparse");
    assert_eq!(sparse.len(), 32 << 20);
    assert!(sparse.blocks() * 512 < 1 << 20, "{} blocks", sparse.blocks());
    assert_eq!(fs::read(top.join("bytes")).expect("reading"), [0, 255, 10, 13]);
    assert_eq!(xattr(&top.join("bytes"), "trusted.with\nline").as_deref(), Some(&b"a\nb"[..]));
    for name in ["plain", &long] {
        assert_eq!((stat(name).mtime(), stat(name).mtime_nsec()), (1_000_000_000, 123_456_789), "{name}");
    }
}

#[tokio::test]
async fn what_goes_out_goes_in_as_it_was() {
    let hull = Session::shared().await;
    let (from, pid) = sleeping(&hull, hull.command(&["sleep", "1000"])).await;
    make_tree(&inside(pid, "/srv"), 0);
    let copied = hull.copy_from(&from, "/srv", false).await.expect("CopyFrom");
    assert_eq!((copied.stat.name.as_str(), copied.stat.kind(), copied.done.shrunk), ("srv", PathKind::Directory, 0));
    let (to, pid) = sleeping(&hull, hull.command(&["sleep", "1000"])).await;
    let done = hull.copy_to(&to, "/home", &copied.tar, true).await.expect("CopyTo");
    assert_eq!((done.entries, done.bare), (entries(&copied.tar).len() as u64, 0));
    let top = inside(pid, "/home/srv");
    check_tree(&top, 0);
    assert_eq!(xattr(&top.join("setuid"), "security.capability").as_deref(), Some(&CAPABILITY[..]));
    // Without ownership all is root's, and gives nobody the rights of another.
    hull.copy_to(&to, "/tmp", &copied.tar, false).await.expect("CopyTo");
    let top = inside(pid, "/tmp/srv");
    for name in ["plain", "link", "setuid", "fifo", "bytes"] {
        let stat = fs::symlink_metadata(top.join(name)).expect("copied");
        assert_eq!((stat.uid(), stat.gid()), (0, 0), "{name}");
        assert_eq!(xattr(&top.join(name), "security.capability"), None);
    }
    assert_eq!(fs::metadata(top.join("setuid")).expect("copied").mode() & 0o7777, 0o711);
    assert_eq!(xattr(&top.join("bytes"), "trusted.with\nline"), None);
}

#[tokio::test]
async fn a_user_namespace_s_ids_are_seen_as_inside() {
    let hull = Session::shared().await;
    let volume = hull.agent.scratch("volume");
    fs::create_dir_all(&volume).expect("creating");
    let config = ContainerConfig {
        namespaces: userns_auto(),
        mounts: vec![tmpfs("/mem"), bind(&volume, "/vol", false)],
        ..hull.command(&["sleep", "1000"])
    };
    let (id, pid) = sleeping(&hull, config).await;
    let base = hull.get(&id).await.userns_base;
    assert!(base > 0);
    make_tree(&inside(pid, "/srv"), base);
    let copied = hull.copy_from(&id, "/srv", false).await.expect("CopyFrom");
    let of = |name: &str| -> Entry {
        entries(&copied.tar).into_iter().find(|entry| entry.name == name).unwrap_or_else(|| panic!("{name}"))
    };
    assert_eq!([of("srv/").uid, of("srv/plain").uid, of("srv/setuid").uid], [3, 7, 9]);
    // Also where the kernel takes files of the container's own ids alone.
    for target in ["/home", "/mem", "/vol"] {
        let done =
            hull.copy_to(&id, target, &copied.tar, true).await.unwrap_or_else(|status| panic!("{target}: {status}"));
        let seen = hull.exec(&id, &["stat", "-c", "%u %g %a", &format!("{target}/srv/setuid")]).await;
        assert_eq!(seen.text(), "9 9 4711", "{target}");
        if done.bare == 0 {
            check_tree(&inside(pid, &format!("{target}/srv")), base);
        }
    }
    assert_eq!(fs::metadata(volume.join("srv/setuid")).expect("on the host").uid(), 9, "the volume's ids are mapped");
    // The capability counts in this namespace and in no other.
    let kept = xattr(&inside(pid, "/home/srv/setuid"), "security.capability").expect("kept");
    assert_eq!((kept.len(), kept[3], &kept[20..]), (24, 3, &base.to_le_bytes()[..]));
    hull.copy_to(&id, "/mem", &copied.tar, false).await.expect("CopyTo");
    assert_eq!(hull.exec(&id, &["stat", "-c", "%u %a", "/mem/srv/setuid"]).await.text(), "0 711");
    let mut tar = tar::Builder::new(Vec::new());
    let mut stranger = header(EntryType::Regular, 0o644, 70_000);
    stranger.set_size(0);
    tar.append_data(&mut stranger, "stranger", &b""[..]).expect("appending");
    let result = hull.copy_to(&id, "/home", &tar.into_inner().expect("a tar"), true).await;
    assert_error(result, Code::InvalidArgument, "INVALID_ARCHIVE", "70000");
}

#[tokio::test]
async fn containers_that_do_not_run_are_copied_from_and_to() {
    let hull = Session::shared().await;
    for namespaces in [None, userns_auto()] {
        let volume = hull.agent.scratch(if namespaces.is_some() { "stopped-mapped" } else { "stopped" });
        fs::create_dir_all(&volume).expect("creating");
        fs::write(volume.join("kept"), "on the host").expect("writing");
        let config = ContainerConfig {
            namespaces,
            mounts: vec![bind(&volume, "/vol/in", false), tmpfs("/mem")],
            ..hull.shell("cat /etc/new /vol/in/new; echo made > /etc/made; stat -c '%u %g' /etc/new")
        };
        let id = hull.create(config).await;
        // Created alone: the targets of its mounts are not there yet.
        assert_eq!(
            file(&hull.copy_from(&id, "/vol/in/kept", false).await.expect("CopyFrom").tar, "kept"),
            "on the host"
        );
        let tar = Rootfs::empty().owned("new", 0o644, 5, "new\n").tar();
        hull.copy_to(&id, "/etc", &tar, true).await.expect("CopyTo");
        hull.copy_to(&id, "/vol/in", &tar, false).await.expect("CopyTo");
        assert_eq!(hull.state(&id).await, ContainerState::Created);
        hull.start(&id).await;
        assert_eq!(hull.wait(&id).await.code, 0);
        assert_eq!(hull.log_lines(&id).await, ["new", "new", "5 5"]);
        assert_eq!(fs::metadata(volume.join("new")).expect("on the host").uid(), 0);
        // Ended.
        let copied = hull.copy_from(&id, "/etc", false).await.expect("CopyFrom");
        assert_eq!(file(&copied.tar, "etc/made"), "made\n");
        assert!(names(&copied.tar).contains(&"etc/passwd".to_owned()));
        let new = entries(&copied.tar).into_iter().find(|entry| entry.name == "etc/new").expect("etc/new");
        assert_eq!(new.uid, 5);
        assert_eq!(file(&hull.copy_from(&id, "/vol/in/new", false).await.expect("CopyFrom").tar, "new"), "new\n");
        let tar = Rootfs::empty().file("new", 0o644, "newer\n").tar();
        hull.copy_to(&id, "/etc", &tar, false).await.expect("CopyTo");
        hull.start(&id).await;
        assert_eq!(hull.wait(&id).await.code, 0);
        assert_eq!(hull.log_lines(&id).await[3..], ["newer", "new", "0 0"]);
    }
}

#[tokio::test]
async fn a_paused_container_is_copied_from_and_to() {
    let hull = Session::shared().await;
    let (id, _) = sleeping(&hull, hull.command(&["sleep", "1000"])).await;
    let request = PauseContainerRequest { container: id.clone() };
    hull.clients.containers.clone().pause_container(request).await.expect("PauseContainer");
    hull.copy_to(&id, "/tmp", &Rootfs::empty().file("f", 0o644, "x").tar(), false).await.expect("CopyTo");
    assert_eq!(file(&hull.copy_from(&id, "tmp/f", false).await.expect("CopyFrom").tar, "f"), "x");
    assert_eq!(hull.state(&id).await, ContainerState::Paused);
}

#[tokio::test]
async fn mounts_are_seen_as_the_container_sees_them() {
    let hull = Session::shared().await;
    let (volume, fixed) = (hull.agent.scratch("rw"), hull.agent.scratch("ro"));
    for dir in [&volume, &fixed] {
        fs::create_dir_all(dir).expect("creating");
        fs::write(dir.join("f"), "host").expect("writing");
    }
    let config = ContainerConfig {
        read_only_rootfs: true,
        mounts: vec![bind(&volume, "/rw", false), bind(&fixed, "/ro", true), tmpfs("/mem")],
        ..hull.shell("echo mem > /mem/f; echo ready; exec sleep 1000")
    };
    let id = hull.run(config).await;
    hull.until_logged(&id, "ready").await;
    assert_eq!(file(&hull.copy_from(&id, "/mem/f", false).await.expect("CopyFrom").tar, "f"), "mem\n");
    assert_eq!(file(&hull.copy_from(&id, "/ro/f", false).await.expect("CopyFrom").tar, "f"), "host");
    let tar = Rootfs::empty().file("f", 0o644, "copied").tar();
    for path in ["/", "/etc", "/ro"] {
        assert_error(hull.copy_to(&id, path, &tar, false).await, Code::FailedPrecondition, "READ_ONLY_PATH", path);
    }
    for path in ["/rw", "/mem"] {
        hull.copy_to(&id, path, &tar, false).await.unwrap_or_else(|status| panic!("{path}: {status}"));
    }
    assert_eq!(fs::read_to_string(volume.join("f")).expect("reading"), "copied");
    assert_eq!(hull.exec(&id, &["cat", "/mem/f"]).await.text(), "copied");
    // From above a read-only mount, too: the entry that goes there is refused.
    let deep = Rootfs::empty().raw_entry("../ro/f", header(EntryType::Regular, 0o644, 0), b"").tar();
    assert_error(hull.copy_to(&id, "/rw", &deep, false).await, Code::InvalidArgument, "INVALID_ARCHIVE", "leads out");
    // Without its init the same, but that the tmpfs is gone.
    hull.kill(&id, "KILL").await;
    hull.wait(&id).await;
    for path in ["/etc", "/ro"] {
        assert_error(hull.copy_to(&id, path, &tar, false).await, Code::FailedPrecondition, "READ_ONLY_PATH", path);
    }
    hull.copy_to(&id, "/rw", &Rootfs::empty().file("f", 0o644, "again").tar(), false).await.expect("CopyTo");
    assert_eq!(fs::read_to_string(volume.join("f")).expect("reading"), "again");
    assert_eq!(fs::read_to_string(fixed.join("f")).expect("reading"), "host");
}

#[tokio::test]
async fn the_kernel_s_own_files_are_not_copied() {
    let hull = Session::shared().await;
    let (id, _) = sleeping(&hull, hull.command(&["sleep", "1000"])).await;
    for path in ["/proc", "/proc/1/status", "/proc/kmsg", "/sys/kernel", "/dev/pts/ptmx"] {
        let result = hull.copy_from(&id, path, false).await;
        assert_error(result, Code::FailedPrecondition, "UNSUPPORTED_FEATURE", path);
    }
    let all = hull.copy_from(&id, "/", false).await.expect("CopyFrom");
    let names = names(&all.tar);
    for name in ["./", "./etc/passwd", "./proc/", "./sys/", "./dev/null", "./dev/pts/", "./bin/busybox"] {
        assert!(names.contains(&name.to_owned()), "{name} is not in {names:?}");
    }
    assert!(!names.iter().any(|name| name.starts_with("./proc/") && name != "./proc/"), "{names:?}");
    let null = entries(&all.tar).into_iter().find(|entry| entry.name == "./dev/null").expect("./dev/null");
    assert_eq!(null.kind, EntryType::Char);
}

#[tokio::test]
async fn what_is_wrong_is_said() {
    let hull = Session::shared().await;
    let (id, _) = sleeping(
        &hull,
        hull.shell("mkdir /d /d/sub; echo f > /f; ln -s /d /to-d; ln -s nowhere /dangling; exec sleep 1000"),
    )
    .await;
    wait::until_async("the tree is there", || async { hull.stat_path(&id, "/dangling", false).await.ok() }).await;
    let not_found = |status| assert_error(Err::<(), _>(status), Code::NotFound, "PATH_NOT_FOUND", "in the container");
    for path in ["/none", "/none/x", "/f/x", "/f/", "/f/.", "/dangling/"] {
        not_found(hull.stat_path(&id, path, false).await.expect_err(path));
        not_found(hull.copy_from(&id, path, false).await.expect_err(path));
    }
    not_found(hull.stat_path(&id, "/dangling", true).await.expect_err("it leads nowhere"));
    let stat = hull.stat_path(&id, "/to-d", false).await.expect("StatPath");
    assert_eq!((stat.kind(), stat.link_target.as_str()), (PathKind::Symlink, "/d"));
    assert_eq!(hull.stat_path(&id, "/to-d/", false).await.expect("StatPath").kind(), PathKind::Directory);
    assert_eq!(hull.stat_path(&id, "/to-d", true).await.expect("StatPath").kind(), PathKind::Directory);
    let stat = hull.stat_path(&id, "../../f", false).await.expect("StatPath");
    assert_eq!((stat.kind(), stat.size, stat.name.as_str()), (PathKind::Regular, 2, "f"));
    for path in ["", "a\0b", &"x/".repeat(3000)] {
        assert_error(hull.stat_path(&id, path, false).await, Code::InvalidArgument, "INVALID_ARGUMENT", "path");
    }
    let one = |name: &str| Rootfs::empty().file(name, 0o644, "new").tar();
    assert_error(
        hull.copy_to(&id, "/f", &one("x"), false).await,
        Code::InvalidArgument,
        "INVALID_ARGUMENT",
        "/f is no directory",
    );
    assert_error(hull.copy_to(&id, "/none", &one("x"), false).await, Code::NotFound, "PATH_NOT_FOUND", "/none");
    assert_error(
        hull.copy_to(&id, "/d", &one("sub"), false).await,
        Code::InvalidArgument,
        "INVALID_ARGUMENT",
        "a directory is there",
    );
    let tar = Rootfs::empty().dir("f", 0o755).tar();
    assert_error(
        hull.copy_to(&id, "/", &tar, false).await,
        Code::InvalidArgument,
        "INVALID_ARGUMENT",
        "a file is there",
    );
    assert_error(
        hull.copy_to(&id, "/d", b"no tar at all, but long enough", false).await,
        Code::InvalidArgument,
        "INVALID_ARCHIVE",
        "tar",
    );
    let cut = &one("cut")[..600];
    assert_error(hull.copy_to(&id, "/d", cut, false).await, Code::InvalidArgument, "INVALID_ARCHIVE", "");
    assert_error(hull.copy_to("no-such", "/", &[], false).await, Code::NotFound, "CONTAINER_NOT_FOUND", "no-such");
    assert_error(hull.export("no-such").await, Code::NotFound, "CONTAINER_NOT_FOUND", "no-such");
    // Compressed ones are taken, too, and an empty one is nothing.
    let zstd = zstd::encode_all(one("z").as_slice(), 1).expect("zstd");
    hull.copy_to(&id, "/to-d", &zstd, false).await.expect("CopyTo");
    assert_eq!(hull.exec(&id, &["cat", "/d/z"]).await.text(), "new");
    hull.copy_to(&id, "/d", &Rootfs::empty().tar(), false).await.expect("CopyTo");
}

#[tokio::test]
async fn a_bound_file_is_written_into() {
    let hull = Session::shared().await;
    let source = hull.agent.scratch("bound").join("app.conf");
    fs::write(&source, "a longer text than what comes").expect("writing");
    let config =
        ContainerConfig { mounts: vec![bind(&source, "/etc/app.conf", false)], ..hull.command(&["sleep", "1000"]) };
    let (id, _) = sleeping(&hull, config).await;
    let inode = fs::metadata(&source).expect("there").ino();
    hull.copy_to(&id, "/etc", &Rootfs::empty().file("app.conf", 0o600, "short").tar(), false).await.expect("CopyTo");
    assert_eq!(fs::read_to_string(&source).expect("reading"), "short");
    assert_eq!(fs::metadata(&source).expect("there").ino(), inode);
    hull.copy_to(&id, "/etc", &Rootfs::empty().file("hosts", 0o644, "127.0.0.1 mine\n").tar(), false)
        .await
        .expect("CopyTo");
    assert_eq!(hull.exec(&id, &["cat", "/etc/hosts"]).await.text(), "127.0.0.1 mine");
    // Nothing but a file's contents can come there: the mount would go.
    let status = hull.copy_to(&id, "/etc", &Rootfs::empty().link("app.conf", "/x").tar(), false).await;
    assert_error(status, Code::InvalidArgument, "INVALID_ARGUMENT", "something is mounted there");
    assert_eq!(hull.exec(&id, &["cat", "/etc/app.conf"]).await.text(), "short");
}

#[tokio::test]
async fn device_nodes_are_made_where_the_container_could() {
    let hull = Session::shared().await;
    let mut null = header(EntryType::Char, 0o666, 0);
    null.set_device_major(1).and_then(|()| null.set_device_minor(3)).expect("a device");
    null.set_size(0);
    let tar = Rootfs::empty().entry("null", null, b"").tar();
    let (id, pid) = sleeping(&hull, hull.command(&["sleep", "1000"])).await;
    hull.copy_to(&id, "/tmp", &tar, false).await.expect("CopyTo");
    assert_eq!(fs::metadata(inside(pid, "/tmp/null")).expect("made").rdev(), 0x103);
    let mut config = hull.command(&["sleep", "1000"]);
    config.security.get_or_insert_default().cap_drop = vec!["MKNOD".into()];
    let dropped = hull.run(config).await;
    let mapped = hull.run(ContainerConfig { namespaces: userns_auto(), ..hull.command(&["sleep", "1000"]) }).await;
    for id in [dropped, mapped] {
        let result = hull.copy_to(&id, "/tmp", &tar, false).await;
        assert_error(result, Code::FailedPrecondition, "UNSUPPORTED_FEATURE", "device node");
    }
}

#[tokio::test]
async fn ten_thousand_files_and_a_gigabyte_need_no_memory() {
    let hull = Session::own().await;
    let mounts = vec![tmpfs("/from"), tmpfs("/to")];
    let config = ContainerConfig { mounts, ..hull.command(&["sleep", "1000"]) };
    let (id, pid) = sleeping(&hull, config).await;
    let top = inside(pid, "/from/many");
    let directories = bulk(100);
    for directory in 0..directories {
        let directory = top.join(format!("d{directory}"));
        fs::create_dir_all(&directory).expect("creating");
        for number in 0..100 {
            fs::write(directory.join(format!("f{number}")), format!("{number}")).expect("writing");
        }
    }
    let copied = hull.copy_from(&id, "/from/many", false).await.expect("CopyFrom");
    assert_eq!(entries(&copied.tar).len(), 1 + directories * 101);
    hull.copy_to(&id, "/to", &copied.tar, true).await.expect("CopyTo");
    assert_eq!(fs::read(inside(pid, &format!("/to/many/d{}/f42", directories - 1))).expect("copied"), b"42");
    let file = fs::File::create(inside(pid, "/from/large")).expect("creating");
    let size = bulk(1 << 30) as u64;
    file.set_len(size).expect("sizing");
    let before = host::resident(hull.agent.pid());
    let request =
        hull_proto::v1::CopyFromRequest { container: id.clone(), path: "/from/large".into(), follow_link: false };
    let mut answers = hull.clients.containers.clone().copy_from(request).await.expect("CopyFrom").into_inner();
    let (mut bytes, mut most) = (0_u64, 0);
    let (sender, requests) = hull_tests::harness::copy::begin_copy_to(&id, "/to", false).await;
    let mut containers = hull.clients.containers.clone();
    let written = tokio::spawn(async move { containers.copy_to(requests).await });
    while let Some(answer) = answers.message().await.expect("the stream") {
        if let Some(hull_proto::v1::copy_from_response::Message::Data(data)) = answer.message {
            bytes += data.len() as u64;
            most = most.max(host::resident(hull.agent.pid()));
            let message = Some(hull_proto::v1::copy_to_request::Message::Data(data));
            sender.send(hull_proto::v1::CopyToRequest { message }).await.expect("the agent takes it");
        }
    }
    drop(sender);
    let done = written.await.expect("a task").expect("CopyTo").into_inner();
    assert!(bytes > size);
    assert_eq!(done.bytes, size);
    assert_eq!(fs::metadata(inside(pid, "/to/large")).expect("copied").len(), size);
    assert!(most < before + (48 << 20), "{before} bytes before, {most} at most");
}

#[tokio::test]
async fn an_export_is_the_root_file_system_without_mounts() {
    let hull = Session::shared().await;
    let volume = hull.agent.scratch("export");
    fs::create_dir_all(&volume).expect("creating");
    fs::write(volume.join("secret"), "not the container's").expect("writing");
    let config = ContainerConfig {
        mounts: vec![bind(&volume, "/vol", false), tmpfs("/mem")],
        namespaces: userns_auto(),
        ..hull.shell("rm /etc/group; echo new > /new; chown 7:8 /new; touch /mem/x; echo ready; exec sleep 1000")
    };
    let id = hull.run(config).await;
    hull.until_logged(&id, "ready").await;
    let running = hull.export(&id).await.expect("ExportContainer");
    hull.kill(&id, "KILL").await;
    hull.wait(&id).await;
    let stopped = hull.export(&id).await.expect("ExportContainer");
    for tar in [&running, &stopped] {
        let found = names(tar);
        for name in ["./", "etc/passwd", "new", "bin/busybox", "vol/", "mem/", "proc/", "dev/", "etc/hosts"] {
            assert!(found.contains(&name.to_owned()), "{name} is not in {found:?}");
        }
        let left_out = ["vol/", "mem/", "proc/", "dev/", "sys/"];
        assert!(!found.iter().any(|name| left_out.iter().any(|top| name.starts_with(top) && name != top)), "{found:?}");
        assert!(!found.contains(&"etc/group".to_owned()), "{found:?}");
        let new = entries(tar).into_iter().find(|entry| entry.name == "new").expect("new");
        assert_eq!((new.uid, new.gid, new.data.as_slice()), (7, 8, &b"new\n"[..]));
    }
    let tag = format!("test/{}:1", hull.name("exported"));
    hull.try_image(&tag, running, base_config()).await.expect("ImportImage");
    let output = hull.output(ContainerConfig { image: tag, ..hull.command(&["cat", "/new"]) }).await;
    assert_eq!(output.text(), "new");
    let never = hull.create(hull.command(&["true"])).await;
    assert!(names(&hull.export(&never).await.expect("ExportContainer")).contains(&"etc/group".to_owned()));
}
