//! The redb file: tables, schema version, and how far the journal has been applied.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{ErrorKind, Read};
use std::panic::catch_unwind;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{SystemTime, UNIX_EPOCH};

use redb::{DatabaseError, ReadableDatabase, ReadableTable, StorageError, TableDefinition};

use super::Table;
use super::writer::Changes;
use crate::error::{Error, Reason, Result};

/// Version of the tables and of the records in them; raised when an older hull could no longer read them.
const SCHEMA: u64 = 1;
const META: TableDefinition<'_, &str, u64> = TableDefinition::new("meta");
const META_SCHEMA: &str = "schema";
const META_APPLIED: &str = "applied";
/// redb's page cache in bytes; the records themselves are kept in memory by their owners.
const CACHE: usize = 4 << 20;
/// First bytes of every redb file (redb, docs/design.md).
const MAGIC: &[u8] = b"redb\x1a\x0a\xa9\x0d\x0a";

pub(super) const TABLES: [Table; 6] =
    [Table::Containers, Table::Images, Table::ImageNames, Table::Specs, Table::Tombstones, Table::Events];

impl Table {
    const fn definition(self) -> TableDefinition<'static, &'static str, &'static [u8]> {
        TableDefinition::new(match self {
            Self::Containers => "containers",
            Self::Images => "images",
            Self::ImageNames => "image_names",
            Self::Specs => "specs",
            Self::Tombstones => "tombstones",
            Self::Events => "events",
        })
    }
}

#[derive(Debug)]
pub(super) struct Database {
    /// `None` after a failed write, until it could be opened anew: redb refuses all work after an error of the disk.
    redb: Mutex<Option<Arc<redb::Database>>>,
    path: PathBuf,
}

impl Database {
    pub(super) fn open(path: &Path) -> Result<Self> {
        let redb = match open(path) {
            Ok(redb) => redb,
            Err(error) if is_corrupt(&error) => {
                set_aside(path, &error)?;
                open(path).map_err(|error| failed("opening", path, error))?
            }
            Err(error) => return Err(failed("opening", path, error)),
        };
        let database = Self { redb: Mutex::new(Some(Arc::new(redb))), path: path.to_owned() };
        database.prepare()?;
        if let Some(parent) = path.parent() {
            let sync = File::open(parent).and_then(|directory| directory.sync_all());
            sync.map_err(|error| Error::io(format!("syncing {}", parent.display()), &error))?;
        }
        Ok(database)
    }

    /// Checks the schema version; makes what a new database lacks.
    fn prepare(&self) -> Result<()> {
        match self.meta(META_SCHEMA)? {
            Some(SCHEMA) if self.has_all_tables()? => Ok(()),
            Some(other) if other != SCHEMA => {
                let line = format!(
                    "the database {} has schema version {other}, this hulld knows version {SCHEMA}",
                    self.path.display()
                );
                let hint = "start the hulld that wrote it, or begin anew with another data directory";
                Err(Error::new(Reason::UnsupportedFeature, line).hint(hint))
            }
            _ => self.write(|transaction| {
                transaction.open_table(META)?.insert(META_SCHEMA, SCHEMA)?;
                for table in TABLES {
                    transaction.open_table(table.definition())?;
                }
                Ok(())
            }),
        }
    }

    /// A database of an older hull lacks some.
    fn has_all_tables(&self) -> Result<bool> {
        self.read(|transaction| Ok(transaction.list_tables()?.count() > TABLES.len()))
    }

    /// Number of the last journal record that is in the database.
    pub(super) fn applied(&self) -> Result<u64> {
        Ok(self.meta(META_APPLIED)?.unwrap_or(0))
    }

    /// Applies the changes of the journal's records up to `last` and syncs.
    pub(super) fn apply(&self, changes: &Changes, last: u64) -> Result<()> {
        self.write(|transaction| {
            for ((table, key), value) in changes {
                let mut table = transaction.open_table(table.definition())?;
                match value {
                    Some(value) => drop(table.insert(key.as_str(), value.as_slice())?),
                    None => drop(table.remove(key.as_str())?),
                }
            }
            transaction.open_table(META)?.insert(META_APPLIED, last)?;
            Ok(())
        })
    }

    pub(super) fn get(&self, table: Table, key: &str) -> Result<Option<Vec<u8>>> {
        self.read(|transaction| {
            let rows = transaction.open_table(table.definition())?;
            Ok(rows.get(key)?.map(|value| value.value().to_vec()))
        })
    }

    pub(super) fn scan(&self, table: Table) -> Result<BTreeMap<String, Vec<u8>>> {
        self.read(|transaction| {
            let rows = transaction.open_table(table.definition())?;
            let mut records = BTreeMap::new();
            for row in rows.iter()? {
                let (key, value) = row?;
                records.insert(key.value().to_owned(), value.value().to_vec());
            }
            Ok(records)
        })
    }

    /// The database as it is now, for [`Self::scan_from`].
    pub(super) fn snapshot(&self) -> Result<redb::ReadTransaction> {
        let begin = || -> Result<_, redb::Error> { Ok(self.opened()?.begin_read()?) };
        begin().map_err(|error| failed("reading", &self.path, error))
    }

    /// The first `most` records from a key on.
    pub(super) fn scan_from(
        &self,
        snapshot: &redb::ReadTransaction,
        table: Table,
        from: &str,
        most: usize,
    ) -> Result<BTreeMap<String, Vec<u8>>> {
        let scan = || -> Result<_, redb::Error> {
            let rows = snapshot.open_table(table.definition())?;
            let mut records = BTreeMap::new();
            for row in rows.range(from..)?.take(most) {
                let (key, value) = row?;
                records.insert(key.value().to_owned(), value.value().to_vec());
            }
            Ok(records)
        };
        scan().map_err(|error| failed("reading", &self.path, error))
    }

    /// The last key of a table.
    pub(super) fn last(&self, table: Table) -> Result<Option<String>> {
        self.read(|transaction| {
            let rows = transaction.open_table(table.definition())?;
            Ok(rows.last()?.map(|(key, _)| key.value().to_owned()))
        })
    }

    fn meta(&self, key: &str) -> Result<Option<u64>> {
        self.read(|transaction| match transaction.open_table(META) {
            Ok(table) => Ok(table.get(key)?.map(|value| value.value())),
            Err(redb::TableError::TableDoesNotExist(_)) => Ok(None),
            Err(error) => Err(error.into()),
        })
    }

    fn read<T>(&self, query: impl FnOnce(&redb::ReadTransaction) -> Result<T, redb::Error>) -> Result<T> {
        let snapshot = self.snapshot()?;
        query(&snapshot).map_err(|error| failed("reading", &self.path, error))
    }

    fn write(&self, change: impl FnOnce(&redb::WriteTransaction) -> Result<(), redb::Error>) -> Result<()> {
        let redb = self.opened().map_err(|error| failed("opening", &self.path, error))?;
        let write = || -> Result<(), redb::Error> {
            let transaction = redb.begin_write()?;
            change(&transaction)?;
            Ok(transaction.commit()?)
        };
        write().map_err(|error| {
            *self.handle() = None;
            failed("writing", &self.path, error)
        })
    }

    /// The database, opened anew after a failed write. Held meanwhile: only one can have the file open.
    fn opened(&self) -> Result<Arc<redb::Database>, DatabaseError> {
        let mut handle = self.handle();
        if let Some(redb) = &*handle {
            return Ok(Arc::clone(redb));
        }
        let redb = Arc::new(open(&self.path)?);
        *handle = Some(Arc::clone(&redb));
        Ok(redb)
    }

    fn handle(&self) -> MutexGuard<'_, Option<Arc<redb::Database>>> {
        self.redb.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Opens the file, or makes it.
fn open(path: &Path) -> Result<redb::Database, DatabaseError> {
    let corrupt = |what: &str| DatabaseError::Storage(StorageError::Corrupted(what.to_owned()));
    // redb takes a file that starts with zeros for one that it began to make, whatever its length.
    let mut start = Vec::new();
    match File::open(path) {
        Ok(file) => drop(file.take(MAGIC.len() as u64).read_to_end(&mut start)?),
        Err(error) if error.kind() == ErrorKind::NotFound => {}
        Err(error) => return Err(error.into()),
    }
    if !start.is_empty() && start != MAGIC {
        return Err(corrupt("it does not start as a database"));
    }
    // The file is small: verifying every page at each start costs little, and a damaged one is found before it is
    // trusted. redb panics on some damage all the same.
    let open = || redb::Builder::new().set_cache_size(CACHE).set_check_integrity_on_open(true).create(path);
    catch_unwind(open).unwrap_or_else(|_| Err(corrupt("it is damaged beyond what redb can tell")))
}

/// Whether the file is there but cannot be redb's any more. redb reports a bad magic number as `InvalidData`.
fn is_corrupt(error: &DatabaseError) -> bool {
    match error {
        DatabaseError::Storage(StorageError::Corrupted(_)) => true,
        DatabaseError::Storage(StorageError::Io(error)) => {
            matches!(error.kind(), ErrorKind::InvalidData | ErrorKind::UnexpectedEof)
        }
        _ => false,
    }
}

/// Renames the file, so that nothing that may still be saved from it is lost.
fn set_aside(path: &Path, error: &DatabaseError) -> Result<()> {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |now| now.as_secs());
    let mut name = path.as_os_str().to_owned();
    name.push(format!(".corrupt-{now}"));
    std::fs::rename(path, &name).map_err(|error| Error::io(format!("renaming {}", path.display()), &error))?;
    tracing::error!(
        database = %path.display(), kept_as = %name.display(), %error,
        "the database is damaged and was set aside; images are read anew from the content store, records of stopped \
         containers are lost"
    );
    Ok(())
}

fn failed(verb: &str, path: &Path, error: impl Into<redb::Error>) -> Error {
    let what = format!("{verb} the database {}", path.display());
    match error.into() {
        redb::Error::Io(error) => Error::io(what, &error),
        redb::Error::DatabaseAlreadyOpen => {
            Error::new(Reason::InvalidState, format!("{what}: another process has it open"))
                .hint("one hulld per data directory; stop the other one")
        }
        other => Error::new(Reason::System, format!("{what}: {other}")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn after_a_failed_write_there_is_still_something_to_read() {
        let dir = tempfile::tempdir().unwrap();
        let database = Database::open(&dir.path().join("hull.redb")).unwrap();
        let changes = Changes::from([((Table::Images, "a".to_owned()), Some(b"1".to_vec()))]);
        database.apply(&changes, 1).unwrap();
        let failed = database.write(|_| Err(redb::Error::PreviousIo));
        assert!(failed.is_err());
        assert_eq!(database.get(Table::Images, "a").unwrap(), Some(b"1".to_vec()));
        database.apply(&changes, 2).unwrap();
        assert_eq!(database.applied().unwrap(), 2);
    }
}
