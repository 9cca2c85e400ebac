//! What is read of a container at rest, by a clock that the test sets.

use std::collections::BTreeMap;
use std::fs;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::SystemTime;

use tempfile::TempDir;

use crate::runtime::cgroup::{StatDirs, Version};
use crate::stats::read::{Budget, Reader, Scratch};
use crate::stats::sample::{Moment, Usage};
use crate::stats::target::Target;
use crate::stats::{Group, Groups, Registration, Sample};

const QUIET: &str = "some avg10=0.00 avg60=0.00 avg300=0.00 total=7\nfull avg10=0.00 avg60=0.00 avg300=0.00 total=7\n";
const DECAYING: &str =
    "some avg10=0.00 avg60=0.00 avg300=0.01 total=7\nfull avg10=0.00 avg60=0.00 avg300=0.00 total=7\n";
const WAITED: &str = "some avg10=0.00 avg60=0.00 avg300=0.00 total=9\nfull avg10=0.00 avg60=0.00 avg300=0.00 total=7\n";

struct Container {
    dir: PathBuf,
    _root: TempDir,
    target: Arc<Target>,
    reader: Reader,
    scratch: Scratch,
    newest: Option<Sample>,
    seconds: u64,
}

impl Container {
    /// One of version 2 that has been read for four seconds.
    fn at_rest(files: &[(&str, &str)]) -> Self {
        let root = TempDir::new().unwrap();
        let dir = root.path().to_owned();
        let place = Some((dir.clone(), Version::V2));
        let dirs = StatDirs {
            unified: Some(dir.clone()),
            memory: place.clone(),
            pids: place.clone(),
            io: place,
            ..StatDirs::default()
        };
        let (id, labels) = ("c".to_owned(), BTreeMap::new());
        // No process has this number: there is no network to be read, and none is asked for.
        let registration = Registration { name: id.clone(), id, labels, dirs, pid: i32::MAX, writable: None };
        let target = Arc::new(Target::new(registration));
        let (reader, scratch) = (Reader::new(Arc::clone(&target)), Scratch::new(Budget::of_process()));
        let mut container = Self { dir, _root: root, target, reader, scratch, newest: None, seconds: 0 };
        let still = [
            ("cpu.stat", "usage_usec 5\nuser_usec 2\nsystem_usec 3\n"),
            ("pids.current", "4\n"),
            ("pids.max", "9\n"),
            ("memory.current", "4096\n"),
            ("memory.stat", "anon 1\n"),
            ("cgroup.procs", "1\n2\n"),
            ("cgroup.stat", "nr_descendants 0\n"),
            ("io.stat", "8:0 rbytes=1 wbytes=1 rios=1 wios=1\n"),
            ("cpu.pressure", QUIET),
            ("memory.pressure", QUIET),
            ("io.pressure", QUIET),
        ];
        still.iter().chain(files).for_each(|(name, text)| container.write(name, text));
        (0..5).for_each(|_| drop(container.read()));
        container
    }

    fn write(&self, name: &str, text: &str) {
        fs::write(self.dir.join(name), text).unwrap();
    }

    /// A reading, a second after the one before.
    fn read(&mut self) -> Usage {
        self.read_as(false)
    }

    fn read_as(&mut self, afresh: bool) -> Usage {
        let first = self.target.run % 100;
        self.seconds += 1;
        // Refreshing begins anew with the first of them, whichever run this is.
        let seconds = 1_000 + self.seconds - 1;
        let monotonic_nanos = seconds * 1_000_000_000 - first * 100_000_000;
        let at = Moment { time: SystemTime::UNIX_EPOCH, monotonic_nanos };
        let known = self.newest.is_some();
        let mut sample = self.newest.take().unwrap_or_else(|| Sample {
            identity: self.target.identity(),
            run: self.target.run,
            at,
            groups: [Group::Cpu, Group::Memory, Group::Pids, Group::Io, Group::Pressure]
                .into_iter()
                .fold(Groups::NONE, Groups::with),
            usage: Usage::default(),
        });
        sample.at = at;
        self.reader.read(&mut sample, known, afresh, &mut self.scratch).unwrap();
        self.newest = Some(sample.clone());
        sample.usage
    }
}

#[test]
fn what_only_its_processes_change_is_read_when_one_of_them_ran() {
    for (telltale, text) in [
        ("cpu.stat", "usage_usec 6\nuser_usec 2\nsystem_usec 4\n"),
        ("memory.current", "8192\n"),
        ("pids.current", "5\n"),
    ] {
        let mut container = Container::at_rest(&[]);
        container.write("memory.stat", "anon 2\n");
        container.write("cgroup.procs", "1\n2\n3\n");
        let still = container.read();
        assert_eq!((still.memory.anon, still.pids.processes, still.pids.current), (Some(1), Some(2), Some(4)));
        container.write(telltale, text);
        let moved = container.read();
        assert_eq!((moved.memory.anon, moved.pids.processes), (Some(2), Some(3)), "{telltale}");
        // It has to come to rest again.
        container.write("memory.stat", "anon 3\n");
        assert_eq!(container.read().memory.anon, Some(3));
    }
}

#[test]
fn everything_is_read_again_after_ten_seconds_and_for_who_asks_once() {
    let mut container = Container::at_rest(&[]);
    container.write("memory.stat", "anon 2\n");
    let found: Vec<_> = (0..6).map(|_| container.read().memory.anon).collect();
    assert_eq!(found, [Some(1), Some(1), Some(1), Some(1), Some(1), Some(2)]);
    container.write("memory.stat", "anon 3\n");
    assert_eq!(container.read().memory.anon, Some(2));
    assert_eq!(container.read_as(true).memory.anon, Some(3));
}

#[test]
fn limits_are_read_when_they_were_changed() {
    let mut container = Container::at_rest(&[]);
    container.write("pids.max", "10\n");
    assert_eq!(container.read().pids.limit, Some(9));
    container.target.limits_changed();
    assert_eq!(container.read().pids.limit, Some(10));
    // Nor otherwise while processes run.
    container.write("pids.max", "11\n");
    container.write("cpu.stat", "usage_usec 7\n");
    assert_eq!(container.read().pids.limit, Some(10));
}

#[test]
fn what_goes_on_without_its_processes_is_read_always() {
    let mut container = Container::at_rest(&[]);
    container.write("io.stat", "8:0 rbytes=1 wbytes=4097 rios=1 wios=2\n");
    container.write("cpu.pressure", WAITED);
    let usage = container.read();
    assert_eq!((usage.io.devices.len(), usage.io.devices[0].write_bytes), (1, 4097));
    assert_eq!(usage.pressure.cpu.some.unwrap().total_nanos, 9_000);
    container.write("io.stat", "");
    assert!(container.read().io.devices.is_empty());
    // What waits for a disk may do so for long, and averages take minutes to come to an end.
    let mut container = Container::at_rest(&[("io.pressure", DECAYING)]);
    container.write("io.pressure", WAITED);
    assert_eq!(container.read().pressure.io.some.unwrap().total_nanos, 9_000);
    container.write("io.pressure", QUIET);
    assert_eq!(container.read().pressure.io.some.unwrap().total_nanos, 7_000);
    container.read();
    container.write("io.pressure", WAITED);
    assert_eq!(container.read().pressure.io.some.unwrap().total_nanos, 7_000);
}

#[test]
fn a_single_thread_is_a_process() {
    let mut container = Container::at_rest(&[("pids.current", "1\n"), ("cgroup.procs", "1\n2\n")]);
    assert_eq!(container.read().pids.processes, Some(1));
    container.write("pids.current", "2\n");
    assert_eq!(container.read().pids.processes, Some(2));
}
