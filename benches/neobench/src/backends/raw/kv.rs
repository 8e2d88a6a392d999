//! Rows in an ordered key-value store.

use std::collections::BTreeMap;

use anyhow::{Context, Result};

use super::{Raw, Rows};
use crate::backends::subject::PARTITIONS;

/// Tables, which a store keeps apart as it likes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Table {
    /// By id: a value.
    Values,
    /// By partition, oid and tid: the id of a value.
    Revisions,
    /// By partition, tid and oid: the same.
    History,
    /// By partition and tid: oids.
    Transactions,
}

impl Table {
    pub(super) const ALL: [Self; 4] = [
        Self::Values,
        Self::Revisions,
        Self::History,
        Self::Transactions,
    ];
}

/// What is called of a store.
pub(super) trait Store {
    /// Sets keys, together, and syncs if asked.
    fn put(&mut self, rows: Vec<(Table, Vec<u8>, &[u8])>, sync: bool) -> Result<()>;

    /// Reads the value of a key.
    fn get(&self, table: Table, key: &[u8]) -> Result<Option<Vec<u8>>>;

    /// The value of the greatest key between two, both included.
    fn last(&self, table: Table, from: &[u8], to: &[u8]) -> Result<Option<Vec<u8>>>;

    /// Calls with the value of each key from one to below another.
    fn each(
        &self,
        table: Table,
        from: &[u8],
        to: &[u8],
        call: &mut dyn FnMut(&[u8]) -> Result<()>,
    ) -> Result<()>;
}

/// Rows as keys and values.
#[derive(Debug)]
pub(super) struct Direct<S>(pub(super) S);

fn key(partition: u64, a: u64, b: u64) -> Vec<u8> {
    let partition = (partition as u32).to_be_bytes();
    [&partition[..], &a.to_be_bytes(), &b.to_be_bytes()].concat()
}

impl<S: Store> Raw for Direct<S> {
    fn write(&mut self, rows: &Rows<'_>, sync: bool) -> Result<()> {
        let ids: Vec<[u8; 8]> = rows
            .revisions
            .iter()
            .map(|r| r.data.to_be_bytes())
            .collect();
        let mut puts: Vec<(Table, Vec<u8>, &[u8])> = Vec::new();
        for revision in &rows.values {
            let id = revision.data.to_be_bytes().to_vec();
            puts.push((Table::Values, id, &revision.value));
        }
        for (revision, id) in rows.revisions.iter().zip(&ids) {
            let (oid, tid) = (revision.oid, revision.tid);
            puts.push((Table::Revisions, key(oid % PARTITIONS, oid, tid), id));
            puts.push((Table::History, key(oid % PARTITIONS, tid, oid), id));
        }
        for (tid, oids) in &rows.transactions {
            puts.push((Table::Transactions, key(tid % PARTITIONS, *tid, 0), oids));
        }
        self.0.put(puts, sync)
    }

    fn load(&mut self, oid: u64) -> Result<usize> {
        let partition = oid % PARTITIONS;
        let (from, to) = (key(partition, oid, 0), key(partition, oid, u64::MAX));
        let id = self.0.last(Table::Revisions, &from, &to)?;
        let id = id.with_context(|| format!("object {oid} is not there"))?;
        let value = self.0.get(Table::Values, &id)?;
        Ok(value.context("a value is not there")?.len())
    }

    fn scan(&mut self, partition: u64) -> Result<u64> {
        let (from, to) = (key(partition, 0, 0), key(partition + 1, 0, 0));
        let mut bytes = 0;
        self.0.each(Table::History, &from, &to, &mut |id| {
            let value = self.0.get(Table::Values, id)?;
            bytes += value.context("a value is not there")?.len() as u64;
            Ok(())
        })?;
        Ok(bytes)
    }
}

/// A map.
#[derive(Debug, Default)]
pub(super) struct Memory(BTreeMap<(Table, Vec<u8>), Vec<u8>>);

impl Store for Memory {
    fn put(&mut self, rows: Vec<(Table, Vec<u8>, &[u8])>, _: bool) -> Result<()> {
        for (table, key, value) in rows {
            self.0.insert((table, key), value.to_vec());
        }
        Ok(())
    }

    fn get(&self, table: Table, key: &[u8]) -> Result<Option<Vec<u8>>> {
        Ok(self.0.get(&(table, key.to_vec())).cloned())
    }

    fn last(&self, table: Table, from: &[u8], to: &[u8]) -> Result<Option<Vec<u8>>> {
        let mut found = self.0.range((table, from.to_vec())..=(table, to.to_vec()));
        Ok(found.next_back().map(|(_, value)| value.clone()))
    }

    fn each(
        &self,
        table: Table,
        from: &[u8],
        to: &[u8],
        call: &mut dyn FnMut(&[u8]) -> Result<()>,
    ) -> Result<()> {
        let mut found = self.0.range((table, from.to_vec())..(table, to.to_vec()));
        found.try_for_each(|(_, value)| call(value))
    }
}
