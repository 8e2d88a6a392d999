//! fjall, a keyspace of its own for each table. No backend of neo stands on it; it is here to be
//! looked at.

use std::path::Path;

use anyhow::Result;
use fjall::{Database, Keyspace, PersistMode};

use super::kv::{Store, Table};
use crate::backends::CACHE_BYTES;
use crate::backends::fjall::options;

pub(super) struct Fjall {
    db: Database,
    tables: Vec<Keyspace>,
}

impl Fjall {
    pub(super) fn open(path: &Path) -> Result<Self> {
        let db = Database::builder(path).cache_size(CACHE_BYTES).open()?;
        let open = |table: Table| {
            let has_values = table == Table::Values;
            db.keyspace(&format!("{table:?}"), || options(has_values))
        };
        let tables = Table::ALL.into_iter().map(open);
        let tables = tables.collect::<Result<_, _>>()?;
        Ok(Self { db, tables })
    }

    fn table(&self, table: Table) -> &Keyspace {
        &self.tables[table as usize]
    }
}

impl Store for Fjall {
    fn put(&mut self, rows: Vec<(Table, Vec<u8>, &[u8])>, sync: bool) -> Result<()> {
        let mut batch = self.db.batch();
        for (table, key, value) in rows {
            batch.insert(self.table(table), key, value);
        }
        batch.commit()?;
        if sync {
            self.db.persist(PersistMode::SyncData)?;
        }
        Ok(())
    }

    fn get(&self, table: Table, key: &[u8]) -> Result<Option<Vec<u8>>> {
        Ok(self.table(table).get(key)?.map(|value| value.to_vec()))
    }

    fn last(&self, table: Table, from: &[u8], to: &[u8]) -> Result<Option<Vec<u8>>> {
        let last = self.table(table).range(from..=to).next_back();
        let last = last.map(|row| row.value()).transpose()?;
        Ok(last.map(|value| value.to_vec()))
    }

    fn each(
        &self,
        table: Table,
        from: &[u8],
        to: &[u8],
        call: &mut dyn FnMut(&[u8]) -> Result<()>,
    ) -> Result<()> {
        for row in self.table(table).range(from..to) {
            call(&row.value()?)?;
        }
        Ok(())
    }
}
