//! A container's life: start, output, execs, attachments, terminal, end.

use std::fs;
use std::os::fd::OwnedFd;

use crate::driver::{Container, drain, eventually, pipe, process, read_until};
use hull_wire::*;

#[test]
fn output_goes_to_the_log_and_the_exit_is_recorded() {
    let mut container = Container::new();
    let plan = container.plan(&["sh", "-c", "echo out; echo err >&2; printf unfinished; exit 7"]);
    container.start(&plan);
    let exit = container.wait();
    assert_eq!((exit.code, exit.signal, exit.oom_killed), (7, 0, false));
    assert_eq!(container.log("stdout"), "out\nunfinished");
    assert_eq!(container.log("stderr"), "err\n");
}

#[test]
fn every_byte_of_much_output_is_logged() {
    let mut container = Container::new();
    let plan = container.plan(&[
        "sh",
        "-c",
        "yes 'all work and no play' | head -n 200000; head -c 100000 /dev/zero | tr '\\0' x",
    ]);
    container.start(&plan);
    assert_eq!(container.wait().code, 0);
    let expected = "all work and no play\n".repeat(200_000) + &"x".repeat(100_000);
    assert!(container.log("stdout") == expected);
}

#[test]
fn a_signal_is_the_end() {
    let mut container = Container::new();
    let plan = container.plan(&["sleep", "1000"]);
    container.start(&plan);
    let kill = |signal| RequestBody::Signal { target: Target::Init, signal };
    assert_eq!(container.request(kill(0), &[]).0, Outcome::Done);
    assert_eq!(container.request(kill(9), &[]).0, Outcome::Done);
    let exit = container.wait();
    assert_eq!((exit.code, exit.signal), (137, 9));
}

#[test]
fn execs_run_inside() {
    let mut container = Container::new();
    let plan = container.plan(&["sleep", "1000"]);
    container.start(&plan);
    assert_eq!(container.run(1, &["hostname"]), (0, "inside\n".to_owned()));
    assert_eq!(container.run(2, &["cat", "/etc/hostname", "/proc/1/comm"]), (0, "inside\nsleep\n".to_owned()));
    assert_eq!(container.run(3, &["sh", "-c", "echo $HOME; pwd; exit 3"]), (3, "/root\n/\n".to_owned()));
    let mut web = process(&["sh", "-c", "id -u; id -g; id -G; echo $HOME; pwd; echo x >/dev/stdout"]);
    web.user.user = "web".to_owned();
    web.cwd = "/tmp".to_owned();
    assert_eq!(container.run_plan(4, &web), (0, "33\n44\n44 7\n/srv\n/tmp\nx\n".to_owned()));
    assert_eq!(container.run(5, &["sh", "-c", "kill -9 $$"]).0, 137);
}

#[test]
fn attachments_see_every_byte_both_ways() {
    let mut container = Container::new();
    let mut plan = container.plan(&["cat"]);
    plan.stdin = Stdin::Open { once: true };
    let (input, output) = (pipe(), pipe());
    let all = AttachPipes { stdin: true, stdout: true, stderr: false };
    let outcome = container.setup(&plan, Some(all), vec![input.0, output.1]);
    assert!(matches!(outcome, Outcome::Started { .. }), "{outcome:?}");
    let sent: String = (0..300_000).map(|number| format!("{number}\n")).collect();
    let (writer, bytes) = (input.1, sent.clone());
    let feeder = std::thread::spawn(move || {
        let mut rest = bytes.as_bytes();
        while !rest.is_empty() {
            let length = nix::unistd::write(&writer, rest).unwrap();
            rest = &rest[length..];
        }
    });
    let seen = drain(output.0);
    feeder.join().unwrap();
    assert!(seen == sent, "{} of {} bytes", seen.len(), sent.len());
    assert_eq!(container.wait().code, 0);
    assert!(container.log("stdout") == sent);
}

#[test]
fn attachments_come_and_go() {
    let mut container = Container::new();
    let mut plan = container.plan(&["sh", "-c", "while read line; do echo got $line; done"]);
    plan.stdin = Stdin::Open { once: false };
    container.start(&plan);
    for round in 0..3 {
        let (input, output) = (pipe(), pipe());
        let pipes = AttachPipes { stdin: true, stdout: true, stderr: false };
        let attached = container.request(RequestBody::Attach { pipes }, &[input.0, output.1]).0;
        assert_eq!(attached, Outcome::Done);
        nix::unistd::write(&input.1, format!("{round}\n").as_bytes()).unwrap();
        assert_eq!(read_until(&output.0, "\n"), format!("got {round}\n"));
    }
    eventually(|| fs::read_dir(format!("/proc/{}/fd", container.shim.id())).unwrap().count() < 20);
}

#[test]
fn init_on_a_terminal() {
    let mut container = Container::new();
    let mut plan = container.plan(&[
        "sh",
        "-c",
        "stty size; tty; read line; echo got $line; stty size; ls -l /dev/console >/dev/null && echo console",
    ]);
    plan.stdin = Stdin::Open { once: false };
    plan.process.terminal = Some((11, 22));
    let (input, output) = (pipe(), pipe());
    let all = AttachPipes { stdin: true, stdout: true, stderr: false };
    container.setup(&plan, Some(all), vec![input.0, output.1]);
    assert_eq!(read_until(&output.0, "0\r\n"), "11 22\r\n/dev/pts/0\r\n");
    assert_eq!(container.request(RequestBody::Resize { rows: 33, columns: 44 }, &[]).0, Outcome::Done);
    nix::unistd::write(&input.1, b"hello\n").unwrap();
    let rest = drain(output.0);
    assert_eq!(rest, "hello\r\ngot hello\r\n33 44\r\nconsole\r\n");
    assert_eq!(container.wait().code, 0);
}

#[test]
fn exec_on_a_terminal() {
    let mut container = Container::new();
    let plan = container.plan(&["sleep", "1000"]);
    container.start(&plan);
    let mut shell = process(&["sh", "-c", "stty size; tty; read line; echo got $line"]);
    shell.terminal = Some((5, 6));
    shell.user.user = "web".to_owned();
    let (outcome, mut fds) = container.exec(9, &shell, vec![]);
    assert!(matches!(outcome, Outcome::ExecStarted { .. }), "{outcome:?}");
    let master: OwnedFd = fds.pop().expect("the terminal's master side");
    nix::unistd::write(&master, b"abc\n").unwrap();
    read_until(&master, "got abc\r\n");
    assert!(matches!(container.event(), Event::ExecExited { exec_id: 9, exit } if exit.code == 0));
}

#[test]
fn the_agent_may_go_and_come() {
    let mut container = Container::new();
    let plan = container.plan(&["sh", "-c", "while :; do echo tick; sleep 0.01; done"]);
    let pid = container.start(&plan);
    let (gone, _) = pipe();
    container.agent = gone;
    let before = container.log("stdout").len();
    eventually(|| container.log("stdout").len() > before + 20);
    container.agent = connect(&container.path("run/shim.sock"));
    let status = container.request(RequestBody::Status, &[]).0;
    assert_eq!(status, Outcome::Status { protocol: PROTOCOL_VERSION, pid });
    // A second connection takes the place of the first.
    let second = connect(&container.path("run/shim.sock"));
    let first = std::mem::replace(&mut container.agent, second);
    assert!(matches!(container.request(RequestBody::Status, &[]).0, Outcome::Status { .. }));
    assert!(crate::driver::receive(&first).is_none());
    container.request(RequestBody::Signal { target: Target::Init, signal: 9 }, &[]);
    assert_eq!(container.wait().code, 137);
}

fn connect(path: &str) -> OwnedFd {
    use nix::sys::socket::*;
    let socket = socket(AddressFamily::Unix, SockType::SeqPacket, SockFlag::SOCK_CLOEXEC, None).unwrap();
    nix::sys::socket::connect(std::os::fd::AsRawFd::as_raw_fd(&socket), &UnixAddr::new(path).unwrap()).unwrap();
    socket
}

#[test]
fn a_shim_without_plan_ends() {
    let mut container = Container::new();
    container.agent = pipe().0;
    container.wait_shim();
}
