//! How a cell catches up: it copies what is committed, then waits for what was pending.

use crate::message::Message;
use crate::options::{Options, Rule};
use crate::set::Set;
use crate::state::{Replication, Rows, State, TRANSACTIONS, Tid, WriteLock};

impl State {
    pub(super) fn start_replicating(
        &mut self,
        number: usize,
        last_tid: Tid,
        pending: Set,
        options: &Options,
    ) {
        let pending = if options.has(Rule::WaitForPending) {
            pending
        } else {
            Set::EMPTY
        };
        self.storages[number].replication = Replication::Running {
            pending,
            up_to: last_tid,
            fetched: false,
        };
    }

    pub(super) fn pending_one_ended(&mut self, number: usize, transaction: usize, tid: Tid) {
        if let Replication::Running {
            pending,
            up_to,
            fetched,
        } = &mut self.storages[number].replication
        {
            pending.remove(transaction);
            *up_to = (*up_to).max(tid);
            *fetched &= tid == 0;
        }
    }

    /// A source is readable, and answers only when no transaction that it has locked up to there
    /// is still unmoved.
    pub(crate) fn can_replicate_from(&self, source: usize, up_to: Tid, options: &Options) -> bool {
        let source_node = &self.storages[source];
        let unmoved = |rows: &Rows| matches!(*rows, Rows::Locked(tid) if tid <= up_to);
        source_node.up
            && source_node.operational
            && source_node.table.readable[source]
            && !(options.has(Rule::SourceWaits) && source_node.rows.iter().any(unmoved))
    }

    /// Copies all up to a tid, in one step; what the source has not is deleted.
    pub(crate) fn replicate(&mut self, number: usize, source: usize) {
        let Replication::Running { up_to, fetched, .. } = &mut self.storages[number].replication
        else {
            return;
        };
        *fetched = true;
        let up_to = *up_to;
        for transaction in 0..TRANSACTIONS {
            let theirs = self.storages[source].rows[transaction];
            let storage = &mut self.storages[number];
            match (theirs, storage.rows[transaction]) {
                (Rows::Committed(tid), _) if tid <= up_to => {
                    storage.rows[transaction] = theirs;
                    storage.locks[transaction] = WriteLock::None;
                }
                (_, Rows::Committed(tid)) if tid <= up_to => {
                    storage.rows[transaction] = Rows::None;
                }
                _ => {}
            }
        }
        self.sync(number);
    }

    pub(crate) fn has_replicated_all(&self, number: usize, options: &Options) -> bool {
        let unchecked = self.unchecked(number).count();
        matches!(
            self.storages[number].replication,
            Replication::Running {
                pending: Set::EMPTY,
                fetched: true,
                ..
            }
        ) && !(options.same_object && unchecked > 1)
    }

    /// The cell is complete: what it stored unchecked is compared now, and locked.
    pub(crate) fn finish_replication(&mut self, number: usize, options: &Options) {
        for transaction in self.unchecked(number).collect::<Vec<_>>() {
            let newest = self.newest_serial(number, transaction, options);
            let storage = &mut self.storages[number];
            match storage.locks[transaction] {
                WriteLock::Unchecked(base) if base == newest => {
                    storage.locks[transaction] = WriteLock::Held(base);
                }
                _ => {
                    storage.locks[transaction] = WriteLock::None;
                    if storage.rows[transaction] == Rows::Voted {
                        storage.rows[transaction] = Rows::None;
                    }
                }
            }
        }
        self.storages[number].replication = Replication::DoneSent;
        self.network
            .storage_to_its_master(number, Message::ReplicationDone);
    }

    fn unchecked(&self, number: usize) -> impl Iterator<Item = usize> {
        let locks = self.storages[number].locks;
        (0..TRANSACTIONS)
            .filter(move |&transaction| matches!(locks[transaction], WriteLock::Unchecked(_)))
    }
}
