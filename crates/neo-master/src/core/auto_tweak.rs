//! Balancing without an operator, if the settings want it.
//!
//! A storage node that is away for longer than a grace time gets its copies made anew on the others.
//! Its cells stay in the table until there are as many readable copies as are wanted, and then go.
//! When it comes back it takes part again, and after another grace time the table is balanced with
//! it: also under another primary, which knows from its database that it had cells. Nothing is done that an operator's tweak would not do: no readable copy goes before it is
//! replaced.

use std::collections::{BTreeMap, BTreeSet};

use neo_api::{Instant, NodeId, Now, Partition};

use super::effect::Out;
use super::recovery::names;
use super::tweak::tweak;
use super::{MasterCore, Phase};
use crate::config::MasterSettings;

/// After how long it is tried again, when the table can't be changed.
const RETRY: std::time::Duration = std::time::Duration::from_secs(1);

/// Which nodes are away, and what was done about it.
#[derive(Debug, Default)]
pub(crate) struct AutoTweak {
    /// Nodes with cells that are away, and since when.
    absent: BTreeMap<NodeId, Instant>,
    /// Nodes whose copies are made anew, or were.
    replaced: BTreeSet<NodeId>,
    /// A node came back: the table is balanced then.
    balance_at: Option<Instant>,
    /// Not before: the table could not be changed.
    not_before: Instant,
}

impl AutoTweak {
    /// A node with cells is away.
    pub(crate) fn gone(&mut self, now: Now, nid: NodeId) {
        self.absent.entry(nid).or_insert(now.mono);
    }

    /// The operator has forgotten a node.
    pub(crate) fn forget(&mut self, nid: NodeId) {
        self.absent.remove(&nid);
        self.replaced.remove(&nid);
    }

    /// A node takes part again; a bare one had cells, and has none any more.
    pub(crate) fn back(&mut self, now: Now, nid: NodeId, is_bare: bool, settings: &MasterSettings) {
        self.absent.remove(&nid);
        if (self.replaced.remove(&nid) || is_bare)
            && let Some(grace) = settings.auto_tweak()
        {
            self.balance_at = Some(now.mono + grace);
        }
    }

    /// When something is to be done: when each node that is away has had its time. One that goes
    /// and comes does not hold the others up for ever.
    pub(crate) fn deadline(&self, settings: &MasterSettings) -> Option<Instant> {
        let grace = settings.auto_tweak()?;
        let away = self.absent.iter();
        let away = away.filter(|(nid, _)| !self.replaced.contains(nid));
        let since = || away.clone().map(|(_, since)| *since);
        let last = since().max().map(|since| since + grace);
        let first = since().min().map(|since| since + grace + grace);
        let due = last.into_iter().chain(first).min();
        let next = due.into_iter().chain(self.balance_at).min();
        next.map(|next| next.max(self.not_before))
    }
}

impl MasterCore {
    pub(super) fn auto_tweak_timer(&mut self, now: Now, out: &mut Out) {
        let Phase::Running(running) = &mut self.phase else {
            return;
        };
        let deadline = running.auto_tweak.deadline(&self.settings);
        if deadline.is_none_or(|deadline| deadline > now.mono) {
            return;
        }
        if running.promotion.is_some() || running.import.is_some() || running.stopping.is_some() {
            running.auto_tweak.not_before = now.mono + RETRY;
            return;
        }
        let auto = &mut running.auto_tweak;
        auto.balance_at = None;
        auto.replaced.extend(auto.absent.keys().copied());
        let absent: Vec<NodeId> = auto.absent.keys().copied().collect();
        let nodes = running.operating.keys().map(|nid| {
            let node = self.nodes.get(*nid);
            (*nid, node.map_or_else(Vec::new, |n| n.topology.clone()))
        });
        let nodes: BTreeMap<NodeId, Vec<String>> = nodes.collect();
        let Some(table) = &self.table else { return };
        let done = tweak(table.get(), &nodes, self.next_version(table.version()));
        let cells = done.changes.len();
        if absent.is_empty() {
            let over: Vec<NodeId> = nodes.keys().copied().collect();
            tracing::info!(
                over = names(&over),
                cells,
                "nobody is away any more: balancing again"
            );
        } else {
            tracing::warn!(
                absent = names(&absent),
                cells,
                "balancing the partition table without an operator (auto_tweak_s)"
            );
        }
        self.change_table(&done.changes, out);
        let partitions: Vec<Partition> = match &self.table {
            Some(table) => table.get().partitioning().iter().collect(),
            None => Vec::new(),
        };
        self.discard_replaced(partitions.into_iter(), out);
        self.table_settled(now, out);
    }

    /// Cells of nodes that are away go, where there are as many copies as are wanted.
    pub(super) fn discard_replaced(
        &mut self,
        partitions: impl Iterator<Item = Partition>,
        out: &mut Out,
    ) {
        let (Phase::Running(running), Some(table)) = (&self.phase, &self.table) else {
            return;
        };
        let auto = &running.auto_tweak;
        let absent = auto.absent.keys();
        let replaced: BTreeSet<NodeId> = absent
            .filter(|nid| auto.replaced.contains(nid))
            .copied()
            .collect();
        if replaced.is_empty() {
            return;
        }
        let changes = table.replaced(&replaced, partitions);
        if !changes.is_empty() {
            self.change_table(&changes, out);
        }
    }
}
