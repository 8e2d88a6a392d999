//! How a cell catches up: it copies what is committed, waits for what was pending, and compares
//! what it stored unchecked meanwhile.

use crate::message::Message;
use crate::options::{Options, Rule};
use crate::set::Set;
use crate::state::{PARTITIONS, Replication, State, TRANSACTIONS, Tid, WriteLock};

impl State {
    /// Has cells registered, so that they are told what they must wait for.
    pub(crate) fn storage_asks_unfinished(&mut self, number: usize, partitions: Set) {
        if partitions.is_empty() {
            return;
        }
        for partition in partitions.members() {
            self.storages[number].replication[partition] = Replication::Asked;
        }
        let message = Message::AskUnfinishedTransactions { partitions };
        self.network.storage_to_its_master(number, message);
    }

    pub(super) fn start_replicating(
        &mut self,
        number: usize,
        partitions: Set,
        last_tid: Tid,
        pending: Set,
        options: &Options,
    ) {
        let pending = if options.has(Rule::WaitForPending) {
            pending
        } else {
            Set::EMPTY
        };
        for partition in partitions.members() {
            self.storages[number].replication[partition] = Replication::Running {
                pending,
                up_to: last_tid,
                fetched: false,
            };
        }
    }

    pub(super) fn pending_one_ended(&mut self, number: usize, transaction: usize, tid: Tid) {
        for replication in &mut self.storages[number].replication {
            if let Replication::Running {
                pending,
                up_to,
                fetched,
            } = replication
                && pending.has(transaction)
            {
                pending.remove(transaction);
                *up_to = (*up_to).max(tid);
                *fetched &= tid == 0;
            }
        }
    }

    /// A source is readable, and answers only when no transaction that it has locked up to there
    /// is still unmoved.
    pub(crate) fn can_replicate_from(
        &self,
        source: usize,
        partition: usize,
        up_to: Tid,
        options: &Options,
    ) -> bool {
        let node = &self.storages[source];
        let unmoved = node
            .rows
            .iter()
            .any(|rows| rows.unfinished.has(partition) && rows.locked != 0 && rows.locked <= up_to);
        node.up
            && node.operational
            && node.table.is_readable(partition, source)
            && !(options.has(Rule::SourceWaits) && unmoved)
    }

    /// Copies a partition up to a tid, in one step; what the source has not is deleted.
    pub(crate) fn replicate(&mut self, number: usize, partition: usize, source: usize) {
        let Replication::Running { up_to, fetched, .. } =
            &mut self.storages[number].replication[partition]
        else {
            return;
        };
        *fetched = true;
        let up_to = *up_to;
        for transaction in 0..TRANSACTIONS {
            let theirs = self.storages[source].rows[transaction].committed[partition];
            let own = &mut self.storages[number].rows[transaction].committed[partition];
            if theirs != 0 && theirs <= up_to {
                *own = theirs;
            } else if *own <= up_to {
                *own = 0;
            }
        }
        self.sync(number);
    }

    /// A transaction whose unchecked store turns out to be stale, and that has voted already, will
    /// be aborted: it met the conflict on a cell that checks. Its end is waited for.
    pub(crate) fn has_replicated_all(
        &self,
        number: usize,
        partition: usize,
        options: &Options,
    ) -> bool {
        let storage = &self.storages[number];
        let complete = matches!(
            storage.replication[partition],
            Replication::Running {
                pending: Set::EMPTY,
                fetched: true,
                ..
            }
        );
        let stale_vote = |transaction: &usize| {
            storage.rows[*transaction].is_unfinished()
                && self.is_stale(number, partition, *transaction, options)
        };
        complete && !(0..TRANSACTIONS).any(|transaction| stale_vote(&transaction))
    }

    /// The cell is complete: what it stored unchecked is compared now. From here on it checks.
    pub(crate) fn finish_replication(
        &mut self,
        number: usize,
        partition: usize,
        options: &Options,
    ) {
        for transaction in 0..TRANSACTIONS {
            let stale = self.is_stale(number, partition, transaction, options);
            let lock = &mut self.storages[number].locks[transaction];
            if stale && options.has(Rule::UncheckedAreCompared) {
                *lock = WriteLock::None;
            } else if let WriteLock::Held { unchecked, .. } = lock {
                unchecked.remove(partition);
            }
        }
        self.storages[number].replication[partition] = Replication::DoneSent;
        let message = Message::ReplicationDone { partition };
        self.network.storage_to_its_master(number, message);
    }

    fn is_stale(
        &self,
        number: usize,
        partition: usize,
        transaction: usize,
        options: &Options,
    ) -> bool {
        match self.storages[number].locks[transaction] {
            WriteLock::Held {
                base, unchecked, ..
            } if unchecked.has(partition) => {
                self.newest_serial(number, partition, transaction, options) != base
            }
            _ => false,
        }
    }

    /// Which cells of the storage compare serials: the readable ones, and those that have caught up
    /// and wait to be promoted.
    pub(super) fn checking_cells(&self, number: usize) -> Set {
        let storage = &self.storages[number];
        let done = |partition: &usize| storage.replication[*partition] == Replication::DoneSent;
        storage
            .table
            .readable_on(number)
            .or((0..PARTITIONS).filter(done).collect())
    }
}
