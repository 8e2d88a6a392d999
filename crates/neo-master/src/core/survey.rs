//! How far a storage node went: the greatest tid that it committed or locked, and the latest reign
//! in which it did.
//!
//! The tid alone does not tell whether a node went further than where an epoch begins: a side that
//! went on under a master whose clock is behind has commits of a later reign with lesser tids than
//! one that was locked, and never committed, on the other side.
//!
//! It is asked of nodes that missed the opening of an epoch, to know whether they went their own
//! way, and of every node before a forced start, to know where the new epoch starts.

use neo_api::{NodeId, Now, Reign, Tid, TxnId};
use neo_proto::{ClusterIdentity, Packet, WireLastIds};

use super::effect::Out;
use super::requests::Ask;
use super::{MasterCore, Phase};

/// How far a node, or a side of the cluster, went.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) struct Reached {
    /// The greatest tid.
    pub(crate) tid: Tid,
    /// The latest reign in which something was committed or locked.
    pub(crate) reign: Reign,
}

impl Reached {
    /// Whether it is further than what began here knew.
    pub(crate) fn is_beyond(self, base: Self) -> bool {
        self.tid > base.tid || self.reign > base.reign
    }
}

/// A survey that is under way.
#[derive(Debug, Default)]
pub(crate) struct Survey {
    reached: Reached,
    pages: Pages,
}

/// Where the reading of a node's unfinished transactions is.
#[derive(Debug, Default)]
pub(crate) struct Pages {
    after: Option<TxnId>,
    count: usize,
}

impl Pages {
    /// What to ask for.
    pub(crate) const fn after(&self) -> Option<TxnId> {
        self.after
    }

    /// Takes a page; the error says why it makes no sense.
    pub(crate) fn take(
        &mut self,
        page: &[(TxnId, Option<Tid>)],
        more: bool,
        count_max: usize,
    ) -> Result<(), &'static str> {
        for (txn, tid) in page {
            if self.after.is_some_and(|after| *txn <= after) {
                return Err("its unfinished transactions are not in order");
            }
            if tid.is_some_and(|tid| tid > Tid::MAX) {
                return Err("it has a transaction with a tid that can't be");
            }
            self.after = Some(*txn);
        }
        self.count += page.len();
        if more && page.is_empty() {
            return Err("it promises more unfinished transactions and gives none");
        }
        if self.count > count_max {
            return Err("it has more unfinished transactions than can be");
        }
        Ok(())
    }
}

/// Whether greatest ids that came from a storage node make sense.
pub(super) fn check_last_ids(ids: &WireLastIds) -> Result<(), &'static str> {
    if ids.last_tid.is_some_and(|tid| tid > Tid::MAX) {
        return Err("its last tid can't be");
    }
    Ok(())
}

/// How far a node may have gone, if it knows only the first `epochs` of a chain and did not go its
/// own way. All that was committed on the side that began the next epoch was committed in the reign
/// of its partition table at the latest.
pub(super) fn base_after(identity: Option<&ClusterIdentity>, epochs: usize) -> Reached {
    let epoch = identity.and_then(|identity| identity.epochs.get(epochs));
    let (tid, reign) = epoch.map_or((Tid::MAX, Reign(u64::MAX)), |epoch| {
        (epoch.base_tid, epoch.base_reign)
    });
    Reached { tid, reign }
}

/// What is told of a node that went its own way.
fn own_way_words(nid: NodeId, reached: Reached, base: Reached) -> String {
    let (tid, from) = (reached.tid, base.tid);
    let in_reign = if tid > from {
        String::new()
    } else {
        format!(", in reign {}, after reign {}", reached.reign, base.reign)
    };
    format!(
        "{nid} went on to {tid} on its own{in_reign}, while the cluster was started without it, by \
         force, from {from}: save from it what you need, then give it an empty database"
    )
}

impl MasterCore {
    pub(super) fn start_survey(&mut self, nid: NodeId, out: &mut Out) {
        if let Some(conn) = self.nodes.conn(nid) {
            self.surveys.insert(nid, Survey::default());
            let packet = Packet::AskLastIds {};
            self.requests.send(conn, Ask::SurveyIds, packet, out);
        }
    }

    pub(super) fn survey_ids(
        &mut self,
        now: Now,
        nid: NodeId,
        (ids, committed_in): (&WireLastIds, Reign),
        out: &mut Out,
    ) {
        let (Some(survey), Some(conn)) = (self.surveys.get_mut(&nid), self.nodes.conn(nid)) else {
            return;
        };
        if let Err(words) = check_last_ids(ids) {
            self.refuse_storage(now, nid, words, out);
            return;
        }
        survey.reached = Reached {
            tid: ids.last_tid.unwrap_or(Tid::ZERO),
            reign: committed_in,
        };
        let packet = Packet::AskLockedTransactions { after: None };
        self.requests.send(conn, Ask::SurveyLocked, packet, out);
    }

    pub(super) fn survey_locked(
        &mut self,
        now: Now,
        nid: NodeId,
        page: &[(TxnId, Option<Tid>)],
        more: bool,
        out: &mut Out,
    ) {
        let (Some(survey), Some(conn)) = (self.surveys.get_mut(&nid), self.nodes.conn(nid)) else {
            return;
        };
        let count_max = self.settings.verification_transactions_max;
        if let Err(words) = survey.pages.take(page, more, count_max) {
            self.refuse_storage(now, nid, words, out);
            return;
        }
        for (txn, tid) in page {
            if let Some(tid) = *tid {
                survey.reached.tid = survey.reached.tid.max(tid);
                survey.reached.reign = survey.reached.reign.max(txn.reign);
            }
        }
        if more {
            let after = survey.pages.after();
            let packet = Packet::AskLockedTransactions { after };
            self.requests.send(conn, Ask::SurveyLocked, packet, out);
            return;
        }
        let reached = survey.reached;
        self.surveys.remove(&nid);
        match &self.phase {
            Phase::Recovering(_) => self.recovery_surveyed(now, nid, reached, out),
            Phase::Running(_) => self.join_surveyed(now, nid, reached, out),
            _ => {}
        }
    }

    /// A storage node went its own way: it is disconnected, and told why when it comes again, which
    /// it does at once: the answer to its identification is where it takes a refusal from. Only once:
    /// after that it has ended, and what starts in its place may be another database.
    pub(super) fn refuse_own_way(
        &mut self,
        now: Now,
        nid: NodeId,
        reached: Reached,
        base: Reached,
        out: &mut Out,
    ) {
        let words = own_way_words(nid, reached, base);
        self.own_ways.insert(nid, words.clone());
        self.refuse_storage(now, nid, &words, out);
    }

    /// A storage node says what makes no sense: it is logged, and disconnected.
    pub(super) fn refuse_storage(&mut self, now: Now, nid: NodeId, words: &str, out: &mut Out) {
        tracing::error!(%nid, words, "refusing a storage node");
        if let Some(conn) = self.nodes.conn(nid) {
            self.disconnect(now, conn, words, out);
        }
    }
}
