//! The read path: a gate, a read beside others, and the gate again.
//!
//! The gate opens on readable partitions only, and makes readers of a locked object wait until its
//! new revision is visible. A partition that stops being readable while it is read answers
//! `NonReadableCell`: what is not found in it may just be gone.
//!
//! A reader of the past is let through; but when what it finds is the newest of an object that was
//! locked when it asked, it waits too. Its client may know already that the locked transaction is
//! committed, and would take the answer for the newest revision, for as long as nothing else
//! changes the object.

use std::collections::{BTreeMap, VecDeque};

use bytes::{Bytes, BytesMut};
use neo_api::{
    At, BackendResult, FetchedRevision, Loaded, Oid, PageLimit, Partition, RevisionId, Tid, TxnId,
};
use neo_proto::{
    ConnId, ErrorCode, FinalTid, ObjectAnswer, Packet, WireRevision, WireTransaction, WireValue,
};

use super::cells::Cells;
use super::effect::{Query, QueryResult};
use super::io::{AfterRead, Asker, Io, code_of};
use super::transaction::{Era, Transactions};

/// Most entries of an answer.
const PAGE_ENTRIES_MAX: usize = 10_000;
/// An answer ends with the entry that reaches this many bytes.
const PAGE_BYTES_MAX: usize = 4 << 20;

/// Bytes of answers that the reads of one connection bring at the same time, about.
const WINDOW_BYTES: usize = 16 << 20;
/// Reads of a connection that run at first.
const FIRST_READS: usize = 4;

/// What a peer wants to read.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Wanted {
    Object {
        oid: Oid,
        at: At,
    },
    Transaction {
        tid: Tid,
    },
    Transactions {
        partition: Partition,
        min: Tid,
        max: Tid,
        entries: u32,
    },
    Revisions {
        partition: Partition,
        min: RevisionId,
        max: Tid,
        bytes: u32,
    },
    FinalTid {
        txn: TxnId,
    },
}

/// What a read waits for.
#[derive(Debug, Clone, Copy)]
enum Block {
    /// The transaction of this tid.
    At(Tid),
    /// Every transaction locked at or below this tid.
    UpTo(Tid),
}

#[derive(Debug)]
struct PeerRead {
    asker: Asker,
    partition: Partition,
    wanted: Wanted,
    /// The object is locked for this tid, which is later than what is wanted.
    later: Option<Tid>,
    /// The era of serials in which it was asked.
    era: Era,
}

#[derive(Debug)]
struct Running {
    read: PeerRead,
    /// The period since which the partition was readable when the read began.
    period: u64,
}

#[derive(Debug, Default)]
struct ConnReads {
    running: BTreeMap<Asker, Running>,
    /// They wait for their turn.
    waiting: VecDeque<PeerRead>,
    /// They wait for a transaction to be unlocked.
    blocked: Vec<(Block, PeerRead)>,
    /// The peer does not take the answers that it has: nothing is read for it.
    congested: bool,
    /// How large the last answer was: as many reads run as would bring a window of answers like
    /// it. At first, whatever a few may bring.
    last_bytes: Option<usize>,
}

impl ConnReads {
    /// How many reads may run at the same time.
    fn places(&self, running_max: usize) -> usize {
        let fit = self
            .last_bytes
            .map_or(FIRST_READS, |bytes| WINDOW_BYTES / bytes.max(1));
        if self.congested {
            0
        } else {
            fit.clamp(1, running_max)
        }
    }
}

/// The reads of peers.
#[derive(Debug)]
pub(crate) struct Reads {
    running_max: usize,
    waiting_max: usize,
    conns: BTreeMap<ConnId, ConnReads>,
}

impl Reads {
    pub(crate) const fn new(running_max: usize, waiting_max: usize) -> Self {
        Self {
            running_max,
            waiting_max,
            conns: BTreeMap::new(),
        }
    }

    /// A peer asks.
    pub(crate) fn ask(
        &mut self,
        cells: &Cells,
        txns: &Transactions,
        io: &mut Io<'_>,
        asker: Asker,
        wanted: Wanted,
    ) {
        let Some(partition) = wanted.partition(cells) else {
            let text = "this node has no readable cell of that partition";
            return io.error(asker, ErrorCode::NonReadableCell, text);
        };
        let reads = self.conns.entry(asker.conn).or_default();
        if reads.waiting.len() + reads.blocked.len() >= self.waiting_max {
            let text = format!("{} reads of this connection wait already", self.waiting_max);
            return io.error(asker, ErrorCode::TooLarge, text);
        }
        if let Wanted::FinalTid { txn } = wanted
            && let Some(tid) = txns.tid_of(txn)
        {
            let tid = FinalTid::Committed(tid);
            return io.answer(asker, Packet::AnswerFinalTid { tid });
        }
        let block = wanted.block(txns);
        let read = PeerRead {
            asker,
            partition,
            wanted,
            era: txns.era(),
            later: match wanted {
                Wanted::Object { oid, .. } if block.is_none() => txns.locked_at(oid),
                _ => None,
            },
        };
        match block {
            Some(block) => reads.blocked.push((block, read)),
            None => reads.waiting.push_back(read),
        }
        self.start(cells, io, asker.conn);
    }

    /// A transaction was unlocked: goes on with the reads that waited for it.
    pub(crate) fn unlocked(&mut self, cells: &Cells, txns: &Transactions, io: &mut Io<'_>) {
        let mut conns = Vec::new();
        for (conn, reads) in &mut self.conns {
            let holds = |block: &Block| match *block {
                Block::At(tid) => txns.is_locked(tid),
                Block::UpTo(tid) => txns.greatest_locked(tid).is_some(),
            };
            let free = reads.blocked.extract_if(.., |(block, _)| !holds(block));
            let before = reads.waiting.len();
            reads.waiting.extend(free.map(|(_, read)| read));
            if reads.waiting.len() > before {
                conns.push(*conn);
            }
        }
        for conn in conns {
            self.start(cells, io, conn);
        }
    }

    /// A read is done.
    pub(crate) fn done(
        &mut self,
        cells: &Cells,
        txns: &mut Transactions,
        io: &mut Io<'_>,
        asker: Asker,
        result: BackendResult<QueryResult>,
    ) {
        let Some(reads) = self.conns.get_mut(&asker.conn) else {
            return;
        };
        let Some(Running { mut read, period }) = reads.running.remove(&asker) else {
            return;
        };
        reads.last_bytes = Some(result.as_ref().map_or(0, payload_bytes));
        let readable = cells.readable(read.partition) == Some(period);
        match result {
            _ if !readable => not_readable(io, asker),
            Ok(found) => match read.later.take() {
                Some(tid) if newest_serial(&found).is_some() => {
                    // Once more, when the lock is gone: it may be gone already.
                    if txns.is_locked(tid) {
                        reads.blocked.push((Block::At(tid), read));
                    } else {
                        reads.waiting.push_back(read);
                    }
                }
                _ => {
                    if let (Wanted::Object { oid, .. }, Some(serial)) =
                        (read.wanted, newest_serial(&found))
                    {
                        txns.newest_read(read.era, oid, serial);
                    }
                    answer(io, asker, read.wanted, found);
                }
            },
            Err(error) => io.error(asker, code_of(&error), error.to_string()),
        }
        self.start(cells, io, asker.conn);
    }

    /// A peer does not take its answers, or takes them again.
    pub(crate) fn congested(&mut self, cells: &Cells, io: &mut Io<'_>, conn: ConnId, is: bool) {
        self.conns.entry(conn).or_default().congested = is;
        self.start(cells, io, conn);
    }

    /// A connection is gone.
    pub(crate) fn forget(&mut self, conn: ConnId) {
        self.conns.remove(&conn);
    }

    /// The service ended.
    pub(crate) fn clear(&mut self) {
        self.conns.clear();
    }

    fn start(&mut self, cells: &Cells, io: &mut Io<'_>, conn: ConnId) {
        let Some(reads) = self.conns.get_mut(&conn) else {
            return;
        };
        while reads.running.len() < reads.places(self.running_max) {
            let Some(read) = reads.waiting.pop_front() else {
                return;
            };
            let asker = read.asker;
            match cells.readable(read.partition) {
                None => not_readable(io, asker),
                Some(period) => {
                    let query = read.wanted.query(read.partition);
                    // The id of a request that is still running: its peer is confused, and gets
                    // one answer for both.
                    if reads
                        .running
                        .insert(asker, Running { read, period })
                        .is_none()
                    {
                        io.read(query, AfterRead::Peer(asker));
                    }
                }
            }
        }
    }
}

/// Object bytes of the answer.
fn payload_bytes(found: &QueryResult) -> usize {
    match found {
        QueryResult::Load(Loaded::Found(revision)) => revision.record.data.len(),
        QueryResult::Fetch { page, .. } => {
            let records = page.iter().filter_map(|revision| revision.record.as_ref());
            records.map(|record| record.data.len()).sum()
        }
        _ => 0,
    }
}

/// The serial of a revision that is found and that no other one follows.
const fn newest_serial(found: &QueryResult) -> Option<Tid> {
    match found {
        QueryResult::Load(Loaded::Found(revision)) if revision.next_serial.is_none() => {
            Some(revision.serial)
        }
        QueryResult::Load(Loaded::Deleted {
            serial,
            next_serial: None,
        }) => Some(*serial),
        _ => None,
    }
}

fn not_readable(io: &mut Io<'_>, asker: Asker) {
    let text = "the cell is not readable any more";
    io.error(asker, ErrorCode::NonReadableCell, text);
}

impl Wanted {
    fn partition(&self, cells: &Cells) -> Option<Partition> {
        match *self {
            Self::Object { oid, .. } => cells.readable_of_oid(oid),
            Self::Transaction { tid } => cells.readable_of_tid(tid),
            Self::FinalTid { txn } => cells.readable_of_tid(txn.ttid),
            Self::Transactions { partition, .. } | Self::Revisions { partition, .. } => {
                cells.readable(partition).map(|_| partition)
            }
        }
    }

    /// The locked transactions that the answer has to wait for. Those locked later have greater
    /// tids than any that the peer can know to be committed: they are not waited for, so that a
    /// read always gets its turn.
    fn block(&self, txns: &Transactions) -> Option<Block> {
        match *self {
            Self::Object { oid, at } => {
                let tid = txns.locked_at(oid)?;
                let concerned = match at {
                    At::Latest => true,
                    At::Before(before) => tid < before,
                    At::Exact(exact) => tid == exact,
                };
                concerned.then_some(Block::At(tid))
            }
            Self::Transaction { tid } => txns.is_locked(tid).then_some(Block::At(tid)),
            Self::Transactions { max, .. } | Self::Revisions { max, .. } => {
                txns.greatest_locked(max).map(Block::UpTo)
            }
            Self::FinalTid { .. } => None,
        }
    }

    fn query(&self, partition: Partition) -> Query {
        match *self {
            Self::Object { oid, at } => Query::Load { partition, oid, at },
            Self::Transaction { tid } => Query::Transaction { partition, tid },
            Self::FinalTid { txn } => Query::FinalTid { partition, txn },
            Self::Transactions {
                min, max, entries, ..
            } => Query::Transactions {
                partition,
                min,
                max,
                limit: PageLimit {
                    entries: (entries as usize).clamp(1, PAGE_ENTRIES_MAX),
                    bytes: PAGE_BYTES_MAX,
                },
            },
            Self::Revisions {
                min, max, bytes, ..
            } => Query::Fetch {
                partition,
                min,
                max,
                limit: PageLimit {
                    entries: PAGE_ENTRIES_MAX,
                    bytes: (bytes as usize).clamp(1, PAGE_BYTES_MAX),
                },
            },
        }
    }
}

fn answer(io: &mut Io<'_>, asker: Asker, wanted: Wanted, found: QueryResult) {
    match (wanted, found) {
        (Wanted::Object { oid, .. }, QueryResult::Load(loaded)) => {
            let (answer, data) = object_answer(loaded);
            io.answer_with(asker, Packet::AnswerObject { oid, answer }, data);
        }
        (_, QueryResult::Transaction(found)) => {
            let transaction = found.map(|record| Box::new(WireTransaction::from(*record)));
            io.answer(asker, Packet::AnswerTransactionInformation { transaction });
        }
        (_, QueryResult::Transactions { page, complete }) => {
            let transactions = page.into_iter().map(Into::into).collect();
            let answer = Packet::AnswerTransactions {
                transactions,
                complete,
            };
            io.answer(asker, answer);
        }
        (_, QueryResult::Fetch { page, complete }) => {
            let (revisions, payload) = wire_revisions(page);
            let answer = Packet::AnswerRevisions {
                revisions,
                complete,
            };
            io.answer_with(asker, answer, payload);
        }
        (_, QueryResult::FinalTid(tid)) => {
            let tid = tid.map_or(FinalTid::NotCommitted, FinalTid::Committed);
            io.answer(asker, Packet::AnswerFinalTid { tid });
        }
        _ => io.error(asker, ErrorCode::Internal, "the node failed"),
    }
}

fn object_answer(loaded: Loaded) -> (ObjectAnswer, Bytes) {
    let answer = match loaded {
        Loaded::Found(revision) => {
            let answer = ObjectAnswer::Found {
                serial: revision.serial,
                next_serial: revision.next_serial,
                compression: revision.record.compression,
                checksum: revision.record.checksum,
                data_serial: revision.data_serial,
            };
            return (answer, revision.record.data);
        }
        Loaded::Deleted {
            serial,
            next_serial,
        } => ObjectAnswer::Deleted {
            serial,
            next_serial,
        },
        Loaded::NotYet => ObjectAnswer::NotYet,
        Loaded::Unknown => ObjectAnswer::Unknown,
    };
    (answer, Bytes::new())
}

fn wire_revisions(page: Vec<FetchedRevision>) -> (Vec<WireRevision>, Bytes) {
    let sizes = page.iter().filter_map(|revision| revision.record.as_ref());
    let mut payload = BytesMut::with_capacity(sizes.map(|record| record.data.len()).sum());
    let revisions = page.into_iter().map(|revision| {
        let value = revision.record.map(|record| {
            payload.extend_from_slice(&record.data);
            WireValue {
                compression: record.compression,
                checksum: record.checksum,
                // Values have 64 MiB at most.
                bytes: record.data.len() as u32,
            }
        });
        WireRevision {
            id: revision.id,
            value,
            data_serial: revision.data_serial,
        }
    });
    let revisions = revisions.collect();
    (revisions, payload.freeze())
}
