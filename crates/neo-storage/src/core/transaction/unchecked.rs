//! Locks of objects in cells that catch up.
//!
//! Such a cell locks an object as any other does, but can't tell whether its newest serial is the one
//! that the change starts from: it does not know it yet. When nothing is missing any more, what is
//! still locked is compared. What differs has no right to be there: the transaction has, or will
//! get, a conflict from a cell that has compared it.

use std::collections::BTreeMap;

use neo_api::{Oid, Partition, Tid, TxnId};
use neo_proto::{Packet, RelockOutcome, StoreOutcome};

use super::request::Kind;
use super::{Object, Stage, Transactions, Value};
use crate::core::cells::Cells;
use crate::core::io::Io;
use crate::core::lock::Ticket;

/// Why the newest serial of a locked object was not looked at, and what to compare it with.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Unchecked {
    /// The revision that the change starts from.
    base: Tid,
    /// The request that locked it: what was read before it does not count.
    stamp: Ticket,
    /// It was compared, too late to drop it: the end of its transaction is waited for.
    differs: bool,
}

impl Unchecked {
    /// Whether an object with this newest serial is as its transaction believes.
    pub(super) fn is_current(&self, object: &Object, last: Option<Tid>) -> bool {
        if object.value.is_some() {
            last.is_none_or(|last| last == self.base)
        } else {
            last.unwrap_or(Tid::ZERO) == self.base
        }
    }
}

/// A lock to compare.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Claim {
    txn: TxnId,
    pub(crate) oid: Oid,
    stamp: Ticket,
}

/// What is left to compare in a partition.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Compared {
    /// Nothing.
    All,
    /// These.
    Left(Vec<Claim>),
    /// Nothing, but transactions that have voted have to end.
    Waits,
}

impl Transactions {
    /// A store, check or relock of an object in a cell that catches up has its lock.
    pub(super) fn take_unchecked(&mut self, io: &mut Io<'_>, ticket: Ticket, partition: Partition) {
        let Some(request) = self.requests.get_mut(&ticket) else {
            return;
        };
        let (asker, txn, oid) = (request.asker, request.txn, request.oid);
        let Some(t) = self.txns.get_mut(&txn) else {
            return;
        };
        let own = t.objects.get_mut(&oid);
        let unchecked = |base| Unchecked {
            base,
            stamp: ticket,
            differs: false,
        };
        let outcome = StoreOutcome::Unchecked;
        match (&mut request.kind, own) {
            (Kind::Store { serial, value }, own) => {
                let base = own
                    .filter(|own| own.repeats(*serial))
                    .and_then(|own| own.unchecked)
                    .map_or(*serial, |unchecked| unchecked.base);
                let object = Object {
                    current: None,
                    value: Some(std::mem::replace(value, Value::Deleted)),
                    unchecked: Some(unchecked(base)),
                };
                let before = t.objects.insert(oid, object);
                self.discard_value(txn, before.and_then(|object| object.value));
                self.garbage.pump(io);
                io.answer(asker, Packet::AnswerStoreObject { outcome });
            }
            (Kind::Check { serial }, own) => {
                if own.is_none() {
                    let object = Object {
                        current: None,
                        value: None,
                        unchecked: Some(unchecked(*serial)),
                    };
                    t.objects.insert(oid, object);
                }
                io.answer(asker, Packet::AnswerCheckCurrentSerial { outcome });
            }
            (Kind::Relock { .. }, Some(own)) => {
                if let Some(unchecked) = &mut own.unchecked {
                    unchecked.stamp = ticket;
                }
                let outcome = RelockOutcome::Relocked;
                io.answer(asker, Packet::AnswerRelockObject { outcome });
            }
            (Kind::Relock { .. }, None) => {
                // What was stored went with the cell; this is another one of the same partition.
                return self.not_here(io, ticket, oid);
            }
        }
        self.unchecked
            .entry(partition)
            .or_default()
            .insert((txn, oid));
        self.end_request(io, ticket, false);
    }

    /// What is still to be compared in a partition, a page at a time.
    pub(crate) fn left_to_compare(&mut self, partition: Partition, limit: usize) -> Compared {
        let Some(all) = self.unchecked.get_mut(&partition) else {
            return Compared::All;
        };
        let txns = &self.txns;
        let mut left = Vec::new();
        all.retain(|(txn, oid)| {
            let object = txns.get(txn).and_then(|t| t.objects.get(oid));
            let Some(unchecked) = object.and_then(|object| object.unchecked) else {
                return false;
            };
            if !unchecked.differs && left.len() < limit {
                let (txn, oid, stamp) = (*txn, *oid, unchecked.stamp);
                left.push(Claim { txn, oid, stamp });
            }
            true
        });
        if all.is_empty() {
            self.unchecked.remove(&partition);
            Compared::All
        } else if left.is_empty() {
            Compared::Waits
        } else {
            Compared::Left(left)
        }
    }

    /// The newest serial of a locked object was read, in a cell in which nothing is missing.
    pub(crate) fn compare(
        &mut self,
        cells: &Cells,
        io: &mut Io<'_>,
        claim: Claim,
        last: Option<Tid>,
    ) {
        let Claim { txn, oid, stamp } = claim;
        let Some(t) = self.txns.get_mut(&txn) else {
            return;
        };
        let Some(object) = t.objects.get_mut(&oid) else {
            return;
        };
        let Some(unchecked) = object.unchecked.filter(|its| its.stamp == stamp) else {
            return;
        };
        if unchecked.is_current(object, last) {
            object.current = last;
            object.unchecked = None;
        } else if t.stage == Stage::Open {
            tracing::debug!(%txn, %oid, "dropped an unchecked store that is not current");
            let dropped = t.objects.remove(&oid);
            self.discard_value(txn, dropped.and_then(|object| object.value));
            self.garbage.pump(io);
            let granted = self.locks.release(txn, oid);
            self.ready.extend(granted);
            self.run_ready(cells, io);
        } else if let Some(unchecked) = &mut object.unchecked {
            unchecked.differs = true;
        }
    }

    /// A transaction ends with these objects.
    pub(super) fn forget_unchecked(&mut self, txn: TxnId, objects: &BTreeMap<Oid, Object>) {
        if self.unchecked.is_empty() || objects.values().all(|object| object.unchecked.is_none()) {
            return;
        }
        let its = (txn, Oid::ZERO)..=(txn, Oid(u64::MAX));
        self.unchecked.retain(|_, all| {
            let its: Vec<_> = all.range(its.clone()).copied().collect();
            for one in its {
                all.remove(&one);
            }
            !all.is_empty()
        });
    }
}
