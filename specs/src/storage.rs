//! A storage node: stores, votes, locks and unlocks, and what it does when it loses its master.

mod replication;

use crate::message::Message;
use crate::network::End;
use crate::options::{Options, Rule};
use crate::state::{CLIENTS, Replication, Rows, State, TRANSACTIONS, Tid, WriteLock};
use crate::table::Table;

impl State {
    /// The storage loses its master, or leaves it: operation ends.
    pub(crate) fn storage_leaves_master(&mut self, number: usize) {
        if let Some(master) = self.network.master_of_storage(number) {
            self.network.storage_master[master][number].close(End::Connecting);
        }
        let storage = &mut self.storages[number];
        storage.operational = false;
        storage.replication = Replication::None;
        storage.locks = [WriteLock::None; TRANSACTIONS];
        for client in 0..CLIENTS {
            self.network.client_storage[client][number].close(End::Accepting);
        }
    }

    pub(crate) fn crash_storage(&mut self, number: usize, options: &Options) {
        self.storage_leaves_master(number);
        let storage = &mut self.storages[number];
        storage.up = false;
        storage.table = storage.durable_table;
        for transaction in 0..TRANSACTIONS {
            let rows = &mut storage.rows[transaction];
            if std::mem::take(&mut storage.unsynced[transaction])
                && let Rows::Committed(tid) = *rows
            {
                *rows = Rows::Locked(tid);
            }
            if !options.has(Rule::DurableVote) && *rows == Rows::Voted {
                *rows = Rows::None;
            }
        }
    }

    /// A client's connection is lost: what it has not voted is dropped, the rest is the master's.
    pub(crate) fn storage_loses_client(&mut self, number: usize, client: usize) {
        self.network.client_storage[client][number].close(End::Accepting);
        if self.storages[number].rows[client] == Rows::None {
            self.storages[number].locks[client] = WriteLock::None;
        }
    }

    pub(crate) fn storage_receives_from_client(
        &mut self,
        number: usize,
        client: usize,
        message: Message,
        options: &Options,
    ) {
        match message {
            Message::StoreObject { base } => self.store(number, client, base, options),
            Message::VoteTransaction => self.vote(number, client, options),
            Message::AbortTransaction { transaction } => self.storage_aborts(number, transaction),
            Message::AskFinalTid => {
                let answer = self.final_tid_at_storage(number, client, options);
                self.network.storage_to_client(number, client, answer);
            }
            _ => unreachable!("a client sends no {message:?} to a storage"),
        }
    }

    /// A store takes the object's lock and compares serials; it waits while another has the lock.
    pub(crate) fn store(
        &mut self,
        number: usize,
        transaction: usize,
        base: Tid,
        options: &Options,
    ) {
        let (lock, answer) = if self.is_of_other_reign(number, transaction, options) {
            (None, Message::Refused)
        } else if !self.checks_serials(number) {
            (Some(WriteLock::Unchecked(base)), Message::ObjectUnchecked)
        } else if self.is_locked_by_another(number, transaction, options) {
            self.storages[number].locks[transaction] = WriteLock::Waiting(base);
            return;
        } else if self.newest_serial(number, transaction, options) == base {
            (Some(WriteLock::Held(base)), Message::ObjectLocked)
        } else {
            (Some(WriteLock::None), Message::Conflict)
        };
        if let Some(lock) = lock {
            self.storages[number].locks[transaction] = lock;
        }
        self.network.storage_to_client(number, transaction, answer);
    }

    fn is_of_other_reign(&self, number: usize, transaction: usize, options: &Options) -> bool {
        options.has(Rule::StoresOfOwnReign)
            && self.truth.names[transaction].0 != self.storages[number].reign
    }

    // A cell that has caught up does, before it is promoted.
    fn checks_serials(&self, number: usize) -> bool {
        let storage = &self.storages[number];
        storage.table.readable[number] || storage.replication == Replication::DoneSent
    }

    pub(crate) fn is_locked_by_another(
        &self,
        number: usize,
        transaction: usize,
        options: &Options,
    ) -> bool {
        (0..TRANSACTIONS).any(|other| {
            other != transaction
                && Self::object(options, other) == Self::object(options, transaction)
                && matches!(self.storages[number].locks[other], WriteLock::Held(_))
        })
    }

    pub(crate) fn newest_serial(
        &self,
        number: usize,
        transaction: usize,
        options: &Options,
    ) -> Tid {
        let object = Self::object(options, transaction);
        (0..TRANSACTIONS)
            .filter(|&other| Self::object(options, other) == object)
            .filter_map(|other| match self.storages[number].rows[other] {
                Rows::Committed(tid) => Some(tid),
                _ => None,
            })
            .max()
            .unwrap_or(0)
    }

    fn vote(&mut self, number: usize, transaction: usize, options: &Options) {
        let stored = matches!(
            self.storages[number].locks[transaction],
            WriteLock::Held(_) | WriteLock::Unchecked(_)
        );
        if !stored || self.is_of_other_reign(number, transaction, options) {
            self.network
                .storage_to_client(number, transaction, Message::Refused);
            return;
        }
        let rows = &mut self.storages[number].rows[transaction];
        if *rows == Rows::None {
            *rows = Rows::Voted;
        }
        self.sync(number);
        self.network
            .storage_to_client(number, transaction, Message::TransactionVoted);
    }

    fn final_tid_at_storage(&self, number: usize, client: usize, options: &Options) -> Message {
        let storage = &self.storages[number];
        if !storage.table.readable[number] {
            return Message::NonReadableCell;
        }
        let tid = (0..TRANSACTIONS)
            .filter(|&other| self.have_same_name(client, other, options))
            .filter_map(|other| storage.rows[other].tid())
            .next_back();
        tid.map_or(Message::NotCommitted, Message::FinalTid)
    }

    fn have_same_name(&self, one: usize, other: usize, options: &Options) -> bool {
        if options.has(Rule::ReignInName) {
            one == other
        } else {
            self.truth.names[one].1 == self.truth.names[other].1
        }
    }

    fn storage_aborts(&mut self, number: usize, transaction: usize) {
        self.storages[number].locks[transaction] = WriteLock::None;
        if self.storages[number].rows[transaction] == Rows::Voted {
            self.storages[number].rows[transaction] = Rows::None;
            self.sync(number);
        }
    }

    pub(crate) fn storage_receives_from_master(
        &mut self,
        number: usize,
        message: Message,
        options: &Options,
    ) {
        match message {
            Message::StartReign { table, reign } => self.start_reign(number, table, reign),
            Message::Validate(tids) => self.validate(number, tids),
            Message::StartOperation { table, reign } => self.start_operation(number, table, reign),
            Message::UnfinishedTransactions { last_tid, pending } => {
                self.start_replicating(number, last_tid, pending, options);
            }
            Message::TransactionFinished { transaction, tid } => {
                self.pending_one_ended(number, transaction, tid);
                self.storage_aborts(number, transaction);
            }
            Message::PartitionTable(table) => self.change_table(number, table, options),
            Message::LockInformation { transaction, tid } => self.lock(number, transaction, tid),
            Message::UnlockInformation { transaction } => {
                self.unlock(number, transaction, options);
            }
            Message::AbortTransaction { transaction } => self.storage_aborts(number, transaction),
            _ => unreachable!("a master sends no {message:?} to a storage"),
        }
    }

    fn start_reign(&mut self, number: usize, table: Table, reign: u8) {
        self.store_table(number, table);
        self.storages[number].reign = reign;
        let rows = self.storages[number].rows;
        self.network
            .storage_to_its_master(number, Message::LockedTransactions(rows));
    }

    fn validate(&mut self, number: usize, tids: [Tid; TRANSACTIONS]) {
        let mut last = 0;
        for (rows, tid) in self.storages[number].rows.iter_mut().zip(tids) {
            if tid != 0 && rows.is_unfinished() {
                *rows = Rows::Committed(tid);
            }
            if let Rows::Committed(tid) = *rows {
                last = last.max(tid);
            }
        }
        self.sync(number);
        self.network
            .storage_to_its_master(number, Message::LastTid(last));
    }

    /// What is unfinished is of an earlier reign or of an earlier operation here: it was decided
    /// without this node, and is dropped.
    fn start_operation(&mut self, number: usize, table: Table, reign: u8) {
        self.store_table(number, table);
        let storage = &mut self.storages[number];
        storage.reign = reign;
        storage.operational = true;
        storage.locks = [WriteLock::None; TRANSACTIONS];
        for rows in &mut storage.rows {
            if rows.is_unfinished() {
                *rows = Rows::None;
            }
        }
        let complete = table.readable[number];
        storage.replication = if complete {
            Replication::None
        } else {
            Replication::Asked
        };
        self.network
            .storage_to_its_master(number, Message::NotifyReady);
        if !complete {
            self.network
                .storage_to_its_master(number, Message::AskUnfinishedTransactions);
        }
    }

    fn change_table(&mut self, number: usize, table: Table, options: &Options) {
        if options.has(Rule::DurableTable) {
            self.store_table(number, table);
        } else {
            self.storages[number].table = table;
        }
        if table.readable[number] {
            self.storages[number].replication = Replication::None;
        }
        if options.has(Rule::PromotionInTwoSteps) {
            let stored = Message::PartitionTableStored { ptid: table.ptid };
            self.network.storage_to_its_master(number, stored);
        }
    }

    fn store_table(&mut self, number: usize, table: Table) {
        self.storages[number].table = table;
        self.storages[number].durable_table = table;
        self.sync(number);
    }

    /// A storage that is to lock what it has not voted breaks the protocol, and leaves.
    fn lock(&mut self, number: usize, transaction: usize, tid: Tid) {
        let rows = &mut self.storages[number].rows[transaction];
        if *rows != Rows::Voted {
            self.storage_leaves_master(number);
            return;
        }
        *rows = Rows::Locked(tid);
        self.sync(number);
        self.network
            .storage_to_its_master(number, Message::InformationLocked { transaction });
    }

    fn unlock(&mut self, number: usize, transaction: usize, options: &Options) {
        let storage = &mut self.storages[number];
        if let Rows::Locked(tid) = storage.rows[transaction] {
            storage.rows[transaction] = Rows::Committed(tid);
            storage.unsynced[transaction] = options.deferred_unlock;
        }
        storage.locks[transaction] = WriteLock::None;
    }

    /// A durable write makes durable all that was written before it.
    pub(crate) fn sync(&mut self, number: usize) {
        self.storages[number].unsynced = [false; TRANSACTIONS];
    }
}
