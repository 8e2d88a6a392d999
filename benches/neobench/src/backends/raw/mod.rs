//! Databases without neo: direct calls of what neo's backends stand on, with the final rows of each
//! transaction, and nothing that an unfinished one needs.

#[cfg(feature = "fjall")]
mod fjall;
mod kv;
mod redb;
mod server;
mod sled;
mod sqlite;

use std::path::Path;

use anyhow::{Result, bail};

use super::subject::{PARTITIONS, Revision, Subject, Transaction};

/// One batch: values, revisions that have them, by partition and oid, and by partition and tid, and
/// transactions.
#[derive(Debug, Default)]
struct Rows<'a> {
    values: Vec<&'a Revision>,
    revisions: Vec<&'a Revision>,
    /// By tid, with the oids.
    transactions: Vec<(u64, Vec<u8>)>,
}

/// What each of them does its own way.
trait Raw {
    /// Writes a batch, and syncs it if asked.
    fn write(&mut self, rows: &Rows<'_>, sync: bool) -> Result<()>;

    /// The newest value of an object: its size.
    fn load(&mut self, oid: u64) -> Result<usize>;

    /// The values of a partition in the order of their tids: their size.
    fn scan(&mut self, partition: u64) -> Result<u64>;
}

/// Opens a database without neo, as an adapter would with it.
pub(super) fn open(adapter: &str, database: &str) -> Result<Box<dyn Subject>> {
    let uri = database.strip_prefix("file:").unwrap_or_default();
    let (path, settings) = uri.split_once('?').unwrap_or_default();
    let path = Path::new(path);
    Ok(match adapter {
        "Memory" => Box::new(Direct(kv::Direct(kv::Memory::default()))),
        "SQLite" => Box::new(Direct(sqlite::Sqlite::open(path)?)),
        "Sled" => Box::new(Direct(kv::Direct(sled::Sled::open(path)?))),
        "Redb" => Box::new(Direct(kv::Direct(redb::Redb::open(
            path,
            settings == "quick_repair=on",
        )?))),
        #[cfg(feature = "fjall")]
        "Fjall" => Box::new(Direct(kv::Direct(fjall::Fjall::open(path)?))),
        "MySQL" => Box::new(Direct(server::Server::open(database)?)),
        _ => bail!("there is nothing raw of {adapter}"),
    })
}

struct Direct<R>(R);

fn transaction_row(transaction: &Transaction) -> Option<(u64, Vec<u8>)> {
    let first = transaction.first()?;
    let oids = transaction.iter().flat_map(|r| r.oid.to_be_bytes());
    Some((first.tid, oids.collect()))
}

impl<R: Raw> Subject for Direct<R> {
    fn fill(&mut self, transaction: Transaction) -> Result<()> {
        let rows = Rows {
            values: transaction.iter().collect(),
            revisions: transaction.iter().collect(),
            transactions: transaction_row(&transaction).into_iter().collect(),
        };
        self.0.write(&rows, false)
    }

    fn sync(&mut self) -> Result<()> {
        self.0.write(&Rows::default(), true)
    }

    fn commit(&mut self, group: Vec<Transaction>) -> Result<()> {
        let values = Rows {
            values: group.iter().flatten().collect(),
            ..Rows::default()
        };
        self.0.write(&values, true)?;
        let finals = Rows {
            revisions: group.iter().flatten().collect(),
            transactions: group.iter().filter_map(transaction_row).collect(),
            ..Rows::default()
        };
        self.0.write(&finals, true)
    }

    fn load(&mut self, oid: u64) -> Result<usize> {
        self.0.load(oid)
    }

    fn scan(&mut self) -> Result<u64> {
        (0..PARTITIONS).map(|p| self.0.scan(p)).sum()
    }

    fn pack(&mut self) -> Result<Option<u64>> {
        Ok(None)
    }

    fn close(self: Box<Self>) -> Result<()> {
        Ok(())
    }
}
