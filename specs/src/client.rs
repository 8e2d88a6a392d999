//! A client: one transaction from begin to its end, and the question what became of it.

use crate::message::Message;
use crate::network::End;
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

    fn client_aborts(&mut self, number: usize) {
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
        let committed = self.truth.committed[number];
        match outcome {
            Client::ToldAborted if committed != 0 => {
                self.break_promise("4: told aborted, yet committed");
            }
            Client::ToldCommitted(tid) if committed != 0 && committed != tid => {
                self.break_promise("4: told committed, wrongly");
            }
            _ => {}
        }
        self.client_leaves_master(number);
        self.client_leaves_storages(number);
        self.clients[number] = outcome;
    }

    pub(crate) fn give_up_store(&mut self, number: usize) {
        self.client_aborts(number);
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

    pub(crate) fn client_loses_storage(&mut self, number: usize, storage: usize) {
        self.network.client_storage[number][storage].close(End::Connecting);
        match &mut self.clients[number] {
            Client::Storing { sent, failed, .. } if sent.has(storage) => failed.insert(storage),
            Client::Voting { asked, failed, .. } if asked.has(storage) => failed.insert(storage),
            Client::AskingStorage(at) if *at == storage => self.client_starts_over(number),
            _ => {}
        }
        self.client_goes_on(number);
    }

    /// The client stores its object, based on the serial that it saw, at these storages.
    pub(crate) fn client_stores(&mut self, number: usize, storages: Set, base: Tid) {
        self.truth.bases[number] = base;
        let mut failed = Set::EMPTY;
        for storage in storages.members() {
            if self.client_connects_to_storage(number, storage) {
                self.network
                    .client_to_storage(number, storage, Message::StoreObject { base });
            } else {
                failed.insert(storage);
            }
        }
        self.clients[number] = Client::Storing {
            sent: storages,
            locked: Set::EMPTY,
            unchecked: Set::EMPTY,
            failed,
            base,
        };
        self.client_goes_on(number);
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
            Message::FinishRefused | Message::NotCommitted => self.client_aborts(number),
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
    ) {
        match message {
            Message::ObjectLocked
            | Message::ObjectUnchecked
            | Message::Conflict
            | Message::Refused
            | Message::TransactionVoted => self.storage_answers_client(number, storage, message),
            Message::NotCommitted => self.client_aborts(number),
            Message::FinalTid(tid) => self.client_is_told(number, Client::ToldCommitted(tid)),
            Message::NonReadableCell => {
                self.network.client_storage[number][storage].close(End::Connecting);
                self.client_starts_over(number);
            }
            _ => unreachable!("a storage sends no {message:?} to a client"),
        }
    }

    fn storage_answers_client(&mut self, number: usize, storage: usize, message: Message) {
        match (&mut self.clients[number], message) {
            (Client::Storing { locked, .. }, Message::ObjectLocked) => locked.insert(storage),
            (Client::Storing { unchecked, .. }, Message::ObjectUnchecked) => {
                unchecked.insert(storage);
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
        self.client_goes_on(number);
    }

    /// When all have answered or failed: the vote, then finish. Without a cell that has checked the
    /// store and not failed, there is neither.
    fn client_goes_on(&mut self, number: usize) {
        match self.clients[number] {
            Client::Storing {
                sent,
                locked,
                unchecked,
                failed,
                ..
            } if locked.or(unchecked).or(failed).includes(sent) => {
                let locked = locked.without(failed);
                let asked = locked.or(unchecked).without(failed);
                if locked.is_empty() {
                    self.client_aborts(number);
                    return;
                }
                let voted = Set::EMPTY;
                self.clients[number] = Client::Voting {
                    asked,
                    voted,
                    locked,
                    failed,
                };
                for storage in asked.members() {
                    self.network
                        .client_to_storage(number, storage, Message::VoteTransaction);
                }
            }
            Client::Voting {
                asked,
                voted,
                locked,
                failed,
            } if voted.or(failed).includes(asked) => {
                if locked.and(voted).without(failed).is_empty() {
                    self.client_aborts(number);
                    return;
                }
                self.clients[number] = Client::Finishing;
                self.network
                    .client_to_master(number, Message::FinishTransaction { failed });
            }
            _ => {}
        }
    }
}
