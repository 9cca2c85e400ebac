//! What a pass allocates, and what a container takes.

use std::sync::Arc;

use allocation_counter::measure;

use super::{ALL, Fake, GROUPS, TENTH};
use crate::runtime::cgroup::{StatDirs, Version};
use crate::stats::sampler::Sampler;
use crate::stats::subscription::Slot;
use crate::stats::{Group, Groups, Registration, StatsHub};

/// The sampler on this thread, where allocations are counted.
struct Bench {
    hub: StatsHub,
    sampler: Sampler,
    slot: Arc<Slot>,
}

impl Bench {
    fn new(hub: &StatsHub, groups: Groups) -> Self {
        let slot = Arc::new(Slot::default());
        hub.shared.lock().subscribe(ALL.clone(), groups, TENTH, Arc::clone(&slot)).unwrap();
        Self { hub: hub.clone(), sampler: Sampler::new(&hub.shared), slot }
    }

    /// One pass; how many times it allocated.
    fn pass(&mut self) -> u64 {
        let work = self.hub.shared.next_work().unwrap();
        measure(|| self.sampler.work(work)).count_total
    }
}

#[test]
fn a_pass_allocates_nothing_for_a_container() {
    let passes = |containers: usize, is_slow: bool| {
        let fake = Fake::new(&[]);
        (0..containers).for_each(|at| fake.start(&format!("c{at}"), &[]));
        let mut bench = Bench::new(&fake.hub, GROUPS);
        let counts: Vec<u64> = (0..6)
            .map(|_| {
                let count = bench.pass();
                if !is_slow {
                    assert_eq!(bench.slot.take().unwrap().0.samples.len(), containers);
                }
                count
            })
            .collect();
        // The first passes open files and make samples.
        assert!(counts[0] > u64::try_from(containers).unwrap());
        counts[3..].to_vec()
    };
    // The frame itself, whether its reader takes it or not.
    let few = passes(5, false);
    assert!(few.iter().all(|count| *count <= 4), "{few:?}");
    assert_eq!(passes(60, false), few);
    assert_eq!(passes(60, true), passes(5, true));
}

#[test]
fn a_container_takes_less_than_2_kb() {
    const CONTAINERS: usize = 100;
    let root = tempfile::TempDir::new().unwrap();
    let hub = StatsHub::new("/".into());
    for at in 0..CONTAINERS {
        // As long as a real path.
        let dir = root.path().join(format!("{at:064}"));
        std::fs::create_dir(&dir).unwrap();
        for (name, text) in [
            ("cpu.stat", "usage_usec 5\nuser_usec 2\nsystem_usec 3\nnr_periods 1\nnr_throttled 0\nthrottled_usec 0\n"),
            ("memory.stat", "anon 1\nfile 2\nkernel 3\n"),
            ("io.stat", "8:0 rbytes=1 wbytes=2 rios=3 wios=4\n"),
        ] {
            std::fs::write(dir.join(name), text).unwrap();
        }
        let place = Some((dir.clone(), Version::V2));
        let dirs = StatDirs {
            unified: Some(dir),
            memory: place.clone(),
            pids: place.clone(),
            io: place.clone(),
            ..StatDirs::default()
        };
        let (id, name, labels) = (format!("{at:064}"), format!("name-{at}"), Default::default());
        hub.register(Registration { id, name, labels, dirs, pid: i32::MAX, writable: None });
    }
    // The network of a process that is not there cannot be read.
    let groups = [Group::Cpu, Group::Memory, Group::Pids, Group::Io, Group::Pressure, Group::WritableLayer];
    let mut bench = Bench::new(&hub, groups.into_iter().fold(Groups::NONE, Groups::with));
    let taken = measure(|| {
        for _ in 0..3 {
            bench.pass();
            assert_eq!(bench.slot.take().unwrap().0.samples.len(), CONTAINERS);
        }
    });
    let each = taken.bytes_current / i64::try_from(CONTAINERS).unwrap();
    eprintln!("the sampler takes {each} bytes a container");
    assert!(each < 2048, "{each} bytes a container");
}
