//! Connections: one queue for each direction, and ends that notice a loss at different times.
//!
//! An end that is closed drops what still comes; what the other end still receives was on its way.
//! Between the two moments a connection is half open, for as long as it likes.

use crate::message::Message;
use crate::state::{CLIENTS, MASTERS, STORAGES};

/// The end of a connection: the one that connected, or the one that accepted.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum End {
    Connecting = 0,
    Accepting = 1,
}

impl End {
    fn other(self) -> Self {
        match self {
            Self::Connecting => Self::Accepting,
            Self::Accepting => Self::Connecting,
        }
    }
}

#[derive(Clone, PartialEq, Eq, Hash, Debug, Default)]
pub(crate) struct Connection {
    open: [bool; 2],
    /// On their way to each end.
    to: [Vec<Message>; 2],
}

impl Connection {
    pub(crate) fn is_open(&self, end: End) -> bool {
        self.open[end as usize]
    }

    pub(crate) fn is_closed(&self) -> bool {
        self.open == [false, false]
    }

    /// This end has not noticed yet that the other is closed.
    pub(crate) fn is_lost(&self, end: End) -> bool {
        self.is_open(end) && !self.is_open(end.other())
    }

    pub(crate) fn is_whole(&self) -> bool {
        self.open == [true, true]
    }

    pub(crate) fn open_both(&mut self) {
        *self = Self {
            open: [true, true],
            ..Self::default()
        };
    }

    /// What goes into a connection whose other end is closed is lost.
    pub(crate) fn send(&mut self, from: End, message: Message) {
        if self.is_whole() {
            self.to[from.other() as usize].push(message);
        }
    }

    pub(crate) fn first(&self, at: End) -> Option<Message> {
        self.is_open(at)
            .then(|| self.to[at as usize].first().copied())
            .flatten()
    }

    pub(crate) fn take_first(&mut self, at: End) {
        self.to[at as usize].remove(0);
    }

    pub(crate) fn close(&mut self, end: End) {
        self.open[end as usize] = false;
        self.to[end as usize].clear();
    }

    /// Leaves this end open in what is returned, and closed here: the other end has moved on to a
    /// new connection.
    pub(crate) fn split_off(&mut self, end: End) -> Self {
        let mut old = std::mem::take(self);
        old.close(end.other());
        old
    }
}

/// By who accepts, then by who connects, except for the connections of clients to storages.
#[derive(Clone, PartialEq, Eq, Hash, Debug, Default)]
pub(crate) struct Network {
    /// Storages connect to masters: `[master][storage]`.
    pub(crate) storage_master: [[Connection; STORAGES]; MASTERS],
    /// Clients connect to masters: `[master][client]`.
    pub(crate) client_master: [[Connection; CLIENTS]; MASTERS],
    /// What a master still has of an earlier connection of a client that has come again.
    pub(crate) client_master_old: [[Connection; CLIENTS]; MASTERS],
    /// Clients connect to storages: `[client][storage]`.
    pub(crate) client_storage: [[Connection; STORAGES]; CLIENTS],
}

impl Network {
    /// The master whose connection the storage has.
    pub(crate) fn master_of_storage(&self, storage: usize) -> Option<usize> {
        (0..MASTERS).find(|&m| self.storage_master[m][storage].is_open(End::Connecting))
    }

    pub(crate) fn master_of_client(&self, client: usize) -> Option<usize> {
        (0..MASTERS).find(|&m| self.client_master[m][client].is_open(End::Connecting))
    }

    pub(crate) fn master_to_storage(&mut self, master: usize, storage: usize, message: Message) {
        self.storage_master[master][storage].send(End::Accepting, message);
    }

    pub(crate) fn storage_to_master(&mut self, master: usize, storage: usize, message: Message) {
        self.storage_master[master][storage].send(End::Connecting, message);
    }

    pub(crate) fn master_to_client(&mut self, master: usize, client: usize, message: Message) {
        self.client_master[master][client].send(End::Accepting, message);
    }

    pub(crate) fn storage_to_client(&mut self, storage: usize, client: usize, message: Message) {
        self.client_storage[client][storage].send(End::Accepting, message);
    }

    pub(crate) fn client_to_storage(&mut self, client: usize, storage: usize, message: Message) {
        self.client_storage[client][storage].send(End::Connecting, message);
    }

    /// To the master that the client is connected to, if there is one.
    pub(crate) fn client_to_master(&mut self, client: usize, message: Message) {
        if let Some(master) = self.master_of_client(client) {
            self.client_master[master][client].send(End::Connecting, message);
        }
    }

    /// To the master that the storage is connected to, if there is one.
    pub(crate) fn storage_to_its_master(&mut self, storage: usize, message: Message) {
        if let Some(master) = self.master_of_storage(storage) {
            self.storage_to_master(master, storage, message);
        }
    }
}
