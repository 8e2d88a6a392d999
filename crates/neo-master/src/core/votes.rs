//! Votes, as the storage nodes tell of them: a transaction gets its tid when every node that is to
//! lock it has voted.
//!
//! What a client says of its votes is not believed. Once a tid is written somewhere the transaction
//! can't be given up any more, so a node that turned out to have no vote would have to go, although
//! nothing is wrong with it; before, the client can.
//!
//! A cell is *bound* to a transaction if its node takes part and it is readable, or has been
//! registered as catching up since before the transaction began: it must have all of it. A cell that
//! began to catch up later fetches the transaction when it has ended, so nothing is asked of it.
//!
//! A node tells of a vote when it answers the client, so the word of an honest client's vote has
//! been sent, on the connection that is asked here, before the request to finish can come.

use std::collections::BTreeSet;

use neo_api::{Cell, NodeId, Now, TxnId};
use neo_proto::Packet;

use super::effect::Out;
use super::requests::Ask;
use super::transaction_manager::{Noted, Vote};
use super::{MasterCore, Phase};

/// Who takes part in a transaction that is to finish.
#[derive(Debug)]
pub(super) struct Parties {
    /// Nodes that failed to, and are connected: it finishes without them.
    pub(super) failed: BTreeSet<NodeId>,
    /// Nodes that lock it.
    pub(super) nodes: BTreeSet<NodeId>,
    /// Those of them that have not voted for it, or not for all that they must.
    pub(super) unvoted: BTreeSet<NodeId>,
}

/// Why a transaction can't finish.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Lack {
    /// It does not want to: it ended, for example.
    Nothing,
    /// Some of its objects would be on no readable cell.
    Cells,
}

impl MasterCore {
    /// Who takes part in a transaction whose client wants it finished.
    pub(super) fn parties(&self, txn: TxnId) -> Result<Parties, Lack> {
        let (Phase::Running(running), Some(table)) = (&self.phase, &self.table) else {
            return Err(Lack::Nothing);
        };
        let (transaction, finish) = running.txns.parked(txn).ok_or(Lack::Nothing)?;
        let failed = transaction.failed.iter().copied();
        let failed: BTreeSet<NodeId> = failed
            .filter(|nid| running.operating.contains_key(nid))
            .collect();
        let is_up = |nid| running.operating.contains_key(&nid);
        if table.bereft(&failed, is_up).is_some() {
            return Err(Lack::Cells);
        }
        let home = table.get().partitioning().of_tid(txn.ttid);
        let counts = |nid| running.operating.contains_key(&nid) && !failed.contains(&nid);
        // Who has voted has rows of it, whatever has become of its cells.
        let voted = transaction.votes.keys().copied();
        let mut nodes: BTreeSet<NodeId> = voted.filter(|nid| counts(*nid)).collect();
        let mut unvoted = BTreeSet::new();
        for partition in &finish.partitions {
            let is_bound = |cell: &&Cell| {
                counts(cell.nid)
                    && running.takes_part(cell.nid, transaction.readiness)
                    && (cell.state.is_readable()
                        || running.catching_up.is_bound(*partition, cell, txn.ttid))
            };
            let cells: Vec<&Cell> = table.get().writable(*partition).filter(is_bound).collect();
            if !cells.iter().any(|cell| cell.state.is_readable()) {
                return Err(Lack::Cells);
            }
            let vote = |cell: &Cell| transaction.votes.get(&cell.nid);
            let objects = |cell: &Cell| vote(cell).map_or(0, |vote| vote.of(*partition));
            // A replica that has less would differ from the others for ever.
            let most = cells.iter().map(|cell| objects(cell)).max().unwrap_or(0);
            let least = most.max(u32::from(*partition != home));
            for cell in cells {
                nodes.insert(cell.nid);
                let has_voted = |vote: &Vote| vote.metadata || *partition != home;
                if objects(cell) < least || !vote(cell).is_some_and(has_voted) {
                    unvoted.insert(cell.nid);
                }
            }
        }
        if self.settings.mutations.believe_finish {
            unvoted.clear();
        }
        Ok(Parties {
            failed,
            nodes,
            unvoted,
        })
    }

    /// A storage node tells of a vote.
    ///
    /// One that no cell of it is bound to is not waited for: its vote may come when the transaction
    /// has its tid. It is to forget the transaction then, and fetch it: nobody would tell it to
    /// unlock, and its locks would be waited for, for ever.
    pub(super) fn voted(&mut self, now: Now, nid: NodeId, txn: TxnId, vote: Vote, out: &mut Out) {
        let Some(running) = self.running() else {
            return;
        };
        match running.txns.vote(txn, nid, vote) {
            Noted::Vote => {}
            Noted::AwaitedVote => self.finish_parked(now, txn, out),
            Noted::TooLate => {
                if let Some(conn) = self.nodes.conn(nid) {
                    let nodes = Vec::new();
                    out.notify(conn, Packet::AbortTransaction { txn, nodes });
                }
            }
        }
    }

    /// Asks nodes that have not told of a vote: an answer comes after all that they told before.
    pub(super) fn ask_for_votes(&mut self, txn: TxnId, unvoted: &BTreeSet<NodeId>, out: &mut Out) {
        for nid in unvoted {
            let Phase::Running(running) = &mut self.phase else {
                return;
            };
            if running.txns.ask_for_vote(txn, *nid)
                && let Some(conn) = self.nodes.conn(*nid)
            {
                let packet = Packet::AskFinalTid { txn };
                self.requests.send(conn, Ask::Vote(txn), packet, out);
            }
        }
    }

    /// A node that was asked for a vote has told of all that it has.
    pub(super) fn vote_asked(&mut self, now: Now, nid: NodeId, txn: TxnId, out: &mut Out) {
        let lacks = |parties: Parties| parties.unvoted.contains(&nid);
        if !self.parties(txn).is_ok_and(lacks) {
            return;
        }
        let Some(asker) = self
            .running()
            .and_then(|running| Some(running.txns.parked(txn)?.1.asker))
        else {
            return;
        };
        let words = format!("transaction {txn} has not voted on {nid} for all that it involves");
        self.violation(now, asker.conn, asker.id, &words, out);
    }

    /// Storage nodes are lost: what waited for their votes may go on without.
    pub(super) fn retry_unvoted(&mut self, now: Now, out: &mut Out) {
        let waiting = self.running().map(|running| running.txns.unvoted());
        for txn in waiting.unwrap_or_default() {
            self.finish_parked(now, txn, out);
        }
    }
}
