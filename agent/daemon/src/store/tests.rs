use std::io::{BufRead, BufReader};
use std::process::{Command, Stdio};

use super::*;

fn put(table: Table, key: &str, value: &[u8]) -> Write {
    Write::Put { table, key: key.into(), value: value.into() }
}

fn delete(table: Table, key: &str) -> Write {
    Write::Delete { table, key: key.into() }
}

fn rows(rows: &[(&str, &[u8])]) -> Vec<(String, Vec<u8>)> {
    rows.iter().map(|(key, value)| ((*key).to_owned(), value.to_vec())).collect()
}

#[test]
fn what_was_committed_is_seen_at_once_and_after_reopening() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("hull.redb");
    let store = Store::open(&path).unwrap();
    commit(&store, vec![put(Table::Containers, "a", b"1"), put(Table::Containers, "b", b"2")]).unwrap();
    commit(&store, vec![put(Table::Containers, "a", b"3"), put(Table::Images, "a", b"other table")]).unwrap();
    commit(&store, vec![delete(Table::Containers, "b"), delete(Table::Containers, "never there")]).unwrap();
    store.commit_durable_blocking(vec![put(Table::Containers, "c", b"")]).unwrap();
    commit(&store, vec![put(Table::Containers, "d", b"4")]).unwrap();
    let expected = rows(&[("a", b"3"), ("c", b""), ("d", b"4")]);
    assert_eq!(store.scan(Table::Containers).unwrap(), expected);
    drop(store);
    let store = Store::open(&path).unwrap();
    assert_eq!(store.scan(Table::Containers).unwrap(), expected);
    assert_eq!(store.scan(Table::Images).unwrap(), rows(&[("a", b"other table")]));
    assert_eq!(store.scan(Table::Tombstones).unwrap(), rows(&[]));
}

#[tokio::test]
async fn commits_side_by_side_all_arrive() {
    let dir = tempfile::tempdir().unwrap();
    let store = Store::open(&dir.path().join("hull.redb")).unwrap();
    let tasks = (0..200).map(|n| {
        let store = store.clone();
        tokio::spawn(async move {
            let write = vec![put(Table::Specs, &format!("{n:03}"), b"x")];
            if n % 50 == 0 { store.commit_durable_blocking(write) } else { store.commit(write).await }
        })
    });
    for task in tasks.collect::<Vec<_>>() {
        task.await.unwrap().unwrap();
    }
    assert_eq!(store.scan(Table::Specs).unwrap().len(), 200);
}

#[test]
fn a_newer_schema_is_refused_by_name() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("hull.redb");
    let redb = redb::Database::create(&path).unwrap();
    let transaction = redb.begin_write().unwrap();
    let meta = redb::TableDefinition::<&str, u64>::new("meta");
    transaction.open_table(meta).unwrap().insert("schema", 7).unwrap();
    transaction.commit().unwrap();
    drop(redb);
    let error = Store::open(&path).unwrap_err();
    assert_eq!(error.reason, Reason::UnsupportedFeature);
    assert!(error.message.contains("schema version 7"), "{error}");
}

#[test]
fn a_database_that_is_open_is_refused() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("hull.redb");
    let _store = Store::open(&path).unwrap();
    let error = Store::open(&path).unwrap_err();
    assert_eq!(error.reason, Reason::InvalidState, "{error}");
}

#[test]
fn a_damaged_database_is_set_aside() {
    let damages: [fn(&mut Vec<u8>); 5] = [
        |bytes| bytes.fill(0),
        |bytes| *bytes = vec![0; 100_000],
        |bytes| bytes[64..].fill(0xa5),
        |bytes| bytes.truncate(5000),
        |bytes| bytes[4096..].fill(0),
    ];
    for damage in damages {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("hull.redb");
        let store = Store::open(&path).unwrap();
        store.commit_durable_blocking(vec![put(Table::Images, "a", b"1")]).unwrap();
        drop(store);
        let mut bytes = std::fs::read(&path).unwrap();
        damage(&mut bytes);
        std::fs::write(&path, &bytes).unwrap();
        let store = Store::open(&path).unwrap();
        assert_eq!(store.scan(Table::Images).unwrap(), rows(&[]));
        store.commit_durable_blocking(vec![put(Table::Images, "b", b"2")]).unwrap();
        let kept = std::fs::read_dir(dir.path()).unwrap().flatten();
        assert_eq!(kept.filter(|entry| entry.file_name().to_string_lossy().contains(".corrupt-")).count(), 1);
    }
}

#[test]
fn values_above_the_bound_are_refused() {
    let dir = tempfile::tempdir().unwrap();
    let store = Store::open(&dir.path().join("hull.redb")).unwrap();
    let error = commit(&store, vec![put(Table::Images, "a", &vec![0; VALUE_MAX + 1])]).unwrap_err();
    assert_eq!(error.reason, Reason::LimitExceeded);
}

const VICTIM: &str = "HULL_STORE_TEST_VICTIM";

/// Not a test of its own: the process that the next test kills. Says each number once its commit was acknowledged.
#[test]
fn victim() {
    let Some(path) = std::env::var_os(VICTIM) else { return };
    let store = Store::open(Path::new(&path)).unwrap();
    let next = store.scan(Table::Containers).unwrap().len();
    for number in next.. {
        let writes = vec![
            put(Table::Containers, &format!("{number:08}"), &number.to_le_bytes()),
            put(Table::Tombstones, "last", &number.to_le_bytes()),
        ];
        if number % 97 == 0 { store.commit_durable_blocking(writes) } else { commit(&store, writes) }.unwrap();
        use std::io::Write as _;
        writeln!(std::io::stderr(), "{number}").unwrap();
    }
}

#[test]
fn sigkill_loses_nothing_that_was_acknowledged() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("hull.redb");
    for round in 0..8u64 {
        let mut child = Command::new(std::env::current_exe().unwrap())
            .args(["--exact", "store::tests::victim", "--nocapture"])
            .env(VICTIM, &path)
            .stdout(Stdio::null())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        let mut lines = BufReader::new(child.stderr.take().unwrap()).lines();
        let mut last = lines.next().unwrap().unwrap();
        std::thread::sleep(std::time::Duration::from_millis(20 + round * 170));
        child.kill().unwrap();
        child.wait().unwrap();
        for line in lines.map_while(Result::ok).filter(|line| line.parse::<u64>().is_ok()) {
            last = line;
        }
        let last: usize = last.parse().unwrap();
        let store = Store::open(&path).unwrap();
        let containers = store.scan(Table::Containers).unwrap();
        assert!(containers.len() > last, "{} records after {last} was acknowledged", containers.len());
        for (number, (key, value)) in containers.iter().enumerate() {
            assert_eq!((key.as_str(), value.as_slice()), (format!("{number:08}").as_str(), &number.to_le_bytes()[..]));
        }
        let newest = containers.len() - 1;
        assert_eq!(store.scan(Table::Tombstones).unwrap(), rows(&[("last", &newest.to_le_bytes())]));
    }
}

/// A commit that only has to survive SIGKILL, from a test without a runtime.
fn commit(store: &Store, writes: Vec<Write>) -> Result<()> {
    tokio::runtime::Builder::new_current_thread().build().unwrap().block_on(store.commit(writes))
}
