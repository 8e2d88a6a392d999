//! The promises, checked in every state, and what must be so when nothing is left to do.

use crate::network::End;
use crate::options::Options;
use crate::state::{Client, MASTERS, Role, Rows, STORAGES, State, TRANSACTIONS, Tid, WriteLock};

impl State {
    /// A primary says that the transaction is committed.
    pub(crate) fn primary_commits(&mut self, transaction: usize, tid: Tid, reign: u8) {
        if self.truth.committed[transaction] == 0 {
            let committed = self.truth.committed;
            let mut others = (0..TRANSACTIONS).filter(|&other| other != transaction);
            if others.any(|other| committed[other] >= tid) {
                self.break_promise("5: a tid does not increase");
            }
            if self.truth.commit_reign > reign {
                self.break_promise("6: a primary commits after one of a later reign did");
            }
            self.truth.commit_reign = self.truth.commit_reign.max(reign);
        }
        self.is_committed(transaction, tid);
    }

    /// A primary, or verification, has decided.
    pub(crate) fn is_committed(&mut self, transaction: usize, tid: Tid) {
        let committed = self.truth.committed;
        if committed[transaction] != 0 && committed[transaction] != tid {
            self.break_promise("5: one transaction, two tids");
        }
        if (0..TRANSACTIONS).any(|other| other != transaction && committed[other] == tid) {
            self.break_promise("5: one tid, two transactions");
        }
        self.truth.committed[transaction] = tid;
        if self.clients[transaction] == Client::ToldAborted {
            self.break_promise("4: told aborted, yet committed");
        }
    }

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
        if options.same_object && !truth.committed.contains(&0) && truth.bases[0] == truth.bases[1]
        {
            return Some("3: a lost update");
        }
        (0..MASTERS)
            .filter(|&master| self.masters[master].role == Role::Running)
            .find_map(|master| {
                let readable = self.masters[master].current_table().readable_cells();
                readable
                    .members()
                    .filter(|&storage| self.serves(master, storage))
                    .find_map(|storage| self.broken_by_cell(storage))
            })
    }

    fn serves(&self, master: usize, storage: usize) -> bool {
        let node = &self.storages[storage];
        self.network.storage_master[master][storage].is_whole() && node.up && node.operational
    }

    fn broken_by_cell(&self, storage: usize) -> Option<&'static str> {
        let rows = &self.storages[storage].rows;
        rows.iter()
            .zip(self.truth.committed)
            .find_map(|(rows, committed)| match *rows {
                Rows::Locked(tid) | Rows::Committed(tid) if tid == committed => None,
                Rows::Committed(_) => {
                    Some("2: on a readable cell as committed, and not a committed transaction")
                }
                _ if committed != 0 => Some("1/7: a readable cell lacks a committed transaction"),
                _ => None,
            })
    }

    /// What is wrong in a state after which only faults can happen.
    pub(crate) fn wrong_at_end(&self, options: &Options) -> Option<&'static str> {
        let clients = &self.clients[..options.clients];
        for (client, committed) in clients.iter().zip(self.truth.committed) {
            if let Client::ToldCommitted(tid) = *client
                && tid != committed
            {
                return Some("4: told committed, never so");
            }
        }
        if !options.check_stuck {
            return None;
        }
        let Some(primary) = (0..MASTERS).find(|&m| self.masters[m].role == Role::Running) else {
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
        let readable = self.masters[primary].current_table().readable[storage];
        if !connection.is_open(End::Connecting) || !node.operational {
            Some("8: stuck: a storage does not operate")
        } else if !readable || !node.table.readable[storage] {
            Some("8: stuck: a cell never becomes up to date")
        } else if node.locks.iter().any(|lock| *lock != WriteLock::None) {
            Some("8: stuck: a write lock is left")
        } else if node.rows.iter().any(|rows| rows.is_unfinished()) {
            Some("8: stuck: unfinished data is left")
        } else {
            None
        }
    }
}
