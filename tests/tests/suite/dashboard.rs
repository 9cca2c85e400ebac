//! `hullctl top`: the dashboard, as a person at a terminal sees it.

use hull_proto::v1::ContainerConfig;
use hull_tests::harness::{Ctl, Pty, Session};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

/// Readings come fast, so that tests do not wait for them.
const TOP: [&str; 3] = ["top", "--interval", "100ms"];

/// The line that has a text.
fn line<'a>(screen: &'a str, text: &str) -> Option<&'a str> {
    screen.lines().find(|line| line.contains(text))
}

/// Whether the caller's screen is there again, as it was.
fn given_back(pty: &Pty) -> bool {
    let screen = pty.screen();
    !screen.alternate_screen() && !screen.hide_cursor() && pty.is_cooked()
}

async fn named(hull: &Session, name: &str, script: &str) -> (String, String) {
    let name = hull.name(name);
    let id = hull.run(ContainerConfig { name: name.clone(), ..hull.shell(script) }).await;
    (id, name)
}

#[tokio::test]
async fn containers_are_watched_found_and_looked_into() {
    let hull = Session::own().await;
    let (busy, busy_name) = named(&hull, "busy", "echo told-once; while :; do :; done").await;
    let (_, calm_name) = named(&hull, "calm", "echo quiet; sleep 1000").await;
    let mut pty = Pty::start(&hull.agent, &TOP, 24, 80);
    pty.until_seen("the busy one comes first, with what it uses", |screen| {
        let rows: Vec<&str> = screen.lines().skip(5).collect();
        let used = rows.first().and_then(|row| row.split_whitespace().nth(2)?.parse::<f64>().ok());
        rows.first().is_some_and(|row| row.starts_with(&*busy_name) && row.contains("running"))
            && used.is_some_and(|used| used > 1.0)
            && rows.get(1).is_some_and(|row| row.starts_with(&*calm_name) && row.contains('▁'))
            && line(screen, "load ").is_some_and(|line| line.starts_with("CPU"))
            && screen.contains("stalls %")
            && screen.contains("2 running, 2 in all")
            && screen.contains("q quit")
    });
    assert!(pty.screen().alternate_screen() && pty.screen().hide_cursor() && !pty.is_cooked());
    pty.write("n");
    pty.until_seen("sorted by name", |screen| screen.contains("NAME▼"));
    pty.write("r");
    pty.until_seen("the other way round", |screen| {
        let at = |name: &str| screen.lines().position(|line| line.starts_with(name));
        screen.contains("NAME▲") && at(&calm_name) < at(&busy_name)
    });
    pty.write("/cal");
    pty.until_seen("filtered as it is typed", |screen| {
        screen.contains("filter: cal█") && screen.contains(&calm_name) && !screen.contains(&busy_name)
    });
    pty.write("\u{7f}\u{7f}\u{7f}busy\r");
    pty.until_seen("filtered for another", |screen| screen.contains(&busy_name) && !screen.contains(&calm_name));
    pty.write("\r");
    pty.until_seen("its log, its events, what it uses", |screen| {
        screen.contains("told-once")
            && screen.contains("started as process")
            && screen.contains("throttled")
            && line(screen, "CPU ").is_some_and(|line| line.contains("Memory"))
    });
    // What happens meanwhile is told.
    hull.kill(&busy, "KILL").await;
    pty.until_seen("its end", |screen| screen.contains("ended by signal SIGKILL") && screen.contains("Exited (137)"));
    pty.write("\u{1b}[D");
    pty.until_seen("all again, without the one that has ended", |screen| screen.contains("No container fits"));
    pty.write("a");
    pty.until_seen("those that have ended, too", |screen| {
        line(screen, &busy_name).is_some_and(|line| line.contains("exit 137"))
    });
    pty.write("?");
    pty.until_seen("help", |screen| screen.contains(" Keys ") && screen.contains("Ctrl-L"));
    pty.resize(50, 200);
    pty.write("x\u{1b}[Z");
    pty.until_seen("more on a large terminal", |screen| {
        screen.contains("NET RX/s") && line(screen, &busy_name).is_some_and(|line| line.contains(&busy[..12]))
    });
    pty.write("q");
    assert_eq!(pty.end(), 0);
    assert!(given_back(&pty), "{}", pty.screen().contents());
}

#[tokio::test]
async fn an_agent_that_goes_away_is_told_and_waited_for() {
    let mut hull = Session::own().await;
    let (id, name) = named(&hull, "stays", "echo line-1; sleep 1000").await;
    let mut pty = Pty::start(&hull.agent, &TOP, 24, 80);
    pty.until_seen("the container", |screen| screen.contains(&name));
    let mut inside = Pty::start(&hull.agent, &TOP, 40, 150);
    inside.until_seen("the container", |screen| screen.contains(&name));
    inside.write("\r");
    inside.until_seen("its log", |screen| screen.contains("line-1"));
    hull.agent.kill();
    for pty in [&mut pty, &mut inside] {
        pty.until_seen("that it is away", |screen| screen.contains("AGENT AWAY for "));
    }
    assert!(pty.screen().contents().contains(&name), "what was known stays in sight");
    hull.agent.spawn();
    hull.reconnect().await;
    let (_, other) = named(&hull, "new", "sleep 1000").await;
    pty.until_seen("both", |screen| {
        !screen.contains("AGENT AWAY") && screen.contains(&name) && screen.contains(&other)
    });
    inside.until_seen("the log again, once", |screen| {
        !screen.contains("AGENT AWAY") && screen.matches("line-1").count() == 1
    });
    hull.remove(&id).await;
    inside.until_seen("that it is gone", |screen| screen.contains(&format!("{}: removed", &id[..12])));
    for mut pty in [pty, inside] {
        pty.write("\u{3}");
        assert_eq!(pty.end(), 0);
        assert!(given_back(&pty));
    }
}

#[tokio::test]
async fn signals_end_it_and_the_terminal_is_given_back() {
    let hull = Session::shared().await;
    for (signal, code) in [(Signal::SIGTERM, 143), (Signal::SIGINT, 130), (Signal::SIGHUP, 129)] {
        let mut pty = Pty::start(&hull.agent, &TOP, 24, 80);
        pty.until_seen("the dashboard", |screen| screen.contains("q quit"));
        kill(Pid::from_raw(pty.pid()), signal).expect("kill");
        assert_eq!(pty.end(), code, "{signal}");
        assert!(given_back(&pty), "{signal}");
    }
}

#[tokio::test]
async fn a_terminal_that_takes_nothing_does_not_hold_it() {
    let hull = Session::shared().await;
    let mut pty = Pty::start(&hull.agent, &TOP, 200, 500);
    pty.until_seen("the dashboard", |screen| screen.contains("q quit"));
    // Whole pictures, until the terminal is full; what it has not taken is dropped then.
    for _ in 0..40 {
        pty.write("\u{c}");
        std::thread::sleep(std::time::Duration::from_millis(50));
    }
    kill(Pid::from_raw(pty.pid()), Signal::SIGTERM).expect("kill");
    assert_eq!(pty.wait_unread(), 143);
    assert!(pty.is_cooked());
}

#[tokio::test]
async fn without_a_terminal_it_says_what_to_use() {
    let hull = Session::shared().await;
    let refused = Ctl::run(&hull.agent, &["top"]);
    assert!(refused.code == 1 && refused.error().contains("hullctl stats"), "{refused:?}");
    let mut dumb = Pty::start_with(&hull.agent, &TOP, 24, 80, &[("TERM", "dumb")]);
    dumb.until("hullctl stats");
    assert_eq!(dumb.end(), 1);
    let refused = Ctl::run(&hull.agent, &["top", "-o", "json"]);
    assert!(refused.code == 1 && refused.error().contains("CONTAINER"), "{refused:?}");
}

#[tokio::test]
async fn colours_are_for_those_who_want_them() {
    let hull = Session::shared().await;
    for (variables, colored) in [(&[("A", "b")], true), (&[("NO_COLOR", "1")], false)] {
        let mut pty = Pty::start_with(&hull.agent, &TOP, 24, 80, variables);
        let shown = pty.until("help");
        // "38;5;…" and "48;5;…" choose colours.
        assert_eq!(shown.contains("8;5;"), colored, "{shown:?}");
        pty.write("q");
        assert_eq!(pty.end(), 0);
    }
}
