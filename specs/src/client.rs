//! A client: one transaction from begin to its end, and the question what became of it.

use crate::message::Message;
use crate::network::End;
use crate::options::{Options, Rule};
use crate::set::Set;
use crate::state::{Client, STORAGES, State, Tid};

impl State {
    pub(crate) fn client_leaves_master(&mut self, number: usize) {
        if let Some(master) = self.network.master_of_client(number) {
            self.network.client_master[master][number].close(End::Connecting);
        }
    }

    pub(crate) fn client_leaves_storages(&mut self, number: usize) {
        for storage in 0..STORAGES {
            self.network.client_storage[number][storage].close(End::Connecting);
        }
    }

    /// The client gives up by itself: nobody can have committed its transaction.
    pub(crate) fn client_aborts(&mut self, number: usize) {
        self.client_decides_abort(number);
        self.client_is_told_abort(number);
    }

    fn client_is_told_abort(&mut self, number: usize) {
        let message = Message::AbortTransaction {
            transaction: number,
        };
        for storage in 0..STORAGES {
            self.network.client_to_storage(number, storage, message);
        }
        self.network.client_to_master(number, message);
        self.client_is_told(number, Client::ToldAborted);
    }

    fn client_is_told(&mut self, number: usize, outcome: Client) {
        self.check_told(number, outcome);
        self.client_leaves_master(number);
        self.client_leaves_storages(number);
        self.clients[number] = outcome;
    }

    // Asks again, at any primary.
    pub(crate) fn client_starts_over(&mut self, number: usize) {
        self.client_leaves_master(number);
        self.clients[number] = Client::InDoubt;
    }

    /// Before it has asked to finish, a client that loses its master aborts.
    pub(crate) fn client_loses_master(&mut self, number: usize) {
        self.client_leaves_master(number);
        match self.clients[number] {
            Client::Beginning | Client::Storing { .. } | Client::Voting { .. } => {
                self.client_aborts(number);
            }
            Client::Finishing
            | Client::AskingMaster
            | Client::Choosing(_)
            | Client::AskingStorage(_) => {
                self.client_leaves_storages(number);
                self.clients[number] = Client::InDoubt;
            }
            _ => {}
        }
    }

    pub(crate) fn client_loses_storage(
        &mut self,
        number: usize,
        storage: usize,
        options: &Options,
    ) {
        self.network.client_storage[number][storage].close(End::Connecting);
        match &mut self.clients[number] {
            Client::Storing { sent, failed, .. } if sent.has(storage) => failed.insert(storage),
            Client::Voting { asked, failed, .. } if asked.has(storage) => failed.insert(storage),
            Client::AskingStorage(at) if *at == storage => self.client_starts_over(number),
            _ => {}
        }
        self.client_goes_on(number, options);
    }

    /// The client stores its object, based on the serial that it saw, at these storages.
    pub(crate) fn client_stores(
        &mut self,
        number: usize,
        storages: Set,
        base: Tid,
        options: &Options,
    ) {
        self.truth.bases[number] = base;
        let mut failed = Set::EMPTY;
        for storage in storages.members() {
            if self.client_connects_to_storage(number, storage) {
                self.network
                    .client_to_storage(number, storage, Message::StoreObjects { base });
            } else {
                failed.insert(storage);
            }
        }
        self.clients[number] = Client::Storing {
            sent: storages,
            stored: Set::EMPTY,
            failed,
            checked: [Set::EMPTY; STORAGES],
        };
        self.client_goes_on(number, options);
    }

    fn client_connects_to_storage(&mut self, number: usize, storage: usize) -> bool {
        let node = &self.storages[storage];
        let connection = &mut self.network.client_storage[number][storage];
        let can = node.up && node.operational && connection.is_closed();
        if can {
            connection.open_both();
        }
        can
    }

    pub(crate) fn client_asks_storage(&mut self, number: usize, storage: usize) {
        self.network.client_storage[number][storage].open_both();
        self.network
            .client_to_storage(number, storage, Message::AskFinalTid);
        self.clients[number] = Client::AskingStorage(storage);
    }

    /// `TransactionBegun` is not among these: see [`Self::client_stores`].
    pub(crate) fn client_receives_from_master(&mut self, number: usize, message: Message) {
        match message {
            Message::FinishRefused | Message::NotCommitted => self.client_is_told_abort(number),
            Message::TransactionFinishedAt(tid) | Message::FinalTid(tid) => {
                self.client_is_told(number, Client::ToldCommitted(tid));
            }
            Message::AskStorages { readable } => self.clients[number] = Client::Choosing(readable),
            _ => unreachable!("a master sends no {message:?} to a client"),
        }
    }

    pub(crate) fn client_receives_from_storage(
        &mut self,
        number: usize,
        storage: usize,
        message: Message,
        options: &Options,
    ) {
        match message {
            Message::ObjectsStored { .. }
            | Message::Conflict
            | Message::Refused
            | Message::TransactionVoted => {
                self.storage_answers_client(number, storage, message, options)
            }
            Message::NotCommitted => self.client_is_told_abort(number),
            Message::FinalTid(tid) => self.client_is_told(number, Client::ToldCommitted(tid)),
            Message::NonReadableCell => {
                self.network.client_storage[number][storage].close(End::Connecting);
                self.client_starts_over(number);
            }
            _ => unreachable!("a storage sends no {message:?} to a client"),
        }
    }

    fn storage_answers_client(
        &mut self,
        number: usize,
        storage: usize,
        message: Message,
        options: &Options,
    ) {
        match (&mut self.clients[number], message) {
            (
                Client::Storing {
                    stored, checked, ..
                },
                Message::ObjectsStored { checked: there },
            ) => {
                stored.insert(storage);
                checked[storage] = there;
            }
            (Client::Storing { failed, .. } | Client::Voting { failed, .. }, Message::Refused) => {
                failed.insert(storage);
            }
            (Client::Storing { .. }, _) => {
                self.client_aborts(number);
                return;
            }
            (Client::Voting { voted, .. }, Message::TransactionVoted) => voted.insert(storage),
            _ => {}
        }
        self.client_goes_on(number, options);
    }

    /// When all have answered or failed: the vote, then finish. There is neither without a cell,
    /// for each object, that has compared the serial and not failed.
    fn client_goes_on(&mut self, number: usize, options: &Options) {
        match self.clients[number] {
            Client::Storing {
                sent,
                stored,
                failed,
                checked,
            } if stored.or(failed).includes(sent) => {
                let asked = stored.without(failed);
                if !self.all_checked(number, asked, checked, options) {
                    self.client_aborts(number);
                    return;
                }
                let voted = Set::EMPTY;
                self.clients[number] = Client::Voting {
                    asked,
                    voted,
                    failed,
                    checked,
                };
                for storage in asked.members() {
                    self.network
                        .client_to_storage(number, storage, Message::VoteTransaction);
                }
            }
            Client::Voting {
                asked,
                voted,
                failed,
                checked,
            } if voted.or(failed).includes(asked) => {
                if !self.all_checked(number, voted.without(failed), checked, options) {
                    self.client_aborts(number);
                    return;
                }
                self.client_finishes(number, failed);
            }
            _ => {}
        }
    }

    pub(crate) fn client_finishes(&mut self, number: usize, failed: Set) {
        self.clients[number] = Client::Finishing;
        self.network
            .client_to_master(number, Message::FinishTransaction { failed });
    }

    /// A cell that is readable counts: if it was promoted meanwhile, it has compared what it had
    /// stored unchecked.
    fn all_checked(
        &self,
        number: usize,
        storages: Set,
        checked: [Set; STORAGES],
        options: &Options,
    ) -> bool {
        let master = self.network.master_of_client(number);
        let table = master
            .and_then(|master| self.masters[master].table)
            .unwrap_or_default();
        let checked = storages.members().fold(Set::EMPTY, |all, storage| {
            all.or(checked[storage]).or(table.readable_on(storage))
        });
        checked.includes(options.object_partitions()) || !options.has(Rule::OneCellChecks)
    }
}
