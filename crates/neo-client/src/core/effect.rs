//! What the application asks of the core, and what it is told.

use bytes::Bytes;
use neo_api::{
    Address, At, HistoryEntry, Loaded, NodeId, Oid, Partitioning, Record, Tid, TxnId, VotedRecord,
};
use neo_proto::{PackProgress, StoreKind, UndoRevision, WireRevision, WireTransaction};
use std::time::Duration;

use super::page::Page;
use super::routes::Routes;
use crate::error::Error;

/// Who waits for an answer; the application's side chooses it and never repeats it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ReplyId(pub u64);

/// A transaction of this client; the application's side chooses it and never repeats it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct TxnKey(pub u64);

/// An import of this client; the application's side chooses it and never repeats it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ImportKey(pub u64);

/// What a transaction does to an object.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Change {
    /// A new value.
    Value(Record),
    /// The value of an earlier revision.
    SameAs(Tid),
    /// No value: the object is deleted.
    Deletion,
    /// Nothing; but its serial must stay what it is until the transaction ends.
    Check,
}

impl Change {
    pub(super) fn kind(&self) -> Option<StoreKind> {
        Some(match self {
            Self::Value(record) => StoreKind::Value {
                compression: record.compression,
                checksum: record.checksum,
            },
            Self::SameAs(tid) => StoreKind::SameAs(*tid),
            Self::Deletion => StoreKind::Deletion,
            Self::Check => return None,
        })
    }

    pub(super) fn payload(&self) -> Bytes {
        match self {
            Self::Value(record) => record.data.clone(),
            _ => Bytes::new(),
        }
    }
}

/// What the application asks. Every command with a `reply` is answered once, by
/// [`Event::Reply`], [`Event::Loaded`] or [`Event::Committed`].
#[derive(Debug)]
pub enum Command {
    /// Answered when the client can work, or after `timeout`.
    WaitReady {
        /// Who waits.
        reply: ReplyId,
        /// How long.
        timeout: Duration,
    },
    /// Answered when `last_tid` is at least what was committed before.
    Sync {
        /// Who waits.
        reply: ReplyId,
    },
    /// Answered after a while.
    Sleep {
        /// Who waits.
        reply: ReplyId,
        /// How long.
        duration: Duration,
    },
    /// A block of oids.
    NewOids {
        /// Who waits.
        reply: ReplyId,
        /// How many.
        count: u32,
    },
    /// A revision of an object; `Latest` is as of the last tid.
    Load {
        /// Who waits.
        reply: ReplyId,
        /// Which object.
        oid: Oid,
        /// Which revision.
        at: At,
    },
    /// Revisions of several objects, each answered on its own; those that one node has are asked
    /// of it in one round trip.
    LoadMany {
        /// Who waits for which revision of which object.
        loads: Vec<(ReplyId, Oid, At)>,
    },
    /// Metadata or history.
    Page {
        /// Who waits.
        reply: ReplyId,
        /// What.
        page: Page,
    },
    /// Begins a transaction.
    Begin {
        /// Its key.
        txn: TxnKey,
        /// Who waits.
        reply: ReplyId,
        /// Imposes the tid.
        tid: Option<Tid>,
    },
    /// Stores, deletes or checks an object. Answered when every cell has answered, or failed;
    /// conflicts show at the vote.
    Store {
        /// Of which transaction.
        txn: TxnKey,
        /// Who waits.
        reply: ReplyId,
        /// Which object.
        oid: Oid,
        /// The revision that the change starts from; 0: a new object.
        serial: Tid,
        /// What it becomes.
        change: Change,
    },
    /// What the transaction does to these objects so far.
    Changes {
        /// Which transaction.
        txn: TxnKey,
        /// Who waits.
        reply: ReplyId,
        /// Which objects.
        oids: Vec<Oid>,
    },
    /// Votes. Answered by `Reply::Conflicts` when changes must be merged first (by `Resolve`; then
    /// vote again), else by `Reply::Voted`.
    Vote {
        /// Which transaction.
        txn: TxnKey,
        /// Who waits.
        reply: ReplyId,
        /// What is kept of it. The oids are filled in; when it orders a pack, it changes nothing.
        record: VotedRecord,
    },
    /// The merge of a conflict.
    Resolve {
        /// Which transaction.
        txn: TxnKey,
        /// As in the conflict.
        oid: Oid,
        /// As in the conflict.
        version: u32,
        /// The revision that is merged in: as in the conflict.
        serial: Tid,
        /// The merged value.
        record: Record,
    },
    /// Commits. Answered by [`Event::Committed`], or an error.
    Finish {
        /// Which transaction.
        txn: TxnKey,
        /// Who waits.
        reply: ReplyId,
    },
    /// Forgets a transaction, unless its finish was asked: that goes on.
    Abort {
        /// Which transaction.
        txn: TxnKey,
    },
    /// Begins an import.
    BeginImport {
        /// Its key.
        import: ImportKey,
        /// Who waits.
        reply: ReplyId,
    },
    /// A batch of an import: transactions and revisions in order of tid, after all before.
    ImportBatch {
        /// Of which import.
        import: ImportKey,
        /// Who waits.
        reply: ReplyId,
        /// Transactions.
        transactions: Vec<WireTransaction>,
        /// Revisions, each with its value.
        revisions: Vec<(WireRevision, Bytes)>,
    },
    /// Commits everything of an import so far. No batch may be without an answer.
    CheckpointImport {
        /// Which import.
        import: ImportKey,
        /// Who waits.
        reply: ReplyId,
        /// The greatest tid so far.
        tid: Tid,
        /// The greatest oid so far.
        last_oid: Oid,
    },
    /// Ends an import at its last checkpoint.
    EndImport {
        /// Which import.
        import: ImportKey,
        /// Who waits, if anybody.
        reply: Option<ReplyId>,
    },
    /// Answered when every readable cell has applied an order, however long it takes.
    WaitPack {
        /// Who waits.
        reply: ReplyId,
        /// The tid of the transaction that ordered it.
        id: Tid,
    },
    /// How far packs are.
    PackProgress {
        /// Who waits.
        reply: ReplyId,
    },
    /// Finishes what is being committed, aborts the rest, and ends.
    Close,
}

/// A conflict that the application may merge.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Conflict {
    /// The object.
    pub oid: Oid,
    /// Which of this transaction's changes of it.
    pub version: u32,
    /// The revision that the change starts from.
    pub base: Tid,
    /// The newest revision.
    pub serial: Tid,
    /// The change.
    pub change: Change,
}

/// The answer to a command.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Reply {
    /// Done.
    Done,
    /// The last tid, after a sync.
    LastTid(Tid),
    /// Oids from the first.
    Oids {
        /// The first.
        first: Oid,
        /// How many.
        count: u32,
    },
    /// A page of transactions; `complete`: nothing is left in the range.
    Transactions {
        /// In the order asked.
        transactions: Vec<WireTransaction>,
        /// Nothing is left in the range.
        complete: bool,
    },
    /// A page of revisions with their values.
    Revisions {
        /// Ascending by (tid, oid).
        revisions: Vec<(WireRevision, Option<Bytes>)>,
        /// Nothing is left in the range.
        complete: bool,
    },
    /// One transaction.
    Transaction(Option<Box<WireTransaction>>),
    /// Revisions of an object.
    History {
        /// Newest first.
        entries: Vec<HistoryEntry>,
        /// Nothing is left.
        complete: bool,
    },
    /// Objects as they were.
    Current {
        /// Ascending by oid, each with its value if it was wanted.
        revisions: Vec<(WireRevision, Option<Bytes>)>,
        /// Where the next page begins; `None`: nothing is left.
        next: Option<Oid>,
    },
    /// Bytes that a partition takes.
    Size(u64),
    /// What it takes to undo, in the order asked.
    Undo(Vec<Option<UndoRevision>>),
    /// A page of what a pack may have removed.
    PackedAway,
    /// What a transaction does to objects, in the order asked: the revision that the change starts
    /// from, and the change.
    Changes(Vec<Option<(Tid, Change)>>),
    /// The transaction's name.
    Begun(TxnId),
    /// What must be merged before the vote.
    Conflicts(Vec<Conflict>),
    /// Voted; these objects were merged.
    Voted(Vec<Oid>),
    /// The import goes on after this tid.
    ImportBegun(Tid),
    /// How far packs are.
    PackProgress(PackProgress),
}

/// How long a loaded revision is valid, for the cache.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Validity {
    /// It is the newest, until an invalidation says otherwise.
    Current,
    /// Until the next revision, of this tid.
    Until(Tid),
    /// For reads before this tid at least; the next revision is not known.
    AtLeast(Tid),
}

/// What the application is told, in order.
#[derive(Debug)]
pub enum Event {
    /// The client can work.
    Ready {
        /// Its node id.
        nid: NodeId,
        /// How oids and tids map to partitions.
        partitioning: Partitioning,
    },
    /// It can't, until `Ready`.
    NotReady {
        /// Why.
        reason: String,
    },
    /// Where storage nodes are that can be read from; `None`: the client is not ready.
    Routes(Option<Box<Routes>>),
    /// These masters are known, some of them since now.
    Masters(Vec<Address>),
    /// The answer to a command.
    Reply {
        /// Whose.
        id: ReplyId,
        /// What.
        result: Result<Reply, Error>,
    },
    /// The answer to loads.
    Loaded {
        /// Which object.
        oid: Oid,
        /// Who waits.
        waiters: Vec<ReplyId>,
        /// What was found. The value is intact, but may be compressed.
        loaded: Loaded,
        /// How the cache may keep it.
        validity: Validity,
    },
    /// Somebody else committed: cached intervals of these objects end at `tid`; then it is the
    /// last tid.
    Invalidated {
        /// The transaction.
        tid: Tid,
        /// What it changed.
        oids: Vec<Oid>,
    },
    /// Transactions were missed: what is cached as current is valid up to `known`; then `tid` is
    /// the last tid.
    Resynced {
        /// The last tid before.
        known: Tid,
        /// The last tid.
        tid: Tid,
    },
    /// The database is not what it was (another epoch, or truncated): nothing that is cached
    /// counts; `tid` is the last tid.
    Cleared {
        /// The last tid.
        tid: Tid,
    },
    /// A transaction of this client is committed: cached intervals of its objects end at `tid`;
    /// then the application's callback runs; then `tid` is the last tid; then `reply` is answered.
    Committed {
        /// Which.
        txn: TxnKey,
        /// Who waits.
        reply: Option<ReplyId>,
        /// Its tid.
        tid: Tid,
        /// What it changed; `None`: deleted, or a value that is not at hand.
        changed: Vec<(Oid, Option<Record>)>,
        /// Nothing committed later was told yet: the values are current.
        newest: bool,
    },
}
