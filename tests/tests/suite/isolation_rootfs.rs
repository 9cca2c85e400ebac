//! The root file system: mounts, /dev, generated files, masks; and images that are hostile to whoever mounts them.

use std::path::PathBuf;

use hull_proto::v1::{ContainerConfig, DnsConfig, HostEntry, Mount, MountType, Namespaces, UserNamespaceMode};
use hull_tests::harness::{AgentOptions, Rootfs, Session, assert_error, host};
use tonic::Code;

fn bind(source: &std::path::Path, target: &str, options: &[&str]) -> Mount {
    Mount {
        r#type: MountType::Bind.into(),
        source: source.display().to_string(),
        target: target.into(),
        read_only: false,
        options: options.iter().map(|option| (*option).to_owned()).collect(),
    }
}

fn tmpfs(target: &str, options: &[&str]) -> Mount {
    Mount { r#type: MountType::Tmpfs.into(), source: String::new(), ..bind("/".as_ref(), target, options) }
}

#[tokio::test]
async fn what_is_written_stays_in_the_container() {
    let hull = Session::shared().await;
    let first = hull.output(hull.shell("echo mine > /etc/mine; rm /etc/group; cat /etc/mine")).await;
    assert_eq!(first.text(), "mine");
    let second = hull.output(hull.shell("ls /etc/mine; ls /etc/group")).await;
    assert_eq!(second.text(), "/etc/group");
}

#[tokio::test]
async fn the_host_s_mount_table_does_not_grow_with_containers() {
    let hull = Session::own().await;
    hull.run(hull.probe(&["sleep"])).await;
    let count = || {
        host::text("/proc/self/mountinfo")
            .lines()
            .filter(|line| line.contains(&hull.agent.dir().display().to_string()))
            .count()
    };
    let before = count();
    for _ in 0..5 {
        hull.run(hull.probe(&["sleep"])).await;
    }
    assert_eq!(count(), before);
}

#[tokio::test]
async fn mount_points_leave_no_trace_in_the_writable_layer() {
    let hull = Session::shared().await;
    let image = hull.image("no-mount-points", Rootfs::empty().dir("bin", 0o755).programs()).await;
    let id = hull.run(ContainerConfig { image, ..hull.probe(&["sleep"]) }).await;
    let seen = hull.exec(&id, &["/bin/cat", "/etc/hosts"]).await;
    assert!(seen.text().contains("localhost"), "{seen:?}");
    let upper = hull.agent.data_dir().join("containers").join(&id).join("upper");
    let written: Vec<_> = std::fs::read_dir(upper).expect("the writable layer").flatten().collect();
    assert!(written.is_empty(), "{written:?}");
}

/// What nobody will ever read again is not written to the disk, neither at fsync nor at the end; all else is.
#[tokio::test]
async fn the_root_of_a_container_that_goes_with_its_end_is_volatile() {
    let hull = Session::shared().await;
    for auto_remove in [true, false] {
        let id = hull.run(ContainerConfig { auto_remove, ..hull.probe(&["sleep"]) }).await;
        let table = host::text(format!("/proc/{}/mountinfo", hull.get(&id).await.pid));
        let root = table.lines().find(|line| line.split(' ').nth(4) == Some("/")).expect("a root");
        assert_eq!(root.contains("volatile"), auto_remove, "{root}");
    }
}

#[tokio::test]
async fn mounts_are_those_of_the_runtime_spec_and_no_others() {
    let hull = Session::shared().await;
    let report = hull.report(hull.probe(&[])).await;
    let find = |point: &str| {
        let mut found = report.mounts.iter().filter(|mount| mount.point == point);
        found.next_back().unwrap_or_else(|| panic!("no mount at {point}: {:#?}", report.mounts))
    };
    let has = |point: &str, options: &[&str]| {
        let mount = find(point);
        for option in options {
            assert!(mount.options.iter().any(|have| have == option), "{point} has no {option}: {mount:?}");
        }
    };
    assert_eq!(find("/").fstype, "overlay");
    assert_eq!(find("/proc").fstype, "proc");
    has("/proc", &["nosuid", "nodev", "noexec"]);
    assert_eq!(find("/sys").fstype, "sysfs");
    has("/sys", &["ro", "nosuid", "nodev", "noexec"]);
    assert_eq!(find("/dev").fstype, "tmpfs");
    has("/dev", &["nosuid"]);
    has("/dev/pts", &["nosuid", "noexec"]);
    has("/dev/shm", &["nosuid", "nodev", "noexec"]);
    has("/sys/fs/cgroup", &["ro", "nosuid", "nodev", "noexec"]);
    for mount in &report.mounts {
        assert!(mount.propagation.is_empty(), "propagates: {mount:?}");
    }
    let allowed = ["/", "/dev", "/proc", "/sys", "/etc/hostname", "/etc/hosts", "/etc/resolv.conf"];
    for mount in &report.mounts {
        let point = mount.point.as_str();
        let ok = allowed.contains(&point) || ["/dev/", "/proc/", "/sys/"].iter().any(|below| point.starts_with(below));
        assert!(ok, "unexpected {mount:?}");
    }
}

#[tokio::test]
async fn dev_has_the_standard_nodes_and_links() {
    let hull = Session::shared().await;
    for users in [UserNamespaceMode::Host, UserNamespaceMode::Auto] {
        let namespaces = Some(Namespaces { user: users.into(), ..Namespaces::default() });
        let report = hull.report(ContainerConfig { namespaces, ..hull.probe(&[]) }).await;
        let node = |path: &str| {
            report.dev.iter().find(|node| node.path == path).unwrap_or_else(|| panic!("{path}: {:#?}", report.dev))
        };
        for (path, device) in [
            ("null", (1, 3)),
            ("zero", (1, 5)),
            ("full", (1, 7)),
            ("random", (1, 8)),
            ("urandom", (1, 9)),
            ("tty", (5, 0)),
        ] {
            let node = node(&format!("/dev/{path}"));
            assert_eq!((node.kind.as_str(), node.device, node.mode), ("char", device, 0o666), "{node:?}");
        }
        for (path, target) in [
            ("fd", "/proc/self/fd"),
            ("stdin", "/proc/self/fd/0"),
            ("stdout", "/proc/self/fd/1"),
            ("stderr", "/proc/self/fd/2"),
        ] {
            assert_eq!(node(&format!("/dev/{path}")).link, target);
        }
        assert!(node("/dev/ptmx").link.ends_with("pts/ptmx"), "{:?}", node("/dev/ptmx"));
        let allowed = [
            "null", "zero", "full", "random", "urandom", "tty", "fd", "stdin", "stdout", "stderr", "ptmx", "pts",
            "pts/ptmx", "shm", "mqueue", "core",
        ];
        for node in &report.dev {
            assert!(allowed.contains(&node.path.trim_start_matches("/dev/")), "unexpected {node:?}");
        }
    }
}

#[tokio::test]
async fn shm_has_the_size_that_was_asked_for() {
    let hull = Session::shared().await;
    let size = async |config: ContainerConfig| hull.output(config).await.lines()[0].clone();
    let line = "df -k /dev/shm | awk 'END { print $2 }'";
    assert_eq!(size(hull.shell(line)).await, "65536");
    assert_eq!(size(ContainerConfig { shm_size: Some(8 << 20), ..hull.shell(line) }).await, "8192");
}

#[tokio::test]
async fn generated_files_say_what_was_asked_for() {
    let hull = Session::shared().await;
    let config = ContainerConfig {
        hostname: "box".into(),
        extra_hosts: vec![HostEntry { ip: "10.1.2.3".into(), hostname: "friend".into() }],
        dns: Some(DnsConfig {
            servers: vec!["10.9.9.9".into()],
            searches: vec!["example.org".into()],
            options: vec!["ndots:2".into()],
        }),
        ..hull.shell("cat /etc/hosts /etc/resolv.conf /etc/hostname")
    };
    let text = hull.output(config).await.text();
    for line in
        ["127.0.0.1", "10.1.2.3", "friend", "nameserver 10.9.9.9", "search example.org", "options ndots:2", "box"]
    {
        assert!(text.contains(line), "no {line:?} in {text}");
    }
    let default = hull.output(hull.shell("cat /etc/resolv.conf")).await;
    assert_eq!((default.exit.code, default.text().as_str()), (0, ""));
}

#[tokio::test]
async fn a_read_only_root_takes_no_write_but_mounts_do() {
    let hull = Session::shared().await;
    let line = "/probe write /new 1; /probe write /etc/passwd 1; /probe write /tmp/x 1; /probe write /dev/shm/x 1";
    let config = ContainerConfig { read_only_rootfs: true, mounts: vec![tmpfs("/tmp", &[])], ..hull.shell(line) };
    assert_eq!(hull.output(config).await.lines(), ["30", "30", "0", "0"]);
}

#[tokio::test]
async fn masked_and_read_only_paths_give_nothing_away() {
    let hull = Session::shared().await;
    let line = "for f in /proc/kcore /proc/keys /proc/timer_list /proc/sched_debug; do [ -e $f ] && cat $f | head -c 1 | wc -c; done; \
                ls /proc/acpi /proc/scsi /sys/firmware 2>/dev/null | grep -v : | grep -c .";
    let output = hull.output(hull.shell(&line.replace("wc -c", "/probe count"))).await;
    for line in output.lines() {
        assert!(line.starts_with("0"), "{:?}", output.lines());
    }
    let read_only = "for f in /proc/sys/kernel/hostname /proc/sysrq-trigger /proc/irq/default_smp_affinity; do /probe open w $f; done";
    for errno in hull.output(hull.shell(read_only)).await.lines() {
        assert!(["30", "13", "2"].contains(&errno.as_str()), "{errno}");
    }
    let more = ContainerConfig {
        masked_paths: vec!["/etc/hosts".into(), "/home".into(), "/not/there".into()],
        readonly_paths: vec!["/var".into()],
        ..hull.shell("/probe count < /etc/hosts | cut -d' ' -f1; ls /home | /probe count | cut -d' ' -f1; /probe write /var/x 1; /probe write /home/x 1")
    };
    assert_eq!(hull.output(more).await.lines(), ["0", "0", "30", "30"]);
}

#[tokio::test]
async fn bind_mounts_have_the_options_asked_for() {
    let hull = Session::shared().await;
    let source = hull.agent.scratch(&hull.name("source"));
    std::fs::write(source.join("file"), "content").expect("writing");
    let read_only = Mount { read_only: true, ..bind(&source, "/ro", &[]) };
    let config = ContainerConfig {
        mounts: vec![
            bind(&source, "/rw", &[]),
            read_only,
            bind(&source, "/strict", &["nosuid", "nodev", "noexec", "private"]),
            bind(&source.join("file"), "/etc/new/deep/file", &[]),
        ],
        ..hull
            .shell("cat /rw/file /ro/file /etc/new/deep/file; echo; /probe write /ro/x 1; /probe write /rw/x 1; /probe")
    };
    let lines = hull.output(config).await.lines();
    assert_eq!(lines[..3], ["contentcontentcontent", "30", "0"]);
    assert!(source.join("x").exists());
    let report: hull_tests::harness::Report = serde_json::from_str(&lines[3]).expect("a report");
    let strict = report.mounts.iter().find(|mount| mount.point == "/strict").expect("/strict");
    for option in ["nosuid", "nodev", "noexec"] {
        assert!(strict.options.iter().any(|have| have == option), "{strict:?}");
    }
}

#[tokio::test]
async fn a_read_only_bind_is_read_only_all_the_way_down() {
    let hull = Session::own_with(AgentOptions { shared_mounts: true, ..AgentOptions::default() }).await;
    let source = hull.agent.scratch("tree");
    std::fs::create_dir(source.join("below")).expect("mkdir");
    let below = source.join("below").display().to_string();
    let status = std::process::Command::new("nsenter")
        .args(["--mount", "--target", &hull.agent.pid().to_string(), "mount", "-t", "tmpfs", "tmpfs", &below])
        .status()
        .expect("nsenter");
    assert!(status.success());
    let mount = Mount { read_only: true, ..bind(&source, "/tree", &["rbind"]) };
    let config =
        ContainerConfig { mounts: vec![mount], ..hull.shell("/probe write /tree/x 1; /probe write /tree/below/x 1") };
    assert_eq!(hull.output(config).await.lines(), ["30", "30"]);
    let plain = ContainerConfig {
        mounts: vec![bind(&source, "/tree", &["bind"])],
        ..hull.shell("/probe write /tree/below/x 1; grep -c /tree/below /proc/self/mountinfo")
    };
    assert_eq!(hull.output(plain).await.lines(), ["0", "0"]);
    let status = std::process::Command::new("nsenter")
        .args(["--mount", "--target", &hull.agent.pid().to_string(), "umount", &below])
        .status()
        .expect("nsenter");
    assert!(status.success());
}

#[tokio::test]
async fn mounts_of_a_container_do_not_reach_a_shared_host() {
    let hull = Session::own_with(AgentOptions { shared_mounts: true, ..AgentOptions::default() }).await;
    let agent = hull.agent.pid();
    let source = hull.agent.scratch("shared");
    hull.run(hull.probe(&["sleep"])).await;
    let table = || -> std::collections::BTreeSet<String> {
        let text = host::text(format!("/proc/{agent}/mountinfo"));
        text.lines().filter_map(|line| line.split(' ').nth(4).map(str::to_owned)).collect()
    };
    let before = table();
    let config = ContainerConfig {
        mounts: vec![tmpfs("/a", &[]), bind(&source, "/b", &["rbind", "rprivate"])],
        security: Some(hull_proto::v1::Security { privileged: true, ..Default::default() }),
        ..hull.shell("mount -t tmpfs none /b && mount -t tmpfs none /mnt 2>/dev/null; mkdir -p /m && mount -t tmpfs none /m && echo mounted; sleep 1000")
    };
    let id = hull.run(config).await;
    hull.until_logged(&id, "mounted").await;
    // Mount points of other tests vanish here too, when their directories are removed.
    let after = table();
    assert!(after.is_subset(&before), "{:?}", after.difference(&before).collect::<Vec<_>>());
}

#[tokio::test]
async fn tmpfs_mounts_have_size_mode_and_owner() {
    let hull = Session::shared().await;
    let config = ContainerConfig {
        mounts: vec![tmpfs("/small", &["size=1m", "mode=0700", "uid=1000", "gid=1000"]), tmpfs("/exec", &["exec"])],
        ..hull.shell("stat -c '%a %u %g' /small; /probe write /small/x 2097152; cp /probe /exec/p; /exec/p exit 4; echo $?; /probe")
    };
    let lines = hull.output(config).await.lines();
    assert_eq!(lines[..3], ["700 1000 1000", "28", "4"]);
    let report: hull_tests::harness::Report = serde_json::from_str(&lines[3]).expect("a report");
    let small = report.mounts.iter().find(|mount| mount.point == "/small").expect("/small");
    for option in ["nosuid", "nodev", "noexec"] {
        assert!(small.options.iter().any(|have| have == option), "{small:?}");
    }
}

#[tokio::test]
async fn wrong_mounts_are_refused_by_name() {
    let hull = Session::shared().await;
    let source = hull.agent.scratch(&hull.name("wrong"));
    let refused: [(&str, Mount); 9] = [
        ("source", bind("relative".as_ref(), "/x", &[])),
        ("target", bind(&source, "relative", &[])),
        ("target", bind(&source, "", &[])),
        ("target", bind(&source, "/", &[])),
        ("nonsense", bind(&source, "/x", &["nonsense"])),
        ("size", tmpfs("/x", &["size=much"])),
        ("lowerdir", tmpfs("/x", &["lowerdir=/"])),
        ("size", bind(&source, "/x", &["size=1m"])),
        ("type", Mount { r#type: 0, ..bind(&source, "/x", &[]) }),
    ];
    for (word, mount) in refused {
        let what = format!("{mount:?}");
        let result = hull.try_create(ContainerConfig { mounts: vec![mount], ..hull.probe(&[]) }).await;
        let status = result.expect_err(&what);
        assert_eq!(status.code(), Code::InvalidArgument, "{what}: {status:?}");
        assert!(status.message().contains(word), "{word:?} is not in {:?}", status.message());
    }
    let missing = bind("/no/such/source".as_ref(), "/x", &[]);
    let status =
        hull.try_run(ContainerConfig { mounts: vec![missing], ..hull.probe(&[]) }).await.expect_err("no such source");
    assert!(status.message().contains("/no/such/source"), "{status:?}");
}

/// A file tree of the host that no container may touch: its path, and what must still be true at the end.
struct Canary(PathBuf);

impl Canary {
    fn new(hull: &Session) -> Self {
        let path = hull.agent.scratch(&hull.name("canary"));
        std::fs::write(path.join("file"), "untouched").expect("writing");
        Self(path)
    }

    fn check(&self) {
        let names: Vec<_> =
            std::fs::read_dir(&self.0).expect("reading").flatten().map(|entry| entry.file_name()).collect();
        assert_eq!(names, ["file"], "a container reached the host");
        assert_eq!(host::text(self.0.join("file")), "untouched");
    }
}

#[tokio::test]
async fn system_directories_that_are_links_or_files_or_fifos_lead_nowhere() {
    let hull = Session::shared().await;
    let canary = Canary::new(&hull);
    let outside = canary.0.display().to_string();
    for (number, name) in ["dev", "proc", "sys", "etc"].iter().enumerate() {
        let hostile: [(&str, Rootfs); 4] = [
            ("absolute", Rootfs::empty().dir("bin", 0o755).programs().link(name, &outside)),
            (
                "relative",
                Rootfs::empty().dir("bin", 0o755).programs().link(name, &format!("../../../../../..{outside}")),
            ),
            ("file", Rootfs::empty().dir("bin", 0o755).programs().file(name, 0o644, "")),
            ("fifo", Rootfs::empty().dir("bin", 0o755).programs().fifo(name)),
        ];
        for (kind, rootfs) in hostile {
            let image = hull.image(&format!("hostile-{number}-{kind}"), rootfs).await;
            let config = ContainerConfig { image, ..hull.command(&["/bin/busybox", "true"]) };
            // Either it runs, inside its own root, or it is refused with the step; never does it reach the host.
            if let Err(status) = hull.try_run(config).await {
                assert_eq!(status.code(), Code::FailedPrecondition, "/{name} as {kind}: {status:?}");
                assert!(!hull_tests::harness::metadata(&status, "step").is_empty(), "{status:?}");
            }
            canary.check();
        }
    }
}

#[tokio::test]
async fn mount_targets_and_generated_files_follow_links_inside_the_root_only() {
    let hull = Session::shared().await;
    let canary = Canary::new(&hull);
    let outside = canary.0.display().to_string();
    let source = hull.agent.scratch(&hull.name("mounted"));
    let rootfs = Rootfs::empty()
        .dir("bin", 0o755)
        .programs()
        .dir("etc", 0o755)
        .link("etc/hosts", &format!("{outside}/file"))
        .link("etc/resolv.conf", "../../../../../../../../etc/shadow-of-host")
        .link("etc/hostname", &format!("{outside}/made"))
        .link("escape", &outside)
        .link("up", "../../../../../../../..");
    let image = hull.image("links", rootfs).await;
    for target in ["/escape", "/escape/new", &format!("/up{outside}"), &format!("/up{outside}/new"), "/../../../x"] {
        let config = ContainerConfig {
            image: image.clone(),
            mounts: vec![bind(&source, target, &[]), tmpfs("/escape/deep", &[])],
            cwd: "/escape/cwd".into(),
            ..hull.command(&["/bin/busybox", "touch", "/escape/made"])
        };
        let _refused_or_inside = hull.try_output(config).await;
        canary.check();
        assert!(!std::path::Path::new("/etc/shadow-of-host").exists());
    }
}

#[tokio::test]
async fn a_working_directory_never_leads_out() {
    let hull = Session::shared().await;
    for number in 3..12 {
        let config = ContainerConfig { cwd: format!("/proc/self/fd/{number}"), ..hull.probe(&[]) };
        match hull.try_output(config).await {
            Ok(output) if output.exit.code == 0 => {
                let report: hull_tests::harness::Report = serde_json::from_slice(&output.stdout).expect("a report");
                assert!(report.cwd.starts_with("/proc/") || report.cwd == "/", "{}", report.cwd);
            }
            Ok(_) | Err(_) => {}
        }
    }
    let made = hull.report(ContainerConfig { cwd: "/made/for/it".into(), ..hull.probe(&[]) }).await;
    assert_eq!(made.cwd, "/made/for/it");
    assert_error(
        hull.try_create(ContainerConfig { cwd: "relative".into(), ..hull.probe(&[]) }).await,
        Code::InvalidArgument,
        "INVALID_ARGUMENT",
        "cwd",
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn a_target_that_is_swapped_under_the_mount_reaches_no_host_directory() {
    // CVE-2021-30465: two containers share a volume; one swaps a directory and a link in it while the other is set up.
    let hull = Session::own().await;
    let canary = Canary::new(&hull);
    let volume = hull.agent.scratch("volume");
    std::fs::create_dir(volume.join("a")).expect("mkdir");
    std::os::unix::fs::symlink(&canary.0, volume.join("b")).expect("symlink");
    let stop = std::sync::atomic::AtomicBool::new(false);
    let (first, second) = (volume.join("a"), volume.join("b"));
    let swap = || {
        let _ok = rustix::fs::renameat_with(
            rustix::fs::CWD,
            &first,
            rustix::fs::CWD,
            &second,
            rustix::fs::RenameFlags::EXCHANGE,
        );
    };
    std::thread::scope(|scope| {
        scope.spawn(|| {
            while !stop.load(std::sync::atomic::Ordering::Relaxed) {
                swap();
            }
        });
        let attempts = async {
            for _ in 0..40 {
                let config = ContainerConfig {
                    mounts: vec![
                        bind(&volume, "/volume", &[]),
                        tmpfs("/volume/a", &["mode=0777"]),
                        tmpfs("/volume/a/deeper", &[]),
                    ],
                    ..hull.command(&["touch", "/volume/a/made"])
                };
                if let Ok(output) = hull.try_output(config).await {
                    hull.remove(&output.id).await;
                }
                canary.check();
            }
        };
        tokio::task::block_in_place(|| tokio::runtime::Handle::current().block_on(attempts));
        stop.store(true, std::sync::atomic::Ordering::Relaxed);
    });
    let table = host::text("/proc/self/mountinfo");
    assert!(!table.contains(&canary.0.display().to_string()), "something is mounted over the canary");
}
