//! What a container writes: to whoever is attached, and to its log, complete and in order.

use std::time::Duration;

use hull_proto::v1::{
    AttachStart, ContainerConfig, ContainerState, LogStream, StreamLogsRequest, TerminalSize, attach_response,
};
use hull_tests::harness::host::Held;
use hull_tests::harness::{AttachSession, Session, assert_error, given, host, metadata, wait};
use tonic::Code;

fn logs(container: &str) -> StreamLogsRequest {
    StreamLogsRequest { container: container.into(), ..StreamLogsRequest::default() }
}

#[tokio::test]
async fn an_attachment_that_starts_sees_every_byte() {
    let hull = Session::shared().await;
    for _ in 0..5 {
        let output = hull.output(hull.shell("echo first; echo error >&2; exit 3")).await;
        assert_eq!(
            (output.stdout.as_slice(), output.stderr.as_slice()),
            (b"first\n".as_slice(), b"error\n".as_slice())
        );
        assert_eq!(output.exit.code, 3);
    }
    let lines = hull.output(hull.probe(&["lines", "100000"])).await.lines();
    assert_eq!(lines.len(), 100_000);
    assert!(lines.iter().enumerate().all(|(number, line)| *line == format!("line {number}")));
}

#[tokio::test]
async fn a_failed_start_is_told_to_the_attachment() {
    let hull = Session::shared().await;
    let id = hull.create(hull.command(&["/bin/nope"])).await;
    let status = AttachSession::start(&hull.clients, &id, false, true).await.expect_err("nothing to start");
    assert_eq!(metadata(&status, "errno"), "ENOENT", "{status:?}");
    assert_eq!(hull.get(&id).await.exit.expect("an exit").code, 127);
}

#[tokio::test]
async fn standard_input_of_init_can_be_written_and_closed() {
    let hull = Session::shared().await;
    let config = ContainerConfig { stdin_open: true, stdin_once: true, ..hull.probe(&["cat"]) };
    let id = hull.create(config).await;
    let attached = AttachSession::start(&hull.clients, &id, true, true).await.expect("Attach");
    assert!(attached.stdin("some input\n").await && attached.close_stdin().await);
    let (stdout, _, exit) = wait::within("the container", attached.finish()).await.expect("Attach");
    assert_eq!((stdout.as_slice(), exit.code), (b"some input\n".as_slice(), 0));
}

#[tokio::test]
async fn standard_input_stays_open_for_the_next_attachment() {
    let hull = Session::shared().await;
    let id = hull
        .run(ContainerConfig { stdin_open: true, ..hull.shell("while read -r line; do echo got $line; done") })
        .await;
    for word in ["one", "two"] {
        let mut attached = AttachSession::start(&hull.clients, &id, true, false).await.expect("Attach");
        assert!(attached.stdin(format!("{word}\n")).await && attached.close_stdin().await);
        wait::within("the echo", attached.until(&format!("got {word}"))).await.expect("output");
    }
    assert_eq!(hull.state(&id).await, ContainerState::Running);
}

#[tokio::test]
async fn without_open_input_an_attachment_has_none() {
    let hull = Session::shared().await;
    let id = hull.run(hull.probe(&["sleep"])).await;
    let status = AttachSession::start(&hull.clients, &id, true, false).await;
    assert_error(status, Code::FailedPrecondition, "INVALID_STATE", "stdin");
}

#[tokio::test]
async fn going_away_leaves_the_container_alone() {
    let hull = Session::shared().await;
    let id = hull.run(hull.shell("while true; do echo tick; sleep 0.01; done")).await;
    for _ in 0..20 {
        let mut attached = AttachSession::start(&hull.clients, &id, false, false).await.expect("Attach");
        wait::within("output", attached.until("tick")).await.expect("output");
    }
    assert_eq!(hull.state(&id).await, ContainerState::Running);
}

#[tokio::test]
async fn a_reader_that_stands_still_holds_the_container_until_it_goes() {
    // An attachment gets every byte, so the container waits for it; without it, it waits for nobody.
    let hull = Session::shared().await;
    let id = hull.create(hull.shell("/probe lines 300000; echo finished; sleep 1000")).await;
    let attached = AttachSession::start(&hull.clients, &id, false, true).await.expect("Attach");
    hull.until_logged(&id, "line").await;
    drop(attached);
    assert_eq!(hull.until_logged(&id, "finished").await, "finished");
    assert_eq!(hull.log_lines(&id).await.len(), 300_001);
}

/// `HULL_ATTACHMENTS` of them, 300 where nobody says otherwise.
#[tokio::test]
async fn attachments_that_come_and_go_leave_nothing_and_disturb_nobody() {
    let count = u32::try_from(given("HULL_ATTACHMENTS").unwrap_or(300)).expect("fewer");
    let hull = Session::own().await;
    let line = "n=0; while true; do echo line $n; n=$((n + 1)); sleep 0.01; done";
    let id = hull.run(ContainerConfig { stdin_open: true, ..hull.shell(line) }).await;
    let come_and_go = |number: u32| {
        let (hull, id) = (&hull, &id);
        async move {
            let mut attached =
                AttachSession::start(&hull.clients, id, number.is_multiple_of(2), false).await.expect("Attach");
            // Some go at once, some after they have seen something.
            if number.is_multiple_of(3) {
                wait::within("output", attached.until("line")).await.expect("output");
            }
        }
    };
    let processes = [hull.agent.pid(), host::stat(hull.get(&id).await.pid).expect("init").1];
    for number in 0..40 {
        come_and_go(number).await;
    }
    let mut stays = AttachSession::start(&hull.clients, &id, false, false).await.expect("Attach");
    let before = processes.map(Held::by);
    for number in (0..count).step_by(4) {
        futures_util::future::join_all((number..number + 4).map(come_and_go)).await;
    }
    wait::until_async(&format!("nothing more is held than {before:?}"), || async {
        processes.into_iter().zip(before).all(|(pid, before)| Held::by(pid).is_as(before)).then_some(())
    })
    .await;
    // Who was there all the time has every line.
    let last = hull.log_lines(&id).await.pop().expect("a line");
    let seen = wait::within("the last line", stays.until(&format!("{last}\n"))).await.expect("output");
    let numbers: Vec<u64> =
        seen.lines().skip(1).map(|line| line.trim_start_matches("line ").parse().expect("a number")).collect();
    assert!(numbers.len() > 10 && numbers.windows(2).all(|two| two[1] == two[0] + 1), "{seen}");
}

#[tokio::test]
async fn two_attachments_see_the_same() {
    let hull = Session::shared().await;
    let id = hull
        .run(ContainerConfig { stdin_open: true, ..hull.shell("while read -r line; do echo got $line; done") })
        .await;
    let mut first = AttachSession::start(&hull.clients, &id, false, false).await.expect("Attach");
    let mut second = AttachSession::start(&hull.clients, &id, true, false).await.expect("Attach");
    assert!(second.stdin("hello\n").await);
    for attached in [&mut first, &mut second] {
        wait::within("the echo", attached.until("got hello")).await.expect("output");
    }
}

#[tokio::test]
async fn a_terminal_of_init_has_size_resize_and_keys() {
    let hull = Session::shared().await;
    let config = ContainerConfig { terminal: true, stdin_open: true, ..hull.probe(&["tty-watch"]) };
    let id = hull.create(config).await;
    let start = AttachStart {
        container: id.clone(),
        stdin: true,
        start_container: true,
        terminal_size: Some(TerminalSize { rows: 30, columns: 90 }),
    };
    let mut attached = AttachSession::start_with(&hull.clients, start).await.expect("Attach");
    assert!(attached.started.terminal);
    wait::within("the size", attached.until("size 30 90")).await.expect("output");
    assert!(attached.resize(40, 100).await);
    wait::within("the new size", attached.until("size 40 100")).await.expect("output");
    // Process 1 of a namespace is deaf to signals that it does not handle, those of its terminal included.
    assert!(attached.stdin("\u{1c}").await);
    // Seen first, for the terminal throws away what is on its way out when it comes.
    wait::within("the echo", attached.until("^\\")).await.expect("output");
    assert!(attached.resize(41, 101).await);
    wait::within("the next size", attached.until("size 41 101")).await.expect("output");
    hull.kill(&id, "KILL").await;
    let (.., exit) = wait::within("the container", attached.finish()).await.expect("Attach");
    assert_eq!(exit.signal, 9);
}

#[tokio::test]
async fn the_terminal_s_output_is_in_the_log() {
    let hull = Session::shared().await;
    let id = hull.run(ContainerConfig { terminal: true, ..hull.shell("echo to-terminal; /probe tty") }).await;
    hull.wait(&id).await;
    let lines = hull.log_lines(&id).await;
    assert_eq!(
        lines.iter().map(|line| line.trim_end_matches('\r')).collect::<Vec<_>>(),
        ["to-terminal", "0 24 80", "1 24 80", "2 24 80"]
    );
}

#[tokio::test]
async fn no_line_is_lost_and_the_order_is_kept() {
    let hull = Session::shared().await;
    let id = hull.run(hull.probe(&["lines", "100000"])).await;
    hull.wait(&id).await;
    let entries = hull.logs(logs(&id)).await;
    assert_eq!(entries.len(), 100_000);
    for (number, entry) in entries.iter().enumerate() {
        assert_eq!(entry.line, format!("line {number}"));
        assert!(!entry.partial && entry.stream() == LogStream::Stdout);
    }
    let times: Vec<_> = entries.iter().map(|entry| entry.time.map(|time| (time.seconds, time.nanos))).collect();
    assert!(times.is_sorted());
}

#[tokio::test]
async fn following_shows_everything_until_the_end() {
    let hull = Session::shared().await;
    let id = hull.run(hull.shell("for i in $(seq 1 50); do echo $i; sleep 0.01; done; /probe lines 20000")).await;
    let entries = hull.logs(StreamLogsRequest { follow: true, ..logs(&id) }).await;
    assert_eq!(entries.len(), 20_050);
    assert_eq!(entries[49].line, "50");
    assert_eq!(entries[20_049].line, "line 19999");
}

#[tokio::test]
async fn following_a_container_that_is_not_started_waits_or_ends_but_tells() {
    let hull = Session::shared().await;
    let id = hull.create(hull.shell("echo late")).await;
    let before = hull.logs(logs(&id)).await;
    assert!(before.is_empty());
    hull.start(&id).await;
    let entries = hull.logs(StreamLogsRequest { follow: true, ..logs(&id) }).await;
    assert_eq!(entries.len(), 1);
}

#[tokio::test]
async fn logs_are_cut_by_tail_time_and_stream() {
    let hull = Session::shared().await;
    let id = hull.run(hull.shell("echo a; echo e >&2; sleep 0.2; echo b; echo f >&2; sleep 0.2; echo c")).await;
    hull.wait(&id).await;
    let text = async |request: StreamLogsRequest| {
        let entries = hull.logs(request).await;
        entries.iter().map(|entry| String::from_utf8_lossy(&entry.line).into_owned()).collect::<Vec<_>>()
    };
    assert_eq!(text(StreamLogsRequest { tail: Some(0), ..logs(&id) }).await, Vec::<String>::new());
    assert_eq!(text(StreamLogsRequest { tail: Some(1), ..logs(&id) }).await, ["c"]);
    assert_eq!(text(StreamLogsRequest { tail: Some(99), ..logs(&id) }).await.len(), 5);
    assert_eq!(text(StreamLogsRequest { stream: LogStream::Stdout.into(), ..logs(&id) }).await, ["a", "b", "c"]);
    assert_eq!(text(StreamLogsRequest { stream: LogStream::Stderr.into(), ..logs(&id) }).await, ["e", "f"]);
    assert_eq!(text(StreamLogsRequest { stream: LogStream::Stderr.into(), tail: Some(1), ..logs(&id) }).await, ["f"]);
    let all = hull.logs(logs(&id)).await;
    let middle = all.iter().find(|entry| entry.line == "b").expect("b").time;
    assert_eq!(
        text(StreamLogsRequest { since: middle, stream: LogStream::Stdout.into(), ..logs(&id) }).await,
        ["b", "c"]
    );
    assert_eq!(text(StreamLogsRequest { until: middle, stream: LogStream::Stdout.into(), ..logs(&id) }).await, ["a"]);
}

#[tokio::test]
async fn a_long_line_comes_in_pieces_that_make_the_whole() {
    let hull = Session::shared().await;
    let length = 1_000_003;
    let id = hull.run(hull.probe(&["long-line", &length.to_string()])).await;
    hull.wait(&id).await;
    let entries = hull.logs(logs(&id)).await;
    let (end, pieces) = entries.split_last().expect("entries");
    assert_eq!((end.line.as_ref(), end.partial), (b"end".as_slice(), false));
    assert!(pieces.len() > 1);
    let whole: Vec<u8> = pieces.iter().flat_map(|entry| entry.line.to_vec()).collect();
    assert_eq!(whole.len(), length);
    assert!(whole.iter().enumerate().all(|(at, byte)| usize::from(byte - b'a') == at % 26));
    let partial: Vec<bool> = pieces.iter().map(|entry| entry.partial).collect();
    assert!(partial[..partial.len() - 1].iter().all(|partial| *partial) && !partial[partial.len() - 1]);
}

#[tokio::test]
async fn output_without_a_line_s_end_is_kept() {
    let hull = Session::shared().await;
    let id = hull.run(hull.shell("printf 'no end'")).await;
    hull.wait(&id).await;
    assert_eq!(hull.log_lines(&id).await, ["no end"]);
}

#[tokio::test]
async fn hostile_output_breaks_no_framing() {
    let hull = Session::shared().await;
    let line = r"printf 'a\000b\033[31mred\r\n2026-01-01T00:00:00.000000000Z stdout F forged\n\n\377\376\n'";
    let id = hull.run(hull.shell(line)).await;
    hull.wait(&id).await;
    let lines: Vec<Vec<u8>> = hull.logs(logs(&id)).await.into_iter().map(|entry| entry.line.to_vec()).collect();
    assert_eq!(
        lines,
        [
            b"a\0b\x1b[31mred\r".to_vec(),
            b"2026-01-01T00:00:00.000000000Z stdout F forged".to_vec(),
            Vec::new(),
            b"\xff\xfe".to_vec()
        ]
    );
}

#[tokio::test]
async fn the_log_file_has_the_format_of_kubernetes() {
    let hull = Session::shared().await;
    let id = hull.run(hull.shell("echo out; sleep 0.05; echo err >&2")).await;
    hull.wait(&id).await;
    let path = hull.get(&id).await.log_path;
    let text = host::text(&path);
    let fields: Vec<Vec<&str>> = text.lines().map(|line| line.splitn(4, ' ').collect()).collect();
    assert_eq!(
        fields.iter().map(|fields| fields[1..].to_vec()).collect::<Vec<_>>(),
        [["stdout", "F", "out"], ["stderr", "F", "err"]]
    );
    for fields in fields {
        let time = fields[0];
        assert!(time.len() >= 30 && time.as_bytes()[10] == b'T', "RFC 3339 with nanoseconds: {time}");
    }
}

#[tokio::test]
async fn an_attachment_sees_the_end_after_the_last_output() {
    let hull = Session::shared().await;
    let id = hull.create(hull.shell("/probe lines 1000; sleep 0.1; echo last")).await;
    let mut attached = AttachSession::start(&hull.clients, &id, false, true).await.expect("Attach");
    let mut text = Vec::new();
    let exit = loop {
        match wait::within("an answer", attached.next()).await.expect("Attach") {
            Some(attach_response::Message::Stdout(data)) => text.extend_from_slice(&data),
            Some(attach_response::Message::Exit(exit)) => break exit,
            other => panic!("{other:?}"),
        }
    };
    assert!(text.ends_with(b"last\n"));
    assert_eq!(exit.code, 0);
}

#[tokio::test]
async fn a_child_that_holds_the_output_does_not_hold_the_exit() {
    let hull = Session::shared().await;
    // The child is in the container, so it ends with init; what it held must not delay the answer.
    let begin = std::time::Instant::now();
    let output = hull.output(hull.probe(&["background"])).await;
    assert_eq!(output.exit.code, 0);
    assert!(begin.elapsed() < wait::scaled(Duration::from_secs(3)));
}
