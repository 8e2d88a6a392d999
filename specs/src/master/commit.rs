//! Transactions at the primary: begin, finish, commit in the order of tids, abort, final tid.

use crate::message::Message;
use crate::options::{Options, Rule};
use crate::set::Set;
use crate::state::{STORAGES, State, TRANSACTIONS, Tid, Transaction};

impl State {
    pub(super) fn begin(&mut self, number: usize, client: usize, options: &Options) -> Message {
        let master = &mut self.masters[number];
        master.last_tid += 1;
        let name = (master.reign, master.last_tid);
        let storages = master.ready;
        let votes = [Set::EMPTY; STORAGES];
        master.transactions[client] = Transaction::Begun {
            storages,
            votes,
            parked: None,
        };
        self.truth.names[client] = name;
        let twice = (0..TRANSACTIONS).any(|other| {
            other != client && self.truth.names[other] == name && self.are_kin(client, other)
        });
        if twice && options.has(Rule::ReignInName) {
            self.break_promise("5: one (reign, ttid), two transactions");
        }
        Message::TransactionBegun { storages }
    }

    // Two sides that were both started by force never hear of each other's transactions again.
    fn are_kin(&self, client: usize, other: usize) -> bool {
        let (one, two) = (self.client_epochs[client], self.client_epochs[other]);
        self.truth.is_in_chain(one, two) || self.truth.is_in_chain(two, one)
    }

    /// The client wants its transaction finished, without the storages where it failed.
    pub(super) fn finish(
        &mut self,
        number: usize,
        client: usize,
        failed: Set,
        options: &Options,
    ) -> Option<Message> {
        let Transaction::Begun { parked, .. } = &mut self.masters[number].transactions[client]
        else {
            self.tells_abort(client, self.masters[number].current_table().epoch);
            return Some(Message::FinishRefused);
        };
        *parked = Some(failed);
        self.finish_parked(number, client, options);
        None
    }

    /// A vote that comes too late is not counted on: the storage copies what it missed.
    pub(super) fn note_vote(
        &mut self,
        number: usize,
        storage: usize,
        transaction: usize,
        partitions: Set,
        options: &Options,
    ) {
        let counts = match &mut self.masters[number].transactions[transaction] {
            Transaction::None => false,
            Transaction::Begun { votes, .. } => {
                votes[storage] = votes[storage].or(partitions);
                self.finish_parked(number, transaction, options);
                return;
            }
            Transaction::Finishing { storages, .. } => storages.has(storage),
        };
        if !counts && options.has(Rule::LateVotesAreForgotten) {
            let message = Message::AbortTransaction { transaction };
            self.network.master_to_storage(number, storage, message);
        }
    }

    /// Gives the tid when every bound cell has voted: once a tid is durable somewhere, the
    /// transaction can't be given up. What failed is outdated before: it may lack rows.
    pub(super) fn finish_parked(&mut self, number: usize, transaction: usize, options: &Options) {
        let Transaction::Begun {
            storages,
            votes,
            parked: Some(failed),
        } = self.masters[number].transactions[transaction]
        else {
            return;
        };
        let there = self.storages_there(number);
        let table = self.masters[number].current_table();
        let taking_part = storages.without(failed);
        // Who has voted has rows of it, bound or not.
        let mut nodes: Set = there
            .without(failed)
            .members()
            .filter(|&storage| !votes[storage].is_empty())
            .collect();
        let mut complete = table.is_operational(there.without(failed));
        let mut voted = true;
        for partition in self.involved(transaction, options).members() {
            let bound: Set = taking_part
                .members()
                .filter(|&s| self.is_bound(number, partition, s, transaction, options))
                .collect();
            complete &= !bound.and(table.readable_of(partition)).is_empty();
            voted &= bound.members().all(|storage| votes[storage].has(partition));
            nodes = nodes.or(bound);
        }
        if !complete {
            self.master_aborts(number, transaction);
            self.tells_abort(transaction, table.epoch);
            self.network
                .master_to_client(number, transaction, Message::FinishRefused);
        } else if !voted && options.has(Rule::VotesAreTold) {
            // The votes are on their way, or their storage is lost.
        } else if let Some(lost) = there.and(failed).members().next() {
            // It comes back here, when what is left of the cluster is known.
            self.master_loses_storage(number, lost, options);
        } else {
            self.give_tid(number, transaction, nodes, options);
        }
    }

    fn give_tid(&mut self, number: usize, transaction: usize, storages: Set, options: &Options) {
        let home = self.home(transaction, options);
        let master = &mut self.masters[number];
        master.last_tid += 1;
        while usize::from(master.last_tid) % options.partitions != home {
            master.last_tid += 1;
        }
        let tid = master.last_tid;
        master.transactions[transaction] = Transaction::Finishing {
            tid,
            awaiting: storages,
            storages,
            asked: false,
        };
        for storage in storages.members() {
            let message = Message::LockInformation { transaction, tid };
            self.network.master_to_storage(number, storage, message);
        }
        self.commit_what_is_locked(number);
    }

    pub(super) fn storage_has_locked(&mut self, number: usize, storage: usize, transaction: usize) {
        if let Transaction::Finishing { awaiting, .. } =
            &mut self.masters[number].transactions[transaction]
        {
            awaiting.remove(storage);
        }
        self.commit_what_is_locked(number);
    }

    /// Commits in the order of tids: one that is not locked everywhere holds back those after it.
    pub(super) fn commit_what_is_locked(&mut self, number: usize) {
        while let Some((tid, transaction)) = self.first_finishing(number) {
            let Transaction::Finishing {
                awaiting: Set::EMPTY,
                storages,
                asked,
                ..
            } = self.masters[number].transactions[transaction]
            else {
                return;
            };
            let master = &mut self.masters[number];
            master.transactions[transaction] = Transaction::None;
            master.last_committed = tid;
            self.primary_commits(number, transaction, tid);
            let answer = if asked {
                Message::FinalTid(tid)
            } else {
                Message::TransactionFinishedAt(tid)
            };
            self.network.master_to_client(number, transaction, answer);
            for storage in storages.members() {
                let message = Message::UnlockInformation { transaction };
                self.network.master_to_storage(number, storage, message);
            }
            self.tell_end(number, transaction, tid);
        }
    }

    fn first_finishing(&self, number: usize) -> Option<(Tid, usize)> {
        self.masters[number]
            .transactions
            .iter()
            .enumerate()
            .filter_map(|(transaction, state)| match *state {
                Transaction::Finishing { tid, .. } => Some((tid, transaction)),
                _ => None,
            })
            .min()
    }

    /// Aborts what is only begun; what has a tid is completed.
    pub(crate) fn master_aborts(&mut self, number: usize, transaction: usize) {
        let state = &mut self.masters[number].transactions[transaction];
        if !matches!(state, Transaction::Begun { .. }) {
            return;
        }
        *state = Transaction::None;
        for storage in 0..STORAGES {
            let message = Message::AbortTransaction { transaction };
            self.network.master_to_storage(number, storage, message);
        }
        self.tell_end(number, transaction, 0);
    }

    /// The asking is a fence: what is only begun is aborted, so that the answer stays true.
    pub(super) fn final_tid_at_master(
        &mut self,
        number: usize,
        client: usize,
        options: &Options,
    ) -> Option<Message> {
        let (reign, _) = self.truth.names[client];
        if options.has(Rule::LaterReignDeposes) && reign > self.masters[number].reign {
            self.fall_back(number, options);
            return None;
        }
        let home = self.home(client, options);
        let master = &mut self.masters[number];
        let readable = master.current_table().readable_of(home).and(master.ready);
        let unknown = Some(Message::AskStorages { readable });
        let Some(transaction) = self.transaction_by_name(number, client, options) else {
            return unknown;
        };
        match &mut self.masters[number].transactions[transaction] {
            Transaction::None => unknown,
            Transaction::Begun { .. } => {
                if options.has(Rule::Fence) {
                    self.master_aborts(number, transaction);
                }
                self.tells_abort(client, self.masters[number].current_table().epoch);
                Some(Message::NotCommitted)
            }
            Transaction::Finishing { asked, .. } => {
                *asked = true;
                None
            }
        }
    }

    fn transaction_by_name(
        &self,
        number: usize,
        client: usize,
        options: &Options,
    ) -> Option<usize> {
        let names = &self.truth.names;
        let master = &self.masters[number];
        if options.has(Rule::ReignInName) {
            return (names[client].0 == master.reign).then_some(client);
        }
        (0..TRANSACTIONS)
            .rev()
            .find(|&other| {
                names[other].1 == names[client].1 && master.transactions[other] != Transaction::None
            })
            .or(Some(client))
    }
}
