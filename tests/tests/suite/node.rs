//! The node, its health, and what the API says of itself.

use std::collections::BTreeSet;

use hull_proto::v1::{CgroupMode, GetInfoRequest};
use hull_tests::harness::{Session, host};
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
