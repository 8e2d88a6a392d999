//! Requests to the primary that outlive it: asked again of the next one, until their deadline.

use std::collections::BTreeMap;
use std::time::Duration;

use neo_api::Tid;
use neo_proto::{ConnId, FinalTid, Packet};

use super::effect::{ImportKey, Reply, ReplyId, TxnKey};
use super::read::ReadId;
use super::timer::TimerId;
use super::{ClientCore, Failure, Req, Sent, Timer, refused_by_primary};
use crate::error::Error;

/// A request to the primary that is asked again of the next one, until its deadline.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct CallId(u64);

/// What is asked.
#[derive(Debug)]
pub(super) enum CallKind {
    /// Nothing: the link must be ready.
    Ready(ReplyId),
    Sync(ReplyId),
    /// A read that may not go on before a sync.
    SyncForRead(ReadId),
    /// A committed transaction that must not be told before a sync.
    SyncForOutcome(TxnKey, Tid),
    NewOids {
        reply: ReplyId,
        count: u32,
    },
    Begin {
        txn: TxnKey,
        tid: Option<Tid>,
    },
    FinalTid(TxnKey),
    BeginImport {
        import: ImportKey,
        reply: ReplyId,
    },
    WaitPack {
        reply: ReplyId,
        id: Tid,
    },
    PackProgress(ReplyId),
}

impl CallKind {
    pub(super) const fn reply(&self) -> Option<ReplyId> {
        match self {
            Self::Ready(reply)
            | Self::Sync(reply)
            | Self::NewOids { reply, .. }
            | Self::BeginImport { reply, .. }
            | Self::WaitPack { reply, .. }
            | Self::PackProgress(reply) => Some(*reply),
            // These belong to a read or a transaction, which has a deadline of its own.
            Self::SyncForRead(_)
            | Self::SyncForOutcome(..)
            | Self::Begin { .. }
            | Self::FinalTid(_) => None,
        }
    }

    const fn waits_for(&self) -> &'static str {
        match self {
            Self::Ready(_) => "the cluster to be ready",
            Self::Sync(_) | Self::SyncForRead(_) | Self::SyncForOutcome(..) => {
                "the last tid from the primary master"
            }
            Self::NewOids { .. } => "new oids from the primary master",
            Self::Begin { .. } => "the primary master to begin a transaction",
            Self::FinalTid(_) => "the outcome of a transaction",
            Self::BeginImport { .. } => "the primary master to begin an import",
            Self::WaitPack { .. } => "a pack",
            Self::PackProgress(_) => "the primary master to tell how far packs are",
        }
    }
}

#[derive(Debug)]
pub(super) struct Call {
    pub(super) kind: CallKind,
    timer: Option<TimerId>,
    /// Not asked yet, or not of this primary.
    pub(super) waiting: bool,
}

impl ClientCore {
    pub(super) fn ask_master(&mut self, conn: ConnId, req: Req, packet: Packet) {
        let id = self.msg_id();
        let sent = Sent {
            nid: None,
            conn: Some(conn),
            req,
        };
        self.requests.insert(id, sent);
        self.out.send(conn, id, packet);
    }

    pub(super) fn wait_ready(&mut self, reply: ReplyId, timeout: Duration) {
        self.call_within(CallKind::Ready(reply), Some(timeout));
    }

    pub(super) fn call(&mut self, kind: CallKind) {
        let timeout = kind.reply().map(|_| self.settings.operation_timeout);
        self.call_within(kind, timeout);
    }

    /// For what may take hours: without a deadline.
    pub(super) fn call_patiently(&mut self, kind: CallKind) {
        self.call_within(kind, None);
    }

    fn call_within(&mut self, kind: CallKind, timeout: Option<Duration>) {
        let id = CallId(self.id());
        let timer = timeout.map(|timeout| self.set_timer(timeout, Timer::Call(id)));
        let call = Call {
            kind,
            timer,
            waiting: true,
        };
        self.calls.insert(id, call);
        self.call_send(id);
    }

    pub(super) fn call_send(&mut self, id: CallId) {
        let Some(conn) = self.master.ready_conn() else {
            return;
        };
        let Some(call) = self.calls.get_mut(&id) else {
            return;
        };
        if !std::mem::replace(&mut call.waiting, false) {
            return;
        }
        let packet = match &call.kind {
            CallKind::Ready(reply) => {
                let reply = *reply;
                self.call_ended(id);
                self.reply(reply, Ok(Reply::Done));
                return;
            }
            CallKind::Sync(_) | CallKind::SyncForRead(_) | CallKind::SyncForOutcome(..) => {
                Packet::AskLastTransaction {}
            }
            CallKind::NewOids { count, .. } => Packet::AskNewOids { count: *count },
            CallKind::Begin { txn, tid } => {
                let (txn, tid) = (*txn, *tid);
                if !self.is_beginning(txn) {
                    self.call_ended(id);
                    return;
                }
                Packet::AskBeginTransaction { tid }
            }
            CallKind::FinalTid(txn) => {
                let Some(name) = self.txns.get(txn).and_then(|txn| txn.name) else {
                    self.call_ended(id);
                    return;
                };
                Packet::AskFinalTid { txn: name }
            }
            CallKind::BeginImport { .. } => Packet::AskBeginImport {},
            CallKind::WaitPack { id, .. } => Packet::AskWaitPack { id: *id },
            CallKind::PackProgress(_) => Packet::AskPackProgress {},
        };
        self.ask_master(conn, Req::Call(id), packet);
    }

    fn call_ended(&mut self, id: CallId) -> Option<CallKind> {
        let call = self.calls.remove(&id)?;
        if let Some(timer) = call.timer {
            self.timers.cancel(timer);
        }
        Some(call.kind)
    }

    /// Forgets the calls of a transaction that ended.
    pub(super) fn drop_calls_of(&mut self, key: TxnKey) {
        self.calls.retain(|_, call| match call.kind {
            CallKind::FinalTid(txn) | CallKind::SyncForOutcome(txn, _) => txn != key,
            // A begin that was asked is waited for, so that it can be aborted.
            CallKind::Begin { txn, .. } => txn != key || !call.waiting,
            _ => true,
        });
    }

    /// An import whose beginning nobody waits for: when the primary answers, it is told to end it.
    pub(super) fn drop_begin_import(&mut self, key: ImportKey) {
        self.calls.retain(
            |_, call| !matches!(call.kind, CallKind::BeginImport { import, .. } if import == key),
        );
    }

    /// Forgets the calls of a read that ended.
    pub(super) fn drop_calls_of_read(&mut self, read: ReadId) {
        self.calls
            .retain(|_, call| !matches!(call.kind, CallKind::SyncForRead(r) if r == read));
    }

    pub(super) fn call_answered(&mut self, conn: ConnId, id: CallId, packet: Packet) {
        let Some(kind) = self.call_ended(id) else {
            // Given up meanwhile: what it began must not stay.
            match packet {
                Packet::AnswerBeginTransaction { txn } => {
                    let nodes = Vec::new();
                    self.out
                        .notify(conn, Packet::AbortTransaction { txn, nodes });
                }
                Packet::AnswerBeginImport { import, .. } => {
                    let msg = self.msg_id();
                    self.out.send(conn, msg, Packet::AskEndImport { import });
                }
                _ => {}
            }
            return;
        };
        match (kind, packet) {
            (CallKind::Sync(reply), Packet::AnswerLastTransaction { tid }) => {
                self.synced(tid);
                self.reply(reply, Ok(Reply::LastTid(self.last_tid)));
            }
            (CallKind::SyncForRead(read), Packet::AnswerLastTransaction { tid }) => {
                self.synced(tid);
                self.read_synced(read);
            }
            (CallKind::SyncForOutcome(txn, final_tid), Packet::AnswerLastTransaction { tid }) => {
                self.synced(tid);
                self.committed(txn, final_tid);
            }
            (CallKind::NewOids { reply, .. }, Packet::AnswerNewOids { first, count }) => {
                self.reply(reply, Ok(Reply::Oids { first, count }));
            }
            (CallKind::Begin { txn, .. }, Packet::AnswerBeginTransaction { txn: name }) => {
                self.begun(conn, txn, name);
            }
            (CallKind::FinalTid(txn), Packet::AnswerFinalTid { tid }) => match tid {
                FinalTid::NotCommitted => self.not_committed(txn),
                FinalTid::Committed(tid) => self.committed(txn, tid),
                FinalTid::AskStorages => self.ask_storages(txn),
            },
            (
                CallKind::BeginImport { import, reply },
                Packet::AnswerBeginImport {
                    import: number,
                    last_tid,
                },
            ) => self.import_begun(import, reply, number, last_tid),
            (CallKind::WaitPack { reply, id }, Packet::AnswerWaitPack { id: of }) if id == of => {
                self.reply(reply, Ok(Reply::Done));
            }
            (CallKind::PackProgress(reply), Packet::AnswerPackProgress { progress }) => {
                self.reply(reply, Ok(Reply::PackProgress(progress)));
            }
            (kind, packet) => {
                let reason = format!("{} answers another request", packet.name());
                self.call_within(kind, Some(self.settings.operation_timeout));
                self.protocol_violation(conn, reason);
            }
        }
    }

    /// Invalidations are sent for every transaction, before the answer to a later sync: a greater
    /// tid means that some were missed.
    fn synced(&mut self, tid: Tid) {
        if tid > self.last_tid {
            self.resync(tid);
        }
    }

    pub(super) fn call_failed(&mut self, id: CallId, failure: &Failure) {
        let Some(kind) = self.call_ended(id) else {
            return;
        };
        let error = refused_by_primary(failure);
        match kind {
            CallKind::Begin { txn, .. } => self.fail_txn(txn, error),
            CallKind::FinalTid(txn) | CallKind::SyncForOutcome(txn, _) => self.outcome_later(txn),
            CallKind::SyncForRead(read) => self.read_sync_failed(read),
            CallKind::Ready(reply)
            | CallKind::Sync(reply)
            | CallKind::NewOids { reply, .. }
            | CallKind::BeginImport { reply, .. }
            | CallKind::WaitPack { reply, .. }
            | CallKind::PackProgress(reply) => self.reply(reply, Err(error)),
        }
    }

    pub(super) fn call_timed_out(&mut self, id: CallId) {
        let Some(kind) = self.call_ended(id) else {
            return;
        };
        if let Some(reply) = kind.reply() {
            let error = self.timeout_error(kind.waits_for());
            self.reply(reply, Err(error));
        }
    }

    /// What to say when an operation met its deadline.
    pub(super) fn timeout_error(&self, waited_for: &str) -> Error {
        let trouble = self.master.trouble();
        if self.master.is_ready() {
            Error::Timeout(waited_for.to_owned())
        } else if trouble.is_empty() {
            Error::Timeout(format!("{waited_for}; no master has answered"))
        } else {
            Error::NotReady(format!("waited for {waited_for}; {trouble}"))
        }
    }

    pub(super) fn fail_waiting_calls(&mut self, error: &Error) {
        let waiting: BTreeMap<CallId, Call> = std::mem::take(&mut self.calls);
        for (id, call) in waiting {
            if call.waiting
                && let Some(reply) = call.kind.reply()
            {
                if let Some(timer) = call.timer {
                    self.timers.cancel(timer);
                }
                self.reply(reply, Err(error.clone()));
            } else {
                self.calls.insert(id, call);
            }
        }
    }
}
