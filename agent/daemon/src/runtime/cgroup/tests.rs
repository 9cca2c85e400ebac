//! Against the real kernel, in whatever mode it is. Each test has a parent of its own and leaves nothing behind.
#![expect(clippy::print_stderr, reason = "tests say why they are skipped and what they measured")]

use std::fs;
use std::os::unix::process::ExitStatusExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use nix::errno::Errno;
use nix::sys::signal::Signal;

use super::apply::Place;
use super::hierarchy::{Controller, Version};
use super::{CgroupManager, CgroupMode, ContainerCgroup};
use crate::error::{Error, Reason};
use crate::lifecycle::config::{IoMax, Resources};

const MIB: i64 = 1 << 20;

/// A manager below a parent of its own; when it goes, no group may be left.
struct Bench {
    manager: CgroupManager,
    parent: String,
}

impl Bench {
    /// One for the host as it is and, on a hybrid host, one as if it were legacy. None where the test cannot make groups (not
    /// root), which is said.
    fn each(name: &str) -> Vec<Self> {
        if !nix::unistd::geteuid().is_root() {
            eprintln!("skipped: needs root to make control groups");
            return Vec::new();
        }
        let parent = |mode| format!("/hull-test-{}-{name}-{mode}/pods", std::process::id());
        let (here, legacy) = (parent("here"), parent("legacy"));
        let mut benches = vec![Self { manager: CgroupManager::detect(&here).unwrap(), parent: here }];
        if benches[0].manager.mode() == CgroupMode::Hybrid {
            let manager = CgroupManager::detect_legacy(&legacy).unwrap();
            benches.push(Self { manager, parent: legacy });
        }
        benches
    }

    fn create(&self, id: &str, resources: &Resources) -> ContainerCgroup {
        self.manager.create(id, resources, &["c 1:3 rwm".to_owned(), "c 1:5 rm".to_owned()]).unwrap()
    }

    fn refused(&self, resources: &Resources) -> Error {
        let error = self.manager.create("refused", resources, &[]).unwrap_err();
        assert_eq!(error.step, Some(hull_wire::Step::Cgroup));
        assert_eq!(self.manager.list().unwrap(), Vec::<String>::new(), "{error}");
        error
    }

    fn v1_memory(&self) -> bool {
        self.manager.host.memory_version() == Version::V1
    }
}

impl Drop for Bench {
    fn drop(&mut self) {
        if std::thread::panicking() {
            for id in self.manager.list().unwrap_or_default() {
                if let Some(group) = self.manager.open(&id) {
                    let _ = group.thaw();
                    let _ = group.kill();
                    let _ = group.remove();
                }
            }
        }
        self.manager.remove_parent().unwrap();
        let top = self.parent.trim_end_matches("/pods").trim_start_matches('/');
        for hierarchy in &self.manager.host.hierarchies {
            assert!(!hierarchy.mount.join(top).exists(), "left in {}", hierarchy.mount.display());
        }
    }
}

/// A process in a container's groups, put there as the shim does on version 1.
struct Member(Child);

impl Member {
    fn new(group: &ContainerCgroup, program: &str, args: &[&str]) -> Self {
        let child = Command::new(program).args(args).stdout(Stdio::null()).spawn().unwrap();
        let pid = child.id().to_string();
        let plan = group.plan();
        for tasks in plan
            .v1_tasks
            .iter()
            .map(PathBuf::from)
            .chain(plan.unified.map(|dir| PathBuf::from(dir).join("cgroup.procs")))
        {
            fs::write(&tasks, &pid).unwrap();
        }
        Self(child)
    }

    fn sleep(group: &ContainerCgroup) -> Self {
        Self::new(group, "sleep", &["1000"])
    }

    fn signal(mut self) -> Option<i32> {
        self.0.wait().unwrap().signal()
    }
}

fn value(group: &ContainerCgroup, controller: Controller, v1: &str, v2: &str) -> String {
    let (dir, version) = group.place(controller).unwrap();
    let name = if version == Version::V1 { v1 } else { v2 };
    fs::read_to_string(dir.join(name)).unwrap().trim().to_owned()
}

fn bound() -> Resources {
    Resources {
        memory_max: Some(64 * MIB),
        memory_low: Some(16 * MIB),
        memory_swap_max: Some(8 * MIB),
        cpu_weight: Some(200),
        cpu_quota: Some(50_000),
        cpu_period: Some(200_000),
        cpuset_cpus: Some("0".to_owned()),
        pids_max: Some(100),
        ..Resources::default()
    }
}

#[test]
fn limits_reach_the_kernel() {
    for bench in Bench::each("limits") {
        let group = bench.create("c1", &bound());
        let v1 = bench.v1_memory();
        assert_eq!(value(&group, Controller::Memory, "memory.limit_in_bytes", "memory.max"), (64 * MIB).to_string());
        assert_eq!(
            value(&group, Controller::Memory, "memory.soft_limit_in_bytes", "memory.low"),
            (16 * MIB).to_string()
        );
        let swap = if v1 { 72 * MIB } else { 8 * MIB };
        assert_eq!(
            value(&group, Controller::Memory, "memory.memsw.limit_in_bytes", "memory.swap.max"),
            swap.to_string()
        );
        let weight = value(&group, Controller::Cpu, "cpu.shares", "cpu.weight");
        assert!(weight == "200" || weight == "2048", "{weight}");
        let max = value(&group, Controller::Cpu, "cpu.cfs_quota_us", "cpu.max");
        assert!(max == "50000 200000" || max == "50000", "{max}");
        assert_eq!(value(&group, Controller::Cpuset, "cpuset.cpus", "cpuset.cpus"), "0");
        assert_eq!(value(&group, Controller::Pids, "pids.max", "pids.max"), "100");
        assert_eq!(bench.manager.list().unwrap(), ["c1"]);
        assert_eq!(group.path(), format!("{}/c1", bench.parent));
        group.remove().unwrap();
        group.remove().unwrap();
        assert!(bench.manager.open("c1").is_none());
    }
}

#[test]
fn the_plan_names_what_exists() {
    for bench in Bench::each("plan") {
        let group = bench.create("c1", &Resources::default());
        let plan = group.plan();
        let files = plan.v1_tasks.iter().chain(&plan.unified).chain(&plan.oom_file);
        for file in files {
            assert!(PathBuf::from(file).exists(), "{file}");
        }
        assert_eq!(plan.unified.is_some(), bench.manager.mode() != CgroupMode::Legacy);
        assert_eq!(plan.v1_tasks.is_empty(), bench.manager.mode() == CgroupMode::Unified);
        assert!(fs::read_to_string(plan.oom_file.unwrap()).unwrap().contains("oom_kill 0"));
        assert_eq!(bench.manager.open("c1").unwrap().plan().v1_tasks, plan.v1_tasks);
        if let Some((dir, Version::V1)) = group.place(Controller::Devices) {
            assert_eq!(fs::read_to_string(dir.join("devices.list")).unwrap(), "c 1:3 rwm\nc 1:5 rm\n");
        }
        group.remove().unwrap();
    }
}

#[test]
fn a_refused_value_names_its_field_and_leaves_nothing() {
    for bench in Bench::each("refused") {
        let io_max = |device: &str| IoMax { device: device.to_owned(), read_bps: Some(1 << 20), ..IoMax::default() };
        let cases = [
            (Resources { cpu_quota: Some(10), ..bound() }, "cpu_quota"),
            (Resources { cpu_period: Some(3), ..bound() }, "cpu_quota"),
            (Resources { cpuset_cpus: Some("4000".to_owned()), ..bound() }, "cpuset_cpus"),
            (Resources { cpuset_mems: Some("63".to_owned()), ..bound() }, "cpuset_mems"),
            (Resources { pids_max: Some(i64::MAX), ..bound() }, "pids_max"),
            (Resources { io_max: vec![io_max("/dev/null")], ..bound() }, "io_max"),
            (Resources { io_max: vec![io_max("/dev/hull-no-such")], ..bound() }, "io_max"),
        ];
        for (resources, field) in cases {
            let error = bench.refused(&resources);
            assert_eq!(error.reason, Reason::InvalidArgument, "{error}");
            assert!(error.message.starts_with(field), "{error}");
        }
        let huge = Resources { hugetlb: [("3MB".to_owned(), 1)].into(), ..Resources::default() };
        if bench.manager.mode() == CgroupMode::Unified {
            assert_eq!(bench.refused(&huge).reason, Reason::UnsupportedFeature);
        }
        if bench.v1_memory() {
            let error = bench.refused(&Resources { memory_high: Some(MIB), ..bound() });
            assert_eq!(error.reason, Reason::UnsupportedFeature, "{error}");
            assert!(error.to_string().contains("memory.high needs control groups version 2"), "{error}");
        }
    }
}

#[test]
fn update_is_all_or_nothing() {
    for bench in Bench::each("update") {
        let old = bound();
        let group = bench.create("c1", &old);
        let new =
            Resources { memory_max: Some(128 * MIB), pids_max: Some(50), cpu_period: Some(100_000), ..old.clone() };
        group.update(&old, &new).unwrap();
        assert_eq!(value(&group, Controller::Memory, "memory.limit_in_bytes", "memory.max"), (128 * MIB).to_string());
        assert_eq!(value(&group, Controller::Pids, "pids.max", "pids.max"), "50");
        assert!(value(&group, Controller::Cpu, "cpu.cfs_period_us", "cpu.max").ends_with("100000"));

        // The last change fails, so the others are undone.
        let bad =
            Resources { memory_max: Some(32 * MIB), cpu_weight: Some(1), pids_max: Some(i64::MAX), ..new.clone() };
        let error = group.update(&new, &bad).unwrap_err();
        assert!(error.message.starts_with("pids_max"), "{error}");
        assert_eq!(value(&group, Controller::Memory, "memory.limit_in_bytes", "memory.max"), (128 * MIB).to_string());
        let weight = value(&group, Controller::Cpu, "cpu.shares", "cpu.weight");
        assert!(weight == "200" || weight == "2048", "{weight}");

        // Back to no limits at all, as restoring does.
        group.update(&new, &Resources::default()).unwrap();
        assert_eq!(value(&group, Controller::Pids, "pids.max", "pids.max"), "max");
        group.remove().unwrap();
    }
}

#[test]
fn cpuset_comes_later_only_where_it_can() {
    for bench in Bench::each("cpuset") {
        let none = Resources::default();
        let group = bench.create("c1", &none);
        let new = Resources { cpuset_cpus: Some("0".to_owned()), ..none.clone() };
        match bench.manager.mode() {
            CgroupMode::Unified => {
                group.update(&none, &new).unwrap();
                assert_eq!(value(&group, Controller::Cpuset, "", "cpuset.cpus"), "0");
                group.update(&new, &none).unwrap();
                assert_eq!(value(&group, Controller::Cpuset, "", "cpuset.cpus"), "");
            }
            _ => assert_eq!(group.update(&none, &new).unwrap_err().reason, Reason::UnsupportedFeature),
        }
        group.remove().unwrap();
    }
}

#[test]
fn memory_below_use_is_refused_and_kills_nobody() {
    for bench in Bench::each("inuse") {
        let old = Resources { memory_max: Some(256 * MIB), memory_swap_max: Some(0), ..Resources::default() };
        let group = bench.create("c1", &old);
        // A shell that holds some 30 MiB which nobody can reclaim; it tells by its end of file when it has them.
        let mut holder =
            Member::new(&group, "sh", &["-c", "sleep 0.2; x=$(head -c 30000000 /dev/zero | tr '\\0' x); sleep 1000"]);
        let deadline = Instant::now() + Duration::from_secs(60);
        let used =
            || value(&group, Controller::Memory, "memory.usage_in_bytes", "memory.current").parse::<i64>().unwrap();
        while used() < 28 * MIB {
            assert!(Instant::now() < deadline, "{} bytes used", used());
            std::thread::sleep(Duration::from_millis(20));
        }
        let new = Resources { memory_max: Some(4 * MIB), ..old.clone() };
        let error = group.update(&old, &new).unwrap_err();
        assert_eq!((error.reason, error.errno), (Reason::InvalidState, Some(Errno::EBUSY)), "{error}");
        assert_eq!(value(&group, Controller::Memory, "memory.limit_in_bytes", "memory.max"), (256 * MIB).to_string());
        assert!(holder.0.try_wait().unwrap().is_none());
        group.kill().unwrap();
        assert_eq!(holder.signal(), Some(9));
        group.remove().unwrap();
    }
}

#[test]
fn freeze_stops_and_kill_ends_what_is_frozen() {
    for bench in Bench::each("freeze") {
        let group = bench.create("c1", &Resources::default());
        let member = Member::sleep(&group);
        assert!(group.is_populated());
        assert_eq!(group.processes().unwrap(), [i32::try_from(member.0.id()).unwrap()]);
        group.freeze().unwrap();
        group.thaw().unwrap();
        group.signal_all(Signal::SIGTERM).unwrap();
        assert_eq!(member.signal(), Some(15));

        let members = [Member::sleep(&group), Member::sleep(&group)];
        group.freeze().unwrap();
        group.kill().unwrap();
        assert_eq!(members.map(Member::signal), [Some(9), Some(9)]);
        assert!(!group.is_populated());
        group.remove().unwrap();
    }
}

#[test]
fn removal_waits_and_takes_nested_groups_along() {
    for bench in Bench::each("nested") {
        let group = bench.create("c1", &Resources::default());
        for dir in group.every_dir().iter().filter(|dir| dir.exists()) {
            fs::create_dir_all(dir.join("a/b/c")).unwrap();
            fs::create_dir(dir.join("d")).unwrap();
        }
        let member = Member::sleep(&group);
        let error = group.remove_within(Duration::from_millis(50)).unwrap_err();
        assert_eq!(error.reason, Reason::InvalidState, "{error}");
        assert!(error.to_string().contains(&member.0.id().to_string()), "{error}");
        // Killed, but still ending while the groups are being removed.
        group.kill().unwrap();
        group.remove().unwrap();
        assert_eq!(member.signal(), Some(9));
    }
}

#[test]
fn a_group_left_behind_is_replaced_but_not_under_a_process() {
    for bench in Bench::each("stale") {
        bench.create("c1", &Resources { pids_max: Some(7), ..Resources::default() });
        let group = bench.create("c1", &Resources::default());
        assert_eq!(value(&group, Controller::Pids, "pids.max", "pids.max"), "max");
        let member = Member::sleep(&group);
        let error = bench.manager.create("c1", &Resources::default(), &[]).unwrap_err();
        assert_eq!(error.reason, Reason::InvalidState, "{error}");
        assert!(group.is_populated());
        group.kill().unwrap();
        assert_eq!(member.signal(), Some(9));
        group.remove().unwrap();
    }
}

#[test]
fn killing_by_rounds_works_without_cgroup_kill() {
    for bench in Bench::each("rounds") {
        let group = bench.create("c1", &Resources::default());
        let members = [Member::sleep(&group), Member::sleep(&group), Member::sleep(&group)];
        // Reaped side by side, as the shim would.
        let reaper = std::thread::spawn(|| members.map(Member::signal));
        group.kill_by_rounds().unwrap();
        assert_eq!(reaper.join().unwrap(), [Some(9); 3]);
        group.remove().unwrap();
    }
}

#[test]
fn names_are_checked() {
    for parent in ["", "/", "hull", "/a/../b", "/a//b", "/."] {
        assert_eq!(CgroupManager::detect(parent).unwrap_err().reason, Reason::InvalidArgument, "{parent}");
    }
    for bench in Bench::each("names") {
        for id in ["", ".", "..", "a/b", "a\nb"] {
            assert!(bench.manager.create(id, &Resources::default(), &[]).is_err());
            assert!(bench.manager.open(id).is_none());
        }
    }
}

#[test]
fn killing_by_rounds_outruns_forks() {
    for bench in Bench::each("forks") {
        let group = bench.create("c1", &Resources { pids_max: Some(50), ..Resources::default() });
        // Each always has a child on its way, so any list of processes is old when it is used.
        let members = [0; 3].map(|_| Member::new(&group, "sh", &["-c", "while :; do (:); done"]));
        let reaper = std::thread::spawn(|| members.map(Member::signal));
        group.kill_by_rounds().unwrap();
        assert_eq!(reaper.join().unwrap(), [Some(9); 3]);
        group.remove().unwrap();
    }
}

#[test]
fn io_limits_reach_a_device_and_leave_it() {
    for bench in Bench::each("io") {
        let Some(device) = ["/dev/vda", "/dev/sda", "/dev/nvme0n1"].into_iter().find(|path| Path::new(path).exists())
        else {
            eprintln!("skipped: no disk");
            continue;
        };
        let limit =
            IoMax { device: device.to_owned(), read_bps: Some(1 << 20), write_iops: Some(50), ..IoMax::default() };
        let limited = Resources { io_max: vec![limit.clone()], io_weight: Some(500), ..Resources::default() };
        let group = bench.create("c1", &limited);
        let (dir, version) = group.place(Controller::Io).unwrap();
        let read = |name: &str| fs::read_to_string(dir.join(name)).unwrap();
        if version == Version::V2 {
            assert!(read("io.max").ends_with(" rbps=1048576 wbps=max riops=max wiops=50\n"), "{}", read("io.max"));
        } else {
            assert!(read("blkio.throttle.read_bps_device").ends_with(" 1048576\n"));
            assert!(read("blkio.throttle.write_iops_device").ends_with(" 50\n"));
            assert_eq!(read("blkio.throttle.write_bps_device"), "");
        }
        let weights = ["io.weight", "io.bfq.weight", "blkio.bfq.weight"].map(|name| fs::read_to_string(dir.join(name)));
        let weights: Vec<_> = weights.into_iter().flatten().collect();
        assert!(
            !weights.is_empty() && weights.iter().all(|text| text.contains("500") || text.contains("136")),
            "{weights:?}"
        );

        // A second limit replaces the first one whole; what it does not name is not limited any more.
        let other =
            Resources { io_max: vec![IoMax { read_bps: None, write_bps: Some(4096), ..limit }], ..limited.clone() };
        group.update(&limited, &other).unwrap();
        group.update(&other, &Resources::default()).unwrap();
        for name in [
            "io.max",
            "blkio.throttle.read_bps_device",
            "blkio.throttle.write_bps_device",
            "blkio.throttle.write_iops_device",
        ] {
            assert_eq!(fs::read_to_string(dir.join(name)).unwrap_or_default(), "", "{name}");
        }
        group.remove().unwrap();
    }
}

#[test]
fn huge_pages_are_limited_on_version_2() {
    for bench in Bench::each("huge") {
        if bench.manager.mode() != CgroupMode::Unified {
            eprintln!("skipped: would enable a controller at the root of a hierarchy that others use");
            continue;
        }
        let limits = Resources { hugetlb: [("2MB".to_owned(), 4 << 20)].into(), ..Resources::default() };
        let group = bench.create("c1", &limits);
        assert_eq!(value(&group, Controller::Hugetlb, "", "hugetlb.2MB.max"), (4 << 20).to_string());
        group.update(&limits, &Resources::default()).unwrap();
        assert_eq!(value(&group, Controller::Hugetlb, "", "hugetlb.2MB.max"), "max");
        group.remove().unwrap();
    }
}

#[test]
fn containers_side_by_side_do_not_disturb_each_other() {
    for bench in Bench::each("parallel") {
        std::thread::scope(|scope| {
            for worker in 0..6 {
                let bench = &bench;
                scope.spawn(move || {
                    for round in 0..10 {
                        let id = format!("w{worker}-{round}");
                        let group = bench.create(&id, &bound());
                        let member = Member::sleep(&group);
                        assert_eq!(group.processes().unwrap().len(), 1);
                        group.kill().unwrap();
                        // Not reaped yet: a zombie holds no group.
                        group.remove().unwrap();
                        assert!(bench.manager.open(&id).is_none());
                        assert_eq!(member.signal(), Some(9));
                    }
                });
            }
        });
    }
}

#[test]
fn only_an_own_parent_is_removed() {
    for bench in Bench::each("own") {
        let top = format!("/hull-test-{}-foreign", std::process::id());
        let mounts: Vec<_> =
            bench.manager.host.hierarchies.iter().map(|hierarchy| hierarchy.mount.join(&top[1..])).collect();
        mounts.iter().for_each(|dir| fs::create_dir(dir).unwrap());
        let manager = CgroupManager::detect(&format!("{top}/hull")).unwrap();
        // A second agent, or the same one after a crash, knows what the first one made.
        drop(manager);
        CgroupManager::detect(&format!("{top}/hull")).unwrap().remove_parent().unwrap();
        for dir in mounts {
            assert!(!dir.join("hull").exists());
            fs::remove_dir(&dir).unwrap();
        }
    }
}

/// Not a test of correctness: `cargo test --release -- --ignored --nocapture cgroup_cost` prints what the groups of one container cost.
#[test]
#[ignore = "a measurement"]
fn cgroup_cost() {
    for bench in Bench::each("cost") {
        let resources = Resources {
            memory_max: Some(64 * MIB),
            cpu_quota: Some(50_000),
            pids_max: Some(100),
            ..Resources::default()
        };
        let rules: Vec<String> = (0..12).map(|minor| format!("c 1:{minor} rwm")).collect();
        let (mut made, mut removed) = (Vec::new(), Vec::new());
        for round in 0..300 {
            let start = Instant::now();
            let group = bench.manager.create(&format!("c{round}"), &resources, &rules).unwrap();
            made.push(start.elapsed());
            let start = Instant::now();
            group.remove().unwrap();
            removed.push(start.elapsed());
            std::thread::sleep(Duration::from_millis(2));
        }
        for (what, mut times) in [("create", made), ("remove", removed)] {
            times.sort_unstable();
            eprintln!("{what}: median {:?}, p99 {:?}", times[times.len() / 2], times[times.len() * 99 / 100]);
        }
    }
}
