//! A batch while it is applied: what it knows of the rows that it changes, and what is still to be
//! written of them.
//!
//! What the operations look at is read first, in one go; what they do is gathered, and written in
//! one go with the commit. So a batch takes two round trips, however many operations it has, unless
//! it is very large or has to look for revisions that share a value.

use std::collections::{BTreeMap, BTreeSet};

use bytes::Bytes;
use neo_api::{
    ObjectData, PendingObject, Record, TransactionRecord, TxnId, VotedRecord, WriteBatch, WriteOp,
};

use super::error::Failure;
use super::link::{Link, Row};
use super::script::{BY_KEY, FULL_BYTES, Script, hex, list};
use super::shared::Sharing;
use super::table;
use crate::limits;

/// Partition, oid and tid of a revision.
pub(super) type Key = (u32, u64, u64);

/// Keys that one statement looks up. From 1000 on, MariaDB would make a table of them.
pub(super) const KEYS_MAX: usize = 500;

/// A row of `obj`, without its key.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Rev {
    pub(super) data: Option<u64>,
    pub(super) data_tid: Option<u64>,
    pub(super) shared: bool,
}

/// What is known of a value that is there.
#[derive(Debug, Default)]
pub(super) struct Value {
    /// To be written, when it comes with this batch.
    pub(super) record: Option<Record>,
    /// For whom it was written, while no revision has it.
    pub(super) loose: Option<TxnId>,
    /// Whether a row says so.
    pub(super) has_row: bool,
    /// It came with this batch, and no revision has it yet.
    is_fresh: bool,
}

/// What the batch does to an unfinished transaction.
#[derive(Debug, Default)]
pub(super) struct Vote {
    /// It is created unless it is there.
    pub(super) is_put: bool,
    pub(super) tid: Option<u64>,
    pub(super) record: Option<Option<VotedRecord>>,
}

/// Rows by their keys, as they will be: `None` for one that is not there.
#[derive(Debug)]
pub(super) struct Rows<K, V> {
    pub(super) known: BTreeMap<K, Option<V>>,
    pub(super) changed: BTreeSet<K>,
}

impl<K: Ord + Clone, V> Rows<K, V> {
    const fn new() -> Self {
        Self {
            known: BTreeMap::new(),
            changed: BTreeSet::new(),
        }
    }

    fn set(&mut self, key: K, value: Option<V>) {
        self.changed.insert(key.clone());
        self.known.insert(key, value);
    }
}

/// A batch while it is applied.
pub(super) struct Plan<'a> {
    pub(super) link: &'a mut Link,
    pub(super) script: Script,
    pub(super) sharing: Sharing,
    pub(super) revs: Rows<Key, Rev>,
    pub(super) values: Rows<u64, Value>,
    pub(super) transactions: BTreeMap<(u32, u64), Option<TransactionRecord>>,
    pub(super) votes: BTreeMap<TxnId, Vote>,
    pub(super) pending: BTreeMap<(TxnId, u64), ObjectData>,
    pub(super) dropped: BTreeSet<TxnId>,
    /// Bytes of the values that are to be written.
    pub(super) waiting_bytes: usize,
}

impl<'a> Plan<'a> {
    /// Begins with statements that come before all others.
    pub(super) fn new(link: &'a mut Link, sharing: Sharing, begin: &str) -> Self {
        let mut script = Script::default();
        script.statement(begin);
        Self {
            link,
            script,
            sharing,
            revs: Rows::new(),
            values: Rows::new(),
            transactions: BTreeMap::new(),
            votes: BTreeMap::new(),
            pending: BTreeMap::new(),
            dropped: BTreeSet::new(),
            waiting_bytes: 0,
        }
    }

    /// Applies all of a batch, but for what [`Plan::finish`] does.
    pub(super) fn apply(&mut self, batch: &WriteBatch) -> Result<(), Failure> {
        self.look_up(batch)?;
        batch.ops.iter().try_for_each(|op| self.op(op))
    }

    /// Writes the rest, and a last statement.
    pub(super) fn finish(mut self, last: &str) -> Result<(), Failure> {
        self.write()?;
        self.script.statement(last);
        self.send().map(drop)
    }

    fn op(&mut self, op: &WriteOp) -> Result<(), Failure> {
        match op {
            WriteOp::SetConfig { key, value } => self.set_config(key, value.as_ref())?,
            WriteOp::SetPartitionTable(table) => {
                table::set(&mut self.script, table);
            }
            WriteOp::ChangeCells {
                version,
                replicas,
                changes,
            } => {
                let np = self.select("SELECT np FROM pt_head WHERE id = 1")?;
                let np = np.first().map(|row| row.int(0)).transpose()?;
                table::change(&mut self.script, np, *version, *replicas, changes)?;
            }
            WriteOp::PutData { id, owner, record } => {
                self.put_data(id.0, *owner, record)?;
            }
            WriteOp::DeleteData { ids } => ids.iter().for_each(|id| self.values.set(id.0, None)),
            WriteOp::PutUnfinishedObjects { txn, objects } => self.put_pending(*txn, objects)?,
            WriteOp::PutUnfinished { txn, record } => {
                self.vote(*txn)?.record = Some(record.clone());
            }
            WriteOp::LockUnfinished { txn, tid } => {
                // One that this batch has dropped is not there.
                if !self.dropped.contains(txn) {
                    self.votes.entry(*txn).or_default().tid = Some(tid.0);
                }
            }
            WriteOp::DropUnfinished { txn } => self.drop_unfinished(*txn),
            WriteOp::PutObject {
                partition,
                id,
                data,
            } => self.put_object((partition.0, id.oid.0, id.tid.0), *data)?,
            WriteOp::DeleteObject { partition, id } => {
                self.delete_object((partition.0, id.oid.0, id.tid.0))?;
            }
            WriteOp::PutTransaction { partition, record } => {
                let key = (partition.0, record.tid.0);
                self.transactions.insert(key, Some(record.clone()));
            }
            WriteOp::DeleteTransaction { partition, tid } => {
                self.transactions.insert((partition.0, tid.0), None);
            }
            op => limits::refuse(format!("the operation {op:?}"))?,
        }
        Ok(())
    }

    fn set_config(&mut self, key: &str, value: Option<&Bytes>) -> Result<(), Failure> {
        let name = hex(key.as_bytes());
        match value {
            Some(value) => {
                let row = format!("({name},{})", hex(value));
                self.script.row("REPLACE INTO config VALUES ", "", &row);
            }
            None => {
                let delete = format!("DELETE FROM config WHERE name = {name}");
                self.script.statement(&delete);
            }
        }
        self.send_if_full()
    }

    fn put_data(&mut self, id: u64, owner: Option<TxnId>, record: &Record) -> Result<(), Failure> {
        if owner.is_some_and(|txn| self.dropped.contains(&txn)) {
            self.write()?;
        }
        let value = Value {
            record: Some(record.clone()),
            loose: owner,
            has_row: false,
            is_fresh: true,
        };
        self.values.set(id, Some(value));
        self.waiting_bytes += record.data.len();
        if self.waiting_bytes >= FULL_BYTES {
            self.write()?;
        }
        Ok(())
    }

    fn put_pending(&mut self, txn: TxnId, objects: &[PendingObject]) -> Result<(), Failure> {
        self.vote(txn)?;
        let objects = objects.iter().map(|o| ((txn, o.oid.0), o.data));
        self.pending.extend(objects);
        Ok(())
    }

    /// A transaction that is put.
    fn vote(&mut self, txn: TxnId) -> Result<&mut Vote, Failure> {
        // Nothing was locked of what comes only now.
        let is_only_locked = |vote: &Vote| vote.tid.is_some() && !vote.is_put;
        if self.dropped.contains(&txn) || self.votes.get(&txn).is_some_and(is_only_locked) {
            self.write()?;
        }
        let vote = self.votes.entry(txn).or_default();
        vote.is_put = true;
        Ok(vote)
    }

    fn drop_unfinished(&mut self, txn: TxnId) {
        self.votes.remove(&txn);
        self.pending.retain(|(pending, _), _| *pending != txn);
        self.dropped.insert(txn);
        for (id, value) in &mut self.values.known {
            if let Some(value) = value
                && value.loose == Some(txn)
            {
                value.loose = None;
                self.values.changed.insert(*id);
            }
        }
    }

    /// A revision as it is now.
    pub(super) fn rev(&mut self, key: Key) -> Result<Option<Rev>, Failure> {
        if !self.revs.known.contains_key(&key) {
            self.look_up_revs(&BTreeSet::from([key]))?;
        }
        Ok(self.revs.known.get(&key).copied().flatten())
    }

    pub(super) fn set_rev(&mut self, key: Key, rev: Option<Rev>) {
        self.revs.set(key, rev);
    }

    /// Makes a value not loose any more; `None` when there is none, or whether it is known to have
    /// been nobody's.
    pub(super) fn claim(&mut self, id: u64) -> Result<Option<bool>, Failure> {
        if !self.values.known.contains_key(&id) {
            self.look_up_values(&BTreeSet::from([id]))?;
        }
        let Some(Some(value)) = self.values.known.get_mut(&id) else {
            return Ok(None);
        };
        let was_nobodys = value.loose.is_some() || value.is_fresh;
        value.is_fresh = false;
        if value.loose.take().is_some() {
            self.values.changed.insert(id);
        }
        Ok(Some(was_nobodys))
    }

    pub(super) fn delete_value(&mut self, id: u64) {
        self.values.set(id, None);
    }

    /// What a query finds when all that was done is there.
    pub(super) fn select(&mut self, query: &str) -> Result<Vec<Row>, Failure> {
        self.write()?;
        self.script.statement(query);
        Ok(self.send()?.pop().unwrap_or_default())
    }

    /// Reads all that the operations will look at.
    fn look_up(&mut self, batch: &WriteBatch) -> Result<(), Failure> {
        let (mut revs, mut values) = (BTreeSet::new(), BTreeSet::new());
        let mut brought = BTreeSet::new();
        for op in &batch.ops {
            match op {
                WriteOp::PutData { id, .. } => {
                    brought.insert(id.0);
                }
                WriteOp::DeleteObject { partition, id } => {
                    revs.insert((partition.0, id.oid.0, id.tid.0));
                }
                WriteOp::PutObject {
                    partition,
                    id,
                    data,
                } => {
                    revs.insert((partition.0, id.oid.0, id.tid.0));
                    match data {
                        ObjectData::SameAs(tid) => {
                            revs.insert((partition.0, id.oid.0, tid.0));
                        }
                        ObjectData::Value(id) if !brought.contains(&id.0) => {
                            values.insert(id.0);
                        }
                        _ => {}
                    }
                }
                _ => {}
            }
        }
        self.look_up_revs(&revs)?;
        self.look_up_values(&values)
    }

    fn look_up_revs(&mut self, keys: &BTreeSet<Key>) -> Result<(), Failure> {
        let keys: Vec<&Key> = keys.iter().collect();
        for keys in keys.chunks(KEYS_MAX) {
            let names = keys
                .iter()
                .map(|(part, oid, tid)| format!("({part},{oid},{tid})"));
            let names = names.collect::<Vec<_>>().join(",");
            self.script.statement(&format!(
                "SELECT part, oid, tid, data_id, data_tid, shared FROM obj {BY_KEY}
                 WHERE (part, oid, tid) IN ({names})"
            ));
            let rows = self.send()?.pop().unwrap_or_default();
            self.revs.known.extend(keys.iter().map(|key| (**key, None)));
            for row in rows {
                let rev = Rev {
                    data: row.maybe(3)?,
                    data_tid: row.maybe(4)?,
                    shared: row.int::<u8>(5)? != 0,
                };
                let key = (row.int(0)?, row.int(1)?, row.int(2)?);
                self.revs.known.insert(key, Some(rev));
            }
        }
        Ok(())
    }

    fn look_up_values(&mut self, ids: &BTreeSet<u64>) -> Result<(), Failure> {
        let ids: Vec<u64> = ids.iter().copied().collect();
        for ids in ids.chunks(KEYS_MAX) {
            let names = list(ids.iter().copied());
            self.script.statement(&format!(
                "SELECT d.id, l.reign, l.ttid
                 FROM data d {BY_KEY} LEFT JOIN loose l ON l.id = d.id
                 WHERE d.id IN ({names})"
            ));
            let rows = self.send()?.pop().unwrap_or_default();
            self.values.known.extend(ids.iter().map(|id| (*id, None)));
            for row in rows {
                let loose = match (row.maybe(1)?, row.maybe(2)?) {
                    (Some(reign), Some(ttid)) => Some(super::row::txn(reign, ttid)),
                    _ => None,
                };
                let value = Value {
                    has_row: loose.is_some(),
                    loose,
                    ..Value::default()
                };
                self.values.known.insert(row.int(0)?, Some(value));
            }
        }
        Ok(())
    }

    pub(super) fn send_if_full(&mut self) -> Result<(), Failure> {
        if self.script.is_full() {
            self.send()?;
        }
        Ok(())
    }

    /// Sends the text; gives the rows of each statement.
    fn send(&mut self) -> Result<Vec<Vec<Row>>, Failure> {
        send(&mut self.script, self.link)
    }
}

pub(super) fn send(script: &mut Script, link: &mut Link) -> Result<Vec<Vec<Row>>, Failure> {
    if script.is_empty() {
        return Ok(Vec::new());
    }
    link.run("writing", script.take().as_bytes())
}
