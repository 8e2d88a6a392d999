//! RECOVERING: finds the newest partition table, and waits for every node with a readable cell
//! of it.
//!
//! # Source
//! Recovery in ARCHITECTURE.md. A start with less than every readable cell of the newest table is
//! the operator's choice, and opens an epoch.

use std::collections::{BTreeMap, BTreeSet};

use neo_api::{Instant, NodeId, NodeType, Now, PartitionTable, TableVersion, Tid};
use neo_proto::{ConnId, ErrorCode, MsgId, Packet, Recovery};

use super::belonging::{Foreign, belongs};
use super::creation::{Creating, table_version};
use super::effect::Out;
use super::identification::{Kinship, check_identity};
use super::node_manager::Node;
use super::partition_table::Table;
use super::requests::Ask;
use super::survey::{Reached, base_after};
use super::{MasterCore, Phase};

/// Numbers above it are nonsense: counters start at 0 and go up by one.
const COUNTER_MAX: u64 = 1 << 62;

/// What storage nodes said, and what is waited for.
#[derive(Debug, Default)]
pub(crate) struct Recovering {
    pub(super) answers: BTreeMap<NodeId, Recovery>,
    /// How far nodes went, where it was asked.
    surveyed: BTreeMap<NodeId, Reached>,
    /// Nodes that owe an answer, and until when.
    busy: BTreeMap<NodeId, Instant>,
    /// Who is asked for the newest table.
    loading: Option<NodeId>,
    /// Nodes with readable cells of the table, and of which version.
    readable: Option<(TableVersion, BTreeSet<NodeId>)>,
    /// An attempt to create a cluster that is under way.
    pub(super) creating: Option<Creating>,
    /// The operator wants a start.
    pub(super) start: Option<(ConnId, MsgId)>,
    /// For whom or what it waits, for the operator.
    pub(crate) waiting: String,
}

/// How a cluster starts.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Start {
    /// Every readable cell of the newest table is there.
    Complete,
    /// There was no cluster.
    Create,
    /// By the operator's order, without the nodes that are missing; the survey's result.
    Forced(Tid),
}

impl Recovering {
    pub(crate) fn deadline(&self) -> Option<Instant> {
        let creating = self.creating.as_ref().map(Creating::deadline);
        self.busy.values().copied().chain(creating).min()
    }
}

impl MasterCore {
    fn recovering(&mut self) -> Option<&mut Recovering> {
        match &mut self.phase {
            Phase::Recovering(recovering) => Some(recovering),
            _ => None,
        }
    }

    pub(super) fn recovery_joined(&mut self, now: Now, nid: NodeId, out: &mut Out) {
        let deadline = now.mono + self.settings.recovery_timeout();
        if let (Some(conn), Phase::Recovering(recovering)) = (self.nodes.conn(nid), &mut self.phase)
        {
            recovering.busy.insert(nid, deadline);
            let packet = Packet::AskRecovery {};
            self.requests.send(conn, Ask::Recovery, packet, out);
        }
    }

    pub(super) fn recovery_answered(
        &mut self,
        now: Now,
        nid: NodeId,
        answer: Recovery,
        out: &mut Out,
    ) {
        if self.recovering().is_none() {
            return;
        }
        if let Err(words) = self.check_recovery(&answer) {
            self.refuse_storage(now, nid, &words, out);
            return;
        }
        if let Some(theirs) = &answer.identity
            && (self.identity.is_none() || self.kinship(theirs) == Kinship::Descendant)
        {
            self.identity = Some(theirs.clone());
        }
        let version = answer.version.unwrap_or_default();
        self.reign = self.reign.max(answer.reign).max(version.reign);
        if let Some(recovering) = self.recovering() {
            recovering.busy.remove(&nid);
            recovering.answers.insert(nid, answer);
            // Another attempt counts it in, unless it knows of a cluster.
            recovering.creating = None;
        }
        self.recovery_step(now, out);
    }

    fn check_recovery(&self, answer: &Recovery) -> Result<(), String> {
        let version = answer.version.unwrap_or_default();
        if [answer.reign.0, version.reign.0, version.ptid.0]
            .iter()
            .any(|n| *n > COUNTER_MAX)
        {
            return Err("it remembers a reign or a partition table that can't be".to_owned());
        }
        if let Some(theirs) = &answer.identity {
            check_identity(theirs)?;
            if self.kinship(theirs) == Kinship::Stranger {
                return Err(
                    "it belongs to another cluster, or to a side of this one that went \
                            its own way: give it an empty database"
                        .to_owned(),
                );
            }
        }
        Ok(())
    }

    pub(super) fn recovery_lost(&mut self, now: Now, nid: NodeId, out: &mut Out) {
        let Some(recovering) = self.recovering() else {
            return;
        };
        recovering.answers.remove(&nid);
        recovering.surveyed.remove(&nid);
        recovering.busy.remove(&nid);
        recovering.creating = None;
        if recovering.loading == Some(nid) {
            recovering.loading = None;
        }
        if recovering.answers.is_empty() && self.table.is_none() {
            // Nothing was loaded from the nodes that made it known: another may come.
            self.identity = None;
            self.own_ways.clear();
        }
        self.recovery_step(now, out);
    }

    pub(super) fn recovery_timer(&mut self, now: Now, out: &mut Out) {
        let late = |busy: &BTreeMap<NodeId, Instant>| {
            let late = busy.iter().find(|(_, deadline)| **deadline <= now.mono);
            late.map(|(nid, _)| *nid)
        };
        while let Some(nid) = self.recovering().and_then(|r| late(&r.busy)) {
            self.refuse_storage(now, nid, "it does not say what it remembers", out);
        }
        while let Some(nid) = self
            .recovering()
            .and_then(|recovering| recovering.creating.as_ref()?.late(now))
        {
            self.refuse_storage(now, nid, "it does not note that it has a cluster", out);
        }
    }

    pub(super) fn recovery_surveyed(
        &mut self,
        now: Now,
        nid: NodeId,
        reached: Reached,
        out: &mut Out,
    ) {
        if let Some(recovering) = self.recovering() {
            recovering.busy.remove(&nid);
            recovering.surveyed.insert(nid, reached);
        }
        self.recovery_step(now, out);
    }

    /// A table came from the node that was asked for it.
    pub(super) fn recovery_table(
        &mut self,
        now: Now,
        nid: NodeId,
        table: Option<PartitionTable>,
        out: &mut Out,
    ) {
        let rows = self.table.as_ref().map(|table| table.get().rows.len());
        let Some(recovering) = self.recovering() else {
            return;
        };
        recovering.busy.remove(&nid);
        if recovering.loading != Some(nid) {
            return;
        }
        recovering.loading = None;
        let promised = recovering
            .answers
            .get(&nid)
            .and_then(|answer| answer.version);
        let loaded = match table {
            Some(table) if Some(table.version) != promised => {
                Err("it gives another partition table than it promised".to_owned())
            }
            Some(table) if rows.is_some_and(|rows| rows != table.rows.len()) => {
                Err("its partition table has another number of partitions".to_owned())
            }
            Some(table) => Table::load(table)
                .map_err(|error| format!("its partition table makes no sense: {error}")),
            None => Err("it has lost its partition table".to_owned()),
        };
        match loaded {
            Ok(table) => {
                tracing::info!(%nid, version = %table.version(), "loaded the partition table");
                self.adopt_table(table, out);
                self.recovery_step(now, out);
            }
            Err(words) => self.refuse_storage(now, nid, &words, out),
        }
    }

    fn adopt_table(&mut self, table: Table, out: &mut Out) {
        for nid in table.get().nodes() {
            if self.nodes.get(nid).is_none() {
                self.nodes.insert(nid, Node::down(None));
            }
        }
        self.table = Some(table);
        self.table_epochs = self.epochs();
        self.nodes.publish(out);
        let admins: Vec<_> = self.nodes.online(NodeType::Admin).collect();
        for (_, conn) in admins {
            self.send_table(conn, out);
        }
    }

    pub(super) fn epochs(&self) -> usize {
        self.identity
            .as_ref()
            .map_or(0, |identity| identity.epochs.len())
    }

    /// The operator wants a start; it is answered when it can be decided.
    pub(super) fn recovery_start(&mut self, now: Now, conn: ConnId, id: MsgId, out: &mut Out) {
        let deny = |message: &str, out: &mut Out| {
            let message = message.to_owned();
            let code = ErrorCode::Denied;
            out.send(conn, id, Packet::Error { code, message });
        };
        let Some(recovering) = self.recovering() else {
            deny("the cluster has started already", out);
            return;
        };
        if recovering.start.is_some() {
            deny("a start is under way already", out);
            return;
        }
        recovering.start = Some((conn, id));
        self.recovery_step(now, out);
    }

    /// Does what can be done with what is known.
    pub(super) fn recovery_step(&mut self, now: Now, out: &mut Out) {
        // A node that is refused changes what is known: the loss comes back here.
        if self.recovery_refuse_foreign(now, out) || self.recovery_survey_ancestors(now, out) {
            return;
        }
        self.recovery_load(now, out);
        let Some(recovering) = self.recovering() else {
            return;
        };
        if !recovering.busy.is_empty() {
            if recovering.waiting.is_empty() {
                recovering.waiting = "looking for the newest partition table".to_owned();
            }
            return;
        }
        self.recovery_decide(now, out);
    }

    /// A node whose database is not that of the node as which it came, before the table was known:
    /// counting on it would make a cell readable that is empty, or old. It comes back, and gets
    /// another id, or hears what is wrong. Whether one was refused.
    fn recovery_refuse_foreign(&mut self, now: Now, out: &mut Out) -> bool {
        let (Phase::Recovering(recovering), Some(table)) = (&self.phase, &self.table) else {
            return false;
        };
        let mut answered = recovering.answers.keys();
        let foreign = answered.find_map(|nid| {
            let noted = self.nodes.get(*nid).and_then(|node| node.noted);
            let foreign = match belongs(table, *nid, noted) {
                Err(foreign) => foreign,
                Ok(()) if !recovering.is_fresh(table, *nid, noted) => Foreign::Draft,
                Ok(()) => return None,
            };
            Some((*nid, foreign))
        });
        let Some((nid, foreign)) = foreign else {
            return false;
        };
        self.refuse_storage(now, nid, &foreign.words(nid), out);
        true
    }

    /// Nodes that missed the opening of an epoch must not have gone their own way. Whether one was
    /// refused.
    fn recovery_survey_ancestors(&mut self, now: Now, out: &mut Out) -> bool {
        let epochs = self.epochs();
        let identity = self.identity.clone();
        let Some(recovering) = self.recovering() else {
            return true;
        };
        let known = |answer: &Recovery| answer.identity.as_ref().map_or(epochs, |i| i.epochs.len());
        let ancestors: Vec<(NodeId, usize, Option<Reached>)> = recovering
            .answers
            .iter()
            .filter(|(nid, answer)| known(answer) < epochs && !recovering.busy.contains_key(nid))
            .map(|(nid, answer)| (*nid, known(answer), recovering.surveyed.get(nid).copied()))
            .collect();
        for (nid, known, surveyed) in ancestors {
            let base = base_after(identity.as_ref(), known);
            match surveyed {
                None => self.recovery_survey(now, nid, out),
                Some(reached) if reached.is_beyond(base) => {
                    self.refuse_own_way(now, nid, reached, base, out);
                    return true;
                }
                Some(_) => {}
            }
        }
        false
    }

    fn recovery_survey(&mut self, now: Now, nid: NodeId, out: &mut Out) {
        let deadline = now.mono + self.settings.recovery_timeout();
        if let Some(recovering) = self.recovering() {
            recovering.busy.insert(nid, deadline);
        }
        self.start_survey(nid, out);
    }

    /// Asks for the newest table, unless it is known. Tables are ordered by epoch, then by
    /// version: a side that went on without a forced start has higher reigns, perhaps.
    fn recovery_load(&mut self, now: Now, out: &mut Out) {
        let epochs = self.epochs();
        let own = self
            .table
            .as_ref()
            .map(|table| (self.table_epochs, table.version()));
        let deadline = now.mono + self.settings.recovery_timeout();
        let Phase::Recovering(recovering) = &mut self.phase else {
            return;
        };
        if recovering.loading.is_some() {
            return;
        }
        let newest = recovering
            .answers
            .iter()
            .filter(|(nid, _)| !recovering.busy.contains_key(nid))
            .filter_map(|(nid, answer)| {
                let known = answer.identity.as_ref().map_or(epochs, |i| i.epochs.len());
                Some(((known, table_version(answer)?), *nid))
            })
            .max_by_key(|(key, nid)| (*key, std::cmp::Reverse(*nid)));
        let Some((key, nid)) = newest else { return };
        if own.is_none_or(|own| key > own)
            && let Some(conn) = self.nodes.conn(nid)
        {
            recovering.loading = Some(nid);
            recovering.busy.insert(nid, deadline);
            let packet = Packet::AskPartitionTable {};
            self.requests.send(conn, Ask::PartitionTable, packet, out);
        }
    }

    fn recovery_decide(&mut self, now: Now, out: &mut Out) {
        let Phase::Recovering(recovering) = &mut self.phase else {
            return;
        };
        let here: BTreeSet<NodeId> = recovering.answers.keys().copied().collect();
        let Some(table) = &self.table else {
            let enough = self
                .settings
                .autostart
                .is_some_and(|n| here.len() >= n as usize);
            if enough || (recovering.start.is_some() && !here.is_empty()) {
                self.creation_step(now, out);
            } else if recovering.start.is_some() {
                self.recovery_deny("no storage node is connected", out);
            } else {
                recovering.waiting = match self.settings.autostart {
                    Some(n) => format!(
                        "there is no cluster yet: it is created when {n} storage nodes are \
                         connected ({} now), or by `neoctl start`",
                        here.len()
                    ),
                    None => format!(
                        "there is no cluster yet: `neoctl start` creates it ({} storage nodes are \
                         connected)",
                        here.len()
                    ),
                };
            }
            return;
        };
        let version = table.version();
        if recovering
            .readable
            .as_ref()
            .is_none_or(|(of, _)| *of != version)
        {
            recovering.readable = Some((version, table.get().readable_nodes()));
        }
        let readable = recovering.readable.as_ref().map(|(_, nodes)| nodes);
        let missing: Vec<NodeId> = readable
            .into_iter()
            .flatten()
            .filter(|nid| !here.contains(nid))
            .copied()
            .collect();
        if missing.is_empty() {
            if table.get().is_operational(|nid| here.contains(&nid)) {
                self.recovery_begin(now, Start::Complete, out);
            } else {
                let words = "a partition has no readable cell at all in the newest partition table";
                recovering.waiting = words.to_owned();
                self.recovery_deny(words, out);
            }
            return;
        }
        let names = names(&missing);
        recovering.waiting = format!(
            "waiting for {names} (readable cells of the newest partition table, {version})"
        );
        if recovering.start.is_none() {
            return;
        }
        if !table.get().is_operational(|nid| here.contains(&nid)) {
            let words = format!(
                "the cluster can't be started without {names}: some partitions would have no \
                 readable cell"
            );
            self.recovery_deny(&words, out);
            return;
        }
        let unsurveyed: Vec<NodeId> = here
            .iter()
            .filter(|nid| table.is_readable_on(**nid))
            .filter(|nid| !recovering.surveyed.contains_key(nid))
            .copied()
            .collect();
        if unsurveyed.is_empty() {
            let reached = |nid: &NodeId| recovering.surveyed.get(nid).copied();
            let reached = here
                .iter()
                .filter(|nid| table.is_readable_on(**nid))
                .filter_map(reached);
            let base = reached.map(|reached| reached.tid).max();
            let base = base.unwrap_or(Tid::ZERO);
            self.recovery_begin(now, Start::Forced(base), out);
        }
        for nid in unsurveyed {
            self.recovery_survey(now, nid, out);
        }
    }

    fn recovery_deny(&mut self, words: &str, out: &mut Out) {
        if let Some((conn, id)) = self.recovering().and_then(|r| r.start.take())
            && self.peers.contains_key(&conn)
        {
            let message = words.to_owned();
            let code = ErrorCode::Denied;
            out.send(conn, id, Packet::Error { code, message });
        }
    }
}

/// Node ids as an operator reads them; of many, the first ones.
pub(super) fn names(nids: &[NodeId]) -> String {
    const SHOWN: usize = 10;
    let mut words: Vec<String> = nids.iter().take(SHOWN).map(ToString::to_string).collect();
    if nids.len() > SHOWN {
        words.push(format!("and {} others", nids.len() - SHOWN));
    }
    words.join(", ")
}
