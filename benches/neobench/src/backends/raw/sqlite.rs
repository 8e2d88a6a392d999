//! SQLite, in tables alike to those of neo.

use std::path::Path;

use anyhow::{Result, ensure};
use rusqlite::{Connection, params};

use super::{Raw, Rows};
use crate::backends::CACHE_BYTES;
use crate::backends::subject::PARTITIONS;

#[derive(Debug)]
pub(super) struct Sqlite(Connection);

impl Sqlite {
    pub(super) fn open(path: &Path) -> Result<Self> {
        let connection = Connection::open(path)?;
        connection.pragma_update(None, "page_size", 4096)?;
        let mode: String =
            connection.query_row("PRAGMA journal_mode = WAL", [], |row| row.get(0))?;
        ensure!(mode == "wal", "SQLite refused WAL mode here: {mode}");
        connection.pragma_update(None, "synchronous", "FULL")?;
        connection.pragma_update(None, "cache_size", -((CACHE_BYTES >> 10) as i64))?;
        connection.execute_batch(
            "CREATE TABLE IF NOT EXISTS value (id INTEGER PRIMARY KEY, value BLOB);
             CREATE TABLE IF NOT EXISTS revision (partition INTEGER, oid INTEGER, tid INTEGER,
                 value INTEGER, PRIMARY KEY (partition, oid, tid)) WITHOUT ROWID;
             CREATE INDEX IF NOT EXISTS history ON revision (partition, tid, oid);
             CREATE TABLE IF NOT EXISTS trans (partition INTEGER, tid INTEGER, oids BLOB,
                 PRIMARY KEY (partition, tid)) WITHOUT ROWID;",
        )?;
        Ok(Self(connection))
    }
}

impl Raw for Sqlite {
    fn write(&mut self, rows: &Rows<'_>, sync: bool) -> Result<()> {
        self.0
            .pragma_update(None, "synchronous", if sync { "FULL" } else { "NORMAL" })?;
        let transaction = self.0.transaction()?;
        {
            let mut insert = transaction.prepare_cached("INSERT INTO value VALUES (?, ?)")?;
            for revision in &rows.values {
                insert.execute(params![revision.data as i64, &revision.value[..]])?;
            }
            let mut insert =
                transaction.prepare_cached("INSERT INTO revision VALUES (?, ?, ?, ?)")?;
            for revision in &rows.revisions {
                let partition = (revision.oid % PARTITIONS) as i64;
                insert.execute(params![
                    partition,
                    revision.oid as i64,
                    revision.tid as i64,
                    revision.data as i64
                ])?;
            }
            let mut insert = transaction.prepare_cached("INSERT INTO trans VALUES (?, ?, ?)")?;
            for (tid, oids) in &rows.transactions {
                insert.execute(params![(tid % PARTITIONS) as i64, *tid as i64, oids])?;
            }
        }
        Ok(transaction.commit()?)
    }

    fn load(&mut self, oid: u64) -> Result<usize> {
        let mut select = self.0.prepare_cached(
            "SELECT value.value FROM revision JOIN value ON value.id = revision.value
             WHERE partition = ? AND oid = ? ORDER BY tid DESC LIMIT 1",
        )?;
        let partition = (oid % PARTITIONS) as i64;
        let value: Vec<u8> = select.query_row([partition, oid as i64], |row| row.get(0))?;
        Ok(value.len())
    }

    fn scan(&mut self, partition: u64) -> Result<u64> {
        let mut select = self.0.prepare_cached(
            "SELECT value.value FROM revision JOIN value ON value.id = revision.value
             WHERE partition = ? ORDER BY tid, oid",
        )?;
        let mut bytes = 0;
        let mut rows = select.query([partition as i64])?;
        while let Some(row) = rows.next()? {
            let value: Vec<u8> = row.get(0)?;
            bytes += value.len() as u64;
        }
        Ok(bytes)
    }
}
