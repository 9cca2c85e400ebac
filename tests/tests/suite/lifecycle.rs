//! Create, start, stop, kill, pause, resume, update, remove, wait, list: states, codes, idempotence.

use std::collections::HashMap;
use std::time::{Duration, Instant};

use hull_proto::v1::{
    ContainerConfig, ContainerFilter, ContainerState, CreateContainerRequest, ExitStatus, KillContainerRequest,
    ListContainersRequest, PauseContainerRequest, RemoveContainerRequest, ResumeContainerRequest, StopContainerRequest,
    WaitCondition, WaitContainerRequest,
};
use hull_tests::harness::{Session, assert_error, error_info, host, wait};
use tonic::Code;

#[tokio::test]
async fn a_container_is_created_started_stopped_and_removed() {
    let hull = Session::shared().await;
    let name = hull.name("whole");
    let id = hull.create(ContainerConfig { name: name.clone(), ..hull.probe(&["sleep"]) }).await;
    let created = hull.get(&id).await;
    assert_eq!((created.id.len(), created.name.as_str()), (64, name.as_str()));
    assert_eq!((created.state(), created.pid), (ContainerState::Created, 0));
    assert!(created.created_at.is_some() && created.started_at.is_none() && created.exit.is_none());
    assert!(created.image_digest.starts_with("sha256:"));

    let pid = hull.start(&name).await;
    let running = hull.get(&id[..12]).await;
    assert_eq!((running.state(), running.pid), (ContainerState::Running, pid));
    assert!(host::is_alive(pid) && running.started_at.is_some() && !running.cgroup_path.is_empty());
    assert!(!running.start_steps.is_empty(), "a start tells the time of its steps");

    let exit = hull.stop(&id, Some(Duration::ZERO)).await;
    assert_eq!((exit.code, exit.signal), (137, 9));
    assert!(exit.finished_at.is_some());
    let stopped = hull.get(&id).await;
    assert_eq!((stopped.state(), stopped.pid), (ContainerState::Exited, 0));
    assert!(!host::is_alive(pid));
    assert!(stopped.generation > created.generation);

    assert_eq!(hull.try_remove(&name, false).await.expect("removing"), id);
    assert_error(hull.try_get(&id).await, Code::NotFound, "CONTAINER_NOT_FOUND", &id[..12]);
}

#[tokio::test]
async fn an_exited_container_starts_again_with_its_files() {
    let hull = Session::shared().await;
    let id = hull.create(hull.shell("cat /tmp/kept; echo run >> /tmp/kept")).await;
    for runs in 0..3 {
        hull.start(&id).await;
        assert_eq!(hull.wait(&id).await.code, 0);
        let lines = hull.log_lines(&id).await.iter().filter(|line| *line == "run").count();
        assert_eq!(lines, (0..=runs).sum::<usize>(), "after run {runs}");
    }
}

#[tokio::test]
async fn starting_a_running_container_changes_nothing() {
    let hull = Session::shared().await;
    let id = hull.run(hull.probe(&["sleep"])).await;
    let before = hull.get(&id).await;
    assert_eq!(hull.start(&id).await, before.pid);
    let after = hull.get(&id).await;
    assert_eq!((after.pid, after.started_at), (before.pid, before.started_at));
}

#[tokio::test]
async fn stopping_what_does_not_run_succeeds() {
    let hull = Session::shared().await;
    let id = hull.create(hull.probe(&["exit", "3"])).await;
    let request = StopContainerRequest { container: id.clone(), grace_period: None };
    let never = hull.clients.containers.clone().stop_container(request).await.expect("StopContainer").into_inner();
    assert_eq!(never.exit, None);
    hull.start(&id).await;
    hull.wait(&id).await;
    assert_eq!(hull.stop(&id, None).await.code, 3);
}

#[tokio::test]
async fn exit_codes_are_the_process_s_own() {
    let hull = Session::shared().await;
    for code in [0, 1, 42, 125, 126, 127, 255] {
        let output = hull.output(hull.probe(&["exit", &code.to_string()])).await;
        assert_eq!((output.exit.code, output.exit.signal), (code, 0));
        assert_eq!(output.exit.error, "");
    }
}

#[tokio::test]
async fn a_signal_s_exit_code_is_128_and_its_number() {
    let hull = Session::shared().await;
    for (signal, number) in [("SIGTERM", 15), ("HUP", 1), ("9", 9), ("SIGUSR1", 10)] {
        // A shell line with several commands stays process 1, which ignores what it does not handle: so signal a child.
        let line = format!("/bin/sh -c 'kill -{number} $$'; code=$?; exit $code");
        let output = hull.output(hull.shell(&line)).await;
        assert_eq!(output.exit.code, 128 + number, "{signal}");
        let killed = hull.run(hull.probe(&["sleep"])).await;
        hull.kill(&killed, "SIGKILL").await;
        let exit = hull.wait(&killed).await;
        assert_eq!((exit.code, exit.signal), (137, 9));
    }
}

#[tokio::test]
async fn a_program_that_is_not_there_gives_127_and_names_it() {
    let hull = Session::shared().await;
    for program in ["/bin/nope", "nope"] {
        let id = hull.create(hull.command(&[program])).await;
        let status = hull.try_start(&id).await.expect_err("nothing to run");
        assert_eq!(error_info(&status).reason, "START_FAILED", "{status:?}");
        assert_eq!(error_info(&status).metadata.get("errno").map(String::as_str), Some("ENOENT"));
        assert!(status.message().contains(program), "{}", status.message());
        let exit = hull.get(&id).await.exit.expect("a failed start leaves an exit");
        assert_eq!(exit.code, 127);
        assert!(exit.error.contains(program), "{}", exit.error);
        assert_eq!(hull.state(&id).await, ContainerState::Exited);
    }
}

#[tokio::test]
async fn a_program_that_cannot_be_executed_gives_126() {
    let hull = Session::shared().await;
    for program in ["/etc/passwd", "/etc"] {
        let id = hull.create(hull.command(&[program])).await;
        let status = hull.try_start(&id).await.expect_err("not executable");
        assert_eq!(error_info(&status).metadata.get("errno").map(String::as_str), Some("EACCES"), "{status:?}");
        assert_eq!(hull.get(&id).await.exit.expect("an exit").code, 126);
    }
}

#[tokio::test]
async fn a_start_that_fails_within_create_leaves_nothing() {
    let hull = Session::shared().await;
    let name = hull.name("gone");
    let config = ContainerConfig { name: name.clone(), ..hull.command(&["/bin/nope"]) };
    assert!(hull.try_run(config.clone()).await.is_err());
    assert_error(hull.try_get(&name).await, Code::NotFound, "CONTAINER_NOT_FOUND", &name);
    // The name is free again.
    let id = hull.create(ContainerConfig { args: vec!["/bin/true".into()], ..config }).await;
    assert_eq!(hull.get(&id).await.name, name);
}

#[tokio::test]
async fn stop_sends_the_stop_signal_and_waits_for_the_end() {
    let hull = Session::shared().await;
    let id = hull.run(hull.probe(&["sigwait"])).await;
    hull.until_logged(&id, "ready").await;
    let exit = hull.stop(&id, Some(Duration::from_secs(10))).await;
    assert_eq!((exit.code, exit.signal), (7, 0));
    assert!(hull.log_lines(&id).await.contains(&"signal 15".to_owned()));
}

#[tokio::test]
async fn the_stop_signal_is_the_config_s_or_the_image_s() {
    let hull = Session::shared().await;
    let config = ContainerConfig { stop_signal: "SIGUSR1".into(), ..hull.probe(&["sigwait"]) };
    let id = hull.run(config).await;
    hull.until_logged(&id, "ready").await;
    let exit = hull.stop(&id, Some(wait::scaled(Duration::from_millis(300)))).await;
    assert_eq!(exit.code, 137);
    assert!(hull.log_lines(&id).await.contains(&"signal 10".to_owned()));
}

#[tokio::test]
async fn stop_kills_after_the_grace_period_and_not_before() {
    let hull = Session::shared().await;
    let id = hull.run(hull.probe(&["ignore-term"])).await;
    hull.until_logged(&id, "ready").await;
    let grace = Duration::from_millis(700);
    let start = Instant::now();
    let exit = hull.stop(&id, Some(grace)).await;
    assert_eq!((exit.code, exit.signal), (137, 9));
    assert!(start.elapsed() >= grace, "{:?}", start.elapsed());
    assert!(start.elapsed() < grace + wait::scaled(Duration::from_secs(3)), "{:?}", start.elapsed());
}

#[tokio::test]
async fn every_process_of_a_container_ends_with_its_init() {
    let hull = Session::shared().await;
    let id = hull.run(hull.shell("sleep 1000 & sleep 1000 & echo started; sleep 1000")).await;
    hull.until_logged(&id, "started").await;
    let cgroup = hull.get(&id).await.cgroup_path;
    let inside = wait::until("all run", || Some(host::cgroup_processes(&cgroup)).filter(|found| found.len() >= 3));
    hull.stop(&id, Some(Duration::ZERO)).await;
    wait::until("all have ended", || inside.iter().all(|pid| !host::is_alive(*pid)).then_some(()));
}

#[tokio::test]
async fn kill_takes_names_and_numbers_and_refuses_the_rest() {
    let hull = Session::shared().await;
    let id = hull.run(hull.probe(&["sigwait"])).await;
    hull.until_logged(&id, "ready").await;
    for (signal, line) in [("SIGHUP", "signal 1"), ("USR1", "signal 10"), ("12", "signal 12"), ("sigint", "signal 2")] {
        hull.kill(&id, signal).await;
        hull.until_logged(&id, line).await;
    }
    for wrong in ["SIGNOPE", "0", "-1", "65", "9x"] {
        assert_error(hull.try_kill(&id, wrong).await, Code::InvalidArgument, "INVALID_ARGUMENT", "signal");
    }
    hull.kill(&id, "").await;
    assert_eq!(hull.wait(&id).await.code, 137);
    assert_error(hull.try_kill(&id, "TERM").await, Code::FailedPrecondition, "INVALID_STATE", "");
}

#[tokio::test]
async fn kill_all_reaches_every_process() {
    let hull = Session::shared().await;
    let id = hull.run(hull.shell("/probe sigwait & /probe sigwait & wait; wait; wait")).await;
    wait::until_async("both are ready", || async {
        (hull.log_lines(&id).await.iter().filter(|line| *line == "ready").count() == 2).then_some(())
    })
    .await;
    let request = KillContainerRequest { container: id.clone(), signal: "HUP".into(), all: true };
    hull.clients.containers.clone().kill_container(request).await.expect("KillContainer");
    wait::until_async("both got it", || async {
        (hull.log_lines(&id).await.iter().filter(|line| *line == "signal 1").count() == 2).then_some(())
    })
    .await;
}

#[tokio::test]
async fn a_paused_container_stands_still_and_goes_on() {
    let hull = Session::shared().await;
    let id = hull.run(hull.shell("while true; do echo tick; sleep 0.01; done")).await;
    hull.until_logged(&id, "tick").await;
    let pause = || PauseContainerRequest { container: id.clone() };
    hull.clients.containers.clone().pause_container(pause()).await.expect("PauseContainer");
    assert_eq!(hull.state(&id).await, ContainerState::Paused);
    let frozen = hull.log_lines(&id).await.len();
    // Nothing to wait for: this is the time in which nothing may happen.
    tokio::time::sleep(Duration::from_millis(200)).await;
    assert_eq!(hull.log_lines(&id).await.len(), frozen);
    // Again changes nothing: a scheduler may have lost the first answer.
    hull.clients.containers.clone().pause_container(pause()).await.expect("PauseContainer again");

    let resume = ResumeContainerRequest { container: id.clone() };
    hull.clients.containers.clone().resume_container(resume.clone()).await.expect("ResumeContainer");
    assert_eq!(hull.state(&id).await, ContainerState::Running);
    wait::until_async("it ticks on", || async { (hull.log_lines(&id).await.len() > frozen).then_some(()) }).await;
    hull.clients.containers.clone().resume_container(resume).await.expect("ResumeContainer again");
}

#[tokio::test]
async fn a_paused_container_can_be_stopped_and_removed() {
    let hull = Session::shared().await;
    for remove in [false, true] {
        let id = hull.run(hull.probe(&["sleep"])).await;
        let pause = PauseContainerRequest { container: id.clone() };
        hull.clients.containers.clone().pause_container(pause).await.expect("PauseContainer");
        if remove {
            hull.remove(&id).await;
        } else {
            assert_eq!(hull.stop(&id, Some(Duration::from_millis(100))).await.code, 137);
        }
    }
}

#[tokio::test]
async fn a_running_container_is_removed_by_force_alone() {
    let hull = Session::shared().await;
    let id = hull.run(hull.probe(&["sleep"])).await;
    assert_error(hull.try_remove(&id, false).await, Code::FailedPrecondition, "INVALID_STATE", "");
    assert_eq!(hull.state(&id).await, ContainerState::Running);
    assert_eq!(hull.try_remove(&id, true).await.expect("RemoveContainer"), id);
    // Removing again succeeds: a scheduler may have lost the first answer.
    assert_eq!(hull.try_remove(&id, true).await.expect("RemoveContainer again"), id);
    assert_error(hull.try_remove("never-was", true).await, Code::NotFound, "CONTAINER_NOT_FOUND", "never-was");
}

#[tokio::test]
async fn auto_remove_removes_after_the_exit() {
    let hull = Session::shared().await;
    let id = hull.create(ContainerConfig { auto_remove: true, ..hull.probe(&["exit", "5"]) }).await;
    let request = WaitContainerRequest { container: id.clone(), condition: WaitCondition::Removed.into() };
    let mut service = hull.clients.containers.clone();
    let waiter = tokio::spawn(async move { service.wait_container(request).await });
    hull.start(&id).await;
    let exit = wait::within("the removal", waiter).await.expect("join").expect("WaitContainer").into_inner().exit;
    assert_eq!(exit.expect("an exit").code, 5);
    assert_error(hull.try_get(&id).await, Code::NotFound, "CONTAINER_NOT_FOUND", "");
}

#[tokio::test]
async fn waiting_ends_with_the_container_and_tells_how() {
    let hull = Session::shared().await;
    let created = hull.create(hull.probe(&["exit", "9"])).await;
    let request =
        |condition: WaitCondition| WaitContainerRequest { container: created.clone(), condition: condition.into() };
    let at_once =
        hull.clients.containers.clone().wait_container(request(WaitCondition::NotRunning)).await.expect("Wait");
    assert_eq!(at_once.into_inner().exit, None);

    let mut service = hull.clients.containers.clone();
    let next = request(WaitCondition::NextExit);
    let waiter = tokio::spawn(async move { service.wait_container(next).await });
    hull.start(&created).await;
    let exit = wait::within("the exit", waiter).await.expect("join").expect("WaitContainer").into_inner().exit;
    assert_eq!(exit.map(|exit: ExitStatus| exit.code), Some(9));
}

#[tokio::test]
async fn a_wait_is_bounded_by_its_deadline() {
    let hull = Session::shared().await;
    let id = hull.run(hull.probe(&["sleep"])).await;
    let mut request = tonic::Request::new(WaitContainerRequest { container: id.clone(), condition: 0 });
    request.set_timeout(Duration::from_millis(100));
    let start = Instant::now();
    let status = hull.clients.containers.clone().wait_container(request).await.expect_err("a deadline");
    assert!(matches!(status.code(), Code::DeadlineExceeded | Code::Cancelled), "{status:?}");
    assert!(start.elapsed() < wait::scaled(Duration::from_secs(2)));
    assert_eq!(hull.state(&id).await, ContainerState::Running);
}

#[tokio::test]
async fn a_repeated_create_with_the_same_request_id_returns_the_same_container() {
    let hull = Session::shared().await;
    let request = CreateContainerRequest {
        request_id: hull.name("request"),
        config: Some(ContainerConfig { name: hull.name("once"), ..hull.probe(&["sleep"]) }),
        start: true,
    };
    let mut service = hull.clients.containers.clone();
    let first = service.create_container(request.clone()).await.expect("first").into_inner();
    let second = service.create_container(request.clone()).await.expect("second").into_inner();
    assert_eq!((&first.id, first.pid), (&second.id, second.pid));

    let mut other = request;
    other.config.as_mut().expect("config").hostname = "other".into();
    assert_error(service.create_container(other).await, Code::AlreadyExists, "REQUEST_ID_REUSED", "");
}

#[tokio::test]
async fn side_by_side_creates_with_one_request_id_make_one_container() {
    let hull = Session::shared().await;
    let request =
        CreateContainerRequest { request_id: hull.name("race"), config: Some(hull.probe(&["sleep"])), start: false };
    let calls = (0..8).map(|_| {
        let (mut service, request) = (hull.clients.containers.clone(), request.clone());
        tokio::spawn(async move { service.create_container(request).await.expect("CreateContainer").into_inner().id })
    });
    let ids: Vec<String> =
        futures_util::future::join_all(calls).await.into_iter().map(|id| id.expect("join")).collect();
    assert!(ids.iter().all(|id| *id == ids[0]), "{ids:?}");
}

#[tokio::test]
async fn a_name_belongs_to_one_container() {
    let hull = Session::shared().await;
    let config = ContainerConfig { name: hull.name("taken"), ..hull.probe(&["sleep"]) };
    let first = hull.create(config.clone()).await;
    let status = assert_error(hull.try_create(config.clone()).await, Code::AlreadyExists, "NAME_IN_USE", &config.name);
    assert!(status.message().contains(&first[..12]), "the message tells whose it is: {}", status.message());
    hull.remove(&first).await;
    hull.create(config).await;
}

#[tokio::test]
async fn a_prefix_must_fit_one_container() {
    let hull = Session::shared().await;
    let ids = futures_util::future::join_all((0..40).map(|_| hull.create(hull.probe(&["sleep"])))).await;
    assert_error(hull.try_get(&ids[0][..2]).await, Code::NotFound, "CONTAINER_NOT_FOUND", "");
    for id in &ids {
        assert_eq!(hull.get(&id[..12]).await.id, *id);
    }
    let name = hull.name("Aa-b_c.d");
    hull.create(ContainerConfig { name: name.clone(), ..hull.probe(&["sleep"]) }).await;
    assert_eq!(hull.get(&name).await.name, name);
}

#[tokio::test]
async fn lists_are_filtered_and_come_in_pages_newest_first() {
    let hull = Session::shared().await;
    let mark = hull.name("mark");
    let mut ids = Vec::new();
    for number in 0..7 {
        let mut config = hull.probe(&["sleep"]);
        config.labels.insert("page".into(), mark.clone());
        config.name = hull.name(&format!("page{number}"));
        ids.push(hull.create(config).await);
    }
    hull.start(&ids[2]).await;
    let mut service = hull.clients.containers.clone();
    let labels = HashMap::from([("page".to_owned(), mark)]);
    let filter = ContainerFilter { labels: labels.clone(), ..ContainerFilter::default() };
    let (mut seen, mut token) = (Vec::new(), String::new());
    loop {
        let request = ListContainersRequest { filter: Some(filter.clone()), page_size: 3, page_token: token };
        let answer = service.list_containers(request).await.expect("ListContainers").into_inner();
        assert!(answer.containers.len() <= 3);
        seen.extend(answer.containers.into_iter().map(|container| container.id));
        token = answer.next_page_token;
        if token.is_empty() {
            break;
        }
    }
    assert_eq!(seen, ids.iter().rev().cloned().collect::<Vec<_>>());

    let mut found = async |filter: ContainerFilter| {
        let filter = ContainerFilter { labels: labels.clone(), ..filter };
        let request = ListContainersRequest { filter: Some(filter), ..ListContainersRequest::default() };
        let answer = service.list_containers(request).await.expect("ListContainers").into_inner();
        answer.containers.into_iter().map(|container| container.id).collect::<Vec<_>>()
    };
    let states = vec![ContainerState::Running.into()];
    assert_eq!(found(ContainerFilter { states, ..ContainerFilter::default() }).await, [ids[2].clone()]);
    assert_eq!(found(ContainerFilter { name: "page5".into(), ..ContainerFilter::default() }).await, [ids[5].clone()]);
    assert_eq!(
        found(ContainerFilter { id: ids[1][..20].into(), ..ContainerFilter::default() }).await,
        [ids[1].clone()]
    );
    for image in ["test/base:1", "docker.io/test/base:1"] {
        assert_eq!(found(ContainerFilter { image: image.into(), ..ContainerFilter::default() }).await.len(), 7);
    }
    assert!(found(ContainerFilter { image: "test/other".into(), ..ContainerFilter::default() }).await.is_empty());
}

#[tokio::test]
async fn wrong_pages_are_refused() {
    let hull = Session::shared().await;
    let mut service = hull.clients.containers.clone();
    for page_size in [-1, 1001] {
        let request = ListContainersRequest { page_size, ..ListContainersRequest::default() };
        assert_error(service.list_containers(request).await, Code::InvalidArgument, "INVALID_ARGUMENT", "page_size");
    }
    let request = ListContainersRequest { page_token: "nonsense!".into(), ..ListContainersRequest::default() };
    assert_error(service.list_containers(request).await, Code::InvalidArgument, "INVALID_ARGUMENT", "page_token");
}

#[tokio::test]
async fn a_hung_stop_delays_no_other_container() {
    let hull = Session::shared().await;
    let slow = hull.run(hull.probe(&["ignore-term"])).await;
    hull.until_logged(&slow, "ready").await;
    let mut service = hull.clients.containers.clone();
    let grace = Some(hull_tests::harness::duration(wait::scaled(Duration::from_secs(3))));
    let request = StopContainerRequest { container: slow.clone(), grace_period: grace };
    let stopping = tokio::spawn(async move { service.stop_container(request).await });
    hull.until_state(&slow, ContainerState::Stopping).await;
    let start = Instant::now();
    assert_eq!(hull.output(hull.probe(&["exit", "0"])).await.exit.code, 0);
    assert!(start.elapsed() < wait::scaled(Duration::from_secs(2)));
    // A kill reaches the one that is being stopped.
    hull.kill(&slow, "KILL").await;
    let exit = wait::within("the stop", stopping).await.expect("join").expect("StopContainer").into_inner().exit;
    assert_eq!(exit.expect("an exit").code, 137);
}

#[tokio::test]
async fn a_removal_in_the_middle_of_a_run_leaves_nothing() {
    let hull = Session::own().await;
    for _ in 0..5 {
        let id = hull.run(hull.shell("while true; do echo x; done")).await;
        let request = RemoveContainerRequest { container: id, force: true };
        wait::within("RemoveContainer", hull.clients.containers.clone().remove_container(request))
            .await
            .expect("removing");
    }
    hull.agent.assert_no_container_left();
}
