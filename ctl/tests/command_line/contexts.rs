//! Contexts, and what is known without an agent: explanations, completion, manual pages.

use std::fs;
use std::io::Read as _;
use std::os::unix::fs::PermissionsExt as _;
use std::os::unix::net::UnixListener;
use std::process::Command;
use std::time::{Duration, Instant};

use super::agent::Agent;
use super::run;

/// `hullctl` with a home of its own, and no agent named by the environment.
fn at_home(agent: &Agent, line: &str) -> Command {
    let mut command = agent.hullctl(line);
    command.env_remove("HULL_HOST").env("XDG_CONFIG_HOME", agent.path("config"));
    command
}

fn ok(command: &mut Command) -> String {
    let answer = run(command);
    assert_eq!(answer.0, 0, "{answer:?}");
    answer.1
}

/// Whether a list of containers comes, and from where it was asked for if not.
fn lists(command: &mut Command) -> Result<(), String> {
    let (code, _, err) = run(command);
    if code == 0 { Ok(()) } else { Err(err) }
}

#[test]
fn what_is_nearer_to_the_command_counts_more() {
    let agent = Agent::start();
    let socket = format!("unix://{}", agent.path("hull.sock").display());
    for (name, host) in [("here", socket.as_str()), ("gone", "unix:///nonexistent/gone.sock")] {
        let mut create = at_home(&agent, "context create");
        assert_eq!(ok(create.arg(name).arg("--host").arg(host)), format!("{name}\n"));
    }
    let asked = |answer: Result<(), String>, place: &str| {
        let error = answer.unwrap_err();
        assert!(error.contains(&format!("cannot reach the agent at {place}")), "{error}");
    };
    asked(lists(&mut at_home(&agent, "ps -n 1")), "unix:///run/hull/hull.sock");
    lists(&mut at_home(&agent, "--context here ps -n 1")).unwrap();
    ok(&mut at_home(&agent, "context use gone"));
    asked(lists(&mut at_home(&agent, "ps -n 1")), "unix:///nonexistent/gone.sock");
    lists(at_home(&agent, "ps -n 1").env("HULL_CONTEXT", "here")).unwrap();
    asked(lists(at_home(&agent, "ps").env("HULL_CONTEXT", "here").env("HULL_HOST", "unix:///env")), "unix:///env");
    lists(at_home(&agent, "--context here ps -n 1").env("HULL_HOST", "unix:///env")).unwrap();
    let mut host = at_home(&agent, "ps -n 1 --host");
    lists(host.arg(&socket).env("HULL_HOST", "unix:///env")).unwrap();
    asked(lists(&mut at_home(&agent, "--context default ps")), "unix:///run/hull/hull.sock");
    let both = lists(&mut at_home(&agent, "--context here -H unix:///x ps")).unwrap_err();
    assert!(both.contains("give one of them"), "{both}");
    let unknown = lists(&mut at_home(&agent, "--context nope ps")).unwrap_err();
    assert!(unknown.contains("no context nope"), "{unknown}");
}

#[test]
fn contexts_are_listed_changed_and_forgotten() {
    let agent = Agent::start();
    ok(at_home(&agent, "-H unix:///a.sock context create a --description").arg("the first"));
    ok(&mut at_home(&agent, "context create b --docker host=unix:///b.sock"));
    let file = agent.path("config/hull/contexts/a.json");
    assert_eq!(fs::metadata(&file).unwrap().permissions().mode() & 0o777, 0o600);
    assert_eq!(ok(&mut at_home(&agent, "context use b")), "b\n");
    assert_eq!(ok(&mut at_home(&agent, "context show")), "b\n");
    let table = ok(&mut at_home(&agent, "context ls"));
    assert!(table.contains("b *") && table.contains("the first") && table.contains("unix:///a.sock"), "{table}");
    assert_eq!(ok(&mut at_home(&agent, "context ls -q")), "default\na\nb\n");
    let mut formatted = at_home(&agent, "context ls --format");
    assert_eq!(ok(formatted.arg("{{.Name}}={{.Current}}")), "default=false\na=false\nb=true\n");
    ok(&mut at_home(&agent, "-H unix:///c.sock context update a"));
    let inspected = ok(&mut at_home(&agent, "context inspect a"));
    assert!(inspected.contains("unix:///c.sock") && inspected.contains("the first"), "{inspected}");
    assert_eq!(ok(&mut at_home(&agent, "context rm --dry-run a")), "Would remove: a\n");
    assert!(file.exists());
    let (code, out, err) = run(&mut at_home(&agent, "context rm a b default"));
    assert_eq!((code, out.as_str()), (1, "a\n"));
    assert!(err.contains("b is in use") && err.contains("default is there always"), "{err}");
    assert_eq!(ok(&mut at_home(&agent, "context rm -f b")), "b\n");
    assert_eq!(ok(&mut at_home(&agent, "context show")), "default\n");
    for (line, expected) in [
        ("context create ../x -H unix:///x", "no name for a context"),
        ("context create x", "give --host"),
        ("context create x -H tcp://h:1", "--tls-ca"),
        ("context create x --docker port=1", "expected host="),
        ("context use nope", "no context nope"),
    ] {
        let (code, _, err) = run(&mut at_home(&agent, line));
        assert!(code == 1 && err.contains(expected), "{line}: {err}");
    }
}

#[test]
fn reasons_are_explained() {
    let agent = Agent::start();
    let list = ok(&mut at_home(&agent, "explain"));
    assert!(list.starts_with("REASON") && list.contains("IMAGE_NOT_FOUND"), "{list}");
    let one = ok(&mut at_home(&agent, "explain image_not_found"));
    assert!(one.starts_with("IMAGE_NOT_FOUND\n") && one.contains("What to do\n  - "), "{one}");
    let (code, _, err) = run(&mut at_home(&agent, "explain NOPE"));
    assert!(code == 1 && err.contains("no such reason"), "{err}");
}

/// What a shell is offered for a line whose last word is at its end.
fn offered(command: &mut Command, words: &[&str]) -> String {
    command.args(words).env("HULLCTL_COMPLETE", "bash").env("_CLAP_COMPLETE_INDEX", (words.len() - 1).to_string());
    command.env("_CLAP_COMPLETE_COMP_TYPE", "9").env("_CLAP_COMPLETE_SPACE", "true").env("_CLAP_IFS", "\n");
    let (code, out, err) = run(command);
    assert_eq!((code, err.as_str()), (0, ""), "{out}");
    out
}

#[test]
fn completion_knows_the_names_of_the_moment() {
    let agent = Agent::start();
    let ask = |words: &[&str]| {
        let mut command = agent.hullctl("--");
        offered(&mut command, &[&["--", "hullctl"], words].concat()[1..])
    };
    assert_eq!(ask(&["logs", "c10"]).lines().next(), Some("c10"));
    assert!(ask(&["rm", "c999"]).lines().any(|name| name == "c999"));
    assert_eq!(ask(&["rmi", "im"]), "img:latest");
    assert_eq!(ask(&["explain", "image_d"]), "IMAGE_DAMAGED");
    assert!(ask(&["unp"]).contains("unpause"));
    assert!(ask(&["run", "--memory-s"]).contains("--memory-swap"));
}

#[test]
fn completion_does_not_wait_for_an_agent_that_says_nothing() {
    let agent = Agent::start();
    let socket = agent.path("silent.sock");
    let silent = UnixListener::bind(&socket).unwrap();
    let mut command = agent.hullctl("--");
    command.env("HULL_HOST", format!("unix://{}", socket.display()));
    let start = Instant::now();
    assert_eq!(offered(&mut command, &["hullctl", "logs", "c"]), "");
    assert!(start.elapsed() < Duration::from_secs(5));
    // It was asked.
    let (mut asked, _) = silent.accept().unwrap();
    assert!(asked.read(&mut [0; 24]).unwrap() > 0);
}

#[test]
fn scripts_and_manual_pages() {
    let agent = Agent::start();
    for shell in ["bash", "zsh", "fish", "powershell"] {
        let script = ok(at_home(&agent, "completion").arg(shell));
        assert!(script.contains("HULLCTL_COMPLETE"), "{script}");
    }
    let page = ok(&mut at_home(&agent, "man image prune"));
    assert!(page.contains(".TH") && page.contains("dry\\-run"), "{page}");
    let (code, _, err) = run(&mut at_home(&agent, "man nope"));
    assert!(code == 1 && err.contains("no such verb"), "{err}");
    let dir = agent.path("man");
    ok(at_home(&agent, "man --dir").arg(&dir));
    let page = |name: &str| fs::read_to_string(dir.join(name)).unwrap();
    assert!(page("hullctl.1").contains("hullctl") && page("hullctl-run.1").contains("memory"));
    assert!(page("hullctl-image-prune.1").contains("dry\\-run"));
}
