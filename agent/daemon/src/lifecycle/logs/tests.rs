use std::fmt::Write as _;
use std::io::Write as _;

use proptest::prelude::*;

use super::*;

/// A log file in a directory of its own.
struct Log {
    directory: tempfile::TempDir,
}

impl Log {
    fn new(contents: &[u8]) -> Self {
        let log = Self { directory: tempfile::tempdir().unwrap() };
        log.append(contents);
        log
    }

    fn path(&self) -> PathBuf {
        self.directory.path().join("log")
    }

    fn append(&self, contents: &[u8]) {
        self.append_to(0, contents);
    }

    fn file(&self, number: u64) -> PathBuf {
        self.directory.path().join(format!("log.{number}"))
    }

    fn append_to(&self, number: u64, contents: &[u8]) {
        let mut file = File::options().create(true).append(true).open(self.file(number)).unwrap();
        file.write_all(contents).unwrap();
    }

    fn read(&self, options: LogOptions) -> Vec<LogEntry> {
        drain(&mut LogReader::open(&self.path(), options).unwrap())
    }
}

fn drain(reader: &mut LogReader) -> Vec<LogEntry> {
    let mut entries = Vec::new();
    loop {
        let batch = reader.next_batch().unwrap();
        assert_eq!(batch.lost_files, 0);
        if batch.entries.is_empty() {
            return entries;
        }
        entries.extend(batch.entries);
    }
}

fn lines(entries: &[LogEntry]) -> Vec<&[u8]> {
    entries.iter().map(|entry| entry.line.as_ref()).collect()
}

fn tail(lines: u32) -> LogOptions {
    LogOptions { tail: Some(lines), ..LogOptions::default() }
}

const SAMPLE: &[u8] = b"2024-05-01T10:00:00.000000001Z stdout F one\n\
2024-05-01T10:00:01.000000001+00:00 stderr F two\n\
2024-05-01T10:00:02.5Z stdout P thr\n\
2024-05-01T10:00:02.6Z stderr F between\n\
2024-05-01T10:00:02.7Z stdout F ee\n\
2024-05-01T10:00:03Z stdout F \n";

#[test]
fn entries_are_what_was_written() {
    let entries = Log::new(SAMPLE).read(LogOptions::default());
    assert_eq!(lines(&entries), [b"one".as_slice(), b"two", b"thr", b"between", b"ee", b""]);
    assert_eq!(entries[0].time, 1_714_557_600_000_000_001);
    assert_eq!((entries[1].stream, entries[1].partial), (LogStream::Stderr, false));
    assert_eq!((entries[2].stream, entries[2].partial), (LogStream::Stdout, true));
}

#[test]
fn content_is_bytes() {
    let log = Log::new(b"2024-05-01T10:00:00Z stdout F  \xff\x00\x1b[31m  x \n");
    assert_eq!(lines(&log.read(LogOptions::default())), [b" \xff\x00\x1b[31m  x ".as_slice()]);
}

#[test]
fn tail_counts_lines_not_pieces() {
    let log = Log::new(SAMPLE);
    assert_eq!(lines(&log.read(tail(0))), Vec::<&[u8]>::new());
    assert_eq!(lines(&log.read(tail(1))), [b"".as_slice()]);
    assert_eq!(lines(&log.read(tail(2))), [b"thr".as_slice(), b"ee", b""]);
    assert_eq!(lines(&log.read(tail(3))), [b"thr".as_slice(), b"between", b"ee", b""]);
    assert_eq!(log.read(tail(5)).len(), 6);
    assert_eq!(log.read(tail(u32::MAX)).len(), 6);
}

#[test]
fn times_and_stream_narrow() {
    let log = Log::new(SAMPLE);
    let second = 1_714_557_601_000_000_001;
    let since = LogOptions { since: Some(second), ..LogOptions::default() };
    assert_eq!(log.read(since.clone()).len(), 5);
    let until = LogOptions { until: Some(second), ..LogOptions::default() };
    assert_eq!(lines(&log.read(until)), [b"one".as_slice()]);
    let errors = LogOptions { stream: Some(LogStream::Stderr), ..LogOptions::default() };
    assert_eq!(lines(&log.read(errors.clone())), [b"two".as_slice(), b"between"]);
    assert_eq!(lines(&log.read(LogOptions { tail: Some(1), ..errors })), [b"between".as_slice()]);
    assert_eq!(log.read(LogOptions { tail: Some(9), ..since }).len(), 5);
}

#[test]
fn nothing_is_read_after_the_wanted_time() {
    let log = Log::new(&numbered(0, 3));
    let until = LogOptions { until: Some(1_714_557_602_000_000_000), ..LogOptions::default() };
    let mut reader = LogReader::open(&log.path(), until).unwrap();
    let batch = reader.next_batch().unwrap();
    assert_eq!((numbers(&batch.entries), batch.over), (vec![0, 1], true));
    // However much is written meanwhile.
    log.append(&numbered(3, 50));
    let batch = reader.next_batch().unwrap();
    assert_eq!((batch.entries.len(), batch.over), (0, true));
    assert!(reader.buffer.len() < BLOCK);
}

#[test]
fn what_is_torn_or_foreign_is_left_out() {
    let mut contents = b"\0\0\0\0garbage\n2024-13-01T10:00:00Z stdout F bad month\n".to_vec();
    contents.extend(b"2024-05-01T10:00:00Z stdout X bad tag\nstdout F no time\n\n");
    contents.extend(SAMPLE);
    contents.extend(b"2024-05-01T10:00:04Z stdout F tor");
    let log = Log::new(&contents);
    assert_eq!(log.read(LogOptions::default()).len(), 6);
    assert_eq!(log.read(tail(100)).len(), 6);
}

#[test]
fn a_line_that_is_being_written_comes_when_it_is_whole() {
    for options in [LogOptions::default(), tail(0), tail(1), tail(50)] {
        let log = Log::new(b"2024-05-01T10:00:00Z stdout F one\n2024-05-01T10:00:04Z std");
        let mut reader = LogReader::open(&log.path(), options).unwrap();
        let before = drain(&mut reader).len();
        assert!(before <= 1);
        log.append(b"err F two\n");
        assert_eq!(lines(&drain(&mut reader)), [b"two".as_slice()]);
    }
}

#[test]
fn a_line_of_any_length_costs_bounded_memory() {
    let mut contents = b"2024-05-01T10:00:00Z stdout F ".to_vec();
    contents.resize(3 * MAX_LINE, b'x');
    contents.push(b'\n');
    contents.extend(b"2024-05-01T10:00:00Z stdout F after\n");
    let log = Log::new(&contents);
    let mut reader = LogReader::open(&log.path(), LogOptions::default()).unwrap();
    assert_eq!(lines(&drain(&mut reader)), [b"after".as_slice()]);
    assert!(reader.buffer.capacity() <= 2 * (MAX_LINE + BLOCK));
    assert_eq!(lines(&log.read(tail(5))), [b"after".as_slice()]);
}

#[test]
fn batches_are_bounded_and_complete() {
    let mut contents = String::new();
    for number in 0..40_000 {
        writeln!(contents, "2024-05-01T10:00:00Z stdout F line {number:06}").unwrap();
    }
    let log = Log::new(contents.as_bytes());
    let mut reader = LogReader::open(&log.path(), LogOptions::default()).unwrap();
    let first = reader.next_batch().unwrap().entries;
    assert!(first.len() < 10_000, "{}", first.len());
    assert_eq!(first.len() + drain(&mut reader).len(), 40_000);
    let last = log.read(tail(20_000));
    assert_eq!((last.len(), last[0].line.as_ref()), (20_000, b"line 020000".as_slice()));
}

#[test]
fn a_log_that_comes_later_is_found() {
    let log = Log { directory: tempfile::tempdir().unwrap() };
    let mut reader = LogReader::open(&log.path(), tail(5)).unwrap();
    assert!(drain(&mut reader).is_empty());
    log.append(SAMPLE);
    assert_eq!(drain(&mut reader).len(), 6);
}

/// Lines "FIRST" to "FIRST+COUNT-1", a second apart.
fn numbered(first: u64, count: u64) -> Vec<u8> {
    (first..first + count)
        .flat_map(|n| format!("2024-05-01T10:{:02}:{:02}Z stdout F {n}\n", n / 60, n % 60).into_bytes())
        .collect()
}

fn numbers(entries: &[LogEntry]) -> Vec<u64> {
    entries.iter().map(|entry| String::from_utf8_lossy(&entry.line).parse().unwrap()).collect()
}

#[test]
fn a_rotated_log_is_followed() {
    let log = Log::new(&numbered(0, 5));
    let mut reader = LogReader::open(&log.path(), LogOptions::default()).unwrap();
    assert_eq!(drain(&mut reader).len(), 5);
    log.append(&numbered(5, 1));
    log.append_to(1, &numbered(6, 2));
    log.append_to(2, b"");
    assert_eq!(numbers(&drain(&mut reader)), [5, 6, 7]);
    log.append_to(2, &numbered(8, 1));
    // The torn end of a file with a successor is the end of nothing.
    log.append_to(2, b"2024-05-01T10:00:09Z stdout F to");
    assert_eq!(numbers(&drain(&mut reader)), [8]);
    log.append_to(3, &numbered(9, 1));
    assert_eq!(numbers(&drain(&mut reader)), [9]);
}

#[test]
fn files_that_went_before_they_were_read_are_told() {
    let log = Log::new(&numbered(0, 3));
    let mut reader = LogReader::open(&log.path(), LogOptions::default()).unwrap();
    assert_eq!(drain(&mut reader).len(), 3);
    log.append(&numbered(3, 1));
    (1..5).for_each(|number| log.append_to(number, &numbered(10 * number, 2)));
    (0..3).for_each(|number| std::fs::remove_file(log.file(number)).unwrap());
    // What it has open is not lost.
    let batch = reader.next_batch().unwrap();
    assert_eq!((numbers(&batch.entries), batch.lost_files), (vec![3], 0));
    let batch = reader.next_batch().unwrap();
    assert_eq!((numbers(&batch.entries), batch.lost_files), (vec![30, 31, 40, 41], 2));
    assert!(drain(&mut reader).is_empty());
}

#[test]
fn a_reader_goes_on_where_another_ended() {
    let log = Log::new(&numbered(0, 4));
    log.append(b"2024-05-01T10:00:04Z std");
    let mut reader = LogReader::open(&log.path(), LogOptions::default()).unwrap();
    let place = reader.next_batch().unwrap().next;
    let from = |place: Place| LogReader::open(&log.path(), LogOptions { from: Some(place), ..LogOptions::default() });
    assert!(drain(&mut from(place).unwrap()).is_empty());
    log.append(b"out F 4\n");
    log.append_to(1, &numbered(5, 2));
    assert_eq!(numbers(&drain(&mut from(place.to_string().parse().unwrap()).unwrap())), [4, 5, 6]);
    std::fs::remove_file(log.file(0)).unwrap();
    let batch = from(place).unwrap().next_batch().unwrap();
    assert_eq!((numbers(&batch.entries), batch.lost_files), (vec![5, 6], 1));
    for foreign in ["1.100000", "7.0"] {
        assert!(from(foreign.parse().unwrap()).is_err(), "{foreign}");
    }
    for wrong in ["", "1", "1.", ".1", "1.2.3", "-1.0", "a.b"] {
        assert!(wrong.parse::<Place>().is_err(), "{wrong}");
    }
}

#[test]
fn tail_and_since_go_over_files() {
    let log = Log::new(&numbered(0, 10));
    log.append_to(1, &numbered(10, 10));
    log.append_to(2, &numbered(20, 1));
    log.append_to(3, b"");
    for count in [0, 1, 2, 11, 12, 21, 30] {
        let read = numbers(&log.read(tail(count)));
        assert_eq!(read, (21_u64.saturating_sub(count.into())..21).collect::<Vec<_>>(), "the last {count}");
    }
    for second in [0, 5, 9, 10, 15, 20, 21] {
        let since = Some((1_714_557_600 + second) * 1_000_000_000);
        let read = numbers(&log.read(LogOptions { since, ..LogOptions::default() }));
        assert_eq!(read, (second..21).collect::<Vec<_>>(), "since {second}");
    }
    assert_eq!(bytes(&log.path()), numbered(0, 21).len() as u64);
}

#[test]
fn a_log_without_numbers_is_read() {
    let log = Log { directory: tempfile::tempdir().unwrap() };
    std::fs::write(log.path(), numbered(0, 3)).unwrap();
    let mut reader = LogReader::open(&log.path(), LogOptions::default()).unwrap();
    assert_eq!(drain(&mut reader).len(), 3);
    std::fs::rename(log.path(), log.file(0)).unwrap();
    std::os::unix::fs::symlink("log.0", log.path()).unwrap();
    log.append(&numbered(3, 1));
    assert_eq!(numbers(&drain(&mut reader)), [3]);
}

#[test]
fn what_was_lost_is_told_by_tags() {
    let mut contents = b"2024-05-01T10:00:00Z stdout F:lost:lines=12:bytes=34:reason=rate hull: some text\n".to_vec();
    contents.extend(b"2024-05-01T10:00:00Z stdout F lost:lines=1\n2024-05-01T10:00:00Z stdout F:other x\n");
    let entries = Log::new(&contents).read(LogOptions::default());
    let lost = LostOutput { lines: 12, bytes: 34, reason: hull_wire::LostReason::Rate };
    assert_eq!(entries.iter().map(|entry| entry.lost).collect::<Vec<_>>(), [Some(lost), None, None]);
    assert_eq!(entries[0].line.as_ref(), b"hull: some text");
}

#[tokio::test]
async fn the_watch_wakes_when_the_log_grows() {
    let log = Log::new(SAMPLE);
    let watch = LogWatch::new(&log.path()).unwrap();
    let start = std::time::Instant::now();
    let writer = std::thread::spawn(move || {
        std::thread::sleep(std::time::Duration::from_millis(50));
        log.append(SAMPLE);
        log
    });
    watch.changed().await.unwrap();
    assert!(start.elapsed() < std::time::Duration::from_millis(900), "{:?}", start.elapsed());
    writer.join().unwrap();
}

/// The lines that `tail` must give, found the simple way: forwards, line by line.
fn expected_tail(entries: &[LogEntry], count: usize) -> Vec<LogEntry> {
    let mut wholes: Vec<Vec<usize>> = Vec::new();
    let mut open: [Option<usize>; 2] = [None, None];
    for (index, entry) in entries.iter().enumerate() {
        let open = &mut open[entry.stream as usize];
        let whole = *open.get_or_insert_with(|| {
            wholes.push(Vec::new());
            wholes.len() - 1
        });
        wholes[whole].push(index);
        if !entry.partial {
            *open = None;
        }
    }
    wholes.sort_by_key(|pieces| *pieces.last().unwrap());
    let mut kept: Vec<usize> = wholes.iter().rev().take(count).flatten().copied().collect();
    kept.sort_unstable();
    kept.into_iter().map(|index| entries[index].clone()).collect()
}

proptest! {
    #[test]
    fn tail_is_the_end_of_the_whole(
        pieces in proptest::collection::vec((any::<bool>(), any::<bool>(), 0usize..40), 0..60), count in 0u32..12
    ) {
        let mut contents = String::new();
        for (index, (error, partial, length)) in pieces.iter().enumerate() {
            let (stream, tag) = (if *error { "stderr" } else { "stdout" }, if *partial { "P" } else { "F" });
            writeln!(contents, "2024-05-01T10:00:00Z {stream} {tag} {index}{}", "x".repeat(length * 400)).unwrap();
        }
        let log = Log::new(contents.as_bytes());
        let all = log.read(LogOptions::default());
        prop_assert_eq!(all.len(), pieces.len());
        let count_usize = usize::try_from(count).unwrap();
        prop_assert_eq!(log.read(tail(count)), expected_tail(&all, count_usize));
    }
}
