//! Limits, as the kernel's own files say, on whichever version of control groups the machine has.

use std::path::Path;
use std::time::Duration;

use hull_proto::v1::{ContainerConfig, IoMax, Resources, UpdateContainerRequest};
use hull_tests::harness::{Session, assert_error, host, wait};
use tonic::Code;

const MIB: i64 = 1 << 20;

fn limited(config: ContainerConfig, resources: Resources) -> ContainerConfig {
    ContainerConfig { resources: Some(resources), ..config }
}

/// A limit as the kernel has it: (controller, v2 file, v1 file).
async fn read(hull: &Session, id: &str, controller: &str, v2: &str, v1: &str) -> String {
    let cgroup = hull.get(id).await.cgroup_path;
    assert!(cgroup.starts_with(hull.agent.cgroup()), "{cgroup}");
    host::text(host::cgroup_file(controller, &cgroup, v2, v1)).trim().to_owned()
}

/// The same, as a process in the container reads it.
async fn read_inside(hull: &Session, id: &str, controller: &str, v2: &str, v1: &str) -> String {
    let path = host::cgroup_file(controller, "", v2, v1);
    hull.exec(id, &["cat", path.to_str().expect("UTF-8")]).await.text()
}

async fn update(hull: &Session, id: &str, resources: Resources) -> Result<Resources, tonic::Status> {
    let request = UpdateContainerRequest { container: id.into(), resources: Some(resources) };
    let answer = hull.clients.containers.clone().update_container(request).await?;
    Ok(answer.into_inner().resources.expect("resources in the answer"))
}

#[tokio::test]
async fn limits_reach_the_kernel() {
    let hull = Session::shared().await;
    let resources = Resources {
        memory_max: Some(64 * MIB),
        memory_low: Some(8 * MIB),
        cpu_weight: Some(50),
        cpu_quota: Some(25_000),
        cpu_period: Some(50_000),
        cpuset_cpus: Some("0".into()),
        cpuset_mems: Some("0".into()),
        pids_max: Some(77),
        ..Resources::default()
    };
    let id = hull.run(limited(hull.probe(&["sleep"]), resources)).await;
    let v2 = host::is_pure_v2();
    assert_eq!(read(&hull, &id, "memory", "memory.max", "memory.limit_in_bytes").await, (64 * MIB).to_string());
    assert_eq!(read(&hull, &id, "memory", "memory.low", "memory.soft_limit_in_bytes").await, (8 * MIB).to_string());
    if v2 {
        assert_eq!(read(&hull, &id, "cpu", "cpu.weight", "").await, "50");
        assert_eq!(read(&hull, &id, "cpu", "cpu.max", "").await, "25000 50000");
    } else {
        assert_eq!(read(&hull, &id, "cpu", "", "cpu.cfs_quota_us").await, "25000");
        assert_eq!(read(&hull, &id, "cpu", "", "cpu.cfs_period_us").await, "50000");
        let shares: u64 = read(&hull, &id, "cpu", "", "cpu.shares").await.parse().expect("a number");
        assert!((400..=1400).contains(&shares), "a weight of 50 is about half of the default 1024 shares: {shares}");
    }
    assert_eq!(read(&hull, &id, "cpuset", "cpuset.cpus", "cpuset.cpus").await, "0");
    assert_eq!(read(&hull, &id, "cpuset", "cpuset.mems", "cpuset.mems").await, "0");
    assert_eq!(read(&hull, &id, "pids", "pids.max", "pids.max").await, "77");
}

#[tokio::test]
async fn limits_that_one_version_lacks_are_refused_there_by_name() {
    let hull = Session::shared().await;
    let result = hull
        .try_run(limited(hull.probe(&["sleep"]), Resources { memory_high: Some(32 * MIB), ..Resources::default() }))
        .await;
    if host::is_pure_v2() {
        let id = result.expect("version 2 has memory.high");
        assert_eq!(read(&hull, &id, "memory", "memory.high", "").await, (32 * MIB).to_string());
    } else {
        assert_error(result, Code::FailedPrecondition, "UNSUPPORTED_FEATURE", "memory");
    }
}

#[tokio::test]
async fn swap_is_limited_beside_memory() {
    let hull = Session::shared().await;
    // Version 1 counts memory and swap together.
    let with_memory = |memory: i64, swap: i64| (if host::is_pure_v2() { swap } else { memory + swap }).to_string();
    let resources = Resources { memory_max: Some(64 * MIB), memory_swap_max: Some(16 * MIB), ..Resources::default() };
    let id = hull.run(limited(hull.probe(&["sleep"]), resources)).await;
    let (v2, v1) = ("memory.swap.max", "memory.memsw.limit_in_bytes");
    assert_eq!(read(&hull, &id, "memory", v2, v1).await, with_memory(64 * MIB, 16 * MIB));
    assert_eq!(read_inside(&hull, &id, "memory", v2, v1).await, with_memory(64 * MIB, 16 * MIB));
    let no_swap = Resources { memory_swap_max: Some(0), ..Resources::default() };
    update(&hull, &id, no_swap.clone()).await.expect("no swap");
    assert_eq!(read(&hull, &id, "memory", v2, v1).await, with_memory(64 * MIB, 0));
    // More memory alone: what is allowed of swap stays.
    update(&hull, &id, Resources { memory_max: Some(96 * MIB), ..Resources::default() }).await.expect("more memory");
    assert_eq!(read(&hull, &id, "memory", v2, v1).await, with_memory(96 * MIB, 0));
    let alone = hull.try_run(limited(hull.probe(&["sleep"]), no_swap)).await;
    if host::is_pure_v2() {
        assert_eq!(read(&hull, &alone.expect("version 2 limits swap alone"), "memory", v2, v1).await, "0");
    } else {
        assert_error(alone, Code::InvalidArgument, "INVALID_ARGUMENT", "memory_swap_max");
    }
}

/// A whole disk, and its number as the kernel's files have it.
fn disk() -> (String, String) {
    let mut disks: Vec<_> = std::fs::read_dir("/sys/block").expect("/sys/block").flatten().collect();
    disks.sort_by_key(std::fs::DirEntry::file_name);
    let found = disks.iter().find_map(|entry| {
        let node = Path::new("/dev").join(entry.file_name());
        // A loop device may go at any moment.
        let is_disk = entry.path().join("device").exists() && node.exists();
        is_disk.then(|| (node.display().to_string(), host::text(entry.path().join("dev")).trim().to_owned()))
    });
    found.expect("a disk: these tests limit what a container may do to it")
}

#[tokio::test]
async fn input_and_output_are_limited_per_device() {
    let hull = Session::shared().await;
    let (device, number) = disk();
    let limit = IoMax { device: device.clone(), read_bps: Some(1 << 20), write_iops: Some(50), ..IoMax::default() };
    let resources = Resources { io_max: vec![limit], ..Resources::default() };
    let id = hull.run(limited(hull.probe(&["sleep"]), resources)).await;
    let files =
        ["read_bps", "write_bps", "read_iops", "write_iops"].map(|what| format!("blkio.throttle.{what}_device"));
    let limits = async || {
        let (mut outside, mut inside) = (Vec::new(), Vec::new());
        for file in if host::is_pure_v2() { &files[..1] } else { &files } {
            outside.push(read(&hull, &id, "blkio", "io.max", file).await);
            inside.push(read_inside(&hull, &id, "blkio", "io.max", file).await);
        }
        assert_eq!(outside, inside);
        outside
    };
    if host::is_pure_v2() {
        assert_eq!(limits().await, [format!("{number} rbps=1048576 wbps=max riops=max wiops=50")]);
    } else {
        assert_eq!(limits().await, [format!("{number} 1048576"), String::new(), String::new(), format!("{number} 50")]);
    }
    // The new limits of a device replace the old ones whole.
    // So little that what the container's end writes would take very long: it must not hold up the removal.
    let limit = IoMax { device, write_bps: Some(4096), ..IoMax::default() };
    update(&hull, &id, Resources { io_max: vec![limit], ..Resources::default() }).await.expect("UpdateContainer");
    if host::is_pure_v2() {
        assert_eq!(limits().await, [format!("{number} rbps=max wbps=4096 riops=max wiops=max")]);
    } else {
        assert_eq!(limits().await, [String::new(), format!("{number} 4096"), String::new(), String::new()]);
    }
    for wrong in ["/dev/null", "/dev/no-such-disk", "/etc/passwd", "vda", ""] {
        let limit = IoMax { device: wrong.into(), read_bps: Some(1 << 20), ..IoMax::default() };
        let resources = Resources { io_max: vec![limit], ..Resources::default() };
        let refused = hull.try_run(limited(hull.probe(&[]), resources.clone())).await;
        assert_error(refused, Code::InvalidArgument, "INVALID_ARGUMENT", "io_max");
        let refused = update(&hull, &id, resources).await;
        assert_error(refused, Code::InvalidArgument, "INVALID_ARGUMENT", "io_max");
    }
}

#[tokio::test]
async fn the_share_of_input_and_output_is_set_where_the_kernel_has_shares() {
    let hull = Session::shared().await;
    let resources = Resources { io_weight: Some(500), ..Resources::default() };
    let started = hull.try_run(limited(hull.probe(&["sleep"]), resources)).await;
    // Of the iocost policy, and of the BFQ scheduler, whose scale is a tenth as long.
    let files = [("io.weight", "default 500"), ("io.bfq.weight", "136"), ("blkio.bfq.weight", "136")];
    let Ok(id) = &started else {
        assert_error(started, Code::FailedPrecondition, "UNSUPPORTED_FEATURE", "io_weight");
        let parent = host::cgroup_file("blkio", hull.agent.cgroup(), "", "");
        assert!(files.iter().all(|(file, _)| !parent.join(file).exists()), "refused, but the kernel has it");
        return;
    };
    let mut set = 0;
    for (file, expected) in files {
        let outside = read(&hull, id, "blkio", file, file).await;
        if !outside.is_empty() {
            let words = outside.lines().next().unwrap_or_default();
            assert_eq!(words.trim_start_matches("default "), expected.trim_start_matches("default "), "{file}");
            assert_eq!(read_inside(&hull, id, "blkio", file, file).await, outside);
            set += 1;
        }
    }
    assert!(set > 0, "no file of the kernel has the weight");
}

#[tokio::test]
async fn huge_pages_are_limited_where_the_kernel_has_the_controller() {
    let hull = Session::shared().await;
    if !host::is_pure_v2() && host::text(host::unified_root().join("cgroup.controllers")).contains("hugetlb") {
        eprintln!("skipped: would enable a controller at the root of a hierarchy that others use");
        return;
    }
    let hugetlb = |size: &str| Resources { hugetlb: [(size.to_owned(), 4 << 20)].into(), ..Resources::default() };
    let controllers = host::text("/sys/fs/cgroup/cgroup.controllers");
    let started = hull.try_run(limited(hull.probe(&["sleep"]), hugetlb("2MB"))).await;
    if controllers.split_whitespace().any(|name| name == "hugetlb") || Path::new("/sys/fs/cgroup/hugetlb").exists() {
        let id = started.expect("the kernel has the controller");
        let (v2, v1) = ("hugetlb.2MB.max", "hugetlb.2MB.limit_in_bytes");
        assert_eq!(read(&hull, &id, "hugetlb", v2, v1).await, (4 * MIB).to_string());
        assert_eq!(read_inside(&hull, &id, "hugetlb", v2, v1).await, (4 * MIB).to_string());
    } else {
        assert_error(started, Code::FailedPrecondition, "UNSUPPORTED_FEATURE", "hugetlb");
    }
    let unknown = hull.try_run(limited(hull.probe(&["sleep"]), hugetlb("3MB"))).await;
    assert_error(unknown, Code::FailedPrecondition, "UNSUPPORTED_FEATURE", "hugetlb");
    let wrong = hull.try_create(limited(hull.probe(&["sleep"]), hugetlb("../x"))).await;
    assert_error(wrong, Code::InvalidArgument, "INVALID_ARGUMENT", "hugetlb");
}

#[tokio::test]
async fn every_process_is_in_the_container_s_groups_from_its_birth() {
    let hull = Session::shared().await;
    let id = hull
        .run(limited(
            hull.shell("sleep 1000 & sleep 1000 & wait"),
            Resources { pids_max: Some(50), ..Resources::default() },
        ))
        .await;
    let container = hull.get(&id).await;
    let groups = host::text(format!("/proc/{}/cgroup", container.pid));
    let mine = container.cgroup_path.trim_start_matches('/');
    let inside = groups.lines().filter(|line| line.contains(mine)).count();
    if host::is_pure_v2() {
        assert_eq!((inside, groups.lines().count()), (1, 1), "{groups}");
    } else {
        for controller in ["memory", "pids", "cpu", "devices"] {
            let line = groups.lines().find(|line| {
                line.split(':').nth(1).is_some_and(|names| names.split(',').any(|name| name == controller))
            });
            assert!(line.is_some_and(|line| line.contains(mine)), "{controller}: {groups}");
        }
    }
    // The shim and the agent are in no container's group.
    for pid in host::cgroup_processes(&container.cgroup_path) {
        let name = host::stat(pid).expect("a process").2;
        assert!(!name.starts_with("hull"), "{name} is in the container's group");
    }
}

#[tokio::test]
async fn limits_change_while_the_container_runs() {
    let hull = Session::shared().await;
    let id = hull
        .run(limited(
            hull.probe(&["sleep"]),
            Resources { memory_max: Some(64 * MIB), pids_max: Some(10), ..Resources::default() },
        ))
        .await;
    let after =
        update(&hull, &id, Resources { memory_max: Some(128 * MIB), cpu_quota: Some(30_000), ..Resources::default() })
            .await;
    let after = after.expect("UpdateContainer");
    assert_eq!((after.memory_max, after.pids_max, after.cpu_quota), (Some(128 * MIB), Some(10), Some(30_000)));
    assert_eq!(read(&hull, &id, "memory", "memory.max", "memory.limit_in_bytes").await, (128 * MIB).to_string());
    assert_eq!(read(&hull, &id, "pids", "pids.max", "pids.max").await, "10");
    update(
        &hull,
        &id,
        Resources { pids_max: Some(-1), memory_max: Some(32 * MIB), cpu_quota: Some(-1), ..Resources::default() },
    )
    .await
    .expect("lower");
    assert_eq!(read(&hull, &id, "pids", "pids.max", "pids.max").await, "max");
    assert_eq!(read(&hull, &id, "memory", "memory.max", "memory.limit_in_bytes").await, (32 * MIB).to_string());
    let quota = read(&hull, &id, "cpu", "cpu.max", "cpu.cfs_quota_us").await;
    assert!(quota == "-1" || quota.starts_with("max "), "{quota}");
    assert_eq!(hull.get(&id).await.config.expect("config").resources.expect("resources").memory_max, Some(32 * MIB));
}

#[tokio::test]
async fn limits_change_before_the_start_and_between_starts() {
    let hull = Session::shared().await;
    let id = hull.create(hull.probe(&["sleep"])).await;
    update(&hull, &id, Resources { pids_max: Some(33), ..Resources::default() }).await.expect("UpdateContainer");
    hull.start(&id).await;
    assert_eq!(read(&hull, &id, "pids", "pids.max", "pids.max").await, "33");
    hull.stop(&id, Some(Duration::ZERO)).await;
    update(&hull, &id, Resources { pids_max: Some(44), ..Resources::default() }).await.expect("UpdateContainer");
    hull.start(&id).await;
    assert_eq!(read(&hull, &id, "pids", "pids.max", "pids.max").await, "44");
}

#[tokio::test]
async fn wrong_limits_are_refused_by_name() {
    let hull = Session::shared().await;
    let none = Resources::default;
    let wrong: [(&str, Resources); 14] = [
        ("memory_max", Resources { memory_max: Some(1), ..none() }),
        ("memory_max", Resources { memory_max: Some(0), ..none() }),
        ("memory_max", Resources { memory_max: Some(-2), ..none() }),
        ("memory_low", Resources { memory_low: Some(-2), ..none() }),
        ("memory_swap_max", Resources { memory_swap_max: Some(-2), ..none() }),
        ("cpu_weight", Resources { cpu_weight: Some(0), ..none() }),
        ("cpu_weight", Resources { cpu_weight: Some(10_001), ..none() }),
        ("cpu_quota", Resources { cpu_quota: Some(999), ..none() }),
        ("cpu_period", Resources { cpu_period: Some(999), ..none() }),
        ("cpu_period", Resources { cpu_period: Some(1_000_001), ..none() }),
        ("cpuset_cpus", Resources { cpuset_cpus: Some("0-".into()), ..none() }),
        ("cpuset_mems", Resources { cpuset_mems: Some("../..".into()), ..none() }),
        ("pids_max", Resources { pids_max: Some(0), ..none() }),
        ("io_weight", Resources { io_weight: Some(0), ..none() }),
    ];
    let running = hull.run(hull.probe(&["sleep"])).await;
    for (field, resources) in wrong {
        assert_error(
            hull.try_create(limited(hull.probe(&[]), resources.clone())).await,
            Code::InvalidArgument,
            "INVALID_ARGUMENT",
            field,
        );
        assert_error(update(&hull, &running, resources).await, Code::InvalidArgument, "INVALID_ARGUMENT", field);
    }
    let absent = limited(hull.probe(&[]), Resources { cpuset_cpus: Some("4000".into()), ..none() });
    let status = hull.try_run(absent).await.expect_err("no such processor");
    assert!(matches!(status.code(), Code::InvalidArgument | Code::FailedPrecondition), "{status:?}");
}

#[tokio::test]
async fn the_out_of_memory_killer_is_reported() {
    let hull = Session::shared().await;
    let resources = || Resources { memory_max: Some(24 * MIB), memory_swap_max: Some(0), ..Resources::default() };
    let output = hull.output(limited(hull.probe(&["alloc", "200"]), resources())).await;
    assert_eq!((output.exit.code, output.exit.signal, output.exit.oom_killed), (137, 9, true));
    assert!(hull.get(&output.id).await.exit.expect("an exit").oom_killed);
    // A child that is killed counts too, and does not change how init ended.
    let child = hull.output(limited(hull.shell("/probe alloc 200; echo $?; exit 3"), resources())).await;
    assert_eq!((child.exit.code, child.exit.signal, child.exit.oom_killed), (3, 0, true));
    let calm = hull.output(limited(hull.probe(&["exit", "0"]), resources())).await;
    assert!(!calm.exit.oom_killed);
}

#[tokio::test]
async fn a_kill_by_the_user_is_no_out_of_memory_kill() {
    let hull = Session::shared().await;
    let id = hull
        .run(limited(hull.probe(&["sleep"]), Resources { memory_max: Some(24 * MIB), ..Resources::default() }))
        .await;
    hull.kill(&id, "KILL").await;
    let exit = hull.wait(&id).await;
    assert_eq!((exit.code, exit.oom_killed), (137, false));
}

#[tokio::test]
async fn the_number_of_processes_is_limited() {
    let hull = Session::shared().await;
    let id =
        hull.run(limited(hull.probe(&["fork", "40"]), Resources { pids_max: Some(10), ..Resources::default() })).await;
    assert_eq!(hull.until_logged(&id, "forked").await, "forked 9 11");
}

#[tokio::test]
async fn a_container_sees_its_own_groups_read_only() {
    let hull = Session::shared().await;
    let file =
        if host::is_pure_v2() { "/sys/fs/cgroup/memory.max" } else { "/sys/fs/cgroup/memory/memory.limit_in_bytes" };
    let line = format!(
        "cat {file}; /probe open w {file}; ls -d /sys/fs/cgroup/*/hull-test* /sys/fs/cgroup/hull-test* 2>/dev/null; cat /proc/self/cgroup"
    );
    let lines = hull
        .output(limited(hull.shell(&line), Resources { memory_max: Some(48 * MIB), ..Resources::default() }))
        .await
        .lines();
    assert_eq!(lines[..2], [(48 * MIB).to_string(), "30".into()]);
    assert!(lines[2..].iter().all(|line| line.ends_with(":/")), "{lines:?}");
}

#[tokio::test]
async fn freezing_is_seen_in_the_kernel_s_files() {
    let hull = Session::shared().await;
    let id = hull.run(hull.probe(&["sleep"])).await;
    let state = async || read(&hull, &id, "freezer", "cgroup.freeze", "freezer.state").await;
    let pause = hull_proto::v1::PauseContainerRequest { container: id.clone() };
    hull.clients.containers.clone().pause_container(pause).await.expect("PauseContainer");
    let frozen = state().await;
    // On a hybrid machine version 2's freezer may be the one that is used.
    let unified =
        host::unified_root().join(hull.get(&id).await.cgroup_path.trim_start_matches('/')).join("cgroup.events");
    assert!(frozen == "FROZEN" || host::text(unified).contains("frozen 1"), "{frozen}");
    let resume = hull_proto::v1::ResumeContainerRequest { container: id.clone() };
    hull.clients.containers.clone().resume_container(resume).await.expect("ResumeContainer");
    assert_ne!(state().await, "FROZEN");
    assert_eq!(hull.exec(&id, &["true"]).await.exit.code, 0);
}

#[tokio::test]
async fn groups_go_with_the_container() {
    let hull = Session::own().await;
    let id = hull
        .run(limited(hull.probe(&["sleep"]), Resources { memory_max: Some(64 * MIB), ..Resources::default() }))
        .await;
    let cgroup = hull.get(&id).await.cgroup_path;
    let paths: Vec<_> = host::cgroup_roots()
        .iter()
        .map(|root| root.join(cgroup.trim_start_matches('/')))
        .filter(|path| path.exists())
        .collect();
    assert!(!paths.is_empty());
    hull.stop(&id, Some(Duration::ZERO)).await;
    hull.remove(&id).await;
    wait::until("its groups are gone", || paths.iter().all(|path| !Path::new(path).exists()).then_some(()));
    hull.agent.assert_no_container_left();
}
