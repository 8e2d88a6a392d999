//! What can happen next: each step names who does what.

use std::fmt;

use crate::message::Message;
use crate::set::Set;
use crate::state::Tid;

/// One step: a message that is received, a loss that is noticed, work of a node by itself, a fault.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Step {
    MasterReceivesFromStorage {
        master: usize,
        storage: usize,
        message: Message,
    },
    StorageReceivesFromMaster {
        master: usize,
        storage: usize,
        message: Message,
    },
    MasterReceivesFromClient {
        master: usize,
        client: usize,
        message: Message,
    },
    /// On a connection that the client has left for a new one.
    MasterReceivesOnOldConnection {
        master: usize,
        client: usize,
        message: Message,
    },
    ClientReceivesFromMaster {
        master: usize,
        client: usize,
        message: Message,
    },
    /// The answer to begin: the client chooses what it saw, and where it writes.
    ClientBegins {
        master: usize,
        client: usize,
        storages: Set,
        base: Tid,
    },
    StorageReceivesFromClient {
        storage: usize,
        client: usize,
        message: Message,
    },
    ClientReceivesFromStorage {
        storage: usize,
        client: usize,
        message: Message,
    },

    MasterLosesStorage {
        master: usize,
        storage: usize,
    },
    StorageLosesMaster {
        master: usize,
        storage: usize,
    },
    MasterLosesClient {
        master: usize,
        client: usize,
    },
    MasterLosesOldConnection {
        master: usize,
        client: usize,
    },
    ClientLosesMaster {
        master: usize,
        client: usize,
    },
    StorageLosesClient {
        storage: usize,
        client: usize,
    },
    ClientLosesStorage {
        storage: usize,
        client: usize,
    },

    StorageConnects {
        master: usize,
        storage: usize,
    },
    ClientConnects {
        master: usize,
        client: usize,
    },
    ClientAsksStorage {
        storage: usize,
        client: usize,
    },
    /// It has an earlier connection to a storage that it wants to ask.
    ClientLeavesStorage {
        storage: usize,
        client: usize,
    },
    /// Before all have voted.
    ClientFinishesEarly {
        client: usize,
    },
    /// It cannot reach the storage that it was told to ask.
    ClientStartsOver {
        client: usize,
    },
    ClientGivesUpStore {
        storage: usize,
        client: usize,
    },
    StorageRetriesStore {
        storage: usize,
        client: usize,
        base: Tid,
    },
    StorageReplicates {
        storage: usize,
        partition: usize,
        source: usize,
    },
    StorageHasReplicated {
        storage: usize,
        partition: usize,
    },
    /// Only where a table is not made durable at once.
    StorageSyncsTable {
        storage: usize,
    },
    StartVerification {
        master: usize,
    },
    /// One that is RECOVERING gives way to another primary.
    MasterGivesWay {
        master: usize,
    },
    /// The other one is gone.
    SecondaryTakesOver {
        master: usize,
    },
    StorageRestarts {
        storage: usize,
    },
    MasterRestarts {
        master: usize,
    },

    CrashStorage {
        storage: usize,
    },
    CrashMaster {
        master: usize,
    },
    CrashClient {
        client: usize,
    },
    /// The connection breaks; this end sees it first, the other later.
    BreakSeenByStorage {
        master: usize,
        storage: usize,
    },
    BreakSeenByMaster {
        master: usize,
        storage: usize,
    },
    BreakMasterSeenByClient {
        master: usize,
        client: usize,
    },
    BreakStorageSeenByClient {
        storage: usize,
        client: usize,
    },
    BreakClientSeenByStorage {
        storage: usize,
        client: usize,
    },
    /// The other master only seems to be gone.
    SecondaryRises {
        master: usize,
    },
    /// By force, without the storages that are missing.
    OperatorStarts {
        master: usize,
    },
    /// Of what is durable.
    OperatorCopiesDisk {
        storage: usize,
    },
    OperatorPutsDiskBack {
        storage: usize,
    },
}

impl Step {
    /// What costs the budget: a cluster without such steps gets somewhere.
    pub(crate) fn is_fault(&self) -> bool {
        matches!(
            self,
            Self::CrashStorage { .. }
                | Self::CrashMaster { .. }
                | Self::CrashClient { .. }
                | Self::BreakSeenByStorage { .. }
                | Self::BreakSeenByMaster { .. }
                | Self::BreakMasterSeenByClient { .. }
                | Self::BreakStorageSeenByClient { .. }
                | Self::BreakClientSeenByStorage { .. }
                | Self::SecondaryRises { .. }
                | Self::OperatorStarts { .. }
                | Self::OperatorCopiesDisk { .. }
                | Self::OperatorPutsDiskBack { .. }
        )
    }

    /// An end notices that the other is gone.
    pub(crate) fn is_notice(&self) -> bool {
        matches!(
            self,
            Self::MasterLosesStorage { .. }
                | Self::StorageLosesMaster { .. }
                | Self::MasterLosesClient { .. }
                | Self::MasterLosesOldConnection { .. }
                | Self::ClientLosesMaster { .. }
                | Self::StorageLosesClient { .. }
                | Self::ClientLosesStorage { .. }
        )
    }
}

impl fmt::Display for Step {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::MasterReceivesFromStorage {
                master,
                storage,
                message,
            } => {
                write!(f, "S{storage} -> M{master}: {message:?}")
            }
            Self::StorageReceivesFromMaster {
                master,
                storage,
                message,
            } => {
                write!(f, "M{master} -> S{storage}: {message:?}")
            }
            Self::MasterReceivesFromClient {
                master,
                client,
                message,
            } => {
                write!(f, "C{client} -> M{master}: {message:?}")
            }
            Self::MasterReceivesOnOldConnection {
                master,
                client,
                message,
            } => {
                write!(f, "C{client} -> M{master}: {message:?} (old connection)")
            }
            Self::ClientReceivesFromMaster {
                master,
                client,
                message,
            } => {
                write!(f, "M{master} -> C{client}: {message:?}")
            }
            Self::StorageReceivesFromClient {
                storage,
                client,
                message,
            } => {
                write!(f, "C{client} -> S{storage}: {message:?}")
            }
            Self::ClientReceivesFromStorage {
                storage,
                client,
                message,
            } => {
                write!(f, "S{storage} -> C{client}: {message:?}")
            }
            other => write!(f, "{other:?}"),
        }
    }
}
