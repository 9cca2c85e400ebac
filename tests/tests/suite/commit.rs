//! What a container changed is told, and kept as an image that is what the container was.

use std::path::Path;
use std::time::Duration;

use hull_proto::v1::{
    ChangeKind, CommitContainerRequest, CommitContainerResponse, ContainerConfig, ContainerState, DiffContainerRequest,
    Image, ImageConfig, ImportStart, Mount, MountType, Namespaces, PauseContainerRequest, ResumeContainerRequest,
    StopContainerRequest, UserNamespaceMode,
};
use hull_tests::harness::host::{inside, tool};
use hull_tests::harness::image::import;
use hull_tests::harness::{Rootfs, Session, assert_error, bulk, error_info, oci, wait};
use tonic::{Code, Status};

/// A line of shell that makes bytes that take the agent a while to keep, whatever the machine: random, so that no compression helps.
fn ballast() -> String {
    format!("dd if=/dev/urandom of=/b-ballast bs=1M count={} 2>/dev/null", bulk(96))
}

async fn diff(hull: &Session, container: &str) -> Result<Vec<String>, Status> {
    let request = DiffContainerRequest { container: container.into() };
    wait::within("DiffContainer", async {
        let mut answers = hull.clients.containers.clone().diff_container(request).await?.into_inner();
        let mut lines = Vec::new();
        while let Some(answer) = answers.message().await? {
            assert!(!answer.changes.is_empty(), "an answer without a change");
            lines.extend(answer.changes.iter().map(|change| {
                let letter = match change.kind() {
                    ChangeKind::Added => 'A',
                    ChangeKind::Modified => 'M',
                    ChangeKind::Deleted => 'D',
                    ChangeKind::Unspecified => panic!("a change of no kind"),
                };
                format!("{letter} {}", change.path)
            }));
        }
        Ok(lines)
    })
    .await
}

async fn try_commit(hull: &Session, request: CommitContainerRequest) -> Result<Image, Status> {
    let time = wait::scaled(Duration::from_secs(60));
    let answer = tokio::time::timeout(time, hull.clients.images.clone().commit_container(request)).await;
    let CommitContainerResponse { image } = answer.expect("CommitContainer takes too long")?.into_inner();
    Ok(image.expect("an image"))
}

fn request(container: &str, name: &str) -> CommitContainerRequest {
    CommitContainerRequest { container: container.into(), name: name.into(), ..CommitContainerRequest::default() }
}

async fn commit(hull: &Session, container: &str, name: &str) -> Image {
    try_commit(hull, request(container, name)).await.expect("CommitContainer")
}

/// A tag of this session's own.
fn tag(hull: &Session, name: &str) -> String {
    format!("test/{}:1", hull.name(name))
}

/// What a shell in a container of the image writes.
async fn lines(hull: &Session, image: &str, line: &str) -> Vec<String> {
    let output = hull.output(ContainerConfig { image: image.into(), ..hull.shell(line) }).await;
    assert_eq!((output.exit.code, String::from_utf8_lossy(&output.stderr).trim()), (0, ""), "{line}");
    let lines = output.lines();
    hull.remove(&output.id).await;
    lines
}

async fn ready(hull: &Session, config: ContainerConfig) -> (String, i32) {
    let id = hull.run(config).await;
    hull.until_logged(&id, "ready").await;
    let pid = hull.get(&id).await.pid;
    (id, pid)
}

#[tokio::test]
async fn changes_of_every_kind_are_told() {
    let hull = Session::shared().await;
    let image = hull
        .image(
            "changes",
            Rootfs::base()
                .dir("old", 0o755)
                .file("old/a", 0o644, "a")
                .file("old/b", 0o644, "b")
                .dir("again", 0o755)
                .file("again/gone", 0o644, ""),
        )
        .await;
    let script = "echo new > /new; mkdir -p /dir/sub; touch /dir/sub/file; echo more >> /old/a; rm /old/b; \
                  rm -r /again; mkdir /again; touch /again/new; chmod 700 /home; ln -s /nowhere /etc/link; echo ready; exec sleep 1000";
    let never = hull.create(ContainerConfig { image: image.clone(), ..hull.shell("true") }).await;
    assert_eq!(diff(&hull, &never).await.expect("DiffContainer"), Vec::<String>::new());
    let config = ContainerConfig { image, ..hull.shell(script) };
    let (id, _) = ready(&hull, config).await;
    let expected = [
        "M /again",
        "D /again/gone",
        "A /again/new",
        "A /dir",
        "A /dir/sub",
        "A /dir/sub/file",
        "M /etc",
        "A /etc/link",
        "M /home",
        "A /new",
        "M /old",
        "M /old/a",
        "D /old/b",
    ];
    assert_eq!(diff(&hull, &id).await.expect("DiffContainer"), expected);
    hull.kill(&id, "KILL").await;
    hull.wait(&id).await;
    assert_eq!(diff(&hull, &id[..12]).await.expect("DiffContainer"), expected, "the same when it has ended");
    hull.remove(&id).await;
    assert_error(diff(&hull, &id).await, Code::NotFound, "CONTAINER_NOT_FOUND", &id[..12]);
}

#[tokio::test]
async fn what_hull_makes_for_mounts_is_no_change() {
    let hull = Session::shared().await;
    let image = hull.image("bare", Rootfs::empty().dir("bin", 0o755).programs()).await;
    let work = hull.agent.scratch("mounted");
    let mount = |target: &str| Mount {
        source: work.display().to_string(),
        target: target.into(),
        r#type: MountType::Bind.into(),
        ..Mount::default()
    };
    let config = ContainerConfig { image, mounts: vec![mount("/data/deep")], ..hull.probe(&["exit", "0"]) };
    let output = hull.output(config).await;
    assert_eq!(diff(&hull, &output.id).await.expect("DiffContainer"), Vec::<String>::new());
    let committed = commit(&hull, &output.id, &tag(&hull, "bare-again")).await;
    assert_eq!(lines(&hull, &committed.digest, "ls /").await.join(" "), "bin dev etc probe proc sys");
}

#[tokio::test]
async fn a_long_list_of_changes_comes_whole_and_may_be_left_early() {
    let hull = Session::shared().await;
    let script = "mkdir /many && cd /many && seq -w 1 3000 | while read n; do : > a-name-of-some-length-$n; done; echo ready; exec sleep 1000";
    let (id, _) = ready(&hull, hull.shell(script)).await;
    let all = diff(&hull, &id).await.expect("DiffContainer");
    assert_eq!(
        (all.len(), all[0].as_str(), all[3000].as_str()),
        (3001, "A /many", "A /many/a-name-of-some-length-3000")
    );
    for _ in 0..20 {
        let request = DiffContainerRequest { container: id.clone() };
        let mut answers =
            hull.clients.containers.clone().diff_container(request).await.expect("DiffContainer").into_inner();
        assert!(answers.message().await.expect("an answer").is_some());
    }
    // What nobody reads any more ends, and lets go of the layers that it had mounted.
    hull.kill(&id, "KILL").await;
    hull.wait(&id).await;
    hull.remove(&id).await;
}

/// What the tests below look for.
const FACTS: &str = "cat /new; stat -c '%n %a %u %g' /new /set /dir /sticky; readlink /link; ls /etc/group /old 2>&1 | cat; \
                     ls -A /opaque; stat -c %h /one; [ /one -ef /two ] && echo same; stat -c %Y /one";

/// Changes that are all seen again by [`FACTS`].
const CHANGES: &str = "echo data > /new; chmod 640 /new; chown 1000:2000 /new; cp /bin/busybox /set; chmod 4755 /set; \
     mkdir /dir /sticky; chmod 711 /dir; chmod 1777 /sticky; ln -s new /link; rm /etc/group; rm -r /old /opaque; mkdir /opaque; \
     touch /opaque/fresh; echo 1 > /one; ln /one /two; touch -d @1234567890 /one; cp /bin/busybox /cap; echo ready; exec sleep 1000";

fn seen() -> Vec<String> {
    let text = "data|/new 640 1000 2000|/set 4755 0 0|/dir 711 0 0|/sticky 1777 0 0|new|ls: /etc/group: No such file or directory|\
                ls: /old: No such file or directory|fresh|2|same|1234567890";
    text.split('|').map(str::to_owned).collect()
}

async fn changed(hull: &Session) -> String {
    let rootfs = Rootfs::base().dir("old", 0o755).file("old/x", 0o644, "").dir("opaque", 0o755);
    hull.image("before", rootfs.file("opaque/hidden", 0o644, "")).await
}

#[tokio::test]
async fn a_committed_image_is_what_the_container_was() {
    let hull = Session::shared().await;
    let config = ContainerConfig { image: changed(&hull).await, ..hull.shell(CHANGES) };
    let (id, pid) = ready(&hull, config).await;
    tool("setcap", &["cap_net_raw+ep", &inside(pid, "/cap").display().to_string()]);
    // Not `user.`: tmpfs, where the writable layer may be, has had that since Linux 6.6 only.
    tool("setfattr", &["-n", "trusted.note", "-v", "0x0a00ff", &inside(pid, "/new").display().to_string()]);
    let name = tag(&hull, "after");
    let image = commit(&hull, &id, &name).await;
    assert_eq!(image.names, [format!("docker.io/{name}")]);
    assert_eq!((image.layers.len(), image.os.as_str()), (2, "linux"));
    assert!(image.created_at.is_some());
    assert_eq!(hull.state(&id).await, ContainerState::Running);
    hull.remove(&id).await;
    assert_eq!(lines(&hull, &name, FACTS).await, seen());
    let copy = hull.run(ContainerConfig { image: name.clone(), ..hull.probe(&["sleep"]) }).await;
    let pid = hull.get(&copy).await.pid;
    assert!(tool("getcap", &[&inside(pid, "/cap").display().to_string()]).contains("cap_net_raw=ep"));
    let note = tool(
        "getfattr",
        &["--absolute-names", "-e", "hex", "-n", "trusted.note", &inside(pid, "/new").display().to_string()],
    );
    assert!(note.contains("trusted.note=0x0a00ff"), "{note}");
    // In a user namespace the same image is the same.
    let config = ContainerConfig { image: name, namespaces: mapped(), ..hull.shell(FACTS) };
    assert_eq!(hull.output(config).await.lines(), seen());
}

/// A user namespace of its own.
fn mapped() -> Option<Namespaces> {
    Some(Namespaces { user: UserNamespaceMode::Auto.into(), ..Namespaces::default() })
}

#[tokio::test]
async fn ids_of_a_user_namespace_do_not_get_into_the_image() {
    let hull = Session::shared().await;
    let config = ContainerConfig { image: changed(&hull).await, namespaces: mapped(), ..hull.shell(CHANGES) };
    let (id, pid) = ready(&hull, config).await;
    let base = hull.get(&id).await.userns_base;
    assert!(base > 0);
    tool("setcap", &["-n", &base.to_string(), "cap_net_raw+ep", &inside(pid, "/cap").display().to_string()]);
    assert_eq!(
        diff(&hull, &id).await.expect("DiffContainer").len(),
        14,
        "directories of the image are not all changed"
    );
    let name = tag(&hull, "mapped");
    commit(&hull, &id, &name).await;
    assert_eq!(lines(&hull, &name, FACTS).await, seen());
    let copy = hull.run(ContainerConfig { image: name, ..hull.probe(&["sleep"]) }).await;
    let capable = tool("getcap", &["-n", &inside(hull.get(&copy).await.pid, "/cap").display().to_string()]);
    assert!(capable.contains("cap_net_raw=ep") && !capable.contains("rootid"), "{capable}");
}

#[tokio::test]
async fn the_configuration_is_the_image_s_with_what_was_asked_for() {
    let hull = Session::shared().await;
    let output = hull.output(hull.shell("echo x > /file")).await;
    let changes = ImageConfig {
        cmd: vec!["/probe".into(), "exit".into(), "12".into()],
        env: vec!["FROM_IMAGE=changed".into(), "MORE=1".into()],
        labels: [("k".to_owned(), "v".to_owned())].into(),
        working_dir: "/tmp".into(),
        ..ImageConfig::default()
    };
    let name = tag(&hull, "configured");
    let asked = CommitContainerRequest {
        author: "somebody".into(),
        comment: "a step".into(),
        config: Some(changes.clone()),
        ..request(&output.id, &name)
    };
    let image = try_commit(&hull, asked).await.expect("CommitContainer");
    let config = image.config.expect("a config");
    assert_eq!((config.cmd, config.working_dir, config.labels), (changes.cmd, changes.working_dir, changes.labels));
    assert_eq!(config.env.len(), 3, "{:?}", config.env);
    assert!(config.env.contains(&"FROM_IMAGE=changed".to_owned()) && config.env.contains(&"MORE=1".to_owned()));
    let run = hull.output(ContainerConfig { image: name, args: Vec::new(), ..hull.probe(&[]) }).await;
    assert_eq!(run.exit.code, 12);
    let history = document(&hull, &image.digest)["history"].clone();
    assert_eq!(history.as_array().map(Vec::len), Some(2), "one step for each layer: {history}");
    assert_eq!((&history[1]["author"], &history[1]["comment"]), (&"somebody".into(), &"a step".into()));
    assert_eq!(history[1]["created_by"], "/bin/sh -c echo x > /file");
    for (wrong, field) in [("Not:A:Name", "name"), ("test/x@sha256:00", "name")] {
        let refused = try_commit(&hull, request(&output.id, wrong)).await.expect_err(wrong);
        assert_eq!(
            (refused.code(), error_info(&refused).reason.as_str()),
            (Code::InvalidArgument, "INVALID_ARGUMENT"),
            "{field}"
        );
    }
    assert_error(try_commit(&hull, request("nobody", "")).await, Code::NotFound, "CONTAINER_NOT_FOUND", "nobody");
}

/// The config of an image, from the content store.
fn document(hull: &Session, digest: &str) -> serde_json::Value {
    let blob = |digest: &str| -> serde_json::Value {
        let hex = digest.strip_prefix("sha256:").expect("a digest");
        let path = hull.agent.data_dir().join("images/content/blobs/sha256").join(hex);
        serde_json::from_slice(&std::fs::read(path).expect("a blob")).expect("JSON")
    };
    blob(blob(digest)["config"]["digest"].as_str().expect("a digest"))
}

#[tokio::test]
async fn other_tools_read_what_was_committed() {
    let hull = Session::own().await;
    let work = hull.agent.scratch("work");
    let (id, _) = ready(&hull, ContainerConfig { image: changed(&hull).await, ..hull.shell(CHANGES) }).await;
    let name = tag(&hull, "shared");
    commit(&hull, &id, &name).await;
    let content = hull.agent.data_dir().join("images/content").display().to_string();
    let layout = work.join("layout").display().to_string();
    let source = format!("oci:{content}:docker.io/{name}");
    tool("skopeo", &["copy", "-q", "--insecure-policy", &source, &format!("oci:{layout}:it")]);
    let bundle = work.join("bundle").display().to_string();
    tool("umoci", &["unpack", "--image", &format!("{layout}:it"), &bundle]);
    let root = Path::new(&bundle).join("rootfs");
    assert_eq!(std::fs::read_to_string(root.join("new")).expect("new"), "data\n");
    assert_eq!(tool("stat", &["-c", "%a %u %g", &root.join("new").display().to_string()]).trim(), "640 1000 2000");
    for gone in ["etc/group", "old", "opaque/hidden"] {
        assert!(root.join(gone).symlink_metadata().is_err(), "{gone}");
    }
    assert!(root.join("opaque/fresh").exists());
}

#[tokio::test]
async fn a_container_without_changes_makes_an_empty_layer() {
    let hull = Session::shared().await;
    let never = hull.create(hull.probe(&["exit", "0"])).await;
    let first = commit(&hull, &never, "").await;
    assert_eq!((first.names.len(), first.layers.len()), (0, 2));
    let on_top = hull.output(ContainerConfig { image: first.digest, ..hull.probe(&["exit", "3"]) }).await;
    assert_eq!(on_top.exit.code, 3);
    let second = commit(&hull, &on_top.id, "").await;
    assert_eq!(second.layers.len(), 3);
}

/// Writes the same number to /a and then to /z, for ever, with ballast between them in a layer's order.
fn counting() -> String {
    format!(
        "{}; n=0; echo 0 > /a; echo 0 > /z; echo ready; while :; do n=$((n+1)); echo $n > /a.new; mv /a.new /a; \
             echo $n > /z.new; mv /z.new /z; done",
        ballast()
    )
}

#[tokio::test]
async fn a_running_container_stands_still_and_runs_on() {
    let hull = Session::shared().await;
    let (id, pid) = ready(&hull, hull.shell(&counting())).await;
    let number =
        |path: &str| std::fs::read_to_string(inside(pid, path)).ok().and_then(|text| text.trim().parse::<u64>().ok());
    let name = tag(&hull, "still");
    commit(&hull, &id, &name).await;
    assert_eq!(hull.state(&id).await, ContainerState::Running);
    let after = number("/a").expect("a number");
    wait::until("the container counts on", || number("/a").filter(|now| *now > after));
    let kept = lines(&hull, &name, "cat /a /z").await;
    let kept: Vec<u64> = kept.iter().map(|line| line.parse().expect("a number")).collect();
    assert!(kept[0] == kept[1] || kept[0] == kept[1] + 1, "two moments in one image: {kept:?}");
    // And with it running on, the image is of many moments.
    let running = CommitContainerRequest { without_pause: true, ..request(&id, &name) };
    try_commit(&hull, running).await.expect("CommitContainer");
    let kept: Vec<u64> =
        lines(&hull, &name, "cat /a /z").await.iter().map(|line| line.parse().expect("a number")).collect();
    assert!(kept[1] > kept[0] + 1, "it did not run on: {kept:?}");
}

#[tokio::test]
async fn a_paused_container_stays_paused() {
    let hull = Session::shared().await;
    let (id, _) = ready(&hull, hull.shell("echo x > /file; echo ready; exec sleep 1000")).await;
    let pause = PauseContainerRequest { container: id.clone() };
    hull.clients.containers.clone().pause_container(pause.clone()).await.expect("PauseContainer");
    commit(&hull, &id, "").await;
    assert_eq!(hull.state(&id).await, ContainerState::Paused);
    hull.clients
        .containers
        .clone()
        .resume_container(ResumeContainerRequest { container: id.clone() })
        .await
        .expect("Resume");
    // One that its user pauses while it stands still stays so, too.
    let (id, _) = ready(&hull, hull.shell(&format!("{}; echo ready; exec sleep 1000", ballast()))).await;
    let committing = hull.clients.images.clone();
    let (image, ()) = tokio::join!(async { committing.clone().commit_container(request(&id, "")).await }, async {
        hull.until_state(&id, ContainerState::Paused).await;
        let pause = PauseContainerRequest { container: id.clone() };
        hull.clients.containers.clone().pause_container(pause).await.expect("PauseContainer");
    });
    image.expect("CommitContainer");
    assert_eq!(hull.state(&id).await, ContainerState::Paused);
}

#[tokio::test]
async fn a_commit_that_is_cancelled_leaves_the_container_running_and_nothing_else() {
    let hull = Session::own().await;
    let (id, _) = ready(&hull, hull.shell(&format!("{}; echo ready; exec sleep 1000", ballast()))).await;
    tokio::select! {
        result = try_commit(&hull, request(&id, &tag(&hull, "never"))) => panic!("it ended before it was cancelled: {result:?}"),
        () = hull.until_state(&id, ContainerState::Paused) => {}
    }
    hull.until_state(&id, ContainerState::Running).await;
    let scratch = hull.agent.data_dir().join("images/tmp");
    wait::until("nothing is left of the commit", || {
        (std::fs::read_dir(&scratch).expect("images/tmp").count() == 0).then_some(())
    });
    hull.exec(&id, &["/bin/true"]).await;
}

#[tokio::test]
async fn whoever_stops_resumes_or_removes_a_container_does_not_wait_for_its_commit() {
    let hull = Session::own().await;
    let config = || {
        hull.shell(&format!(
            "{}; busybox sha256sum /b-ballast > /sum; trap 'exit 0' TERM; echo ready; while :; do sleep 0.1; done",
            ballast()
        ))
    };
    let (stopped, _) = ready(&hull, config()).await;
    let (image, ()) = tokio::join!(try_commit(&hull, request(&stopped, "")), async {
        hull.until_state(&stopped, ContainerState::Paused).await;
        let stop = StopContainerRequest { container: stopped.clone(), grace_period: None };
        hull.clients.containers.clone().stop_container(stop).await.expect("StopContainer");
    });
    assert_error(image, Code::FailedPrecondition, "INVALID_STATE", "ran on");
    assert_eq!(hull.state(&stopped).await, ContainerState::Exited);
    commit(&hull, &stopped, "").await;

    let (resumed, _) = ready(&hull, config()).await;
    let (image, ()) = tokio::join!(try_commit(&hull, request(&resumed, "")), async {
        hull.until_state(&resumed, ContainerState::Paused).await;
        let resume = ResumeContainerRequest { container: resumed.clone() };
        hull.clients.containers.clone().resume_container(resume).await.expect("ResumeContainer");
    });
    assert_error(image, Code::FailedPrecondition, "INVALID_STATE", "ran on");

    let (removed, _) = ready(&hull, config()).await;
    let name = tag(&hull, "removed");
    let (image, ()) = tokio::join!(try_commit(&hull, request(&removed, &name)), async {
        hull.until_state(&removed, ContainerState::Paused).await;
        hull.try_remove(&removed, true).await.expect("RemoveContainer");
    });
    image.expect("what was removed is committed whole");
    let same = lines(&hull, &name, "busybox sha256sum /b-ballast; cat /sum").await;
    assert_eq!(same[0], same[1]);
}

#[tokio::test]
async fn an_agent_that_dies_while_it_commits_leaves_no_container_frozen() {
    let mut hull = Session::own().await;
    let (id, _) = ready(&hull, hull.shell(&format!("{}; echo ready; exec sleep 1000", ballast()))).await;
    let committing = hull.clients.images.clone();
    let lost = request(&id, "");
    let commit = tokio::spawn(async move { committing.clone().commit_container(lost).await });
    hull.until_state(&id, ContainerState::Paused).await;
    hull.agent.kill();
    assert!(commit.await.expect("joining").is_err());
    hull.agent.spawn();
    hull.reconnect().await;
    hull.until_state(&id, ContainerState::Running).await;
    hull.exec(&id, &["/bin/true"]).await;
}

#[tokio::test]
async fn several_commits_of_one_container_share_its_standstill() {
    let hull = Session::shared().await;
    let (id, _) = ready(&hull, hull.shell(&format!("{}; echo ready; exec sleep 1000", ballast()))).await;
    let tags: Vec<String> = (0..3).map(|n| tag(&hull, &format!("side-{n}"))).collect();
    let commits = tags.iter().map(|tag| try_commit(&hull, request(&id, tag)));
    let images = futures_util::future::join_all(commits).await;
    let layers: Vec<_> =
        images.into_iter().map(|image| image.expect("CommitContainer").layers[1].diff_id.clone()).collect();
    assert!(layers.iter().all(|layer| *layer == layers[0]), "one container, one layer: {layers:?}");
    assert_eq!(hull.state(&id).await, ContainerState::Running);
}

#[tokio::test]
async fn an_image_has_as_many_layers_as_can_be_mounted_and_no_more() {
    let hull = Session::shared().await;
    let small = |n: usize| Rootfs::empty().file(&format!("n{n}"), 0o644, n.to_string()).tar();
    let layers: Vec<_> = std::iter::once(Rootfs::base().tar()).chain((1..109).map(small)).collect();
    let name = tag(&hull, "many");
    let archive = oci::archive(&layers, &hull.agent.scratch("many"));
    let start = ImportStart { tags: vec![name.clone()], ..ImportStart::default() };
    import(&hull.clients, start, archive).await.expect("ImportImage");
    let output = hull.output(ContainerConfig { image: name, ..hull.shell("echo last > /last") }).await;
    let full = commit(&hull, &output.id, "").await;
    assert_eq!(full.layers.len(), 110);
    let output = hull.output(ContainerConfig { image: full.digest, ..hull.shell("cat /last /n1 /n108") }).await;
    assert_eq!(output.lines(), ["last", "1108"]);
    assert_error(
        try_commit(&hull, request(&output.id, "")).await,
        Code::ResourceExhausted,
        "LIMIT_EXCEEDED",
        "110 layers",
    );
}

#[tokio::test]
async fn a_name_that_would_hide_another_is_refused() {
    let hull = Session::shared().await;
    let output = hull.output(hull.shell("mkdir /d; touch /d/.wh.passwd")).await;
    assert_error(
        try_commit(&hull, request(&output.id, "")).await,
        Code::FailedPrecondition,
        "UNSUPPORTED_FEATURE",
        "d/.wh.passwd",
    );
}
