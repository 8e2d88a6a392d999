//! Transactions at the primary: begin, finish, commit in the order of tids, abort, final tid.

use crate::message::Message;
use crate::options::{Options, Rule};
use crate::set::Set;
use crate::state::{Role, STORAGES, State, TRANSACTIONS, Tid, Transaction};

impl State {
    pub(super) fn begin(&mut self, number: usize, client: usize, options: &Options) -> Message {
        let master = &mut self.masters[number];
        master.last_tid += 1;
        let name = (master.reign, master.last_tid);
        let storages = master.ready;
        master.transactions[client] = Transaction::Begun { storages };
        let names = &mut self.truth.names;
        names[client] = name;
        let twice = (0..TRANSACTIONS).any(|other| other != client && names[other] == name);
        if twice && options.has(Rule::ReignInName) {
            self.break_promise("5: one (reign, ttid), two transactions");
        }
        Message::TransactionBegun { storages }
    }

    /// Nodes where the client failed are closed and outdated before the tid is given: they may
    /// lack rows of the transaction.
    pub(super) fn finish(
        &mut self,
        number: usize,
        client: usize,
        failed: Set,
        options: &Options,
    ) -> Option<Message> {
        let Transaction::Begun { storages } = self.masters[number].transactions[client] else {
            return Some(Message::FinishRefused);
        };
        let readable = self.masters[number].current_table().readable_cells();
        if storages.without(failed).and(readable).is_empty() {
            self.master_aborts(number, client);
            return Some(Message::FinishRefused);
        }
        for storage in storages.and(failed).members() {
            if self.masters[number].role == Role::Running {
                self.master_loses_storage(number, storage, options);
            }
        }
        if self.masters[number].role != Role::Running {
            return None;
        }
        let Transaction::Begun { storages } = self.masters[number].transactions[client] else {
            return None;
        };
        let master = &mut self.masters[number];
        master.last_tid += 1;
        let tid = master.last_tid;
        master.transactions[client] = Transaction::Finishing {
            tid,
            awaiting: storages,
            storages,
            asked: false,
        };
        for storage in storages.members() {
            let message = Message::LockInformation {
                transaction: client,
                tid,
            };
            self.network.master_to_storage(number, storage, message);
        }
        self.commit_what_is_locked(number);
        None
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
            let reign = master.reign;
            self.primary_commits(transaction, tid, reign);
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
        let master = &mut self.masters[number];
        let readable = master.current_table().readable_cells().and(master.ready);
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
