//! Against the real kernel, in whatever mode it is. Each test has a parent of its own and leaves nothing behind.
#![expect(clippy::print_stderr, reason = "tests say why they are skipped and what they measured")]

mod limits;

use std::fs;
use std::os::unix::process::ExitStatusExt;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use nix::sys::signal::Signal;

use super::apply::Place;
use super::hierarchy::{Controller, Version};
use super::{CgroupManager, CgroupMode, ContainerCgroup};
use crate::error::{Error, Reason};
use crate::lifecycle::config::Resources;

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
        self.try_create(id, resources).unwrap()
    }

    fn try_create(&self, id: &str, resources: &Resources) -> crate::error::Result<ContainerCgroup> {
        let group = self.manager.group(id, resources)?;
        self.manager.make(&group, resources, || Ok(vec!["c 1:3 rwm".to_owned(), "c 1:5 rm".to_owned()]))?;
        Ok(group)
    }

    fn refused(&self, resources: &Resources) -> Error {
        let error = self.try_create("refused", resources).unwrap_err();
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
        let error = bench.try_create("c1", &Resources::default()).unwrap_err();
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

/// They die when they get to the processor, for which they wait longer than a hundred rounds of a millisecond.
#[test]
fn killing_by_rounds_waits_for_throttled_processes() {
    for bench in Bench::each("throttled") {
        let limits = Resources { cpu_quota: Some(2_000), ..Resources::default() };
        let group = bench.create("c1", &limits);
        let members: Vec<_> = (0..3).map(|_| Member::new(&group, "sh", &["-c", "while :; do :; done"])).collect();
        std::thread::sleep(Duration::from_millis(100));
        group.kill_by_rounds().unwrap();
        assert!(members.into_iter().all(|member| member.signal() == Some(9)));
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
            assert!(bench.try_create(id, &Resources::default()).is_err());
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
