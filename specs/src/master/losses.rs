//! Storages that are lost: their cells are outdated, or the primary goes back to RECOVERING.

use crate::message::Message;
use crate::network::End;
use crate::options::{Options, Rule};
use crate::set::Set;
use crate::state::{Role, STORAGES, State, Transaction};

impl State {
    /// The master sees that it has lost a storage, or closes it because a client said so.
    pub(crate) fn master_loses_storage(
        &mut self,
        number: usize,
        storage: usize,
        options: &Options,
    ) {
        self.forget_storage(number, storage);
        let role = self.masters[number].role;
        if !matches!(role, Role::Running | Role::Verifying) {
            return;
        }
        let promotion = self.masters[number].promotion.take();
        let mut table = self.masters[number].current_table();
        if table.readable[storage] {
            let left = table.readable_cells().without(Set::one(storage));
            let waits = role == Role::Verifying && options.has(Rule::VerificationGoesBack);
            if waits || left.and(self.storages_there(number)).is_empty() {
                self.fall_back(number, options);
                return;
            }
            table.readable[storage] = false;
        }
        // A promotion is void with the loss of its node, or of one that must store it: the next
        // table has a higher ptid, so that the void one is older wherever it was stored.
        if self.masters[number].current_table() != table || promotion.is_some() {
            let table = self.masters[number].change_table(table);
            for other in (0..STORAGES).filter(|&other| other != storage) {
                self.network
                    .master_to_storage(number, other, Message::PartitionTable(table));
            }
        }
        if role == Role::Verifying {
            self.continue_verification(number);
        } else {
            self.commit_what_is_locked(number);
        }
    }

    fn forget_storage(&mut self, number: usize, storage: usize) {
        self.network.storage_master[number][storage].close(End::Accepting);
        let master = &mut self.masters[number];
        master.answered[storage] = false;
        master.told_at_end[storage] = Set::EMPTY;
        master.found[storage] = None;
        for set in [
            &mut master.ready,
            &mut master.starting,
            &mut master.replicating,
            &mut master.chosen,
            &mut master.awaiting,
        ] {
            set.remove(storage);
        }
        for transaction in &mut master.transactions {
            match transaction {
                Transaction::None => {}
                Transaction::Begun { storages } => storages.remove(storage),
                Transaction::Finishing {
                    awaiting, storages, ..
                } => {
                    awaiting.remove(storage);
                    storages.remove(storage);
                }
            }
        }
    }
}
