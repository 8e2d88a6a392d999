//! Stores, checks and relocks: lock first, then look at the newest serial, then answer.

use std::collections::VecDeque;

use bytes::Bytes;
use neo_api::{
    BackendResult, DataId, Durability, Oid, Record, TRANSACTION_OIDS_MAX, Tid, TxnId, WriteBatch,
    WriteOp,
};
use neo_proto::{ErrorCode, MsgId, Packet, RelockOutcome, StoreKind, StoreOutcome};

use super::request::Kind;
use super::{Object, Peer, Refusal, Transactions, Value};
use crate::core::cells::Cells;
use crate::core::effect::{Query, QueryResult};
use crate::core::io::{AfterPersist, AfterRead, Asker, Io, code_of};
use crate::core::lock::Ticket;

/// What a store or check names.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Target {
    pub(crate) txn: TxnId,
    pub(crate) oid: Oid,
    pub(crate) serial: Tid,
}

impl Transactions {
    /// A client stores an object.
    pub(crate) fn store(
        &mut self,
        cells: &Cells,
        io: &mut Io<'_>,
        peer: Peer,
        id: MsgId,
        target: Target,
        (kind, payload): (StoreKind, Bytes),
    ) {
        let asker = Asker {
            conn: peer.conn,
            id,
        };
        let bytes = payload.len();
        let checked = self
            .admit_object(cells, target.txn, target.oid, peer)
            .and_then(|()| self.admit_write(target.txn))
            .and_then(|()| self.value(kind, payload));
        let value = match checked {
            Ok(value) => value,
            Err((code, text)) => {
                io.consumed(peer.conn, bytes as u64);
                return io.error(asker, code, text);
            }
        };
        let value = self.keep(io, peer, target.txn, value);
        if matches!(value, Value::SameAs(_)) {
            self.note_repetition(target.txn, target.oid);
        }
        let serial = target.serial;
        self.ask(io, peer, target, id, Kind::Store { serial, value });
        self.run_ready(cells, io);
    }

    /// A client checks that an object has not changed.
    pub(crate) fn check(
        &mut self,
        cells: &Cells,
        io: &mut Io<'_>,
        peer: Peer,
        id: MsgId,
        target: Target,
    ) {
        let asker = Asker {
            conn: peer.conn,
            id,
        };
        let admitted = self
            .admit_object(cells, target.txn, target.oid, peer)
            .and_then(|()| self.admit_write(target.txn));
        if let Err((code, text)) = admitted {
            return io.error(asker, code, text);
        }
        let serial = target.serial;
        self.ask(io, peer, target, id, Kind::Check { serial });
        self.run_ready(cells, io);
    }

    /// A client lets an older transaction pass.
    pub(crate) fn relock(
        &mut self,
        cells: &Cells,
        io: &mut Io<'_>,
        peer: Peer,
        id: MsgId,
        (txn, oid): (TxnId, Oid),
    ) {
        let asker = Asker {
            conn: peer.conn,
            id,
        };
        let known = self.admit_object(cells, txn, oid, peer).and_then(|()| {
            let known = self.txns.contains_key(&txn);
            let text = format!("transaction {txn} has nothing to relock here");
            known
                .then_some(())
                .ok_or((ErrorCode::UnknownTransaction, text))
        });
        if let Err((code, text)) = known {
            return io.error(asker, code, text);
        }
        let ticket = self.enter(peer, asker, txn, oid, Kind::Relock { asked: false });
        let t = self.open(txn, peer);
        match t.busy.get_mut(&oid) {
            // A store of it is looking at the serial, under the lock.
            Some(next) => next.push_back(ticket),
            None => {
                t.busy.insert(oid, VecDeque::new());
                self.give_way(cells, io, ticket);
            }
        }
        self.run_ready(cells, io);
    }

    /// A value is written, or is not.
    pub(crate) fn data_persisted(
        &mut self,
        io: &mut Io<'_>,
        (txn, id): (TxnId, DataId),
        result: BackendResult<()>,
    ) {
        let Some(t) = self.txns.get_mut(&txn) else {
            return;
        };
        // It may be of a former life of the transaction, which was aborted and forgotten.
        if !t.writing.remove(&id) {
            return;
        }
        if let Err(error) = result {
            t.refused.get_or_insert_with(|| code_of(&error));
        }
        if t.writing.is_empty() {
            self.continue_vote(io, txn);
        }
    }

    /// The newest serial of an object was read.
    pub(crate) fn serial_read(
        &mut self,
        cells: &Cells,
        io: &mut Io<'_>,
        ticket: Ticket,
        result: BackendResult<QueryResult>,
    ) {
        match result {
            Ok(QueryResult::LastSerial { last, repeatable }) => {
                self.decide(cells, io, ticket, last, repeatable);
            }
            Ok(_) => self.refuse(
                io,
                ticket,
                ErrorCode::Internal,
                "the node failed".to_owned(),
            ),
            Err(error) => self.refuse(io, ticket, code_of(&error), error.to_string()),
        }
        self.run_ready(cells, io);
    }

    fn admit_object(&self, cells: &Cells, txn: TxnId, oid: Oid, peer: Peer) -> Result<(), Refusal> {
        self.admit(txn, peer)?;
        if cells.writable_of_oid(oid).is_none() {
            let text = format!("this node has no cell of object {oid}");
            return Err((ErrorCode::NonReadableCell, text));
        }
        let objects = self.txns.get(&txn).map_or(0, |t| t.objects.len());
        if objects >= TRANSACTION_OIDS_MAX {
            let text = format!("a transaction has at most {TRANSACTION_OIDS_MAX} objects");
            return Err((ErrorCode::TooLarge, text));
        }
        let unanswered = self.unanswered.get(&peer.conn).copied().unwrap_or(0);
        if unanswered >= self.limits.unanswered_stores_max {
            let text = format!("{unanswered} requests of this connection are not answered yet");
            return Err((ErrorCode::TooLarge, text));
        }
        Ok(())
    }

    fn value(&self, kind: StoreKind, payload: Bytes) -> Result<Value, Refusal> {
        let value = match kind {
            StoreKind::Value {
                compression,
                checksum,
            } => {
                if payload.len() > self.object_bytes_max {
                    let (is, max) = (payload.len(), self.object_bytes_max);
                    let text = format!("an object of {is} bytes; this node takes at most {max}");
                    return Err((ErrorCode::TooLarge, text));
                }
                let record = Record {
                    compression,
                    checksum,
                    data: payload,
                };
                if !record.is_intact() {
                    let text = "the data does not match its checksum".to_owned();
                    return Err((ErrorCode::Checksum, text));
                }
                return Ok(Value::Memory(record));
            }
            StoreKind::SameAs(tid) => Value::SameAs(tid),
            StoreKind::Deletion => Value::Deleted,
        };
        if !payload.is_empty() {
            let text = "data was sent with a store that has none".to_owned();
            return Err((ErrorCode::Protocol, text));
        }
        Ok(value)
    }

    /// Keeps a value in memory, or writes it when there is too much of it.
    fn keep(&mut self, io: &mut Io<'_>, peer: Peer, txn: TxnId, value: Value) -> Value {
        let Value::Memory(record) = value else {
            return value;
        };
        let bytes = record.data.len();
        let (total, limits) = (self.buffered, self.limits.clone());
        let t = self.open(txn, peer);
        if t.buffered + bytes <= limits.transaction_buffered_bytes_max
            && total + bytes <= limits.buffered_bytes_max
        {
            t.buffered += bytes;
            self.buffered += bytes;
            io.consumed(peer.conn, bytes as u64);
            return Value::Memory(record);
        }
        let id = io.jobs.data_id();
        t.writing.insert(id);
        let put = WriteOp::PutData {
            id,
            owner: Some(txn),
            record,
        };
        let then = AfterPersist::Data {
            txn,
            id,
            conn: peer.conn,
            bytes: bytes as u64,
        };
        io.persist(WriteBatch::from(vec![put]), Durability::Buffered, then);
        Value::Written(id)
    }

    pub(super) fn look(&mut self, cells: &Cells, io: &mut Io<'_>, ticket: Ticket) {
        let Some(request) = self.requests.get(&ticket) else {
            return;
        };
        let oid = request.oid;
        let same_as = match &request.kind {
            Kind::Store {
                value: Value::SameAs(tid),
                ..
            } => Some(*tid),
            _ => None,
        };
        let Some(partition) = cells.writable_of_oid(oid) else {
            return self.not_here(io, ticket, oid);
        };
        if !cells.is_checked(partition) {
            return self.take_unchecked(io, ticket, partition);
        }
        if same_as.is_some() && self.waits_for_pack(ticket, oid) {
            return;
        }
        if same_as.is_none()
            && let Some(last) = self.serials.get(oid)
        {
            return self.decide(cells, io, ticket, last, false);
        }
        let query = Query::LastSerial {
            partition,
            oid,
            same_as,
        };
        io.read(query, AfterRead::Serial(ticket));
    }

    /// The lock is there, the newest serial known: answers.
    pub(super) fn decide(
        &mut self,
        cells: &Cells,
        io: &mut Io<'_>,
        ticket: Ticket,
        last: Option<Tid>,
        repeatable: bool,
    ) {
        let Some(request) = self.requests.get_mut(&ticket) else {
            return;
        };
        let (asker, txn, oid) = (request.asker, request.txn, request.oid);
        let Some(partition) = cells.writable_of_oid(oid) else {
            return self.not_here(io, ticket, oid);
        };
        if !cells.is_checked(partition) {
            return self.take_unchecked(io, ticket, partition);
        }
        let Some(t) = self.txns.get_mut(&txn) else {
            return;
        };
        let own = t.objects.get(&oid);
        match &mut request.kind {
            Kind::Store { serial, value } => {
                let serial = *serial;
                let current = match own {
                    None => last.is_none_or(|last| last == serial),
                    Some(own) => own.takes(last, serial),
                };
                if !current && !self.mutations.no_conflicts {
                    let outcome = StoreOutcome::Conflict(last.unwrap_or(Tid::ZERO));
                    io.answer(asker, Packet::AnswerStoreObject { outcome });
                    return self.end_in_conflict(io, ticket);
                }
                if matches!(value, Value::SameAs(_)) && !repeatable {
                    let text = format!("object {oid} has no value to repeat at that tid");
                    return self.refuse(io, ticket, ErrorCode::MissingRevision, text);
                }
                let value = Some(std::mem::replace(value, Value::Deleted));
                let object = Object {
                    current: last,
                    value,
                    unchecked: None,
                };
                let before = t.objects.insert(oid, object);
                self.discard_value(txn, before.and_then(|object| object.value));
                self.garbage.pump(io);
                let outcome = StoreOutcome::Locked;
                io.answer(asker, Packet::AnswerStoreObject { outcome });
                self.end_request(io, ticket, false);
            }
            Kind::Check { serial } => {
                let same = last.unwrap_or(Tid::ZERO) == *serial;
                let known = own.is_some();
                let outcome = if same || self.mutations.no_conflicts {
                    let object = || Object {
                        current: last,
                        value: None,
                        unchecked: None,
                    };
                    t.objects.entry(oid).or_insert_with(object);
                    StoreOutcome::Locked
                } else {
                    StoreOutcome::Conflict(last.unwrap_or(Tid::ZERO))
                };
                io.answer(asker, Packet::AnswerCheckCurrentSerial { outcome });
                let release = outcome != StoreOutcome::Locked && !known;
                self.end_request(io, ticket, release);
            }
            Kind::Relock { .. } => {
                let stands = own.is_some_and(|own| own.stands(last));
                let outcome = if stands {
                    RelockOutcome::Relocked
                } else {
                    RelockOutcome::Conflict(last.unwrap_or(Tid::ZERO))
                };
                let is_check = own.is_some_and(|own| own.value.is_none());
                io.answer(asker, Packet::AnswerRelockObject { outcome });
                if stands || is_check {
                    // A check that failed is the end of its transaction: there is nothing to merge.
                    self.end_request(io, ticket, !stands);
                } else {
                    self.end_in_conflict(io, ticket);
                }
            }
        }
    }

    /// The request is answered by a conflict. What the transaction had of the object is gone, but the
    /// lock stays: what it stores next starts from the serial that it was told, and would find a
    /// newer one, again and again, if others committed while it merges. An older transaction that
    /// wants the lock gets it all the same.
    fn end_in_conflict(&mut self, io: &mut Io<'_>, ticket: Ticket) {
        if let Some(request) = self.requests.get(&ticket)
            && let Some(t) = self.txns.get_mut(&request.txn)
        {
            let txn = request.txn;
            let dropped = t.objects.remove(&request.oid);
            self.discard_value(txn, dropped.and_then(|object| object.value));
        }
        self.end_request(io, ticket, false);
    }

    /// A value is not needed any more.
    pub(super) fn discard_value(&mut self, txn: TxnId, value: Option<Value>) {
        let Some(value) = value else {
            return;
        };
        let bytes = value.buffered();
        self.buffered -= bytes;
        if let Some(t) = self.txns.get_mut(&txn) {
            t.buffered -= bytes;
        }
        if let Value::Written(id) = value {
            self.garbage.data(id);
        }
    }
}

impl Object {
    /// Whether a second store of the object in the same transaction may replace the first: it
    /// starts from what the lock was taken on, from what the first store repeats, or from
    /// something newer, which only a node that is about to be expelled does not know.
    fn takes(&self, last: Option<Tid>, serial: Tid) -> bool {
        if self.repeats(serial) {
            return true;
        }
        match &self.unchecked {
            Some(_) => last.is_none_or(|last| last == serial),
            None => last.is_none_or(|last| last <= serial),
        }
    }

    /// Whether a second store starts from the value that the first one repeats.
    pub(super) fn repeats(&self, serial: Tid) -> bool {
        matches!(&self.value, Some(Value::SameAs(tid)) if *tid == serial)
    }

    /// Whether the object is, under the lock that the transaction has again, as it was when it had
    /// it before.
    fn stands(&self, last: Option<Tid>) -> bool {
        match &self.unchecked {
            Some(unchecked) => unchecked.is_current(self, last),
            None => self.current == last,
        }
    }
}
