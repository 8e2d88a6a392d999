//! The promises, checked in every state, and what must be so when nothing is left to do.

use crate::network::End;
use crate::options::Options;
use crate::state::{Client, MASTERS, Role, Rows, STORAGES, State, TRANSACTIONS, WriteLock};
use crate::table::Table;

impl State {
    /// After each step.
    pub(crate) fn check(&mut self, options: &Options) {
        if self.truth.broken.is_some() {
            return;
        }
        if let Some(promise) = self.broken_promise(options) {
            self.break_promise(promise);
        }
    }

    fn broken_promise(&self, options: &Options) -> Option<&'static str> {
        let truth = &self.truth;
        let both_in =
            |epoch: &usize| (0..TRANSACTIONS).all(|t| truth.committed_for(t, *epoch) != 0);
        if options.same_object
            && truth.bases[0] == truth.bases[1]
            && (0..=usize::from(options.forced)).any(|epoch| both_in(&epoch))
        {
            return Some("3: a lost update");
        }
        (0..MASTERS)
            .filter(|&master| self.masters[master].role == Role::Running)
            .find_map(|master| {
                let table = self.masters[master].current_table();
                let serving = (0..STORAGES).filter(|&storage| self.serves(master, storage));
                serving.into_iter().find_map(|storage| {
                    let mut partitions = table.readable_on(storage).members();
                    partitions.find_map(|p| self.broken_by_cell(storage, p, table.epoch, options))
                })
            })
    }

    fn serves(&self, master: usize, storage: usize) -> bool {
        let node = &self.storages[storage];
        self.network.storage_master[master][storage].is_whole() && node.up && node.operational
    }

    fn broken_by_cell(
        &self,
        storage: usize,
        partition: usize,
        epoch: usize,
        options: &Options,
    ) -> Option<&'static str> {
        (0..TRANSACTIONS).find_map(|transaction| {
            let committed = self.truth.committed_for(transaction, epoch);
            let rows = &self.storages[storage].rows[transaction];
            let own = rows.committed[partition];
            let locked = rows.unfinished.has(partition) && rows.locked == committed;
            if own != 0 && own != committed {
                Some("2: on a readable cell as committed, and not a committed transaction")
            } else if committed != 0
                && own == 0
                && !locked
                && self.involved(transaction, options).has(partition)
            {
                Some("1/7: a readable cell lacks a committed transaction")
            } else {
                None
            }
        })
    }

    /// What is wrong in a state after which only faults can happen.
    pub(crate) fn wrong_at_end(&self, options: &Options) -> Option<&'static str> {
        let clients = &self.clients[..options.clients];
        for (number, client) in clients.iter().enumerate() {
            if let Client::ToldCommitted(tid) = *client
                && !self.truth.tids(number).any(|known| known == tid)
            {
                return Some("4: told committed, never so");
            }
        }
        let mut primaries = (0..MASTERS).filter(|&m| self.masters[m].role == Role::Running);
        let primary = primaries.next();
        let two_sides = primaries.next().is_some() || self.storages.iter().any(|s| s.refused);
        if !options.check_stuck || two_sides {
            return None;
        }
        let Some(primary) = primary else {
            return Some("8: stuck: no primary runs");
        };
        if let Some(wrong) = (0..STORAGES).find_map(|s| self.storage_stuck(primary, s)) {
            return Some(wrong);
        }
        let ended = |client: &Client| {
            matches!(
                client,
                Client::Dead | Client::ToldAborted | Client::ToldCommitted(_)
            )
        };
        (!clients.iter().all(ended)).then_some("8: stuck: a client waits for ever")
    }

    fn storage_stuck(&self, primary: usize, storage: usize) -> Option<&'static str> {
        let node = &self.storages[storage];
        let connection = &self.network.storage_master[primary][storage];
        let table = self.masters[primary].current_table();
        let complete = |table: Table| table.out_of_date_on(storage).is_empty();
        if !connection.is_open(End::Connecting) || !node.operational {
            Some("8: stuck: a storage does not operate")
        } else if !complete(table) || !complete(node.table) {
            Some("8: stuck: a cell never becomes up to date")
        } else if node.locks.iter().any(|lock| *lock != WriteLock::None) {
            Some("8: stuck: a write lock is left")
        } else if node.rows.iter().any(Rows::is_unfinished) {
            Some("8: stuck: unfinished data is left")
        } else {
            None
        }
    }
}
