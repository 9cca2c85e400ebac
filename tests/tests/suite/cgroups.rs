//! Limits, as the kernel's own files say, on whichever version of control groups the machine has.

use std::path::Path;
use std::time::Duration;

use hull_proto::v1::{ContainerConfig, Resources, UpdateContainerRequest};
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
