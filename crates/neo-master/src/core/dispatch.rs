//! What storage nodes and clients say, and who deals with it.

use neo_api::{NodeId, Now};
use neo_proto::{ConnId, ErrorCode, MsgId, Packet};

use super::effect::Out;
use super::requests::Ask;
use super::transaction_manager::{Asker, Vote};
use super::{MasterCore, Phase};

impl MasterCore {
    pub(super) fn storage_message(
        &mut self,
        now: Now,
        conn: ConnId,
        nid: NodeId,
        id: MsgId,
        packet: Packet,
        out: &mut Out,
    ) {
        match packet {
            Packet::NotifyVoted {
                txn,
                metadata,
                objects,
            } => self.voted(now, nid, txn, Vote { metadata, objects }, out),
            Packet::NotifySpace { is_full } => self.note_space(nid, is_full),
            Packet::NotifyPacked { cells } => self.packed(nid, cells, out),
            Packet::NotifyPackOrdered {} => self.pack_ordered(out),
            packet @ Packet::AskRemaining { .. } => {
                self.ask_remaining(Asker { nid, conn, id }, packet, out);
            }
            Packet::NotifyReady { operation } => self.storage_ready(now, nid, operation, out),
            Packet::NotifyPartitionTableStored { version } => match &self.phase {
                Phase::Recovering(_) => self.creation_stored(now, nid, version, out),
                Phase::Verifying(_) => self.verification_stored(now, nid, version, out),
                _ => self.promotion_stored(now, nid, version, out),
            },
            Packet::NotifyReplicationDone { cell, tid } => {
                self.replication_done(now, nid, cell, tid, out);
            }
            Packet::AskUnfinishedTransactions { cells } => {
                self.unfinished_transactions(now, nid, conn, id, cells, out);
            }
            other => {
                let words = format!("unexpected {} from a storage node", other.name());
                self.violation(now, conn, id, &words, out);
            }
        }
    }

    /// An answer of a storage node.
    pub(super) fn storage_answer(
        &mut self,
        now: Now,
        conn: ConnId,
        nid: NodeId,
        id: MsgId,
        packet: Packet,
        out: &mut Out,
    ) {
        let Some(ask) = self.requests.answered(conn, id) else {
            let words = format!("{} to a question that was not asked", packet.name());
            self.violation(now, conn, MsgId(0), &words, out);
            return;
        };
        match (ask, packet) {
            (Ask::Recovery, Packet::AnswerRecovery { recovery }) => {
                self.recovery_answered(now, nid, *recovery, out);
            }
            (Ask::PartitionTable, Packet::AnswerPartitionTable { table }) => {
                self.recovery_table(now, nid, table.map(|table| *table), out);
            }
            (
                Ask::SurveyIds,
                Packet::AnswerLastIds {
                    ids, committed_in, ..
                },
            ) => {
                self.survey_ids(now, nid, (&ids, committed_in), out);
            }
            (Ask::SurveyLocked, Packet::AnswerLockedTransactions { transactions, more }) => {
                self.survey_locked(now, nid, &transactions, more, out);
            }
            (Ask::StartReign, Packet::AnswerReignStarted { reign }) => {
                self.verification_reign(now, nid, reign, out);
            }
            (Ask::Locked, Packet::AnswerLockedTransactions { transactions, more }) => {
                self.verification_locked(now, nid, &transactions, more, out);
            }
            (Ask::FinalTid(txn), Packet::AnswerFinalTid { tid }) => {
                self.verification_final_tid(now, nid, txn, tid, out);
            }
            (Ask::Validate(asked), Packet::AnswerTransactionValidated { txn }) if asked == txn => {
                self.verification_done(now, nid, out);
            }
            (Ask::TruncateImport, Packet::AnswerTruncated { .. })
            | (Ask::ClearImport, Packet::AnswerImportMark { .. }) => {
                self.verification_done(now, nid, out);
            }
            (
                Ask::LastIds,
                Packet::AnswerLastIds {
                    ids,
                    cells,
                    committed_in,
                    ..
                },
            ) => {
                self.verification_last_ids(now, nid, (&ids, &cells, committed_in), out);
            }
            (Ask::OidMark, Packet::AnswerOidMarkStored { .. }) => {
                self.oid_mark_noted(now, nid, out)
            }
            (Ask::Vote(txn), Packet::AnswerFinalTid { .. }) => self.vote_asked(now, nid, txn, out),
            (Ask::Lock(asked), Packet::AnswerInformationLocked { txn }) if asked == txn => {
                self.locked(now, nid, txn, out);
            }
            (
                Ask::Import(step),
                Packet::AnswerImportMark { .. }
                | Packet::AnswerImportSynced { .. }
                | Packet::AnswerTruncated { .. },
            ) => self.import_answered(now, nid, step, out),
            (Ask::PackOrders(number), Packet::AnswerPackOrders { orders, complete }) => {
                self.pack_orders_told(nid, number, (orders, complete), out);
            }
            (Ask::PackOrders(number), Packet::Error { .. }) => self.pack_orders_refused(number),
            (
                Ask::Remaining(number),
                answer @ (Packet::AnswerRemaining { .. } | Packet::Error { .. }),
            ) => self.remaining_told(number, answer, out),
            (
                Ask::OidMark,
                Packet::Error {
                    code: ErrorCode::NoSpace,
                    message,
                },
            ) => {
                self.oid_mark_refused(now, nid, &message, out);
            }
            (Ask::Join, packet) if !matches!(packet, Packet::Error { .. }) => {
                self.join_answered(now, nid, &packet, out);
            }
            (ask, Packet::Error { code, message }) => {
                let words = format!("it can't do what it must ({ask:?}): {code}: {message}");
                self.refuse_storage(now, nid, &words, out);
            }
            (ask, other) => {
                let words = format!("{} is no answer to {ask:?}", other.name());
                self.violation(now, conn, MsgId(0), &words, out);
            }
        }
    }

    pub(super) fn client_message(
        &mut self,
        now: Now,
        conn: ConnId,
        nid: NodeId,
        id: MsgId,
        packet: Packet,
        out: &mut Out,
    ) {
        let asker = Asker { nid, conn, id };
        match packet {
            Packet::AskBeginTransaction { tid } => self.begin(now, asker, tid, out),
            Packet::AskNewOids { count } => self.new_oids(asker, count, out),
            Packet::AskFailedVote { txn, nodes } => self.failed_vote(now, asker, txn, &nodes, out),
            Packet::AskFinishTransaction {
                txn,
                oids,
                partitions,
            } => self.finish(now, asker, txn, oids, partitions, out),
            Packet::AbortTransaction { txn, nodes } => {
                self.abort_by_client(now, nid, txn, &nodes, out);
            }
            Packet::AskFinalTid { txn } => self.final_tid(now, asker, txn, out),
            Packet::AskLastTransaction {} => {
                let tid = self.tids.last();
                out.send(conn, id, Packet::AnswerLastTransaction { tid });
            }
            Packet::AskLastIds {} => self.last_ids(conn, id, out),
            Packet::AskWaitPack { id } => self.wait_pack(asker, id, out),
            Packet::AskPackProgress {} => self.pack_progress(conn, id, out),
            Packet::AskBeginImport {} => self.begin_import(asker, out),
            Packet::AskCheckpointImport {
                import,
                tid,
                last_oid,
            } => self.checkpoint_import(now, asker, import, tid, last_oid, out),
            Packet::AskEndImport { import } => self.end_import(asker, import, out),
            other => {
                let words = format!("unexpected {} from a client", other.name());
                self.violation(now, conn, id, &words, out);
            }
        }
    }
}
