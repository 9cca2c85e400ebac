//! Metrics of containers under cAdvisor's names: against the API, the kernel's files and a real Prometheus; and what deploy/ has for them.

use std::collections::BTreeSet;
use std::os::unix::fs::MetadataExt as _;
use std::path::Path;
use std::process::Command;
use std::sync::Arc;
use std::time::{Duration, Instant};

use hull_proto::v1::{ContainerConfig, ContainerStats, GetStatsRequest, Resources, StatsSelector, StreamStatsRequest};
use hull_tests::harness::monitoring::{
    ACCEPT_OPENMETRICS, Prometheus, Sample, metered, names, promtool, samples, scrape, value, values,
};
use hull_tests::harness::{BASE_IMAGE, Network, Session, duration, host, wait, workspace};
use serde_json::Value;

async fn session(arguments: &[&str]) -> (Arc<Network>, Session) {
    let network = Network::new();
    let hull = Session::own_with(metered(&network, arguments)).await;
    (network, hull)
}

fn now(network: &Network) -> Vec<Sample> {
    samples(&scrape(network, "text/plain").body)
}

async fn stats(hull: &Session, id: &str) -> ContainerStats {
    let selector = Some(StatsSelector { containers: vec![id.to_owned()], ..StatsSelector::default() });
    let request = GetStatsRequest { selector, ..GetStatsRequest::default() };
    hull.clients.stats.clone().get_stats(request).await.expect("GetStats").into_inner().stats.remove(0)
}

/// One that has limits of every kind, does something of everything, and then stands still.
fn busy(hull: &Session, name: &str) -> ContainerConfig {
    let resources = Resources {
        memory_max: Some(256 << 20),
        cpu_quota: Some(20_000),
        cpu_period: Some(100_000),
        pids_max: Some(64),
        ..Resources::default()
    };
    let line = "/probe burn 300; dd if=/dev/zero of=/written bs=64k count=16; sync; echo ready; exec /probe alloc 32";
    ContainerConfig { name: name.into(), resources: Some(resources), ..hull.shell(line) }
}

/// Gives a container an interface with something at its other end, where packets of their own accord come and go.
async fn connect(hull: &Session, id: &str) -> i32 {
    let pid = hull.get(id).await.pid;
    let namespace = format!("--net=/proc/{pid}/ns/net");
    for words in ["link add eth0 type veth peer name eth1", "link set eth0 up", "link set eth1 up"] {
        let ip =
            Command::new("nsenter").args([&namespace, "--", "ip"]).args(words.split(' ')).status().expect("nsenter");
        assert!(ip.success(), "ip {words}");
    }
    pid
}

fn transmitted(pid: i32, interface: &str) -> f64 {
    let text = host::text(format!("/proc/{pid}/net/dev"));
    let line = text.lines().find_map(|line| line.trim().strip_prefix(interface)?.strip_prefix(':')).expect("a line");
    line.split_whitespace().nth(8).and_then(|bytes| bytes.parse().ok()).expect("a number")
}

#[tokio::test]
async fn names_labels_and_values_are_cadvisor_s() {
    let (network, hull) = session(&[]).await;
    let id = hull.run(busy(&hull, "web")).await;
    hull.until_logged(&id, "allocated").await;
    let pid = connect(&hull, &id).await;
    let container = hull.get(&id).await;
    let samples = now(&network);
    let own = [("id", container.cgroup_path.as_str()), ("image", BASE_IMAGE), ("name", "web")];
    let of = |name: &str, more: &[(&str, &str)]| value(&samples, name, &[&own, more].concat());
    for sample in samples.iter().filter(|sample| sample.labels.get("name").is_some_and(|name| name == "web")) {
        let expected: BTreeSet<&str> = ["id", "image", "name"].into();
        let keys: BTreeSet<&str> = sample.labels.keys().map(String::as_str).collect();
        assert!(keys.is_superset(&expected), "{sample:?}");
        assert!(!keys.iter().any(|key| key.starts_with("container_label_")), "{sample:?}");
    }
    let told = stats(&hull, &id).await;
    let (cpu, memory) = (told.cpu.expect("cpu"), told.memory.expect("memory"));
    let close = |told: f64, read: Option<u64>, by: f64| {
        let read = read.expect("a value") as f64;
        assert!((told - read).abs() <= by, "{told} {read}");
    };
    close(of("container_cpu_usage_seconds_total", &[("cpu", "total")]) * 1e9, cpu.usage_nanos, 50e6);
    close(of("container_cpu_user_seconds_total", &[]) * 1e9, cpu.user_nanos, 50e6);
    close(of("container_cpu_system_seconds_total", &[]) * 1e9, cpu.system_nanos, 50e6);
    close(of("container_cpu_cfs_throttled_seconds_total", &[]) * 1e9, cpu.throttled_nanos, 1e8);
    assert!(of("container_cpu_cfs_throttled_periods_total", &[]) > 0.0);
    close(of("container_memory_usage_bytes", &[]), memory.usage, 4e6);
    close(of("container_memory_working_set_bytes", &[]), memory.working_set, 4e6);
    close(of("container_memory_rss", &[]), memory.anon, 4e6);
    close(of("container_memory_cache", &[]), memory.file, 4e6);
    assert!(of("container_memory_rss", &[]) > 32e6);
    let faults = [("failure_type", "pgfault"), ("scope", "container")];
    assert!(of("container_memory_failures_total", &faults) >= 32e6 / 4096.0);
    let file = host::cgroup_file("pids", &container.cgroup_path, "pids.current", "pids.current");
    assert_eq!(of("container_threads", &[]), host::text(file).trim().parse::<f64>().expect("a number"));
    assert_eq!(
        (of("container_threads_max", &[]), of("container_spec_memory_limit_bytes", &[])),
        (64.0, 256.0 * 1048576.0)
    );
    assert_eq!((of("container_spec_cpu_quota", &[]), of("container_spec_cpu_period", &[])), (20_000.0, 100_000.0));
    assert_eq!((of("container_oom_events_total", &[]), of("container_spec_cpu_shares", &[])), (0.0, 1024.0));
    let since = container.started_at.expect("a time").seconds as f64;
    assert!((of("container_start_time_seconds", &[]) - since).abs() < 1.001);
    assert!(of("container_last_seen", &[]) >= of("container_start_time_seconds", &[]));
    wait::until("the traffic is told", || {
        let samples = now(&network);
        let sent = values(&samples, "container_network_transmit_bytes_total", &[own[2], ("interface", "eth0")]);
        (sent.first().is_some_and(|sent| *sent > 0.0) && sent[0] == transmitted(pid, "eth0")).then_some(())
    });
    assert_eq!(values(&samples, "container_network_transmit_bytes_total", &[("interface", "lo")]), Vec::<f64>::new());
    node(&samples);
}

/// The node is the container "/".
fn node(samples: &[Sample]) {
    let of = |name: &str| value(samples, name, &[("id", "/"), ("name", "")]);
    assert!(of("container_memory_usage_bytes") > of("container_memory_working_set_bytes"));
    assert!(of("container_memory_usage_bytes") < value(samples, "machine_memory_bytes", &[]));
    assert!(of("container_cpu_usage_seconds_total") > 0.0);
    let cpus = std::thread::available_parallelism().expect("processors").get();
    assert!(value(samples, "machine_cpu_cores", &[]) >= cpus as f64);
    assert_eq!(value(samples, "container_scrape_error", &[]), 0.0);
}

#[tokio::test]
async fn what_there_is_not_has_no_line() {
    let (network, hull) = session(&[]).await;
    let id = hull.run(ContainerConfig { name: "plain".into(), ..hull.probe(&["sleep"]) }).await;
    hull.create(ContainerConfig { name: "idle".into(), ..hull.probe(&["sleep"]) }).await;
    let samples = now(&network);
    let told = |name: &str| values(&samples, name, &[("name", "plain")]);
    for name in ["container_cpu_cfs_periods_total", "container_spec_cpu_quota", "container_threads_max"] {
        assert_eq!(told(name), Vec::<f64>::new(), "{name}");
    }
    assert_eq!(told("container_spec_memory_limit_bytes"), [0.0]);
    assert!(samples.iter().all(|sample| sample.labels.get("name").is_none_or(|name| name != "idle")));
    hull.stop(&id, None).await;
    assert_eq!(values(&now(&network), "container_last_seen", &[]), Vec::<f64>::new());
}

#[tokio::test]
async fn labels_are_told_that_are_asked_for_and_cannot_break_the_text() {
    let (network, hull) = session(&["--metrics-label", "app/kind", "--metrics-label", "team"]).await;
    let hostile = "a\"} 1\ncontainer_evil 2\\\u{7f}é";
    let mut config = hull.probe(&["sleep"]);
    config.labels.extend([("app/kind".into(), hostile.into()), ("secret".into(), "hidden".into())]);
    hull.run(config).await;
    let mut config = hull.probe(&["sleep"]);
    config.labels.insert("team".into(), "x".repeat(3000));
    hull.run(config).await;
    for accept in ["text/plain", ACCEPT_OPENMETRICS] {
        let answer = scrape(&network, accept);
        assert!(!answer.body.contains("hidden") && !names(&samples(&answer.body)).contains("container_evil"));
        let samples = samples(&answer.body);
        assert!(value(&samples, "container_last_seen", &[("container_label_app_kind", hostile)]) > 0.0);
        let longest = samples.iter().filter_map(|sample| sample.labels.get("container_label_team")).map(String::len);
        assert!(longest.max().is_some_and(|length| (1000..1100).contains(&length)));
    }
    assert_eq!(promtool(&["check", "metrics"], &scrape(&network, "").body).as_deref().map(str::trim), Ok(""));
}

#[tokio::test]
async fn several_who_ask_cost_one_pass_and_nobody_costs_none() {
    let (network, hull) = session(&[]).await;
    hull.run(hull.probe(&["sleep"])).await;
    let passes = || value(&now(&network), "hull_stats_passes_total", &[]);
    let (begun, before) = (Instant::now(), passes());
    let scrapers: Vec<_> = (0..4)
        .map(|_| {
            let network = Arc::clone(&network);
            std::thread::spawn(move || (0..25).for_each(|_| drop(now(&network))))
        })
        .collect();
    scrapers.into_iter().for_each(|scraper| scraper.join().expect("a scraper"));
    // A reading serves for half a second.
    let most = begun.elapsed().as_secs_f64() / 0.5 + 2.0;
    let after = passes();
    assert!(after - before <= most, "{before} {after} {most}");
    // Nothing may happen while nobody asks.
    std::thread::sleep(Duration::from_millis(1200));
    assert_eq!(passes(), after + 1.0);
    // What a stream has read is not read again.
    let request =
        StreamStatsRequest { interval: Some(duration(Duration::from_millis(100))), ..StreamStatsRequest::default() };
    let mut stream = hull.clients.stats.clone().stream_stats(request).await.expect("StreamStats").into_inner();
    wait::within("a frame", stream.message()).await.expect("a frame");
    let samples = now(&network);
    assert_eq!(value(&samples, "hull_stats_streams", &[]), 1.0);
    assert!(value(&samples, "hull_stats_pass_seconds_total", &[]) > 0.0);
}

#[tokio::test]
async fn a_real_prometheus_scrapes_and_its_answers_are_those_of_the_api() {
    let (network, hull) = session(&["--metrics-label", "hull-test"]).await;
    let id = hull.run(busy(&hull, "web")).await;
    hull.until_logged(&id, "allocated").await;
    let prometheus = Prometheus::start(&network);
    wait::until("it has scraped", || (prometheus.query("up{job=\"hull\"}").first()?.1 == 1.0).then_some(()));
    let told = stats(&hull, &id).await;
    let (cpu, memory) = (told.cpu.expect("cpu"), told.memory.expect("memory"));
    let web = |name: &str| {
        let found = wait::until("a value is there", || {
            let found = prometheus.query(&format!("{name}{{name=\"web\"}}"));
            (!found.is_empty()).then_some(found)
        });
        assert_eq!(found.len(), 1, "{found:?}");
        found[0].clone()
    };
    let (labels, used) = web("container_cpu_usage_seconds_total");
    assert!((used * 1e9 - cpu.usage_nanos.expect("usage") as f64).abs() < 1e8, "{used} {cpu:?}");
    let container = hull.get(&id).await;
    assert_eq!((labels["id"].as_str(), labels["image"].as_str()), (container.cgroup_path.as_str(), BASE_IMAGE));
    assert_eq!((labels["job"].as_str(), labels["cpu"].as_str()), ("hull", "total"));
    assert!(labels.contains_key("container_label_hull_test"), "{labels:?}");
    let (_, resident) = web("container_memory_rss");
    assert!((resident - memory.anon.expect("anon") as f64).abs() < 4e6, "{resident} {memory:?}");
    let (_, share) = web("container_memory_working_set_bytes / container_spec_memory_limit_bytes");
    assert!(share > 0.1 && share < 1.0, "{share}");
    // As dashboards ask.
    let threads = prometheus.query("sum by (name) (container_threads{image!=\"\"})");
    assert!(threads.len() == 1 && threads[0].1 >= 1.0, "{threads:?}");
    let created = prometheus.query("grpc_server_handled_total{grpc_method=\"CreateContainer\",grpc_code=\"OK\"}");
    assert_eq!(created.first().map(|(_, value)| *value), Some(1.0));
    assert_eq!(prometheus.query("hull_build_info").len(), 1);
    // In OpenMetrics the family of a counter has another name than its samples: it was that format that was agreed on.
    let metadata = prometheus.get("/api/v1/metadata?metric=container_cpu_usage_seconds");
    assert_eq!(metadata["data"]["container_cpu_usage_seconds"][0]["type"], "counter", "{metadata}");
    let target = &prometheus.get("/api/v1/targets")["data"]["activeTargets"][0];
    assert_eq!((target["health"].as_str(), target["lastError"].as_str()), (Some("up"), Some("")));
    // What has ended is gone with the next scrape, without waiting for it to grow stale.
    hull.stop(&id, None).await;
    wait::until("it is gone", || prometheus.query("container_last_seen{name=\"web\"}").is_empty().then_some(()));
}

/// The metrics that expressions of PromQL name.
fn named(expression: &str, found: &mut BTreeSet<String>) {
    let letter = |letter: char| letter.is_ascii_alphanumeric() || letter == '_';
    let words = expression.split(|character: char| !letter(character));
    let ours = ["hull_", "container_", "machine_", "grpc_server_", "process_"];
    found.extend(words.filter(|word| ours.iter().any(|prefix| word.starts_with(prefix))).map(str::to_owned));
}

/// Every expression below a value of JSON.
fn expressions(value: &Value, found: &mut BTreeSet<String>) {
    match value {
        Value::Object(map) => {
            for (key, value) in map {
                match value.as_str().filter(|_| matches!(key.as_str(), "expr" | "definition")) {
                    Some(expression) => named(expression, found),
                    None => expressions(value, found),
                }
            }
        }
        Value::Array(all) => all.iter().for_each(|value| expressions(value, found)),
        _ => {}
    }
}

#[tokio::test]
async fn every_metric_of_dashboard_and_alerts_is_told() {
    let (network, hull) = session(&[]).await;
    let id = hull.run(busy(&hull, "web")).await;
    hull.until_logged(&id, "allocated").await;
    connect(&hull, &id).await;
    hull.try_run(hull.command(&["/nothing"])).await.expect_err("no such program");
    let deploy = workspace().join("deploy");
    let mut wanted = BTreeSet::new();
    let dashboard = serde_json::from_str(&host::text(deploy.join("grafana/hull.json"))).expect("JSON");
    expressions(&dashboard, &mut wanted);
    assert!(wanted.len() > 40, "{wanted:?}");
    let rules = host::text(deploy.join("prometheus/hull.rules.yml"));
    rules.lines().for_each(|line| named(line, &mut wanted));
    // What the kernel does not count, and devices that the agent's file system has not.
    let device = std::fs::metadata(hull.agent.data_dir()).expect("the data directory").dev();
    let lacks = |name: &str| {
        name.contains("_pressure_") && !Path::new("/proc/pressure/cpu").exists()
            || name.ends_with("s_bytes_total")
                && name.starts_with("container_fs_")
                && nix::sys::stat::major(device) == 0
    };
    wanted.retain(|name| !lacks(name));
    // The writable layer is measured a moment after the start.
    let begun = Instant::now();
    loop {
        let mut told = names(&now(&network));
        // A histogram is named without what its lines end in, too.
        let families: Vec<String> =
            told.iter().filter_map(|name| name.strip_suffix("_count")).map(str::to_owned).collect();
        told.extend(families);
        let missing: Vec<&String> = wanted.difference(&told).collect();
        if missing.is_empty() {
            break;
        }
        assert!(begun.elapsed() < wait::soon(), "{missing:?}");
        std::thread::sleep(Duration::from_millis(20));
    }
}

#[test]
fn promtool_is_content_with_configuration_and_alerts() {
    let path = |name: &str| workspace().join("deploy/prometheus").join(name).display().to_string();
    promtool(&["check", "config", &path("prometheus.yml")], "").expect("prometheus.yml");
    promtool(&["check", "rules", &path("hull.rules.yml")], "").expect("hull.rules.yml");
    promtool(&["test", "rules", &path("hull.rules.test.yml")], "").expect("hull.rules.test.yml");
    // Each alert has a test.
    let (rules, tests) = (host::text(path("hull.rules.yml")), host::text(path("hull.rules.test.yml")));
    let alerts: Vec<&str> = rules.lines().filter_map(|line| line.trim().strip_prefix("- alert: ")).collect();
    assert!(alerts.len() > 10);
    for alert in alerts {
        assert!(tests.contains(&format!("alertname: {alert}\n")), "{alert} has no test");
    }
}
