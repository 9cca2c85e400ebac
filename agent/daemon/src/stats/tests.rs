//! The hub on files of a temporary directory, and the readers on the real kernel.
#![expect(clippy::print_stderr, reason = "tests say why they are skipped and what they measured")]

mod allocations;
mod rest;

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use tempfile::TempDir;

use super::{Frame, Group, Groups, Reading, Registration, Selector, StatsHub, Subscription};
use crate::error::Reason;
use crate::lifecycle::config::Resources;
use crate::runtime::cgroup::{CgroupManager, CgroupMode, ContainerCgroup, StatDirs, Version};

const TENTH: Duration = Duration::from_millis(100);

/// What the plain files below have.
const GROUPS: Groups = Groups::NONE.with(Group::Cpu).with(Group::Pids);

fn hub() -> StatsHub {
    StatsHub::new("/".into())
}

/// Containers whose control files are plain files.
struct Fake {
    hub: StatsHub,
    root: TempDir,
}

impl Fake {
    fn new(ids: &[&str]) -> Self {
        let fake = Self { hub: hub(), root: TempDir::new().unwrap() };
        ids.iter().for_each(|id| fake.start(id, &[]));
        fake
    }

    fn start(&self, id: &str, labels: &[(&str, &str)]) {
        let dir = self.root.path().join(id);
        fs::create_dir(&dir).unwrap();
        fs::write(dir.join("cpu.stat"), "usage_usec 5\nuser_usec 2\nsystem_usec 3\n").unwrap();
        fs::write(dir.join("pids.current"), "4\n").unwrap();
        let labels = labels.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned())).collect();
        let dirs = StatDirs { unified: Some(dir.clone()), pids: Some((dir, Version::V2)), ..StatDirs::default() };
        let (id, name) = (id.to_owned(), format!("name-of-{id}"));
        // No process has this number: there is no network.
        self.hub.register(Registration { id, name, labels, dirs, pid: i32::MAX, writable: None });
    }

    fn subscribe(&self, ticks: u32) -> Subscription {
        self.hub.subscribe(Selector::default(), GROUPS, TENTH * ticks).unwrap()
    }

    fn open_files(&self) -> usize {
        let root = self.root.path();
        let links = fs::read_dir("/proc/self/fd").unwrap().filter_map(|entry| fs::read_link(entry.ok()?.path()).ok());
        links.filter(|target| target.starts_with(root)).count()
    }
}

fn ids(frame: &Frame) -> Vec<&str> {
    frame.reading.samples.iter().map(|sample| &*sample.identity.id).collect()
}

/// All containers.
static ALL: Selector = Selector { ids: BTreeSet::new(), labels: BTreeMap::new() };

/// The first frame that is as it should be.
async fn until_frame(subscription: &mut Subscription, is_so: impl Fn(&Frame) -> bool) -> Frame {
    let end = Instant::now() + Duration::from_secs(10);
    loop {
        let frame = next(subscription).await;
        if is_so(&frame) {
            return frame;
        }
        assert!(Instant::now() < end, "{frame:?}");
    }
}

async fn next(subscription: &mut Subscription) -> Frame {
    tokio::time::timeout(Duration::from_secs(10), subscription.next()).await.unwrap().unwrap()
}

/// Waits for a condition, which is better than for a time.
async fn until(what: &str, condition: impl Fn() -> bool) {
    let end = Instant::now() + Duration::from_secs(10);
    while !condition() {
        assert!(Instant::now() < end, "{what}");
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

#[tokio::test]
async fn the_first_frame_comes_at_once() {
    let fake = Fake::new(&["b", "a"]);
    let mut subscription = fake.subscribe(36_000);
    let frame = next(&mut subscription).await;
    assert_eq!((ids(&frame), frame.missed), (vec!["a", "b"], 0));
    let sample = &frame.reading.samples[0];
    assert_eq!((&*sample.identity.name, sample.usage.cpu.usage_nanos), ("name-of-a", Some(5000)));
    assert_eq!((sample.usage.pids.current, sample.usage.pids.limit), (Some(4), None));
    assert_eq!((sample.usage.memory.usage, sample.usage.io.devices.len()), (None, 0));
    assert!(sample.at.monotonic_nanos > 0);
}

#[tokio::test]
async fn a_slow_reader_gets_the_newest_frame_and_the_count() {
    let fake = Fake::new(&["a"]);
    let mut subscription = fake.subscribe(1);
    until("five passes", || fake.hub.passes().count >= 5).await;
    let frame = next(&mut subscription).await;
    assert!(frame.missed >= 3, "{}", frame.missed);
    assert_eq!(next(&mut subscription).await.missed, 0);
}

#[tokio::test]
async fn nobody_listens_and_nothing_is_read() {
    let fake = Fake::new(&["a"]);
    tokio::time::sleep(TENTH * 2).await;
    assert_eq!((fake.hub.passes().count, fake.open_files()), (0, 0));
    let mut subscription = fake.subscribe(1);
    next(&mut subscription).await;
    assert_eq!(fake.open_files(), 2);
    drop(subscription);
    until("files closed", || fake.open_files() == 0).await;
    let before = fake.hub.passes().count;
    tokio::time::sleep(TENTH * 3).await;
    assert_eq!(fake.hub.passes().count, before);
    // And it starts again for the next.
    next(&mut fake.subscribe(1)).await;
}

#[tokio::test]
async fn different_intervals_share_passes() {
    let fake = Fake::new(&["a"]);
    let mut fast = fake.subscribe(1);
    next(&mut fast).await;
    let others: Vec<Subscription> = (0..50).map(|at| fake.subscribe(1 + at % 5)).collect();
    until("first frames", || fake.hub.passes().count > 1).await;
    let (start, before) = (Instant::now(), fake.hub.passes().count);
    tokio::time::sleep(TENTH * 10).await;
    let most = u64::try_from(start.elapsed().as_millis()).unwrap() / 100 + 2;
    // First frames of those that subscribed while a pass was under way may take passes of their own.
    assert!(fake.hub.passes().count - before <= most + 3, "{} passes", fake.hub.passes().count - before);
    drop(others);
}

#[tokio::test]
async fn containers_come_and_go() {
    let fake = Fake::new(&["a"]);
    let mut subscription = fake.subscribe(1);
    let first = next(&mut subscription).await;
    assert_eq!((ids(&first), first.started.len(), first.stopped.len()), (vec!["a"], 0, 0));
    fake.start("b", &[]);
    let frame = until_frame(&mut subscription, |frame| ids(frame) == ["a", "b"]).await;
    assert_eq!((&frame.started[..], &frame.stopped[..]), (&["b".into()][..], &[][..]));
    assert_eq!(next(&mut subscription).await.started.len(), 0);
    fake.hub.unregister("a");
    let frame = until_frame(&mut subscription, |frame| ids(frame) == ["b"]).await;
    assert_eq!((&frame.started[..], &frame.stopped[..]), (&[][..], &["a".into()][..]));
    // One that is started anew between two frames is another.
    fs::remove_dir_all(fake.root.path().join("b")).unwrap();
    fake.hub.unregister("b");
    fake.start("b", &[]);
    let frame = until_frame(&mut subscription, |frame| !frame.started.is_empty()).await;
    assert!(frame.stopped.contains(&"b".into()) || !frame.started.is_empty());
}

#[tokio::test]
async fn one_that_is_renamed_runs_on() {
    let fake = Fake::new(&["a"]);
    let mut subscription = fake.subscribe(1);
    let first = next(&mut subscription).await;
    let again = |name: &str, pid| {
        let dir = fake.root.path().join("a");
        let dirs = StatDirs { unified: Some(dir.clone()), pids: Some((dir, Version::V2)), ..StatDirs::default() };
        let (id, name, labels) = ("a".to_owned(), name.to_owned(), BTreeMap::new());
        fake.hub.register(Registration { id, name, labels, dirs, pid, writable: None });
    };
    let named = |frame: &Frame, name| &*frame.reading.samples[0].identity.name == name;
    again("other", i32::MAX);
    let renamed = until_frame(&mut subscription, |frame| named(frame, "other")).await;
    assert_eq!(renamed.reading.samples[0].run, first.reading.samples[0].run);
    assert!(renamed.started.is_empty() && renamed.stopped.is_empty());
    again("anew", 4_194_305);
    let anew = until_frame(&mut subscription, |frame| named(frame, "anew")).await;
    assert_eq!((&anew.started[..], &anew.stopped[..]), (&["a".into()][..], &["a".into()][..]));
}

#[tokio::test]
async fn files_of_a_container_that_ended_are_closed_at_once() {
    let fake = Fake::new(&["a", "b"]);
    let mut subscription = fake.subscribe(36_000);
    next(&mut subscription).await;
    let each = fake.open_files() / 2;
    fake.hub.unregister("a");
    until("files of a closed", || fake.open_files() == each).await;
}

#[tokio::test]
async fn what_nobody_wants_any_more_is_closed_and_not_read() {
    let fake = Fake::new(&["a", "b"]);
    let only_a = Selector { ids: ["a".to_owned()].into(), ..Selector::default() };
    let pids = Groups::NONE.with(Group::Pids);
    let mut narrow = fake.hub.subscribe(only_a, pids, TENTH).unwrap();
    let frame = next(&mut narrow).await;
    assert_eq!(ids(&frame), ["a"]);
    assert_eq!(frame.reading.samples[0].usage.cpu.usage_nanos, None);
    let few = fake.open_files();
    let mut wide = fake.subscribe(1);
    next(&mut wide).await;
    assert!(fake.open_files() > few);
    drop(wide);
    until("only what the other wants", || fake.open_files() == few).await;
    // One reading beside it leaves nothing open either.
    fake.hub.read(&Selector::default(), GROUPS, Duration::ZERO).await.unwrap();
    until("only what the other wants", || fake.open_files() == few).await;
}

#[tokio::test]
async fn a_young_reading_serves_whoever_is_content_with_it() {
    let fake = Fake::new(&["a"]);
    let mut subscription = fake.subscribe(36_000);
    let first = next(&mut subscription).await;
    let at = |reading: &Reading| reading.samples[0].at;
    let read = |max_age| fake.hub.read(&ALL, GROUPS, max_age);
    assert_eq!(at(&read(Duration::from_secs(3600)).await.unwrap()), at(&first.reading));
    assert_ne!(at(&read(Duration::ZERO).await.unwrap()), at(&first.reading));
    // It lacks a group.
    let more = GROUPS.with(Group::WritableLayer);
    let young = fake.hub.read(&ALL, more, Duration::from_secs(3600)).await.unwrap();
    assert_eq!(young.samples[0].groups, more);
}

#[tokio::test]
async fn selectors_narrow() {
    let fake = Fake::new(&["a"]);
    fake.start("b", &[("app", "web"), ("tier", "front")]);
    fake.start("c", &[("app", "db")]);
    let selector = |ids: &[&str], labels: &[(&str, &str)]| Selector {
        ids: ids.iter().map(|id| (*id).to_owned()).collect(),
        labels: labels.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned())).collect::<BTreeMap<_, _>>(),
    };
    let cases = [
        (selector(&[], &[]), vec!["a", "b", "c"]),
        (selector(&["c", "a", "gone"], &[]), vec!["a", "c"]),
        (selector(&[], &[("app", "")]), vec!["b", "c"]),
        (selector(&["a", "b"], &[("app", "web")]), vec!["b"]),
    ];
    for (selector, expected) in cases {
        let reading = fake.hub.read(&selector, GROUPS, Duration::ZERO).await.unwrap();
        assert_eq!(reading.samples.iter().map(|sample| &*sample.identity.id).collect::<Vec<_>>(), expected);
        let mut subscription = fake.hub.subscribe(selector, GROUPS, TENTH).unwrap();
        assert_eq!(ids(&next(&mut subscription).await), expected);
    }
}

#[tokio::test]
async fn closing_ends_every_stream() {
    let fake = Fake::new(&["a"]);
    let mut subscription = fake.subscribe(36_000);
    next(&mut subscription).await;
    let waiting = tokio::spawn(async move { subscription.next().await });
    fake.hub.close();
    assert!(waiting.await.unwrap().is_none());
    assert_eq!(fake.hub.subscribe(Selector::default(), GROUPS, TENTH).unwrap_err().reason, Reason::ShuttingDown);
    until("files closed", || fake.open_files() == 0).await;
}

#[tokio::test]
async fn too_many_streams_are_refused() {
    let fake = Fake::new(&[]);
    let streams: Vec<Subscription> = (0..1024).map(|_| fake.subscribe(100)).collect();
    assert_eq!(fake.hub.subscribe(Selector::default(), GROUPS, TENTH).unwrap_err().reason, Reason::LimitExceeded);
    drop(streams);
    next(&mut fake.subscribe(1)).await;
}

/// Removes what a test made in the real hierarchies.
struct Real(CgroupManager);

impl Real {
    /// One for the host as it is and, on a hybrid host, one as if it were legacy.
    fn each(name: &str) -> Vec<Self> {
        if !nix::unistd::geteuid().is_root() {
            eprintln!("skipped: needs root to make control groups");
            return Vec::new();
        }
        let parent = |mode| format!("/hull-test-{}-{name}-{mode}", std::process::id());
        let mut all = vec![Self(CgroupManager::detect(&parent("here")).unwrap())];
        if all[0].0.mode() == CgroupMode::Hybrid {
            all.extend(CgroupManager::detect_legacy(&parent("legacy")).map(Self));
        }
        all
    }

    fn create(&self, id: &str, limits: &Resources) -> ContainerCgroup {
        let group = self.0.group(id, limits).unwrap();
        self.0.make(&group, limits, || Ok(Vec::new())).unwrap();
        group
    }
}

impl Drop for Real {
    fn drop(&mut self) {
        for group in self.0.list().unwrap().iter().filter_map(|id| self.0.open(id)) {
            let _ = group.kill();
            group.remove().unwrap();
        }
        self.0.remove_parent().unwrap();
    }
}

#[tokio::test]
async fn the_kernel_is_read() {
    for real in Real::each("stats") {
        let limits = Resources {
            memory_max: Some(256 << 20),
            pids_max: Some(9),
            cpu_quota: Some(3_000),
            ..Resources::default()
        };
        let group = real.create("c1", &limits);
        // Files have to be read by a member for the page cache and faults to be its own.
        let mut member = Command::new("sh")
            .args(["-c", "while read l; do :; done; while :; do :; done"])
            .stdin(Stdio::piped())
            .spawn()
            .unwrap();
        let plan = group.plan();
        let unified = plan.unified.as_ref().map(|dir| format!("{dir}/cgroup.procs"));
        for file in plan.v1_tasks.iter().chain(&unified) {
            fs::write(Path::new(file), member.id().to_string()).unwrap();
        }
        drop(member.stdin.take());
        let hub = hub();
        let pid = i32::try_from(member.id()).unwrap();
        let (id, dirs) = ("c1".to_owned(), group.stat_dirs());
        let registration =
            Registration { id, name: "c1".to_owned(), labels: BTreeMap::new(), dirs, pid, writable: None };
        hub.register(registration);
        let mut subscription = hub.subscribe(Selector::default(), Groups::CONTAINER, TENTH).unwrap();
        let end = Instant::now() + Duration::from_secs(60);
        let usage = loop {
            let usage = next(&mut subscription).await.reading.samples[0].usage.clone();
            if usage.cpu.usage_nanos > Some(50_000_000) && usage.cpu.throttled_nanos > Some(0) {
                break usage;
            }
            assert!(Instant::now() < end, "{usage:?}");
        };
        let once = hub.read(&Selector::default(), Groups::CONTAINER, Duration::ZERO).await.unwrap();
        assert!(once.samples[0].usage.cpu.usage_nanos >= usage.cpu.usage_nanos);
        assert!(usage.cpu.user_nanos > Some(0) && usage.cpu.system_nanos.is_some(), "{usage:?}");
        assert!(usage.cpu.periods > Some(0) && usage.cpu.throttled_periods > Some(0), "{usage:?}");
        assert!(usage.memory.usage.is_some() && usage.memory.working_set <= usage.memory.usage, "{usage:?}");
        assert_eq!((usage.memory.limit, usage.memory.oom_kills), (Some(256 << 20), Some(0)));
        assert!(usage.memory.anon.is_some() && usage.memory.file.is_some() && usage.memory.swap.is_some(), "{usage:?}");
        assert_eq!((usage.pids.current, usage.pids.limit), (Some(1), Some(9)));
        if plan.unified.is_some() {
            assert_eq!(usage.pids.processes, Some(1));
            assert!(usage.pressure.cpu.some.is_some() && usage.pressure.memory.some.is_some(), "{usage:?}");
        }
        if group.stat_dirs().cpuacct_v1.is_some() {
            let sum: u64 = usage.cpu.per_cpu_nanos.iter().sum();
            assert!(sum > 50_000_000, "{usage:?}");
        }
        assert!(usage.memory.faults.is_some() && usage.memory.mapped_file.is_some(), "{usage:?}");
        assert_eq!(usage.memory.max_events, Some(0));
        // The member is in the network namespace of this process.
        assert!(usage.network.interfaces.is_empty());
        group.kill().unwrap();
        member.wait().unwrap();
        group.remove().unwrap();
        until("gone", || hub.passes().count > 2).await;
        let once = hub.read(&Selector::default(), Groups::CONTAINER, Duration::ZERO).await.unwrap();
        assert!(once.samples.is_empty());
    }
}
