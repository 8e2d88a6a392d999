//! The whole history, transaction by transaction: each follows from those before it, and the clients
//! were told the truth.

use std::collections::BTreeMap;

use bytes::Bytes;
use neo_api::{BackendResult, Oid, Tid, TransactionRecord};

use super::copies::{Copies, Revisions};
use super::ledger::{Entries, Ledger, Told};
use super::purpose::Purpose;
use super::value::{AttemptId, Log, Value};

/// What was found in the databases.
#[derive(Debug, Default)]
pub(super) struct History {
    /// By the attempt that they are of.
    committed: BTreeMap<AttemptId, Tid>,
    /// Serials of each object, in order.
    serials: BTreeMap<Oid, Vec<Tid>>,
    /// The newest value of each log.
    logs: BTreeMap<Oid, Log>,
    balances: BTreeMap<Oid, u64>,
}

/// The revisions of one transaction; `None` for a deletion.
type Changes = BTreeMap<Oid, Option<Bytes>>;

impl History {
    /// Reads one copy of each partition; what does not follow is an anomaly.
    pub(super) async fn read(copies: &Copies, ledger: &Ledger) -> BackendResult<Self> {
        let mut cursors = copies.one_of_each();
        let mut history = Self::default();
        loop {
            let mut least: Option<(Tid, usize)> = None;
            for (at, (transactions, _)) in cursors.iter_mut().enumerate() {
                if let Some(record) = transactions.peek().await?
                    && least.is_none_or(|(tid, _)| record.tid < tid)
                {
                    least = Some((record.tid, at));
                }
            }
            let end = least.map_or(Tid::MAX, |(tid, _)| tid);
            let mut changes = Changes::new();
            for (_, revisions) in &mut cursors {
                collect(revisions, end, &mut changes, ledger).await?;
            }
            let Some((_, at)) = least else {
                return Ok(history);
            };
            if let Some(record) = cursors[at].0.next().await? {
                history.add(&record, &changes, ledger);
            }
        }
    }

    fn add(&mut self, record: &TransactionRecord, changes: &Changes, ledger: &Ledger) {
        let tid = record.tid;
        let mut listed = record.oids.clone();
        listed.sort_unstable();
        if !listed.iter().eq(changes.keys()) {
            let found: Vec<&Oid> = changes.keys().collect();
            ledger.anomaly(format!("{tid} lists {listed:?}, and has {found:?}"));
        }
        let Some(purpose) = Purpose::parse(&record.meta.description) else {
            let description = &record.meta.description;
            ledger.anomaly(format!("{tid} is of nobody here: {description:?}"));
            return;
        };
        if let Some(id) = purpose.id()
            && let Some(before) = self.committed.insert(id, tid)
        {
            ledger.anomaly(format!(
                "attempt {id} is committed twice, as {before} and {tid}"
            ));
        }
        if let Err(what) = self.follow(&purpose, changes) {
            ledger.anomaly(format!("{tid}, {purpose}: {what}"));
        }
        for oid in changes.keys() {
            self.serials.entry(*oid).or_default().push(tid);
        }
    }

    fn newest(&self, oid: Oid) -> Tid {
        let serials = self.serials.get(&oid);
        serials
            .and_then(|serials| serials.last().copied())
            .unwrap_or(Tid::ZERO)
    }

    /// Takes over what a transaction changed.
    ///
    /// # Errors
    /// What does not follow from what was before.
    fn follow(&mut self, purpose: &Purpose, changes: &Changes) -> Result<(), String> {
        let mut values = BTreeMap::new();
        for (oid, data) in changes {
            let value = data.as_ref().and_then(|data| Value::decode(data));
            let value = value.filter(|value| value.oid() == *oid);
            let value = value.ok_or_else(|| format!("{oid} holds what nobody stored: {data:?}"))?;
            values.insert(*oid, value);
        }
        match purpose {
            Purpose::Setup => {
                for value in values.into_values() {
                    self.put(value);
                }
                Ok(())
            }
            Purpose::Append { id, logs } => self.follow_append(*id, logs, values),
            Purpose::Transfer { stores, check, .. } => self.follow_transfer(stores, *check, values),
        }
    }

    fn put(&mut self, value: Value) {
        match value {
            Value::Log(log) => {
                self.logs.insert(log.oid, log);
            }
            Value::Account(account) => {
                self.balances.insert(account.oid, account.balance);
            }
        }
    }

    fn follow_append(
        &mut self,
        id: AttemptId,
        logs: &[Oid],
        mut values: BTreeMap<Oid, Value>,
    ) -> Result<(), String> {
        for oid in logs {
            let before = self
                .logs
                .get(oid)
                .ok_or_else(|| format!("{oid} is no log"))?;
            let Some(Value::Log(log)) = values.remove(oid) else {
                return Err(format!("{oid} has no revision"));
            };
            let mut expected = before.append(id);
            if log.previous != before.previous {
                let bucket = log.previous.unwrap_or(Oid::ZERO);
                let (moved, head) = before.roll_over(bucket, id);
                if values.remove(&bucket) != Some(Value::Log(moved)) {
                    return Err(format!("bucket {bucket} has not what log {oid} had"));
                }
                expected = head;
            }
            if log != expected {
                return Err(format!("{log:?} does not follow {before:?}"));
            }
            self.logs.insert(*oid, log);
        }
        if values.is_empty() {
            Ok(())
        } else {
            Err(format!("it has more: {values:?}"))
        }
    }

    fn follow_transfer(
        &mut self,
        stores: &[(Oid, Tid)],
        check: (Oid, Tid),
        values: BTreeMap<Oid, Value>,
    ) -> Result<(), String> {
        for (oid, serial) in stores.iter().chain([&check]) {
            let newest = self.newest(*oid);
            if newest != *serial {
                return Err(format!(
                    "it read {serial} of {oid}, which was changed by {newest}"
                ));
            }
        }
        let before: u64 = values.keys().filter_map(|oid| self.balances.get(oid)).sum();
        let mut after = 0;
        for value in values.values() {
            let Value::Account(account) = value else {
                return Err(format!("{} is no account", value.oid()));
            };
            after += account.balance;
        }
        let mut stored: Vec<Oid> = stores.iter().map(|(oid, _)| *oid).collect();
        stored.sort_unstable();
        if before != after || !stored.iter().eq(values.keys()) {
            return Err(format!(
                "the accounts had {before}, and have {after}: {values:?}"
            ));
        }
        values.into_values().for_each(|value| self.put(value));
        Ok(())
    }

    /// Compares with what the clients were told, and what they read. Returns how many transactions
    /// are committed that nobody knew of.
    pub(super) fn check(&self, told: &Entries, ledger: &Ledger) -> usize {
        let mut unknown = 0;
        for (id, told) in &told.attempts {
            match (told, self.committed.get(id)) {
                (Told::Committed(tid), None) => {
                    ledger.anomaly(format!("LOST: {id} was acknowledged as {tid}"));
                }
                (Told::Committed(tid), Some(found)) if tid != found => {
                    ledger.anomaly(format!("{id} was acknowledged as {tid}, and is {found}"));
                }
                (Told::NotCommitted, Some(found)) => {
                    ledger.anomaly(format!("{id} was refused, and is committed as {found}"));
                }
                (Told::Open | Told::Unknown, Some(_)) => unknown += 1,
                _ => {}
            }
        }
        for (id, tid) in &self.committed {
            if !told.attempts.contains_key(id) {
                ledger.anomaly(format!("{tid} is of {id}, which was never tried"));
            }
        }
        for read in &told.reads {
            let serials = self.serials.get(&read.oid).map_or(&[][..], Vec::as_slice);
            let below = serials.partition_point(|serial| *serial < read.before);
            let right = below.checked_sub(1).map(|at| serials[at]);
            if right != Some(read.serial) {
                ledger.anomaly(format!("{read:?}, but it is {right:?}"));
            }
        }
        unknown
    }

    pub(super) fn transactions(&self) -> usize {
        self.committed.len()
    }
}

/// Takes the revisions up to a tid; one of an earlier tid belongs to no transaction.
async fn collect(
    revisions: &mut Revisions,
    end: Tid,
    changes: &mut Changes,
    ledger: &Ledger,
) -> BackendResult<()> {
    while revisions
        .peek()
        .await?
        .is_some_and(|revision| revision.id.tid <= end)
    {
        let Some(revision) = revisions.next().await? else {
            break;
        };
        let (tid, oid) = (revision.id.tid, revision.id.oid);
        if tid < end {
            ledger.anomaly(format!(
                "{oid} has a revision of {tid}, which is no transaction"
            ));
            continue;
        }
        if revision
            .record
            .as_ref()
            .is_some_and(|record| !record.is_intact())
        {
            ledger.anomaly(format!("the value of {oid} at {tid} is damaged"));
        }
        changes.insert(oid, revision.record.map(|record| record.data));
    }
    Ok(())
}
