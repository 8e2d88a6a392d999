//! The messages, each with what the protocol calls it.

use crate::set::Set;
use crate::state::{PARTITIONS, Rows, TRANSACTIONS, Tid};
use crate::table::Table;

/// What nodes tell each other. `transaction` is a client's number: each has one transaction.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub(crate) enum Message {
    // Between storages and masters.
    /// First message of a storage: what it remembers (`AnswerRecovery`, `AnswerPartitionTable`), and
    /// the greatest tid that it has committed or locked (`AnswerLastIds`, where it is asked).
    Recovery {
        table: Table,
        reign: u8,
        reached: Tid,
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
    /// The greatest committed tid, and that of each partition (`AnswerLastIds`).
    LastTids {
        last: Tid,
        ends: [Tid; PARTITIONS],
    },
    /// The table, and: serve (`StartOperation`).
    StartOperation {
        table: Table,
        reign: u8,
    },
    NotifyReady,
    /// Of cells that catch up, by partition.
    AskUnfinishedTransactions {
        partitions: Set,
    },
    UnfinishedTransactions {
        partitions: Set,
        last_tid: Tid,
        pending: Set,
    },
    /// One of the pending ones has ended; tid 0: aborted.
    TransactionFinished {
        transaction: usize,
        tid: Tid,
    },
    ReplicationDone {
        partition: usize,
    },
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
    /// For which partitions a storage has voted.
    NotifyVoted {
        transaction: usize,
        partitions: Set,
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
    /// All objects that the storage gets, with the serial that the client saw of them.
    StoreObjects {
        base: Tid,
    },
    /// All objects are locked; in these partitions their serials were compared (`Locked`), in the
    /// others not (`Unchecked`).
    ObjectsStored {
        checked: Set,
    },
    Conflict,
    Refused,
    VoteTransaction,
    TransactionVoted,
    NonReadableCell,

    // From a master to a storage that went its own way, or belongs to another chain of epochs.
    OtherCluster,

    // Of several pairs.
    /// From a client to a storage or a master, from a master to a storage.
    AbortTransaction {
        transaction: usize,
    },
    /// From a client to a master or a storage.
    AskFinalTid,
    FinalTid(Tid),
}
