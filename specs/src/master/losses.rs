//! Storages that are lost: their cells are outdated, or the primary goes back to RECOVERING.

use crate::message::Message;
use crate::network::End;
use crate::options::{Options, Rule};
use crate::set::Set;
use crate::state::{PARTITIONS, Role, STORAGES, State, TRANSACTIONS, Transaction};

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
        let before = self.masters[number].current_table();
        let mut table = before;
        table.outdate(storage);
        let waits = role == Role::Verifying && options.has(Rule::VerificationGoesBack);
        if table != before && (waits || !table.is_operational(self.storages_there(number))) {
            self.fall_back(number, options);
            return;
        }
        // The next table has a higher ptid than a void one, which is older wherever it was stored.
        if self.void_promotion(number) || table != before {
            let table = self.masters[number].change_table(table);
            for other in (0..STORAGES).filter(|&other| other != storage) {
                self.network
                    .master_to_storage(number, other, Message::PartitionTable(table));
            }
        }
        if role == Role::Verifying {
            self.continue_verification(number, options);
            return;
        }
        self.promote(number, options);
        self.commit_what_is_locked(number);
        for transaction in 0..TRANSACTIONS {
            self.finish_parked(number, transaction, options);
        }
    }

    pub(super) fn forget_storage(&mut self, number: usize, storage: usize) {
        self.network.storage_master[number][storage].close(End::Accepting);
        let master = &mut self.masters[number];
        master.answered[storage] = None;
        master.reached[storage] = 0;
        master.registered[storage] = Set::EMPTY;
        master.done[storage] = Set::EMPTY;
        for partition in 0..PARTITIONS {
            master.missed[partition][storage] = Set::EMPTY;
        }
        master.found[storage] = None;
        master.ends[storage] = None;
        for set in [
            &mut master.ready,
            &mut master.starting,
            &mut master.chosen,
            &mut master.awaiting,
        ] {
            set.remove(storage);
        }
        for transaction in &mut master.transactions {
            match transaction {
                Transaction::None => {}
                Transaction::Begun {
                    storages, votes, ..
                } => {
                    storages.remove(storage);
                    votes[storage] = Set::EMPTY;
                }
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
