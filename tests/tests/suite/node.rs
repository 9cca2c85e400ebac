//! The node, its health, and what the API says of itself; and what containers use.

use std::collections::BTreeSet;
use std::time::Duration;

use hull_proto::v1::{
    CgroupMode, ContainerConfig, ContainerStats, GetInfoRequest, GetStatsRequest, Resources, StatsSelector,
    StreamStatsRequest,
};
use hull_tests::harness::{Session, assert_error, duration, host, wait};
use tonic::Code;
use tonic_health::pb::HealthCheckRequest;
use tonic_health::pb::health_check_response::ServingStatus;
use tonic_health::pb::health_client::HealthClient;
use tonic_reflection::pb::v1::server_reflection_client::ServerReflectionClient;
use tonic_reflection::pb::v1::server_reflection_request::MessageRequest;
use tonic_reflection::pb::v1::server_reflection_response::MessageResponse;
use tonic_reflection::pb::v1::{ServerReflectionRequest, ServerReflectionResponse};

#[tokio::test]
async fn info_tells_the_truth() {
    let hull = Session::own().await;
    let id = hull.run(hull.probe(&["sleep"])).await;
    hull.create(hull.probe(&["sleep"])).await;
    let info = hull.clients.node.clone().get_info(GetInfoRequest {}).await.expect("GetInfo").into_inner();
    assert_eq!((info.api_version.as_str(), info.version.as_str()), ("hull.v1", env!("CARGO_PKG_VERSION")));
    assert_eq!(info.kernel_version, host::text("/proc/sys/kernel/osrelease").trim());
    assert_eq!(info.hostname, host::text("/proc/sys/kernel/hostname").trim());
    let mode = if host::is_pure_v2() { CgroupMode::Unified } else { CgroupMode::Hybrid };
    assert_eq!(info.cgroup_mode(), mode);
    for controller in ["cpu", "cpuset", "memory", "pids"] {
        assert!(
            info.cgroup_controllers.iter().any(|have| have == controller),
            "{controller}: {:?}",
            info.cgroup_controllers
        );
    }
    assert_eq!(info.cgroup_parent, hull.agent.cgroup());
    assert_eq!(info.data_dir, hull.agent.data_dir().display().to_string());
    assert_eq!(info.run_dir, hull.agent.run_dir().display().to_string());
    assert_eq!((info.containers, info.containers_running, info.images, info.pid), (2, 1, 1, hull.agent.pid()));
    let total =
        host::text("/proc/meminfo").lines().next().and_then(|line| line.split_whitespace().nth(1)?.parse::<u64>().ok());
    assert_eq!(Some(info.memory_bytes / 1024), total);
    assert!(info.cpus > 0 && !info.features.is_empty() && info.started_at.is_some());
    assert!(!id.is_empty());
}

#[tokio::test]
async fn health_is_served_for_the_whole_and_each_service() {
    let hull = Session::shared().await;
    let mut health = HealthClient::new(hull.clients.channel.clone());
    for service in
        ["", "hull.v1.ContainerService", "hull.v1.ImageService", "hull.v1.NodeService", "hull.v1.StatsService"]
    {
        let answer = health.check(HealthCheckRequest { service: service.into() }).await.expect(service).into_inner();
        assert_eq!(answer.status(), ServingStatus::Serving, "{service:?}");
    }
    let unknown = health.check(HealthCheckRequest { service: "hull.v1.Nonsense".into() }).await.expect_err("unknown");
    assert_eq!(unknown.code(), Code::NotFound);
}

async fn reflect(hull: &Session, request: MessageRequest) -> ServerReflectionResponse {
    let mut client = ServerReflectionClient::new(hull.clients.channel.clone());
    let request = ServerReflectionRequest { host: String::new(), message_request: Some(request) };
    let answers = client.server_reflection_info(tokio_stream::iter([request])).await.expect("reflection");
    answers.into_inner().message().await.expect("an answer").expect("an answer")
}

#[tokio::test]
async fn reflection_shows_every_service() {
    let hull = Session::shared().await;
    let answer = reflect(&hull, MessageRequest::ListServices(String::new())).await;
    let Some(MessageResponse::ListServicesResponse(list)) = answer.message_response else { panic!("{answer:?}") };
    let names: BTreeSet<String> = list.service.into_iter().map(|service| service.name).collect();
    for name in [
        "hull.v1.ContainerService",
        "hull.v1.ImageService",
        "hull.v1.NodeService",
        "hull.v1.StatsService",
        "grpc.health.v1.Health",
    ] {
        assert!(names.contains(name), "{name}: {names:?}");
    }
    let answer = reflect(&hull, MessageRequest::FileContainingSymbol("hull.v1.ContainerConfig".into())).await;
    assert!(matches!(answer.message_response, Some(MessageResponse::FileDescriptorResponse(_))), "{answer:?}");
}

fn select(containers: &[&str]) -> Option<StatsSelector> {
    Some(StatsSelector {
        containers: containers.iter().map(|id| (*id).to_owned()).collect(),
        ..StatsSelector::default()
    })
}

async fn stats(hull: &Session, id: &str) -> ContainerStats {
    let answer = hull
        .clients
        .stats
        .clone()
        .get_stats(GetStatsRequest { selector: select(&[id]), ..Default::default() })
        .await
        .expect("GetStats");
    let mut all = answer.into_inner().stats;
    assert_eq!(all.len(), 1, "{all:?}");
    all.remove(0)
}

#[tokio::test]
async fn values_agree_with_the_kernel_s_files() {
    let hull = Session::shared().await;
    let limits = Resources { memory_max: Some(128 << 20), pids_max: Some(50), ..Resources::default() };
    let id = hull.run(ContainerConfig { resources: Some(limits), ..hull.probe(&["alloc", "32"]) }).await;
    hull.until_logged(&id, "allocated").await;
    let stats = stats(&hull, &id).await;
    let container = hull.get(&id).await;
    assert_eq!((stats.id.as_str(), stats.name.as_str()), (id.as_str(), container.name.as_str()));
    let read = |controller: &str, v2: &str, v1: &str| -> u64 {
        host::text(host::cgroup_file(controller, &container.cgroup_path, v2, v1)).trim().parse().expect("a number")
    };
    let near = |one: u64, other: u64| one.abs_diff(other) <= 4 << 20;
    let memory = stats.memory.expect("memory");
    assert!(near(memory.usage.expect("usage"), read("memory", "memory.current", "memory.usage_in_bytes")));
    assert!(memory.anon.expect("anon") >= 32 << 20 && memory.anon < memory.limit);
    assert!(memory.working_set <= memory.usage);
    assert_eq!(memory.limit, Some(128 << 20));
    let pids = stats.pids.expect("pids");
    assert_eq!((pids.current, pids.limit), (Some(read("pids", "pids.current", "pids.current")), Some(50)));
    assert!(stats.monotonic_nanos > 0 && stats.time.is_some());
}

#[tokio::test]
async fn work_shows_as_processor_time() {
    let hull = Session::shared().await;
    let id = hull.run(hull.shell("/probe burn 300; sleep 1000")).await;
    hull.until_logged(&id, "burnt").await;
    let cpu = stats(&hull, &id).await.cpu.expect("cpu");
    let used = Duration::from_nanos(cpu.usage_nanos.expect("usage"));
    // Other tests compete for the processors; the container cannot have had more than the time that went by.
    assert!(used > Duration::from_millis(1) && used < wait::scaled(Duration::from_secs(20)), "{used:?}");
    assert!(cpu.user_nanos.expect("user") > 0);
}

#[tokio::test]
async fn throttling_is_counted() {
    let hull = Session::shared().await;
    let limits = Resources { cpu_quota: Some(5_000), cpu_period: Some(50_000), ..Resources::default() };
    let id = hull.run(ContainerConfig { resources: Some(limits), ..hull.shell("/probe burn 600; sleep 1000") }).await;
    hull.until_logged(&id, "burnt").await;
    let cpu = stats(&hull, &id).await.cpu.expect("cpu");
    assert!(cpu.throttled_periods.expect("throttled") > 0 && cpu.throttled_nanos.expect("nanos") > 0, "{cpu:?}");
    assert!(cpu.periods >= cpu.throttled_periods);
}

#[tokio::test]
async fn a_stream_pushes_at_its_interval_and_follows_containers() {
    let hull = Session::own().await;
    let first = hull.run(hull.probe(&["sleep"])).await;
    let interval = Some(duration(Duration::from_millis(100)));
    let request = StreamStatsRequest { interval, ..Default::default() };
    let mut stream = hull.clients.stats.clone().stream_stats(request).await.expect("StreamStats").into_inner();
    let frame = wait::within("the first frame", stream.message()).await.expect("frame").expect("frame");
    assert_eq!(frame.stats.iter().map(|stats| stats.id.as_str()).collect::<Vec<_>>(), [first.as_str()]);
    let second = hull.run(hull.probe(&["sleep"])).await;
    let mut times = Vec::new();
    loop {
        let frame = wait::within("a frame", stream.message()).await.expect("frame").expect("frame");
        times.extend(frame.stats.iter().filter(|stats| stats.id == first).map(|stats| stats.monotonic_nanos));
        if frame.stats.iter().any(|stats| stats.id == second) && times.len() > 4 {
            break;
        }
        assert!(times.len() < 200, "the second container does not show");
    }
    assert!(times.is_sorted());
    let average = (times[times.len() - 1] - times[0]) / (times.len() as u64 - 1);
    assert!(average >= 60_000_000, "frames come every {average} ns");
    hull.remove(&first).await;
    wait::within("the first is gone", async {
        loop {
            let frame = stream.message().await.expect("frame").expect("frame");
            if !frame.stats.iter().any(|stats| stats.id == first) {
                break;
            }
        }
    })
    .await;
}

#[tokio::test]
async fn wrong_selections_and_intervals_are_refused() {
    let hull = Session::shared().await;
    let mut service = hull.clients.stats.clone();
    let unknown = service.get_stats(GetStatsRequest { selector: select(&["nobody"]), ..Default::default() }).await;
    assert_error(unknown, Code::NotFound, "CONTAINER_NOT_FOUND", "nobody");
    for interval in [Duration::from_millis(99), Duration::from_secs(3601)] {
        let request = StreamStatsRequest { interval: Some(duration(interval)), ..Default::default() };
        assert_error(service.stream_stats(request).await, Code::InvalidArgument, "INVALID_ARGUMENT", "interval");
    }
}

#[tokio::test]
async fn labels_select() {
    let hull = Session::shared().await;
    let mut config = hull.probe(&["sleep"]);
    config.labels.insert("stats".into(), hull.name("chosen"));
    let id = hull.run(config).await;
    hull.run(hull.probe(&["sleep"])).await;
    let labels = [("stats".to_owned(), hull.name("chosen"))].into();
    let selector = Some(StatsSelector { labels, ..StatsSelector::default() });
    let answer = hull
        .clients
        .stats
        .clone()
        .get_stats(GetStatsRequest { selector, ..Default::default() })
        .await
        .expect("GetStats")
        .into_inner();
    assert_eq!(answer.stats.iter().map(|stats| stats.id.clone()).collect::<Vec<_>>(), [id]);
}
