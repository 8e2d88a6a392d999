//! The tables, and how a file becomes a database of ours.
//!
//! Ids are integers; tids and oids sort as they are, both being below 2^63. `partition` comes
//! first in the keys, so that what a node holds of a partition lies together and goes together.

use std::path::Path;
use std::time::{Duration, Instant};

use neo_api::{BackendError, BackendResult};
use rusqlite::config::DbConfig;
use rusqlite::{Connection, OpenFlags};
use tracing::{info, warn};

use super::error::Doing;
use super::{SqliteSettings, Synchronous};
use crate::lock;

/// "neo1", in the header of the file: tells our databases from others.
const APPLICATION_ID: i64 = 0x6e65_6f31;

/// In the header of the file as its `user_version`.
const VERSION: i64 = 3;

/// Bytes of a page: what a small commit dirties is logged by whole pages, and values of 4 KiB,
/// which overflow into a page of their own, take less of the file than with pages of 8 or 16 KiB.
const PAGE_BYTES: u64 = 4096;

const TABLES: &str = "
-- Numbers about the database: clean (it was closed), synced (see `Writer`); np, replicas, reign,
-- ptid and last_storage of the partition table, once there is one.
CREATE TABLE meta (key TEXT PRIMARY KEY, value INTEGER NOT NULL) WITHOUT ROWID;

CREATE TABLE config (key TEXT PRIMARY KEY, value BLOB NOT NULL) WITHOUT ROWID;

-- Cells, with the version of the table that assigned them.
CREATE TABLE pt (
    partition INTEGER NOT NULL, nid INTEGER NOT NULL,
    state INTEGER NOT NULL, reign INTEGER NOT NULL, ptid INTEGER NOT NULL,
    PRIMARY KEY (partition, nid)
) WITHOUT ROWID;

-- Values. reign, ttid: the transaction that they were written for, of those in loose. shared: the
-- bytes are those of this id in shared.
CREATE TABLE data (
    id INTEGER PRIMARY KEY,
    reign INTEGER, ttid INTEGER,
    compression INTEGER NOT NULL, checksum BLOB NOT NULL, value BLOB NOT NULL,
    shared INTEGER
);

-- Bytes that are kept once for all that are equal, and how many have them. id: that of the first.
-- The two are apart: a count that changes must not take room for the bytes.
CREATE TABLE shared (id INTEGER PRIMARY KEY, count INTEGER NOT NULL, checksum BLOB NOT NULL);
CREATE TABLE shared_value (id INTEGER PRIMARY KEY, value BLOB NOT NULL);
CREATE INDEX shared_checksum ON shared (checksum);

-- Committed revisions. data_id: NULL for a deletion. data_tid: the revision that it repeats.
-- shared: another revision of the object may have the same value.
CREATE TABLE obj (
    partition INTEGER NOT NULL, oid INTEGER NOT NULL, tid INTEGER NOT NULL,
    data_id INTEGER, data_tid INTEGER, shared INTEGER NOT NULL,
    PRIMARY KEY (partition, oid, tid)
) WITHOUT ROWID;
CREATE INDEX obj_history ON obj (partition, tid, oid);

-- Committed transactions. oids: 8 bytes each, big-endian. late: ttid, unless the tid is soon after
-- it, where a transaction is found by its name without an index: see `row::SOON`. pack: what it
-- orders, see `pack::encode_order`; NULL unless it does.
CREATE TABLE trans (
    partition INTEGER NOT NULL, tid INTEGER NOT NULL,
    reign INTEGER, ttid INTEGER, late INTEGER, packed INTEGER NOT NULL,
    user BLOB NOT NULL, description BLOB NOT NULL, extension BLOB NOT NULL, oids BLOB NOT NULL,
    pack BLOB,
    PRIMARY KEY (partition, tid)
) WITHOUT ROWID;
CREATE INDEX trans_pack ON trans (partition, tid) WHERE pack IS NOT NULL;
CREATE INDEX trans_name ON trans (partition, late, reign) WHERE late IS NOT NULL;

-- Transactions that have voted, if they are small, with all that is theirs: see `small`.
CREATE TABLE voted (id INTEGER PRIMARY KEY, transactions BLOB NOT NULL);

-- The others. tid: once locked. oids: NULL on a node without the metadata.
CREATE TABLE unfinished (
    reign INTEGER NOT NULL, ttid INTEGER NOT NULL,
    tid INTEGER, user BLOB, description BLOB, extension BLOB, oids BLOB, pack BLOB, packed INTEGER,
    PRIMARY KEY (reign, ttid)
) WITHOUT ROWID;

-- Their objects, in parcels of one operation each: see `pending`.
CREATE TABLE pending (
    reign INTEGER NOT NULL, ttid INTEGER NOT NULL, seq INTEGER NOT NULL,
    least INTEGER NOT NULL, greatest INTEGER NOT NULL, objects BLOB NOT NULL,
    PRIMARY KEY (reign, ttid, seq)
) WITHOUT ROWID;

-- Values of data that no revision has claimed yet, but for those that came with a small
-- transaction.
CREATE TABLE loose (
    reign INTEGER NOT NULL, ttid INTEGER NOT NULL, id INTEGER NOT NULL,
    PRIMARY KEY (reign, ttid, id)
) WITHOUT ROWID;

INSERT INTO meta VALUES ('clean', 1), ('synced', 0);
";

/// From each version to the next one.
const UPGRADES: [&str; VERSION as usize - 1] = [UPGRADE_1, UPGRADE_2];

/// Transactions ordered no packs, and none had been packed when it was voted.
const UPGRADE_1: &str = "
ALTER TABLE trans ADD COLUMN pack BLOB;
CREATE INDEX trans_pack ON trans (partition, tid) WHERE pack IS NOT NULL;
ALTER TABLE unfinished ADD COLUMN pack BLOB;
ALTER TABLE unfinished ADD COLUMN packed INTEGER;
";

/// No values were shared.
const UPGRADE_2: &str = "
ALTER TABLE data ADD COLUMN shared INTEGER;
CREATE TABLE shared (id INTEGER PRIMARY KEY, count INTEGER NOT NULL, checksum BLOB NOT NULL);
CREATE TABLE shared_value (id INTEGER PRIMARY KEY, value BLOB NOT NULL);
CREATE INDEX shared_checksum ON shared (checksum);
";

/// Opens the connection that writes; creates the database, or checks that it is one of ours.
pub(super) fn open_writer(path: &Path, settings: &SqliteSettings) -> BackendResult<Connection> {
    let flags = OpenFlags::SQLITE_OPEN_READ_WRITE
        | OpenFlags::SQLITE_OPEN_CREATE
        | OpenFlags::SQLITE_OPEN_NO_MUTEX;
    let conn = Connection::open_with_flags(path, flags).doing("opening")?;
    conn.busy_timeout(Duration::from_secs(5)).doing("opening")?;
    keep_plans(&conn)?;
    let found = inspect(&conn, path)?;
    let is_new = found == Found::Nothing;
    if is_new {
        let page = format!("PRAGMA page_size = {PAGE_BYTES}");
        conn.execute_batch(&page)
            .doing("choosing the size of pages")?;
    }
    let mode: String = conn
        .query_row("PRAGMA journal_mode = WAL", [], |row| row.get(0))
        .doing("choosing a write-ahead log")?;
    if mode != "wal" {
        let what = "a file system without the shared memory of a write-ahead log".to_owned();
        return Err(BackendError::Unsupported(what));
    }
    let cache = settings.cache_bytes / 2 / 1024;
    // What SQLite keeps to undo a statement stays in memory: no other disk may fail a batch.
    let limits = format!(
        "PRAGMA cache_size = -{cache}; PRAGMA journal_size_limit = {};
        PRAGMA temp_store = MEMORY;",
        super::checkpoint::LOG_BYTES_MAX
    );
    conn.execute_batch(&limits).doing("configuring")?;
    if let Some(bytes) = settings.max_database_bytes {
        let pages = (bytes / page_bytes(&conn)?).max(1);
        let limit = format!("PRAGMA max_page_count = {pages}");
        conn.query_row(&limit, [], |_| Ok(()))
            .doing("limiting the size")?;
    }
    set_synchronous(&conn, settings, true)?;
    conn.set_prepared_statement_cache_capacity(64);
    if is_new {
        let create = format!(
            "BEGIN IMMEDIATE; {TABLES} PRAGMA application_id = {APPLICATION_ID};
            PRAGMA user_version = {VERSION}; COMMIT;"
        );
        conn.execute_batch(&create).doing("creating the tables")?;
        lock::sync_directory(path)?;
    }
    if let Found::Version(version @ 1..VERSION) = found {
        info!(database = %path.display(), "upgrading the tables to version {VERSION}");
        let upgrades = UPGRADES[version as usize - 1..].concat();
        let upgrade =
            format!("BEGIN IMMEDIATE; {upgrades} PRAGMA user_version = {VERSION}; COMMIT;");
        conn.execute_batch(&upgrade).doing("upgrading the tables")?;
    }
    Ok(conn)
}

/// Opens a connection that only reads; a writer has the database open.
pub(super) fn open_reader(path: &Path, cache_bytes: u64) -> BackendResult<Connection> {
    let flags = OpenFlags::SQLITE_OPEN_READ_ONLY | OpenFlags::SQLITE_OPEN_NO_MUTEX;
    let conn = Connection::open_with_flags(path, flags).doing("opening for reading")?;
    conn.busy_timeout(Duration::from_secs(5)).doing("opening")?;
    keep_plans(&conn)?;
    let cache = format!("PRAGMA cache_size = -{}", cache_bytes / 1024);
    conn.execute_batch(&cache).doing("configuring")?;
    conn.set_prepared_statement_cache_capacity(64);
    Ok(conn)
}

/// A statement is planned once, when it is prepared. SQLite would look at what is bound to its
/// parameters, and for that prepare many of them again each time; no plan of ours depends on it.
fn keep_plans(conn: &Connection) -> BackendResult<()> {
    conn.set_db_config(DbConfig::SQLITE_DBCONFIG_ENABLE_QPSG, true)
        .doing("configuring")?;
    Ok(())
}

/// Bytes of a page of this file, which may be of an earlier version.
pub(super) fn page_bytes(conn: &Connection) -> BackendResult<u64> {
    let bytes: i64 = conn
        .query_row("PRAGMA page_size", [], |row| row.get(0))
        .doing("reading the page size")?;
    Ok(bytes.max(512).unsigned_abs())
}

/// With a log, `FULL` syncs it at each commit; `NORMAL` only before its pages move to the file.
pub(super) fn set_synchronous(
    conn: &Connection,
    settings: &SqliteSettings,
    synced: bool,
) -> BackendResult<()> {
    let level = match (settings.synchronous, synced) {
        (Synchronous::Off, _) => "PRAGMA synchronous = OFF",
        (Synchronous::Full, true) => "PRAGMA synchronous = FULL",
        (Synchronous::Full, false) => "PRAGMA synchronous = NORMAL",
    };
    conn.execute_batch(level).doing("choosing when to sync")
}

/// What a file is before it is used.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Found {
    Nothing,
    /// A database of ours.
    Version(i64),
}

/// What is in the file; refuses one that is not ours. Nothing is written.
fn inspect(conn: &Connection, path: &Path) -> BackendResult<Found> {
    let number =
        |pragma: &str| -> rusqlite::Result<i64> { conn.query_row(pragma, [], |row| row.get(0)) };
    let incompatible = |why: String| {
        Err(BackendError::Incompatible {
            what: path.display().to_string(),
            why,
        })
    };
    let tables = match number("SELECT count(*) FROM sqlite_schema") {
        Ok(tables) => tables,
        Err(error) if error.sqlite_error_code() == Some(rusqlite::ErrorCode::NotADatabase) => {
            return incompatible("it is not an SQLite database".to_owned());
        }
        Err(error) => return Err(error).doing("opening"),
    };
    let application = number("PRAGMA application_id").doing("opening")?;
    if application == 0 && tables == 0 {
        return Ok(Found::Nothing);
    }
    if application != APPLICATION_ID {
        return incompatible("it is an SQLite database of something else".to_owned());
    }
    let version = number("PRAGMA user_version").doing("opening")?;
    if !(1..=VERSION).contains(&version) {
        return incompatible(format!(
            "its schema has version {version}, this one knows 1 to {VERSION}"
        ));
    }
    Ok(Found::Version(version))
}

/// Notes durably that the database is in use; checks it when it was so already.
pub(super) fn begin_use(
    conn: &mut Connection,
    path: &Path,
    settings: &SqliteSettings,
) -> BackendResult<()> {
    let clean: i64 = conn
        .query_row("SELECT value FROM meta WHERE key = 'clean'", [], |row| {
            row.get(0)
        })
        .doing("reading whether it was closed")?;
    if clean == 0 {
        check(conn, path, settings)?;
    }
    set_clean(conn, false)
}

/// Notes durably whether the database is closed.
pub(super) fn set_clean(conn: &Connection, clean: bool) -> BackendResult<()> {
    conn.execute("UPDATE meta SET value = ?1 WHERE key = 'clean'", [clean])
        .doing("noting whether it is closed")?;
    Ok(())
}

fn check(conn: &mut Connection, path: &Path, settings: &SqliteSettings) -> BackendResult<()> {
    let pages: i64 = conn
        .query_row("PRAGMA page_count", [], |row| row.get(0))
        .doing("reading the size")?;
    let bytes = pages.unsigned_abs().saturating_mul(page_bytes(conn)?);
    let shown = path.display();
    if bytes > settings.quick_check_bytes_max {
        warn!(database = %shown, bytes, "was not closed; it is too large to be checked");
        return Ok(());
    }
    info!(database = %shown, bytes, "was not closed: checking it");
    let begun = Instant::now();
    let mut told = 0;
    let progress = move || {
        let seconds = begun.elapsed().as_secs();
        if seconds >= told + 5 {
            told = seconds;
            info!(seconds, bytes, "still checking");
        }
        false
    };
    conn.progress_handler(10_000, Some(progress))
        .doing("watching the check")?;
    let outcome = conn.query_row("PRAGMA quick_check(1)", [], |row| row.get::<_, String>(0));
    conn.progress_handler(0, None::<fn() -> bool>)
        .doing("watching the check")?;
    let outcome = outcome.doing("checking")?;
    if outcome == "ok" {
        info!(database = %shown, seconds = begun.elapsed().as_secs_f64(), "checked");
        return Ok(());
    }
    Err(BackendError::Corrupt(outcome))
}
