//! Loads that go to the same node at the same moment: one request for all of them.
//!
//! Each is a read of its own, with its own waiters and its own second attempt. What an answer leaves
//! out, because it has enough bytes or because the node can't serve it, is asked again.

use std::collections::BTreeMap;

use bytes::Bytes;
use neo_api::NodeId;
use neo_proto::{ConnId, MsgId, Packet, split_answers};

use super::query::Query;
use super::{ReadId, State};
use crate::core::{ClientCore, Failure, Req};

/// Most loads of one request.
const LOADS_MAX: usize = 1_000;

/// Loads that one request asks for.
#[derive(Debug)]
pub(in crate::core) struct Batch {
    /// In the order asked.
    reads: Vec<ReadId>,
    /// How many of them still wait for it.
    left: usize,
}

impl ClientCore {
    /// Asks a node for an object, at the end of this input, with all others.
    pub(super) fn ask_with_others(&mut self, id: ReadId, nid: NodeId) {
        self.loads_to_ask.entry(nid).or_default().push(id);
    }

    /// Sends what was put together; whether there was something.
    pub(in crate::core) fn send_loads(&mut self) -> bool {
        let to_ask: BTreeMap<NodeId, Vec<ReadId>> = std::mem::take(&mut self.loads_to_ask);
        let has_some = !to_ask.is_empty();
        for (nid, mut reads) in to_ask {
            reads.sort_unstable();
            reads.dedup();
            reads.retain(|id| self.is_about_to_ask(*id, nid));
            for together in reads.chunks(LOADS_MAX) {
                self.send_load(nid, together);
            }
        }
        has_some
    }

    fn is_about_to_ask(&mut self, id: ReadId, nid: NodeId) -> bool {
        let read = self.reads.get_mut(&id);
        read.is_some_and(|read| {
            read.asked()
                .any(|asked| asked.nid == nid && asked.request == MsgId(0))
        })
    }

    fn send_load(&mut self, nid: NodeId, together: &[ReadId]) {
        let objects = together.iter().filter_map(|id| match self.reads[id].query {
            Query::Load { oid, at } => Some((oid, at.at())),
            Query::Page(_) => None,
        });
        let objects: Vec<_> = objects.collect();
        let is_batched = objects.len() > 1;
        let request = match (together, &objects[..]) {
            ([id], [(oid, at)]) => {
                let (oid, at) = (*oid, *at);
                let packet = Packet::AskObject { oid, at };
                self.ask_storage(nid, Req::Read(*id), packet, Bytes::new())
            }
            _ => {
                let packet = Packet::AskObjects { objects };
                let request = self.ask_storage(nid, Req::Loads, packet, Bytes::new());
                let batch = Batch {
                    reads: together.to_vec(),
                    left: together.len(),
                };
                self.batches.insert(request, batch);
                request
            }
        };
        for (at, id) in together.iter().enumerate() {
            let Some(read) = self.reads.get_mut(id) else {
                continue;
            };
            read.is_batched = is_batched;
            if let Some(asked) = read.asked().find(|asked| asked.nid == nid) {
                asked.request = request;
                asked.is_timed = at == 0;
            }
            if is_batched && matches!(read.state, State::Asked(_, None)) {
                read.look_at = Some(self.now.mono + self.patience[read.kind()].delay());
            }
        }
    }

    pub(in crate::core) fn loads_answered(
        &mut self,
        conn: ConnId,
        request: MsgId,
        nid: Option<NodeId>,
        packet: Packet,
        payload: &Bytes,
    ) {
        let (Some(batch), Some(node)) = (self.batches.remove(&request), nid) else {
            return;
        };
        let name = packet.name();
        let answers = match packet {
            Packet::AnswerObjects { answers }
                if !answers.is_empty() && answers.len() <= batch.reads.len() =>
            {
                split_answers(answers, payload)
            }
            _ => Err("it answers another request"),
        };
        let answers = match answers {
            Ok(answers) => answers,
            Err(why) => {
                let reason = format!("{name}: {why}");
                self.fail_batch(batch, nid, &Failure::lost(reason.clone()));
                self.protocol_violation(conn, reason);
                return;
            }
        };
        let mut answers = answers.into_iter();
        for id in batch.reads {
            match answers.next() {
                // A slice would keep the whole answer, for as long as somebody has one value of it.
                Some((answer, value)) => {
                    self.load_answered(id, nid, answer, Bytes::copy_from_slice(&value));
                }
                None => self.read_unanswered(id, node),
            }
        }
    }

    pub(in crate::core) fn loads_failed(
        &mut self,
        request: MsgId,
        nid: Option<NodeId>,
        failure: &Failure,
    ) {
        if let Some(batch) = self.batches.remove(&request) {
            self.fail_batch(batch, nid, failure);
        }
    }

    fn fail_batch(&mut self, batch: Batch, nid: Option<NodeId>, failure: &Failure) {
        for id in batch.reads {
            self.read_failed(id, nid, failure);
        }
    }

    /// One of those that wait for a request has what it wants: whether the request is of no use to
    /// others.
    pub(super) fn is_last_of_batch(&mut self, request: MsgId) -> bool {
        let Some(batch) = self.batches.get_mut(&request) else {
            return true;
        };
        batch.left = batch.left.saturating_sub(1);
        if batch.left > 0 {
            return false;
        }
        self.batches.remove(&request);
        true
    }
}
