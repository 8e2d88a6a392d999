//! VERIFYING: completes what was being committed, and finds the last ids.
//!
//! A tid is written only after every node involved has voted, and a transaction is acknowledged
//! only after every holder of its metadata has locked it. So a tid that is found anywhere, locked
//! or committed, means that the transaction must be completed everywhere; one without is dropped.

use std::collections::{BTreeMap, BTreeSet};

use neo_api::{Cell, NodeId, NodeState, NodeType, Now, Reign, TableVersion, Tid, TxnId};
use neo_proto::{ClusterIdentity, FinalTid, Packet, Recovery};

use super::effect::Out;
use super::last_ids::Ends;
use super::requests::Ask;
use super::survey::Pages;
use super::{MasterCore, Phase};

/// What is known so far.
#[derive(Debug)]
pub(crate) struct Verifying {
    /// Nodes that take part.
    pub(crate) chosen: BTreeSet<NodeId>,
    /// Storage nodes that are connected and do not take part, with what they remember.
    pub(crate) late: BTreeMap<NodeId, Option<ClusterIdentity>>,
    step: Step,
    /// How many answers each node owes in this step.
    owed: BTreeMap<NodeId, usize>,
    pages: BTreeMap<NodeId, Pages>,
    found: BTreeMap<TxnId, Found>,
    import_marks: BTreeMap<NodeId, Tid>,
    oid_mark: u64,
    pub(super) ends: Ends,
    pub(super) last_tid: Tid,
    pub(super) last_oid: Option<u64>,
}

/// A transaction that is unfinished somewhere.
#[derive(Debug, Default)]
struct Found {
    tid: Option<Tid>,
    /// Nodes that have it.
    nodes: BTreeSet<NodeId>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Step {
    Table,
    Reign,
    Locked,
    FinalTids,
    Validate,
    TruncateImport,
    ClearImport,
    LastIds,
    /// Cells that lack something are out of date.
    Outdate,
}

impl Verifying {
    pub(super) fn new(chosen: BTreeSet<NodeId>, answers: &BTreeMap<NodeId, Recovery>) -> Self {
        let late = answers.iter().filter(|(nid, _)| !chosen.contains(nid));
        let late = late
            .map(|(nid, answer)| (*nid, answer.identity.clone()))
            .collect();
        let taking_part = || answers.iter().filter(|(nid, _)| chosen.contains(nid));
        let marks = taking_part().filter_map(|(nid, answer)| Some((*nid, answer.import_tid?)));
        Self {
            import_marks: marks.collect(),
            oid_mark: taking_part()
                .map(|(_, answer)| answer.oid_mark.0)
                .max()
                .unwrap_or(0),
            late,
            chosen,
            step: Step::Table,
            owed: BTreeMap::new(),
            pages: BTreeMap::new(),
            found: BTreeMap::new(),
            ends: Ends::default(),
            last_tid: Tid::ZERO,
            last_oid: None,
        }
    }
}

impl MasterCore {
    pub(super) fn verifying(&mut self) -> Option<&mut Verifying> {
        match &mut self.phase {
            Phase::Verifying(verifying) => Some(verifying),
            _ => None,
        }
    }

    pub(super) fn enter_verifying(&mut self, now: Now, out: &mut Out) {
        let Some(verifying) = self.verifying() else {
            return;
        };
        let chosen = verifying.chosen.clone();
        for nid in &chosen {
            self.nodes.set_state(*nid, NodeState::Running);
            if let Some(node) = self.nodes.get_mut(*nid) {
                node.has_table = true;
            }
        }
        self.nodes.publish(out);
        self.announce_state(now, out);
        for nid in chosen {
            if let Some(conn) = self.nodes.conn(nid) {
                self.send_table(conn, out);
            }
            if let Some(verifying) = self.verifying() {
                verifying.owed.insert(nid, 1);
            }
        }
        let admins: Vec<_> = self.nodes.online(NodeType::Admin).collect();
        for (_, conn) in admins {
            self.send_table(conn, out);
        }
    }

    /// A node has stored the partition table.
    pub(super) fn verification_stored(
        &mut self,
        now: Now,
        nid: NodeId,
        version: TableVersion,
        out: &mut Out,
    ) {
        let is_this = self.table.as_ref().map(super::Table::version) == Some(version);
        let waits =
            |verifying: &&mut Verifying| matches!(verifying.step, Step::Table | Step::Outdate);
        if is_this && self.verifying().as_ref().is_some_and(waits) {
            self.verified(now, nid, out);
        }
    }

    /// A reign is obeyed only when every node has the table: a node that has not can then know that
    /// nobody has served with it.
    fn verify_reign(&mut self, out: &mut Out) {
        let reign = self.reign;
        for nid in self.set_step(Step::Reign) {
            self.verify(nid, Ask::StartReign, Packet::AskStartReign { reign }, out);
        }
    }

    /// Asks a node something that this step waits for.
    fn verify(&mut self, nid: NodeId, ask: Ask, packet: Packet, out: &mut Out) {
        let Phase::Verifying(verifying) = &mut self.phase else {
            return;
        };
        if let Some(conn) = self.nodes.conn(nid) {
            *verifying.owed.entry(nid).or_default() += 1;
            self.requests.send(conn, ask, packet, out);
        }
    }

    /// A node has answered something that this step waits for.
    fn verified(&mut self, now: Now, nid: NodeId, out: &mut Out) {
        if let Some(verifying) = self.verifying()
            && let Some(owed) = verifying.owed.get_mut(&nid)
        {
            *owed -= 1;
            if *owed == 0 {
                verifying.owed.remove(&nid);
            }
        }
        self.verification_step(now, out);
    }

    pub(super) fn verification_lost(&mut self, now: Now, nid: NodeId, out: &mut Out) {
        let readable = self
            .table
            .as_ref()
            .is_some_and(|table| table.is_readable_on(nid));
        let way_back = !self.settings.mutations.no_way_back;
        let Phase::Verifying(verifying) = &mut self.phase else {
            return;
        };
        if !verifying.chosen.remove(&nid) {
            verifying.late.remove(&nid);
            return;
        }
        let bereft = |table: &super::Table| {
            table
                .bereft(&[nid].into(), |nid| verifying.chosen.contains(&nid))
                .is_some()
        };
        if readable && (way_back || self.table.as_ref().is_some_and(bereft)) {
            // It is not outdated: what it has, locked tids among it, may be nowhere else.
            let words = format!("{nid} was lost in VERIFYING, and has readable cells");
            self.fall_back(now, &words, out);
            return;
        }
        verifying.owed.remove(&nid);
        verifying.pages.remove(&nid);
        verifying.import_marks.remove(&nid);
        for found in verifying.found.values_mut() {
            found.nodes.remove(&nid);
        }
        self.nodes.publish(out);
        let changes = self
            .table
            .as_ref()
            .map(|table| table.outdate(&[nid].into()));
        self.change_table(&changes.unwrap_or_default(), out);
        self.verification_step(now, out);
    }

    /// Goes on as long as nothing is waited for.
    fn verification_step(&mut self, now: Now, out: &mut Out) {
        while let Some(verifying) = self.verifying() {
            if !verifying.owed.is_empty() {
                return;
            }
            match verifying.step {
                Step::Table => self.verify_reign(out),
                Step::Reign => self.verify_locked(out),
                Step::Locked => self.verify_final_tids(out),
                Step::FinalTids => self.verify_validate(out),
                Step::Validate => self.verify_truncate(out),
                Step::TruncateImport => self.verify_clear(out),
                Step::ClearImport => self.verify_last_ids(out),
                Step::LastIds => self.verify_ends(out),
                Step::Outdate => self.enter_running(now, out),
            }
        }
    }

    fn set_step(&mut self, step: Step) -> BTreeSet<NodeId> {
        match &mut self.phase {
            Phase::Verifying(verifying) => {
                verifying.step = step;
                verifying.chosen.clone()
            }
            _ => BTreeSet::new(),
        }
    }

    pub(super) fn is_readable_on(&self, nid: NodeId) -> bool {
        self.table
            .as_ref()
            .is_some_and(|table| table.is_readable_on(nid))
    }

    /// Other nodes have nothing that counts: they are filled again.
    fn verify_locked(&mut self, out: &mut Out) {
        for nid in self.set_step(Step::Locked) {
            if self.is_readable_on(nid) {
                let packet = Packet::AskLockedTransactions { after: None };
                self.verify(nid, Ask::Locked, packet, out);
            }
        }
    }

    pub(super) fn verification_locked(
        &mut self,
        now: Now,
        nid: NodeId,
        page: &[(TxnId, Option<Tid>)],
        more: bool,
        out: &mut Out,
    ) {
        let count_max = self.settings.verification_transactions_max;
        let (Phase::Verifying(verifying), Some(table)) = (&mut self.phase, &self.table) else {
            return;
        };
        let table = table.get();
        let pages = verifying.pages.entry(nid).or_default();
        let taken = pages.take(page, more, count_max);
        let after = pages.after();
        if let Err(words) = taken {
            self.refuse_storage(now, nid, words, out);
            return;
        }
        for (txn, tid) in page {
            let found = verifying.found.entry(*txn).or_default();
            found.nodes.insert(nid);
            // What is committed was locked on the readable cells of its metadata. A tid that only
            // a cell that catches up knows would be forgotten, once obeyed there, by a verification
            // that has to begin again.
            let counts = |cell: &Cell| cell.nid == nid;
            if let Some(tid) = tid
                && table.readable_of_tid(txn.ttid).any(counts)
            {
                found.set_tid(*txn, *tid);
            }
        }
        if more {
            let packet = Packet::AskLockedTransactions { after };
            self.verify(nid, Ask::Locked, packet, out);
        }
        self.verified(now, nid, out);
    }

    /// A transaction that is voted here may be committed there, its tid known to nobody else.
    fn verify_final_tids(&mut self, out: &mut Out) {
        let chosen = self.set_step(Step::FinalTids);
        let (Some(table), Phase::Verifying(verifying)) = (&self.table, &self.phase) else {
            return;
        };
        let mut asks = Vec::new();
        for (txn, found) in &verifying.found {
            if found.tid.is_some() {
                continue;
            }
            let cells = table.get().readable_of_tid(txn.ttid);
            let others = cells
                .map(|cell| cell.nid)
                .filter(|nid| chosen.contains(nid) && !found.nodes.contains(nid));
            asks.extend(others.map(|nid| (nid, *txn)));
        }
        for (nid, txn) in asks {
            self.verify(nid, Ask::FinalTid(txn), Packet::AskFinalTid { txn }, out);
        }
    }

    pub(super) fn verification_final_tid(
        &mut self,
        now: Now,
        nid: NodeId,
        txn: TxnId,
        answer: FinalTid,
        out: &mut Out,
    ) {
        let Some(verifying) = self.verifying() else {
            return;
        };
        match answer {
            FinalTid::NotCommitted => {}
            FinalTid::Committed(tid) if tid <= Tid::MAX => {
                if let Some(found) = verifying.found.get_mut(&txn) {
                    found.set_tid(txn, tid);
                }
            }
            FinalTid::Committed(_) | FinalTid::AskStorages => {
                let words = "its answer about a final tid makes no sense";
                self.refuse_storage(now, nid, words, out);
                return;
            }
        }
        self.verified(now, nid, out);
    }

    fn verify_validate(&mut self, out: &mut Out) {
        self.set_step(Step::Validate);
        let Some(verifying) = self.verifying() else {
            return;
        };
        let mut commits: Vec<(Tid, TxnId, BTreeSet<NodeId>)> = Vec::new();
        for (txn, found) in std::mem::take(&mut verifying.found) {
            match found.tid {
                Some(tid) => commits.push((tid, txn, found.nodes)),
                None => tracing::info!(%txn, "dropping a transaction that was not finished"),
            }
        }
        commits.sort();
        for (tid, txn, nodes) in commits {
            tracing::info!(%txn, %tid, "completing a transaction");
            for nid in nodes {
                let packet = Packet::AskValidateTransaction { txn, tid };
                self.verify(nid, Ask::Validate(txn), packet, out);
            }
        }
    }

    /// An import that did not end counts up to its mark: the greatest one, since a node raises its
    /// mark only when every node has what is below it. On a node that is not readable only what is
    /// below its own mark is known to be whole.
    fn verify_truncate(&mut self, out: &mut Out) {
        self.set_step(Step::TruncateImport);
        let Some(verifying) = self.verifying() else {
            return;
        };
        let marks = verifying.import_marks.clone();
        let readable: BTreeSet<NodeId> = marks
            .keys()
            .copied()
            .filter(|nid| self.is_readable_on(*nid))
            .collect();
        let of_readable = marks.iter().filter(|(nid, _)| readable.contains(nid));
        let greatest = of_readable.map(|(_, mark)| *mark).max();
        for (nid, mark) in marks {
            let after = match greatest {
                Some(greatest) if readable.contains(&nid) => greatest,
                _ => mark,
            };
            tracing::info!(%nid, %after, "removing what an import left");
            let packet = Packet::AskTruncate { after };
            self.verify(nid, Ask::TruncateImport, packet, out);
        }
    }

    fn verify_clear(&mut self, out: &mut Out) {
        self.set_step(Step::ClearImport);
        let Some(verifying) = self.verifying() else {
            return;
        };
        for nid in std::mem::take(&mut verifying.import_marks).into_keys() {
            let packet = Packet::AskImportMark {
                import: 0,
                mark: None,
            };
            self.verify(nid, Ask::ClearImport, packet, out);
        }
    }

    fn verify_last_ids(&mut self, out: &mut Out) {
        for nid in self.set_step(Step::LastIds) {
            self.verify(nid, Ask::LastIds, Packet::AskLastIds {}, out);
        }
    }

    /// That cells lack something must be durable on every node before anything is served.
    fn verify_ends(&mut self, out: &mut Out) {
        let chosen = self.set_step(Step::Outdate);
        if self.outdate_behind(out)
            && let Some(verifying) = self.verifying()
        {
            verifying.owed = chosen.into_iter().map(|nid| (nid, 1)).collect();
        }
    }

    /// A node did what it was asked, without more to say.
    pub(super) fn verification_done(&mut self, now: Now, nid: NodeId, out: &mut Out) {
        self.verified(now, nid, out);
    }

    pub(super) fn verification_reign(
        &mut self,
        now: Now,
        nid: NodeId,
        reign: Reign,
        out: &mut Out,
    ) {
        if reign == self.reign {
            self.verified(now, nid, out);
        } else {
            self.refuse_storage(now, nid, "it obeys another reign than it was told", out);
        }
    }
}

impl Found {
    fn set_tid(&mut self, txn: TxnId, tid: Tid) {
        match self.tid {
            Some(known) if known != tid => {
                // No sequence of failures leads here; the least one was assigned first.
                tracing::error!(%txn, %known, %tid, "a transaction has two tids");
                self.tid = Some(known.min(tid));
            }
            _ => self.tid = Some(tid),
        }
    }
}

/// What verification found, for what comes after.
#[derive(Debug)]
pub(super) struct Verified {
    pub(super) chosen: BTreeSet<NodeId>,
    pub(super) late: BTreeMap<NodeId, Option<ClusterIdentity>>,
    pub(super) last_tid: Tid,
    /// No oid at or above it was ever handed out or stored.
    pub(super) oid_floor: u64,
}

impl MasterCore {
    /// Takes what verification found.
    pub(super) fn take_verified(&mut self) -> Option<Verified> {
        let verifying = self.verifying()?;
        let last_oid = verifying.last_oid.and_then(super::oids::after);
        Some(Verified {
            chosen: std::mem::take(&mut verifying.chosen),
            late: std::mem::take(&mut verifying.late),
            last_tid: verifying.last_tid,
            oid_floor: verifying.oid_mark.max(last_oid.unwrap_or(0)),
        })
    }
}
