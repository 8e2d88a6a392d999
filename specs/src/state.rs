//! What a state of the model is: every node, what is on its way between them, and what is true.

use crate::network::Network;
use crate::options::Options;
use crate::set::Set;
use crate::table::Table;
use crate::truth::Truth;

pub(crate) const STORAGES: usize = 2;
pub(crate) const MASTERS: usize = 2;
pub(crate) const CLIENTS: usize = 2;
pub(crate) const PARTITIONS: usize = 2;
/// Each client has one transaction, of the same number.
pub(crate) const TRANSACTIONS: usize = CLIENTS;

/// At most two forced starts.
pub(crate) const EPOCHS: usize = 3;

/// One counter gives ttids and tids; 0 is none.
pub(crate) type Tid = u8;

/// What a storage has of one transaction, on disk but for the tid where the metadata is not.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, Default)]
pub(crate) struct Rows {
    /// The partitions of what is voted and not unlocked: objects, or metadata.
    pub(crate) unfinished: Set,
    /// The tid under which it is locked, or 0.
    pub(crate) locked: Tid,
    /// The tid with which it is in its final place, by partition, or 0.
    pub(crate) committed: [Tid; PARTITIONS],
}

impl Rows {
    pub(crate) fn is_empty(&self) -> bool {
        *self == Self::default()
    }

    pub(crate) fn is_unfinished(&self) -> bool {
        !self.unfinished.is_empty()
    }

    /// What is unfinished moves to its final place.
    pub(crate) fn unlock(&mut self, tid: Tid) {
        for partition in std::mem::take(&mut self.unfinished).members() {
            self.committed[partition] = tid;
        }
        self.locked = 0;
    }

    pub(crate) fn drop_unfinished(&mut self) {
        self.unfinished = Set::EMPTY;
        self.locked = 0;
    }

    /// The partitions in which it is in its final place.
    pub(crate) fn final_partitions(&self) -> Set {
        (0..PARTITIONS)
            .filter(|&partition| self.committed[partition] != 0)
            .collect()
    }

    /// The greatest tid that it is locked or committed with.
    pub(crate) fn reached(&self) -> Tid {
        self.committed.into_iter().fold(self.locked, Tid::max)
    }
}

/// What a storage has in memory of what a transaction stores, and of the locks that it takes.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, Default)]
pub(crate) enum WriteLock {
    #[default]
    None,
    /// Another transaction has the lock; `base` is the serial that the client saw.
    Waiting { base: Tid },
    Held {
        base: Tid,
        /// The partitions with objects of the transaction.
        stored: Set,
        /// Those where the serial was not compared: the cell catches up.
        unchecked: Set,
    },
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
    /// What was unlocked in a write that is not synced: a crash makes it unfinished again.
    pub(crate) unsynced: [Set; TRANSACTIONS],
    pub(crate) locks: [WriteLock; TRANSACTIONS],
    /// By partition.
    pub(crate) replication: [Replication; PARTITIONS],
    /// A master has told it that it went its own way: it ends.
    pub(crate) refused: bool,
    /// A copy that was made of its disk.
    pub(crate) copy: Option<Disk>,
}

/// What is durable on a storage.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub(crate) struct Disk {
    pub(crate) table: Table,
    pub(crate) reign: u8,
    pub(crate) rows: [Rows; TRANSACTIONS],
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
        /// The partitions for which each storage has told of its vote.
        votes: [Set; STORAGES],
        /// Its client wants it finished, without these storages; some have not told of their vote.
        parked: Option<Set>,
    },
    Finishing {
        tid: Tid,
        /// Of the storages that are to lock, those that have not yet.
        awaiting: Set,
        storages: Set,
        /// Its client has lost the answer and asked for the final tid.
        asked: bool,
    },
}

/// A table that promotes cells, while those that have readable ones store it.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub(crate) struct Promotion {
    pub(crate) table: Table,
    pub(crate) first: Set,
    pub(crate) awaiting: Set,
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
    /// Storages that have said what they remember, with the last epoch that they know.
    pub(crate) answered: [Option<usize>; STORAGES],
    /// How far they went: the greatest tid that each has committed or locked.
    pub(crate) reached: [Tid; STORAGES],
    /// With which it starts.
    pub(crate) chosen: Set,
    pub(crate) awaiting: Set,
    pub(crate) found: [Option<[Rows; TRANSACTIONS]>; STORAGES],
    /// The committed ones are known and told.
    pub(crate) validating: bool,
    /// The greatest committed tid of each of their partitions.
    pub(crate) ends: [Option<[Tid; PARTITIONS]>; STORAGES],
    /// Cells that lack something are out of date; the table is being stored.
    pub(crate) outdating: bool,

    // RUNNING.
    /// Told to start operation, not ready yet: no transaction begins meanwhile.
    pub(crate) starting: Set,
    pub(crate) ready: Set,
    /// Of each storage, the partitions whose cell is registered: it catches up.
    pub(crate) registered: [Set; STORAGES],
    /// Those of them that are complete.
    pub(crate) done: [Set; STORAGES],
    /// The transactions that were pending when a cell was registered, and still are:
    /// `[partition][storage]`.
    pub(crate) missed: [[Set; STORAGES]; PARTITIONS],
    pub(crate) promotion: Option<Promotion>,
    pub(crate) transactions: [Transaction; TRANSACTIONS],
}

#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, Default)]
pub(crate) enum Client {
    #[default]
    Idle,
    Beginning,
    Storing {
        sent: Set,
        stored: Set,
        failed: Set,
        /// The partitions where each storage has compared the serial.
        checked: [Set; STORAGES],
    },
    Voting {
        asked: Set,
        voted: Set,
        failed: Set,
        checked: [Set; STORAGES],
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

/// How many faults may still happen.
#[derive(Clone, PartialEq, Eq, Hash, Debug, Default)]
pub(crate) struct Budget {
    pub(crate) crashes: u8,
    pub(crate) breaks: u8,
    /// Forced starts.
    pub(crate) forced: u8,
    /// Copies of S1's disk.
    pub(crate) copies: u8,
}

#[derive(Clone, PartialEq, Eq, Hash, Debug, Default)]
pub(crate) struct State {
    pub(crate) storages: [Storage; STORAGES],
    pub(crate) masters: [Master; MASTERS],
    pub(crate) clients: [Client; CLIENTS],
    /// The last epoch of the chain that each client has been shown.
    pub(crate) client_epochs: [usize; CLIENTS],
    pub(crate) network: Network,
    pub(crate) truth: Truth,
    pub(crate) budget: Budget,
}

impl State {
    /// A cluster that runs, without data.
    pub(crate) fn initial(options: &Options) -> Self {
        let mut state = Self::default();
        let table = Table {
            epoch: 0,
            reign: 1,
            ptid: 1,
            cells: options.cells(),
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
            last_tid: options.first_tid,
            ..Master::default()
        };
        for storage in 0..STORAGES {
            state.storage_asks_unfinished(storage, table.out_of_date_on(storage));
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
            forced: options.forced,
            copies: options.copies,
        };
        state
    }

    /// Whether two transactions store the same objects.
    pub(crate) fn rivals(options: &Options, one: usize, other: usize) -> bool {
        one != other && options.same_object
    }

    /// The partition of a transaction's metadata: its ttid's, and so its tid's.
    pub(crate) fn home(&self, transaction: usize, options: &Options) -> usize {
        usize::from(self.truth.names[transaction].1) % options.partitions
    }

    /// The partitions that a transaction involves.
    pub(crate) fn involved(&self, transaction: usize, options: &Options) -> Set {
        options
            .object_partitions()
            .or(Set::one(self.home(transaction, options)))
    }
}
