//! The log as files: rotation, limits, a full disk, and readers that go away and come back.

use std::fs;
use std::path::{Path, PathBuf};
use std::time::Instant;

use hull_proto::v1::{
    ContainerConfig, LogConfig, LogEntry, LogOverrun, LogRate, LostReason, StreamLogsRequest, log_rate::Amount,
};
use hull_tests::harness::{AgentOptions, Session, SmallDisk, assert_error, bulk, given, host, wait};
use tonic::Code;

fn limited(max_size: u64, max_files: u32) -> Option<LogConfig> {
    Some(LogConfig { max_size: Some(max_size), max_files: Some(max_files), rate: None })
}

fn rate(amount: Amount, overrun: LogOverrun) -> Option<LogConfig> {
    Some(LogConfig { rate: Some(LogRate { amount: Some(amount), overrun: overrun.into() }), ..LogConfig::default() })
}

/// The files of a log, the oldest first, with their sizes.
fn files(link: &str) -> Vec<(PathBuf, u64)> {
    let entries = fs::read_dir(Path::new(link).parent().expect("a directory")).expect("the container's directory");
    let number = |path: &Path| path.extension()?.to_str()?.parse::<u64>().ok();
    let mut files: Vec<_> = entries
        .filter_map(|entry| {
            let path = entry.expect("an entry").path();
            let size = fs::symlink_metadata(&path).ok()?.len();
            Some((number(&path)?, path, size))
        })
        .collect();
    files.sort();
    files.into_iter().map(|(_, path, size)| (path, size)).collect()
}

fn number(entry: &LogEntry) -> u64 {
    let text = std::str::from_utf8(&entry.line).expect("text");
    text.strip_prefix("line ").and_then(|number| number.parse().ok()).unwrap_or_else(|| panic!("{text:?}"))
}

#[tokio::test]
async fn size_and_number_of_files_are_bounded() {
    let hull = Session::shared().await;
    let config = ContainerConfig { log: limited(256 << 10, 3), ..hull.probe(&["lines", "100000"]) };
    let id = hull.run(config).await;
    hull.wait(&id).await;
    let link = hull.get(&id).await.log_path;
    let files = files(&link);
    assert!(files.len() == 3 && files.iter().all(|(_, size)| *size <= 256 << 10), "{files:?}");
    assert_eq!(fs::read_link(&link).expect("a link"), files[2].0.file_name().expect("a name"));
    // What is left is the end, without a hole.
    let entries = hull.logs(StreamLogsRequest { container: id.clone(), ..Default::default() }).await;
    let first = number(&entries[0]);
    assert!(first > 0 && entries.iter().map(number).eq(first..100_000));
    let tail = StreamLogsRequest { container: id.clone(), tail: Some(8000), ..Default::default() };
    assert!(hull.logs(tail).await.iter().map(number).eq(92_000..100_000));
    // It goes on in the next run, and bounded as before.
    hull.start(&id).await;
    hull.wait(&id).await;
    let tail = StreamLogsRequest { container: id.clone(), tail: Some(1), ..Default::default() };
    assert_eq!(number(&hull.logs(tail).await[0]), 99_999);
    assert_eq!(self::files(&link).len(), 3);
}

/// `HULL_LOG_LINES` of them, 2 million, by [`bulk`], where nobody says otherwise.
#[tokio::test]
async fn every_line_is_there_once_while_the_log_rotates_and_the_agent_is_killed() {
    let lines: u64 = given("HULL_LOG_LINES").unwrap_or_else(|| bulk(2_000_000)) as u64;
    let most = bulk(8 << 20) as u64;
    let mut hull = Session::own().await;
    let config = ContainerConfig { log: limited(most, 1000), ..hull.probe(&["lines", &lines.to_string()]) };
    let id = hull.run(config).await;
    let (mut cursor, mut next, mut rounds) = (String::new(), 0, 0_u64);
    while next < lines {
        let request =
            StreamLogsRequest { container: id.clone(), follow: true, cursor: cursor.clone(), ..Default::default() };
        let mut answers = hull.clients.containers.clone().stream_logs(request).await.expect("StreamLogs").into_inner();
        // An agent lives for a while, the longer the more it is asked for.
        let end = next + lines / 20;
        while next < end {
            let Some(answer) = wait::within("an answer", answers.message()).await.expect("StreamLogs") else { break };
            assert_eq!(answer.lost_files, 0);
            for entry in &answer.entries {
                assert_eq!(number(entry), next);
                next += 1;
            }
            cursor = answer.cursor;
        }
        drop(answers);
        hull.agent.crash_and_restart();
        hull.reconnect().await;
        rounds += 1;
    }
    assert_eq!(next, lines);
    assert!(rounds >= 10);
    hull.wait(&id).await;
    let rest = StreamLogsRequest { container: id.clone(), cursor, follow: true, ..Default::default() };
    assert!(hull.logs(rest).await.is_empty());
    let files = files(&hull.get(&id).await.log_path);
    assert!(files.len() > 5 && files.iter().all(|(_, size)| *size <= most), "{files:?}");
}

#[tokio::test]
async fn a_line_of_a_gigabyte_costs_neither_memory_nor_disk() {
    let hull = Session::own().await;
    let config = ContainerConfig {
        stdin_open: true,
        log: limited(8 << 20, 3),
        ..hull.shell(&format!("head -c {} /dev/zero; echo end; read -r go", bulk(1 << 30)))
    };
    let id = hull.run(config).await;
    // Nothing comes of a line before it is whole.
    let request = StreamLogsRequest { container: id.clone(), tail: Some(1), follow: true, ..Default::default() };
    let mut answers = hull.clients.containers.clone().stream_logs(request).await.expect("StreamLogs").into_inner();
    let end = loop {
        let answer = wait::within("the end", answers.message()).await.expect("StreamLogs").expect("an answer");
        if let Some(end) = answer.entries.into_iter().find(|entry| !entry.partial) {
            break end;
        }
    };
    assert!(end.line.iter().rev().eq(b"dne".iter().chain(&vec![0; end.line.len() - 3])), "{:?}", end.line);
    let shim = host::stat(hull.get(&id).await.pid).expect("init").1;
    assert!(host::peak(shim) < 4 << 20, "{} bytes", host::peak(shim));
    let agent = host::peak(hull.agent.pid());
    assert!(agent < 64 << 20, "{agent} bytes");
    let files = files(&hull.get(&id).await.log_path);
    assert!(files.len() == 3 && files.iter().all(|(_, size)| *size <= 8 << 20), "{files:?}");
}

#[tokio::test]
async fn a_reader_that_comes_back_too_late_is_told_what_is_gone() {
    let hull = Session::shared().await;
    let config =
        ContainerConfig { log: limited(64 << 10, 2), ..hull.shell("echo first; read -r go; /probe lines 20000") };
    let id = hull.run(ContainerConfig { stdin_open: true, ..config }).await;
    hull.until_logged(&id, "first").await;
    let request = StreamLogsRequest { container: id.clone(), ..Default::default() };
    let mut first =
        hull.clients.containers.clone().stream_logs(request.clone()).await.expect("StreamLogs").into_inner();
    let cursor = first.message().await.expect("StreamLogs").expect("an answer").cursor;
    let attached = hull_tests::harness::AttachSession::start(&hull.clients, &id, true, false).await.expect("Attach");
    assert!(attached.stdin("go\n").await);
    hull.wait(&id).await;
    let request = StreamLogsRequest { cursor, ..request };
    let mut late = hull.clients.containers.clone().stream_logs(request.clone()).await.expect("StreamLogs").into_inner();
    let answer = late.message().await.expect("StreamLogs").expect("an answer");
    assert!(answer.lost_files > 2 && number(&answer.entries[0]) > 0, "{}", answer.lost_files);
    for (cursor, tail) in [("nonsense", None), ("999.0", None), ("0.0", Some(1))] {
        let wrong = StreamLogsRequest { cursor: cursor.into(), tail, ..request.clone() };
        let status = hull.clients.containers.clone().stream_logs(wrong).await;
        assert_error(status, Code::InvalidArgument, "INVALID_ARGUMENT", "cursor");
    }
}

#[tokio::test]
async fn above_a_rate_that_drops_nobody_waits_and_the_log_says_how_much_is_missing() {
    let hull = Session::shared().await;
    let log = rate(Amount::Lines(1000), LogOverrun::Drop);
    let id = hull.run(ContainerConfig { log, ..hull.probe(&["lines", "100000"]) }).await;
    hull.wait(&id).await;
    let entries = hull.logs(StreamLogsRequest { container: id.clone(), ..Default::default() }).await;
    let (lost, kept): (Vec<_>, Vec<_>) = entries.iter().partition(|entry| entry.lost.is_some());
    let missing: u64 = lost.iter().filter_map(|entry| entry.lost).map(|lost| lost.lines).sum();
    assert_eq!((kept.len() as u64 + missing, missing > 50_000), (100_000, true));
    assert!(lost.iter().all(|entry| entry.lost.is_some_and(|lost| lost.reason() == LostReason::Rate)));
    // Each gap is where its entry says, and as large.
    let mut next = 0;
    for entry in &entries {
        match entry.lost {
            Some(lost) => next += lost.lines,
            None => {
                assert_eq!(number(entry), next);
                next += 1;
            }
        }
    }
}

#[tokio::test]
async fn above_a_rate_that_blocks_the_container_waits_and_nothing_is_missing() {
    let hull = Session::shared().await;
    let log = rate(Amount::Bytes(40_000), LogOverrun::Block);
    // More than a pipe holds.
    let begin = Instant::now();
    let id = hull.run(ContainerConfig { log, ..hull.probe(&["lines", "20000"]) }).await;
    hull.wait(&id).await;
    assert!(begin.elapsed().as_secs() >= 2, "{:?}", begin.elapsed());
    let entries = hull.logs(StreamLogsRequest { container: id.clone(), ..Default::default() }).await;
    assert!(entries.iter().map(number).eq(0..20_000));
}

#[tokio::test]
async fn a_full_disk_holds_nobody_up_and_is_told_in_the_log_when_there_is_room() {
    let disk = SmallDisk::new(64 << 20, 100_000);
    let hull = Session::own_with(AgentOptions { data_dir: Some(disk.data_dir()), ..AgentOptions::default() }).await;
    let line = "echo before; read -r go; /probe lines 300000; echo written; read -r go; /probe lines 3; echo all-told; sleep 1000";
    let id = hull.run(ContainerConfig { stdin_open: true, log: limited(32 << 20, 2), ..hull.shell(line) }).await;
    hull.until_logged(&id, "before").await;
    let mut attached =
        hull_tests::harness::AttachSession::start(&hull.clients, &id, true, false).await.expect("Attach");
    disk.fill();
    assert!(attached.stdin("go\n").await);
    wait::within("the writer", attached.until("written")).await.expect("output");
    disk.empty();
    assert!(attached.stdin("go\n").await);
    hull.until_logged(&id, "all-told").await;
    let entries = hull.logs(StreamLogsRequest { container: id.clone(), ..Default::default() }).await;
    let lost: Vec<_> = entries.iter().filter_map(|entry| entry.lost).collect();
    assert!(lost.iter().all(|lost| lost.reason() == LostReason::Disk), "{lost:?}");
    let missing: u64 = lost.iter().map(|lost| lost.lines).sum();
    assert!(missing > 250_000, "{lost:?}");
    assert_eq!((entries.len() - lost.len()) as u64 + missing, 1 + 300_000 + 1 + 4);
    drop(attached);
    drop(hull);
    drop(disk);
}

#[tokio::test]
async fn limits_that_make_no_sense_are_refused() {
    let hull = Session::shared().await;
    for (log, field) in [
        (limited(1, 3), "config.log.max_size"),
        (limited(1 << 41, 3), "config.log.max_size"),
        (limited(1 << 20, 0), "config.log.max_files"),
        (limited(1 << 20, 10_001), "config.log.max_files"),
        (rate(Amount::Lines(0), LogOverrun::Drop), "config.log.rate"),
        (rate(Amount::Lines(1), LogOverrun::Unspecified), "config.log.rate.overrun"),
        (Some(LogConfig { rate: Some(LogRate::default()), ..LogConfig::default() }), "config.log.rate"),
    ] {
        let config = ContainerConfig { log, ..hull.probe(&["exit", "0"]) };
        assert_error(hull.try_create(config).await, Code::InvalidArgument, "INVALID_ARGUMENT", field);
    }
}
