//! VERIFYING: a tid anywhere means committed everywhere; what has none is dropped.

use crate::message::Message;
use crate::options::{Options, Rule};
use crate::state::{PARTITIONS, Role, STORAGES, State, TRANSACTIONS, Tid};
use crate::table::Cell;

impl State {
    /// When all have answered: the next question, or the start of operation.
    pub(super) fn continue_verification(&mut self, number: usize, options: &Options) {
        if !self.masters[number].awaiting.is_empty() {
            return;
        }
        if self.masters[number].outdating {
            self.run(number);
        } else if self.masters[number].validating {
            self.outdate_behind(number, options);
        } else {
            self.validate_transactions(number, options);
        }
    }

    fn validate_transactions(&mut self, number: usize, options: &Options) {
        let tids = self.tids_found(number, options);
        let master = &mut self.masters[number];
        let epoch = master.current_table().epoch;
        let counts = master.current_table().readable_storages();
        let found = std::mem::take(&mut master.found);
        master.validating = true;
        master.awaiting = master.chosen;
        let mut unfinished = [false; TRANSACTIONS];
        for storage in master.chosen.members() {
            let rows = found[storage].expect("every chosen storage has answered");
            let mut known = [0; TRANSACTIONS];
            for transaction in 0..TRANSACTIONS {
                if counts.has(storage) && rows[transaction].is_unfinished() {
                    unfinished[transaction] = true;
                    known[transaction] = tids[transaction];
                }
            }
            self.network
                .master_to_storage(number, storage, Message::Validate(known));
        }
        for (transaction, tid) in tids.into_iter().enumerate() {
            if tid != 0 && unfinished[transaction] {
                self.is_committed(transaction, tid, epoch);
            }
        }
    }

    // From readable cells where the metadata is: a committed transaction has its tid on all of them.
    // Another node may have rows that were given up; and what it makes final now nobody asks it for
    // when this verification is cut short.
    fn tids_found(&mut self, number: usize, options: &Options) -> [Tid; TRANSACTIONS] {
        let mut tids = [0; TRANSACTIONS];
        for storage in 0..STORAGES {
            let master = &self.masters[number];
            let readable = master.current_table().readable_on(storage);
            let Some(rows) = master.found[storage] else {
                continue;
            };
            for transaction in 0..TRANSACTIONS {
                let home = self.home(transaction, options);
                let counts = readable.has(home)
                    || !readable.is_empty() && !options.has(Rule::TidsOfReadableCells);
                let locked = if counts { rows[transaction].locked } else { 0 };
                let committed = if readable.has(home) {
                    rows[transaction].committed[home]
                } else {
                    0
                };
                let tid = locked.max(committed);
                if tid == 0 {
                    continue;
                }
                if tids[transaction] != 0 && tids[transaction] != tid {
                    self.break_promise("5: one transaction, two tids (verification)");
                }
                tids[transaction] = tid;
            }
        }
        tids
    }

    /// Every committed transaction is in its final place on every readable cell now. One that ends
    /// before another lacks something: it must be out of date on every disk before the cluster runs.
    fn outdate_behind(&mut self, number: usize, options: &Options) {
        let master = &mut self.masters[number];
        let mut table = master.current_table();
        let ends = std::mem::take(&mut master.ends);
        for partition in 0..PARTITIONS {
            let readable = table.readable_of(partition);
            let end = |storage: usize| ends[storage].map_or(0, |ends| ends[partition]);
            let greatest = readable.members().map(end).max().unwrap_or(0);
            for storage in readable
                .members()
                .filter(|&storage| end(storage) < greatest)
            {
                table.cells[partition][storage] = Cell::OutOfDate;
            }
        }
        if table == master.current_table() || !options.has(Rule::OlderCopiesAreOutdated) {
            self.run(number);
            return;
        }
        master.outdating = true;
        master.awaiting = master.chosen;
        let table = master.change_table(table);
        for storage in self.masters[number].chosen.members() {
            self.network
                .master_to_storage(number, storage, Message::PartitionTable(table));
        }
    }

    fn run(&mut self, number: usize) {
        let master = &mut self.masters[number];
        master.role = Role::Running;
        master.last_committed = master.last_tid;
        master.starting = std::mem::take(&mut master.chosen);
        master.validating = false;
        master.outdating = false;
        let (table, reign) = (master.current_table(), master.reign);
        for storage in master.starting.members() {
            let message = Message::StartOperation { table, reign };
            self.network.master_to_storage(number, storage, message);
        }
    }
}
