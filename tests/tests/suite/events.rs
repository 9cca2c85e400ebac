//! Events: what happened on the node, in order, also for a reader that comes back.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, SystemTime};

use hull_proto::v1::event::Subject;
use hull_proto::v1::{
    ContainerConfig, ContainerEvent, CreateContainerRequest, Event, EventType, PauseContainerRequest,
    RemoveContainerRequest, RemoveImageRequest, Resources, ResumeContainerRequest, StreamEventsRequest,
    StreamEventsResponse, TagImageRequest, UpdateContainerRequest, WaitContainerRequest,
};
use hull_tests::harness::{Rootfs, Session, assert_error, wait};
use tonic::{Code, Status, Streaming};

async fn open(hull: &Session, request: StreamEventsRequest) -> Result<Streaming<StreamEventsResponse>, Status> {
    Ok(hull.clients.events.clone().stream_events(request).await?.into_inner())
}

/// All events that there are, and the position of the stream's end.
async fn all(hull: &Session, request: StreamEventsRequest) -> (Vec<Event>, u64) {
    let mut stream = open(hull, request).await.expect("StreamEvents");
    let (mut events, mut position) = (Vec::new(), 0);
    while let Some(answer) = wait::within("an answer", stream.message()).await.expect("an answer") {
        events.extend(answer.events);
        position = answer.sequence;
    }
    (events, position)
}

fn of_container(event: &Event) -> &ContainerEvent {
    match &event.subject {
        Some(Subject::Container(container)) => container,
        other => panic!("{other:?} is of no container"),
    }
}

fn types(events: &[Event]) -> Vec<EventType> {
    events.iter().map(Event::r#type).collect()
}

fn of(container: &str) -> StreamEventsRequest {
    StreamEventsRequest { containers: vec![container.to_owned()], ..StreamEventsRequest::default() }
}

#[tokio::test]
async fn a_container_s_life_is_told_in_order() {
    let hull = Session::shared().await;
    let name = hull.name("life");
    let id = hull.run(ContainerConfig { name: name.clone(), ..hull.probe(&["sigwait"]) }).await;
    let pid = hull.get(&id).await.pid;
    let mut service = hull.clients.containers.clone();
    service.pause_container(PauseContainerRequest { container: id.clone() }).await.expect("PauseContainer");
    service.resume_container(ResumeContainerRequest { container: id.clone() }).await.expect("ResumeContainer");
    let resources = Some(Resources { memory_max: Some(64 << 20), ..Resources::default() });
    let update = UpdateContainerRequest { container: id.clone(), resources };
    service.update_container(update).await.expect("UpdateContainer");
    hull.kill(&id, "KILL").await;
    hull.wait(&id).await;
    hull.remove(&id).await;
    let (events, position) = all(&hull, of(&id)).await;
    let expected = [
        EventType::ContainerCreated,
        EventType::ContainerStarted,
        EventType::ContainerPaused,
        EventType::ContainerResumed,
        EventType::ContainerUpdated,
        EventType::ContainerExited,
        EventType::ContainerRemoved,
    ];
    assert_eq!(types(&events), expected);
    assert!(events.windows(2).all(|pair| pair[0].sequence < pair[1].sequence), "{events:?}");
    assert!(position >= events[6].sequence);
    for event in &events {
        let told = of_container(event);
        assert_eq!((&*told.id, &*told.name), (&*id, &*name));
        assert_eq!(told.image, hull.probe(&[]).image);
        let time = SystemTime::try_from(event.time.expect("a time")).expect("a time");
        assert!(time.elapsed().expect("a time before now") < wait::soon() * 4);
    }
    assert_eq!(of_container(&events[1]).pid, pid);
    let exit = of_container(&events[5]).exit.clone().expect("an exit");
    assert_eq!((exit.code, exit.signal, exit.oom_killed, &*exit.error), (137, 9, false, ""));
}

#[tokio::test]
async fn failed_starts_and_kills_for_memory_are_told() {
    let hull = Session::shared().await;
    let id = hull.create(hull.command(&["/bin/nope"])).await;
    hull.try_start(&id).await.expect_err("a program that is not there");
    let (events, _) = all(&hull, of(&id)).await;
    assert_eq!(types(&events), [EventType::ContainerCreated, EventType::ContainerExited]);
    let exit = of_container(&events[1]).exit.clone().expect("an exit");
    assert_eq!(exit.code, 127);
    assert!(exit.error.contains("/bin/nope"), "{exit:?}");
    let resources = Some(Resources { memory_max: Some(16 << 20), ..Resources::default() });
    let id = hull.run(ContainerConfig { resources, ..hull.probe(&["alloc", "64"]) }).await;
    assert!(hull.wait(&id).await.oom_killed);
    let (events, _) = all(&hull, of(&id)).await;
    let oom = events.iter().find(|event| event.r#type() == EventType::ContainerOom).expect("the event of the kill");
    assert_eq!(of_container(oom).cgroup, hull.get(&id).await.cgroup_path);
    assert_eq!(events.last().expect("events").r#type(), EventType::ContainerExited);
}

#[tokio::test]
async fn images_are_told_and_filters_choose() {
    let hull = Session::own().await;
    let (first, position) = all(&hull, StreamEventsRequest::default()).await;
    assert!(types(&first).contains(&EventType::AgentStarted));
    let image = hull.image("told", Rootfs::base()).await;
    let mut service = hull.clients.images.clone();
    let tag = TagImageRequest { image: image.clone(), name: "test/told:2".into() };
    service.tag_image(tag).await.expect("TagImage");
    for name in ["test/told:2", &*image] {
        service.remove_image(RemoveImageRequest { image: name.into() }).await.expect("RemoveImage");
    }
    hull.remove(&hull.create(hull.probe(&[])).await).await;
    let images = [EventType::ImageAdded, EventType::ImageTagged, EventType::ImageUntagged, EventType::ImageRemoved];
    let after = StreamEventsRequest {
        after_sequence: Some(position),
        types: images.iter().map(|kind| i32::from(*kind)).collect(),
        ..StreamEventsRequest::default()
    };
    let (events, end) = all(&hull, after).await;
    // The base image has the same content, so the image had a name before and has it afterwards.
    assert_eq!(types(&events)[..2], images[..2], "{events:?}");
    assert_eq!(end, position + events.len() as u64 + 2, "the container's two were left out");
    let Some(Subject::Image(told)) = &events[1].subject else { panic!("{events:?}") };
    assert_eq!(told.names, ["docker.io/test/told:2"]);
    assert!(told.digest.starts_with("sha256:"));
}

#[tokio::test]
async fn a_follower_gets_what_comes_and_ends_when_it_says() {
    let hull = Session::shared().await;
    let follow = StreamEventsRequest { follow: true, ..StreamEventsRequest::default() };
    let mut stream = open(&hull, follow.clone()).await.expect("StreamEvents");
    let first = wait::within("the first answer", stream.message()).await.expect("an answer").expect("an answer");
    assert!(first.events.is_empty(), "from now on: {first:?}");
    let id = hull.run(hull.probe(&["exit", "3"])).await;
    let mut seen = Vec::new();
    while seen.last() != Some(&EventType::ContainerExited) {
        let answer = wait::within("an event", stream.message()).await.expect("an answer").expect("an event");
        let ours =
            answer.events.iter().filter(|event| matches!(&event.subject, Some(Subject::Container(c)) if c.id == id));
        seen.extend(ours.map(Event::r#type));
    }
    assert_eq!(seen, [EventType::ContainerCreated, EventType::ContainerStarted, EventType::ContainerExited]);
    // With an end in time the stream ends by itself.
    let until = Some((SystemTime::now() + Duration::from_millis(300)).into());
    let mut stream = open(&hull, StreamEventsRequest { until, ..follow }).await.expect("StreamEvents");
    while wait::within("the stream's end", stream.message()).await.expect("an end").is_some() {}
}

#[tokio::test]
async fn wrong_requests_and_lost_events_are_refused_by_name() {
    let hull = Session::shared().await;
    let request = StreamEventsRequest { types: vec![99], ..StreamEventsRequest::default() };
    assert_error(open(&hull, request).await, Code::InvalidArgument, "INVALID_ARGUMENT", "types");
    assert_error(open(&hull, of("nobody")).await, Code::NotFound, "CONTAINER_NOT_FOUND", "nobody");
    let request = StreamEventsRequest { after_sequence: Some(1 << 40), ..StreamEventsRequest::default() };
    assert_error(open(&hull, request).await, Code::OutOfRange, "EVENTS_LOST", "begun anew");
    let (events, _) = all(&hull, of(&"ab".repeat(32))).await;
    assert!(events.is_empty());
}

/// Creates, starts and removes containers until told to end.
async fn churn(hull: &Session, ended: Arc<AtomicBool>) {
    let mut service = hull.clients.containers.clone();
    for auto_remove in [false, true].into_iter().cycle() {
        if ended.load(Ordering::Relaxed) {
            return;
        }
        let config = Some(ContainerConfig { auto_remove, ..hull.probe(&["exit", "3"]) });
        let request = CreateContainerRequest { config, start: true, request_id: String::new() };
        let Ok(created) = service.create_container(request).await else { return };
        let container = created.into_inner().id;
        let wait = WaitContainerRequest { container: container.clone(), ..WaitContainerRequest::default() };
        match service.wait_container(wait).await {
            Ok(_) if auto_remove => continue,
            Ok(_) => {}
            // It is gone already, or the agent is.
            Err(status) if status.code() == Code::NotFound => continue,
            Err(_) => return,
        }
        if service.remove_container(RemoveContainerRequest { container, force: true }).await.is_err() {
            return;
        }
    }
}

#[tokio::test]
async fn a_reader_that_reconnects_misses_none_however_often_the_agent_dies() {
    let mut hull = Session::own().await;
    let (mut events, mut position) = all(&hull, StreamEventsRequest::default()).await;
    for round in 0_u64..20 {
        let ended = Arc::new(AtomicBool::new(false));
        let request =
            StreamEventsRequest { after_sequence: Some(position), follow: true, ..StreamEventsRequest::default() };
        let mut stream = open(&hull, request).await.expect("StreamEvents");
        let reading = async {
            while let Ok(Some(answer)) = stream.message().await {
                position = answer.sequence;
                events.extend(answer.events);
            }
        };
        let dying = async {
            tokio::time::sleep(wait::scaled(Duration::from_millis(20 + 9 * round))).await;
            ended.store(true, Ordering::Relaxed);
            hull.agent.kill();
        };
        tokio::join!(reading, churn(&hull, Arc::clone(&ended)), dying);
        hull.agent.spawn();
        hull.reconnect().await;
    }
    let left = hull.clients.containers.clone().list_containers(hull_proto::v1::ListContainersRequest::default()).await;
    for container in left.expect("ListContainers").into_inner().containers {
        hull.remove(&container.id).await;
    }
    let request = StreamEventsRequest { after_sequence: Some(position), ..StreamEventsRequest::default() };
    let (rest, _) = all(&hull, request).await;
    events.extend(rest);
    let numbers: Vec<u64> = events.iter().map(|event| event.sequence).collect();
    let first = numbers[0];
    assert_eq!(numbers, (first..first + numbers.len() as u64).collect::<Vec<_>>(), "no gap and none twice");
    let mut lives: BTreeMap<String, Vec<EventType>> = BTreeMap::new();
    for event in &events {
        if let Some(Subject::Container(container)) = &event.subject {
            let life = lives.entry(container.id.clone()).or_default();
            life.push(event.r#type());
            if let Some(exit) = container.exit.as_ref().filter(|_| life.contains(&EventType::ContainerStarted)) {
                assert_eq!(exit.code, 3, "{container:?}");
            }
        }
    }
    assert!(lives.len() > 20, "{} containers", lives.len());
    let (created, removed) = (EventType::ContainerCreated, EventType::ContainerRemoved);
    for (id, life) in lives {
        let (started, exited) = (EventType::ContainerStarted, EventType::ContainerExited);
        let whole = [vec![created, started, exited, removed], vec![created, removed], vec![created, exited, removed]];
        assert!(whole.contains(&life), "{id}: {life:?}");
    }
    assert_eq!(events.iter().filter(|event| event.r#type() == EventType::AgentStarted).count(), 21);
}
