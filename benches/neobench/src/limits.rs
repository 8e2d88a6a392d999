//! What the machine can do without neo: the figures that neo's are held against.

use std::fs::OpenOptions;
use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::path::Path;
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use rusqlite::{Connection, params};

use crate::stats::Latencies;

/// Round trips of `bytes` over loopback TCP between two blocking threads.
pub(crate) fn tcp_echo(bytes: usize, rounds: usize) -> Result<Latencies> {
    let listener = TcpListener::bind("127.0.0.1:0")?;
    let address = listener.local_addr()?;
    let server = thread::spawn(move || -> std::io::Result<()> {
        let (mut stream, _) = listener.accept()?;
        stream.set_nodelay(true)?;
        let mut buffer = vec![0; bytes];
        for _ in 0..rounds {
            stream.read_exact(&mut buffer)?;
            stream.write_all(&buffer)?;
        }
        Ok(())
    });
    let mut stream = TcpStream::connect(address)?;
    stream.set_nodelay(true)?;
    let mut buffer = vec![7; bytes];
    let mut latencies = Latencies::default();
    for _ in 0..rounds {
        let start = Instant::now();
        stream.write_all(&buffer)?;
        stream.read_exact(&mut buffer)?;
        latencies.add(start.elapsed());
    }
    server.join().ok().context("the echo server panicked")??;
    Ok(latencies)
}

/// Appends of 4 KiB to a file, each made durable.
pub(crate) fn fsync(dir: &Path, rounds: usize) -> Result<Latencies> {
    let path = dir.join("fsync");
    let mut file = OpenOptions::new().create(true).append(true).open(&path)?;
    let block = [7u8; 4096];
    let mut latencies = Latencies::default();
    for _ in 0..rounds {
        file.write_all(&block)?;
        let start = Instant::now();
        file.sync_data()?;
        latencies.add(start.elapsed());
    }
    std::fs::remove_file(path)?;
    Ok(latencies)
}

/// A transaction's final rows, written straight to SQLite: what a commit costs at least.
#[derive(Debug)]
pub(crate) struct RawSqlite {
    connection: Connection,
    next: i64,
    value: Vec<u8>,
    objects: usize,
}

impl RawSqlite {
    /// An empty database with the tables of neo's SQLite backend that hold committed rows.
    pub(crate) fn create(path: &Path, object_bytes: usize, objects: usize) -> Result<Self> {
        let connection = Connection::open(path)?;
        connection.pragma_update(None, "page_size", 4096)?;
        let mode: String =
            connection.query_row("PRAGMA journal_mode = WAL", [], |row| row.get(0))?;
        ensure!(mode == "wal", "SQLite refused WAL mode here: {mode}");
        connection.pragma_update(None, "synchronous", "FULL")?;
        connection.execute_batch(
            "CREATE TABLE data (id INTEGER PRIMARY KEY, checksum BLOB, compression INTEGER, value BLOB);
             CREATE TABLE obj (partition INTEGER, oid INTEGER, tid INTEGER, data_id INTEGER,
                 data_tid INTEGER, PRIMARY KEY (partition, oid, tid)) WITHOUT ROWID;
             CREATE INDEX obj_tid ON obj (partition, tid, oid);
             CREATE TABLE trans (partition INTEGER, tid INTEGER, reign INTEGER, ttid INTEGER,
                 user BLOB, description BLOB, extension BLOB, packed INTEGER, oids BLOB,
                 PRIMARY KEY (partition, tid)) WITHOUT ROWID;",
        )?;
        let value = crate::workload::incompressible(object_bytes);
        Ok(Self {
            connection,
            next: 1,
            value,
            objects,
        })
    }

    /// Commits `group` transactions with one sync.
    pub(crate) fn commit(&mut self, group: usize) -> Result<()> {
        let transaction = self.connection.transaction()?;
        {
            let mut data = transaction.prepare_cached("INSERT INTO data VALUES (?, ?, 0, ?)")?;
            let mut obj =
                transaction.prepare_cached("INSERT INTO obj VALUES (?, ?, ?, ?, NULL)")?;
            let mut trans = transaction
                .prepare_cached("INSERT INTO trans VALUES (?, ?, 1, ?, x'', x'', x'', 0, ?)")?;
            for _ in 0..group {
                let tid = self.next << 20;
                let mut oids = Vec::with_capacity(8 * self.objects);
                for _ in 0..self.objects {
                    let oid = self.next;
                    self.next += 1;
                    data.execute(params![oid, [0u8; 16], self.value])?;
                    obj.execute(params![oid % 12, oid, tid, oid])?;
                    oids.extend_from_slice(&oid.to_be_bytes());
                }
                trans.execute(params![tid % 12, tid, tid, oids])?;
            }
        }
        transaction.commit()?;
        Ok(())
    }

    /// Transactions a second with groups of `group`, over about `time`.
    pub(crate) fn throughput(&mut self, group: usize, time: Duration) -> Result<f64> {
        let start = Instant::now();
        let mut transactions = 0usize;
        while start.elapsed() < time {
            self.commit(group)?;
            transactions += group;
        }
        Ok(transactions as f64 / start.elapsed().as_secs_f64())
    }

    /// Latencies of single durable commits.
    pub(crate) fn latencies(&mut self, rounds: usize) -> Result<Latencies> {
        let mut latencies = Latencies::default();
        for _ in 0..rounds {
            let start = Instant::now();
            self.commit(1)?;
            latencies.add(start.elapsed());
        }
        Ok(latencies)
    }
}
