//! Cells that catch up: they are registered, told of what they missed, and promoted in two steps.

use crate::message::Message;
use crate::options::{Options, Rule};
use crate::set::Set;
use crate::state::{PARTITIONS, Promotion, STORAGES, State, TRANSACTIONS, Tid, Transaction};

impl State {
    /// From now on the cells take part in what begins. What is pending they may miss: they are told
    /// when it has ended, and copy it.
    pub(super) fn register_cells(&mut self, number: usize, storage: usize, partitions: Set) {
        let master = &mut self.masters[number];
        let partitions = partitions.and(master.current_table().out_of_date_on(storage));
        let pending: Set = (0..TRANSACTIONS)
            .filter(|&transaction| master.transactions[transaction] != Transaction::None)
            .collect();
        for partition in partitions.members() {
            master.missed[partition][storage] = pending;
            master.registered[storage].insert(partition);
            master.done[storage].remove(partition);
        }
        let last_tid = master.last_committed;
        let message = Message::UnfinishedTransactions {
            partitions,
            last_tid,
            pending,
        };
        self.network.master_to_storage(number, storage, message);
    }

    /// Tells the cells that wait for it. Tid 0: aborted.
    pub(super) fn tell_end(&mut self, number: usize, transaction: usize, tid: Tid) {
        for storage in 0..STORAGES {
            let mut waits = false;
            for partition in 0..PARTITIONS {
                let missed = &mut self.masters[number].missed[partition][storage];
                waits |= missed.has(transaction);
                missed.remove(transaction);
            }
            if waits {
                let message = Message::TransactionFinished { transaction, tid };
                self.network.master_to_storage(number, storage, message);
            }
        }
    }

    /// A cell counts for a transaction, which needs its vote: it is readable, or it was registered
    /// before the transaction began.
    pub(super) fn is_bound(
        &self,
        number: usize,
        partition: usize,
        storage: usize,
        transaction: usize,
        options: &Options,
    ) -> bool {
        let master = &self.masters[number];
        let registered = master.registered[storage].has(partition)
            && options.has(Rule::RegisteredAreBound)
            && !master.missed[partition][storage].has(transaction);
        master.current_table().is_readable(partition, storage) || registered
    }

    pub(super) fn cell_is_done(
        &mut self,
        number: usize,
        storage: usize,
        partition: usize,
        options: &Options,
    ) {
        let master = &mut self.masters[number];
        if master.registered[storage].has(partition) {
            master.done[storage].insert(partition);
            self.promote(number, options);
        }
    }

    /// All cells that are done become readable together, in two steps: first the nodes that have
    /// readable cells store the table that says so.
    pub(super) fn promote(&mut self, number: usize, options: &Options) {
        let master = &mut self.masters[number];
        if master.promotion.is_some() || master.done.iter().all(|done| done.is_empty()) {
            return;
        }
        let before = master.current_table();
        let mut table = before;
        for storage in 0..STORAGES {
            for partition in master.done[storage].members() {
                table.cells[partition][storage] = crate::table::Cell::UpToDate;
            }
        }
        master.ptid_max += 1;
        table.ptid = master.ptid_max;
        let first = before.readable_storages().and(self.storages_there(number));
        let promotion = Promotion {
            table,
            first,
            awaiting: first,
        };
        self.masters[number].promotion = Some(promotion);
        for storage in first.members() {
            self.network
                .master_to_storage(number, storage, Message::PartitionTable(table));
        }
        if !options.has(Rule::PromotionInTwoSteps) {
            self.adopt(number, promotion, options);
        }
    }

    pub(super) fn table_stored(
        &mut self,
        number: usize,
        storage: usize,
        ptid: u8,
        options: &Options,
    ) {
        if let Some(promotion) = &mut self.masters[number].promotion
            && promotion.table.ptid == ptid
        {
            promotion.awaiting.remove(storage);
            if promotion.awaiting.is_empty() {
                let promotion = *promotion;
                self.adopt(number, promotion, options);
            }
        }
    }

    /// The second step: the promoted nodes learn of it, and count.
    fn adopt(&mut self, number: usize, promotion: Promotion, options: &Options) {
        let Promotion { table, first, .. } = promotion;
        let master = &mut self.masters[number];
        master.promotion = None;
        master.table = Some(table);
        for storage in 0..STORAGES {
            let readable = table.readable_on(storage);
            master.registered[storage] = master.registered[storage].without(readable);
            master.done[storage] = master.done[storage].without(readable);
            for partition in readable.members() {
                master.missed[partition][storage] = Set::EMPTY;
            }
        }
        for storage in self.storages_there(number).without(first).members() {
            self.network
                .master_to_storage(number, storage, Message::PartitionTable(table));
        }
        self.promote(number, options);
    }

    /// A loss makes a promotion void. A promoted cell whose node has heard of it is not registered
    /// any more: its node asks again when it sees the next table.
    pub(super) fn void_promotion(&mut self, number: usize) -> bool {
        let master = &mut self.masters[number];
        let Some(promotion) = master.promotion.take() else {
            return false;
        };
        for storage in promotion.first.members() {
            let promoted = promotion.table.readable_on(storage);
            master.registered[storage] = master.registered[storage].without(promoted);
            master.done[storage] = master.done[storage].without(promoted);
        }
        true
    }
}
