//! The messages, each with what the protocol calls it.

use crate::set::Set;
use crate::state::{Rows, TRANSACTIONS, Tid};
use crate::table::Table;

/// What nodes tell each other. `transaction` is a client's number: each has one transaction.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub(crate) enum Message {
    // Between storages and masters.
    /// First message of a storage: what it remembers (`AnswerRecovery`, `AnswerPartitionTable`).
    Recovery {
        table: Table,
        reign: u8,
    },
    /// VERIFYING: the table and the new reign (`SendPartitionTable`, `AskStartReign`).
    StartReign {
        table: Table,
        reign: u8,
    },
    /// What the storage has of each transaction (`AnswerLockedTransactions`, `AnswerFinalTid`).
    LockedTransactions([Rows; TRANSACTIONS]),
    /// The tids of those that are committed (`AskValidateTransaction`); 0 for the others.
    Validate([Tid; TRANSACTIONS]),
    /// The greatest committed tid (`AnswerLastIds`).
    LastTid(Tid),
    /// The table, and: serve (`StartOperation`).
    StartOperation {
        table: Table,
        reign: u8,
    },
    NotifyReady,
    /// Asked by a cell that catches up.
    AskUnfinishedTransactions,
    UnfinishedTransactions {
        last_tid: Tid,
        pending: Set,
    },
    /// One of the pending ones has ended; tid 0: aborted.
    TransactionFinished {
        transaction: usize,
        tid: Tid,
    },
    ReplicationDone,
    PartitionTable(Table),
    PartitionTableStored {
        ptid: u8,
    },
    LockInformation {
        transaction: usize,
        tid: Tid,
    },
    InformationLocked {
        transaction: usize,
    },
    UnlockInformation {
        transaction: usize,
    },

    // Between clients and masters.
    BeginTransaction,
    /// The storages that take part.
    TransactionBegun {
        storages: Set,
    },
    /// With the storages that failed (`AskFailedVote`).
    FinishTransaction {
        failed: Set,
    },
    TransactionFinishedAt(Tid),
    FinishRefused,
    /// No tid is known, ask one of these.
    AskStorages {
        readable: Set,
    },
    NotCommitted,

    // Between clients and storages.
    /// With the serial that the client saw.
    StoreObject {
        base: Tid,
    },
    ObjectLocked,
    /// Taken without a lock, by a cell that catches up.
    ObjectUnchecked,
    Conflict,
    Refused,
    VoteTransaction,
    TransactionVoted,
    NonReadableCell,

    // Of several pairs.
    /// From a client to a storage or a master, from a master to a storage.
    AbortTransaction {
        transaction: usize,
    },
    /// From a client to a master or a storage.
    AskFinalTid,
    FinalTid(Tid),
}
