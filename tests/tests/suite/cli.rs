//! `hullctl`: Docker's verbs, flags and exit codes; output for people and for programs; terminals; pipes.

use std::collections::BTreeSet;
use std::os::unix::process::CommandExt as _;
use std::process::Stdio;

use hull_proto::v1::ContainerState;
use hull_tests::harness::{BASE_IMAGE, Ctl, Pty, Rootfs, Session, host, wait};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use sha2::{Digest as _, Sha256};

/// Runs `hullctl run` with the session's label, so that what it makes goes with the session.
fn run(hull: &Session, words: &[&str]) -> Ctl {
    let label = hull.label();
    Ctl::run(&hull.agent, &[&["run", "--label", &label], words].concat())
}

/// Starts a container in the background; its id.
fn background(hull: &Session, words: &[&str]) -> String {
    run(hull, &[&["-d"], words].concat()).ok()
}

fn hullctl(hull: &Session, words: &[&str]) -> Ctl {
    Ctl::run(&hull.agent, words)
}

fn json(text: &str) -> serde_json::Value {
    serde_json::from_str(text).unwrap_or_else(|error| panic!("{error}: {text}"))
}

#[tokio::test]
async fn run_shows_output_and_ends_with_the_container_s_code() {
    let hull = Session::shared().await;
    let done = run(&hull, &["--rm", BASE_IMAGE, "sh", "-c", "echo out; echo err >&2; exit 3"]);
    assert_eq!(
        (done.code, done.stdout.as_slice(), done.stderr.as_slice()),
        (3, b"out\n".as_slice(), b"err\n".as_slice())
    );
    let killed = run(&hull, &["--rm", BASE_IMAGE, "sh", "-c", "/probe exit 143"]);
    assert_eq!(killed.code, 143);
}

#[tokio::test]
async fn errors_of_a_run_are_125_126_and_127_and_one_line() {
    let hull = Session::shared().await;
    let cases: [(&[&str], i32, &str); 6] = [
        (&["--rm", BASE_IMAGE, "/bin/nope"], 127, "/bin/nope"),
        (&["--rm", BASE_IMAGE, "/etc/passwd"], 126, "/etc/passwd"),
        (&["--rm", "--pull", "never", "test/no-such:1"], 125, "test/no-such:1"),
        (&["--rm", "--memory", "1", BASE_IMAGE], 125, "memory"),
        (&["--rm", "--user", "nobody-knows", BASE_IMAGE], 125, "nobody-knows"),
        (&["--nonsense", BASE_IMAGE], 125, "--nonsense"),
    ];
    for (words, code, mentions) in cases {
        let done = run(&hull, words);
        assert_eq!(done.code, code, "{words:?}: {}", done.error());
        assert!(done.error().contains(mentions), "{words:?}: {}", done.error());
        assert!(!done.error().contains('\u{1b}'), "no colour without a terminal: {:?}", done.error());
        if mentions != "--nonsense" {
            assert_eq!(done.error().lines().count(), 1, "{}", done.error());
        }
    }
    let nowhere = std::process::Command::new(Ctl::command(&hull.agent, &[]).get_program())
        .args(["-H", "unix:///nowhere/hull.sock", "ps"])
        .output()
        .expect("hullctl");
    let said = String::from_utf8_lossy(&nowhere.stderr).into_owned();
    assert!(!nowhere.status.success() && said.contains("/nowhere/hull.sock") && said.lines().count() == 1, "{said}");
    assert!(
        hullctl(&hull, &["ps", "-aq", "--filter", &format!("label={}", hull.label())]).ok().is_empty(),
        "--rm leaves nothing"
    );
}

#[tokio::test]
async fn flags_reach_the_container() {
    let hull = Session::shared().await;
    let site = hull.agent.scratch(&hull.name("site"));
    std::fs::write(site.join("index"), "hello").expect("writing");
    let volume = format!("{}:/www:ro", site.display());
    let words = [
        "--rm",
        "--hostname",
        "web",
        "-e",
        "A=b",
        "-w",
        "/var",
        "-u",
        "app",
        "--memory",
        "64m",
        "--cpus",
        "0.5",
        "--pids-limit",
        "100",
        "--read-only",
        "--tmpfs",
        "/tmp",
        "-v",
        &volume,
        "--ulimit",
        "nofile=100:200",
        "--cap-drop",
        "ALL",
        "--network",
        "none",
        "--add-host",
        "friend:10.0.0.1",
        "--dns",
        "10.0.0.2",
        BASE_IMAGE,
        "/probe",
    ];
    let done = run(&hull, &words);
    assert_eq!(done.code, 0, "{}", done.error());
    let report: hull_tests::harness::Report = serde_json::from_str(&done.text()).expect("a report");
    assert_eq!(
        (report.hostname.as_str(), report.env["A"].as_str(), report.cwd.as_str(), report.uids[0]),
        ("web", "b", "/var", 1000)
    );
    assert_eq!((report.rlimits["nofile"], report.caps.bounding), ((100, 200), 0));
    let users = run(&hull, &["--rm", "--userns", "auto", BASE_IMAGE, "/probe"]).ok();
    let users: hull_tests::harness::Report = serde_json::from_str(&users).expect("a report");
    assert_eq!(users.uid_map[0][2], 65_536);
    let mount = |point: &str| report.mounts.iter().find(|mount| mount.point == point).expect(point);
    assert!(mount("/www").options.contains(&"ro".to_owned()) && mount("/").options.contains(&"ro".to_owned()));
    assert_eq!(mount("/tmp").fstype, "tmpfs");
}

#[tokio::test]
async fn a_container_in_the_background_lives_through_all_verbs() {
    let hull = Session::shared().await;
    let name = hull.name("web");
    let id = background(&hull, &["--name", &name, BASE_IMAGE, "/probe", "sigwait"]);
    assert_eq!(id.len(), 64);
    hull.until_logged(&id, "ready").await;
    let table = hullctl(&hull, &["ps"]).ok();
    let line = table.lines().find(|line| line.contains(&name)).expect("a line");
    assert!(line.contains(&id[..12]) && table.lines().next().is_some_and(|head| head.contains("IMAGE")), "{table}");
    assert!(hullctl(&hull, &["ps", "-q", "--no-trunc"]).ok().lines().any(|line| line == id));

    assert_eq!(hullctl(&hull, &["kill", "-s", "HUP", &id[..6]]).code, 0);
    hull.until_logged(&id, "signal 1").await;
    assert_eq!(hullctl(&hull, &["logs", &name]).ok(), "ready\nsignal 1");
    assert_eq!(hullctl(&hull, &["pause", &name]).code, 0);
    assert_eq!(hull.state(&id).await, ContainerState::Paused);
    assert_eq!(hullctl(&hull, &["unpause", &name]).code, 0);
    assert_eq!(hullctl(&hull, &["update", "--memory", "128m", &name]).code, 0);
    assert_eq!(hull.get(&id).await.config.expect("config").resources.expect("resources").memory_max, Some(128 << 20));
    let executed = hullctl(&hull, &["exec", &name, "/bin/sh", "-c", "exit 9"]);
    assert_eq!(executed.code, 9, "{}", executed.error());
    assert_eq!(hullctl(&hull, &["stop", "-t", "5", &name]).ok(), name);
    assert_eq!(hullctl(&hull, &["wait", &name]).ok(), "7");
    let inspected = json(&hullctl(&hull, &["inspect", &name]).ok());
    let one = inspected.as_array().map_or(&inspected, |all| &all[0]);
    assert_eq!((one["name"].as_str(), one["state"].as_str()), (Some(name.as_str()), Some("CONTAINER_STATE_EXITED")));
    assert_eq!(one["exit"]["code"], 7);
    assert_eq!(hullctl(&hull, &["start", &name]).ok(), name);
    assert_ne!(hullctl(&hull, &["rm", &name]).code, 0);
    assert_eq!(hullctl(&hull, &["rm", "-f", &name]).ok(), name);
    let missing = hullctl(&hull, &["inspect", "never-was"]);
    assert!(missing.code == 1 && missing.error().contains("never-was"), "{}", missing.error());
}

#[tokio::test]
async fn lists_come_as_table_json_and_yaml_and_are_filtered() {
    let hull = Session::shared().await;
    let id = background(&hull, &["--label", "role=db", BASE_IMAGE, "/probe", "sleep"]);
    let filter = format!("label={}", hull.label());
    let all = json(&hullctl(&hull, &["ps", "-o", "json", "--filter", &filter]).ok());
    assert_eq!(all.as_array().map(Vec::len), Some(1));
    assert_eq!(all[0]["id"], id.as_str());
    let yaml = hullctl(&hull, &["ps", "-o", "yaml", "--filter", &filter]).ok();
    assert!(yaml.contains(&id), "{yaml}");
    for (filter, count) in [
        ("label=role=db", 1),
        ("label=role=web", 0),
        ("status=exited", 0),
        ("status=running", 1),
        ("name=nothing-so-named", 0),
    ] {
        let label = format!("label={}", hull.label());
        let found = hullctl(&hull, &["ps", "-aq", "--filter", &label, "--filter", filter]).ok();
        assert_eq!(found.lines().count(), count, "{filter}: {found}");
    }
    let wrong = hullctl(&hull, &["ps", "--filter", "nonsense=1"]);
    assert!(wrong.code != 0 && wrong.error().contains("nonsense"), "{}", wrong.error());
    assert!(json(&hullctl(&hull, &["info", "-o", "json"]).ok())["apiVersion"] == "hull.v1");
    assert!(hullctl(&hull, &["version"]).ok().contains(env!("CARGO_PKG_VERSION")));
    let stats = hullctl(&hull, &["stats", "--no-stream", &id]).ok();
    assert!(stats.contains(&id[..12]) && stats.contains("NET I/O"), "{stats}");
    let wide = hullctl(&hull, &["stats", "--no-stream", "-o", "wide", &id]).ok();
    assert!(wide.contains("CPU STALL") && wide.lines().count() == 2, "{wide}");
    let data = json(&hullctl(&hull, &["stats", "--no-stream", "-o", "json", &id]).ok());
    assert_eq!(data["stats"][0]["network"]["interfaces"][0]["name"], "lo", "{data}");
    let tells = std::fs::metadata("/proc/self/fd").expect("descriptors").len() > 0;
    assert_eq!(data["stats"][0]["openFiles"].as_u64().is_some(), tells, "{data}");
    stats_by_docker_s_names(&hull, &id).await;
    let node = hullctl(&hull, &["stats", "--no-stream", "--node"]).ok();
    assert!(node.contains("MEM USED / TOTAL") && node.lines().count() == 2, "{node}");
}

/// Every placeholder of `docker stats --format`, beside what `-o json` tells.
async fn stats_by_docker_s_names(hull: &Session, id: &str) {
    let name = hull.get(id).await.name;
    let data = json(&hullctl(hull, &["stats", "--no-stream", "-o", "json", id]).ok());
    let stats = &data["stats"][0];
    let fields = ["Container", "ID", "Name", "PIDs", "CPUPerc", "MemPerc", "MemUsage", "NetIO", "BlockIO"];
    let template = fields.map(|field| format!("{{{{.{field}}}}}")).join("|");
    let line = hullctl(hull, &["stats", "--no-stream", "--format", &template, id]).ok();
    let found: Vec<&str> = line.trim_end().split('|').collect();
    let pids = stats["pids"]["current"].to_string();
    assert_eq!(found[..4], [&id[..12], &id[..12], &name, &pids], "{line}");
    assert!(found[4].ends_with('%') && found[6].ends_with(" / none") && found[5] == "--", "{line}");
    assert!(found[6].contains("iB / ") && found[7].contains("B / ") && found[8].contains("B / "), "{line}");
    assert_eq!(stats["memory"].get("limit"), None, "{data}");
    let object = json(&hullctl(hull, &["stats", "--no-stream", "--format", "{{json .}}", id]).ok());
    let names: BTreeSet<&str> = object.as_object().expect("an object").keys().map(String::as_str).collect();
    assert_eq!(names, BTreeSet::from(fields), "{object}");
    let table = hullctl(hull, &["stats", "--no-stream", "--format", "table {{.Name}}\t{{.PIDs}}", id]).ok();
    assert!(table.starts_with("NAME") && table.lines().count() == 2, "{table}");
}

#[tokio::test]
async fn images_are_imported_listed_and_removed() {
    let hull = Session::own().await;
    let work = hull.agent.scratch("work");
    let archive = work.join("rootfs.tar");
    Rootfs::base().file("marker", 0o644, "marked").write(&archive);
    let path = archive.display().to_string();
    let compress = std::process::Command::new("zstd").args(["-q", &path]).status().expect("zstd");
    assert!(compress.success());
    let done = hullctl(&hull, &["image", "import", &format!("{path}.zst"), "--tag", "demo/busybox:1"]);
    assert_eq!(done.code, 0, "{}", done.error());
    assert_eq!(run(&hull, &["--rm", "demo/busybox:1", "cat", "/marker"]).ok(), "marked");
    let piped = Ctl::run_with(
        &hull.agent,
        &["image", "import", "-", "--tag", "demo/piped:1"],
        &std::fs::read(&archive).expect("reading"),
    );
    assert_eq!(piped.code, 0, "{}", piped.error());
    let list = hullctl(&hull, &["images"]).ok();
    assert!(list.contains("demo/busybox") && list.contains("demo/piped"), "{list}");
    // A directory with an OCI layout.
    let layout = hull.agent.scratch("layout");
    hull_tests::harness::oci::archive(&[Rootfs::base().tar()], &layout);
    let from_layout = hullctl(&hull, &["image", "import", &layout.display().to_string(), "--tag", "demo/layout:1"]);
    assert_eq!(from_layout.code, 0, "{}", from_layout.error());
    assert_eq!(run(&hull, &["--rm", "demo/layout:1", "/probe", "exit", "2"]).code, 2);
    assert_eq!(hullctl(&hull, &["rmi", "demo/piped:1"]).code, 0);
    assert!(hullctl(&hull, &["rmi", "demo/piped:1"]).code != 0);
    let damaged = Ctl::run_with(&hull.agent, &["image", "import", "-", "--tag", "x:1"], b"no archive");
    assert!(damaged.code == 1 && damaged.error().lines().count() == 1, "{}", damaged.error());
}

#[tokio::test]
async fn a_pipe_through_a_container_is_byte_exact() {
    let hull = Session::shared().await;
    let data: Vec<u8> = (0..8_u32 << 20).map(|at| (at.wrapping_mul(2_654_435_761) >> 11).to_le_bytes()[0]).collect();
    let digest = hex::encode(Sha256::digest(&data));
    let label = hull.label();
    let through =
        Ctl::run_with(&hull.agent, &["run", "-i", "--rm", "--label", &label, BASE_IMAGE, "/probe", "cat"], &data);
    assert_eq!(through.code, 0, "{}", through.error());
    assert_eq!(hex::encode(Sha256::digest(&through.stdout)), digest);
    let id = background(&hull, &[BASE_IMAGE, "/probe", "sleep"]);
    let through = Ctl::run_with(&hull.agent, &["exec", "-i", &id, "/probe", "cat"], &data);
    assert_eq!(hex::encode(Sha256::digest(&through.stdout)), digest);
    assert_eq!(through.error(), format!("{} {digest}", data.len()));
}

#[tokio::test]
async fn a_broken_pipe_is_no_error() {
    let hull = Session::shared().await;
    let id = background(&hull, &[BASE_IMAGE, "/probe", "lines", "50000"]);
    hull.wait(&id).await;
    let program = Ctl::command(&hull.agent, &[]);
    let line = format!(
        "{} -H {} logs {id} | head -n 1; echo ${{PIPESTATUS[0]}}",
        program.get_program().display(),
        hull.agent.endpoint()
    );
    let done = std::process::Command::new("bash").args(["-c", &line]).output().expect("bash");
    assert_eq!(String::from_utf8_lossy(&done.stdout), "line 0\n0\n");
    assert_eq!(String::from_utf8_lossy(&done.stderr), "");
}

#[tokio::test]
async fn signals_are_passed_on() {
    let hull = Session::shared().await;
    let name = hull.name("signalled");
    let label = hull.label();
    let mut command = Ctl::command(
        &hull.agent,
        &["run", "--rm", "--name", &name, "--label", &label, BASE_IMAGE, "/probe", "sigwait"],
    );
    let mut child = command.process_group(0).stdout(Stdio::piped()).stderr(Stdio::null()).spawn().expect("hullctl");
    let pid = Pid::from_raw(i32::try_from(child.id()).expect("pid"));
    wait::until_async("it is there", || async { hull.try_get(&name).await.ok() }).await;
    hull.until_logged(&name, "ready").await;
    kill(pid, Signal::SIGHUP).expect("kill");
    hull.until_logged(&name, "signal 1").await;
    kill(pid, Signal::SIGTERM).expect("kill");
    let status = wait::until("it ends", || child.try_wait().expect("wait"));
    assert_eq!(status.code(), Some(7));
}

#[tokio::test]
async fn a_terminal_is_raw_resized_and_given_back() {
    let hull = Session::shared().await;
    let label = hull.label();
    let mut pty =
        Pty::start(&hull.agent, &["run", "-it", "--rm", "--label", &label, BASE_IMAGE, "/probe", "tty-watch"], 31, 101);
    pty.until("size 31 101");
    pty.resize(41, 111);
    pty.until("size 41 111");
    pty.write("\u{3}");
    // Seen first, for the terminal throws away what is on its way out when it comes.
    pty.until("^C");
    // Control-C goes to the container's process 1, which has no handler for it: it must not end hullctl.
    pty.resize(42, 112);
    pty.until("size 42 112");
    drop(pty);
}

#[tokio::test]
async fn a_shell_on_a_terminal_works_as_anywhere() {
    let hull = Session::shared().await;
    let label = hull.label();
    let mut pty = Pty::start(
        &hull.agent,
        &["run", "-it", "--rm", "--label", &label, "-e", "PS1=ready> ", BASE_IMAGE, "sh"],
        24,
        80,
    );
    pty.until("ready> ");
    pty.write("echo $((6*7))-$(tty)\n");
    pty.until("42-/dev/");
    pty.write("exit 12\n");
    let (code, rest) = pty.finish();
    assert_eq!(code, 12, "{rest}");
}

#[tokio::test]
async fn the_detach_keys_leave_the_container_running() {
    let hull = Session::shared().await;
    let (label, name) = (hull.label(), hull.name("detached"));
    let mut pty = Pty::start(
        &hull.agent,
        &["run", "-it", "--name", &name, "--label", &label, "-e", "PS1=ready> ", BASE_IMAGE, "sh"],
        24,
        80,
    );
    pty.until("ready> ");
    pty.write("\u{10}\u{11}");
    let (code, _) = pty.finish();
    assert_eq!(code, 0);
    assert_eq!(hull.state(&name).await, ContainerState::Running);
    let mut again = Pty::start(&hull.agent, &["attach", &name], 24, 80);
    again.write("echo still-$((1+1))\n");
    again.until("still-2");
    again.write("exit 4\n");
    assert_eq!(again.finish().0, 4);
}

#[tokio::test]
async fn an_exec_on_a_terminal_ends_with_its_code() {
    let hull = Session::shared().await;
    let id = background(&hull, &[BASE_IMAGE, "/probe", "sleep"]);
    let mut pty = Pty::start(&hull.agent, &["exec", "-it", "-e", "PS1=inside> ", &id, "sh"], 28, 90);
    pty.until("inside> ");
    pty.write("/probe tty; exit 6\n");
    pty.until("0 28 90");
    assert_eq!(pty.finish().0, 6);
}

#[tokio::test]
async fn a_terminal_needs_a_terminal() {
    let hull = Session::shared().await;
    let id = background(&hull, &[BASE_IMAGE, "/probe", "sleep"]);
    let done = Ctl::run_with(&hull.agent, &["exec", "-it", &id, "true"], b"");
    assert_ne!(done.code, 0);
    assert!(done.error().to_lowercase().contains("terminal") || done.error().contains("TTY"), "{}", done.error());
}

#[tokio::test]
async fn logs_are_followed_and_cut() {
    let hull = Session::shared().await;
    let id = background(&hull, &[BASE_IMAGE, "sh", "-c", "echo a; echo b >&2; sleep 0.2; echo c"]);
    let followed = hullctl(&hull, &["logs", "-f", &id]);
    assert_eq!((followed.text().as_str(), followed.error().as_str()), ("a\nc", "b"));
    assert_eq!(hullctl(&hull, &["logs", "-n", "1", &id]).ok(), "c");
    let stamped = hullctl(&hull, &["logs", "-t", "-n", "1", &id]).ok();
    assert!(stamped.ends_with(" c") && stamped.as_bytes()[10] == b'T', "{stamped}");
}

#[tokio::test]
async fn a_run_leaves_no_process_of_its_own() {
    let hull = Session::shared().await;
    let before = host::processes().len();
    for _ in 0..3 {
        assert_eq!(run(&hull, &["--rm", BASE_IMAGE, "/probe", "exit", "0"]).code, 0);
    }
    // Other tests run beside this one: it is enough that no such process is left.
    let left: Vec<_> = host::processes()
        .into_iter()
        .filter(|pid| {
            let words = host::text(format!("/proc/{pid}/cmdline"));
            words.contains("hullctl") && words.contains(&hull.label()) && words.contains(hull.agent.cgroup())
        })
        .collect();
    assert!(left.is_empty(), "{left:?} ({before} processes before)");
}
