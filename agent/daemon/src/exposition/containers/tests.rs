use std::time::{Duration, SystemTime};

use prometheus_client::encoding::text;
use prometheus_client::registry::Registry;

use super::*;
use crate::lifecycle::State;
use crate::lifecycle::config::{ContainerConfig, Resources};
use crate::stats::{CpuStats, Groups, Identity, IoStats, MemoryStats, Moment, NodeMemory, PressureStats};

const ID: &str = "0123456789abcdef";

fn view(config: ContainerConfig) -> Arc<View> {
    Arc::new(View {
        id: ID.into(),
        name: config.name.clone(),
        config: Arc::new(config),
        image_digest: String::new(),
        state: State::Running,
        created_at_nanos: 1_500_000_000,
        started_at_nanos: Some(2_500_000_000),
        exit: None,
        pid: 1,
        log_path: "/log".into(),
        cgroup_path: format!("/hull/{ID}"),
        userns_base: 0,
        start_steps: Arc::new([]),
        generation: 1,
        exits: 0,
    })
}

fn reading(usage: Usage) -> Reading {
    let at = Moment { time: SystemTime::UNIX_EPOCH + Duration::from_millis(3500), monotonic_nanos: 1 };
    let identity = Arc::new(Identity { id: ID.into(), name: "n".into(), labels: BTreeMap::new() });
    let sample = Sample { identity, run: 1, at, groups: Groups::CONTAINER, usage };
    let memory = NodeMemory { total: Some(1000), free: Some(300), available: Some(600), ..NodeMemory::default() };
    let node = NodeSample { at, cpu: None, memory, load: None, pressure: PressureStats::default(), disk: None };
    Reading::new(vec![Arc::new(sample)], Some(Arc::new(node)))
}

fn text_of(reading: Option<&Reading>, config: ContainerConfig) -> String {
    let labels = BTreeMap::from([("app.x".to_owned(), "container_label_app_x".to_owned())]);
    let now = ContainersNow::new(reading, &[view(config)], &labels, Path::new("/nonexistent"));
    let (mut registry, mut text) = (Registry::default(), String::new());
    registry.register_collector(Box::new(now));
    text::encode_registry(&mut text, &registry).unwrap();
    text
}

fn named(name: &str) -> ContainerConfig {
    ContainerConfig { name: name.into(), image: "a/b:1".into(), ..ContainerConfig::default() }
}

#[test]
fn what_is_not_known_has_no_line() {
    let text = text_of(Some(&reading(Usage::default())), named("web"));
    let mut lines: Vec<&str> = text.lines().filter(|line| !line.starts_with('#')).collect();
    lines.sort_unstable();
    let labels = r#"id="/hull/0123456789abcdef",image="a/b:1",name="web""#;
    let expected = [
        format!("container_creation_time_seconds{{{labels}}} 1.5"),
        format!("container_last_seen{{{labels}}} 3.5"),
        r#"container_memory_usage_bytes{id="/"} 700"#.to_owned(),
        r#"container_memory_working_set_bytes{id="/"} 400"#.to_owned(),
        "container_scrape_error 0".to_owned(),
        format!("container_spec_cpu_period{{{labels}}} 100000"),
        format!("container_spec_cpu_shares{{{labels}}} 1024"),
        format!("container_spec_memory_limit_bytes{{{labels}}} 0"),
        format!("container_spec_memory_reservation_limit_bytes{{{labels}}} 0"),
        format!("container_spec_memory_swap_limit_bytes{{{labels}}} 0"),
        format!("container_start_time_seconds{{{labels}}} 2.5"),
        "machine_memory_bytes 1000".to_owned(),
    ];
    assert_eq!(lines, expected);
}

#[test]
fn what_is_known_has_cadvisor_s_labels() {
    let device = crate::stats::DeviceIo { major: 0, minor: 9, read_bytes: 5, ..Default::default() };
    let usage = Usage {
        cpu: CpuStats {
            usage_nanos: Some(1_500_000_000),
            periods: Some(7),
            throttled_nanos: Some(250_000_000),
            ..CpuStats::default()
        },
        memory: MemoryStats { faults: Some(4), max_events: Some(2), ..MemoryStats::default() },
        io: IoStats { devices: vec![device] },
        ..Usage::default()
    };
    let quota = |quota| Resources { cpu_quota: Some(quota), memory_max: Some(64), ..Resources::default() };
    let config = ContainerConfig { resources: quota(50_000), ..named("web") };
    let text = text_of(Some(&reading(usage.clone())), config);
    let labels = r#"id="/hull/0123456789abcdef",image="a/b:1",name="web""#;
    for line in [
        format!("container_cpu_usage_seconds_total{{cpu=\"total\",{labels}}} 1.5"),
        format!("container_cpu_cfs_periods_total{{{labels}}} 7"),
        format!("container_cpu_cfs_throttled_seconds_total{{{labels}}} 0.25"),
        format!("container_memory_failures_total{{failure_type=\"pgfault\",scope=\"hierarchy\",{labels}}} 4"),
        format!("container_memory_failcnt{{{labels}}} 2"),
        format!("container_fs_reads_bytes_total{{device=\"0:9\",{labels}}} 5"),
        format!(
            "container_blkio_device_usage_total{{device=\"0:9\",major=\"0\",minor=\"9\",operation=\"Read\",{labels}}} 5"
        ),
        format!("container_spec_cpu_quota{{{labels}}} 50000"),
        format!("container_spec_memory_limit_bytes{{{labels}}} 64"),
    ] {
        assert!(text.lines().any(|found| found == line), "{line}\n{text}");
    }
    // Without a quota the kernel counts periods, too, but there is nothing to throttle.
    let config = ContainerConfig { resources: quota(-1), ..named("web") };
    assert!(!text_of(Some(&reading(usage)), config).contains("_cfs_"));
}

#[test]
fn names_and_labels_cannot_break_the_format() {
    let mut config = named("a\"} 1\nb\\");
    config.labels = BTreeMap::from([("app.x".into(), "x\ny".into()), ("other".into(), "secret".into())]);
    let text = text_of(Some(&reading(Usage::default())), config);
    let line = text.lines().find(|line| line.starts_with("container_last_seen{")).unwrap();
    let labels = r#"id="/hull/0123456789abcdef",image="a/b:1",name="a\"} 1\nb\\",container_label_app_x="x\ny""#;
    assert_eq!(line, format!("container_last_seen{{{labels}}} 3.5"));
    assert!(!text.contains("secret"));
}

#[test]
fn a_reading_that_failed_is_told() {
    let text = text_of(None, named("web"));
    assert_eq!(text.lines().filter(|line| !line.starts_with('#')).collect::<Vec<_>>(), ["container_scrape_error 1"]);
}

#[test]
fn no_metric_is_there_twice() {
    let heads = usage::FAMILIES.iter().chain(spec::FAMILIES).map(|family| family.head.name);
    let mut names: Vec<&str> = heads.collect();
    let all = names.len();
    names.sort_unstable();
    names.dedup();
    assert_eq!(names.len(), all);
    for Family { head, .. } in usage::FAMILIES.iter().chain(spec::FAMILIES) {
        let grows = head.name.ends_with("_total");
        assert_eq!(head.kind == crate::exposition::family::Kind::Counter, grows, "{}", head.name);
    }
}
