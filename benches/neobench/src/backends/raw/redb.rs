//! redb, a table of its own for each.

use std::path::Path;

use anyhow::Result;
use redb::{Database, Durability, ReadableDatabase, TableDefinition};

use super::kv::{Store, Table};
use crate::backends::CACHE_BYTES;

type Definition = TableDefinition<'static, &'static [u8], &'static [u8]>;

const fn definition(table: Table) -> Definition {
    TableDefinition::new(match table {
        Table::Values => "values",
        Table::Revisions => "revisions",
        Table::History => "history",
        Table::Transactions => "transactions",
    })
}

#[derive(Debug)]
pub(super) struct Redb {
    db: Database,
    quick_repair: bool,
}

impl Redb {
    pub(super) fn open(path: &Path, quick_repair: bool) -> Result<Self> {
        let mut builder = Database::builder();
        builder.set_cache_size(usize::try_from(CACHE_BYTES)?);
        let db = builder.create(path)?;
        let transaction = db.begin_write()?;
        for table in Table::ALL {
            transaction.open_table(definition(table))?;
        }
        transaction.commit()?;
        Ok(Self { db, quick_repair })
    }
}

impl Store for Redb {
    fn put(&mut self, rows: Vec<(Table, Vec<u8>, &[u8])>, sync: bool) -> Result<()> {
        let mut transaction = self.db.begin_write()?;
        if sync {
            transaction.set_quick_repair(self.quick_repair);
        } else {
            transaction.set_durability(Durability::None)?;
        }
        for table in Table::ALL {
            let mut of_it = rows.iter().filter(|row| row.0 == table).peekable();
            if of_it.peek().is_some() {
                let mut table = transaction.open_table(definition(table))?;
                for (_, key, value) in of_it {
                    table.insert(&key[..], value)?;
                }
            }
        }
        Ok(transaction.commit()?)
    }

    fn get(&self, table: Table, key: &[u8]) -> Result<Option<Vec<u8>>> {
        let table = self.db.begin_read()?.open_table(definition(table))?;
        Ok(table.get(key)?.map(|value| value.value().to_vec()))
    }

    fn last(&self, table: Table, from: &[u8], to: &[u8]) -> Result<Option<Vec<u8>>> {
        let table = self.db.begin_read()?.open_table(definition(table))?;
        let last = table.range::<&[u8]>(from..=to)?.next_back().transpose()?;
        Ok(last.map(|(_, value)| value.value().to_vec()))
    }

    fn each(
        &self,
        table: Table,
        from: &[u8],
        to: &[u8],
        call: &mut dyn FnMut(&[u8]) -> Result<()>,
    ) -> Result<()> {
        let table = self.db.begin_read()?.open_table(definition(table))?;
        for found in table.range::<&[u8]>(from..to)? {
            call(found?.1.value())?;
        }
        Ok(())
    }
}
