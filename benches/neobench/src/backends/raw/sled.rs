//! sled, in one tree; synced as neo does, since `flush` alone does not reach the disk.

use std::fs::File;
use std::path::Path;

use anyhow::Result;

use super::kv::{Store, Table};
use crate::backends::CACHE_BYTES;

#[derive(Debug)]
pub(super) struct Sled {
    db: sled::Db,
    log: File,
}

impl Sled {
    pub(super) fn open(path: &Path) -> Result<Self> {
        let db = sled::Config::new()
            .path(path)
            .cache_capacity(CACHE_BYTES)
            .open()?;
        let log = File::open(path.join("db"))?;
        Ok(Self { db, log })
    }
}

fn row(table: Table, key: &[u8]) -> Vec<u8> {
    [&[table as u8], key].concat()
}

impl Store for Sled {
    fn put(&mut self, rows: Vec<(Table, Vec<u8>, &[u8])>, sync: bool) -> Result<()> {
        let mut batch = sled::Batch::default();
        for (table, key, value) in rows {
            batch.insert(row(table, &key), value);
        }
        self.db.apply_batch(batch)?;
        if sync {
            self.db.flush()?;
            self.log.sync_data()?;
        }
        Ok(())
    }

    fn get(&self, table: Table, key: &[u8]) -> Result<Option<Vec<u8>>> {
        Ok(self.db.get(row(table, key))?.map(|value| value.to_vec()))
    }

    fn last(&self, table: Table, from: &[u8], to: &[u8]) -> Result<Option<Vec<u8>>> {
        let last = self.db.range(row(table, from)..=row(table, to)).next_back();
        Ok(last.transpose()?.map(|(_, value)| value.to_vec()))
    }

    fn each(
        &self,
        table: Table,
        from: &[u8],
        to: &[u8],
        call: &mut dyn FnMut(&[u8]) -> Result<()>,
    ) -> Result<()> {
        for found in self.db.range(row(table, from)..row(table, to)) {
            call(&found?.1)?;
        }
        Ok(())
    }
}
