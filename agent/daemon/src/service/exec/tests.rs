use std::io::Write as _;
use std::time::Instant;

use super::*;
use crate::runtime::stdio;

/// An output that a test writes to, and the copy of it that a client would get.
struct Copy {
    writer: std::fs::File,
    exited: watch::Sender<bool>,
    answers: mpsc::Receiver<Result<v1::ExecResponse, Status>>,
    task: tokio::task::JoinHandle<Result<()>>,
}

fn start_copy(direct: bool) -> Copy {
    let (theirs, output) = stdio::output_pipe().unwrap();
    let (sender, answers) = mpsc::channel(QUEUE);
    let (exited, receiver) = watch::channel(false);
    let task = tokio::spawn(async move { copy(Some(output), Outgoing::Stdout, &sender, receiver, direct).await });
    Copy { writer: theirs.into(), exited, answers, task }
}

async fn received(answers: &mut mpsc::Receiver<Result<v1::ExecResponse, Status>>) -> Vec<u8> {
    let mut bytes = Vec::new();
    while let Some(answer) = answers.recv().await {
        match answer.unwrap().message {
            Some(v1::exec_response::Message::Stdout(data)) => {
                assert!(data.len() <= CHUNK, "{}", data.len());
                bytes.extend(data);
            }
            other => panic!("{other:?}"),
        }
    }
    bytes
}

fn pattern(length: usize) -> Vec<u8> {
    (0..length).map(|index| u8::try_from(index * 31 % 251).unwrap()).collect()
}

#[tokio::test]
async fn every_byte_arrives_in_order() {
    let Copy { mut writer, exited, mut answers, task } = start_copy(false);
    let expected = pattern(8 << 20);
    let written = expected.clone();
    let writer = std::thread::spawn(move || writer.write_all(&written).unwrap());
    assert!(received(&mut answers).await == expected);
    task.await.unwrap().unwrap();
    writer.join().unwrap();
    drop(exited);
}

#[tokio::test]
async fn a_client_that_does_not_read_stops_the_process_and_loses_nothing() {
    let Copy { mut writer, exited, mut answers, task } = start_copy(false);
    let expected = pattern(2 << 20);
    let written = expected.clone();
    let writer = std::thread::spawn(move || writer.write_all(&written).unwrap());
    tokio::time::sleep(Duration::from_millis(100)).await;
    assert!(!writer.is_finished());
    assert!(received(&mut answers).await == expected);
    task.await.unwrap().unwrap();
    writer.join().unwrap();
    drop(exited);
}

#[tokio::test]
async fn a_child_that_keeps_the_output_open_does_not_hold_the_call() {
    let Copy { mut writer, exited, mut answers, task } = start_copy(false);
    let expected = pattern(60_000);
    writer.write_all(&expected).unwrap();
    exited.send_replace(true);
    let start = Instant::now();
    assert!(received(&mut answers).await == expected);
    assert!(start.elapsed() >= SILENCE && start.elapsed() < Duration::from_secs(5), "{:?}", start.elapsed());
    task.await.unwrap().unwrap();
    drop(writer);
}

#[tokio::test]
async fn of_a_pipe_comes_what_is_there_and_nobody_waits_for_more() {
    let (theirs, output) = stdio::output_pipe().unwrap();
    let (sender, mut answers) = mpsc::channel(QUEUE);
    let (exited, receiver) = watch::channel(false);
    let mut writer = std::fs::File::from(theirs);
    let expected = pattern(60_000);
    writer.write_all(&expected).unwrap();
    exited.send_replace(true);
    let copied = async move {
        // A timer that is due at once wins against whoever waits.
        tokio::time::timeout(Duration::ZERO, copy(Some(output), Outgoing::Stdout, &sender, receiver, true)).await
    };
    let (copied, bytes) = tokio::join!(copied, received(&mut answers));
    assert!(bytes == expected);
    copied.expect("it waits for nothing").unwrap();
    drop(writer);
}

#[tokio::test]
async fn a_child_that_writes_for_ever_does_not_hold_the_call() {
    for direct in [false, true] {
        let Copy { mut writer, exited, mut answers, task } = start_copy(direct);
        // Ends with EPIPE once the copy is over.
        let writer = std::thread::spawn(move || while writer.write_all(&[b'y'; 4096]).is_ok() {});
        exited.send_replace(true);
        let length = received(&mut answers).await.len();
        // Without a wait the copy may also find the pipe empty before the writer has filled it again.
        let least = if direct { 0 } else { AFTER_EXIT };
        assert!((least..AFTER_EXIT + 2 * CHUNK).contains(&length), "{length}");
        task.await.unwrap().unwrap();
        writer.join().unwrap();
    }
}

#[tokio::test]
async fn input_is_written_whole_and_its_end_closes_the_pipe() {
    let (theirs, input) = stdio::input_pipe().unwrap();
    let (sender, queue) = mpsc::channel(STDIN_QUEUE);
    let writer = tokio::spawn(write(Some(input), queue));
    let reader = std::thread::spawn(move || {
        let mut bytes = Vec::new();
        std::io::Read::read_to_end(&mut std::fs::File::from(theirs), &mut bytes).unwrap();
        bytes
    });
    let expected = pattern(3 << 20);
    for piece in expected.chunks(MAX_STDIN) {
        sender.send(Bytes::copy_from_slice(piece)).await.unwrap();
    }
    drop(sender);
    assert!(tokio::task::spawn_blocking(move || reader.join().unwrap()).await.unwrap() == expected);
    writer.abort();
}

#[tokio::test]
async fn input_that_no_one_reads_any_more_goes_nowhere() {
    let (theirs, input) = stdio::input_pipe().unwrap();
    drop(theirs);
    let (sender, queue) = mpsc::channel(STDIN_QUEUE);
    let writer = tokio::spawn(write(Some(input), queue));
    for _ in 0..100 {
        let _ = sender.send(Bytes::from_static(b"x")).await;
    }
    assert!(sender.is_closed());
    writer.abort();
}

#[test]
fn messages_after_the_first_are_parsed() {
    use v1::exec_request::Message;
    let parse = |message| Incoming::try_from(v1::ExecRequest { message: Some(message) });
    assert_eq!(parse(Message::Stdin("a".into())), Ok(Incoming::Stdin("a".into())));
    assert_eq!(parse(Message::Signal("INT".into())), Ok(Incoming::Signal(2)));
    let size = v1::TerminalSize { rows: 50, columns: 0 };
    assert_eq!(parse(Message::Resize(size)), Ok(Incoming::Resize(50, 80)));
    assert_eq!(parse(Message::Start(v1::ExecStart::default())).unwrap_err().reason, Reason::InvalidArgument);
    let large = parse(Message::Stdin(vec![0; MAX_STDIN + 1].into())).unwrap_err();
    assert_eq!(large.reason, Reason::LimitExceeded);
    let empty = Incoming::try_from(v1::ExecRequest { message: None }).unwrap_err();
    assert_eq!(empty.to_string(), "message: is required");
}
