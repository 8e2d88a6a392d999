//! What a state of the model is: every node, what is on its way between them, and what is true.

use crate::message::Message;
use crate::network::Network;
use crate::options::Options;
use crate::set::Set;
use crate::table::Table;

pub(crate) const STORAGES: usize = 2;
pub(crate) const MASTERS: usize = 2;
pub(crate) const CLIENTS: usize = 2;
/// Each client has one transaction, of the same number.
pub(crate) const TRANSACTIONS: usize = CLIENTS;

/// One counter gives ttids and tids; 0 is none.
pub(crate) type Tid = u8;

/// What a storage has on disk of one transaction: its objects and metadata.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, Default)]
pub(crate) enum Rows {
    #[default]
    None,
    Voted,
    Locked(Tid),
    Committed(Tid),
}

impl Rows {
    pub(crate) fn is_unfinished(self) -> bool {
        matches!(self, Self::Voted | Self::Locked(_))
    }

    pub(crate) fn tid(self) -> Option<Tid> {
        match self {
            Self::Locked(tid) | Self::Committed(tid) => Some(tid),
            Self::None | Self::Voted => None,
        }
    }
}

/// What a storage has in memory of one transaction's store; each with the serial that it is based
/// on.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, Default)]
pub(crate) enum WriteLock {
    #[default]
    None,
    Waiting(Tid),
    Held(Tid),
    /// Stored without a lock, on a cell that catches up.
    Unchecked(Tid),
}

/// How far a cell that catches up has come.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, Default)]
pub(crate) enum Replication {
    #[default]
    None,
    /// The master has been asked for the unfinished transactions.
    Asked,
    /// It copies up to `up_to`; `pending` have not ended yet. `fetched`: it has all of that.
    Running {
        pending: Set,
        up_to: Tid,
        fetched: bool,
    },
    DoneSent,
}

#[derive(Clone, PartialEq, Eq, Hash, Debug, Default)]
pub(crate) struct Storage {
    pub(crate) up: bool,
    /// Between StartOperation and the loss of the master: it serves clients.
    pub(crate) operational: bool,
    pub(crate) durable_table: Table,
    pub(crate) table: Table,
    /// Durable.
    pub(crate) reign: u8,
    pub(crate) rows: [Rows; TRANSACTIONS],
    /// Unlocked in a write that is not synced: a crash makes it locked again.
    pub(crate) unsynced: [bool; TRANSACTIONS],
    pub(crate) locks: [WriteLock; TRANSACTIONS],
    pub(crate) replication: Replication,
}

#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, Default)]
pub(crate) enum Role {
    #[default]
    Down,
    Secondary,
    Recovering,
    Verifying,
    Running,
}

/// A transaction, as its master knows it.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, Default)]
pub(crate) enum Transaction {
    #[default]
    None,
    Begun {
        /// Ready when it began, and there ever since.
        storages: Set,
    },
    Finishing {
        tid: Tid,
        /// Have not locked yet.
        awaiting: Set,
        storages: Set,
        /// Its client has lost the answer and asked for the final tid.
        asked: bool,
    },
}

#[derive(Clone, PartialEq, Eq, Hash, Debug, Default)]
pub(crate) struct Master {
    pub(crate) role: Role,
    pub(crate) table: Option<Table>,
    pub(crate) reign: u8,
    /// The last ttid or tid given.
    pub(crate) last_tid: Tid,
    pub(crate) last_committed: Tid,
    /// The greatest ptid that was ever used, void tables included.
    pub(crate) ptid_max: u8,
    /// It was primary when it went back to RECOVERING.
    pub(crate) stayed: bool,

    // RECOVERING and VERIFYING.
    /// Storages that have said what they remember.
    pub(crate) answered: [bool; STORAGES],
    /// With which it starts.
    pub(crate) chosen: Set,
    pub(crate) awaiting: Set,
    pub(crate) found: [Option<[Rows; TRANSACTIONS]>; STORAGES],
    /// The committed ones are known and told.
    pub(crate) validating: bool,

    // RUNNING.
    /// Told to start operation, not ready yet: no transaction begins meanwhile.
    pub(crate) starting: Set,
    pub(crate) ready: Set,
    /// Of which transactions a cell that catches up waits for the end.
    pub(crate) told_at_end: [Set; STORAGES],
    /// Storages whose cell is registered: it catches up.
    pub(crate) replicating: Set,
    /// The ptid of the table that promotes a cell, while others store it.
    pub(crate) promotion: Option<u8>,
    pub(crate) transactions: [Transaction; TRANSACTIONS],
}

#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, Default)]
pub(crate) enum Client {
    #[default]
    Idle,
    Beginning,
    Storing {
        sent: Set,
        locked: Set,
        unchecked: Set,
        failed: Set,
        base: Tid,
    },
    Voting {
        asked: Set,
        voted: Set,
        /// Stored there under a lock.
        locked: Set,
        failed: Set,
    },
    Finishing,
    /// The answer to finish is lost.
    InDoubt,
    AskingMaster,
    /// The master knows no tid; one of these may.
    Choosing(Set),
    AskingStorage(usize),
    ToldCommitted(Tid),
    ToldAborted,
    Dead,
}

/// What is so, whether or not a node knows it: what the checks compare with.
#[derive(Clone, PartialEq, Eq, Hash, Debug, Default)]
pub(crate) struct Truth {
    /// The reign and ttid that each transaction was given.
    pub(crate) names: [(u8, Tid); TRANSACTIONS],
    /// 0: not committed (yet).
    pub(crate) committed: [Tid; TRANSACTIONS],
    /// The serials that they are based on.
    pub(crate) bases: [Tid; TRANSACTIONS],
    /// The latest reign in which something was committed.
    pub(crate) commit_reign: u8,
    /// The first promise that was broken.
    pub(crate) broken: Option<&'static str>,
}

/// How many faults may still happen.
#[derive(Clone, PartialEq, Eq, Hash, Debug, Default)]
pub(crate) struct Budget {
    pub(crate) crashes: u8,
    pub(crate) breaks: u8,
}

#[derive(Clone, PartialEq, Eq, Hash, Debug, Default)]
pub(crate) struct State {
    pub(crate) storages: [Storage; STORAGES],
    pub(crate) masters: [Master; MASTERS],
    pub(crate) clients: [Client; CLIENTS],
    pub(crate) network: Network,
    pub(crate) truth: Truth,
    pub(crate) budget: Budget,
}

impl State {
    /// A cluster that runs, without data.
    pub(crate) fn initial(options: &Options) -> Self {
        let mut state = Self::default();
        let readable = [true, !options.catching_up];
        let table = Table {
            reign: 1,
            ptid: 1,
            readable,
        };
        for (number, storage) in state.storages.iter_mut().enumerate() {
            *storage = Storage {
                up: true,
                operational: true,
                durable_table: table,
                table,
                reign: 1,
                ..Storage::default()
            };
            state.network.storage_master[0][number].open_both();
        }
        state.masters[0] = Master {
            role: Role::Running,
            table: Some(table),
            reign: 1,
            ptid_max: 1,
            ready: (0..STORAGES).collect(),
            ..Master::default()
        };
        if options.catching_up {
            state.storages[1].replication = Replication::Asked;
            state
                .network
                .storage_to_master(0, 1, Message::AskUnfinishedTransactions);
        }
        if options.masters > 1 {
            state.masters[1].role = Role::Secondary;
        }
        for client in options.clients..CLIENTS {
            state.clients[client] = Client::Dead;
        }
        state.budget = Budget {
            crashes: options.crashes,
            breaks: options.breaks,
        };
        state
    }

    /// The object that a transaction stores.
    pub(crate) fn object(options: &Options, transaction: usize) -> usize {
        if options.same_object { 0 } else { transaction }
    }

    pub(crate) fn break_promise(&mut self, which: &'static str) {
        self.truth.broken.get_or_insert(which);
    }
}
