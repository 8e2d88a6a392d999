//! Loads and pages: from any readable cell, from another when one fails.

use std::collections::BTreeSet;

use bytes::Bytes;
use neo_api::{At, CellState, Loaded, NodeId, Oid, Partition, Record, Revision, RevisionId, Tid};
use neo_proto::{ConnId, ErrorCode, ObjectAnswer, Packet, WireRevision, split_payload};

use super::call::CallKind;
use super::effect::{Event, Page, Reply, ReplyId, Validity};
use super::routing::{Candidate, choose};
use super::timer::TimerId;
use super::{ClientCore, Failure, Req, Timer, Todo, backoff};
use crate::error::Error;

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct ReadId(u64);

/// [`At`], in order.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum AtKey {
    Before(Tid),
    Exact(Tid),
}

impl AtKey {
    const MIN: Self = Self::Before(Tid::ZERO);
    const MAX: Self = Self::Exact(Tid(u64::MAX));

    const fn tid(self) -> Tid {
        match self {
            Self::Before(tid) | Self::Exact(tid) => tid,
        }
    }
}

#[derive(Debug, Clone)]
enum Query {
    Load { oid: Oid, at: AtKey },
    Page(Page),
}

impl Query {
    /// The greatest tid that it may tell of.
    fn newest(&self) -> Tid {
        match self {
            Self::Load {
                at: AtKey::Before(tid),
                ..
            } => Tid(tid.0.saturating_sub(1)),
            Self::Load {
                at: AtKey::Exact(tid),
                ..
            } => *tid,
            Self::Page(Page::Transactions { max, .. } | Page::Revisions { max, .. }) => *max,
            Self::Page(Page::TransactionInformation { tid }) => *tid,
        }
    }

    fn packet(&self) -> Packet {
        match self {
            Self::Load { oid, at } => Packet::AskObject {
                oid: *oid,
                at: match at {
                    AtKey::Before(tid) => At::Before(*tid),
                    AtKey::Exact(tid) => At::Exact(*tid),
                },
            },
            Self::Page(Page::Transactions {
                partition,
                min,
                max,
                entries,
            }) => Packet::AskTransactions {
                partition: *partition,
                min: *min,
                max: *max,
                entries: *entries,
            },
            Self::Page(Page::Revisions {
                partition,
                min,
                max,
                bytes,
            }) => Packet::AskRevisions {
                partition: *partition,
                min: *min,
                max: *max,
                bytes: *bytes,
            },
            Self::Page(Page::TransactionInformation { tid }) => {
                Packet::AskTransactionInformation { tid: *tid }
            }
        }
    }
}

#[derive(Debug)]
enum State {
    /// For the primary: to be ready, or to tell the last tid.
    Waiting,
    Asked(NodeId),
    Pause,
}

#[derive(Debug)]
pub(super) struct Read {
    query: Query,
    pub(super) waiters: Vec<ReplyId>,
    state: State,
    deadline: TimerId,
    tried: BTreeSet<NodeId>,
    rounds: u32,
    /// A cell of this round has damaged data.
    damaged: bool,
    /// The last cell's trouble.
    trouble: String,
    /// The first transaction that changed the object since it was first asked for.
    invalidated: Option<Tid>,
    /// Transactions after this one were missed since.
    gap: Option<Tid>,
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
        let deadline = self.set_timer(self.settings.operation_timeout, Timer::ReadDeadline(id));
        let read = Read {
            query,
            waiters: vec![reply],
            state: State::Waiting,
            deadline,
            tried: BTreeSet::new(),
            rounds: 0,
            damaged: false,
            trouble: String::new(),
            invalidated: None,
            gap: None,
        };
        self.reads.insert(id, read);
        self.todo.push_back(Todo::Read(id));
        id
    }

    /// Asks the next cell, if it does not wait for anything else.
    pub(super) fn read_step(&mut self, id: ReadId) {
        let Some(read) = self.reads.get_mut(&id) else {
            return;
        };
        if let State::Asked(_) = read.state {
            return;
        }
        read.state = State::Waiting;
        if !self.master.is_ready() {
            return;
        }
        if read.query.newest() > self.last_tid {
            self.drop_calls_of_read(id);
            self.call(CallKind::SyncForRead(id));
            return;
        }
        self.ask_next_cell(id);
    }

    fn ask_next_cell(&mut self, id: ReadId) {
        let Some(read) = self.reads.get(&id) else {
            return;
        };
        let partition = match &read.query {
            Query::Load { oid, .. } => self.partition_of_oid(*oid),
            Query::Page(
                Page::Transactions { partition, .. } | Page::Revisions { partition, .. },
            ) => *partition,
            Query::Page(Page::TransactionInformation { tid }) => self.partition_of_tid(*tid),
        };
        let tried = read.tried.clone();
        let chosen = self.choose_cell(partition, &tried);
        let Some(read) = self.reads.get_mut(&id) else {
            return;
        };
        match chosen {
            Some(nid) => {
                read.state = State::Asked(nid);
                // Everything up to the last tid is on the storages: the answer tells of it. Only
                // what is heard from now on may be missing from it.
                read.invalidated = None;
                read.gap = None;
                let packet = read.query.packet();
                self.ask_storage(nid, Req::Read(id), packet, Bytes::new());
            }
            None if read.damaged => {
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

    /// The best readable cell of a partition.
    pub(super) fn choose_cell(
        &mut self,
        partition: Partition,
        tried: &BTreeSet<NodeId>,
    ) -> Option<NodeId> {
        let table = self.table.as_ref()?;
        let cells = table.cells(partition).iter();
        let readable = cells.filter(|cell| {
            matches!(cell.state, CellState::UpToDate | CellState::Feeding)
                && self.is_running(cell.nid)
        });
        let candidates: Vec<Candidate> = readable
            .map(|cell| Candidate {
                nid: cell.nid,
                connected: self.storage_conn(cell.nid).is_some(),
                failed_at: self.storages.get(&cell.nid).and_then(|link| link.failed_at),
            })
            .collect();
        choose(candidates.into_iter(), tried, self.now.mono, &mut self.rng)
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
                Query::Page(Page::Transactions { max, .. } | Page::Revisions { max, .. }) => {
                    *max = last_tid;
                }
                Query::Load { oid, .. } => {
                    let oid = *oid;
                    self.loaded(id, oid, Loaded::NotYet);
                    return;
                }
                Query::Page(Page::TransactionInformation { .. }) => {
                    self.read_ends(id, Ok(Reply::Transaction(None)));
                    return;
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
        let Some(read) = self.reads.get_mut(&id) else {
            return;
        };
        let (State::Asked(asked), Some(nid)) = (&read.state, nid) else {
            return;
        };
        if *asked != nid {
            return;
        }
        read.trouble = format!("{nid}: {}", failure.message);
        read.damaged |= failure.code == Some(ErrorCode::Checksum);
        read.tried.insert(nid);
        read.state = State::Waiting;
        self.todo.push_back(Todo::Read(id));
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
        let answer = match (&read.query, packet) {
            (Query::Load { oid, at }, Packet::AnswerObject { oid: of, answer }) if *oid == of => {
                loaded(*at, answer, payload).map(|loaded| (Some((*oid, loaded)), Reply::Done))
            }
            (
                Query::Page(Page::Transactions { .. }),
                Packet::AnswerTransactions {
                    transactions,
                    complete,
                },
            ) => Ok((
                None,
                Reply::Transactions {
                    transactions,
                    complete,
                },
            )),
            (
                Query::Page(Page::Revisions { min, max, .. }),
                Packet::AnswerRevisions {
                    revisions,
                    complete,
                },
            ) => {
                revision_page(*min, *max, revisions, complete, &payload).map(|reply| (None, reply))
            }
            (
                Query::Page(Page::TransactionInformation { .. }),
                Packet::AnswerTransactionInformation { transaction },
            ) => Ok((None, Reply::Transaction(transaction))),
            (_, packet) => {
                let reason = format!("{} answers another request", packet.name());
                self.read_failed(id, nid, &Failure::lost(reason.clone()));
                self.protocol_violation(conn, reason);
                return;
            }
        };
        match answer {
            Ok((Some((oid, found)), _)) => self.loaded(id, oid, found),
            Ok((None, reply)) => self.read_ends(id, Ok(reply)),
            Err(damage) => {
                tracing::error!(?nid, %damage, "wrong data; another replica is asked");
                let failure = Failure {
                    code: Some(ErrorCode::Checksum),
                    message: damage,
                };
                self.read_failed(id, nid, &failure);
            }
        }
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
                if next_serial.is_none() {
                    // The first change, unless one before it may have been missed.
                    *next_serial = read
                        .invalidated
                        .filter(|tid| *tid > *serial && read.gap.is_none_or(|known| *tid <= known));
                }
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
        self.timers.cancel(read.deadline);
        if let Query::Load { oid, at } = read.query
            && self.loads.get(&(oid, at)) == Some(&id)
        {
            self.loads.remove(&(oid, at));
        }
        Some(read)
    }

    pub(super) fn read_timed_out(&mut self, id: ReadId) {
        let Some(read) = self.reads.get(&id) else {
            return;
        };
        let what = match &read.query {
            Query::Load { oid, .. } => format!("object {oid}"),
            Query::Page(_) => "a page of history".to_owned(),
        };
        let from = match read.state {
            State::Asked(nid) => format!(" from {nid}"),
            State::Waiting => " (waiting for the primary master)".to_owned(),
            State::Pause if read.trouble.is_empty() => {
                " (no readable replica is running)".to_owned()
            }
            State::Pause => format!(" (no replica answers; the last said: {})", read.trouble),
        };
        let error = self.timeout_error(&format!("{what}{from}"));
        self.drop_calls_of_read(id);
        self.read_ends_badly(id, &error);
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
            read.tried.clear();
            read.damaged = false;
        }
    }
}

/// Checks what a storage answered.
fn loaded(at: AtKey, answer: ObjectAnswer, payload: Bytes) -> Result<Loaded, String> {
    let fits = |serial: Tid, next: Option<Tid>| {
        let asked = match at {
            AtKey::Before(tid) => serial < tid && next.is_none_or(|next| next >= tid),
            AtKey::Exact(tid) => serial == tid,
        };
        if asked && next.is_none_or(|next| next > serial) {
            Ok(())
        } else {
            Err(format!(
                "a revision of {serial} to {next:?} does not answer {at:?}"
            ))
        }
    };
    Ok(match answer {
        ObjectAnswer::Found {
            serial,
            next_serial,
            compression,
            checksum,
            data_serial,
        } => {
            fits(serial, next_serial)?;
            let record = Record {
                compression,
                checksum,
                data: payload,
            };
            if !record.is_intact() {
                return Err(format!("the value of {serial} does not match its checksum"));
            }
            Loaded::Found(Revision {
                serial,
                next_serial,
                record,
                data_serial,
            })
        }
        ObjectAnswer::Deleted {
            serial,
            next_serial,
        } => {
            fits(serial, next_serial)?;
            Loaded::Deleted {
                serial,
                next_serial,
            }
        }
        ObjectAnswer::NotYet => Loaded::NotYet,
        ObjectAnswer::Unknown => Loaded::Unknown,
    })
}

/// Checks a page of revisions and splits its payload.
fn revision_page(
    min: RevisionId,
    max: Tid,
    revisions: Vec<WireRevision>,
    complete: bool,
    payload: &Bytes,
) -> Result<Reply, String> {
    let ordered = revisions.windows(2).all(|pair| pair[0].id < pair[1].id);
    let in_range = revisions.iter().all(|r| r.id >= min && r.id.tid <= max);
    if !ordered || !in_range || (revisions.is_empty() && !complete) {
        return Err("the revisions are not those asked for".to_owned());
    }
    let values = split_payload(&revisions, payload)?;
    for (revision, value) in revisions.iter().zip(&values) {
        if let (Some(wire), Some(data)) = (&revision.value, value)
            && neo_api::Checksum::of(data) != wire.checksum
        {
            return Err(format!("{:?} does not match its checksum", revision.id));
        }
    }
    Ok(Reply::Revisions {
        revisions: revisions.into_iter().zip(values).collect(),
        complete,
    })
}
