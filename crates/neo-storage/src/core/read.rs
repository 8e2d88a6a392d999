//! The read path: a gate, a read beside others, and the gate again.
//!
//! The gate opens on readable partitions only, and makes readers of a locked object wait until its
//! new revision is visible. A partition that stops being readable while it is read answers
//! `NonReadableCell`: what is not found in it may just be gone.
//!
//! A reader of the past is let through; but when what it finds is the newest of an object that was
//! locked when it asked, or no object at all, it waits too. Its client may know already that the
//! locked transaction is committed, and would take the answer for the newest revision, for as long
//! as nothing else changes the object; or for an object that was never created.

use std::collections::{BTreeMap, VecDeque};

use neo_api::{BackendResult, Instant, OPERATION_OBJECTS_MAX};
use neo_proto::{ConnId, ErrorCode, FinalTid, Packet};

use super::cells::Cells;
use super::effect::QueryResult;
use super::io::{AfterRead, Asker, Io, code_of};
use super::pace::{Clients, Pace};
use super::transaction::{Era, Transactions};
use super::wanted::{Block, Wanted, answer, newest_serials, payload_bytes, tells_newest};

/// Bytes of answers that the reads of one connection bring at the same time, about.
const WINDOW_BYTES: usize = 16 << 20;
/// Reads of a connection that run at first.
const FIRST_READS: usize = 4;

#[derive(Debug)]
struct PeerRead {
    asker: Asker,
    wanted: Wanted,
    /// An object is locked for a tid that is later than what is wanted of it.
    later: Option<Block>,
    /// The era of serials in which it was asked.
    era: Era,
}

#[derive(Debug)]
struct Running {
    read: PeerRead,
    /// The period since which it was readable when the read began.
    period: u64,
    since: Instant,
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
    /// The peer is a storage node that catches up: clients come first.
    gives_way: bool,
}

impl ConnReads {
    /// How many reads may run at the same time.
    fn places(&self, running_max: usize) -> usize {
        if self.gives_way {
            return usize::from(!self.congested);
        }
        let fit = self
            .last_bytes
            .map_or(FIRST_READS, |bytes| WINDOW_BYTES / bytes.max(1));
        if self.congested {
            0
        } else {
            fit.clamp(1, running_max)
        }
    }

    fn start(&mut self, cells: &Cells, io: &mut Io<'_>, running_max: usize) {
        while self.running.len() < self.places(running_max) {
            let Some(read) = self.waiting.pop_front() else {
                return;
            };
            let asker = read.asker;
            let wanted = &read.wanted;
            let Some((period, query)) = wanted.period(cells).zip(wanted.query(cells)) else {
                not_readable(io, asker);
                continue;
            };
            let since = io.now.mono;
            let running = Running {
                read,
                period,
                since,
            };
            // The id of a request that is still running: its peer is confused, and gets one answer
            // for both.
            if self.running.insert(asker, running).is_none() {
                io.read(query, AfterRead::Peer(asker));
            }
        }
    }
}

/// The reads of peers.
#[derive(Debug)]
pub(crate) struct Reads {
    running_max: usize,
    waiting_max: usize,
    conns: BTreeMap<ConnId, ConnReads>,
    /// Of the reads that give way.
    pace: Pace,
}

impl Reads {
    pub(crate) const fn new(running_max: usize, waiting_max: usize, pace: Pace) -> Self {
        Self {
            running_max,
            waiting_max,
            conns: BTreeMap::new(),
            pace,
        }
    }

    /// This peer is a storage node that catches up: its reads give way to those of clients.
    pub(crate) fn give_way(&mut self, conn: ConnId) {
        self.conns.entry(conn).or_default().gives_way = true;
    }

    /// Whether a client waits for a read that could be done.
    pub(crate) fn is_client_waiting(&self) -> bool {
        let waits = |reads: &ConnReads| {
            let is_held = reads.congested || reads.gives_way;
            let is_idle = reads.running.is_empty() && reads.waiting.is_empty();
            !is_held && !is_idle
        };
        self.conns.values().any(waits)
    }

    /// Whether a storage node that catches up waits for its turn.
    pub(crate) fn is_somebody_giving_way(&self) -> bool {
        let waits = |reads: &ConnReads| {
            let is_ready = !reads.congested && reads.running.is_empty();
            reads.gives_way && is_ready && !reads.waiting.is_empty()
        };
        self.conns.values().any(waits)
    }

    /// When such a read is due, whoever waits.
    pub(crate) fn timeout(&self) -> Option<Instant> {
        self.pace
            .timeout()
            .filter(|_| self.is_somebody_giving_way())
    }

    /// Starts the reads that gave way, where they need not any more.
    pub(crate) fn pump(&mut self, cells: &Cells, io: &mut Io<'_>, clients: Clients) {
        if !self.is_somebody_giving_way() {
            return;
        }
        for reads in self.conns.values_mut().filter(|reads| reads.gives_way) {
            if self.pace.allows(io.now.mono, clients) {
                reads.start(cells, io, self.running_max);
            }
        }
    }

    /// A peer asks.
    pub(crate) fn ask(
        &mut self,
        cells: &Cells,
        txns: &Transactions,
        io: &mut Io<'_>,
        asker: Asker,
        mut wanted: Wanted,
    ) {
        if wanted.is_too_much() {
            let text = format!("more than {OPERATION_OBJECTS_MAX} objects at once");
            return io.error(asker, ErrorCode::TooLarge, text);
        }
        wanted.keep_readable(cells);
        if wanted.period(cells).is_none() {
            let text = "this node has no readable cell of that partition";
            return io.error(asker, ErrorCode::NonReadableCell, text);
        }
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
            era: txns.era(),
            later: match block {
                None => wanted.later(txns),
                Some(_) => None,
            },
            wanted,
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
            let free = reads
                .blocked
                .extract_if(.., |(block, _)| !block.holds(txns));
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
        let running = reads.running.remove(&asker);
        let Some(Running {
            mut read,
            period,
            since,
        }) = running
        else {
            return;
        };
        let bytes = result.as_ref().map_or(0, payload_bytes);
        reads.last_bytes = Some(bytes);
        if reads.gives_way {
            let now = io.now.mono;
            self.pace.spent(now, bytes);
            self.pace.rest(now, now.since(since));
        }
        let readable = read.wanted.period(cells) == Some(period);
        match result {
            _ if !readable => not_readable(io, asker),
            Ok(found) => match read.later.take() {
                Some(block) if tells_newest(&read.wanted, &found) => {
                    // Once more, when the lock is gone: it may be gone already.
                    if block.holds(txns) {
                        reads.blocked.push((block, read));
                    } else {
                        reads.waiting.push_back(read);
                    }
                }
                _ => {
                    for (oid, serial) in newest_serials(&read.wanted, &found) {
                        txns.newest_read(read.era, oid, serial);
                    }
                    answer(cells, io, asker, read.wanted, found);
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

    /// Starts what may run; those that give way are started when nobody else has anything to do.
    fn start(&mut self, cells: &Cells, io: &mut Io<'_>, conn: ConnId) {
        let reads = self.conns.get_mut(&conn);
        if let Some(reads) = reads.filter(|reads| !reads.gives_way) {
            reads.start(cells, io, self.running_max);
        }
    }
}

fn not_readable(io: &mut Io<'_>, asker: Asker) {
    let text = "the cell is not readable any more";
    io.error(asker, ErrorCode::NonReadableCell, text);
}
