//! The agent ends, by SIGKILL at any moment or by SIGTERM: containers run on, and the next agent knows everything.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use hull_proto::v1::{
    ContainerConfig, ContainerState, CreateContainerRequest, ExecStart, ListContainersRequest, RemoveContainerRequest,
    Resources, StartContainerRequest, StopContainerRequest, StreamLogsRequest,
};
use hull_tests::harness::{Agent, AgentOptions, AttachSession, ExecSession, Session, duration, host, wait};

async fn restart(hull: &mut Session) {
    hull.agent.crash_and_restart();
    hull.reconnect().await;
}

#[tokio::test]
async fn containers_run_on_and_are_found_again() {
    let mut hull = Session::own().await;
    let config = ContainerConfig {
        name: "web".into(),
        resources: Some(Resources { memory_max: Some(64 << 20), ..Resources::default() }),
        ..hull.probe(&["sigwait"])
    };
    let id = hull.run(config).await;
    hull.until_logged(&id, "ready").await;
    let created = hull.create(hull.probe(&["sleep"])).await;
    let exited = hull.output(hull.probe(&["exit", "4"])).await.id;
    let before = hull.get(&id).await;

    restart(&mut hull).await;

    let after = hull.get("web").await;
    assert_eq!(
        (after.pid, after.state(), after.started_at, after.generation >= before.generation),
        (before.pid, ContainerState::Running, before.started_at, true)
    );
    assert!(host::is_alive(before.pid));
    assert_eq!(hull.state(&created).await, ContainerState::Created);
    assert_eq!(hull.get(&exited).await.exit.expect("an exit").code, 4);
    // It is not merely known: everything works.
    hull.kill(&id, "HUP").await;
    hull.until_logged(&id, "signal 1").await;
    assert_eq!(hull.exec(&id, &["/bin/sh", "-c", "exit 6"]).await.exit.code, 6);
    hull.start(&created).await;
    assert_eq!(hull.stop(&id, None).await.code, 7);
    hull.remove(&id).await;
    hull.remove(&created).await;
    hull.remove(&exited).await;
    hull.agent.assert_no_container_left();
}

#[tokio::test]
async fn exits_that_happen_meanwhile_are_seen() {
    let mut hull = Session::own().await;
    let memory = Some(Resources { memory_max: Some(24 << 20), memory_swap_max: Some(0), ..Resources::default() });
    let dir = hull.agent.scratch("gate");
    let gate = |name: &str| hull_proto::v1::Mount {
        r#type: hull_proto::v1::MountType::Bind.into(),
        source: dir.display().to_string(),
        target: format!("/gate/{name}"),
        ..Default::default()
    };
    let wait_for_gate = "while ! [ -e /gate/x/open ]; do sleep 0.02; done";
    let coded = hull
        .run(ContainerConfig { mounts: vec![gate("x")], ..hull.shell(&format!("{wait_for_gate}; echo bye; exit 42")) })
        .await;
    let oom = hull
        .run(ContainerConfig {
            mounts: vec![gate("x")],
            resources: memory,
            ..hull.shell(&format!("{wait_for_gate}; exec /probe alloc 200"))
        })
        .await;
    let killed = hull.run(hull.probe(&["sleep"])).await;
    let removed = hull
        .run(ContainerConfig {
            auto_remove: true,
            mounts: vec![gate("x")],
            ..hull.shell(&format!("{wait_for_gate}; exit 1"))
        })
        .await;
    let pids = [
        hull.get(&coded).await.pid,
        hull.get(&oom).await.pid,
        hull.get(&killed).await.pid,
        hull.get(&removed).await.pid,
    ];

    hull.agent.kill();
    std::fs::write(dir.join("open"), "").expect("opening the gate");
    nix::sys::signal::kill(nix::unistd::Pid::from_raw(pids[2]), nix::sys::signal::Signal::SIGUSR1).expect("kill");
    nix::sys::signal::kill(nix::unistd::Pid::from_raw(pids[2]), nix::sys::signal::Signal::SIGKILL).expect("kill");
    wait::until("all have ended", || pids.iter().all(|pid| !host::is_alive(*pid)).then_some(()));
    hull.agent.spawn();
    hull.reconnect().await;

    let exit = async |id: &str| hull.get(id).await.exit.expect("an exit");
    assert_eq!((exit(&coded).await.code, exit(&coded).await.oom_killed), (42, false));
    assert_eq!((exit(&oom).await.code, exit(&oom).await.oom_killed), (137, true));
    assert_eq!((exit(&killed).await.code, exit(&killed).await.signal), (137, 9));
    assert!(hull.log_lines(&coded).await.contains(&"bye".to_owned()));
    wait::until_async("the one with auto_remove is removed", || async {
        hull.try_get(&removed).await.is_err().then_some(())
    })
    .await;
}

#[tokio::test]
async fn no_log_line_is_lost_over_restarts() {
    let mut hull = Session::own().await;
    let count = 60_000;
    let line = format!("i=0; while [ $i -lt 600 ]; do /probe lines 100; i=$((i+1)); done; echo end {count}");
    let id = hull.run(hull.shell(&line)).await;
    for _ in 0..4 {
        tokio::time::sleep(wait::scaled(Duration::from_millis(150))).await;
        restart(&mut hull).await;
    }
    let entries = hull.logs(StreamLogsRequest { container: id.clone(), follow: true, ..Default::default() }).await;
    assert_eq!(entries.len(), count + 1);
    for (at, entry) in entries[..count].iter().enumerate() {
        assert_eq!(entry.line, format!("line {}", at % 100));
    }
}

#[tokio::test]
async fn a_full_pipe_with_no_agent_blocks_no_container() {
    let mut hull = Session::own().await;
    let id = hull.create(hull.shell("/probe lines 200000; echo finished; sleep 1000")).await;
    let attached = AttachSession::start(&hull.clients, &id, false, true).await.expect("Attach");
    hull.agent.kill();
    drop(attached);
    hull.agent.spawn();
    hull.reconnect().await;
    hull.until_logged(&id, "finished").await;
    assert_eq!(hull.log_lines(&id).await.len(), 200_001);
}

#[tokio::test]
async fn a_paused_container_is_still_paused() {
    let mut hull = Session::own().await;
    let id = hull.run(hull.probe(&["sleep"])).await;
    let pause = hull_proto::v1::PauseContainerRequest { container: id.clone() };
    hull.clients.containers.clone().pause_container(pause).await.expect("PauseContainer");
    restart(&mut hull).await;
    assert_eq!(hull.state(&id).await, ContainerState::Paused);
    let resume = hull_proto::v1::ResumeContainerRequest { container: id.clone() };
    hull.clients.containers.clone().resume_container(resume).await.expect("ResumeContainer");
    assert_eq!(hull.state(&id).await, ContainerState::Running);
    hull.remove(&id).await;
}

#[tokio::test]
async fn request_ids_and_user_ranges_outlive_the_agent() {
    let mut hull = Session::own().await;
    let namespaces =
        Some(hull_proto::v1::Namespaces { user: hull_proto::v1::UserNamespaceMode::Auto.into(), ..Default::default() });
    let request = CreateContainerRequest {
        request_id: "once".into(),
        config: Some(ContainerConfig { namespaces, ..hull.probe(&["sleep"]) }),
        start: true,
    };
    let first = hull.clients.containers.clone().create_container(request.clone()).await.expect("create").into_inner();
    let base = hull.get(&first.id).await.userns_base;
    restart(&mut hull).await;
    let again = hull.clients.containers.clone().create_container(request.clone()).await.expect("create").into_inner();
    assert_eq!((again.id, again.pid), (first.id.clone(), first.pid));
    let other = hull.run(ContainerConfig { ..request.config.expect("config") }).await;
    assert!(hull.get(&other).await.userns_base.abs_diff(base) >= 65_536);
}

#[tokio::test]
async fn killed_at_any_moment_the_agent_recovers_and_leaves_nothing() {
    let mut hull = Session::own().await;
    // Deterministic and spread over the length of a create, a start and a removal.
    for round in 0_u64..16 {
        let mut service = hull.clients.containers.clone();
        let config = hull.probe(&["sleep"]);
        // The client connects again by itself: it must be told to end.
        let killed = Arc::new(AtomicBool::new(false));
        let ended = killed.clone();
        let load = tokio::spawn(async move {
            while !ended.load(Ordering::Relaxed) {
                let request =
                    CreateContainerRequest { config: Some(config.clone()), start: false, request_id: String::new() };
                let Ok(created) = service.create_container(request).await else { return };
                let id = created.into_inner().id;
                if service.start_container(StartContainerRequest { container: id.clone() }).await.is_err() {
                    return;
                }
                if service.remove_container(RemoveContainerRequest { container: id, force: true }).await.is_err() {
                    return;
                }
            }
        });
        tokio::time::sleep(wait::scaled(Duration::from_micros(1500 + 1700 * round))).await;
        killed.store(true, Ordering::Relaxed);
        restart(&mut hull).await;
        wait::within("the load's end", load).await.expect("join");
        let all =
            hull.clients.containers.clone().list_containers(ListContainersRequest::default()).await.expect("list");
        for container in all.into_inner().containers {
            let state = container.state();
            assert!(
                matches!(state, ContainerState::Created | ContainerState::Running | ContainerState::Exited),
                "round {round}: a half-done step is reconciled, not {state:?}"
            );
            hull.remove(&container.id).await;
        }
        hull.agent.assert_no_container_left();
    }
    assert_eq!(hull.output(hull.probe(&["exit", "0"])).await.exit.code, 0);
}

#[tokio::test]
async fn an_import_that_was_cut_off_leaves_nothing() {
    let mut hull = Session::own().await;
    let archive = hull_tests::harness::Rootfs::base().file("big", 0o644, vec![7; 24 << 20]).tar();
    for delay in [2, 10, 30, 60] {
        let clients = hull.clients.clone();
        let start = hull_proto::v1::ImportStart { tags: vec!["test/cut:1".into()], ..Default::default() };
        let archive = archive.clone();
        let importing = tokio::spawn(async move { hull_tests::harness::image::import(&clients, start, archive).await });
        tokio::time::sleep(Duration::from_millis(delay)).await;
        restart(&mut hull).await;
        let _either = importing.await.expect("join");
    }
    // The census at the end fails on any file of an import that is no image.
}

#[tokio::test]
async fn sigterm_drains_and_containers_run_on() {
    let mut hull = Session::own().await;
    let id = hull.run(hull.probe(&["sleep"])).await;
    let pid = hull.get(&id).await.pid;
    let mut follower = hull.clients.containers.clone();
    let request = StreamLogsRequest { container: id.clone(), follow: true, ..Default::default() };
    let mut stream = follower.stream_logs(request).await.expect("StreamLogs").into_inner();
    assert_eq!(hull.agent.terminate(), Some(0));
    // A stream that would last for ever does not hold the agent up; it ends with an error or an end.
    let _ended = wait::within("the stream's end", stream.message()).await;
    assert!(host::is_alive(pid));
    assert!(!hull.agent.socket().exists(), "the socket is removed");
    hull.agent.spawn();
    hull.reconnect().await;
    assert_eq!((hull.state(&id).await, hull.get(&id).await.pid), (ContainerState::Running, pid));
    hull.remove(&id).await;
}

/// What the agent gives calls under way; no factor scales it.
const GRACE: Duration = Duration::from_secs(10);

#[tokio::test]
async fn a_client_that_stands_still_does_not_hold_the_agent_s_end_up() {
    let mut hull = Session::own().await;
    // More than a stream may have under way, so that the agent still has lines to send, whatever the client is told.
    let id = hull.run(hull.probe(&["lines", "2000000"])).await;
    hull.wait(&id).await;
    let sleeper = hull.run(hull.probe(&["sleep"])).await;
    let request = StreamLogsRequest { container: id.clone(), ..Default::default() };
    let mut unread = hull.clients.containers.clone().stream_logs(request).await.expect("StreamLogs").into_inner();
    let first = wait::within("the first lines", unread.message()).await;
    assert!(first.expect("StreamLogs").is_some());
    let words = ["/probe", "lines", "2000000"].map(str::to_owned).into();
    let endless = ExecStart { container: sleeper.clone(), argv: words, ..Default::default() };
    let exec = ExecSession::start(&hull.clients, endless).await.expect("Exec");
    // Both stand still, once what may be under way is.
    let written = || host::text(format!("/proc/{}/io", exec.pid));
    wait::until("the process waits for its reader", || {
        let before = written();
        std::thread::sleep(Duration::from_millis(200));
        (before.contains("wchar") && written() == before).then_some(())
    });
    let begin = Instant::now();
    assert_eq!(hull.agent.terminate(), Some(0));
    assert!(begin.elapsed() < GRACE / 2, "{:?}:\n{}", begin.elapsed(), hull.agent.log());
    drop((unread, exec));
    hull.agent.spawn();
    hull.reconnect().await;
    assert_eq!(hull.state(&sleeper).await, ContainerState::Running);
}

#[tokio::test]
async fn a_call_under_way_comes_to_its_end_before_the_agent_s() {
    let mut hull = Session::own().await;
    let id = hull.run(hull.probe(&["ignore-term"])).await;
    hull.until_logged(&id, "ready").await;
    // Longer than a client that stands still is given.
    let request = StopContainerRequest { container: id.clone(), grace_period: Some(duration(Duration::from_secs(3))) };
    let mut containers = hull.clients.containers.clone();
    let stopping = tokio::spawn(async move { containers.stop_container(request).await });
    hull.until_state(&id, ContainerState::Stopping).await;
    let begin = Instant::now();
    assert_eq!(hull.agent.terminate(), Some(0));
    assert!(begin.elapsed() < GRACE, "{:?}", begin.elapsed());
    let stopped = stopping.await.expect("join").expect("StopContainer");
    assert_eq!(stopped.into_inner().exit.expect("an exit").code, 137);
    hull.agent.spawn();
    hull.reconnect().await;
    assert_eq!(hull.state(&id).await, ContainerState::Exited);
}

#[tokio::test]
async fn two_agents_on_one_directory_are_refused() {
    let hull = Session::own().await;
    let output = hull.agent.command().output().expect("starting a second hulld");
    assert!(!output.status.success());
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(said.contains("data") || said.contains("run") || said.contains("lock"), "{said}");
    // The first one is unharmed.
    assert_eq!(hull.output(hull.probe(&["exit", "0"])).await.exit.code, 0);
}

#[tokio::test]
async fn agents_side_by_side_keep_apart() {
    let (first, second) = tokio::join!(Session::own(), Session::own());
    let config = |hull: &Session| ContainerConfig { name: "same".into(), ..hull.probe(&["sleep"]) };
    let (one, two) = tokio::join!(first.run(config(&first)), second.run(config(&second)));
    assert_ne!(one, two);
    assert!(first.try_get(&two).await.is_err() && second.try_get(&one).await.is_err());
    first.remove(&one).await;
    assert_eq!(second.state(&two).await, ContainerState::Running);
}

#[tokio::test]
async fn wrong_flags_and_directories_are_refused_with_one_line() {
    if !host::is_capable() {
        return;
    }
    let hull = Session::own().await;
    let hulld = hull.agent.command();
    let program = hulld.get_args().find(|word| word.to_string_lossy().ends_with("/hulld")).expect("hulld").to_owned();
    let refused = |words: &[&str]| {
        let output = std::process::Command::new(&program).args(words).output().expect("starting hulld");
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        assert!(!output.status.success(), "{words:?}");
        assert!(!said.contains("panicked") && !said.is_empty(), "{words:?}: {said}");
        said
    };
    let scratch = hull.agent.scratch("other").display().to_string();
    let (data, run) = (format!("{scratch}/data"), format!("{scratch}/run"));
    let base = ["--data-dir", &data, "--run-dir", &run, "--cgroup-parent", "/hull-test-refused"];
    assert!(refused(&["--nonsense"]).contains("--nonsense"));
    assert!(refused(&[&base[..], &["--listen", "http://x"]].concat()).contains("http://x"));
    let tcp = refused(&[&base[..], &["--listen", "tcp://127.0.0.1:1"]].concat());
    assert!(tcp.contains("tls"), "TCP without mutual TLS must be refused: {tcp}");
    let dots = ["--data-dir", &data, "--run-dir", &run, "--cgroup-parent", "/../x", "--listen", "unix:///tmp/x.sock"];
    assert!(refused(&dots).contains("cgroup"));
}

#[tokio::test]
async fn state_directories_are_closed_to_others() {
    // CVE-2024-25621
    use std::os::unix::fs::MetadataExt as _;
    let hull = Session::own().await;
    hull.run(hull.probe(&["sleep"])).await;
    let mut stack = vec![hull.agent.data_dir(), hull.agent.run_dir()];
    let top: Vec<_> = stack.clone();
    while let Some(path) = stack.pop() {
        let meta = std::fs::symlink_metadata(&path).expect("metadata");
        if top.contains(&path) {
            assert_eq!((meta.uid(), meta.gid()), (0, 0), "{}", path.display());
            assert_eq!(meta.mode() & 0o066, 0, "{} has mode {:o}", path.display(), meta.mode() & 0o7777);
        }
        if meta.is_dir() {
            stack.extend(std::fs::read_dir(&path).into_iter().flatten().flatten().map(|entry| entry.path()));
        }
    }
    let mode = |path: &std::path::Path| std::fs::metadata(path).expect("metadata").mode() & 0o7777;
    assert_eq!(mode(&hull.agent.data_dir()) & 0o077 & !0o010, 0, "only root reads what containers wrote");
    assert_eq!(mode(&hull.agent.socket()) & 0o007, 0, "whoever may use the socket is root on the node");
}

#[tokio::test]
async fn long_paths_work_or_are_refused() {
    if !host::is_capable() {
        return;
    }
    let agent = Agent::start(AgentOptions::default());
    let deep = agent.scratch(&"d".repeat(60)).join("run");
    let data = agent.scratch("long").join("data");
    let mut command = agent.command();
    let words: Vec<String> = command.get_args().map(|word| word.to_string_lossy().into_owned()).collect();
    let program = words.iter().find(|word| word.ends_with("/hulld")).expect("hulld").clone();
    command = std::process::Command::new(program);
    command
        .arg("--data-dir")
        .arg(&data)
        .arg("--run-dir")
        .arg(&deep)
        .arg("--cgroup-parent")
        .arg(format!("{}/long", agent.cgroup()));
    command.arg("--listen").arg(format!("unix://{}", agent.scratch("s").join("s.sock").display()));
    let mut child = command.stderr(std::process::Stdio::piped()).spawn().expect("starting hulld");
    let socket = agent.scratch("s").join("s.sock");
    wait::until("it serves or says why not", || {
        (socket.exists() || child.try_wait().expect("wait").is_some()).then_some(())
    });
    let _gone = nix::sys::signal::kill(
        nix::unistd::Pid::from_raw(i32::try_from(child.id()).expect("pid")),
        nix::sys::signal::Signal::SIGTERM,
    );
    let status = wait::until("it ends", || child.try_wait().expect("wait"));
    assert!(status.code().is_some(), "{status:?}");
}
