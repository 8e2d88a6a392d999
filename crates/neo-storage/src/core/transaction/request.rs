//! Requests that take a lock: which are at work, and which wait for it, or for one another.

use std::collections::VecDeque;

use neo_api::{Oid, Tid, TxnId};
use neo_proto::{ErrorCode, MsgId, Packet};

use super::store::Target;
use super::{Peer, Transactions, Value};
use crate::core::cells::Cells;
use crate::core::io::{Asker, Io};
use crate::core::lock::{Mode, Requested, Ticket};

/// A store, check or relock that is not answered.
#[derive(Debug)]
pub(super) struct Request {
    pub(super) asker: Asker,
    pub(super) txn: TxnId,
    pub(super) oid: Oid,
    pub(super) kind: Kind,
    /// Whether its client knows that it waits.
    delayed: bool,
}

#[derive(Debug)]
pub(super) enum Kind {
    Store { serial: Tid, value: Value },
    Check { serial: Tid },
    Relock { asked: bool },
}

impl Request {
    pub(super) fn into_value(self) -> Option<Value> {
        match self.kind {
            Kind::Store { value, .. } => Some(value),
            _ => None,
        }
    }

    fn mode(&self) -> Mode {
        match self.kind {
            Kind::Check { .. } => Mode::Shared,
            _ => Mode::Exclusive,
        }
    }
}

impl Transactions {
    pub(super) fn enter(
        &mut self,
        peer: Peer,
        asker: Asker,
        txn: TxnId,
        oid: Oid,
        kind: Kind,
    ) -> Ticket {
        self.last_ticket += 1;
        let ticket = Ticket(self.last_ticket);
        let request = Request {
            asker,
            txn,
            oid,
            kind,
            delayed: false,
        };
        self.requests.insert(ticket, request);
        self.open(txn, peer).tickets.insert(ticket);
        *self.unanswered.entry(peer.conn).or_default() += 1;
        ticket
    }

    pub(super) fn ask(
        &mut self,
        io: &mut Io<'_>,
        peer: Peer,
        target: Target,
        id: MsgId,
        kind: Kind,
    ) {
        let asker = Asker {
            conn: peer.conn,
            id,
        };
        let ticket = self.enter(peer, asker, target.txn, target.oid, kind);
        self.ask_lock(io, ticket);
    }

    fn ask_lock(&mut self, io: &mut Io<'_>, ticket: Ticket) {
        let Some(request) = self.requests.get(&ticket) else {
            return;
        };
        let (txn, oid, mode) = (request.txn, request.oid, request.mode());
        let outcome = self.locks.request(txn, oid, mode, ticket);
        self.asked(io, ticket, outcome);
    }

    /// Gives a lock to who waits for it, and asks for it again.
    pub(super) fn give_way(&mut self, cells: &Cells, io: &mut Io<'_>, ticket: Ticket) {
        let Some(request) = self.requests.get_mut(&ticket) else {
            return;
        };
        request.kind = Kind::Relock { asked: true };
        let (txn, oid) = (request.txn, request.oid);
        match self.locks.relock(txn, oid, ticket) {
            Some((outcome, granted)) => {
                self.ready.extend(granted);
                if outcome == Requested::Granted {
                    // It stays the one that is at work.
                    return self.look(cells, io, ticket);
                }
                let t = self.txns.get_mut(&txn);
                let next = t.and_then(|t| t.busy.remove(&oid)).unwrap_or_default();
                self.asked(io, ticket, outcome);
                self.ask_again(io, next);
            }
            // Its store was refused, perhaps: the serial tells the client why.
            None => self.look(cells, io, ticket),
        }
    }

    fn asked(&mut self, io: &mut Io<'_>, ticket: Ticket, outcome: Requested) {
        match outcome {
            Requested::Granted => self.ready.push_back(ticket),
            Requested::Waits { holder, deadlocks } => {
                let Some(request) = self.requests.get_mut(&ticket) else {
                    return;
                };
                let (asker, oid) = (request.asker, request.oid);
                if !std::mem::replace(&mut request.delayed, true) {
                    let request = asker.id;
                    io.out
                        .notify(asker.conn, Packet::NotifyDelayed { request, holder });
                }
                for txn in deadlocks {
                    if let Some(t) = self.txns.get(&txn).filter(|t| t.connected) {
                        let conn = t.peer.conn;
                        io.out.notify(conn, Packet::NotifyDeadlock { txn, oid });
                    }
                }
            }
        }
    }

    /// Goes on with requests that have got their lock.
    pub(super) fn run_ready(&mut self, cells: &Cells, io: &mut Io<'_>) {
        while let Some(ticket) = self.ready.pop_front() {
            let Some(request) = self.requests.get(&ticket) else {
                continue;
            };
            let (txn, oid) = (request.txn, request.oid);
            let Some(t) = self.txns.get_mut(&txn) else {
                continue;
            };
            if let Some(next) = t.busy.get_mut(&oid) {
                next.push_back(ticket);
                continue;
            }
            t.busy.insert(oid, VecDeque::new());
            self.start(cells, io, ticket);
        }
    }

    /// One request of a transaction and object is at work at a time, in the order asked.
    fn start(&mut self, cells: &Cells, io: &mut Io<'_>, ticket: Ticket) {
        let Some(request) = self.requests.get(&ticket) else {
            return;
        };
        let (txn, oid) = (request.txn, request.oid);
        // What this transaction has locked can't have changed.
        let object = self.txns.get(&txn).and_then(|t| t.objects.get(&oid));
        let is_checked = cells
            .writable_of_oid(oid)
            .is_some_and(|partition| cells.is_checked(partition));
        let current = object
            .filter(|object| is_checked && object.unchecked.is_none())
            .map(|object| object.current);
        match (&request.kind, current) {
            (Kind::Relock { asked: false }, _) => self.give_way(cells, io, ticket),
            (Kind::Store { value, .. }, Some(current)) if !matches!(value, Value::SameAs(_)) => {
                self.decide(cells, io, ticket, current, false);
            }
            (Kind::Check { .. }, Some(current)) => self.decide(cells, io, ticket, current, false),
            _ => self.look(cells, io, ticket),
        }
    }

    pub(super) fn not_here(&mut self, io: &mut Io<'_>, ticket: Ticket, oid: Oid) {
        let text = format!("this node has no cell of object {oid} any more");
        self.refuse(io, ticket, ErrorCode::NonReadableCell, text);
    }

    /// Answers a request with an error. What the transaction had of the object before stays.
    pub(super) fn refuse(
        &mut self,
        io: &mut Io<'_>,
        ticket: Ticket,
        code: ErrorCode,
        text: String,
    ) {
        let Some(request) = self.requests.get(&ticket) else {
            return;
        };
        io.error(request.asker, code, text);
        let t = self.txns.get(&request.txn);
        let known = t.is_some_and(|t| t.objects.contains_key(&request.oid));
        self.end_request(io, ticket, !known);
    }

    /// The request is answered; with `release`, the transaction gives the object up.
    pub(super) fn end_request(&mut self, io: &mut Io<'_>, ticket: Ticket, release: bool) {
        let Some(request) = self.requests.remove(&ticket) else {
            return;
        };
        let (txn, oid) = (request.txn, request.oid);
        self.answered(request.asker.conn);
        // A value that was taken has been replaced by one without data.
        self.discard_value(txn, request.into_value());
        let Some(t) = self.txns.get_mut(&txn) else {
            return;
        };
        t.tickets.remove(&ticket);
        let next = t.busy.remove(&oid).unwrap_or_default();
        if release {
            let dropped = t.objects.remove(&oid);
            self.discard_value(txn, dropped.and_then(|object| object.value));
            let granted = self.locks.release(txn, oid);
            self.ready.extend(granted);
            self.ask_again(io, next);
        } else {
            self.ready.extend(next);
        }
        self.garbage.pump(io);
    }

    /// These had their lock only because their transaction had it before.
    fn ask_again(&mut self, io: &mut Io<'_>, tickets: VecDeque<Ticket>) {
        for ticket in tickets {
            let relock = |r: &Request| matches!(r.kind, Kind::Relock { .. });
            if self.requests.get(&ticket).is_some_and(relock) {
                self.ready.push_back(ticket);
            } else {
                self.ask_lock(io, ticket);
            }
        }
    }
}
