//! What a person asks about a container: its processes, its name, what happened to it, where the time went.

use hull_proto::v1::event::Subject;
use hull_proto::v1::{
    ContainerConfig, EventType, Namespaces, RenameContainerRequest, Resources, StreamEventsRequest,
    TopContainerRequest, TopContainerResponse, UserNamespaceMode,
};
use hull_tests::harness::{Ctl, Session, assert_error, wait};
use tonic::{Code, Status};

async fn top(hull: &Session, container: &str) -> Result<TopContainerResponse, Status> {
    let request = TopContainerRequest { container: container.into() };
    Ok(hull.clients.containers.clone().top_container(request).await?.into_inner())
}

async fn rename(hull: &Session, container: &str, name: &str) -> Result<(), Status> {
    let request = RenameContainerRequest { container: container.into(), name: name.into() };
    hull.clients.containers.clone().rename_container(request).await.map(drop)
}

#[tokio::test]
async fn processes_are_listed_as_node_and_container_see_them() {
    let hull = Session::shared().await;
    let namespaces = Some(Namespaces { user: UserNamespaceMode::Auto.into(), ..Namespaces::default() });
    let config = ContainerConfig { namespaces, ..hull.shell("sleep 1000 & sleep 1001 & echo up; wait") };
    let id = hull.run(config).await;
    hull.until_logged(&id, "up").await;
    let found = wait::until_async("both have begun", || async {
        let found = top(&hull, &id).await.expect("TopContainer").processes;
        (found.iter().filter(|process| process.args.first().is_some_and(|arg| arg == "sleep")).count() == 2)
            .then_some(found)
    })
    .await;
    assert_eq!(found.len(), 3, "{found:?}");
    let init = found.iter().find(|process| process.container_pid == 1).expect("init");
    assert_eq!((init.pid, init.uid), (hull.get(&id).await.pid, 0));
    assert_eq!(init.args[..2], ["/bin/sh", "-c"]);
    assert!(found.iter().filter(|process| process.pid != init.pid).all(|process| process.parent_pid == init.pid));
    assert!(
        found.iter().all(|process| process.threads == 1 && process.started_at.is_some() && !process.name.is_empty())
    );
    let shown = Ctl::run(&hull.agent, &["top", &id]).ok();
    assert!(shown.lines().next().expect("a heading").starts_with("PID") && shown.contains("sleep 1001"), "{shown}");
    let json: serde_json::Value =
        serde_json::from_str(&Ctl::run(&hull.agent, &["top", "-o", "json", &id]).ok()).expect("JSON");
    let processes = json.as_array().expect("a list");
    assert_eq!(processes.len(), 3, "{json}");
    let inside = processes.iter().filter(|process| process["containerPid"] == 1).count();
    assert!(inside == 1 && processes.iter().all(|process| process["cpuTime"].is_string()), "{json}");
    hull.kill(&id, "KILL").await;
    hull.wait(&id).await;
    assert_error(top(&hull, &id).await, Code::FailedPrecondition, "INVALID_STATE", "list the processes");
}

#[tokio::test]
async fn a_name_changes_at_once_and_outlives_the_agent() {
    let mut hull = Session::own().await;
    let [id, other] = ["old", "other"].map(|name| ContainerConfig { name: name.into(), ..hull.probe(&["sleep"]) });
    let (id, other) = (hull.run(id).await, hull.create(other).await);
    rename(&hull, "old", "new").await.expect("RenameContainer");
    rename(&hull, &id, "new").await.expect("again changes nothing");
    assert_eq!(hull.get("new").await.id, id);
    assert_error(hull.try_get("old").await, Code::NotFound, "CONTAINER_NOT_FOUND", "old");
    assert_error(rename(&hull, "new", "other").await, Code::AlreadyExists, "NAME_IN_USE", "other");
    for wrong in ["", "a b", "-x", &"n".repeat(129)] {
        assert_error(rename(&hull, "new", wrong).await, Code::InvalidArgument, "INVALID_ARGUMENT", "name");
    }
    assert_eq!(hull.get(&id).await.config.expect("config").name, "new");
    Ctl::run(&hull.agent, &["rename", "other", "old"]).ok();
    hull.agent.crash_and_restart();
    hull.reconnect().await;
    assert_eq!((hull.get("new").await.id, hull.get("old").await.id), (id.clone(), other));
    // Renames tell of themselves, once each.
    let types = vec![EventType::ContainerRenamed.into()];
    let request = StreamEventsRequest { types, ..StreamEventsRequest::default() };
    let mut stream = hull.clients.events.clone().stream_events(request).await.expect("StreamEvents").into_inner();
    let mut told = Vec::new();
    while let Some(answer) = stream.message().await.expect("an answer") {
        told.extend(answer.events.into_iter().filter_map(|event| match event.subject {
            Some(Subject::Container(container)) => Some((container.old_name, container.name)),
            _ => None,
        }));
    }
    assert_eq!(told, [("old".into(), "new".into()), ("other".into(), "old".into())]);
}

#[tokio::test]
async fn why_tells_what_happened_in_words() {
    let hull = Session::shared().await;
    let resources = Some(Resources { memory_max: Some(16 << 20), ..Resources::default() });
    let name = hull.name("hungry");
    let hungry = ContainerConfig { name: name.clone(), resources, ..hull.probe(&["alloc", "64"]) };
    let id = hull.run(hungry).await;
    hull.wait(&id).await;
    let told = Ctl::run(&hull.agent, &["why", &name]).ok();
    for words in
        [&*name, "created from", "started as process", "for want of memory", "SIGKILL", "raise --memory", "16MiB"]
    {
        assert!(told.contains(words), "{words:?} is not in {told}");
    }
    let failed = hull.create(hull.command(&["/bin/nope"])).await;
    hull.try_start(&failed).await.expect_err("no such program");
    let told = Ctl::run(&hull.agent, &["why", &failed]).ok();
    assert!(told.contains("did not run: ") && told.contains("ENOENT") && told.contains("was not found"), "{told}");
    let spoke = hull.run(hull.shell("echo out of cheese; exit 3")).await;
    hull.wait(&spoke).await;
    let told = Ctl::run(&hull.agent, &["why", &spoke]).ok();
    assert!(told.contains("ended with exit code 3") && told.contains("  out of cheese"), "{told}");
    let json = Ctl::run(&hull.agent, &["why", "-o", "json", &spoke]).ok();
    let json: serde_json::Value = serde_json::from_str(&json).expect("JSON");
    let exit = &json["events"].as_array().expect("events").last().expect("an event")["exit"];
    assert_eq!((&exit["code"], &exit["oomKilled"], exit), (&3.into(), &false.into(), &json["container"]["exit"]));
    assert_eq!(json["lastLines"], serde_json::json!(["out of cheese"]));
    hull.remove(&spoke).await;
    let told = Ctl::run(&hull.agent, &["why", &spoke]).ok();
    assert!(told.contains(": removed") && told.contains("ended with exit code 3"), "{told}");
    assert_ne!(Ctl::run(&hull.agent, &["why", "nobody"]).code, 0);
}

#[tokio::test]
async fn a_start_can_be_traced_also_by_the_next_agent() {
    let mut hull = Session::own().await;
    let id = hull.run(hull.probe(&["sleep"])).await;
    let trace = |hull: &Session| Ctl::run(&hull.agent, &["trace", "-o", "json", &id]).ok();
    let before = trace(&hull);
    let json: serde_json::Value = serde_json::from_str(&before).expect("JSON");
    let steps = json["startSteps"].as_array().expect("steps");
    assert!(steps.len() > 10 && steps.iter().any(|step| step["step"] == "mounting"), "{before}");
    assert!(
        json["totalDuration"].as_str().is_some_and(|total| total.starts_with("0.") && total.ends_with('s')),
        "{before}"
    );
    // The same as `inspect` tells.
    let record: serde_json::Value =
        serde_json::from_str(&Ctl::run(&hull.agent, &["inspect", "-o", "json", &id]).ok()).expect("JSON");
    assert_eq!(record[0]["startSteps"], json["startSteps"]);
    let shown = Ctl::run(&hull.agent, &["trace", &id]).ok();
    assert!(shown.contains(" us  #"), "{shown}");
    hull.agent.crash_and_restart();
    hull.reconnect().await;
    assert_eq!(trace(&hull), before);
    let created = hull.create(hull.probe(&[])).await;
    let refused = Ctl::run(&hull.agent, &["trace", &created]);
    assert!(refused.code != 0 && refused.error().contains("not started"), "{refused:?}");
}

#[tokio::test]
async fn events_are_shown_as_docker_shows_them() {
    let hull = Session::shared().await;
    let name = hull.name("told");
    let id = hull.run(ContainerConfig { name: name.clone(), ..hull.probe(&["exit", "4"]) }).await;
    hull.wait(&id).await;
    let shown = Ctl::run(&hull.agent, &["events", "--no-follow", "--filter", &format!("container={name}")]).ok();
    let lines: Vec<&str> = shown.lines().collect();
    assert_eq!(lines.len(), 3, "{shown}");
    for (line, word) in lines.iter().zip(["create", "start", "die"]) {
        assert!(
            line.contains(&format!("Z container {word} {id} (")) && line.contains(&format!("name={name}")),
            "{line}"
        );
    }
    assert!(lines[2].contains("exitCode=4"), "{shown}");
    let json = Ctl::run(
        &hull.agent,
        &["events", "--no-follow", "-o", "json", "-f", "event=die", "-f", &format!("container={id}")],
    )
    .ok();
    let json: serde_json::Value = serde_json::from_str(&json).expect("one line of JSON");
    assert_eq!((&json["action"], &json["exit"]["code"]), (&"die".into(), &4.into()));
    let refused = Ctl::run(&hull.agent, &["events", "--filter", "label=x"]);
    assert!(refused.code != 0 && refused.error().contains("label=x"), "{refused:?}");
}
