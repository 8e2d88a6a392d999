//! Cells that catch up: they are told what they must wait for, and are promoted in two steps.

use crate::message::Message;
use crate::options::{Options, Rule};
use crate::set::Set;
use crate::state::{STORAGES, State, TRANSACTIONS, Tid, Transaction};

impl State {
    /// The transactions that are pending and in which the storage takes no part: it must copy them.
    pub(super) fn register_cell(&mut self, number: usize, storage: usize) {
        let master = &mut self.masters[number];
        let pending: Set = (0..TRANSACTIONS)
            .filter(|&transaction| match master.transactions[transaction] {
                Transaction::None => false,
                Transaction::Begun { storages } | Transaction::Finishing { storages, .. } => {
                    !storages.has(storage)
                }
            })
            .collect();
        master.told_at_end[storage] = pending;
        master.replicating.insert(storage);
        let last_tid = master.last_committed;
        self.network.master_to_storage(
            number,
            storage,
            Message::UnfinishedTransactions { last_tid, pending },
        );
    }

    /// Tells the cells that wait for it. Tid 0: aborted.
    pub(super) fn tell_end(&mut self, number: usize, transaction: usize, tid: Tid) {
        for storage in 0..STORAGES {
            let told = &mut self.masters[number].told_at_end[storage];
            if told.has(transaction) {
                told.remove(transaction);
                let message = Message::TransactionFinished { transaction, tid };
                self.network.master_to_storage(number, storage, message);
            }
        }
    }

    /// A cell has caught up. First every readable one stores the table that says so.
    pub(super) fn promote(&mut self, number: usize, storage: usize, options: &Options) {
        let master = &mut self.masters[number];
        let mut table = master.current_table();
        if table.readable[storage] || !master.replicating.has(storage) {
            return;
        }
        if !options.has(Rule::PromotionInTwoSteps) {
            table.readable[storage] = true;
            let table = master.change_table(table);
            for storage in 0..STORAGES {
                self.network
                    .master_to_storage(number, storage, Message::PartitionTable(table));
            }
            return;
        }
        master.ptid_max += 1;
        table.ptid = master.ptid_max;
        table.readable[storage] = true;
        master.promotion = Some(table.ptid);
        let message = Message::PartitionTable(table);
        self.network
            .master_to_storage(number, other_than(storage), message);
    }

    /// Then the promoted cell learns of it, and counts.
    pub(super) fn table_stored(&mut self, number: usize, storage: usize, ptid: u8) {
        let master = &mut self.masters[number];
        if master.promotion != Some(ptid) {
            return;
        }
        master.promotion = None;
        let promoted = other_than(storage);
        let mut table = master.current_table();
        table.ptid = ptid;
        table.readable[promoted] = true;
        master.table = Some(table);
        let message = Message::PartitionTable(table);
        self.network.master_to_storage(number, promoted, message);
    }
}

fn other_than(storage: usize) -> usize {
    STORAGES - 1 - storage
}
