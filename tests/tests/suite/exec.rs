//! Further processes in a container: streams byte for byte, exit codes, signals, who they are, and how they end.

use std::time::{Duration, Instant};

use bytes::Bytes;
use hull_proto::v1::{ContainerConfig, ContainerState, ExecStart, TerminalSize, exec_response};
use hull_tests::harness::{ExecSession, Report, Session, assert_error, duration, given, host, metadata, wait};
use sha2::{Digest as _, Sha256};
use tonic::Code;

async fn sleeper(hull: &Session) -> String {
    hull.run(hull.probe(&["sleep"])).await
}

fn start(container: &str, words: &[&str]) -> ExecStart {
    ExecStart {
        container: container.into(),
        argv: words.iter().map(|word| (*word).to_owned()).collect(),
        ..ExecStart::default()
    }
}

#[tokio::test]
async fn output_and_exit_code_come_back() {
    let hull = Session::shared().await;
    let id = sleeper(&hull).await;
    let done = hull.exec(&id, &["/bin/sh", "-c", "echo out; echo err >&2; exit 42"]).await;
    assert_eq!((done.stdout.as_slice(), done.stderr.as_slice()), (b"out\n".as_slice(), b"err\n".as_slice()));
    assert_eq!((done.exit.code, done.exit.signal), (42, 0));
    assert!(done.pid > 0);
    let killed = hull.exec(&id, &["/bin/sh", "-c", "kill -9 $$"]).await;
    assert_eq!((killed.exit.code, killed.exit.signal), (137, 9));
}

#[tokio::test]
async fn programs_that_cannot_run_are_told_apart() {
    let hull = Session::shared().await;
    let id = sleeper(&hull).await;
    for (program, errno) in [("/bin/nope", "ENOENT"), ("nope", "ENOENT"), ("/etc/passwd", "EACCES"), ("/etc", "EACCES")]
    {
        let status = hull.exec_with(start(&id, &[program])).await.expect_err(program);
        assert_eq!(metadata(&status, "errno"), errno, "{status:?}");
        assert_eq!(metadata(&status, "step"), "executing");
        assert!(status.message().contains(program), "{status:?}");
    }
    assert_error(hull.exec_with(start(&id, &[])).await, Code::InvalidArgument, "INVALID_ARGUMENT", "argv");
    assert_error(hull.exec_with(start("nobody", &["true"])).await, Code::NotFound, "CONTAINER_NOT_FOUND", "nobody");
    let stopped = hull.create(hull.probe(&["sleep"])).await;
    assert_error(hull.exec_with(start(&stopped, &["true"])).await, Code::FailedPrecondition, "INVALID_STATE", "");
}

#[tokio::test]
async fn standard_input_is_byte_exact() {
    let hull = Session::shared().await;
    let id = sleeper(&hull).await;
    let session = ExecSession::start(&hull.clients, ExecStart { stdin: true, ..start(&id, &["/probe", "cat"]) })
        .await
        .expect("Exec");
    let sender = session.sender();
    // 64 MiB of what does not repeat, both ways.
    let piece: Vec<u8> = (0..(1_u32 << 20)).map(|at| (at.wrapping_mul(2_654_435_761) >> 13).to_le_bytes()[0]).collect();
    let pieces: Vec<Bytes> =
        (0..64_u8).map(|number| piece.iter().map(|byte| byte ^ number).collect::<Vec<u8>>().into()).collect();
    let mut digest = Sha256::new();
    pieces.iter().for_each(|piece| digest.update(piece));
    let digest = hex::encode(digest.finalize());
    let writer = tokio::spawn(async move {
        for piece in pieces {
            assert!(sender.stdin(piece).await);
        }
        sender.close().await
    });
    let done = tokio::time::timeout(wait::soon() * 3, session.finish()).await.expect("in time").expect("Exec");
    assert!(writer.await.expect("join"));
    assert_eq!(done.stdout.len(), 64 << 20);
    assert_eq!(hex::encode(Sha256::digest(&done.stdout)), digest);
    assert_eq!(String::from_utf8_lossy(&done.stderr).trim(), format!("{} {digest}", 64 << 20));
}

/// `HULL_EXEC_BYTES` of them, a quarter of a GiB where nobody says otherwise.
#[tokio::test]
async fn any_number_of_bytes_goes_both_ways_past_a_slow_reader_in_bounded_memory() {
    let total: usize = given("HULL_EXEC_BYTES").unwrap_or(1 << 28);
    let hull = Session::own().await;
    let id = sleeper(&hull).await;
    // Its length divides no piece's, so that none can stand for another.
    let pattern: Vec<u8> =
        (0..1_000_003_u32).map(|at| (at.wrapping_mul(2_654_435_761) >> 13).to_le_bytes()[0]).collect();
    let twice: Bytes = [pattern.as_slice(), &pattern].concat().into();
    let at = move |offset: usize, length: usize| {
        let start = offset % pattern.len();
        twice.slice(start..start + length)
    };
    let mut session =
        ExecSession::start(&hull.clients, ExecStart { stdin: true, ..start(&id, &["/bin/cat"]) }).await.expect("Exec");
    let before = host::resident(hull.agent.pid());
    let (sender, expected) = (session.sender(), at.clone());
    let writer = tokio::spawn(async move {
        let mut sent = 0;
        while sent < total {
            let piece = expected(sent, (total - sent).min(65_537));
            sent += piece.len();
            assert!(sender.stdin(piece).await);
        }
        assert!(sender.close().await);
    });
    let (mut seen, mut peak) = (0, 0);
    let exit = loop {
        match wait::within("an answer", session.next()).await.expect("Exec").expect("an answer") {
            exec_response::Message::Stdout(data) => {
                assert!(data == at(seen, data.len()), "other bytes from {seen} on");
                // Every 16 MiB it stands still.
                if (seen + data.len()) >> 24 != seen >> 24 {
                    tokio::time::sleep(Duration::from_millis(20)).await;
                    peak = peak.max(host::resident(hull.agent.pid()));
                }
                seen += data.len();
            }
            exec_response::Message::Exit(exit) => break exit,
            other => panic!("{other:?}"),
        }
    };
    writer.await.expect("all was sent");
    assert_eq!((seen, exit.code), (total, 0));
    assert!(peak < before + (16 << 20), "{before} -> {peak}");
}

#[tokio::test]
async fn closing_standard_input_leaves_the_output_open() {
    let hull = Session::shared().await;
    let id = sleeper(&hull).await;
    let line = "cat > /tmp/in; echo read; sleep 0.3; cat /tmp/in";
    let session = ExecSession::start(&hull.clients, ExecStart { stdin: true, ..start(&id, &["/bin/sh", "-c", line]) })
        .await
        .expect("Exec");
    let sender = session.sender();
    assert!(sender.stdin("hello").await && sender.close().await);
    let done = wait::within("the exec", session.finish()).await.expect("Exec");
    assert_eq!(done.text(), "read\nhello");
}

#[tokio::test]
async fn without_standard_input_it_is_dev_null() {
    let hull = Session::shared().await;
    let id = sleeper(&hull).await;
    let report: Report = serde_json::from_str(&hull.exec(&id, &["/probe"]).await.text()).expect("a report");
    assert_eq!(report.fds[0].target, "/dev/null");
}

#[tokio::test]
async fn a_reader_that_ends_early_does_not_hang_the_exec() {
    let hull = Session::shared().await;
    let id = sleeper(&hull).await;
    let session = ExecSession::start(&hull.clients, ExecStart { stdin: true, ..start(&id, &["head", "-c", "3"]) })
        .await
        .expect("Exec");
    let sender = session.sender();
    let writer = tokio::spawn(async move { while sender.stdin(vec![b'x'; 1 << 16]).await {} });
    let done = wait::within("the exec", session.finish()).await.expect("Exec");
    assert_eq!((done.exit.code, done.text().as_str()), (0, "xxx"));
    wait::within("the writer", writer).await.expect("join");
}

#[tokio::test]
async fn it_runs_as_whom_and_where_it_was_asked_to() {
    let hull = Session::shared().await;
    let config = ContainerConfig {
        env: vec!["OF=container".into()],
        cwd: "/var".into(),
        user: "daemon".into(),
        ..hull.probe(&["sleep"])
    };
    let id = hull.run(config).await;
    let report = async |start: ExecStart| {
        let done = hull.exec_with(start).await.expect("Exec");
        serde_json::from_str::<Report>(&done.text()).expect("a report")
    };
    let plain = report(start(&id, &["/probe"])).await;
    assert_eq!((plain.uids[0], plain.cwd.as_str(), plain.env["OF"].as_str()), (1, "/var", "container"));
    let other = ExecStart {
        user: "app:tools".into(),
        cwd: "/tmp".into(),
        env: vec!["OF=exec".into(), "NEW=1".into()],
        ..start(&id, &["/probe"])
    };
    let other = report(other).await;
    assert_eq!((other.uids[0], other.gids[0], other.cwd.as_str()), (1000, 2001, "/tmp"));
    assert_eq!(
        (other.env["OF"].as_str(), other.env["NEW"].as_str(), other.env["HOME"].as_str()),
        ("exec", "1", "/home/app")
    );
    assert_eq!(other.caps.effective, 0);
    for (field, wrong) in [
        ("cwd", ExecStart { cwd: "relative".into(), ..start(&id, &["/probe"]) }),
        ("env", ExecStart { env: vec!["NOVALUE".into()], ..start(&id, &["/probe"]) }),
    ] {
        assert_error(hull.exec_with(wrong).await, Code::InvalidArgument, "INVALID_ARGUMENT", field);
    }
    let unknown = hull
        .exec_with(ExecStart { user: "nobody-knows".into(), ..start(&id, &["/probe"]) })
        .await
        .expect_err("unknown user");
    assert_eq!(metadata(&unknown, "step"), "looking up the user", "{unknown:?}");
    let missing = hull
        .exec_with(ExecStart { cwd: "/not/there".into(), ..start(&id, &["/probe"]) })
        .await
        .expect_err("no directory");
    assert_eq!(metadata(&missing, "step"), "changing to the working directory", "{missing:?}");
}

#[tokio::test]
async fn a_privileged_exec_has_all_and_the_container_keeps_what_it_had() {
    let hull = Session::shared().await;
    let id = sleeper(&hull).await;
    let done = hull.exec_with(ExecStart { privileged: true, ..start(&id, &["/probe"]) }).await.expect("Exec");
    let report: Report = serde_json::from_str(&done.text()).expect("a report");
    assert!(report.caps.effective & (1 << 21) != 0 && report.caps.inheritable == 0);
    assert_eq!(report.seccomp, 0);
    let plain: Report = serde_json::from_str(&hull.exec(&id, &["/probe"]).await.text()).expect("a report");
    assert_eq!((plain.seccomp, plain.caps.effective & (1 << 21)), (2, 0));
}

#[tokio::test]
async fn a_terminal_is_one_with_size_resize_and_keys() {
    let hull = Session::shared().await;
    let id = sleeper(&hull).await;
    let size = Some(TerminalSize { rows: 33, columns: 99 });
    let begin = ExecStart { terminal: true, stdin: true, terminal_size: size, ..start(&id, &["/probe", "tty-watch"]) };
    let mut session = ExecSession::start(&hull.clients, begin).await.expect("Exec");
    let sender = session.sender();
    wait::within("the first size", session.until("size 33 99")).await.expect("output");
    assert!(sender.resize(50, 120).await);
    wait::within("the new size", session.until("size 50 120")).await.expect("output");
    // Control-C reaches it through the terminal.
    assert!(sender.stdin("\u{3}").await);
    let done = wait::within("the exec", session.finish()).await.expect("Exec");
    assert_eq!((done.exit.code, done.exit.signal), (130, 2));

    let all = hull.exec_with(ExecStart { terminal: true, ..start(&id, &["/probe", "tty"]) }).await.expect("Exec");
    assert_eq!(all.text().replace('\r', ""), "0 24 80\n1 24 80\n2 24 80");
    let none = hull.exec(&id, &["/probe", "tty"]).await;
    assert_eq!(none.text(), "0 none\n1 none\n2 none");
}

#[tokio::test]
async fn a_shell_on_a_terminal_has_job_control() {
    let hull = Session::shared().await;
    let id = sleeper(&hull).await;
    let begin = ExecStart { terminal: true, stdin: true, env: vec!["PS1=> ".into()], ..start(&id, &["/bin/sh", "-i"]) };
    let mut session = ExecSession::start(&hull.clients, begin).await.expect("Exec");
    let sender = session.sender();
    assert!(sender.stdin("tty=$(/probe tty | head -n 1); echo got-$tty\n").await);
    let seen = wait::within("the answer", session.until("got-0 24 80")).await.expect("output");
    assert!(!seen.contains("can't access tty"), "{seen}");
    assert!(sender.stdin("exit 5\n").await);
    assert_eq!(wait::within("the exec", session.finish()).await.expect("Exec").exit.code, 5);
}

#[tokio::test]
async fn signals_reach_the_process() {
    let hull = Session::shared().await;
    let id = sleeper(&hull).await;
    let mut session = ExecSession::start(&hull.clients, start(&id, &["/probe", "sigwait"])).await.expect("Exec");
    let sender = session.sender();
    wait::within("ready", session.until("ready")).await.expect("output");
    for (signal, line) in [("SIGHUP", "signal 1\n"), ("10", "signal 10\n")] {
        assert!(sender.signal(signal).await);
        wait::within("the signal", session.until(line)).await.expect("output");
    }
    assert!(sender.signal("TERM").await);
    assert_eq!(wait::within("the exec", session.finish()).await.expect("Exec").exit.code, 7);
}

#[tokio::test]
async fn a_timeout_kills_it() {
    let hull = Session::shared().await;
    let id = sleeper(&hull).await;
    let begin = Instant::now();
    let timeout = Some(duration(Duration::from_millis(200)));
    let done = hull.exec_with(ExecStart { timeout, ..start(&id, &["/probe", "sleep"]) }).await;
    assert!(begin.elapsed() >= Duration::from_millis(200));
    match done {
        Ok(done) => assert_eq!((done.exit.code, done.exit.signal), (137, 9)),
        Err(status) => assert_eq!(status.code(), Code::DeadlineExceeded, "{status:?}"),
    }
    wait::until("the process is gone", || (inside(&hull, &id) == 1).then_some(()));
}

/// Processes in a container's groups.
fn inside(hull: &Session, id: &str) -> usize {
    host::cgroup_processes(&format!("{}/{id}", hull.agent.cgroup())).len()
}

#[tokio::test]
async fn a_client_that_goes_away_takes_its_process_along() {
    let hull = Session::shared().await;
    let id = sleeper(&hull).await;
    for terminal in [false, true] {
        let begin = ExecStart { terminal, ..start(&id, &["/probe", "sleep"]) };
        let session = ExecSession::start(&hull.clients, begin).await.expect("Exec");
        let pid = session.pid;
        assert!(host::is_alive(pid));
        drop(session);
        wait::until_async("the process has ended", || async { (!host::is_alive(pid)).then_some(()) }).await;
    }
}

#[tokio::test]
async fn a_deadline_ends_it() {
    let hull = Session::shared().await;
    let id = sleeper(&hull).await;
    let (sender, receiver) = tokio::sync::mpsc::channel(1);
    let message = Some(hull_proto::v1::exec_request::Message::Start(start(&id, &["/probe", "sleep"])));
    sender.send(hull_proto::v1::ExecRequest { message }).await.expect("send");
    let mut request = tonic::Request::new(tokio_stream::wrappers::ReceiverStream::new(receiver));
    request.set_timeout(wait::scaled(Duration::from_millis(500)));
    let mut answers = hull.clients.containers.clone().exec(request).await.expect("Exec").into_inner();
    let Ok(Some(first)) = answers.message().await else { panic!("no answer") };
    let Some(exec_response::Message::Started(started)) = first.message else { panic!("{first:?}") };
    drop(answers);
    wait::until_async("the process has ended", || async { (!host::is_alive(started.pid)).then_some(()) }).await;
}

#[tokio::test]
async fn a_child_that_holds_the_output_does_not_hold_the_answer() {
    let hull = Session::shared().await;
    let id = sleeper(&hull).await;
    let begin = Instant::now();
    let done = hull.exec(&id, &["/probe", "background"]).await;
    assert_eq!(done.exit.code, 0);
    assert!(done.text().starts_with("left "), "{:?}", done.text());
    assert!(begin.elapsed() < wait::scaled(Duration::from_secs(3)), "{:?}", begin.elapsed());
}

#[tokio::test]
async fn an_exec_ends_with_the_container() {
    let hull = Session::shared().await;
    let id = sleeper(&hull).await;
    let session = ExecSession::start(&hull.clients, start(&id, &["/probe", "sleep"])).await.expect("Exec");
    hull.kill(&id, "KILL").await;
    let done = wait::within("the exec", session.finish()).await.expect("Exec");
    assert_eq!(done.exit.code, 137);
}

#[tokio::test]
async fn an_exec_that_meets_the_container_s_end_says_so() {
    let hull = Session::shared().await;
    let id = hull.create(hull.probe(&["sleep"])).await;
    for _ in 0..20 {
        hull.start(&id).await;
        // One after the other until one comes too late: the end meets each at another moment.
        let execs = (0..4).map(|_| async {
            loop {
                match hull.exec_with(start(&id, &["true"])).await {
                    Ok(done) => assert!(matches!(done.exit.code, 0 | 137), "{done:?}"),
                    Err(status) => return status,
                }
            }
        });
        let kill = async {
            tokio::time::sleep(wait::scaled(Duration::from_millis(15))).await;
            hull.kill(&id, "KILL").await;
        };
        let (refused, ()) = tokio::join!(futures_util::future::join_all(execs), kill);
        for status in refused {
            assert_error::<()>(Err(status), Code::FailedPrecondition, "INVALID_STATE", "");
        }
        hull.until_state(&id, ContainerState::Exited).await;
    }
}

#[tokio::test]
async fn many_at_once_keep_their_streams_apart() {
    let hull = Session::shared().await;
    let id = sleeper(&hull).await;
    let calls = (0..24).map(|number: u32| {
        let (hull, id) = (&hull, &id);
        async move {
            let line = format!("for i in $(seq 100); do echo {number}; done; exit {number}");
            let done = hull.exec(id, &["/bin/sh", "-c", &line]).await;
            assert_eq!(done.exit.code, i32::try_from(number).expect("small"));
            assert_eq!(done.text().lines().filter(|line| *line == number.to_string()).count(), 100);
        }
    });
    futures_util::future::join_all(calls).await;
}

#[tokio::test]
async fn execs_leave_nothing_in_the_agent() {
    let hull = Session::own().await;
    let id = sleeper(&hull).await;
    let agent = hull.agent.pid();
    let descriptors = || std::fs::read_dir(format!("/proc/{agent}/fd")).expect("fds").count();
    let shim = host::stat(hull.get(&id).await.pid).expect("init").1;
    let of_shim = || std::fs::read_dir(format!("/proc/{shim}/fd")).expect("fds").count();
    for _ in 0..5 {
        hull.exec(&id, &["true"]).await;
    }
    let (before, before_shim) = (descriptors(), of_shim());
    for _ in 0..100 {
        hull.exec(&id, &["true"]).await;
        assert!(hull.exec_with(start(&id, &["/bin/nope"])).await.is_err());
    }
    wait::until("descriptors are closed", || {
        (descriptors() <= before + 2 && of_shim() <= before_shim + 1).then_some(())
    });
}

#[tokio::test]
async fn endless_output_costs_the_agent_no_memory() {
    let hull = Session::own().await;
    let id = sleeper(&hull).await;
    let resident = || host::resident(hull.agent.pid());
    let before = resident();
    // A reader that takes nothing: the process must wait, not the agent collect.
    let session =
        ExecSession::start(&hull.clients, start(&id, &["/bin/sh", "-c", "while true; do cat /bin/busybox; done"]))
            .await
            .expect("Exec");
    tokio::time::sleep(wait::scaled(Duration::from_millis(700))).await;
    assert!(resident() < before + (16 << 20), "{before} -> {} bytes", resident());
    drop(session);
}
