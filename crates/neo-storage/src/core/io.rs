//! What every part of the core uses to talk: effects, and the jobs that are under way.

use std::collections::BTreeMap;

use neo_api::{
    BackendError, DataId, Durability, Instant, Now, Oid, Partition, Reign, TableVersion, Tid,
    TxnId, WriteBatch, WriteOp,
};
use neo_proto::{ConnId, Effect, Effects, ErrorCode, Message, MsgId, Packet};

use super::StorageCore;
use super::effect::{COMMITTED_IN, Job, Query, Token};
use super::initialization::set;
use super::lock::Ticket;
use super::transaction::Era;

/// A request to answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Asker {
    pub(crate) conn: ConnId,
    pub(crate) id: MsgId,
}

/// What a finished write leads to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum AfterPersist {
    /// The partition table is durable.
    Table,
    /// The reign is durable.
    Reign(Asker, Reign),
    /// The oid mark is durable.
    OidMark(Asker, Oid),
    /// The import mark is durable.
    ImportMark(Asker, u64, Option<Tid>),
    /// What was imported is durable.
    SyncImport(Asker, u64),
    /// A long request of the primary goes on.
    Task(u64),
    /// A value of a transaction was written early; the peer gets its credit back.
    Data {
        txn: TxnId,
        id: DataId,
        conn: ConnId,
        bytes: u64,
    },
    /// A page of a vote.
    Vote(TxnId),
    /// The tid of a transaction.
    Lock(TxnId),
    /// A page of an unlock.
    Unlock(TxnId),
    /// Something was cleaned up.
    Clean,
    /// A batch of an import.
    Import { asker: Asker, bytes: u64 },
    /// A page that a cell fetched, so many pages after the service began.
    Fetched(u64),
    /// All of a cell is durable.
    Caught(Partition, TableVersion),
    /// Rows of a discarded cell were deleted.
    Dropped(u64),
    /// A step of a pack.
    Packed(u64),
    /// Nothing: who waited for it is gone.
    Nothing,
}

impl AfterPersist {
    /// Whether a client waits for it, at once or before long.
    const fn is_for_clients(&self) -> bool {
        matches!(
            self,
            Self::Data { .. }
                | Self::Vote(_)
                | Self::Lock(_)
                | Self::Unlock(_)
                | Self::Import { .. }
        )
    }

    /// Whether the node itself must know that it is durable, whoever asked for it.
    const fn changes_the_node(&self) -> bool {
        matches!(
            self,
            Self::Table | Self::Reign(..) | Self::OidMark(..) | Self::ImportMark(..)
        )
    }
}

/// What a finished read leads to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum AfterRead {
    /// The node starts.
    Start,
    /// A store, check or relock has the newest serial.
    Serial(Ticket),
    /// The greatest oid that has a revision, in an era of serials.
    LastOid(Era),
    /// A read of a peer.
    Peer(Asker),
    /// A long request of the primary goes on.
    Task(u64),
    /// A page of what is to be cleaned up.
    Clean,
    /// How far cells go that a table makes out of date.
    Extent,
    /// How far cells were replicated that are to catch up.
    Progress,
    /// What is here of a cell that catches up, before it is compared.
    Own(u64),
    /// Newest serials of objects that were locked without a look at them.
    Serials(Partition),
    /// Rows of a discarded cell.
    Drop(u64),
    /// How far cells are packed.
    PackStates,
    /// What a step of a pack removes.
    Obsolete(u64),
    /// Transactions that a pack may have emptied.
    Packable(u64),
    /// What it leaves of them.
    Remaining(u64),
}

#[derive(Debug)]
struct Persist {
    since: Instant,
    then: AfterPersist,
    /// It can't be refused: on a full disk it is tried again.
    again: Option<(WriteBatch, Durability)>,
}

/// Jobs under way.
#[derive(Debug, Default)]
pub(crate) struct Jobs {
    last: u64,
    next_data_id: DataId,
    /// The latest reign in which something was committed that is here.
    committed_in: Reign,
    /// Whether a write that may have noted it was given up.
    is_unsure: bool,
    persists: BTreeMap<Token, Persist>,
    reads: BTreeMap<Token, AfterRead>,
    retries: BTreeMap<(Instant, Token), (WriteBatch, Durability)>,
}

impl Jobs {
    /// A data id that was never used.
    pub(crate) fn data_id(&mut self) -> DataId {
        let id = self.next_data_id;
        self.next_data_id = id.next();
        id
    }

    /// The backend uses ids below this one.
    pub(crate) fn start_data_ids(&mut self, next: DataId) {
        self.next_data_id = self.next_data_id.max(next);
    }

    /// What the database has noted of the last commit.
    pub(crate) fn start_commits(&mut self, committed_in: Reign) {
        self.committed_in = committed_in;
    }

    /// The latest reign in which something was committed that is here.
    pub(crate) const fn committed_in(&self) -> Reign {
        self.committed_in
    }

    /// What belongs into a batch that brings what was committed in a reign to its final place, so
    /// that whatever is here is of no later reign than the one noted.
    pub(crate) fn note_commit(&mut self, reign: Reign) -> Option<WriteOp> {
        if reign <= self.committed_in && !self.is_unsure {
            return None;
        }
        self.is_unsure = false;
        self.committed_in = self.committed_in.max(reign);
        Some(set(COMMITTED_IN, Some(self.committed_in.0.to_string())))
    }

    fn token(&mut self) -> Token {
        self.last += 1;
        Token(self.last)
    }

    /// Whether no write is under way.
    pub(crate) fn is_quiet(&self) -> bool {
        self.persists.is_empty()
    }

    /// Whether a client waits for a write.
    pub(crate) fn is_client_waiting(&self) -> bool {
        self.persists
            .values()
            .any(|persist| persist.then.is_for_clients())
    }

    /// When the oldest write began.
    pub(crate) fn oldest_persist(&self) -> Option<Instant> {
        self.persists.values().next().map(|persist| persist.since)
    }

    /// When a write is to be tried again.
    pub(crate) fn next_retry(&self) -> Option<Instant> {
        self.retries.keys().next().map(|(at, _)| *at)
    }

    /// The service ends: nobody waits any more for what is under way, and what waits for space is
    /// given up. Says whether the partition table is given up with it.
    pub(crate) fn abandon(&mut self) -> bool {
        self.reads.clear();
        let mut table = false;
        self.is_unsure |= !self.retries.is_empty();
        for (_, token) in std::mem::take(&mut self.retries).into_keys() {
            let persist = self.persists.remove(&token);
            table |= persist.is_some_and(|persist| persist.then == AfterPersist::Table);
        }
        for persist in self.persists.values_mut() {
            if !persist.then.changes_the_node() {
                persist.then = AfterPersist::Nothing;
                persist.again = None;
            }
        }
        table
    }

    /// Whether such a read is under way.
    pub(crate) fn has_read(&self, then: &AfterRead) -> bool {
        self.reads.values().any(|under_way| under_way == then)
    }

    pub(crate) fn read_done(&mut self, token: Token) -> Option<AfterRead> {
        self.reads.remove(&token)
    }
}

/// The moment, the effects, the jobs: what a part of the core is handed with each input.
#[derive(Debug)]
pub(crate) struct Io<'a> {
    pub(crate) now: Now,
    pub(crate) out: &'a mut Effects<StorageCore>,
    pub(crate) jobs: &'a mut Jobs,
}

impl Io<'_> {
    /// Writes something that may be refused.
    pub(crate) fn persist(
        &mut self,
        batch: WriteBatch,
        durability: Durability,
        then: AfterPersist,
    ) {
        self.write(batch, durability, then, false);
    }

    /// Writes something that was promised: it is tried again until there is space, or the node
    /// fails.
    pub(crate) fn persist_surely(
        &mut self,
        batch: WriteBatch,
        durability: Durability,
        then: AfterPersist,
    ) {
        self.write(batch, durability, then, true);
    }

    fn write(
        &mut self,
        batch: WriteBatch,
        durability: Durability,
        then: AfterPersist,
        surely: bool,
    ) {
        let token = self.jobs.token();
        let persist = Persist {
            since: self.now.mono,
            then,
            again: surely.then(|| (batch.clone(), durability)),
        };
        self.jobs.persists.insert(token, persist);
        self.out.job(Job::Persist {
            token,
            batch,
            durability,
        });
    }

    /// A write is done: what it leads to, unless it will be tried again.
    pub(crate) fn persisted(
        &mut self,
        token: Token,
        result: Result<(), BackendError>,
        retry_at: Instant,
    ) -> Option<(AfterPersist, Result<(), BackendError>)> {
        let persist = self.jobs.persists.get_mut(&token)?;
        let for_want_of_space = matches!(
            result,
            Err(BackendError::Full | BackendError::Unavailable(_))
        );
        if for_want_of_space && let Some(again) = persist.again.take() {
            self.jobs.retries.insert((retry_at, token), again);
            return None;
        }
        let persist = self.jobs.persists.remove(&token)?;
        Some((persist.then, result))
    }

    /// Tries again what is due.
    pub(crate) fn retry(&mut self) {
        while let Some(entry) = self.jobs.retries.first_entry() {
            if entry.key().0 > self.now.mono {
                break;
            }
            let ((_, token), (batch, durability)) = entry.remove_entry();
            if let Some(persist) = self.jobs.persists.get_mut(&token) {
                persist.again = Some((batch.clone(), durability));
            }
            self.out.job(Job::Persist {
                token,
                batch,
                durability,
            });
        }
    }

    /// Reads something.
    pub(crate) fn read(&mut self, query: Query, then: AfterRead) {
        let token = self.jobs.token();
        self.jobs.reads.insert(token, then);
        self.out.job(Job::Read { token, query });
    }

    pub(crate) fn answer(&mut self, to: Asker, packet: Packet) {
        self.out.send(to.conn, to.id, packet);
    }

    pub(crate) fn answer_with(&mut self, to: Asker, packet: Packet, payload: bytes::Bytes) {
        self.out.push(Effect::Send {
            conn: to.conn,
            message: Message::with_payload(to.id, packet, payload),
        });
    }

    pub(crate) fn error(&mut self, to: Asker, code: ErrorCode, message: impl Into<String>) {
        let message = message.into();
        self.out
            .send(to.conn, to.id, Packet::Error { code, message });
    }

    pub(crate) fn consumed(&mut self, conn: ConnId, bytes: u64) {
        if bytes > 0 {
            self.out.push(Effect::Consumed { conn, bytes });
        }
    }
}

/// How a failed write or read is told to the peer that asked for it.
pub(crate) fn code_of(error: &BackendError) -> ErrorCode {
    match error {
        BackendError::Full => ErrorCode::NoSpace,
        BackendError::ReadOnly => ErrorCode::ReadOnly,
        BackendError::Unavailable(_) => ErrorCode::NotReady,
        BackendError::Missing { .. } => ErrorCode::MissingRevision,
        BackendError::Unsupported(_) => ErrorCode::TooLarge,
        _ => ErrorCode::Internal,
    }
}

/// An error with its causes, in one line.
pub(crate) fn words(error: &BackendError) -> String {
    let mut text = error.to_string();
    let mut source = std::error::Error::source(error);
    while let Some(cause) = source {
        text.push_str(": ");
        text.push_str(&cause.to_string());
        source = cause.source();
    }
    text
}
