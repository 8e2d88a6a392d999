//! What the writer knows of unfinished transactions without reading.
//!
//! It alone changes them: what the tables say is read once, when the database is opened, and again
//! after a batch that failed. Small ones are here as a whole, and written at the end of each batch
//! that changes them.

use std::collections::{BTreeMap, BTreeSet};

use neo_api::{BackendError, BackendResult, DataId, TxnId};
use rusqlite::{Connection, OptionalExtension};

use super::error::Doing;
use super::row;
use super::small::{PARCEL_BYTES, Small, each_parcel};

#[derive(Debug, Default)]
pub(super) struct Unfinished {
    small: BTreeMap<TxnId, Small>,
    /// Values that are loose, of small transactions.
    loose: BTreeMap<DataId, TxnId>,
    /// The transactions of each row, as they were written or will be.
    parcels: BTreeMap<i64, Vec<TxnId>>,
    /// Rows to be written, and transactions that are in none yet.
    changed: BTreeSet<i64>,
    new: Vec<TxnId>,
    /// Transactions with rows of their own.
    pub(super) large: BTreeSet<TxnId>,
    /// Transactions with rows in `loose`.
    pub(super) owners: BTreeSet<TxnId>,
}

impl Unfinished {
    pub(super) fn load(conn: &Connection) -> BackendResult<Self> {
        const DOING: &str = "reading what is unfinished";
        let mut unfinished = Self::default();
        each_parcel(conn, |id, parcel| {
            for entry in parcel {
                let entry = entry?;
                unfinished.load_small(id, entry.txn, entry.decode()?);
            }
            Ok(())
        })?;
        let mut query = conn
            .prepare("SELECT reign, ttid FROM unfinished")
            .doing(DOING)?;
        let mut rows = query.query([]).doing(DOING)?;
        while let Some(row) = rows.next().doing(DOING)? {
            let txn = row::txn(row::get(row, 0)?, row::get(row, 1)?)?;
            unfinished.large.insert(txn);
        }
        // There may be very many values: their owners are found one after the other.
        let sql = "SELECT reign, ttid FROM loose WHERE (reign, ttid) > (?1, ?2)
                   ORDER BY reign, ttid LIMIT 1";
        let mut query = conn.prepare(sql).doing(DOING)?;
        let mut last = [-1, -1];
        while let Some(owner) = query
            .query_row(last, |row| Ok([row.get(0)?, row.get(1)?]))
            .optional()
            .doing(DOING)?
        {
            if owner <= last {
                let lost = "owners of loose values are out of order".to_owned();
                return Err(BackendError::Corrupt(lost));
            }
            last = owner;
            let [reign, ttid] = owner;
            unfinished.owners.insert(row::txn(reign, ttid)?);
        }
        Ok(unfinished)
    }

    fn load_small(&mut self, parcel: i64, txn: TxnId, mut small: Small) {
        small.parcel = Some(parcel);
        for id in small.objects.iter().filter_map(|o| o.loose_value()) {
            self.loose.insert(id, txn);
        }
        self.small.insert(txn, small);
        self.parcels.entry(parcel).or_default().push(txn);
    }

    /// A small transaction, to be changed.
    pub(super) fn change(&mut self, txn: TxnId) -> Option<&mut Small> {
        let small = self.small.get_mut(&txn)?;
        self.changed.extend(small.parcel);
        Some(small)
    }

    /// The same, created unless it is there.
    pub(super) fn change_or_create(&mut self, txn: TxnId) -> &mut Small {
        let small = self.small.entry(txn).or_insert_with(|| {
            self.new.push(txn);
            Small::default()
        });
        self.changed.extend(small.parcel);
        small
    }

    pub(super) fn get(&self, txn: TxnId) -> Option<&Small> {
        self.small.get(&txn)
    }

    /// Forgets a small transaction, of whose objects those stay loose that no revision claimed.
    pub(super) fn remove(&mut self, txn: TxnId) -> Option<Small> {
        let mut small = self.small.remove(&txn)?;
        settle(&self.loose, txn, &mut small);
        for id in small.objects.iter().filter_map(|o| o.loose_value()) {
            self.loose.remove(&id);
        }
        let neighbours = match small.parcel {
            Some(parcel) => {
                self.changed.insert(parcel);
                self.parcels.get_mut(&parcel)
            }
            None => Some(&mut self.new),
        };
        if let Some(neighbours) = neighbours {
            neighbours.retain(|neighbour| *neighbour != txn);
        }
        Some(small)
    }

    /// A value of a small transaction is loose from now on.
    pub(super) fn loosen(&mut self, id: DataId, txn: TxnId) {
        self.loose.insert(id, txn);
    }

    /// A value is not loose any more; tells whether it was one of a small transaction.
    pub(super) fn claim(&mut self, id: DataId) -> bool {
        let Some(txn) = self.loose.remove(&id) else {
            return false;
        };
        if let Some(small) = self.change(txn) {
            small.moved = true;
        }
        true
    }

    /// Gives every row that changed to `write`, `None` for one that goes.
    ///
    /// New transactions go to rows that change anyway, as long as these are short.
    pub(super) fn flush(
        &mut self,
        mut write: impl FnMut(i64, Option<&[u8]>) -> BackendResult<()>,
    ) -> BackendResult<()> {
        let mut new = std::mem::take(&mut self.new).into_iter().peekable();
        let mut changed = std::mem::take(&mut self.changed);
        let mut bytes = Vec::with_capacity(PARCEL_BYTES);
        while !changed.is_empty() || new.peek().is_some() {
            let id = changed.pop_first().unwrap_or_else(|| {
                let last = self.parcels.last_key_value();
                last.map_or(1, |(last, _)| last + 1)
            });
            let mut members = self.parcels.remove(&id).unwrap_or_default();
            bytes.clear();
            for txn in &members {
                self.encode(id, *txn, &mut bytes)?;
            }
            while let Some(txn) = new.peek() {
                let before = bytes.len();
                self.encode(id, *txn, &mut bytes)?;
                if before > 0 && bytes.len() > PARCEL_BYTES {
                    bytes.truncate(before);
                    break;
                }
                members.extend(new.next());
            }
            write(id, (!members.is_empty()).then_some(&bytes))?;
            if !members.is_empty() {
                self.parcels.insert(id, members);
            }
        }
        Ok(())
    }

    fn encode(&mut self, parcel: i64, txn: TxnId, into: &mut Vec<u8>) -> BackendResult<()> {
        let Some(small) = self.small.get_mut(&txn) else {
            return Ok(());
        };
        settle(&self.loose, txn, small);
        small.parcel = Some(parcel);
        small.encode(txn, into)
    }
}

/// Notes which values of a transaction are loose still.
fn settle(loose: &BTreeMap<DataId, TxnId>, txn: TxnId, small: &mut Small) {
    if !std::mem::take(&mut small.moved) {
        return;
    }
    for object in &mut small.objects {
        let owner = object.loose_value().and_then(|id| loose.get(&id));
        object.loose = owner == Some(&txn);
    }
}
