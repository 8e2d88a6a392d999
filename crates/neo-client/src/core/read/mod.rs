//! Loads and pages: from any readable cell, from another when one fails or is slow.

mod batch;
mod damage;
mod hedge;
mod late;
mod query;

use std::collections::BTreeSet;

use bytes::Bytes;
use neo_api::{At, Instant, Loaded, NodeId, Oid, Partition, Revision, Tid};
use neo_proto::{ConnId, ErrorCode, MsgId, ObjectAnswer, Packet};

use super::call::CallKind;
use super::effect::{Event, Reply, ReplyId, Validity};
use super::page::Page;
use super::timer::TimerId;
use super::{ClientCore, Failure, Req, Timer, Todo, backoff};
use crate::error::Error;
use damage::Salvage;
use query::{Query, loaded};

pub(super) use batch::Batch;
pub(super) use hedge::{Budget, Patience, Slow};
pub(crate) use query::check_loaded;
pub(super) use query::{AtKey, Damage};

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct ReadId(u64);

/// A cell that was asked.
#[derive(Debug, Clone, Copy)]
struct Asked {
    nid: NodeId,
    /// 0: it is about to be asked.
    request: MsgId,
    at: Instant,
    /// It did not answer within the delay.
    is_late: bool,
    /// Of reads that were asked together, the one whose time counts.
    is_timed: bool,
}

#[derive(Debug)]
enum State {
    /// For the primary: to be ready, or to tell the last tid.
    Waiting,
    /// For a cell, and for one more when the first is slow.
    Asked(Asked, Option<Asked>),
    Pause,
}

#[derive(Debug)]
pub(super) struct Read {
    query: Query,
    pub(super) waiters: Vec<ReplyId>,
    state: State,
    deadline: Instant,
    /// When to see whether the cell that was asked is slow.
    look_at: Option<Instant>,
    /// Rings at one of these, or earlier.
    timer: Option<TimerId>,
    /// It was asked with others.
    is_batched: bool,
    /// A second cell was asked: there is no third.
    is_hedged: bool,
    tried: BTreeSet<NodeId>,
    rounds: u32,
    /// A cell of this round has damaged data.
    damaged: bool,
    /// What it has, if that is given out in the end.
    salvage: Option<Salvage>,
    /// The last cell's trouble.
    trouble: String,
    /// The first transaction that changed the object since it was asked for.
    invalidated: Option<Tid>,
    /// Transactions after this one were missed since.
    gap: Option<Tid>,
}

impl Read {
    /// When the first of the cells that are asked was asked.
    fn asked_at(&self) -> Instant {
        match &self.state {
            State::Asked(first, _) => first.at,
            State::Waiting | State::Pause => self.deadline,
        }
    }

    /// The first change that was heard of after this one, unless one before it may have been missed.
    fn next_after(&self, serial: Tid) -> Option<Tid> {
        self.invalidated
            .filter(|tid| *tid > serial && self.gap.is_none_or(|known| *tid <= known))
    }

    /// Reads that take about as long.
    const fn kind(&self) -> usize {
        if self.is_batched {
            2
        } else {
            self.query.kind()
        }
    }

    /// The cells that are asked.
    fn asked(&mut self) -> impl Iterator<Item = &mut Asked> {
        let (first, second) = match &mut self.state {
            State::Asked(first, second) => (Some(first), second.as_mut()),
            State::Waiting | State::Pause => (None, None),
        };
        first.into_iter().chain(second)
    }
}

impl ClientCore {
    pub(super) fn load(&mut self, reply: ReplyId, oid: Oid, at: At) {
        let at = match at {
            At::Latest => AtKey::Before(Tid(self.last_tid.0.saturating_add(1))),
            At::Before(tid) => AtKey::Before(tid),
            At::Exact(tid) => AtKey::Exact(tid),
        };
        // What is not answered yet can't be told apart from what would be asked now.
        if let Some(id) = self.loads.get(&(oid, at))
            && let Some(read) = self.reads.get_mut(id)
        {
            read.waiters.push(reply);
            return;
        }
        let id = self.read(reply, Query::Load { oid, at });
        self.loads.insert((oid, at), id);
    }

    pub(super) fn page(&mut self, reply: ReplyId, page: Page) {
        self.read(reply, Query::Page(page));
    }

    fn read(&mut self, reply: ReplyId, query: Query) -> ReadId {
        let id = ReadId(self.id());
        let read = Read {
            query,
            waiters: vec![reply],
            state: State::Waiting,
            deadline: self.now.mono + self.settings.operation_timeout,
            look_at: None,
            timer: None,
            is_batched: false,
            is_hedged: false,
            tried: BTreeSet::new(),
            rounds: 0,
            damaged: false,
            salvage: None,
            trouble: String::new(),
            invalidated: None,
            gap: None,
        };
        self.reads.insert(id, read);
        self.hedges.earn();
        self.todo.push_back(Todo::Read(id));
        id
    }

    /// Asks the next cell, if it does not wait for anything else.
    pub(super) fn read_step(&mut self, id: ReadId) {
        let Some(read) = self.reads.get_mut(&id) else {
            return;
        };
        if let State::Asked(..) = read.state {
            return;
        }
        read.state = State::Waiting;
        read.look_at = None;
        let newest = read.query.newest();
        if !self.master.is_ready() {
            // It is told of when it is.
        } else if newest > self.last_tid {
            self.drop_calls_of_read(id);
            self.call(CallKind::SyncForRead(id));
        } else {
            self.ask_next_cell(id);
        }
        self.arm_read(id);
    }

    fn partition_of_query(&self, query: &Query) -> Partition {
        match query {
            Query::Load { oid, .. } => self.partition_of_oid(*oid),
            Query::Page(page) => self
                .table
                .as_ref()
                .map_or(Partition(0), |table| page.partition(table.partitioning())),
        }
    }

    fn ask_next_cell(&mut self, id: ReadId) {
        let Some(read) = self.reads.get(&id) else {
            return;
        };
        let partition = self.partition_of_query(&read.query);
        let tried = read.tried.clone();
        let chosen = self.choose_cell(partition, &tried);
        let Some(read) = self.reads.get_mut(&id) else {
            return;
        };
        match chosen {
            Some(nid) => {
                // Everything up to the last tid is on the storages: the answer tells of it. Only
                // what is heard from now on may be missing from it.
                read.invalidated = None;
                read.gap = None;
                read.look_at = Some(self.now.mono + self.patience[read.kind()].delay());
                if let Some(asked) = self.ask_cell(id, nid)
                    && let Some(read) = self.reads.get_mut(&id)
                {
                    read.state = State::Asked(asked, None);
                }
            }
            None if read.damaged => {
                if let Some(salvage) = read.salvage.take() {
                    self.give_out(id, salvage);
                    return;
                }
                let (oid, tid) = match read.query {
                    Query::Load { oid, at } => (oid, at.tid()),
                    Query::Page(_) => (Oid::ZERO, read.query.newest()),
                };
                self.read_ends_badly(id, &Error::Checksum { oid, tid });
            }
            None => {
                // A full round without success: the table may be about to change.
                read.state = State::Pause;
                read.tried.clear();
                let pause = backoff(read.rounds);
                read.rounds += 1;
                self.set_timer(pause, Timer::ReadRetry(id));
            }
        }
    }

    fn ask_cell(&mut self, id: ReadId, nid: NodeId) -> Option<Asked> {
        let request = match &self.reads.get(&id)?.query {
            Query::Load { .. } => {
                self.ask_with_others(id, nid);
                MsgId(0)
            }
            Query::Page(page) => {
                let packet = page.packet();
                self.ask_storage(nid, Req::Read(id), packet, Bytes::new())
            }
        };
        Some(Asked {
            nid,
            request,
            at: self.now.mono,
            is_late: false,
            is_timed: true,
        })
    }

    pub(super) fn read_synced(&mut self, id: ReadId) {
        let last_tid = self.last_tid;
        let Some(read) = self.reads.get_mut(&id) else {
            return;
        };
        if read.query.newest() > last_tid {
            // Nothing committed is newer: what it asks for is as of now.
            match &mut read.query {
                Query::Load {
                    oid,
                    at: at @ AtKey::Before(_),
                } => {
                    let (oid, old) = (*oid, *at);
                    *at = AtKey::Before(Tid(last_tid.0.saturating_add(1)));
                    let new = *at;
                    self.loads.remove(&(oid, old));
                    if let Some(other) = self.loads.get(&(oid, new)).copied() {
                        self.merge_read(id, other);
                        return;
                    }
                    self.loads.insert((oid, new), id);
                }
                Query::Load { oid, .. } => {
                    let oid = *oid;
                    self.loaded(id, oid, Loaded::NotYet);
                    return;
                }
                Query::Page(page) => {
                    if let Some(reply) = page.end_at(last_tid) {
                        self.read_ends(id, Ok(reply));
                        return;
                    }
                }
            }
        }
        self.read_step(id);
    }

    fn merge_read(&mut self, id: ReadId, other: ReadId) {
        if let Some(read) = self.remove_read(id)
            && let Some(other) = self.reads.get_mut(&other)
        {
            other.waiters.extend(read.waiters);
        }
    }

    pub(super) fn read_sync_failed(&mut self, id: ReadId) {
        if let Some(read) = self.reads.get_mut(&id) {
            read.state = State::Pause;
            let pause = backoff(read.rounds);
            read.rounds += 1;
            self.set_timer(pause, Timer::ReadRetry(id));
        }
    }

    pub(super) fn read_failed(&mut self, id: ReadId, nid: Option<NodeId>, failure: &Failure) {
        let Some((read, nid)) = self.reads.get_mut(&id).zip(nid) else {
            return;
        };
        if read.asked().any(|asked| asked.nid == nid) {
            read.trouble = format!("{nid}: {}", failure.message);
            read.damaged |= failure.code == Some(ErrorCode::Checksum);
            read.tried.insert(nid);
            self.read_unanswered(id, nid);
        }
    }

    /// A node that was asked does not answer: another one is, unless one is already.
    fn read_unanswered(&mut self, id: ReadId, nid: NodeId) {
        let Some(read) = self.reads.get_mut(&id) else {
            return;
        };
        let State::Asked(first, second) = &read.state else {
            return;
        };
        let left = match second {
            Some(second) if second.nid == nid => Some(*first),
            second if first.nid == nid => *second,
            _ => return,
        };
        if let Some(left) = left {
            read.state = State::Asked(left, None);
        } else {
            read.state = State::Waiting;
            self.todo.push_back(Todo::Read(id));
        }
    }

    pub(super) fn read_answered(
        &mut self,
        conn: ConnId,
        id: ReadId,
        nid: Option<NodeId>,
        packet: Packet,
        payload: Bytes,
    ) {
        let Some(read) = self.reads.get(&id) else {
            return;
        };
        let name = packet.name();
        let is_answer = match (&read.query, packet) {
            (Query::Load { oid, .. }, Packet::AnswerObject { oid: of, answer }) if *oid == of => {
                self.load_answered(id, nid, answer, payload);
                true
            }
            (Query::Load { .. }, _) => false,
            (Query::Page(page), packet) => match page.answered(packet, &payload) {
                Some(Ok(reply)) => {
                    self.note_speed(id, nid);
                    self.read_ends(id, Ok(reply));
                    true
                }
                Some(Err(Damage { words, found })) => {
                    self.keep_damaged(id, found.map(Salvage::Page));
                    self.read_damaged(id, nid, words);
                    true
                }
                None => false,
            },
        };
        if !is_answer {
            let reason = format!("{name} answers another request");
            self.read_failed(id, nid, &Failure::lost(reason.clone()));
            self.protocol_violation(conn, reason);
        }
    }

    fn load_answered(
        &mut self,
        id: ReadId,
        nid: Option<NodeId>,
        answer: ObjectAnswer,
        value: Bytes,
    ) {
        let Some(Query::Load { oid, at }) = self.reads.get(&id).map(|read| &read.query) else {
            return;
        };
        let (oid, tid) = (*oid, at.tid());
        match loaded(*at, answer, value) {
            Ok(None) => {
                self.note_speed(id, nid);
                self.read_ends_badly(id, &Error::PackedAway { oid, tid });
            }
            Ok(Some(found)) => {
                self.note_speed(id, nid);
                self.loaded(id, oid, found);
            }
            Err(Damage { words, found }) => {
                self.keep_damaged(id, found.map(Salvage::Loaded));
                self.read_damaged(id, nid, words);
            }
        }
    }

    fn read_damaged(&mut self, id: ReadId, nid: Option<NodeId>, damage: String) {
        tracing::error!(?nid, %damage, "wrong data; another replica is asked");
        let failure = Failure {
            code: Some(ErrorCode::Checksum),
            message: damage,
        };
        self.read_failed(id, nid, &failure);
    }

    /// The answer to a load, with what was heard of the object meanwhile.
    fn loaded(&mut self, id: ReadId, oid: Oid, mut loaded: Loaded) {
        let Some(read) = self.remove_read(id) else {
            return;
        };
        let validity = match &mut loaded {
            Loaded::Found(Revision {
                serial,
                next_serial,
                ..
            })
            | Loaded::Deleted {
                serial,
                next_serial,
            } => {
                *next_serial = next_serial.or_else(|| read.next_after(*serial));
                match (*next_serial, read.gap) {
                    (Some(next), _) => Validity::Until(next),
                    (None, Some(known)) => Validity::AtLeast(Tid(known.0.saturating_add(1))),
                    (None, None) => Validity::Current,
                }
            }
            Loaded::NotYet | Loaded::Unknown => Validity::AtLeast(Tid::ZERO),
        };
        self.out.event(Event::Loaded {
            oid,
            waiters: read.waiters,
            loaded,
            validity,
        });
    }

    fn read_ends(&mut self, id: ReadId, result: Result<Reply, Error>) {
        if let Some(read) = self.remove_read(id) {
            for waiter in read.waiters {
                self.reply(waiter, result.clone());
            }
        }
    }

    fn read_ends_badly(&mut self, id: ReadId, error: &Error) {
        self.read_ends(id, Err(error.clone()));
    }

    fn remove_read(&mut self, id: ReadId) -> Option<Read> {
        let read = self.reads.remove(&id)?;
        if let Some(timer) = read.timer {
            self.timers.cancel(timer);
        }
        if let State::Asked(first, second) = &read.state {
            // Of two that were asked, the one that has not answered.
            for asked in [Some(first), second.as_ref()].into_iter().flatten() {
                let request = asked.request;
                if self.is_last_of_batch(request) && self.requests.contains_key(&request) {
                    self.cancel_requests(&[request]);
                }
            }
        }
        if let Query::Load { oid, at } = read.query
            && self.loads.get(&(oid, at)) == Some(&id)
        {
            self.loads.remove(&(oid, at));
        }
        Some(read)
    }

    // --- what happens meanwhile ---

    /// An answer without a next revision may have been made before this transaction.
    pub(super) fn note_in_loads(&mut self, tid: Tid, oids: &[Oid]) {
        if self.loads.is_empty() {
            return;
        }
        for oid in oids {
            for (_, id) in self.loads.range((*oid, AtKey::MIN)..=(*oid, AtKey::MAX)) {
                if let Some(read) = self.reads.get_mut(id) {
                    read.invalidated.get_or_insert(tid);
                }
            }
        }
    }

    /// Transactions after `known` were missed: any object may have changed in one of them.
    pub(super) fn note_gap_in_loads(&mut self, known: Tid) {
        for read in self.reads.values_mut() {
            // What an invalidation after the gap says is not the first change.
            read.gap.get_or_insert(known);
        }
    }

    /// The primary is lost, and with it the connections to the storages: everything is asked
    /// again when it is back.
    pub(super) fn reads_wait(&mut self) {
        for read in self.reads.values_mut() {
            read.state = State::Waiting;
            read.look_at = None;
            read.is_hedged = false;
            read.tried.clear();
            read.damaged = false;
            read.salvage = None;
        }
    }
}
