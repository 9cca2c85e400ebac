//! Each kind of namespace: private, the host's, another container's; seen from inside and from outside.

use std::os::unix::fs::MetadataExt as _;
use std::path::Path;
use std::time::Duration;

use hull_proto::v1::{
    ContainerConfig, Mount, MountType, Namespace, NamespaceMode, Namespaces, TimeOffsets, UserNamespaceMode,
};
use hull_tests::harness::{Session, SmallDisk, assert_error, duration, host};
use tonic::Code;

const KINDS: [&str; 5] = ["pid", "net", "ipc", "uts", "cgroup"];

fn host_mode() -> Option<Namespace> {
    Some(Namespace { mode: NamespaceMode::Host.into(), container: String::new() })
}

fn of(container: &str) -> Option<Namespace> {
    Some(Namespace { mode: NamespaceMode::Container.into(), container: container.into() })
}

fn one(kind: &str, namespace: Option<Namespace>) -> Option<Namespaces> {
    let mut all = Namespaces::default();
    match kind {
        "pid" => all.pid = namespace,
        "net" => all.network = namespace,
        "ipc" => all.ipc = namespace,
        "uts" => all.uts = namespace,
        _ => all.cgroup = namespace,
    }
    Some(all)
}

fn users() -> Option<Namespaces> {
    Some(Namespaces { user: UserNamespaceMode::Auto.into(), ..Namespaces::default() })
}

#[tokio::test]
async fn every_namespace_is_new_by_default_but_user_and_time() {
    let hull = Session::shared().await;
    let agent = hull.agent.pid();
    let report = hull.report(hull.probe(&[])).await;
    for kind in KINDS.iter().chain(&["mnt"]) {
        assert_ne!(report.namespaces[*kind], host::namespace(agent, kind), "{kind}");
        assert_ne!(report.namespaces[*kind], 0, "{kind}");
    }
    for kind in ["user", "time"] {
        assert_eq!(report.namespaces[kind], host::namespace(agent, kind), "{kind}");
    }
    assert_eq!((report.pid, report.parent), (1, 0));
    assert_eq!(report.interfaces, ["lo"]);
    assert!(report.cgroups.iter().all(|line| line.ends_with(":/")), "{:?}", report.cgroups);
}

#[tokio::test]
async fn inside_and_outside_agree_on_the_namespaces() {
    let hull = Session::shared().await;
    let id = hull.run(hull.shell("/probe; sleep 1000")).await;
    let line = hull.until_logged(&id, "}").await;
    assert!(!line.is_empty());
    let pid = hull.get(&id).await.pid;
    let text = hull.exec(&id, &["/probe"]).await.text();
    let inside: hull_tests::harness::Report = serde_json::from_str(&text).expect("a report");
    for (kind, inode) in &inside.namespaces {
        assert_eq!(host::namespace(pid, kind), *inode, "{kind}");
    }
}

#[tokio::test]
async fn each_kind_can_be_the_host_s() {
    let hull = Session::shared().await;
    let agent = hull.agent.pid();
    for kind in KINDS {
        let report = hull.report(ContainerConfig { namespaces: one(kind, host_mode()), ..hull.probe(&[]) }).await;
        for other in KINDS {
            let same = report.namespaces[other] == host::namespace(agent, other);
            assert_eq!(same, other == kind, "{other} with host {kind}");
        }
    }
}

#[tokio::test]
async fn each_kind_but_cgroup_can_be_another_container_s() {
    let hull = Session::shared().await;
    let first = hull.run(hull.probe(&["sleep"])).await;
    let pid = hull.get(&first).await.pid;
    for kind in ["pid", "net", "ipc", "uts"] {
        let report = hull.report(ContainerConfig { namespaces: one(kind, of(&first)), ..hull.probe(&[]) }).await;
        for other in KINDS {
            let same = report.namespaces[other] == host::namespace(pid, other);
            assert_eq!(same, other == kind, "{other} with {kind} of another");
        }
    }
    let refused = hull.try_create(ContainerConfig { namespaces: one("cgroup", of(&first)), ..hull.probe(&[]) }).await;
    assert_error(refused, Code::InvalidArgument, "INVALID_ARGUMENT", "cgroup");
}

#[tokio::test]
async fn a_container_s_namespace_needs_a_running_container() {
    let hull = Session::shared().await;
    let missing = ContainerConfig { namespaces: one("net", of("nobody")), ..hull.probe(&[]) };
    assert_error(hull.try_create(missing).await, Code::NotFound, "CONTAINER_NOT_FOUND", "nobody");
    let created = hull.create(hull.probe(&["sleep"])).await;
    let config = ContainerConfig { namespaces: one("net", of(&created)), ..hull.probe(&[]) };
    let status = hull.try_run(config).await.expect_err("that container does not run");
    assert_eq!(status.code(), Code::FailedPrecondition, "{status:?}");
}

#[tokio::test]
async fn processes_are_seen_within_the_pid_namespace_alone() {
    let hull = Session::shared().await;
    let output = hull.output(hull.shell("ls /proc | grep -c '^[0-9]'")).await;
    let seen: u32 = output.text().parse().expect("a number");
    assert!(seen <= 4, "sees {seen} processes");
    let id = hull.run(hull.probe(&["sleep"])).await;
    let shared = ContainerConfig { namespaces: one("pid", of(&id)), ..hull.shell("cat /proc/1/cmdline | head -c 6") };
    assert_eq!(hull.output(shared).await.text(), "/probe");
}

#[tokio::test]
async fn loopback_is_up_in_a_new_network_namespace() {
    let hull = Session::shared().await;
    // The server's input never ends: at its end the client would go, perhaps before it has said anything.
    let line = "mkfifo /tmp/in; nc -l -p 8000 127.0.0.1 <>/tmp/in >/tmp/got & \
                while ! echo hello | nc 127.0.0.1 8000; do sleep 0.05; done; wait; cat /tmp/got";
    assert!(hull.output(hull.shell(line)).await.text().contains("hello"));
    let up = hull.output(hull.shell("ip addr show lo")).await.text();
    assert!(up.contains("127.0.0.1/8") && up.contains("UP"), "{up}");
}

#[tokio::test]
async fn the_host_name_is_the_container_s_own() {
    let hull = Session::shared().await;
    let config = ContainerConfig { hostname: "inside".into(), domainname: "example".into(), ..hull.probe(&[]) };
    let report = hull.report(config).await;
    assert_eq!((report.hostname.as_str(), report.domainname.as_str()), ("inside", "example"));
    let id = hull.create(hull.shell("hostname; cat /etc/hostname; grep -c \"$(hostname)\" /etc/hosts")).await;
    hull.start(&id).await;
    hull.wait(&id).await;
    assert_eq!(hull.log_lines(&id).await, [&id[..12], &id[..12], "1"]);
    // With the host's namespace a name of its own is refused: it would be the host's that changes.
    let config = ContainerConfig { hostname: "inside".into(), namespaces: one("uts", host_mode()), ..hull.probe(&[]) };
    let status = hull.try_run(config).await.expect_err("refused");
    assert_eq!(status.code(), Code::InvalidArgument, "{status:?}");
}

#[tokio::test]
async fn ipc_objects_stay_inside() {
    let hull = Session::shared().await;
    let report = hull.report(hull.probe(&[])).await;
    let queue = report.mounts.iter().find(|mount| mount.point == "/dev/mqueue").expect("/dev/mqueue");
    assert_eq!(queue.fstype, "mqueue");
    let first = hull.run(hull.shell("mkdir -p /dev/shm; echo secret > /dev/shm/first; echo ready; sleep 1000")).await;
    hull.until_logged(&first, "ready").await;
    let other = hull.output(hull.shell("cat /dev/shm/first")).await;
    assert_ne!(other.exit.code, 0);
}

#[tokio::test]
async fn a_user_namespace_has_a_range_of_its_own() {
    let hull = Session::shared().await;
    let mut bases = Vec::new();
    for _ in 0..3 {
        let id = hull.run(ContainerConfig { namespaces: users(), ..hull.probe(&["sleep"]) }).await;
        let container = hull.get(&id).await;
        let base = container.userns_base;
        assert!(base >= 65_536, "{base}");
        let status = host::text(format!("/proc/{}/status", container.pid));
        assert!(status.contains(&format!("Uid:\t{base}\t{base}\t{base}\t{base}")), "{status}");
        let map = host::text(format!("/proc/{}/uid_map", container.pid));
        assert_eq!(map.split_whitespace().collect::<Vec<_>>(), ["0", &base.to_string(), "65536"]);
        bases.push(base);
    }
    bases.sort_unstable();
    assert!(bases.windows(2).all(|pair| pair[1] - pair[0] >= 65_536), "{bases:?}");
}

#[tokio::test]
async fn inside_a_user_namespace_root_is_root_and_owns_its_files() {
    let hull = Session::shared().await;
    let report = hull.report(ContainerConfig { namespaces: users(), ..hull.probe(&[]) }).await;
    assert_eq!((report.uids.as_slice(), report.gids.as_slice()), ([0; 4].as_slice(), [0; 4].as_slice()));
    assert_ne!(report.namespaces["user"], host::own_namespace("user"));
    // Devices are the host's own nodes, bound: they belong to the host's root, whom the container does not know.
    for node in report.dev.iter().filter(|node| node.kind != "char") {
        assert!(node.uid < 65_534, "{node:?} belongs to nobody that the container knows");
    }
    let line = "stat -c '%u %g' / /etc/passwd /bin /tmp /proc/1 /dev /dev/mqueue /home; touch /new && stat -c '%u %g' /new; \
                chown 1000:1000 /etc/group && stat -c '%u %g' /etc/group";
    let output = hull.output(ContainerConfig { namespaces: users(), ..hull.shell(line) }).await;
    assert_eq!(output.exit.code, 0, "{}", String::from_utf8_lossy(&output.stderr));
    assert_eq!(output.lines(), ["0 0", "0 0", "0 0", "0 0", "0 0", "0 0", "0 0", "0 0", "0 0", "1000 1000"]);
}

fn bind(source: &Path, target: &str) -> Mount {
    let source = source.display().to_string();
    Mount { r#type: MountType::Bind.into(), source, target: target.into(), ..Mount::default() }
}

#[tokio::test]
async fn outside_a_user_namespace_s_files_belong_to_its_range() {
    let hull = Session::shared().await;
    let shared = hull.agent.scratch(&hull.name("bind"));
    std::fs::write(shared.join("from-host"), "x").expect("writing");
    std::fs::set_permissions(&shared, std::os::unix::fs::PermissionsExt::from_mode(0o777)).expect("chmod");
    let line = "stat -c '%u' /shared/from-host; touch /shared/from-container; touch /inside; echo done; sleep 1000";
    let mounts = vec![bind(&shared, "/shared")];
    let id = hull.run(ContainerConfig { namespaces: users(), mounts, ..hull.shell(line) }).await;
    hull.until_logged(&id, "done").await;
    // The bind mount is id-mapped: root inside is root of that tree outside.
    assert_eq!(hull.log_lines(&id).await[0], "0");
    let made = std::fs::metadata(shared.join("from-container")).expect("the container's file");
    assert_eq!((made.uid(), made.gid()), (0, 0));
    let container = hull.get(&id).await;
    let inside =
        std::fs::metadata(format!("/proc/{}/root/inside", container.pid)).expect("a file of the root file system");
    assert_eq!((inside.uid(), inside.gid()), (container.userns_base, container.userns_base));
}

#[tokio::test]
async fn a_bind_mount_whose_ids_the_kernel_does_not_map_is_refused() {
    let disk = SmallDisk::new(1 << 20, 16);
    let hull = Session::shared().await;
    std::fs::create_dir(disk.data_dir()).expect("creating");
    let mounts = vec![bind(&disk.data_dir(), "/shared")];
    let config = ContainerConfig { namespaces: users(), mounts, ..hull.shell("stat -c '%u' /shared") };
    if host::kernel() < (6, 3) {
        let status = hull.try_run(config).await;
        assert_error(status, Code::FailedPrecondition, "START_FAILED", "takes no id map on this kernel: EINVAL");
    } else {
        assert_eq!(hull.output(config).await.text(), "0");
    }
}

#[tokio::test]
async fn a_user_namespace_has_no_power_over_the_host_s() {
    let hull = Session::shared().await;
    let config = ContainerConfig {
        namespaces: users(),
        ..hull.shell("echo 1 > /proc/sys/kernel/panic; echo $?; mknod /n c 1 3; echo $?")
    };
    let lines = hull.output(config).await.lines();
    assert!(lines.iter().all(|line| line != "0"), "{lines:?}");
}

#[tokio::test]
async fn a_user_namespace_goes_with_every_other_kind_of_the_container() {
    let hull = Session::shared().await;
    // A host namespace beside a user namespace of one's own gives away what the latter protects; each is either refused by name or works.
    for kind in KINDS {
        let namespaces = Namespaces { user: UserNamespaceMode::Auto.into(), ..one(kind, host_mode()).expect("some") };
        match hull.try_output(ContainerConfig { namespaces: Some(namespaces), ..hull.probe(&[]) }).await {
            Ok(output) => assert_eq!(output.exit.code, 0, "{kind}"),
            Err(status) => {
                assert!(matches!(status.code(), Code::InvalidArgument | Code::FailedPrecondition), "{kind}: {status:?}")
            }
        }
    }
}

#[tokio::test]
async fn clocks_are_offset_in_a_time_namespace() {
    let hull = Session::shared().await;
    let days = |days: u64| Some(duration(Duration::from_secs(days * 86_400)));
    let time = Some(TimeOffsets { monotonic: days(7), boottime: days(30) });
    let namespaces = Some(Namespaces { time, ..Namespaces::default() });
    let plain = hull.report(hull.probe(&[])).await;
    let offset = hull.report(ContainerConfig { namespaces, ..hull.probe(&[]) }).await;
    assert_ne!(offset.namespaces["time"], plain.namespaces["time"]);
    let slack = 600;
    assert!((7 * 86_400..7 * 86_400 + slack).contains(&(offset.monotonic - plain.monotonic)));
    assert!((30 * 86_400..30 * 86_400 + slack).contains(&(offset.boottime - plain.boottime)));
}

#[tokio::test]
async fn an_exec_is_in_the_container_s_namespaces_and_cgroup() {
    let hull = Session::shared().await;
    let days = Some(duration(Duration::from_secs(86_400)));
    let time = Some(TimeOffsets { monotonic: days, boottime: days });
    let namespaces = Some(Namespaces { time, user: UserNamespaceMode::Auto.into(), ..Namespaces::default() });
    let id = hull.run(ContainerConfig { namespaces, ..hull.probe(&["sleep"]) }).await;
    let pid = hull.get(&id).await.pid;
    let text = hull.exec(&id, &["/probe"]).await.text();
    let report: hull_tests::harness::Report = serde_json::from_str(&text).expect("a report");
    for (kind, inode) in &report.namespaces {
        assert_eq!(host::namespace(pid, kind), *inode, "{kind}");
    }
    assert!(report.cgroups.iter().all(|line| line.ends_with(":/")), "{:?}", report.cgroups);
}

#[tokio::test]
async fn a_container_whose_namespace_is_used_may_end_first() {
    let hull = Session::shared().await;
    let first = hull.run(hull.probe(&["sleep"])).await;
    let second = hull.run(ContainerConfig { namespaces: one("net", of(&first)), ..hull.probe(&["sleep"]) }).await;
    hull.remove(&first).await;
    assert_eq!(hull.exec(&second, &["ip", "-o", "link"]).await.exit.code, 0);
    hull.remove(&second).await;
}
