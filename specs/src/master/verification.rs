//! VERIFYING: a tid anywhere means committed everywhere; what has none is dropped.

use crate::message::Message;
use crate::state::{Role, Rows, STORAGES, State, TRANSACTIONS, Tid};

impl State {
    /// When all have answered: the next question, or the start of operation.
    pub(super) fn continue_verification(&mut self, number: usize) {
        if !self.masters[number].awaiting.is_empty() {
            return;
        }
        if self.masters[number].validating {
            self.run(number);
        } else {
            self.validate_transactions(number);
        }
    }

    fn validate_transactions(&mut self, number: usize) {
        let tids = self.tids_found(number);
        let master = &mut self.masters[number];
        let table = master.current_table();
        let found = std::mem::take(&mut master.found);
        master.validating = true;
        master.awaiting = master.chosen;
        for storage in master.chosen.members() {
            let rows = found[storage].expect("every chosen storage has answered");
            let mut known = [0; TRANSACTIONS];
            for transaction in 0..TRANSACTIONS {
                if table.readable[storage] && rows[transaction].is_unfinished() {
                    known[transaction] = tids[transaction];
                }
            }
            self.network
                .master_to_storage(number, storage, Message::Validate(known));
        }
        for (transaction, tid) in tids.into_iter().enumerate() {
            if tid != 0 {
                self.is_committed(transaction, tid);
            }
        }
    }

    // What readable cells say: a cell that catches up may have rows that were given up.
    fn tids_found(&mut self, number: usize) -> [Tid; TRANSACTIONS] {
        let master = &self.masters[number];
        let readable = master.current_table().readable_cells();
        let found: Vec<[Rows; TRANSACTIONS]> = (0..STORAGES)
            .filter(|&s| readable.has(s))
            .filter_map(|s| master.found[s])
            .collect();
        let mut tids = [0; TRANSACTIONS];
        for rows in found {
            for transaction in 0..TRANSACTIONS {
                let Some(tid) = rows[transaction].tid() else {
                    continue;
                };
                if tids[transaction] != 0 && tids[transaction] != tid {
                    self.break_promise("5: one transaction, two tids (verification)");
                }
                tids[transaction] = tid;
            }
        }
        tids
    }

    fn run(&mut self, number: usize) {
        let master = &mut self.masters[number];
        master.role = Role::Running;
        master.last_committed = master.last_tid;
        master.starting = std::mem::take(&mut master.chosen);
        master.validating = false;
        let (table, reign) = (master.current_table(), master.reign);
        for storage in master.starting.members() {
            let message = Message::StartOperation { table, reign };
            self.network.master_to_storage(number, storage, message);
        }
    }
}
