//! A storage node: stores, votes, locks and unlocks, and what it does when it loses its master.

mod replication;

use crate::message::Message;
use crate::network::End;
use crate::options::{Options, Rule};
use crate::set::Set;
use crate::state::{
    CLIENTS, Disk, MASTERS, PARTITIONS, Replication, Rows, State, TRANSACTIONS, Tid, WriteLock,
};
use crate::table::Table;

impl State {
    /// The storage loses its master, or leaves it: operation ends, and with it what is only in
    /// memory: locks, and the tids of what is locked where the metadata is not.
    pub(crate) fn storage_leaves_master(&mut self, number: usize, options: &Options) {
        if let Some(master) = self.network.master_of_storage(number) {
            self.network.storage_master[master][number].close(End::Connecting);
        }
        for transaction in 0..TRANSACTIONS {
            if !self.has_metadata(number, transaction, options) || !options.has(Rule::DurableTid) {
                self.storages[number].rows[transaction].locked = 0;
            }
        }
        let storage = &mut self.storages[number];
        storage.operational = false;
        storage.replication = [Replication::None; PARTITIONS];
        storage.locks = [WriteLock::None; TRANSACTIONS];
        for client in 0..CLIENTS {
            self.network.client_storage[client][number].close(End::Accepting);
        }
    }

    fn has_metadata(&self, number: usize, transaction: usize, options: &Options) -> bool {
        let home = self.home(transaction, options);
        self.storages[number].rows[transaction].unfinished.has(home)
    }

    pub(crate) fn crash_storage(&mut self, number: usize, options: &Options) {
        self.storages[number].rows = self.durable_rows(number, options);
        self.sync(number);
        self.storage_leaves_master(number, options);
        let storage = &mut self.storages[number];
        storage.up = false;
        storage.table = storage.durable_table;
        for rows in &mut storage.rows {
            if !options.has(Rule::DurableVote) && rows.locked == 0 {
                rows.drop_unfinished();
            }
        }
    }

    /// What is on its disk of each transaction.
    fn durable_rows(&self, number: usize, options: &Options) -> [Rows; TRANSACTIONS] {
        let storage = &self.storages[number];
        std::array::from_fn(|transaction| {
            let mut rows = storage.rows[transaction];
            for partition in storage.unsynced[transaction].members() {
                rows.locked = std::mem::take(&mut rows.committed[partition]);
                rows.unfinished.insert(partition);
            }
            let home = self.home(transaction, options);
            if !rows.unfinished.has(home) || !options.has(Rule::DurableTid) {
                rows.locked = 0;
            }
            rows
        })
    }

    pub(crate) fn copy_disk(&mut self, number: usize, options: &Options) {
        let rows = self.durable_rows(number, options);
        let storage = &mut self.storages[number];
        storage.copy = Some(Disk {
            table: storage.durable_table,
            reign: storage.reign,
            rows,
        });
    }

    /// Whether its copy may take the place of its disk without anything being lost for good: the
    /// masters have noticed that it is down, and each of its readable cells has another one that is
    /// whole, which is known without this disk too. A tid that is on this disk alone, by which
    /// verification has decided and told nobody yet, is lost with it.
    pub(crate) fn can_put_back(&self, number: usize) -> bool {
        let node = &self.storages[number];
        if node.copy.is_none() || node.up {
            return false;
        }
        let other = 1 - number;
        let is_gone = |master: usize| self.network.storage_master[master][number].is_closed();
        let version = |table: &Table| (table.epoch, table.reign, table.ptid);
        let known = self.masters.iter().filter_map(|master| master.table);
        let without = known
            .chain([self.storages[other].durable_table])
            .max_by_key(version);
        let newest = without.into_iter().chain([node.durable_table]);
        let newest = newest.max_by_key(version);
        let spares = |table: Table| {
            let whole = table.readable_on(other);
            whole.includes(table.readable_on(number))
        };
        let epoch = node.durable_table.epoch;
        let is_known = |transaction: usize| {
            let tid = self.truth.committed_for(transaction, epoch);
            tid == 0 || self.storages[other].rows[transaction].reached() == tid
        };
        (0..MASTERS).all(is_gone)
            && [without, newest].into_iter().flatten().all(spares)
            && (0..TRANSACTIONS).all(is_known)
    }

    pub(crate) fn put_disk_back(&mut self, number: usize) {
        let storage = &mut self.storages[number];
        if let Some(disk) = storage.copy.take() {
            storage.table = disk.table;
            storage.durable_table = disk.table;
            storage.reign = disk.reign;
            storage.rows = disk.rows;
        }
    }

    /// A client's connection is lost: what it has not voted is dropped, the rest is the master's.
    pub(crate) fn storage_loses_client(&mut self, number: usize, client: usize) {
        self.network.client_storage[client][number].close(End::Accepting);
        if self.storages[number].rows[client].is_empty() {
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
            Message::StoreObjects { base } => self.store(number, client, base, options),
            Message::VoteTransaction => self.vote(number, client, options),
            Message::AbortTransaction { transaction } => self.storage_aborts(number, transaction),
            Message::AskFinalTid => {
                let answer = self.final_tid_at_storage(number, client, options);
                if answer == Message::NotCommitted {
                    self.tells_abort(client, self.storages[number].table.epoch);
                }
                self.network.storage_to_client(number, client, answer);
            }
            _ => unreachable!("a client sends no {message:?} to a storage"),
        }
    }

    /// A store takes the objects' locks and compares serials; it waits while another has the locks.
    /// A cell that catches up locks as any other does, and does not compare.
    pub(crate) fn store(
        &mut self,
        number: usize,
        transaction: usize,
        base: Tid,
        options: &Options,
    ) {
        let stored = options
            .object_partitions()
            .and(self.storages[number].table.writable_on(number));
        let checked = self.checking_cells(number).and(stored);
        let conflicts = checked
            .members()
            .any(|partition| self.newest_serial(number, partition, transaction, options) != base);
        let (lock, answer) = if self.is_of_other_reign(number, transaction, options) {
            (WriteLock::None, Message::Refused)
        } else if self.is_locked_by_another(number, transaction, options) {
            self.storages[number].locks[transaction] = WriteLock::Waiting { base };
            return;
        } else if conflicts {
            (WriteLock::None, Message::Conflict)
        } else {
            let unchecked = stored.without(checked);
            (
                WriteLock::Held {
                    base,
                    stored,
                    unchecked,
                },
                Message::ObjectsStored { checked },
            )
        };
        self.storages[number].locks[transaction] = lock;
        self.network.storage_to_client(number, transaction, answer);
    }

    fn is_of_other_reign(&self, number: usize, transaction: usize, options: &Options) -> bool {
        options.has(Rule::StoresOfOwnReign)
            && self.truth.names[transaction].0 != self.storages[number].reign
    }

    pub(crate) fn is_locked_by_another(
        &self,
        number: usize,
        transaction: usize,
        options: &Options,
    ) -> bool {
        (0..TRANSACTIONS).any(|other| {
            Self::rivals(options, transaction, other)
                && matches!(self.storages[number].locks[other], WriteLock::Held { .. })
        })
    }

    /// The newest revision of the transaction's object in a partition, as the storage has it.
    pub(crate) fn newest_serial(
        &self,
        number: usize,
        partition: usize,
        transaction: usize,
        options: &Options,
    ) -> Tid {
        let rows = &self.storages[number].rows;
        (0..TRANSACTIONS)
            .filter(|&other| other == transaction || Self::rivals(options, transaction, other))
            .map(|other| rows[other].committed[partition])
            .max()
            .unwrap_or(0)
    }

    /// All but the tid becomes durable; the master is told, and then the client.
    fn vote(&mut self, number: usize, transaction: usize, options: &Options) {
        let WriteLock::Held { stored, .. } = self.storages[number].locks[transaction] else {
            self.network
                .storage_to_client(number, transaction, Message::Refused);
            return;
        };
        if self.is_of_other_reign(number, transaction, options) {
            self.network
                .storage_to_client(number, transaction, Message::Refused);
            return;
        }
        let writable = self.storages[number].table.writable_on(number);
        let metadata = Set::one(self.home(transaction, options)).and(writable);
        let partitions = stored.or(metadata);
        let rows = &mut self.storages[number].rows[transaction];
        rows.unfinished = partitions.without(rows.final_partitions());
        self.sync(number);
        if options.has(Rule::VotesAreTold) {
            let message = Message::NotifyVoted {
                transaction,
                partitions,
            };
            self.network.storage_to_its_master(number, message);
        }
        self.network
            .storage_to_client(number, transaction, Message::TransactionVoted);
    }

    fn final_tid_at_storage(&self, number: usize, client: usize, options: &Options) -> Message {
        let storage = &self.storages[number];
        let home = self.home(client, options);
        if !storage.table.is_readable(home, number) {
            return Message::NonReadableCell;
        }
        let tid = (0..TRANSACTIONS)
            .filter(|&other| self.have_same_name(client, other, options))
            .map(|other| {
                storage.rows[other]
                    .locked
                    .max(storage.rows[other].committed[home])
            })
            .rfind(|&tid| tid != 0);
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
        let rows = &mut self.storages[number].rows[transaction];
        if rows.is_unfinished() && rows.locked == 0 {
            rows.drop_unfinished();
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
            Message::UnfinishedTransactions {
                partitions,
                last_tid,
                pending,
            } => {
                self.start_replicating(number, partitions, last_tid, pending, options);
            }
            Message::TransactionFinished { transaction, tid } => {
                self.pending_one_ended(number, transaction, tid);
            }
            Message::PartitionTable(table) => self.change_table(number, table, options),
            Message::LockInformation { transaction, tid } => {
                self.lock(number, transaction, tid, options);
            }
            Message::OtherCluster => {
                self.storage_leaves_master(number, options);
                self.storages[number].refused = true;
            }
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
            if tid != 0 {
                rows.unlock(tid);
            }
            last = rows.committed.into_iter().fold(last, Tid::max);
        }
        let rows = &self.storages[number].rows;
        let end = |partition: usize| rows.iter().map(|rows| rows.committed[partition]).max();
        let ends = std::array::from_fn(|partition| end(partition).unwrap_or(0));
        self.sync(number);
        self.network
            .storage_to_its_master(number, Message::LastTids { last, ends });
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
            rows.drop_unfinished();
        }
        storage.replication = [Replication::None; PARTITIONS];
        self.network
            .storage_to_its_master(number, Message::NotifyReady);
        self.storage_asks_unfinished(number, table.out_of_date_on(number));
    }

    /// A cell that was promoted and is not, after all, asks again: it is not registered any more.
    fn change_table(&mut self, number: usize, table: Table, options: &Options) {
        let before = self.storages[number].table;
        if options.has(Rule::DurableTable) {
            self.store_table(number, table);
        } else {
            self.storages[number].table = table;
        }
        for partition in table.readable_on(number).members() {
            self.storages[number].replication[partition] = Replication::None;
        }
        if options.has(Rule::PromotionInTwoSteps) {
            let stored = Message::PartitionTableStored { ptid: table.ptid };
            self.network.storage_to_its_master(number, stored);
        }
        if self.storages[number].operational {
            let again = before.readable_on(number).and(table.out_of_date_on(number));
            self.storage_asks_unfinished(number, again);
        }
    }

    fn store_table(&mut self, number: usize, table: Table) {
        self.storages[number].table = table;
        self.storages[number].durable_table = table;
        self.sync(number);
    }

    /// A storage that is to lock what it has not voted breaks the protocol, and leaves.
    fn lock(&mut self, number: usize, transaction: usize, tid: Tid, options: &Options) {
        let rows = &mut self.storages[number].rows[transaction];
        if !rows.is_unfinished() {
            self.break_promise("9: a storage is to lock what it has not voted");
            return;
        }
        rows.locked = tid;
        if self.has_metadata(number, transaction, options) {
            self.sync(number);
        }
        self.network
            .storage_to_its_master(number, Message::InformationLocked { transaction });
    }

    fn unlock(&mut self, number: usize, transaction: usize, options: &Options) {
        let storage = &mut self.storages[number];
        let rows = &mut storage.rows[transaction];
        if rows.locked != 0 {
            if options.deferred_unlock {
                storage.unsynced[transaction] = rows.unfinished;
            }
            rows.unlock(rows.locked);
        }
        storage.locks[transaction] = WriteLock::None;
    }

    /// A durable write makes durable all that was written before it.
    pub(crate) fn sync(&mut self, number: usize) {
        self.storages[number].unsynced = [Set::EMPTY; TRANSACTIONS];
    }
}
