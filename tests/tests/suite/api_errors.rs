//! Bad input: each with its code and reason, one line, and nothing left behind.

use std::collections::HashMap;

use bytes::{Buf as _, BufMut as _, Bytes};
use hull_proto::v1::{
    ContainerConfig, CreateContainerRequest, DnsConfig, HostEntry, Namespace, NamespaceMode, Namespaces,
};
use hull_tests::harness::{Session, assert_error, error_info};
use tonic::Code;
use tonic::codec::{Codec, DecodeBuf, Decoder, EncodeBuf, Encoder};

#[tokio::test]
async fn a_wrong_config_is_refused_with_the_field_s_name() {
    let hull = Session::own().await;
    let base = || hull.probe(&[]);
    let many = |count: usize| -> HashMap<String, String> {
        (0..count).map(|at| (format!("k{at}"), "x".repeat(1000))).collect()
    };
    let wrong: Vec<(&str, ContainerConfig)> = vec![
        ("image", ContainerConfig { image: String::new(), ..base() }),
        ("name", ContainerConfig { name: "-x".into(), ..base() }),
        ("name", ContainerConfig { name: "a/b".into(), ..base() }),
        ("name", ContainerConfig { name: "../x".into(), ..base() }),
        ("name", ContainerConfig { name: "x".repeat(129), ..base() }),
        ("name", ContainerConfig { name: "new\nline".into(), ..base() }),
        ("labels", ContainerConfig { labels: HashMap::from([("k".repeat(257), String::new())]), ..base() }),
        ("labels", ContainerConfig { labels: HashMap::from([(String::new(), "x".into())]), ..base() }),
        ("labels", ContainerConfig { labels: many(70), ..base() }),
        ("env", ContainerConfig { env: vec!["NOVALUE".into()], ..base() }),
        ("env", ContainerConfig { env: vec!["=x".into()], ..base() }),
        ("env", ContainerConfig { env: vec!["A=\0".into()], ..base() }),
        ("args", ContainerConfig { args: vec!["a\0b".into()], ..base() }),
        ("cwd", ContainerConfig { cwd: "relative".into(), ..base() }),
        ("cwd", ContainerConfig { cwd: "/nul\0".into(), ..base() }),
        ("user", ContainerConfig { user: "a\nb".into(), ..base() }),
        ("stop_signal", ContainerConfig { stop_signal: "SIGNOPE".into(), ..base() }),
        ("stop_signal", ContainerConfig { stop_signal: "0".into(), ..base() }),
        (
            "stop_timeout",
            ContainerConfig { stop_timeout: Some(prost_types::Duration { seconds: -1, nanos: 0 }), ..base() },
        ),
        ("hostname", ContainerConfig { hostname: "x".repeat(65), ..base() }),
        ("hostname", ContainerConfig { hostname: "a\nb".into(), ..base() }),
        (
            "extra_hosts",
            ContainerConfig { extra_hosts: vec![HostEntry { ip: "no".into(), hostname: "h".into() }], ..base() },
        ),
        (
            "extra_hosts",
            ContainerConfig {
                extra_hosts: vec![HostEntry { ip: "1.2.3.4".into(), hostname: "a\n1.1.1.1 b".into() }],
                ..base()
            },
        ),
        (
            "dns",
            ContainerConfig { dns: Some(DnsConfig { servers: vec!["x".into()], ..DnsConfig::default() }), ..base() },
        ),
        (
            "dns",
            ContainerConfig {
                dns: Some(DnsConfig { searches: vec!["a\nnameserver 1.1.1.1".into()], ..DnsConfig::default() }),
                ..base()
            },
        ),
        (
            "dns",
            ContainerConfig {
                dns: Some(DnsConfig { servers: vec!["1.1.1.1".into(); 9], ..DnsConfig::default() }),
                ..base()
            },
        ),
        ("masked_paths", ContainerConfig { masked_paths: vec!["relative".into()], ..base() }),
        ("readonly_paths", ContainerConfig { readonly_paths: vec![String::new()], ..base() }),
        (
            "network",
            ContainerConfig {
                namespaces: Some(Namespaces {
                    network: Some(Namespace { mode: NamespaceMode::Container.into(), container: String::new() }),
                    ..Namespaces::default()
                }),
                ..base()
            },
        ),
        (
            "pid",
            ContainerConfig {
                namespaces: Some(Namespaces {
                    pid: Some(Namespace { mode: 99, container: String::new() }),
                    ..Namespaces::default()
                }),
                ..base()
            },
        ),
        (
            "ipc",
            ContainerConfig {
                namespaces: Some(Namespaces {
                    ipc: Some(Namespace { mode: NamespaceMode::Host.into(), container: "x".into() }),
                    ..Namespaces::default()
                }),
                ..base()
            },
        ),
    ];
    for (field, config) in wrong {
        let what = format!("{field}: {:.200}", format!("{config:?}"));
        let status = hull.try_create(config).await.expect_err(&what);
        assert!(matches!(status.code(), Code::InvalidArgument | Code::ResourceExhausted), "{what}: {status:?}");
        assert!(status.message().contains(field), "{field:?} is not in {:?}", status.message());
        assert!(!status.message().contains('\n') && status.message().len() < 1000, "{status:?}");
        error_info(&status);
    }
    let list = hull.clients.containers.clone().list_containers(hull_proto::v1::ListContainersRequest::default()).await;
    assert!(list.expect("ListContainers").into_inner().containers.is_empty(), "a refused create leaves a record");
}

#[tokio::test]
async fn a_missing_image_is_named() {
    let hull = Session::shared().await;
    for image in ["test/none:1", "none"] {
        let config = ContainerConfig { image: image.into(), ..hull.probe(&[]) };
        assert_error(hull.try_create(config).await, Code::NotFound, "IMAGE_NOT_FOUND", image);
    }
}

#[tokio::test]
async fn labels_of_10_mb_are_refused_and_cost_nothing() {
    let hull = Session::shared().await;
    for (count, size) in [(1, 10 << 20), (10_000, 1000)] {
        let labels = (0..count).map(|at| (format!("k{at}"), "x".repeat(size))).collect();
        let status = hull.try_create(ContainerConfig { labels, ..hull.probe(&[]) }).await.expect_err("too much");
        assert!(
            matches!(status.code(), Code::InvalidArgument | Code::ResourceExhausted | Code::OutOfRange),
            "{status:?}"
        );
    }
    assert_eq!(hull.output(hull.probe(&["exit", "0"])).await.exit.code, 0);
}

#[tokio::test]
async fn a_request_without_config_or_with_a_long_request_id_is_refused() {
    let hull = Session::shared().await;
    let mut service = hull.clients.containers.clone();
    let empty = service.create_container(CreateContainerRequest::default()).await;
    assert_error(empty, Code::InvalidArgument, "INVALID_ARGUMENT", "config");
    let long = CreateContainerRequest { request_id: "r".repeat(129), config: Some(hull.probe(&[])), start: false };
    assert_error(service.create_container(long).await, Code::InvalidArgument, "INVALID_ARGUMENT", "request_id");
    for reference in ["", "ab", "../../etc", "a b", "\u{1F600}", &"x".repeat(1000)] {
        let status = hull.try_get(reference).await.expect_err("no such container");
        assert!(matches!(status.code(), Code::InvalidArgument | Code::NotFound), "{reference:?}: {status:?}");
        assert!(status.message().len() < 400, "{status:?}");
    }
}

#[tokio::test]
async fn containers_without_a_program_are_refused() {
    let hull = Session::shared().await;
    let config = ContainerConfig { clear_entrypoint: true, entrypoint: vec!["/probe".into()], ..hull.probe(&[]) };
    assert_error(hull.try_create(config).await, Code::InvalidArgument, "INVALID_ARGUMENT", "entrypoint");
    let tag = format!("test/{}:1", hull.name("empty"));
    let rootfs = hull_tests::harness::Rootfs::empty().file("x", 0o644, "x");
    let bare = hull_proto::v1::ImageConfig { env: vec!["A=b".into()], ..Default::default() };
    hull.try_image(&tag, rootfs.tar(), bare).await.expect("import");
    let config = ContainerConfig { image: tag, args: Vec::new(), ..hull.probe(&[]) };
    match hull.try_create(config).await {
        Err(status) => assert_eq!(status.code(), Code::InvalidArgument, "{status:?}"),
        // Or the image got the default command, which is not there.
        Ok(id) => assert!(hull.try_start(&id).await.is_err()),
    }
}

/// Sends and takes bytes as they are.
#[derive(Debug, Clone, Copy)]
struct Raw;

impl Codec for Raw {
    type Encode = Bytes;
    type Decode = Bytes;
    type Encoder = Self;
    type Decoder = Self;

    fn encoder(&mut self) -> Self {
        *self
    }

    fn decoder(&mut self) -> Self {
        *self
    }
}

impl Encoder for Raw {
    type Item = Bytes;
    type Error = tonic::Status;

    fn encode(&mut self, item: Bytes, to: &mut EncodeBuf<'_>) -> Result<(), tonic::Status> {
        to.put(item);
        Ok(())
    }
}

impl Decoder for Raw {
    type Item = Bytes;
    type Error = tonic::Status;

    fn decode(&mut self, from: &mut DecodeBuf<'_>) -> Result<Option<Bytes>, tonic::Status> {
        Ok(Some(from.copy_to_bytes(from.remaining())))
    }
}

async fn raw(hull: &Session, method: &'static str, message: &'static [u8]) -> Result<Bytes, tonic::Status> {
    let mut client = tonic::client::Grpc::new(hull.clients.channel.clone());
    client.ready().await.expect("ready");
    let path = tonic::codegen::http::uri::PathAndQuery::from_static(method);
    let answer = client.unary(tonic::Request::new(Bytes::from_static(message)), path, Raw).await?;
    Ok(answer.into_inner())
}

#[tokio::test]
async fn bytes_that_are_no_message_are_refused() {
    let hull = Session::shared().await;
    for message in [b"\xff\xff\xff".as_slice(), b"\x12\xff\xff\xff\xff\x0f", b"\x0a\x02\xff\xfe"] {
        let status = raw(&hull, "/hull.v1.ContainerService/GetContainer", message).await.expect_err("no message");
        assert!(matches!(status.code(), Code::InvalidArgument | Code::Internal), "{status:?}");
    }
    let status = raw(&hull, "/hull.v1.ContainerService/Nonsense", b"").await.expect_err("no method");
    assert_eq!(status.code(), Code::Unimplemented);
    let status = raw(&hull, "/hull.v2.ContainerService/GetContainer", b"").await.expect_err("no service");
    assert_eq!(status.code(), Code::Unimplemented);
}

#[tokio::test]
async fn a_field_that_the_agent_does_not_know_does_not_pass_silently() {
    let hull = Session::shared().await;
    // GetContainer with `container` = "x" and field 1000 = 1: a client newer than the agent. Protobuf's own rule is to skip such
    // fields; whatever comes back, it must be about the container, or name the field.
    let status = raw(&hull, "/hull.v1.ContainerService/GetContainer", b"\x0a\x03xyz\xc0\x3e\x01")
        .await
        .expect_err("no such container");
    assert!(matches!(status.code(), Code::NotFound | Code::InvalidArgument), "{status:?}");
}

#[tokio::test]
async fn floods_of_requests_are_survived() {
    let hull = Session::shared().await;
    let calls = (0..300).map(|_| {
        let hull = &hull;
        async move { hull.try_get("nobody").await.expect_err("nobody").code() }
    });
    let codes = futures_util::future::join_all(calls).await;
    assert!(codes.iter().all(|code| matches!(code, Code::NotFound | Code::ResourceExhausted)));
    assert_eq!(hull.output(hull.probe(&["exit", "0"])).await.exit.code, 0);
}
