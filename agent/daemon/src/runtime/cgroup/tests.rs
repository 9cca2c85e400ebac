//! Against the real kernel, in whatever mode it is. Each test has a parent of its own and leaves nothing behind.
#![expect(clippy::print_stderr, reason = "tests say why they are skipped and what they measured")]

use std::fs;
use std::os::unix::process::ExitStatusExt;
use std::path::PathBuf;
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
    /// `None` where the test cannot make groups (not root), which is said.
    fn new(name: &str) -> Option<Self> {
        if !nix::unistd::geteuid().is_root() {
            eprintln!("skipped: needs root to make control groups");
            return None;
        }
        let parent = format!("/hull-test-{}-{name}/pods", std::process::id());
        let manager = CgroupManager::detect(&parent).unwrap();
        Some(Self { manager, parent })
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
    let Some(bench) = Bench::new("limits") else { return };
    let group = bench.create("c1", &bound());
    let v1 = bench.v1_memory();
    assert_eq!(value(&group, Controller::Memory, "memory.limit_in_bytes", "memory.max"), (64 * MIB).to_string());
    assert_eq!(value(&group, Controller::Memory, "memory.soft_limit_in_bytes", "memory.low"), (16 * MIB).to_string());
    let swap = if v1 { 72 * MIB } else { 8 * MIB };
    assert_eq!(value(&group, Controller::Memory, "memory.memsw.limit_in_bytes", "memory.swap.max"), swap.to_string());
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

#[test]
fn the_plan_names_what_exists() {
    let Some(bench) = Bench::new("plan") else { return };
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

#[test]
fn a_refused_value_names_its_field_and_leaves_nothing() {
    let Some(bench) = Bench::new("refused") else { return };
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

#[test]
fn update_is_all_or_nothing() {
    let Some(bench) = Bench::new("update") else { return };
    let old = bound();
    let group = bench.create("c1", &old);
    let new = Resources { memory_max: Some(128 * MIB), pids_max: Some(50), cpu_period: Some(100_000), ..old.clone() };
    group.update(&old, &new).unwrap();
    assert_eq!(value(&group, Controller::Memory, "memory.limit_in_bytes", "memory.max"), (128 * MIB).to_string());
    assert_eq!(value(&group, Controller::Pids, "pids.max", "pids.max"), "50");
    assert!(value(&group, Controller::Cpu, "cpu.cfs_period_us", "cpu.max").ends_with("100000"));

    // The last change fails, so the others are undone.
    let bad = Resources { memory_max: Some(32 * MIB), cpu_weight: Some(1), pids_max: Some(i64::MAX), ..new.clone() };
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

#[test]
fn cpuset_comes_later_only_where_it_can() {
    let Some(bench) = Bench::new("cpuset") else { return };
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

#[test]
fn memory_below_use_is_refused_and_kills_nobody() {
    let Some(bench) = Bench::new("inuse") else { return };
    let old = Resources { memory_max: Some(256 * MIB), memory_swap_max: Some(0), ..Resources::default() };
    let group = bench.create("c1", &old);
    // A shell that holds some 30 MiB which nobody can reclaim; it tells by its end of file when it has them.
    let mut holder =
        Member::new(&group, "sh", &["-c", "sleep 0.2; x=$(head -c 30000000 /dev/zero | tr '\\0' x); sleep 1000"]);
    let deadline = Instant::now() + Duration::from_secs(60);
    let used = || value(&group, Controller::Memory, "memory.usage_in_bytes", "memory.current").parse::<i64>().unwrap();
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

#[test]
fn freeze_stops_and_kill_ends_what_is_frozen() {
    let Some(bench) = Bench::new("freeze") else { return };
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

#[test]
fn removal_waits_and_takes_nested_groups_along() {
    let Some(bench) = Bench::new("nested") else { return };
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

#[test]
fn a_group_left_behind_is_replaced_but_not_under_a_process() {
    let Some(bench) = Bench::new("stale") else { return };
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

#[test]
fn killing_by_rounds_works_without_cgroup_kill() {
    let Some(bench) = Bench::new("rounds") else { return };
    let group = bench.create("c1", &Resources::default());
    let members = [Member::sleep(&group), Member::sleep(&group), Member::sleep(&group)];
    // Reaped side by side, as the shim would.
    let reaper = std::thread::spawn(|| members.map(Member::signal));
    group.kill_by_rounds().unwrap();
    assert_eq!(reaper.join().unwrap(), [Some(9); 3]);
    group.remove().unwrap();
}

#[test]
fn names_are_checked() {
    for parent in ["", "/", "hull", "/a/../b", "/a//b", "/."] {
        assert_eq!(CgroupManager::detect(parent).unwrap_err().reason, Reason::InvalidArgument, "{parent}");
    }
    let Some(bench) = Bench::new("names") else { return };
    for id in ["", ".", "..", "a/b", "a\nb"] {
        assert!(bench.manager.create(id, &Resources::default(), &[]).is_err());
        assert!(bench.manager.open(id).is_none());
    }
}

/// Not a test of correctness: `cargo test --release -- --ignored --nocapture cgroup_cost` prints what the groups of one container cost.
#[test]
#[ignore = "a measurement"]
fn cgroup_cost() {
    let Some(bench) = Bench::new("cost") else { return };
    let resources =
        Resources { memory_max: Some(64 * MIB), cpu_quota: Some(50_000), pids_max: Some(100), ..Resources::default() };
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
