//! The forms of answers: templates, filters, colours; and what is only said, not done.

use std::io::Read as _;

use super::agent::Agent;
use super::run;

fn format(agent: &Agent, verb: &str, template: &str) -> (i32, String, String) {
    run(agent.hullctl(verb).arg("--format").arg(template))
}

fn ok(answer: (i32, String, String)) -> String {
    assert_eq!(answer.0, 0, "{answer:?}");
    answer.1
}

#[test]
fn templates_have_docker_s_names() {
    let agent = Agent::start();
    assert_eq!(
        ok(format(&agent, "ps -n 2", "{{.ID}} {{.Names}} {{.State}}")),
        "000000000000 c0 unknown\n000000000000 c1 unknown\n"
    );
    let table = ok(format(&agent, "ps -n 1", r"table {{.Names}}\t{{.ID}}"));
    assert_eq!(table, "NAMES   CONTAINER ID\nc0      000000000000\n");
    let line = ok(format(&agent, "ps -n 1", "json"));
    assert!(line.lines().count() == 1 && line.contains("\"Names\":\"c0\""), "{line}");
    assert!(ok(format(&agent, "ps -n 1", "table")).starts_with("CONTAINER ID   IMAGE"));
    assert_eq!(ok(format(&agent, "images", "{{.Repository}}:{{.Tag}} {{.Size}}")), "img:latest 2kB\n");
    assert_eq!(ok(format(&agent, "inspect web", "{{.State.Status}} {{.Name}}")), "running /web\n");
    assert_eq!(
        ok(format(&agent, "image inspect img", "{{index .RepoTags 0}} {{len .RootFS.Layers}}")),
        "img:latest 2\n"
    );
    assert_eq!(ok(format(&agent, "history img", "{{.CreatedBy}}")), "CMD [\"sh\"]\nADD root.tar /\n");
    assert_eq!(ok(format(&agent, "version", "{{.Client.Version}}")), concat!(env!("CARGO_PKG_VERSION"), "\n"));
    assert_eq!(ok(format(&agent, "version --client", "{{.Server}}")), "<no value>\n");
    assert_eq!(ok(format(&agent, "df", "{{.Type}}")).lines().next(), Some("Images"));
    let (code, out, err) = format(&agent, "ps -n 1", "{{.Nope}}");
    assert!(code == 1 && out.is_empty() && err.contains("there is no field .Nope"), "{err}");
    // A mistake is told before anybody is asked.
    let (code, _, err) = format(&agent, "ps --host unix:///nonexistent", "{{.ID");
    assert!(code == 1 && err.contains("unclosed action"), "{err}");
}

#[test]
fn names_alone() {
    let agent = Agent::start();
    assert_eq!(ok(run(&mut agent.hullctl("ps -n 2 -o name"))), "c0\nc1\n");
    assert_eq!(ok(run(&mut agent.hullctl("images -o name"))), "docker.io/library/img:latest\n");
}

#[test]
fn filters_that_the_agent_does_not_know_are_looked_at_here() {
    let agent = Agent::start();
    let names = ok(run(&mut agent.hullctl("ps -a --filter name=c11 --filter name=c2499 -o name")));
    assert!(names.lines().count() > 2 && names.ends_with("c2499\n") && names.contains("c1100\n"), "{names}");
    let last = ok(run(&mut agent.hullctl("ps -n 2 --filter name=c249 --filter name=c1111 -o name")));
    assert_eq!(last, "c249\nc1111\n");
    assert_eq!(ok(run(&mut agent.hullctl("ps -a --filter exited=3 -o name"))), "");
    assert_eq!(ok(run(&mut agent.hullctl("images --filter dangling=true -q"))), "");
    assert_eq!(ok(run(&mut agent.hullctl("images --filter reference=i* -q"))), "dddddddddddd\n");
    for (line, expected) in [
        ("ps --filter health=starting", "not known"),
        ("images --filter until=1h", "not known"),
        ("ps --filter before=nobody", "no container nobody"),
    ] {
        let (code, _, err) = run(&mut agent.hullctl(line));
        assert!(code == 1 && err.contains(expected), "{line}: {err}");
    }
}

#[test]
fn a_dry_run_changes_nothing() {
    let agent = Agent::start();
    let (code, out, err) = run(&mut agent.hullctl("rm --dry-run web nobody"));
    assert_eq!((code, out.as_str()), (1, ""));
    assert!(err.contains("web cannot be removed: it runs") && err.contains("no container nobody"), "{err}");
    assert_eq!(
        ok(run(&mut agent.hullctl("rm -f --dry-run web"))),
        format!("Would kill and remove: web ({})\n", "a".repeat(12))
    );
    assert!(agent.told.lock().unwrap().removed.is_empty());
    // A container of the list uses it.
    let (code, _, err) = run(&mut agent.hullctl("rmi --dry-run img"));
    assert!(code == 1 && err.contains("container c0 uses it"), "{err}");
}

#[test]
fn a_restart_is_a_stop_and_a_start() {
    let agent = Agent::start();
    assert_eq!(ok(run(&mut agent.hullctl("restart -t 3 web"))), "web\n");
    assert_eq!(agent.told.lock().unwrap().calls, ["stop", "start"]);
}

#[test]
fn colours_are_for_those_who_want_them() {
    let agent = Agent::start();
    let colored = |out: &str| out.contains("\u{1b}[1m");
    assert!(!colored(&ok(run(&mut agent.hullctl("ps -n 1")))));
    assert!(colored(&ok(run(&mut agent.hullctl("--color always ps -n 1")))));
    assert!(colored(&ok(run(agent.hullctl("ps -n 1").env("CLICOLOR_FORCE", "1")))));
    assert!(!colored(&ok(run(agent.hullctl("ps -n 1").env("CLICOLOR_FORCE", "1").env("NO_COLOR", "1")))));
    let (_, _, err) = run(&mut agent.hullctl("--color=always rm nobody"));
    assert!(err.starts_with("\u{1b}[31mhullctl:\u{1b}[0m "), "{err:?}");
}

#[test]
fn outputs_are_chosen() {
    let agent = Agent::start();
    assert_eq!(run(&mut agent.hullctl("run -a stdout img both")), (0, "out".into(), String::new()));
    assert_eq!(run(&mut agent.hullctl("run -a STDERR img both")), (0, String::new(), "err".into()));
    let (code, _, err) = run(&mut agent.hullctl("run -a stdin img both"));
    assert!(code == 125 && err.contains("--interactive"), "{err}");
}

#[test]
fn a_platform_is_pulled_where_the_node_has_another() {
    let agent = Agent::start();
    assert_eq!(run(&mut agent.hullctl("run --platform linux/arm64/v8 img exit 0")).0, 0);
    let pulled = agent.told.lock().unwrap().images.pulled.clone();
    assert_eq!((pulled.len(), pulled[0].platform.as_str()), (1, "linux/arm64/v8"));
    let (code, _, err) = run(&mut agent.hullctl("run --pull never --platform linux/arm64 img exit 0"));
    assert!(code == 125 && err.contains("--pull never"), "{err}");
    let answer = ok(run(&mut agent.hullctl("pull -o json img")));
    assert!(answer.contains("\"bytesFetched\"") && answer.contains("\"digest\": \"sha256:dddd"), "{answer}");
}

#[test]
fn a_table_fits_the_terminal_in_colour_and_is_whole_in_a_pipe() {
    let agent = Agent::start();
    let on_terminal = |columns: u16, variable: (&str, &str)| {
        let mut command = agent.hullctl("ps -n 3");
        command.env("TERM", "xterm").env(variable.0, variable.1);
        let (mut child, mut master, slave) = super::terminal_as_wide(&mut command, columns);
        // Both hold the program's side, without which it ends with the program.
        drop((slave, command));
        let mut shown = Vec::new();
        // A terminal that has gone answers EIO.
        let _ = master.read_to_end(&mut shown);
        assert_eq!(super::wait(&mut child), 0);
        super::text(&shown)
    };
    let colored = on_terminal(200, ("A", "b"));
    assert!(colored.starts_with("\u{1b}[1mCONTAINER ID\u{1b}[0m") && colored.contains("NAME"), "{colored:?}");
    let plain = on_terminal(200, ("NO_COLOR", "1"));
    assert!(!plain.contains('\u{1b}') && plain.contains("STATUS"), "{plain:?}");
    let narrow = on_terminal(40, ("NO_COLOR", "1"));
    assert!(narrow.lines().count() == 4 && narrow.lines().all(|line| line.chars().count() <= 40), "{narrow:?}");
    let piped = ok(run(&mut agent.hullctl("ps -n 3")));
    assert!(piped.lines().all(|line| line.chars().count() > 40) && !piped.contains('\u{1b}'), "{piped}");
}
