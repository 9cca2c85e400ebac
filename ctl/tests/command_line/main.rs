//! The command line as a process, against an agent that only speaks.
#![allow(missing_docs, unreachable_pub, clippy::unwrap_used, reason = "a test")]

mod agent;
mod contexts;
mod forms;
mod images;

use std::fs::{self, File};
use std::io::{Read as _, Write as _};
use std::os::fd::OwnedFd;
use std::process::{Child, Command, Output, Stdio};
use std::time::{Duration, Instant};

use agent::{Agent, LISTED, hullctl};
use nix::pty::{OpenptyResult, openpty};
use rustix::io::{FdFlags, fcntl_setfd};
use rustix::process::{Pid, Signal, kill_process};
use rustix::termios::{LocalModes, Winsize, tcgetattr, tcsetwinsize};

const DEADLINE: Duration = Duration::from_secs(20);

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

/// Exit code, standard output, standard error.
fn parts(output: &Output) -> (i32, String, String) {
    (output.status.code().unwrap(), text(&output.stdout), text(&output.stderr))
}

fn run(command: &mut Command) -> (i32, String, String) {
    parts(&command.stdin(Stdio::null()).output().unwrap())
}

fn signal(child: &Child, signal: Signal) {
    kill_process(Pid::from_child(child), signal).unwrap();
}

fn wait(child: &mut Child) -> i32 {
    let deadline = Instant::now() + DEADLINE;
    while Instant::now() < deadline {
        if let Some(status) = child.try_wait().unwrap() {
            return status.code().unwrap_or(-1);
        }
        std::thread::sleep(Duration::from_millis(5));
    }
    child.kill().unwrap();
    panic!("hullctl did not end");
}

/// Reads until a text comes.
fn expect(source: &mut impl std::io::Read, expected: &str) -> String {
    let mut got = Vec::new();
    let mut byte = [0];
    while !text(&got).contains(expected) {
        assert_eq!(source.read(&mut byte).unwrap_or(0), 1, "ended with {:?} before {expected:?}", text(&got));
        got.push(byte[0]);
    }
    text(&got)
}

#[test]
fn exit_codes_are_the_programs() {
    let agent = Agent::start();
    assert_eq!(run(&mut agent.hullctl("run --rm img exit 42")).0, 42);
    assert_eq!(run(&mut agent.hullctl("exec web exit 7")).0, 7);
    assert_eq!(run(&mut agent.hullctl("start -a web")).0, 42);
    assert_eq!(run(&mut agent.hullctl("run img both")), (0, "out".into(), "err".into()));
}

#[test]
fn a_program_that_cannot_run_has_the_codes_of_shells_and_leaves_nothing() {
    let agent = Agent::start();
    let (code, out, err) = run(&mut agent.hullctl("run --rm img nope"));
    assert_eq!((code, out.as_str()), (127, ""));
    assert_eq!(err, "hullctl: executing nope: ENOENT; is it in the image?\n");
    assert_eq!(agent.told.lock().unwrap().removed, ["a".repeat(64)]);
    assert_eq!(run(&mut agent.hullctl("run img denied")).0, 126);
    assert_eq!(run(&mut agent.hullctl("run img unmountable")).0, 125);
    assert_eq!(agent.told.lock().unwrap().removed.len(), 1, "without --rm the container stays");
    assert_eq!(run(&mut agent.hullctl("exec web nope")).0, 127);
    assert_eq!(run(&mut agent.hullctl("exec nobody exit 0")).0, 125);
}

#[test]
fn errors_of_the_agent_are_one_line_with_a_hint() {
    let agent = Agent::start();
    let told = (125, String::new(), "hullctl: no image missing; import it first\n".to_owned());
    assert_eq!(run(&mut agent.hullctl("run --pull never missing")), told);
    let id_file = agent.path("id");
    let (code, ..) = run(agent.hullctl("create --pull never --cidfile").arg(&id_file).arg("missing"));
    assert_eq!((code, id_file.exists()), (1, false));
    let (code, _, err) = run(hullctl(&agent.path("other.sock")).arg("ps"));
    assert!(code == 1 && err.contains("systemctl start hulld") && err.lines().count() == 1, "{err}");
}

#[test]
fn the_background_prints_the_id() {
    let agent = Agent::start();
    let id = "a".repeat(64);
    let id_file = agent.path("id");
    let (code, out, _) =
        run(agent.hullctl("run -d --name web -m 64m --cidfile").arg(&id_file).args(["img", "exit", "0"]));
    assert_eq!((code, out), (0, format!("{id}\n")));
    assert_eq!(fs::read_to_string(&id_file).unwrap(), id);
    let told = agent.told.lock().unwrap();
    let config = told.config.clone().unwrap();
    assert!(told.started && config.name == "web");
    assert_eq!(config.resources.unwrap().memory_max, Some(64 << 20));
}

#[test]
fn standard_input_goes_both_ways_byte_for_byte() {
    let agent = Agent::start();
    let bytes: Vec<u8> = (0..3_000_000u32).map(|at| (at.wrapping_mul(2_654_435_761) >> 24) as u8).collect();
    let path = agent.path("input");
    fs::write(&path, &bytes).unwrap();
    for line in ["run -i img echo", "exec -i web echo"] {
        // A file, which epoll refuses, and then a pipe.
        let output = agent.hullctl(line).stdin(File::open(&path).unwrap()).output().unwrap();
        assert_eq!((output.status.code(), output.stdout == bytes), (Some(3), true), "{line}");
        let mut child = agent.hullctl(line).stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
        let (mut stdin, input) = (child.stdin.take().unwrap(), bytes.clone());
        let writer = std::thread::spawn(move || stdin.write_all(&input));
        let output = child.wait_with_output().unwrap();
        writer.join().unwrap().unwrap();
        assert_eq!((output.status.code(), output.stdout == bytes), (Some(3), true), "{line}");
    }
}

#[test]
fn the_command_ends_with_the_program_though_standard_input_is_open() {
    let agent = Agent::start();
    let mut child = agent.hullctl("run -i img exit 5").stdin(Stdio::piped()).spawn().unwrap();
    assert_eq!(wait(&mut child), 5);
}

#[test]
fn signals_go_to_the_program() {
    let agent = Agent::start();
    for line in ["run img talk", "exec web talk"] {
        let mut child = agent.hullctl(line).stdin(Stdio::null()).stdout(Stdio::piped()).spawn().unwrap();
        let mut out = child.stdout.take().unwrap();
        expect(&mut out, "ready;");
        signal(&child, Signal::HUP);
        expect(&mut out, "signal 1;");
        signal(&child, Signal::TERM);
        expect(&mut out, "signal 15;");
        signal(&child, Signal::USR1);
        assert_eq!(wait(&mut child), 138, "{line}");
    }
}

#[test]
fn the_third_interrupt_ends_the_command() {
    let agent = Agent::start();
    let mut child = agent.hullctl("run img talk").stdin(Stdio::null()).stdout(Stdio::piped()).spawn().unwrap();
    let mut out = child.stdout.take().unwrap();
    expect(&mut out, "ready;");
    for _ in 0..2 {
        signal(&child, Signal::INT);
        expect(&mut out, "signal 2;");
    }
    signal(&child, Signal::INT);
    assert_eq!(wait(&mut child), 130);
}

#[test]
fn signals_are_passed_on_while_nobody_reads_the_output() {
    let agent = Agent::start();
    let mut child = agent.hullctl("run img yes").stdin(Stdio::null()).stdout(Stdio::piped()).spawn().unwrap();
    // One line was read, and then no more is: every buffer on the way fills.
    let mut out = child.stdout.take().unwrap();
    expect(&mut out, "y\n");
    std::thread::sleep(Duration::from_millis(200));
    let deadline = Instant::now() + DEADLINE;
    // Signals that come faster than they are taken are one: so more than three may be needed.
    while Instant::now() < deadline && child.try_wait().unwrap().is_none() {
        signal(&child, Signal::TERM);
        std::thread::sleep(Duration::from_millis(50));
    }
    assert_eq!(wait(&mut child), 143);
}

#[test]
fn a_reader_that_goes_is_no_error() {
    let agent = Agent::start();
    for line in ["run img yes", "exec web yes", "logs web"] {
        let mut child =
            agent.hullctl(line).stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::null()).spawn().unwrap();
        let mut byte = [0];
        child.stdout.take().unwrap().read_exact(&mut byte).unwrap();
        assert_eq!(wait(&mut child), 0, "{line}");
    }
}

#[test]
fn a_call_that_breaks_off_is_an_error_after_what_came() {
    let agent = Agent::start();
    let (code, out, err) = run(&mut agent.hullctl("run img lost"));
    assert_eq!((code, out.as_str()), (125, "before"));
    assert!(err.contains("before the program ended"), "{err}");
}

/// The command, the side of the terminal where the person sits, and that of the program.
fn on_terminal(agent: &Agent, line: &str) -> (Child, File, OwnedFd) {
    terminal_of(agent.hullctl(line).env("TERM", "xterm"))
}

fn terminal_of(command: &mut Command) -> (Child, File, OwnedFd) {
    terminal_as_wide(command, 100)
}

fn terminal_as_wide(command: &mut Command, columns: u16) -> (Child, File, OwnedFd) {
    let size = Winsize { ws_row: 30, ws_col: columns, ws_xpixel: 0, ws_ypixel: 0 };
    let OpenptyResult { master: person, slave: program } = openpty(None, None).unwrap();
    tcsetwinsize(&program, size).unwrap();
    // The command must not hold the person's side itself.
    fcntl_setfd(&person, FdFlags::CLOEXEC).unwrap();
    let side = || Stdio::from(program.try_clone().unwrap());
    let child = command.stdin(side()).stdout(side()).stderr(side()).spawn().unwrap();
    (child, person.into(), program)
}

fn is_cooked(terminal: &OwnedFd) -> bool {
    tcgetattr(terminal).unwrap().local_modes.contains(LocalModes::ICANON | LocalModes::ECHO | LocalModes::ISIG)
}

fn wait_until_raw(terminal: &OwnedFd) {
    let deadline = Instant::now() + DEADLINE;
    while is_cooked(terminal) {
        assert!(Instant::now() < deadline, "the terminal never was in raw mode");
        std::thread::sleep(Duration::from_millis(5));
    }
}

#[test]
fn a_terminal_is_raw_for_the_time_and_changes_its_size() {
    let agent = Agent::start();
    let (mut child, mut person, program) = on_terminal(&agent, "run -it --rm img echo");
    wait_until_raw(&program);
    person.write_all(b"\x03a\x10b").unwrap();
    expect(&mut person, "\x03a\x10b");
    tcsetwinsize(&program, Winsize { ws_row: 10, ws_col: 20, ws_xpixel: 0, ws_ypixel: 0 }).unwrap();
    signal(&child, Signal::WINCH);
    expect(&mut person, "10x20;");
    signal(&child, Signal::USR1);
    assert_eq!(wait(&mut child), 138);
    assert!(is_cooked(&program));
}

#[test]
fn keys_leave_a_container_and_restore_the_terminal() {
    let agent = Agent::start();
    let (mut child, mut person, program) = on_terminal(&agent, "run -it img echo");
    wait_until_raw(&program);
    person.write_all(b"x\x10\x11").unwrap();
    expect(&mut person, "detached");
    assert_eq!(wait(&mut child), 0);
    assert!(is_cooked(&program));
}

#[test]
fn a_signal_that_ends_the_command_restores_the_terminal() {
    let agent = Agent::start();
    let (mut child, person, program) = on_terminal(&agent, "run -it --sig-proxy=false img echo");
    wait_until_raw(&program);
    signal(&child, Signal::TERM);
    assert_eq!(wait(&mut child), 143);
    assert!(is_cooked(&program));
    drop(person);
}

#[test]
fn the_command_ends_when_its_terminal_goes() {
    let agent = Agent::start();
    let (mut child, person, program) = on_terminal(&agent, "run -it img yes");
    wait_until_raw(&program);
    drop((person, program));
    assert_eq!(wait(&mut child), 129);
}

#[test]
fn an_error_restores_the_terminal() {
    let agent = Agent::start();
    let (mut child, mut person, program) = on_terminal(&agent, "run -it img nope");
    expect(&mut person, "is it in the image?");
    assert_eq!(wait(&mut child), 127);
    assert!(is_cooked(&program));
}

#[test]
fn a_terminal_is_asked_for_only_where_there_is_one() {
    let agent = Agent::start();
    for line in ["run -it img exit 0", "exec -it web exit 0"] {
        let (code, _, err) = run(&mut agent.hullctl(line));
        assert!(code == 125 && err.contains("not a terminal"), "{line}: {err}");
    }
    assert_eq!(run(&mut agent.hullctl("run -t img exit 0")).0, 0);
}

#[test]
fn lists_go_through_all_pages() {
    let agent = Agent::start();
    let (_, out, _) = run(&mut agent.hullctl("ps -aq"));
    assert_eq!(out.lines().count(), LISTED);
    assert_eq!(agent.told.lock().unwrap().pages, [1000, 1000, 1000]);
    let (_, out, _) = run(&mut agent.hullctl("ps -n 3"));
    assert_eq!(out.lines().count(), 4, "{out}");
    let (_, out, _) = run(&mut agent.hullctl("ps -l -o json"));
    let json: serde_json::Value = serde_json::from_str(&out).unwrap();
    assert_eq!(json[0]["name"], "c0");
}

#[test]
fn several_names_are_answered_in_their_order_and_errors_apart() {
    let agent = Agent::start();
    assert_eq!(run(&mut agent.hullctl("wait slow quick")).1, "1\n2\n");
    let told = (1, "a\nb\n".to_owned(), "hullctl: no container nobody\n".to_owned());
    assert_eq!(run(&mut agent.hullctl("rm a nobody b")), told);
    assert_eq!(run(&mut agent.hullctl("rm -f a nobody b")).0, 0);
    assert_eq!(run(&mut agent.hullctl("stop -t 1 a")).1, "a\n");
}

#[test]
fn updates_say_what_they_change() {
    let agent = Agent::start();
    assert_eq!(run(&mut agent.hullctl("update --memory 128m web")).0, 0);
    assert_eq!(agent.told.lock().unwrap().updated.clone().unwrap().memory_max, Some(128 << 20));
    assert_eq!(run(&mut agent.hullctl("update web")).0, 1);
}

#[test]
fn inspection_shows_the_runtime_spec_as_an_object() {
    let agent = Agent::start();
    let (code, out, _) = run(&mut agent.hullctl("inspect web"));
    let json: serde_json::Value = serde_json::from_str(&out).unwrap();
    assert_eq!((code, &json[0]["runtimeSpec"]["ociVersion"]), (0, &"1.2.0".into()));
    let (_, yaml, _) = run(&mut agent.hullctl("inspect -o yaml web"));
    assert!(yaml.contains("state: CONTAINER_STATE_RUNNING"), "{yaml}");
    let (code, out, err) = run(&mut agent.hullctl("inspect --type container nobody"));
    assert_eq!((code, out.as_str(), err.as_str()), (1, "[]\n", "hullctl: no container nobody\n"));
}

#[test]
fn logs_keep_both_streams_apart() {
    let agent = Agent::start();
    let (code, out, err) = run(&mut agent.hullctl("logs -t web"));
    assert_eq!(code, 0);
    assert!(
        out.starts_with("1970-01-01T00:00:01.000000000Z one line\n1970-01-01T00:00:01.000000000Z one"),
        "{}",
        &out[..80]
    );
    assert_eq!(out.lines().count(), 20_000);
    assert!(err.starts_with("1970-01-01T00:00:01.000000000Z problem\n"));
}
