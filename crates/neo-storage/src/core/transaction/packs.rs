//! What transactions and packs owe each other: what a transaction repeats stays until it ends, and a
//! store that repeats something waits for the end of the step that may remove it.

use std::collections::BTreeSet;

use neo_api::{Oid, Partition, RevisionId, TxnId};

use super::{Transactions, Value};
use crate::core::cells::Cells;
use crate::core::io::Io;
use crate::core::lock::Ticket;

impl Transactions {
    /// A transaction repeats a revision of an object, or tries to.
    pub(super) fn note_repetition(&mut self, txn: TxnId, oid: Oid) {
        self.repeats.entry(txn).or_default().insert(oid);
    }

    /// Whether an open transaction repeats a revision of an object.
    pub(crate) fn is_repeated(&self, oid: Oid) -> bool {
        self.repeats.values().any(|oids| oids.contains(&oid))
    }

    /// Whether an open transaction repeats something in a partition, without a look at whether it is
    /// there.
    pub(crate) fn repeats_unchecked(&self, partition: Partition) -> bool {
        let unchecked = self.unchecked.get(&partition).into_iter().flatten();
        unchecked
            .filter_map(|(txn, oid)| self.txns.get(txn)?.objects.get(oid))
            .any(|object| matches!(object.value, Some(Value::SameAs(_))))
    }

    /// A pack removes revisions of these objects from now on.
    pub(crate) fn pack_begins(&mut self, oids: BTreeSet<Oid>) {
        self.packing = oids;
    }

    /// Whether a store that repeats a revision has to wait: it would read what is about to go.
    pub(super) fn waits_for_pack(&mut self, ticket: Ticket, oid: Oid) -> bool {
        let waits = self.packing.contains(&oid);
        if waits {
            self.after_pack.push(ticket);
        }
        waits
    }

    /// A pack has removed these revisions, or failed to.
    pub(crate) fn packed(&mut self, cells: &Cells, io: &mut Io<'_>, ids: &[RevisionId]) {
        self.serials.removed(ids);
        self.packing.clear();
        for ticket in std::mem::take(&mut self.after_pack) {
            self.look(cells, io, ticket);
        }
        self.run_ready(cells, io);
    }

    /// Whether a transaction that orders a pack was unlocked since the last time.
    pub(crate) fn take_ordered(&mut self) -> bool {
        std::mem::take(&mut self.ordered)
    }
}
