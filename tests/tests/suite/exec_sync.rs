//! ExecSync: bounded answers, timeouts; and how execs of both kinds end.

use std::time::{Duration, Instant};

use hull_proto::v1::{ExecStart, ExecSyncRequest, ExecSyncResponse, PauseContainerRequest, ResumeContainerRequest};
use hull_tests::harness::host::Held;
use hull_tests::harness::{ExecSession, Session, assert_error, bulk, duration, given, host, metadata, wait};
use tonic::{Code, Status};

async fn sleeper(hull: &Session) -> String {
    hull.run(hull.probe(&["sleep"])).await
}

fn request(container: &str, words: &[&str]) -> ExecSyncRequest {
    let argv = words.iter().map(|word| (*word).to_owned()).collect();
    ExecSyncRequest { container: container.into(), argv, ..ExecSyncRequest::default() }
}

async fn exec_sync(hull: &Session, request: ExecSyncRequest) -> Result<ExecSyncResponse, Status> {
    let mut service = hull.clients.containers.clone();
    wait::within("ExecSync", service.exec_sync(request)).await.map(tonic::Response::into_inner)
}

/// Processes in a container's groups.
fn inside(hull: &Session, id: &str) -> usize {
    host::cgroup_processes(&format!("{}/{id}", hull.agent.cgroup())).len()
}

#[tokio::test]
async fn both_outputs_and_the_exit_come_in_one_answer() {
    let hull = Session::shared().await;
    let id = sleeper(&hull).await;
    let line = "echo out $A; pwd; id -u; echo err >&2; exit 42";
    let asked = ExecSyncRequest {
        env: vec!["A=b".into()],
        cwd: "/tmp".into(),
        user: "app".into(),
        ..request(&id, &["/bin/sh", "-c", line])
    };
    let done = exec_sync(&hull, asked).await.expect("ExecSync");
    assert_eq!((&done.stdout[..], &done.stderr[..]), (b"out b\n/tmp\n1000\n".as_slice(), b"err\n".as_slice()));
    let exit = done.exit.expect("an exit");
    assert_eq!((exit.code, exit.signal), (42, 0));
    assert!(!done.stdout_truncated && !done.stderr_truncated && !done.timed_out);
    // Its input is empty.
    assert_eq!(exec_sync(&hull, request(&id, &["cat"])).await.expect("ExecSync").stdout.len(), 0);
}

#[tokio::test]
async fn output_over_the_bound_is_cut_and_told_of_and_the_process_runs_on() {
    let hull = Session::shared().await;
    let id = sleeper(&hull).await;
    let line = "head -c 5000000 /dev/zero; head -c 100 /dev/zero >&2; exit 3";
    let done = exec_sync(&hull, request(&id, &["/bin/sh", "-c", line])).await.expect("ExecSync");
    assert_eq!((done.stdout.len(), done.stdout_truncated), (1 << 20, true));
    assert_eq!((done.stderr.len(), done.stderr_truncated), (100, false));
    assert_eq!(done.exit.expect("an exit").code, 3);
    let asked =
        ExecSyncRequest { max_output_bytes: Some(3), ..request(&id, &["/bin/sh", "-c", "echo abcdef; echo xy >&2"]) };
    let done = exec_sync(&hull, asked).await.expect("ExecSync");
    assert_eq!((&done.stdout[..], done.stdout_truncated), (b"abc".as_slice(), true));
    assert_eq!((&done.stderr[..], done.stderr_truncated), (b"xy\n".as_slice(), false));
}

#[tokio::test]
async fn what_is_wrong_is_refused_by_name() {
    let hull = Session::shared().await;
    let id = sleeper(&hull).await;
    assert_error(exec_sync(&hull, request(&id, &[])).await, Code::InvalidArgument, "INVALID_ARGUMENT", "argv");
    let large = ExecSyncRequest { max_output_bytes: Some((16 << 20) + 1), ..request(&id, &["true"]) };
    assert_error(exec_sync(&hull, large).await, Code::ResourceExhausted, "LIMIT_EXCEEDED", "max_output_bytes");
    assert_error(exec_sync(&hull, request("nobody", &["true"])).await, Code::NotFound, "CONTAINER_NOT_FOUND", "nobody");
    let missing = exec_sync(&hull, request(&id, &["/bin/nope"])).await.expect_err("no such program");
    assert_eq!(metadata(&missing, "errno"), "ENOENT", "{missing:?}");
}

#[tokio::test]
async fn at_the_timeout_the_process_is_killed_and_its_output_returned() {
    let hull = Session::shared().await;
    let id = sleeper(&hull).await;
    let timeout = Some(duration(Duration::from_millis(300)));
    let begin = Instant::now();
    // The child holds the output beyond the end of its parent, which the timeout kills.
    let asked = ExecSyncRequest { timeout, ..request(&id, &["/bin/sh", "-c", "echo before; sleep 1000; echo after"]) };
    let done = exec_sync(&hull, asked).await.expect("ExecSync");
    let took = begin.elapsed();
    assert!(took >= Duration::from_millis(300) && took < wait::scaled(Duration::from_secs(3)), "{took:?}");
    assert_eq!((&done.stdout[..], done.timed_out), (b"before\n".as_slice(), true));
    let exit = done.exit.expect("an exit");
    assert_eq!((exit.code, exit.signal), (137, 9));
}

#[tokio::test]
async fn a_timeout_ends_the_call_even_where_the_process_cannot_end() {
    let hull = Session::shared().await;
    let id = sleeper(&hull).await;
    let timeout = Some(duration(Duration::from_millis(500)));
    let start = ExecStart {
        container: id.clone(),
        argv: vec!["/probe".into(), "sleep".into()],
        timeout,
        ..ExecStart::default()
    };
    let session = ExecSession::start(&hull.clients, start).await.expect("Exec");
    let pid = session.pid;
    let mut service = hull.clients.containers.clone();
    service.pause_container(PauseContainerRequest { container: id.clone() }).await.expect("PauseContainer");
    // Version 1 lets no frozen process die, version 2 does.
    match wait::within("the exec", session.finish()).await {
        Ok(done) => assert_eq!(done.exit.code, 137),
        Err(status) => {
            assert_error::<()>(Err(status), Code::DeadlineExceeded, "DEADLINE_EXCEEDED", "timeout");
        }
    }
    service.resume_container(ResumeContainerRequest { container: id.clone() }).await.expect("ResumeContainer");
    wait::until_async("the process has ended", || async { (!host::is_alive(pid)).then_some(()) }).await;
}

#[tokio::test]
async fn a_child_that_is_left_holds_no_call_and_lives_on() {
    let hull = Session::shared().await;
    let id = sleeper(&hull).await;
    let words = ["/bin/sh", "-c", "echo first; sleep 1000 & exit 5"];
    let begin = Instant::now();
    for _ in 0..20 {
        let done = hull.exec(&id, &words).await;
        assert_eq!((done.exit.code, done.text().as_str()), (5, "first"));
        let done = exec_sync(&hull, request(&id, &words)).await.expect("ExecSync");
        assert_eq!((done.exit.expect("an exit").code, &done.stdout[..]), (5, b"first\n".as_slice()));
    }
    // Nothing waits for silence: forty times a tenth of a second would be seen.
    assert!(begin.elapsed() < wait::scaled(Duration::from_secs(4)), "{:?}", begin.elapsed());
    assert_eq!(inside(&hull, &id), 1 + 40);
}

#[tokio::test]
async fn a_cancelled_call_kills_its_process() {
    let hull = Session::shared().await;
    let id = sleeper(&hull).await;
    let call = exec_sync(&hull, request(&id, &["/probe", "sleep"]));
    let started = async {
        wait::until_async("the process runs", || async { (inside(&hull, &id) == 2).then_some(()) }).await;
    };
    tokio::select! {
        done = call => panic!("{done:?}"),
        () = started => {}
    }
    wait::until_async("the process has ended", || async { (inside(&hull, &id) == 1).then_some(()) }).await;
}

/// Execs of the test below; `HULL_TEST_EXECS` sets another number.
fn execs() -> usize {
    given("HULL_TEST_EXECS").unwrap_or_else(|| bulk(600))
}

/// Two that end well, and one of each kind that does not.
async fn six(hull: &Session, id: &str, number: usize) {
    let hour = Some(duration(Duration::from_secs(3600)));
    for _ in 0..2 {
        let done = exec_sync(hull, ExecSyncRequest { timeout: hour, ..request(id, &["/bin/true"]) }).await;
        assert_eq!(done.expect("ExecSync").exit.expect("an exit").code, 0);
        assert_eq!(hull.exec(id, &["/bin/true"]).await.exit.code, 0);
    }
    if number.is_multiple_of(2) {
        assert!(exec_sync(hull, request(id, &["/bin/nope"])).await.is_err());
        let timeout = Some(duration(Duration::from_millis(1)));
        let done = exec_sync(hull, ExecSyncRequest { timeout, ..request(id, &["/probe", "sleep"]) }).await;
        assert!(done.expect("ExecSync").timed_out);
    } else {
        let start =
            ExecStart { container: id.into(), argv: vec!["/probe".into(), "sleep".into()], ..ExecStart::default() };
        drop(ExecSession::start(&hull.clients, start).await.expect("Exec"));
        // At whatever moment this meets it.
        let cut = exec_sync(hull, request(id, &["/probe", "sleep"]));
        let _cut =
            tokio::time::timeout(Duration::from_micros(u64::try_from(number * 97 % 3000).expect("small")), cut).await;
    }
}

#[tokio::test]
async fn many_execs_a_third_of_them_failing_leave_agent_and_shim_as_they_were() {
    let hull = Session::own().await;
    let id = sleeper(&hull).await;
    let (agent, shim) = (hull.agent.pid(), host::stat(hull.get(&id).await.pid).expect("init").1);
    for number in 0..40 {
        six(&hull, &id, number).await;
    }
    let alone = || async { (inside(&hull, &id) == 1).then_some(()) };
    wait::until_async("all have ended", alone).await;
    let before = [agent, shim].map(Held::by);
    for number in 0..execs().div_ceil(6) {
        six(&hull, &id, number).await;
    }
    wait::until_async("all have ended", alone).await;
    wait::until_async(&format!("nothing more is held than {before:?}"), || async {
        [agent, shim].into_iter().zip(before).all(|(pid, before)| Held::by(pid).is_as(before)).then_some(())
    })
    .await;
}
