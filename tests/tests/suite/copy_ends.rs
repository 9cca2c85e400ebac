//! However a copy ends, nothing of it is left, and it holds nobody up.

use std::fs;

use bytes::Bytes;
use hull_proto::v1::{
    ContainerConfig, ContainerState, CopyFromRequest, CopyFromResponse, CopyToRequest, Mount, MountType,
    StatPathRequest, copy_from_response, copy_to_request,
};
use hull_tests::harness::copy::{begin_copy_to, file};
use hull_tests::harness::host::inside;
use hull_tests::harness::{Rootfs, Session, assert_error, bulk, host, wait};
use tokio::sync::mpsc;
use tonic::{Code, Status, Streaming};

/// Begins a copy of a large file from a container that has one, and takes no more than its first bytes.
async fn stuck_from(hull: &Session, container: &str) -> Streaming<CopyFromResponse> {
    let request = CopyFromRequest { container: container.into(), path: "/large".into(), follow_link: false };
    let mut answers = hull.clients.containers.clone().copy_from(request).await.expect("CopyFrom").into_inner();
    for _ in 0..2 {
        answers.message().await.expect("the stream").expect("a message");
    }
    answers
}

type Sending = (mpsc::Sender<CopyToRequest>, tokio::task::JoinHandle<Result<(), Status>>);

/// Begins a copy to a container that does not end: the tar's first file is written when this returns.
async fn stuck_to(hull: &Session, container: &str, name: &str) -> Sending {
    let (sender, requests) = begin_copy_to(container, "/home", false).await;
    let mut containers = hull.clients.containers.clone();
    let copy = tokio::spawn(async move { containers.copy_to(requests).await.map(drop) });
    let tar = Rootfs::empty().file(name, 0o644, "whole").file("next", 0o644, "cut").tar();
    let data = Bytes::copy_from_slice(&tar[..1600]);
    sender.send(CopyToRequest { message: Some(copy_to_request::Message::Data(data)) }).await.expect("taken");
    (sender, copy)
}

fn threads(pid: i32) -> usize {
    let tasks = fs::read_dir(format!("/proc/{pid}/task")).expect("tasks").flatten();
    tasks.filter(|task| host::text(task.path().join("comm")).trim() == "copy").count()
}

fn descriptors_of_containers(pid: i32) -> Vec<String> {
    let open = fs::read_dir(format!("/proc/{pid}/fd")).expect("descriptors").flatten();
    let targets = open.filter_map(|fd| Some(fs::read_link(fd.path()).ok()?.display().to_string()));
    targets.filter(|target| target == "/" || target.contains("large") || target.contains("/home")).collect()
}

async fn until_nothing_is_left(hull: &Session) {
    let pid = hull.agent.pid();
    wait::until_async("the copies are gone", || async {
        (threads(pid) == 0 && descriptors_of_containers(pid).is_empty()).then_some(())
    })
    .await;
}

#[tokio::test]
async fn a_client_that_goes_leaves_nothing() {
    let hull = Session::own().await;
    let running = hull.run(hull.command(&["sleep", "1000"])).await;
    let pid = hull.get(&running).await.pid;
    fs::File::create(inside(pid, "/large")).and_then(|file| file.set_len(1 << 30)).expect("creating");
    let stopped = hull
        .create(hull.shell("truncate -s 1G /large 2>/dev/null || dd if=/dev/zero of=/large bs=1 count=1 seek=1G"))
        .await;
    hull.start(&stopped).await;
    hull.wait(&stopped).await;
    for id in [&running, &stopped] {
        let answers = stuck_from(&hull, id).await;
        assert_eq!(threads(hull.agent.pid()), 1);
        drop(answers);
        until_nothing_is_left(&hull).await;
        let (sender, copy) = stuck_to(&hull, id, "first").await;
        wait::until_async("the copy is under way", || async { (threads(hull.agent.pid()) == 1).then_some(()) }).await;
        copy.abort();
        drop(sender);
        until_nothing_is_left(&hull).await;
        // What was written stays; what is cut is not whole.
        wait::until_async("the first file is there", || async { hull.stat_path(id, "/home/first", false).await.ok() })
            .await;
    }
}

#[tokio::test]
async fn an_agent_that_dies_leaves_nothing_and_the_next_one_copies() {
    let mut hull = Session::own().await;
    let running = hull.run(hull.command(&["sleep", "1000"])).await;
    let pid = hull.get(&running).await.pid;
    fs::File::create(inside(pid, "/large")).and_then(|file| file.set_len(1 << 30)).expect("creating");
    let stopped = hull.create(hull.command(&["true"])).await;
    let answers = stuck_from(&hull, &running).await;
    let sending = stuck_to(&hull, &stopped, "first").await;
    wait::until_async("both are under way", || async { (threads(hull.agent.pid()) == 2).then_some(()) }).await;
    hull.agent.crash_and_restart();
    drop((answers, sending));
    hull.reconnect().await;
    assert_eq!(hull.state(&running).await, ContainerState::Running);
    hull.copy_to(&stopped, "/home", &Rootfs::empty().file("second", 0o644, "2").tar(), false).await.expect("CopyTo");
    assert_eq!(file(&hull.copy_from(&stopped, "/home/second", false).await.expect("CopyFrom").tar, "second"), "2");
    hull.copy_from(&running, "/etc", false).await.expect("CopyFrom");
    hull.start(&stopped).await;
    assert_eq!(hull.wait(&stopped).await.code, 0);
}

#[tokio::test]
async fn a_start_ends_the_copies_that_are_in_its_way() {
    let hull = Session::own().await;
    let id = hull.create(hull.command(&["sleep", "1000"])).await;
    let (sender, copy) = stuck_to(&hull, &id, "first").await;
    wait::until_async("the copy is under way", || async { (threads(hull.agent.pid()) == 1).then_some(()) }).await;
    let pid = hull.start(&id).await;
    let ended = wait::within("the copy", copy).await.expect("a task");
    assert_error(ended, Code::FailedPrecondition, "INVALID_STATE", "was started");
    drop(sender);
    assert_eq!(fs::read(inside(pid, "/home/first")).expect("written before"), b"whole");
    // One that looks through the root of a run that ended, too.
    fs::File::create(inside(pid, "/large")).and_then(|file| file.set_len(1 << 30)).expect("creating");
    let mut answers = stuck_from(&hull, &id).await;
    hull.kill(&id, "KILL").await;
    hull.wait(&id).await;
    assert!(answers.message().await.expect("it goes on though the container has ended").is_some());
    hull.start(&id).await;
    let ended = async {
        loop {
            match answers.message().await {
                Ok(Some(_)) => {}
                Ok(None) => return Ok(()),
                Err(status) => return Err(status),
            }
        }
    };
    assert_error(wait::within("the copy", ended).await, Code::FailedPrecondition, "INVALID_STATE", "was started");
    // And one that reads what a container left goes on.
    hull.kill(&id, "KILL").await;
    hull.wait(&id).await;
    let mut answers = stuck_from(&hull, &id).await;
    hull.start(&id).await;
    let mut done = false;
    while let Some(answer) = wait::within("the copy", answers.message()).await.expect("it is not in the way") {
        done = matches!(answer.message, Some(copy_from_response::Message::Done(_)));
    }
    assert!(done);
    until_nothing_is_left(&hull).await;
}

#[tokio::test]
async fn a_removal_waits_for_no_copy() {
    let hull = Session::own().await;
    let id = hull.create(hull.command(&["true"])).await;
    let (_sender, copy) = stuck_to(&hull, &id, "first").await;
    wait::until_async("the copy is under way", || async { (threads(hull.agent.pid()) == 1).then_some(()) }).await;
    hull.remove(&id).await;
    let ended = wait::within("the copy", copy).await.expect("a task");
    assert_error(ended, Code::FailedPrecondition, "INVALID_STATE", "removed");
    let running = hull.run(hull.command(&["sleep", "1000"])).await;
    let pid = hull.get(&running).await.pid;
    fs::File::create(inside(pid, "/large")).and_then(|file| file.set_len(1 << 30)).expect("creating");
    let _answers = stuck_from(&hull, &running).await;
    hull.remove(&running).await;
    until_nothing_is_left(&hull).await;
}

#[tokio::test]
async fn more_copies_than_the_agent_does_at_once_are_refused() {
    let hull = Session::own().await;
    let id = hull.run(hull.command(&["sleep", "1000"])).await;
    let mut copies = Vec::new();
    for number in 0..64 {
        copies.push(stuck_to(&hull, &id, &format!("f{number}")).await);
    }
    wait::until_async("64 copies are under way", || async { (threads(hull.agent.pid()) == 64).then_some(()) }).await;
    let request = StatPathRequest { container: id.clone(), path: "/".into(), follow_link: false };
    let refused = hull.clients.containers.clone().stat_path(request).await;
    assert_error(refused, Code::ResourceExhausted, "LIMIT_EXCEEDED", "64 copies");
    for (sender, copy) in copies {
        copy.abort();
        drop(sender);
    }
    until_nothing_is_left(&hull).await;
    hull.stat_path(&id, "/", false).await.expect("StatPath");
}

#[tokio::test]
async fn a_thousand_copies_leave_the_agent_as_it_was() {
    let hull = Session::own().await;
    let id = hull.run(hull.command(&["sleep", "1000"])).await;
    let stopped = hull.create(hull.command(&["true"])).await;
    let tar = Rootfs::empty().file("f", 0o644, "x").tar();
    let round = || async {
        hull.copy_to(&id, "/home", &tar, false).await.expect("CopyTo");
        hull.copy_from(&id, "/home/f", false).await.expect("CopyFrom");
        hull.stat_path(&id, "/none", false).await.expect_err("nothing is there");
    };
    for _ in 0..50 {
        round().await;
    }
    hull.copy_to(&stopped, "/home", &tar, false).await.expect("CopyTo");
    until_nothing_is_left(&hull).await;
    let count = || fs::read_dir(format!("/proc/{}/fd", hull.agent.pid())).expect("descriptors").count();
    let (descriptors, memory) = (count(), host::resident(hull.agent.pid()));
    for _ in 0..bulk(330) {
        round().await;
    }
    for _ in 0..20 {
        hull.copy_to(&stopped, "/home", &tar, false).await.expect("CopyTo");
        hull.copy_from(&stopped, "/home/f", false).await.expect("CopyFrom");
    }
    until_nothing_is_left(&hull).await;
    let after = wait::until_async("descriptors are as before", || async {
        let now = count();
        (now <= descriptors + 2).then_some(now)
    })
    .await;
    assert!(after <= descriptors + 2);
    assert!(host::resident(hull.agent.pid()) < memory + (24 << 20));
}

#[tokio::test]
async fn what_keeps_a_root_from_being_mounted_is_no_failure_of_hull_s() {
    let hull = Session::shared().await;
    let volume = hull.agent.scratch("fleeting");
    let mount = Mount {
        r#type: MountType::Bind.into(),
        source: volume.display().to_string(),
        target: "/vol".into(),
        ..Mount::default()
    };
    let id = hull.create(ContainerConfig { mounts: vec![mount], ..hull.command(&["true"]) }).await;
    hull.copy_from(&id, "/etc/passwd", false).await.expect("CopyFrom");
    fs::remove_dir(&volume).expect("removing");
    let result = hull.copy_from(&id, "/etc/passwd", false).await;
    assert_error(result, Code::FailedPrecondition, "START_FAILED", "fleeting at /vol: ENOENT");
}

#[tokio::test]
async fn a_file_that_shrinks_is_filled_up_and_told() {
    let hull = Session::shared().await;
    let id = hull.run(hull.command(&["sleep", "1000"])).await;
    let pid = hull.get(&id).await.pid;
    let path = inside(pid, "/shrinks");
    fs::File::create(&path).and_then(|file| file.set_len(64 << 20)).expect("creating");
    use hull_proto::v1::copy_from_response::Message;
    let request = hull_proto::v1::CopyFromRequest { container: id, path: "/shrinks".into(), follow_link: false };
    let mut answers = hull.clients.containers.clone().copy_from(request).await.expect("CopyFrom").into_inner();
    // The agent has begun to read and waits for us.
    let first = answers.message().await.expect("the stream").and_then(|answer| answer.message);
    assert!(matches!(first, Some(Message::Stat(_))), "{first:?}");
    let data = answers.message().await.expect("the stream").and_then(|answer| answer.message);
    let Some(Message::Data(data)) = data else { panic!("{data:?}") };
    fs::File::options().write(true).open(&path).and_then(|file| file.set_len(1 << 20)).expect("shrinking");
    let (mut bytes, mut done) = (data.len(), None);
    while let Some(answer) = answers.message().await.expect("the stream") {
        match answer.message {
            Some(Message::Data(data)) => bytes += data.len(),
            Some(Message::Done(said)) => done = Some(said),
            other => panic!("{other:?}"),
        }
    }
    let done = done.expect("done");
    assert_eq!((done.shrunk, done.first_shrunk.as_str()), (1, "shrinks"));
    assert!(bytes > 64 << 20, "{bytes}");
}
