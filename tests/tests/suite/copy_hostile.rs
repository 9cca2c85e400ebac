//! Copies with containers and tars that mean harm. What they could reach on the host stays as it was, and unread.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

use hull_proto::v1::ContainerConfig;
use hull_tests::harness::copy::{entries, file};
use hull_tests::harness::host::inside;
use hull_tests::harness::image::header;
use hull_tests::harness::{Rootfs, Session, assert_error, bulk, error_info, host};
use tar::EntryType;
use tonic::Code;

/// A directory of the host with a file in it, by the same absolute path as a directory of the container.
struct Canary {
    directory: PathBuf,
}

const ALIVE: &str = "the host's";

impl Canary {
    fn new(hull: &Session, name: &str) -> Self {
        let directory = hull.agent.scratch(name);
        fs::create_dir_all(&directory).expect("creating");
        fs::write(directory.join("f"), ALIVE).expect("writing");
        Self { directory }
    }

    fn path(&self) -> &str {
        self.directory.to_str().expect("UTF-8")
    }

    fn assert_alive(&self) {
        let names: BTreeSet<_> =
            fs::read_dir(&self.directory).expect("there").flatten().map(|entry| entry.file_name()).collect();
        assert_eq!(names, BTreeSet::from(["f".into()]));
        assert_eq!(fs::read_to_string(self.directory.join("f")).expect("there"), ALIVE);
        assert_eq!(std::os::unix::fs::MetadataExt::nlink(&fs::metadata(self.directory.join("f")).expect("there")), 1);
    }
}

/// CVE-2018-15664: a path is resolved, then a part of it is swapped for a link to the root.
#[tokio::test]
async fn a_directory_that_becomes_a_link_leads_nowhere_but_into_the_container() {
    let hull = Session::own().await;
    let canary = Canary::new(&hull, "canary");
    let host = canary.path();
    // "/race/d/HOST/f" is the file below the directory, or the container's own below its root.
    let line = format!(
        "mkdir -p /race/d{host} /race/up{host} {host}; echo below > /race/d{host}/f; echo root > {host}/f; \
         ln -s / /race/l; ln -s ../../../../../../../.. /race/m; exec /probe exchange /race/d /race/l"
    );
    let id = hull.run(hull.shell(&line)).await;
    hull.until_logged(&id, "ready").await;
    let tar = Rootfs::empty().file("f", 0o644, "written").file(&format!("d{host}/g"), 0o644, "written").tar();
    let mut seen = BTreeSet::new();
    for round in 0..bulk(500) {
        let path = format!("/race/d{host}/f");
        match hull.copy_from(&id, &path, round % 2 == 0).await {
            Ok(copied) => drop(seen.insert(file(&copied.tar, "f"))),
            Err(status) => assert_eq!(error_info(&status).reason, "PATH_NOT_FOUND", "{status:?}"),
        }
        let target = if round % 2 == 0 { format!("/race/d{host}") } else { "/race".to_owned() };
        if let Err(status) = hull.copy_to(&id, &target, &tar, false).await {
            let reason = error_info(&status).reason;
            assert!(["PATH_NOT_FOUND", "INVALID_ARGUMENT", "SYSTEM"].contains(&reason.as_str()), "{status:?}");
        }
    }
    canary.assert_alive();
    assert!(!seen.iter().any(|text| text.contains(ALIVE)), "{seen:?}");
    assert!(seen.len() > 1, "the race was never lost: {seen:?}");
    // Whole trees as well: nothing of the host's is in them.
    for _ in 0..bulk(20) {
        if let Ok(copied) = hull.copy_from(&id, "/race", false).await {
            assert!(!entries(&copied.tar).iter().any(|entry| entry.data == ALIVE.as_bytes()));
        }
    }
    canary.assert_alive();
}

/// CVE-2019-10152, CVE-2026-41567: links of the container's, as they lie there.
#[tokio::test]
async fn links_lead_into_the_container_alone() {
    let hull = Session::shared().await;
    let canary = Canary::new(&hull, "canary-links");
    let host = canary.path();
    let line = format!(
        "mkdir -p {host}; echo inside > {host}/f; ln -s {host} /absolute; ln -s ../../../../../../..{host} /relative; \
         ln -s {host}/f /file; echo ready; exec sleep 1000"
    );
    let (id, pid) = {
        let id = hull.run(hull.shell(&line)).await;
        hull.until_logged(&id, "ready").await;
        let pid = hull.get(&id).await.pid;
        (id, pid)
    };
    for path in ["/absolute/f", "/relative/f", "/file"] {
        let copied = hull.copy_from(&id, path, true).await.expect("CopyFrom");
        assert_eq!(entries(&copied.tar)[0].data, b"inside\n", "{path}");
    }
    let link = hull.copy_from(&id, "/file", false).await.expect("CopyFrom");
    let [link] = &entries(&link.tar)[..] else { panic!("one entry") };
    assert_eq!((link.kind, link.link.as_str()), (EntryType::Symlink, format!("{host}/f").as_str()));
    for path in ["/absolute", "/relative"] {
        hull.copy_to(&id, path, &Rootfs::empty().file("new", 0o644, "x").tar(), false).await.expect("CopyTo");
        // A link of the container's within a tar's path is followed there as well.
        let tar = Rootfs::empty().file(&format!("{}/deep/new", &path[1..]), 0o644, "x").tar();
        hull.copy_to(&id, "/", &tar, false).await.expect("CopyTo");
    }
    assert_eq!(fs::read(inside(pid, &format!("{host}/new"))).expect("inside"), b"x");
    assert_eq!(fs::read(inside(pid, &format!("{host}/deep/new"))).expect("inside"), b"x");
    // What stands by an entry's name is replaced, not followed.
    hull.copy_to(&id, "/", &Rootfs::empty().file("file", 0o644, "x").tar(), false).await.expect("CopyTo");
    assert_eq!(fs::read(inside(pid, &format!("{host}/f"))).expect("inside"), b"inside\n");
    canary.assert_alive();
    // Those of /proc lead anywhere: to the host's files through a descriptor, or out of the root.
    for path in ["/proc/self/root/etc", "/proc/1/root/", "/proc/self/cwd/x", "/proc/self/exe", "/proc/1/fd/0/x"] {
        let status = hull.copy_from(&id, path, true).await.expect_err(path);
        assert!(
            ["INVALID_ARGUMENT", "PATH_NOT_FOUND"].contains(&error_info(&status).reason.as_str()),
            "{path}: {status:?}"
        );
        let status = hull.copy_to(&id, path, &Rootfs::empty().file("x", 0o644, "").tar(), false).await.expect_err(path);
        assert!(
            ["INVALID_ARGUMENT", "PATH_NOT_FOUND"].contains(&error_info(&status).reason.as_str()),
            "{path}: {status:?}"
        );
    }
}

#[tokio::test]
async fn tars_that_lead_elsewhere_are_refused() {
    let hull = Session::shared().await;
    let canary = Canary::new(&hull, "canary-tars");
    let host = canary.path();
    let id = hull.run(hull.shell("mkdir /target; echo passwd > /passwd; echo ready; exec sleep 1000")).await;
    hull.until_logged(&id, "ready").await;
    let pid = hull.get(&id).await.pid;
    let raw = |kind, name: &str, link: &str| {
        let mut header = header(kind, 0o777, 0);
        header.set_size(0);
        header.as_old_mut().linkname[..link.len()].copy_from_slice(link.as_bytes());
        (name.to_owned(), header)
    };
    let link = |name: &str, target: &str| raw(EntryType::Symlink, name, target);
    let hard = |name: &str, target: &str| raw(EntryType::Link, name, target);
    let plain = |name: &str| raw(EntryType::Regular, name, "");
    let evil = [
        vec![plain("../escaped")],
        vec![plain("a/../../escaped")],
        vec![plain("..")],
        vec![link("l", "/"), plain("l/escaped")],
        vec![link("l", ".."), plain("l/escaped")],
        vec![link("l", host), plain("l/escaped")],
        vec![link("a/l", "/"), plain("a/l/x/y/escaped")],
        vec![link("l", "/"), plain("./a/../l/escaped")],
        vec![hard("h", "../passwd")],
        vec![hard("h", "nothing")],
        vec![link("l", "/"), hard("h", "l/passwd")],
        vec![link("l", "/"), raw(EntryType::Directory, "l/escaped/", "")],
    ];
    for tar in evil {
        let shown: Vec<_> = tar.iter().map(|(name, _)| name.clone()).collect();
        let tar = tar.into_iter().fold(Rootfs::empty(), |rootfs, (name, header)| rootfs.raw_entry(&name, header, b""));
        let result = hull.copy_to(&id, "/target", &tar.tar(), true).await;
        assert_error(result, Code::InvalidArgument, "INVALID_ARCHIVE", "entry");
        assert!(!inside(pid, "/escaped").exists(), "{shown:?}");
        hull.exec(&id, &["sh", "-c", "rm -rf /target/*"]).await;
    }
    assert_eq!(fs::read(inside(pid, "/passwd")).expect("there"), b"passwd\n");
    canary.assert_alive();
    // Absolute names are relative ones, and links may say what they like.
    let (name, absolute) = plain("/etc/absolute");
    let (other, link) = link("free", "../../../..");
    let tar = Rootfs::empty().raw_entry(&name, absolute, b"").raw_entry(&other, link, b"").tar();
    hull.copy_to(&id, "/target", &tar, false).await.expect("CopyTo");
    assert!(inside(pid, "/target/etc/absolute").exists() && !inside(pid, "/etc/absolute").exists());
    assert_eq!(fs::read_link(inside(pid, "/target/free")).expect("a link"), Path::new("../../../.."));
}

/// CVE-2019-14271: nothing of the container is executed or loaded, whatever it has by the names of helpers.
#[tokio::test]
async fn nothing_of_the_container_is_executed() {
    let hull = Session::own().await;
    let trap = "#!/bin/sh\ntouch /executed\n";
    let mut rootfs = Rootfs::base().file("etc/nsswitch.conf", 0o644, "passwd: evil\ngroup: evil\n");
    for name in ["bin/tar", "usr/bin/tar", "bin/docker-tar", "bin/unpigz", "bin/gzip", "bin/zstd", "bin/cp"] {
        rootfs = rootfs.raw_entry(name, sized(trap), trap.as_bytes());
    }
    for name in ["lib/libnss_evil.so.2", "lib64/libnss_files.so.2", "lib/ld-linux.so.2"] {
        rootfs = rootfs.file(name, 0o755, "\x7fELF evil");
    }
    let image = hull.image("trap", rootfs).await;
    let id = hull.run(ContainerConfig { image: image.clone(), ..hull.probe(&["sleep"]) }).await;
    let stopped = hull.create(ContainerConfig { image, ..hull.probe(&["sleep"]) }).await;
    let container = hull.get(&id).await;
    let before = host::cgroup_processes(&container.cgroup_path);
    let peak = host::cgroup_file("pids", &container.cgroup_path, "pids.peak", "pids.max_usage_in_bytes");
    for container in [&id, &stopped] {
        for _ in 0..10 {
            let copied = hull.copy_from(container, "/etc", false).await.expect("CopyFrom");
            let zstd = zstd::encode_all(copied.tar.as_slice(), 1).expect("zstd");
            hull.copy_to(container, "/home", &zstd, true).await.expect("CopyTo");
            hull.export(container).await.expect("ExportContainer");
        }
        for path in ["/executed", "/home/executed"] {
            let status = hull.stat_path(container, path, false).await.expect_err("nothing was executed");
            assert_eq!(error_info(&status).reason, "PATH_NOT_FOUND");
        }
    }
    assert_eq!(host::cgroup_processes(&container.cgroup_path), before);
    if peak.exists() {
        // What was ever there, too: init alone.
        assert_eq!(host::text(&peak).trim(), "1");
    }
    // And nothing of it is mapped by the agent or by what it has started.
    let maps = host::text(format!("/proc/{}/maps", hull.agent.pid()));
    assert!(!maps.contains("libnss_evil"), "{maps}");
}

fn sized(data: &str) -> tar::Header {
    let mut header = header(EntryType::Regular, 0o755, 0);
    header.set_size(data.len() as u64);
    header
}

/// A full disk is told, and quotas are; what came before stays.
#[tokio::test]
async fn a_full_file_system_is_told() {
    let hull = Session::shared().await;
    let mount = hull_proto::v1::Mount {
        r#type: hull_proto::v1::MountType::Tmpfs.into(),
        target: "/small".into(),
        options: vec!["size=1m".into()],
        ..hull_proto::v1::Mount::default()
    };
    let id = hull.run(ContainerConfig { mounts: vec![mount], ..hull.command(&["sleep", "1000"]) }).await;
    let pid = hull.get(&id).await.pid;
    let tar = Rootfs::empty().file("first", 0o644, "1").file("large", 0o644, vec![7; 2 << 20]).tar();
    let status =
        assert_error(hull.copy_to(&id, "/small", &tar, false).await, Code::ResourceExhausted, "STORAGE_FULL", "large");
    assert!(status.message().contains("ENOSPC"), "{status:?}");
    assert_eq!(fs::read(inside(pid, "/small/first")).expect("kept"), b"1");
}
