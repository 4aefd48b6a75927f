//! SQLite as a cache: the schema and the statements of python-diskcache 5.6.3, in Rust.
//!
//! Settings: the defaults of diskcache's `core.py` (`DEFAULT_SETTINGS`): write-ahead log,
//! `synchronous` NORMAL, a page cache of 8192 pages, 64 MiB mapped, `auto_vacuum` FULL; the
//! unique index on key and raw, the indexes on expiry and store time (its default eviction
//! policy), and the triggers that keep count and size. A put survives the death of the process.
//! Statements are prepared once for each connection, of which each thread that works at once has
//! one, as in diskcache.
//!
//! What is left out, in favour of SQLite: the search for expired and surplus rows after each put
//! (`cull_limit`), the counts of hits, the codecs, and files of their own for values from 32 KiB
//! on, which stay in their rows here.
//!
//! A put is diskcache's transaction of its own (`BEGIN IMMEDIATE`, look for the row, insert or
//! update). diskcache has no batches, but transactions (`Cache.transact`), which make a batch
//! here, and one read transaction makes a reader. As durable: `synchronous` FULL. Compaction is
//! `VACUUM`.

use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use rusqlite::{Connection, OptionalExtension, params};

use super::pool::Pool;
use super::{DiskEngine, DiskReader, DiskRival};
use crate::Result;

pub(super) const ENGINE: DiskEngine = DiskEngine {
    name: "sqlite",
    settings: "diskcache's schema; write-ahead log, synchronous NORMAL",
    batches: true,
    transactions: true,
    many: "one transaction",
    evicts: false,
    open: |dir, _| Ok(Box::new(Sqlite::open(dir, "NORMAL")?)),
    durable: Some(|dir, _| Ok(Box::new(Sqlite::open(dir, "FULL")?))),
};

const SCHEMA: &str = "
    CREATE TABLE IF NOT EXISTS Settings (key TEXT NOT NULL UNIQUE, value);
    INSERT OR IGNORE INTO Settings VALUES ('count', 0), ('size', 0);
    CREATE TABLE IF NOT EXISTS Cache (
        rowid INTEGER PRIMARY KEY,
        key BLOB,
        raw INTEGER,
        store_time REAL,
        expire_time REAL,
        access_time REAL,
        access_count INTEGER DEFAULT 0,
        tag BLOB,
        size INTEGER DEFAULT 0,
        mode INTEGER DEFAULT 0,
        filename TEXT,
        value BLOB
    );
    CREATE UNIQUE INDEX IF NOT EXISTS Cache_key_raw ON Cache (key, raw);
    CREATE INDEX IF NOT EXISTS Cache_expire_time ON Cache (expire_time);
    CREATE INDEX IF NOT EXISTS Cache_store_time ON Cache (store_time);
    CREATE TRIGGER IF NOT EXISTS Settings_count_insert AFTER INSERT ON Cache FOR EACH ROW
        BEGIN UPDATE Settings SET value = value + 1 WHERE key = 'count'; END;
    CREATE TRIGGER IF NOT EXISTS Settings_count_delete AFTER DELETE ON Cache FOR EACH ROW
        BEGIN UPDATE Settings SET value = value - 1 WHERE key = 'count'; END;
    CREATE TRIGGER IF NOT EXISTS Settings_size_insert AFTER INSERT ON Cache FOR EACH ROW
        BEGIN UPDATE Settings SET value = value + NEW.size WHERE key = 'size'; END;
    CREATE TRIGGER IF NOT EXISTS Settings_size_update AFTER UPDATE ON Cache FOR EACH ROW
        BEGIN UPDATE Settings SET value = value + NEW.size - OLD.size WHERE key = 'size'; END;
    CREATE TRIGGER IF NOT EXISTS Settings_size_delete AFTER DELETE ON Cache FOR EACH ROW
        BEGIN UPDATE Settings SET value = value - OLD.size WHERE key = 'size'; END;";
const FIND: &str = "SELECT rowid FROM Cache WHERE key = ? AND raw = 1";
const INSERT: &str = "INSERT INTO Cache (key, raw, store_time, expire_time, access_time, \
    access_count, tag, size, mode, filename, value) \
    VALUES (?, 1, ?, NULL, ?, 0, NULL, 0, 1, NULL, ?)";
const UPDATE: &str = "UPDATE Cache SET store_time = ?, expire_time = NULL, access_time = ?, \
    access_count = 0, tag = NULL, size = 0, mode = 1, filename = NULL, value = ? WHERE rowid = ?";
const SELECT: &str = "SELECT rowid, expire_time, tag, mode, filename, value FROM Cache \
    WHERE key = ? AND raw = 1 AND (expire_time IS NULL OR expire_time > ?)";
const DELETE: &str = "DELETE FROM Cache WHERE rowid = ?";
/// diskcache's default, in which a writer waits for the others.
const TIMEOUT: Duration = Duration::from_secs(60);

struct Sqlite {
    path: PathBuf,
    synchronous: &'static str,
    connections: Pool<Connection>,
}

impl Sqlite {
    fn open(dir: &Path, synchronous: &'static str) -> Result<Self> {
        let path = dir.join("cache.db");
        let connection = connect(&path, synchronous)?;
        connection.execute_batch(SCHEMA)?;
        Ok(Self { path, synchronous, connections: Pool::new(connection) })
    }

    /// Does something with a connection that is this thread's alone. One that failed is closed,
    /// which rolls back.
    fn with<T>(&self, work: impl FnOnce(&Connection) -> Result<T>) -> Result<T> {
        let connection = self.take()?;
        let result = work(&connection)?;
        self.connections.leave(connection);
        Ok(result)
    }

    fn take(&self) -> Result<Connection> {
        self.connections.take(|| connect(&self.path, self.synchronous))
    }

    /// Does something in a write transaction of its own.
    fn transact(&self, work: impl FnOnce(&Connection) -> Result<()>) -> Result<()> {
        self.with(|connection| {
            connection.prepare_cached("BEGIN IMMEDIATE")?.execute([])?;
            work(connection)?;
            connection.prepare_cached("COMMIT")?.execute([])?;
            Ok(())
        })
    }
}

fn connect(path: &Path, synchronous: &str) -> Result<Connection> {
    let connection = Connection::open(path)?;
    connection.busy_timeout(TIMEOUT)?;
    connection.execute_batch(&format!(
        "PRAGMA auto_vacuum = 1; PRAGMA cache_size = 8192; PRAGMA journal_mode = wal; \
         PRAGMA mmap_size = 67108864; PRAGMA synchronous = {synchronous};"
    ))?;
    Ok(connection)
}

fn now() -> f64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0.0, |time| time.as_secs_f64())
}

fn find(connection: &Connection, key: &[u8]) -> Result<Option<i64>> {
    Ok(connection.prepare_cached(FIND)?.query_row([key], |row| row.get(0)).optional()?)
}

fn put(connection: &Connection, key: &[u8], value: &[u8]) -> Result<()> {
    let now = now();
    if let Some(row) = find(connection, key)? {
        connection.prepare_cached(UPDATE)?.execute(params![now, now, value, row])?;
    } else {
        connection.prepare_cached(INSERT)?.execute(params![key, now, now, value])?;
    }
    Ok(())
}

fn get(connection: &Connection, key: &[u8], look: &mut dyn FnMut(&[u8])) -> Result<bool> {
    let mut select = connection.prepare_cached(SELECT)?;
    let mut rows = select.query(params![key, now()])?;
    let Some(row) = rows.next()? else { return Ok(false) };
    look(row.get_ref(5)?.as_blob()?);
    Ok(true)
}

impl DiskRival for Sqlite {
    fn put(&self, key: &[u8], value: &[u8]) -> Result<()> {
        self.transact(|connection| put(connection, key, value))
    }

    fn put_batch(&self, records: &mut dyn Iterator<Item = ([u8; 16], &[u8])>) -> Result<()> {
        self.transact(|connection| {
            for (key, value) in records {
                put(connection, &key, value)?;
            }
            Ok(())
        })
    }

    fn get(&self, key: &[u8], look: &mut dyn FnMut(&[u8])) -> Result<bool> {
        self.with(|connection| get(connection, key, look))
    }

    fn reader(&self) -> Result<Box<dyn DiskReader + '_>> {
        let connection = self.take()?;
        connection.prepare_cached("BEGIN")?.execute([])?;
        Ok(Box::new(Reader { store: self, connection: Some(connection) }))
    }

    fn delete(&self, key: &[u8]) -> Result<()> {
        self.transact(|connection| {
            if let Some(row) = find(connection, key)? {
                connection.prepare_cached(DELETE)?.execute([row])?;
            }
            Ok(())
        })
    }

    /// A checkpoint writes the log back and syncs the database.
    fn sync(&self) -> Result<()> {
        self.with(|connection| {
            Ok(connection.query_row("PRAGMA wal_checkpoint(TRUNCATE)", [], |_| Ok(()))?)
        })
    }

    fn compact(&mut self) -> Result<bool> {
        self.with(|connection| Ok(connection.execute_batch("VACUUM")?))?;
        self.sync()?;
        Ok(true)
    }
}

struct Reader<'a> {
    store: &'a Sqlite,
    /// Only ever `None` while it is dropped.
    connection: Option<Connection>,
}

impl DiskReader for Reader<'_> {
    fn get(&mut self, key: &[u8], look: &mut dyn FnMut(&[u8])) -> Result<bool> {
        let connection = self.connection.as_ref().ok_or("the reader has ended")?;
        get(connection, key, look)
    }
}

impl Drop for Reader<'_> {
    fn drop(&mut self) {
        if let Some(connection) = self.connection.take()
            && connection.execute_batch("COMMIT").is_ok()
        {
            self.store.connections.leave(connection);
        }
    }
}
