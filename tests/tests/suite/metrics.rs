//! Metrics: both formats, their bounds, and what they say, checked with promtool and a real Prometheus.

use std::io::{Read as _, Write as _};
use std::sync::Arc;
use std::time::Duration;

use hull_proto::v1::{GetContainerRequest, StepTiming};
use hull_tests::harness::monitoring::{
    ACCEPT_OPENMETRICS, METRICS_PORT, ask, dial, metered, metered_session as session, names, now, promtool, samples,
    scrape, value, values,
};
use hull_tests::harness::{Agent, AgentOptions, Network, Session, binary, host, shim, wait};

#[tokio::test]
async fn both_formats_tell_the_same_and_promtool_is_content() {
    let (network, hull) = session(&[]).await;
    hull.run(hull.probe(&["sleep"])).await;
    hull.try_run(hull.command(&["/nothing"])).await.expect_err("no such program");
    let [old, new] = ["text/plain", ACCEPT_OPENMETRICS].map(|accept| scrape(&network, accept));
    assert_eq!(old.headers["content-type"], "text/plain; version=0.0.4; charset=utf-8");
    assert_eq!(new.headers["content-type"], "application/openmetrics-text; version=1.0.0; charset=utf-8");
    assert!(new.body.ends_with("\n# EOF\n") && !old.body.contains("# EOF"));
    let [old_names, new_names] = [&old, &new].map(|answer| names(&samples(&answer.body)));
    assert_eq!(old_names, new_names);
    let said = promtool(&["check", "metrics"], &old.body);
    assert_eq!(said.as_deref().map(str::trim), Ok(""), "{}", old.body);
    // One head for each, and none without lines.
    let heads: Vec<&str> = new.body.lines().filter_map(|line| line.strip_prefix("# TYPE ")).collect();
    let unique: std::collections::BTreeSet<_> = heads.iter().collect();
    assert_eq!(unique.len(), heads.len());
    for head in heads {
        let name = head.split(' ').next().expect("a name");
        assert!(new_names.iter().any(|found| found.starts_with(name)), "{name} has no line");
    }
}

#[tokio::test]
async fn one_page_is_served_and_nothing_else() {
    let (network, _hull) = session(&[]).await;
    let request = |line: &str, more: &str| {
        ask(&network, METRICS_PORT, &format!("{line} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n{more}\r\n"))
    };
    for path in ["/", "/metrics/", "/metric", "/debug/pprof/", "//metrics"] {
        assert_eq!(request(&format!("GET {path}"), "").status, 404, "{path}");
    }
    for method in ["POST", "PUT", "DELETE", "OPTIONS"] {
        let refused = request(&format!("{method} /metrics"), "Content-Length: 0\r\n");
        assert_eq!((refused.status, refused.headers["allow"].as_str()), (405, "GET, HEAD"), "{method}");
    }
    let head = request("HEAD /metrics", "");
    assert_eq!((head.status, head.body.as_str()), (200, ""));
    assert!(head.headers["content-length"].parse::<usize>().expect("a length") > 1000);
    assert_eq!(request("GET /metrics?a=b", "").status, 200);
    assert_eq!(request("GET /metrics", &format!("X: {}\r\n", "x".repeat(20_000))).status, 431);
    assert_eq!(ask(&network, METRICS_PORT, "nonsense\r\n\r\n").status, 400);
}

#[tokio::test]
async fn calls_are_counted_by_method_and_code() {
    let (network, hull) = session(&[]).await;
    hull.run(hull.probe(&["sleep"])).await;
    for name in ["nobody", "no-one"] {
        hull.try_get(name).await.expect_err("unknown");
    }
    let mut nonsense = tonic::client::Grpc::new(hull.clients.channel.clone());
    nonsense.ready().await.expect("ready");
    let path = "/a.b.C/Made\"up\n".replace(['"', '\n'], "%22");
    let codec = tonic_prost_codec();
    let path = path.parse().expect("a path");
    nonsense.unary(tonic::Request::new(GetContainerRequest::default()), path, codec).await.expect_err("no such method");
    let samples = wait::until("the calls' ends are counted", || {
        let samples = now(&network);
        let unknown = [("grpc_service", "unknown"), ("grpc_code", "Unimplemented")];
        (!values(&samples, "grpc_server_handled_total", &unknown).is_empty()).then_some(samples)
    });
    let service = ("grpc_service", "hull.v1.ContainerService");
    let handled = |method, code| {
        value(&samples, "grpc_server_handled_total", &[service, ("grpc_method", method), ("grpc_code", code)])
    };
    assert_eq!((handled("CreateContainer", "OK"), handled("GetContainer", "NotFound")), (1.0, 2.0));
    let create = [service, ("grpc_method", "CreateContainer"), ("grpc_type", "unary")];
    let (count, sum) = (
        value(&samples, "grpc_server_handling_seconds_count", &create),
        value(&samples, "grpc_server_handling_seconds_sum", &create),
    );
    assert!(count == 1.0 && sum > 0.0005 && sum < wait::soon().as_secs_f64(), "{count} {sum}");
    let buckets = values(&samples, "grpc_server_handling_seconds_bucket", &create);
    assert!(buckets.is_sorted() && buckets.last() == Some(&1.0), "{buckets:?}");
    assert!(!scrape(&network, "").body.contains("a.b.C"));
}

fn tonic_prost_codec() -> tonic_prost::ProstCodec<GetContainerRequest, GetContainerRequest> {
    tonic_prost::ProstCodec::default()
}

#[tokio::test]
async fn a_stream_ends_when_its_client_goes() {
    let (network, hull) = session(&[]).await;
    let request = hull_proto::v1::StreamStatsRequest::default();
    let stream = hull.clients.stats.clone().stream_stats(request).await.expect("StreamStats").into_inner();
    let labels = [("grpc_method", "StreamStats"), ("grpc_type", "server_stream")];
    let open = now(&network);
    assert_eq!(value(&open, "grpc_server_started_total", &labels), 1.0);
    assert_eq!(values(&open, "grpc_server_handled_total", &labels), Vec::<f64>::new());
    drop(stream);
    wait::until("its end is counted", || {
        let handled = [labels[0], labels[1], ("grpc_code", "Canceled")];
        (values(&now(&network), "grpc_server_handled_total", &handled) == [1.0]).then_some(())
    });
}

#[tokio::test]
async fn starts_are_counted_with_their_steps_and_failures() {
    let (network, hull) = session(&[]).await;
    let id = hull.run(hull.probe(&["sleep"])).await;
    // One that runs is not started again.
    hull.start(&id).await;
    hull.try_run(hull.command(&["/nothing"])).await.expect_err("no such program");
    let samples = now(&network);
    let starts = |outcome| value(&samples, "hull_starts_total", &[("outcome", outcome)]);
    assert_eq!((starts("succeeded"), starts("failed")), (1.0, 1.0));
    let failed = [("step", "executing"), ("reason", "START_FAILED")];
    assert_eq!(value(&samples, "hull_start_failures_total", &failed), 1.0);
    let took = value(&samples, "hull_start_duration_seconds_sum", &[]);
    let steps = hull.get(&id).await.start_steps;
    assert!(!steps.is_empty());
    for step in &steps {
        let same = steps.iter().filter(|other| other.step == step.step);
        let seconds = |step: &StepTiming| {
            step.duration.map_or(0.0, |duration| duration.seconds as f64 + f64::from(duration.nanos) / 1e9)
        };
        let steps: f64 = same.clone().map(seconds).sum();
        let sum = value(&samples, "hull_start_step_duration_seconds_sum", &[("step", &step.step)]);
        let count = value(&samples, "hull_start_step_duration_seconds_count", &[("step", &step.step)]);
        assert!((sum - steps).abs() < 1e-9 && sum < took, "{step:?} {sum} {took}");
        assert_eq!(count as usize, same.count(), "{step:?}");
    }
}

#[tokio::test]
async fn what_there_is_is_told() {
    let (network, hull) = session(&["--warm-shims", "3"]).await;
    let image = hull.clients.images.clone().list_images(hull_proto::v1::ListImagesRequest::default()).await;
    let images = image.expect("ListImages").into_inner().images;
    for count in 0..3 {
        hull.run(hull.probe(&["sleep"])).await;
        hull.create(hull.probe(&["sleep"])).await;
        let samples = now(&network);
        let running = value(&samples, "hull_containers", &[("state", "running")]);
        let created = value(&samples, "hull_containers", &[("state", "created")]);
        assert_eq!((running, created), (f64::from(count + 1), f64::from(count + 1)));
        assert_eq!(value(&samples, "hull_shims_live", &[]), f64::from(count + 1));
    }
    wait::until("shims are warm", || (value(&now(&network), "hull_shims_warm", &[]) == 3.0).then_some(()));
    let samples = now(&network);
    assert_eq!(value(&samples, "hull_images", &[]) as usize, images.len());
    let blobs = hull.agent.data_dir().join("images/content/blobs/sha256");
    let blobs: Vec<u64> = std::fs::read_dir(blobs)
        .expect("blobs")
        .map(|blob| blob.and_then(|blob| blob.metadata()).expect("a blob").len())
        .collect();
    assert_eq!(value(&samples, "hull_image_blobs", &[]) as usize, blobs.len());
    assert_eq!(value(&samples, "hull_image_blob_bytes", &[]) as u64, blobs.iter().sum::<u64>());
    assert!(value(&samples, "hull_image_layer_bytes", &[]) > 0.0 && value(&samples, "hull_store_bytes", &[]) > 0.0);
    let resident = host::resident(hull.agent.pid()) as f64;
    let told = value(&samples, "process_resident_memory_bytes", &[]);
    assert!((told - resident).abs() < 8e6, "{told} {resident}");
    // Nothing is traced.
    assert!(!names(&samples).iter().any(|name| name.starts_with("hull_trace_")), "{:?}", names(&samples));
    let build = [("version", env!("CARGO_PKG_VERSION")), ("api", "hull.v1")];
    assert_eq!(value(&samples, "hull_build_info", &build), 1.0);
}

fn descriptors(pid: i32) -> usize {
    std::fs::read_dir(format!("/proc/{pid}/fd")).expect("descriptors").count()
}

fn resident_kilobytes(pid: i32) -> u64 {
    host::resident(pid) >> 10
}

#[tokio::test]
async fn a_thousand_scrapes_leak_nothing() {
    let (network, hull) = session(&["--warm-shims", "0"]).await;
    for _ in 0..3 {
        hull.run(hull.probe(&["sleep"])).await;
    }
    let many = |count: usize| {
        let work = |_| {
            let network = Arc::clone(&network);
            std::thread::spawn(move || {
                (0..count / 4).for_each(|at| {
                    scrape(&network, if at % 2 == 0 { ACCEPT_OPENMETRICS } else { "text/plain" });
                });
            })
        };
        let workers: Vec<_> = (0..4).map(work).collect();
        workers.into_iter().for_each(|worker| worker.join().expect("a worker"));
    };
    many(200);
    let (pid, before) = (hull.agent.pid(), (descriptors(hull.agent.pid()), resident_kilobytes(hull.agent.pid())));
    many(1000);
    wait::until("descriptors are closed", || (descriptors(pid) <= before.0).then_some(()));
    let after = resident_kilobytes(pid);
    assert!(after < before.1 + 4096, "{} kB became {after} kB", before.1);
}

#[tokio::test]
async fn connections_are_bounded_and_a_client_that_does_not_read_is_cut_off() {
    let (network, _hull) = session(&["--warm-shims", "0"]).await;
    // They are accepted in the order in which they came.
    let mut idle: Vec<_> = (0..32).map(|_| dial(&network, METRICS_PORT)).collect();
    let mut waiting = dial(&network, METRICS_PORT);
    waiting.write_all(b"GET /metrics HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n").expect("sending");
    waiting.set_read_timeout(Some(Duration::from_millis(300))).expect("a timeout");
    let early = waiting.read(&mut [0; 1]).expect_err("there is no place");
    assert_eq!(early.kind(), std::io::ErrorKind::WouldBlock);
    // One that asks for more than fits on the way and reads nothing of it loses its place.
    let mut greedy = idle.pop().expect("one");
    greedy.write_all("GET /metrics HTTP/1.1\r\nHost: x\r\n\r\n".repeat(4000).as_bytes()).expect("sending");
    waiting.set_read_timeout(Some(wait::scaled(Duration::from_secs(30)))).expect("a timeout");
    let mut answer = String::new();
    waiting.read_to_string(&mut answer).expect("an answer once the greedy one is gone");
    assert!(answer.starts_with("HTTP/1.1 200 OK\r\n"), "{answer}");
    // Every place is free again once those are gone.
    drop(idle);
    let mut others: Vec<_> = (0..32).map(|_| dial(&network, METRICS_PORT)).collect();
    for other in &mut others {
        other.write_all(b"HEAD /metrics HTTP/1.1\r\nHost: x\r\n\r\n").expect("sending");
        let mut start = [0; 15];
        other.read_exact(&mut start).expect("an answer");
        assert_eq!(&start, b"HTTP/1.1 200 OK");
    }
}

#[tokio::test]
async fn an_agent_ends_in_time_whoever_is_connected() {
    let network = Network::new();
    let agent = Agent::start(metered(&network, &[]));
    let mut idle = dial(&network, METRICS_PORT);
    idle.write_all(b"GET /metrics HTTP/1.1\r\nHost: x\r\n\r\n").expect("sending");
    assert!(idle.read(&mut [0; 1]).expect("an answer") > 0);
    let half = dial(&network, METRICS_PORT);
    (&half).write_all(b"GET /metr").expect("sending");
    assert_eq!(agent.terminate(), Some(0));
    // The address is free at once.
    agent.spawn();
    assert!(!now(&network).is_empty());
}

#[test]
fn wrong_addresses_are_refused_by_name() {
    let network = Network::new();
    let _taken = network.listen(METRICS_PORT);
    let hulld = binary("hulld");
    let refused = |words: &[&str]| {
        let state = tempfile::tempdir().expect("a directory");
        let (data, run) = (state.path().join("data"), state.path().join("run"));
        let output = network
            .command(&hulld.display().to_string())
            .arg("--data-dir")
            .arg(data)
            .arg("--run-dir")
            .arg(run)
            .args(["--cgroup-parent", "/hull-test-refused", "--shim", &shim().display().to_string()])
            .args(words)
            .output()
            .expect("hulld");
        assert!(!output.status.success(), "{output:?}");
        String::from_utf8_lossy(&output.stderr).into_owned()
    };
    let open = refused(&["--metrics-listen", "0.0.0.0:9471"]);
    assert!(open.contains("metrics-listen") && open.contains("metrics-open"), "{open}");
    let label = refused(&["--metrics-label", "a"]);
    assert!(label.contains("metrics-label"), "{label}");
    let busy = refused(&["--metrics-listen", &format!("127.0.0.1:{METRICS_PORT}")]);
    assert!(busy.contains("metrics-listen") && busy.contains("EADDRINUSE"), "{busy}");
}

#[tokio::test]
async fn nothing_is_told_unless_it_is_asked_for() {
    let network = Network::new();
    let options = AgentOptions { network: Some(Arc::clone(&network)), ..AgentOptions::default() };
    let hull = Session::own_with(options).await;
    hull.run(hull.probe(&["sleep"])).await;
    assert!(!network.is_open("127.0.0.1", METRICS_PORT));
}
