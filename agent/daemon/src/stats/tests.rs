//! The hub on files of a temporary directory, and the readers on the real kernel.
#![expect(clippy::print_stderr, reason = "tests say why they are skipped and what they measured")]

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use tempfile::TempDir;

use super::subscription::Frame;
use super::{Selector, StatsHub, Subscription};
use crate::error::Reason;
use crate::lifecycle::config::Resources;
use crate::runtime::cgroup::{CgroupManager, CgroupMode, ContainerCgroup, StatDirs, Version};

const TENTH: Duration = Duration::from_millis(100);

/// Containers whose control files are plain files.
struct Fake {
    hub: StatsHub,
    root: TempDir,
}

impl Fake {
    fn new(ids: &[&str]) -> Self {
        let fake = Self { hub: StatsHub::default(), root: TempDir::new().unwrap() };
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
        self.hub.register(id, &format!("name-of-{id}"), labels, dirs);
    }

    fn subscribe(&self, ticks: u32) -> Subscription {
        self.hub.subscribe(Selector::default(), TENTH * ticks).unwrap()
    }

    fn open_files(&self) -> usize {
        let root = self.root.path();
        let links = fs::read_dir("/proc/self/fd").unwrap().filter_map(|entry| fs::read_link(entry.ok()?.path()).ok());
        links.filter(|target| target.starts_with(root)).count()
    }
}

fn ids(frame: &Frame) -> Vec<&str> {
    frame.samples.iter().map(|sample| &*sample.id).collect()
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
    let sample = &frame.samples[0];
    assert_eq!((&*sample.name, sample.usage.cpu.usage_nanos), ("name-of-a", Some(5000)));
    assert_eq!((sample.usage.pids.current, sample.usage.pids.limit), (Some(4), None));
    assert_eq!((sample.usage.memory.usage, sample.usage.io.devices.len()), (None, 0));
    assert!(sample.monotonic_nanos > 0);
}

#[tokio::test]
async fn a_slow_reader_gets_the_newest_frame_and_the_count() {
    let fake = Fake::new(&["a"]);
    let mut subscription = fake.subscribe(1);
    until("five passes", || fake.hub.passes() >= 5).await;
    let frame = next(&mut subscription).await;
    assert!(frame.missed >= 3, "{}", frame.missed);
    assert_eq!(next(&mut subscription).await.missed, 0);
}

#[tokio::test]
async fn nobody_listens_and_nothing_is_read() {
    let fake = Fake::new(&["a"]);
    tokio::time::sleep(TENTH * 2).await;
    assert_eq!((fake.hub.passes(), fake.open_files()), (0, 0));
    let mut subscription = fake.subscribe(1);
    next(&mut subscription).await;
    assert_eq!(fake.open_files(), 2);
    drop(subscription);
    until("files closed", || fake.open_files() == 0).await;
    let before = fake.hub.passes();
    tokio::time::sleep(TENTH * 3).await;
    assert_eq!(fake.hub.passes(), before);
    // And it starts again for the next.
    next(&mut fake.subscribe(1)).await;
}

#[tokio::test]
async fn different_intervals_share_passes() {
    let fake = Fake::new(&["a"]);
    let mut fast = fake.subscribe(1);
    next(&mut fast).await;
    let others: Vec<Subscription> = (0..50).map(|at| fake.subscribe(1 + at % 5)).collect();
    until("first frames", || fake.hub.passes() > 1).await;
    let (start, before) = (Instant::now(), fake.hub.passes());
    tokio::time::sleep(TENTH * 10).await;
    let most = u64::try_from(start.elapsed().as_millis()).unwrap() / 100 + 2;
    // First frames of those that subscribed while a pass was under way may take passes of their own.
    assert!(fake.hub.passes() - before <= most + 3, "{} passes", fake.hub.passes() - before);
    drop(others);
}

#[tokio::test]
async fn containers_come_and_go() {
    let fake = Fake::new(&["a"]);
    let mut subscription = fake.subscribe(1);
    assert_eq!(ids(&next(&mut subscription).await), ["a"]);
    fake.start("b", &[]);
    until("b is there", || fake.open_files() == 4).await;
    next(&mut subscription).await;
    assert_eq!(ids(&next(&mut subscription).await), ["a", "b"]);
    // Its files vanish before it is unregistered.
    fs::remove_dir_all(fake.root.path().join("b")).unwrap();
    fake.hub.unregister("a");
    until("files of a closed", || fake.open_files() <= 2).await;
    next(&mut subscription).await;
    assert!(!ids(&next(&mut subscription).await).contains(&"a"));
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
        let samples = fake.hub.read_once(&selector).await.unwrap();
        assert_eq!(samples.iter().map(|sample| &*sample.id).collect::<Vec<_>>(), expected);
        let mut subscription = fake.hub.subscribe(selector, TENTH).unwrap();
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
    assert_eq!(waiting.await.unwrap(), None);
    assert_eq!(fake.hub.subscribe(Selector::default(), TENTH).unwrap_err().reason, Reason::ShuttingDown);
    until("files closed", || fake.open_files() == 0).await;
}

#[tokio::test]
async fn too_many_streams_are_refused() {
    let fake = Fake::new(&[]);
    let streams: Vec<Subscription> = (0..1024).map(|_| fake.subscribe(100)).collect();
    assert_eq!(fake.hub.subscribe(Selector::default(), TENTH).unwrap_err().reason, Reason::LimitExceeded);
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
        let unified = plan.unified.map(|dir| format!("{dir}/cgroup.procs"));
        for file in plan.v1_tasks.iter().chain(&unified) {
            fs::write(Path::new(file), member.id().to_string()).unwrap();
        }
        drop(member.stdin.take());
        let hub = StatsHub::default();
        hub.register("c1", "c1", BTreeMap::new(), group.stat_dirs());
        let mut subscription = hub.subscribe(Selector::default(), TENTH).unwrap();
        let end = Instant::now() + Duration::from_secs(60);
        let usage = loop {
            let usage = next(&mut subscription).await.samples[0].usage.clone();
            if usage.cpu.usage_nanos > Some(50_000_000) && usage.cpu.throttled_nanos > Some(0) {
                break usage;
            }
            assert!(Instant::now() < end, "{usage:?}");
        };
        let once = hub.read_once(&Selector::default()).await.unwrap();
        assert!(once[0].usage.cpu.usage_nanos >= usage.cpu.usage_nanos);
        assert!(usage.cpu.user_nanos > Some(0) && usage.cpu.system_nanos.is_some(), "{usage:?}");
        assert!(usage.cpu.periods > Some(0) && usage.cpu.throttled_periods > Some(0), "{usage:?}");
        assert!(usage.memory.usage.is_some() && usage.memory.working_set <= usage.memory.usage, "{usage:?}");
        assert_eq!((usage.memory.limit, usage.memory.oom_kills), (Some(256 << 20), Some(0)));
        assert!(usage.memory.anon.is_some() && usage.memory.file.is_some() && usage.memory.swap.is_some(), "{usage:?}");
        assert_eq!((usage.pids.current, usage.pids.limit), (Some(1), Some(9)));
        group.kill().unwrap();
        member.wait().unwrap();
        group.remove().unwrap();
        until("gone", || hub.passes() > 2).await;
        assert_eq!(hub.read_once(&Selector::default()).await.unwrap(), []);
    }
}
