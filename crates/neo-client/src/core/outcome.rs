//! What became of a transaction whose finish was not answered.
//!
//! The primary is asked first. Its answer is a fence: a transaction that it has not begun to
//! commit is aborted before it answers. A primary of a later reign knows nothing; then a storage
//! that holds the metadata does.

use std::collections::BTreeSet;
use std::time::Duration;

use bytes::Bytes;
use neo_api::NodeId;
use neo_proto::{FinalTid, Packet};

use super::call::CallKind;
use super::effect::{ReplyId, TxnKey};
use super::transaction::Phase;
use super::{ClientCore, Req, Timer, Todo, backoff};
use crate::error::Error;

/// How long one storage may take to look: its disk may hang.
const STORAGE_MAX: Duration = Duration::from_secs(1);

/// Where the question is.
#[derive(Debug)]
pub(super) struct Outcome {
    rounds: u32,
    asking: Asking,
}

#[derive(Debug)]
enum Asking {
    /// Until the primary is there, or a pause is over.
    Nobody,
    Primary,
    /// With the storages that gave no answer.
    Storages(BTreeSet<NodeId>),
}

impl ClientCore {
    /// The connection to the primary was lost while it was committing.
    pub(super) fn lost_finish(&mut self, key: TxnKey, reply: Option<ReplyId>) {
        let Some(txn) = self.txns.get_mut(&key) else {
            return;
        };
        let (again, rounds) = match &txn.phase {
            Phase::Lost(_, outcome) => (true, outcome.rounds),
            _ => (false, 0),
        };
        let asking = Asking::Nobody;
        txn.phase = Phase::Lost(reply, Outcome { rounds, asking });
        self.drop_calls_of(key);
        // The time until here was the primary's; this is for finding out, however often a primary
        // is lost meanwhile.
        if !again {
            self.touch(key);
        }
        if self.master.is_ready() {
            self.todo.push_back(Todo::Outcome(key));
        }
    }

    fn asking(&mut self, key: TxnKey) -> Option<&mut Outcome> {
        match self.txns.get_mut(&key).map(|txn| &mut txn.phase) {
            Some(Phase::Lost(_, outcome)) => Some(outcome),
            _ => None,
        }
    }

    /// Asks, if nobody is asked.
    pub(super) fn outcome_step(&mut self, key: TxnKey) {
        if !self.master.is_ready() {
            return;
        }
        if let Some(outcome) = self.asking(key)
            && matches!(outcome.asking, Asking::Nobody)
        {
            outcome.asking = Asking::Primary;
            self.call(CallKind::FinalTid(key));
        }
    }

    /// Nobody could answer: once more, from the beginning.
    pub(super) fn outcome_later(&mut self, key: TxnKey) {
        if let Some(outcome) = self.asking(key) {
            outcome.asking = Asking::Nobody;
            let pause = backoff(outcome.rounds);
            outcome.rounds += 1;
            self.set_timer(pause, Timer::OutcomeRetry(key));
        }
    }

    pub(super) fn ask_storages(&mut self, key: TxnKey) {
        if let Some(outcome) = self.asking(key) {
            outcome.asking = Asking::Storages(BTreeSet::new());
            self.ask_next_storage(key);
        }
    }

    fn ask_next_storage(&mut self, key: TxnKey) {
        let Some(name) = self.txns.get(&key).and_then(|txn| txn.name) else {
            return;
        };
        let Some(Outcome {
            asking: Asking::Storages(tried),
            ..
        }) = self.asking(key)
        else {
            return;
        };
        let mut tried = tried.clone();
        let partition = self.partition_of_tid(name.ttid);
        let Some(nid) = self.choose_cell(partition, &tried) else {
            self.outcome_later(key);
            return;
        };
        tried.insert(nid);
        if let Some(outcome) = self.asking(key) {
            outcome.asking = Asking::Storages(tried);
        }
        let packet = Packet::AskFinalTid { txn: name };
        self.ask_storage(nid, Req::FinalTid(key), packet, Bytes::new());
        self.set_timer(STORAGE_MAX, Timer::OutcomeSlow(key));
    }

    /// Another storage is asked too, if there is one: whichever answers first is right.
    pub(super) fn outcome_slow(&mut self, key: TxnKey) {
        let Some(name) = self.txns.get(&key).and_then(|txn| txn.name) else {
            return;
        };
        if let Some(Outcome {
            asking: Asking::Storages(tried),
            ..
        }) = self.asking(key)
        {
            let tried = tried.clone();
            let partition = self.partition_of_tid(name.ttid);
            if self.choose_cell(partition, &tried).is_some() {
                self.ask_next_storage(key);
            }
        }
    }

    pub(super) fn final_tid_of_storage(&mut self, key: TxnKey, answer: FinalTid) {
        if self.asking(key).is_none() {
            return;
        }
        match answer {
            FinalTid::Committed(tid) if tid > self.last_tid => {
                // Earlier transactions are told before this one.
                self.call(CallKind::SyncForOutcome(key, tid));
            }
            FinalTid::Committed(tid) => self.committed(key, tid),
            FinalTid::NotCommitted => self.not_committed(key),
            FinalTid::AskStorages => self.final_tid_failed(key),
        }
    }

    pub(super) fn final_tid_failed(&mut self, key: TxnKey) {
        self.ask_next_storage(key);
    }

    pub(super) fn not_committed(&mut self, key: TxnKey) {
        let Some(Phase::Lost(reply, _)) = self.txns.get_mut(&key).map(|txn| &mut txn.phase) else {
            return;
        };
        let reply = reply.take();
        self.forget_txn(key);
        if let Some(reply) = reply {
            let words = "the primary master was lost before it committed the transaction";
            self.reply(reply, Err(Error::NotReady(words.into())));
        }
    }

    /// Nobody answered in time. The question stays: until the answer comes, or the primary is
    /// lost, what was written may turn out to be committed.
    pub(super) fn outcome_unknown(&mut self, key: TxnKey, reason: &str) {
        let waited_for = self.timeout_error("the outcome of the commit");
        let Some(txn) = self.txns.get_mut(&key) else {
            return;
        };
        let (Some(name), Phase::Finishing(reply) | Phase::Lost(reply, _)) =
            (txn.name, &mut txn.phase)
        else {
            return;
        };
        let reply = reply.take();
        let lost = matches!(txn.phase, Phase::Lost(..));
        if lost {
            // The next sync with a primary tells what changed, whoever changed it.
            self.forget_txn(key);
        }
        if let Some(reply) = reply {
            let error = Error::Unknown {
                txn: name,
                reason: format!("{reason}: {waited_for}"),
            };
            self.reply(reply, Err(error));
        }
    }
}
