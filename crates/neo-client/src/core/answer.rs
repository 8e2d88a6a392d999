//! What peers say: answers go to what asked for them.

use bytes::Bytes;
use neo_proto::{ConnId, Effect, Message, MsgId, Packet};

use super::{ClientCore, Failure, Req, Sent, Todo, refused_by_primary};
use crate::error::Error;

impl ClientCore {
    pub(super) fn message(&mut self, conn: ConnId, message: Message) {
        let Message {
            id,
            packet,
            payload,
        } = message;
        let bytes = payload.len() as u64;
        if packet.is_answer() {
            // An answer without its request: the request was cancelled, or given up.
            if let Some(sent) = self.requests.get(&id).copied()
                && sent.conn == Some(conn)
            {
                self.requests.remove(&id);
                self.answer(conn, id, sent, packet, payload);
            }
        } else if self.master.conn() == Some(conn) {
            self.notification_of_master(conn, packet);
        } else if let Some(&nid) = self.storage_conns.get(&conn) {
            self.notification_of_storage(conn, nid, id, packet);
        }
        if bytes > 0 {
            // Values are kept, in the cache or by who asked for them: no more of them come than
            // were asked for.
            self.out.push(Effect::Consumed { conn, bytes });
        }
    }

    fn answer(&mut self, conn: ConnId, id: MsgId, sent: Sent, packet: Packet, payload: Bytes) {
        match sent.req {
            Req::MasterIdentification => self.master_identified(conn, packet),
            Req::StorageIdentification => self.storage_identified(conn, sent, packet),
            _ => match packet {
                Packet::Error { code, message } => {
                    let failure = Failure {
                        code: Some(code),
                        message,
                    };
                    self.todo.push_back(Todo::Failed(sent, id, failure));
                }
                packet => self.success(conn, id, sent, packet, payload),
            },
        }
    }

    fn success(&mut self, conn: ConnId, id: MsgId, sent: Sent, packet: Packet, payload: Bytes) {
        match (sent.req, packet) {
            (Req::FirstSync, Packet::AnswerLastTransaction { tid }) => self.first_sync(tid),
            (Req::Call(call), packet) => self.call_answered(conn, call, packet),
            (Req::Read(read), packet) => self.read_answered(conn, read, sent.nid, packet, payload),
            (Req::Loads, packet) => self.loads_answered(conn, id, sent.nid, packet, &payload),
            (Req::Store { txn, oid, version }, Packet::AnswerStoreObject { outcome })
            | (Req::Store { txn, oid, version }, Packet::AnswerCheckCurrentSerial { outcome }) => {
                self.store_answered(id, sent.nid, txn, oid, version, outcome);
            }
            (Req::Relock { txn, oid, version }, Packet::AnswerRelockObject { outcome }) => {
                self.relock_answered(id, sent.nid, txn, oid, version, outcome);
            }
            (
                Req::Vote {
                    txn,
                    metadata: true,
                },
                Packet::AnswerStoreTransaction {},
            )
            | (
                Req::Vote {
                    txn,
                    metadata: false,
                },
                Packet::AnswerVoteTransaction {},
            ) => {
                self.vote_answered(id, sent.nid, txn);
            }
            (Req::FailedVote(txn), Packet::AnswerFailedVote {}) => self.arbitrated(txn),
            (Req::Finish(key), Packet::AnswerTransactionFinished { txn, tid })
                if self.txns.get(&key).and_then(|t| t.name) == Some(txn) =>
            {
                self.committed(key, tid);
            }
            (Req::FinalTid(txn), Packet::AnswerFinalTid { tid }) => {
                self.final_tid_of_storage(txn, tid);
            }
            (Req::ImportBatch { import, batch }, Packet::AnswerImport {}) => {
                self.import_batch_answered(import, batch, sent.nid);
            }
            (Req::Checkpoint(import), Packet::AnswerImportCheckpointed { tid }) => {
                self.import_checkpointed(import, tid);
            }
            (Req::EndImport(import), Packet::AnswerImportEnded { .. }) => self.import_ended(import),
            (_, packet) => {
                let reason = format!("{} answers another request", packet.name());
                let failure = Failure::lost(reason.clone());
                self.todo.push_back(Todo::Failed(sent, id, failure));
                self.protocol_violation(conn, reason);
            }
        }
    }

    pub(super) fn failed(&mut self, sent: Sent, id: MsgId, failure: Failure) {
        match sent.req {
            Req::Read(read) => self.read_failed(read, sent.nid, &failure),
            Req::Loads => self.loads_failed(id, sent.nid, &failure),
            Req::Store { txn, .. } | Req::Relock { txn, .. } | Req::Vote { txn, .. } => {
                self.node_failed(txn, id, sent, failure);
            }
            Req::FinalTid(txn) => self.final_tid_failed(txn),
            Req::ImportBatch { import, .. } => {
                let error = sent.nid.map_or(Error::Closed, |nid| failure.error(nid));
                self.import_failed(import, error);
            }
            Req::Call(call) => self.call_failed(call, &failure),
            Req::FailedVote(txn) | Req::Finish(txn) => self.refused_by_master(txn, &failure),
            Req::Checkpoint(import) | Req::EndImport(import) => {
                self.import_failed(import, refused_by_primary(&failure));
            }
            // A primary that does not say the last tid is not one.
            Req::FirstSync => {
                if let Some(conn) = sent.conn {
                    self.protocol_violation(conn, failure.message);
                }
            }
            Req::MasterIdentification | Req::StorageIdentification => {}
        }
    }
}
