//! Limits: set, refused, changed, undone.

use std::fs;
use std::path::Path;
use std::time::{Duration, Instant};

use nix::errno::Errno;

use super::super::CgroupMode;
use super::super::apply::Place;
use super::super::hierarchy::{Controller, Version};
use super::{Bench, MIB, Member, bound, value};
use crate::error::Reason;
use crate::lifecycle::config::{IoMax, Resources};

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
