//! The primary master: who tells it what, and what becomes of it when it is lost or deposed.

mod catching_up;
mod commit;
mod losses;
mod recovery;
mod verification;

use crate::message::Message;
use crate::network::{Connection, End};
use crate::options::{Options, Rule};
use crate::set::Set;
use crate::state::{CLIENTS, Master, Role, STORAGES, State};
use crate::table::Table;

impl Master {
    /// The table of a primary that has chosen one, so that verifies or runs.
    pub(crate) fn current_table(&self) -> Table {
        self.table
            .expect("a primary that verifies or runs has a table")
    }

    /// Makes the next version of the table the current one.
    fn change_table(&mut self, mut table: Table) -> Table {
        self.ptid_max += 1;
        table.ptid = self.ptid_max;
        self.table = Some(table);
        table
    }
}

impl State {
    pub(crate) fn master_receives_from_storage(
        &mut self,
        number: usize,
        storage: usize,
        message: Message,
        options: &Options,
    ) {
        match message {
            Message::Recovery {
                table,
                reign,
                reached,
            } => {
                let theirs = (table, reign, reached);
                self.storage_answers_recovery(number, storage, theirs, options);
            }
            Message::LockedTransactions(rows) => {
                self.masters[number].found[storage] = Some(rows);
                self.masters[number].awaiting.remove(storage);
                self.continue_verification(number, options);
            }
            Message::LastTids { last, ends } => {
                let master = &mut self.masters[number];
                if master.current_table().readable_storages().has(storage) {
                    master.last_tid = master.last_tid.max(last);
                }
                master.ends[storage] = Some(ends);
                master.awaiting.remove(storage);
                self.continue_verification(number, options);
            }
            Message::NotifyReady => {
                self.masters[number].starting.remove(storage);
                self.masters[number].ready.insert(storage);
            }
            Message::AskUnfinishedTransactions { partitions } => {
                self.register_cells(number, storage, partitions);
            }
            Message::ReplicationDone { partition } => {
                self.cell_is_done(number, storage, partition, options);
            }
            Message::PartitionTableStored { ptid } => {
                self.table_stored(number, storage, ptid, options);
                if self.masters[number].outdating {
                    self.masters[number].awaiting.remove(storage);
                    self.continue_verification(number, options);
                }
            }
            Message::NotifyVoted {
                transaction,
                partitions,
            } => {
                self.note_vote(number, storage, transaction, partitions, options);
            }
            Message::InformationLocked { transaction } => {
                self.storage_has_locked(number, storage, transaction);
            }
            _ => unreachable!("a storage sends no {message:?} to a master"),
        }
    }

    /// `connection`: the client's present one, or an old one that the master has not seen lost.
    pub(crate) fn master_receives_from_client(
        &mut self,
        number: usize,
        client: usize,
        message: Message,
        connection: Which,
        options: &Options,
    ) {
        let answer = match message {
            Message::BeginTransaction => Some(self.begin(number, client, options)),
            Message::FinishTransaction { failed } => self.finish(number, client, failed, options),
            Message::AskFinalTid => self.final_tid_at_master(number, client, options),
            Message::AbortTransaction { transaction } => {
                self.master_aborts(number, transaction);
                None
            }
            _ => unreachable!("a client sends no {message:?} to a master"),
        };
        if let Some(answer) = answer
            && connection == Which::Present
        {
            self.network.master_to_client(number, client, answer);
        }
    }

    /// Everything is closed; the primary's own table stays as the floor.
    pub(crate) fn fall_back(&mut self, number: usize, options: &Options) {
        self.master_closes_all(number);
        let master = &mut self.masters[number];
        let floor = options.has(Rule::Floor);
        *master = Master {
            role: Role::Recovering,
            table: master.table.filter(|_| floor),
            reign: master.reign,
            ptid_max: if floor { master.ptid_max } else { 0 },
            stayed: true,
            ..Master::default()
        };
    }

    pub(crate) fn master_closes_all(&mut self, number: usize) {
        for storage in 0..STORAGES {
            self.network.storage_master[number][storage].close(End::Accepting);
        }
        for client in 0..CLIENTS {
            self.network.client_master[number][client].close(End::Accepting);
            self.network.client_master_old[number][client] = Connection::default();
        }
    }

    /// Storages that are connected, and start or serve.
    pub(crate) fn storages_there(&self, number: usize) -> Set {
        let master = &self.masters[number];
        let connected: Set = (0..STORAGES)
            .filter(|&s| self.network.storage_master[number][s].is_open(End::Accepting))
            .collect();
        master
            .ready
            .or(master.starting)
            .or(master.chosen)
            .and(connected)
    }
}

/// Which of a client's connections to a master.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Which {
    Present,
    Old,
}
