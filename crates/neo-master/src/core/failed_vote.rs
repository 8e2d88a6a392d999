//! Nodes that failed to store or vote: whether a transaction may finish without them.
//!
//! Each client loses sight of nodes on its own. If two transactions could each do without another
//! node, but not the cluster without both, the second waits until the first has ended.

use std::collections::BTreeSet;

use neo_api::{NodeId, Now, TxnId};
use neo_proto::{ErrorCode, Packet};

use super::effect::Out;
use super::transaction_manager::{Asker, DelayedVote, Stage};
use super::{MasterCore, Phase};

/// Whether nodes can be done without.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Verdict {
    Granted,
    Refused,
    /// Not together with those of another transaction, which is pending.
    Wait,
}

impl MasterCore {
    pub(super) fn failed_vote(
        &mut self,
        now: Now,
        asker: Asker,
        txn: TxnId,
        nodes: &[NodeId],
        out: &mut Out,
    ) {
        let Some(running) = self.running() else {
            return;
        };
        let transaction = running
            .txns
            .get(txn)
            .filter(|t| t.client == Some(asker.nid));
        let Some(transaction) = transaction else {
            let words = format!("transaction {txn} is not pending: it was aborted, or expired");
            self.refuse(asker, ErrorCode::UnknownTransaction, words, out);
            return;
        };
        let begun = matches!(transaction.stage, Stage::Begun { parked: None, .. });
        if !begun || running.delayed.iter().any(|vote| vote.txn == txn) {
            let words =
                "failed nodes can be told until the transaction finishes, one list at a time";
            self.violation(now, asker.conn, asker.id, words, out);
            return;
        }
        let readiness = transaction.readiness;
        let mut failed = transaction.failed.clone();
        // The transaction does not count on the others anyway.
        failed.extend(
            nodes
                .iter()
                .filter(|nid| running.takes_part(**nid, readiness)),
        );
        let vote = DelayedVote { asker, txn, failed };
        if !self.judge(&vote, out) {
            tracing::info!(%txn, "a vote without some nodes waits for other transactions");
            if let Some(running) = self.running() {
                running.delayed.push_back(vote);
            }
        }
    }

    /// Answers, unless it must wait. Whether it was answered.
    fn judge(&mut self, vote: &DelayedVote, out: &mut Out) -> bool {
        match self.verdict(vote) {
            Verdict::Granted => {
                tracing::info!(txn = %vote.txn, failed = ?vote.failed, "a transaction goes on without nodes");
                if let Some(running) = self.running() {
                    running.txns.set_failed(vote.txn, vote.failed.clone());
                }
                self.reply(vote.asker, Packet::AnswerFailedVote {}, out);
                true
            }
            Verdict::Refused => {
                let words = "the nodes that failed can't be spared: a partition would have no \
                             readable cell";
                self.refuse(vote.asker, ErrorCode::IncompleteTransaction, words, out);
                true
            }
            Verdict::Wait => false,
        }
    }

    fn verdict(&self, vote: &DelayedVote) -> Verdict {
        let (Phase::Running(running), Some(table)) = (&self.phase, &self.table) else {
            return Verdict::Refused;
        };
        let spared = |nodes: &BTreeSet<NodeId>| {
            let nodes: BTreeSet<NodeId> = nodes
                .iter()
                .filter(|nid| running.operating.contains_key(nid))
                .copied()
                .collect();
            table
                .bereft(&nodes, |nid| running.operating.contains_key(&nid))
                .is_none()
        };
        if !spared(&vote.failed) {
            return Verdict::Refused;
        }
        let mut together = running.txns.failed_of_others(vote.txn);
        together.extend(vote.failed.iter().copied());
        if spared(&together) {
            Verdict::Granted
        } else {
            Verdict::Wait
        }
    }

    /// A transaction ended, or a node is lost: votes that waited may be answered.
    pub(super) fn retry_delayed_votes(&mut self, out: &mut Out) {
        let Some(running) = self.running() else {
            return;
        };
        if running.delayed.is_empty() {
            return;
        }
        for vote in std::mem::take(&mut running.delayed) {
            if !self.judge(&vote, out)
                && let Some(running) = self.running()
            {
                running.delayed.push_back(vote);
            }
        }
    }
}
