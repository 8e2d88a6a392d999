//! What an operator may change of the partition table.

use std::collections::{BTreeMap, BTreeSet};

use neo_api::{CellState, NodeId, NodeState, NodeType, Now, Partition, TableVersion};
use neo_proto::{ConnId, ErrorCode, MsgId, Packet};

use super::effect::Out;
use super::recovery::names;
use super::tweak::{Tweak, tweak};
use super::{MasterCore, Phase};

/// Most orders to add nodes that may wait.
const ADDING_MAX: usize = 100;

/// An order to add nodes, which is answered when they take part.
#[derive(Debug)]
pub(crate) struct Adding {
    pub(super) asker: (ConnId, MsgId),
    nodes: Vec<NodeId>,
    /// Those that do not take part yet.
    waiting: BTreeSet<NodeId>,
}

/// Most replicas that can be wanted.
const REPLICAS_MAX: u32 = 1000;

impl MasterCore {
    /// Why the table can't be changed now; `Ok` when it can.
    fn is_changeable(&self) -> Result<(), String> {
        match &self.phase {
            Phase::Running(running) if running.import.is_some() => {
                Err("an import is running: wait until it is over".to_owned())
            }
            Phase::Running(running) if running.stopping.is_none() => Ok(()),
            _ => Err(self.not_ready()),
        }
    }

    /// Pending storage nodes take part from now on; none named: all of them. It is answered when
    /// they do: a tweak that comes next counts them in.
    pub(super) fn add_nodes(
        &mut self,
        now: Now,
        asker: (ConnId, MsgId),
        nodes: &[NodeId],
        out: &mut Out,
    ) -> Result<(), String> {
        self.is_changeable()?;
        let added: Vec<NodeId> = if nodes.is_empty() {
            let online: Vec<_> = self.nodes.online(NodeType::Storage).collect();
            let online = online.into_iter().map(|(nid, _)| nid);
            online.filter(|nid| self.is_pending(*nid)).collect()
        } else {
            for nid in nodes {
                self.can_be_added(*nid)?;
            }
            nodes.to_vec()
        };
        if added.is_empty() {
            return Err("no storage node is PENDING".to_owned());
        }
        for nid in &added {
            self.admit_to_running(now, *nid, out);
        }
        match self.running() {
            Some(running) if running.adding.len() < ADDING_MAX => {
                running.adding.push(Adding {
                    asker,
                    waiting: added.iter().copied().collect(),
                    nodes: added,
                });
                Ok(())
            }
            _ => Err("too many orders to add nodes are waiting".to_owned()),
        }
    }

    /// A node that was added takes part, or is lost: who waits for it is answered.
    pub(super) fn added(&mut self, nid: NodeId, out: &mut Out) {
        let Phase::Running(running) = &mut self.phase else {
            return;
        };
        for adding in &mut running.adding {
            adding.waiting.remove(&nid);
        }
        let done = running
            .adding
            .extract_if(.., |adding| adding.waiting.is_empty());
        for Adding { asker, nodes, .. } in done {
            let takes_part = |nid: &NodeId| running.operating.contains_key(nid);
            let (added, lost): (Vec<NodeId>, Vec<NodeId>) = nodes.into_iter().partition(takes_part);
            let message = format!(
                "{0} added: give cells with `neoctl tweak` now. Before there are some, {0} must be \
                 added again whenever another primary master leads, or the cluster starts anew",
                names(&added)
            );
            let packet = if lost.is_empty() {
                Packet::AnswerDone { message }
            } else {
                let message = format!("{} could not be added: see its log", names(&lost));
                let code = ErrorCode::Denied;
                Packet::Error { code, message }
            };
            let (conn, id) = asker;
            if self.peers.contains_key(&conn) {
                out.send(conn, id, packet);
            }
        }
    }

    fn can_be_added(&mut self, nid: NodeId) -> Result<(), String> {
        if nid.node_type() != NodeType::Storage {
            return Err(format!("{nid} is no storage node"));
        }
        if self.is_pending(nid) {
            return Ok(());
        }
        Err(match self.nodes.get(nid).map(|node| node.state) {
            None => format!("{nid} is not known"),
            Some(NodeState::Running) => format!("{nid} is RUNNING already"),
            Some(NodeState::Pending) => format!("{nid} is joining: try again in a moment"),
            Some(_) => format!("{nid} is not connected: start it first"),
        })
    }

    /// So many copies are wanted beside the first.
    pub(super) fn set_replicas(&mut self, replicas: u32, out: &mut Out) -> Result<String, String> {
        self.is_changeable()?;
        if replicas > REPLICAS_MAX {
            return Err(format!(
                "{replicas} replicas are too many: at most {REPLICAS_MAX} can be wanted"
            ));
        }
        let Some(table) = &self.table else {
            return Err("there is no partition table yet".to_owned());
        };
        if table.get().replicas == replicas {
            return Ok(format!("{} wanted already", replicas_are(replicas)));
        }
        let partitions: Vec<Partition> = table.get().partitioning().iter().collect();
        self.change_replicas(replicas, &[], out);
        self.discard_surplus(partitions.into_iter(), out);
        Ok(format!(
            "{} wanted from now on: `neoctl tweak` makes or removes copies",
            replicas_are(replicas)
        ))
    }

    /// Balances the partition table over the nodes that take part and are not ignored, or tells what
    /// would come of it.
    pub(super) fn tweak_table(
        &mut self,
        now: Now,
        dry_run: bool,
        ignore: &[NodeId],
        out: &mut Out,
    ) -> Result<Packet, String> {
        self.is_changeable()?;
        let ignore: BTreeSet<NodeId> = ignore.iter().copied().collect();
        let nodes = self.tweaked_nodes(&ignore)?;
        let Some(table) = &self.table else {
            return Err("there is no partition table yet".to_owned());
        };
        let version = self.next_version(table.version());
        let done = tweak(table.get(), &nodes, version);
        let mut result = table.clone();
        let changed = !done.changes.is_empty();
        if changed {
            let replicas = table.get().replicas;
            result.apply(version, replicas, &done.changes);
        }
        let pending = self.pending_words(&ignore);
        let message = summary(&done, pending);
        tracing::info!(dry_run, message, "tweak");
        if !dry_run {
            self.change_table(&done.changes, out);
            self.table_settled(now, out);
        }
        Ok(Packet::AnswerTweakPartitionTable {
            changed,
            table: Box::new(result.get().clone()),
            message,
        })
    }

    pub(super) const fn next_version(&self, base: TableVersion) -> TableVersion {
        TableVersion {
            reign: self.reign,
            ptid: base.ptid.next(),
        }
    }

    /// Who is connected, gets no cells, and is not left out by the operator's wish, if anybody is.
    fn pending_words(&self, ignore: &BTreeSet<NodeId>) -> Option<String> {
        let Phase::Running(running) = &self.phase else {
            return None;
        };
        let online = self.nodes.online(NodeType::Storage).map(|(nid, _)| nid);
        let idle = online.filter(|nid| !running.operating.contains_key(nid));
        let idle: Vec<NodeId> = idle.filter(|nid| !ignore.contains(nid)).collect();
        let names = names(&idle);
        let words = format!("PENDING, without cells: {names} (`neoctl add` first, then tweak)");
        (!idle.is_empty()).then_some(words)
    }

    /// Nodes that cells are dealt out to, with where they are.
    fn tweaked_nodes(
        &self,
        ignore: &BTreeSet<NodeId>,
    ) -> Result<BTreeMap<NodeId, Vec<String>>, String> {
        let (Phase::Running(running), Some(table)) = (&self.phase, &self.table) else {
            return Err(self.not_ready());
        };
        for nid in ignore {
            if nid.node_type() != NodeType::Storage || self.nodes.get(*nid).is_none() {
                return Err(format!("{nid} is no storage node that is known"));
            }
        }
        let has_part = |nid: &NodeId| running.operating.contains_key(nid);
        let absent: Vec<NodeId> = table
            .holders()
            .filter(|nid| !has_part(nid) && !ignore.contains(nid))
            .collect();
        if !absent.is_empty() {
            let (are, have) = match absent.len() {
                1 => ("is", "has"),
                _ => ("are", "have"),
            };
            return Err(format!(
                "{0} {are} not running, and {have} cells in the table: start what is missing, or \
                 name it to leave its cells as they are (neoctl tweak {1})",
                names(&absent),
                names(&absent).replace(',', "")
            ));
        }
        // One that was just added would get nothing, to the surprise of whoever added it for that.
        let soon = running
            .joining
            .iter()
            .filter(|(_, joining)| joining.is_admitted());
        let soon: Vec<NodeId> = soon
            .map(|(nid, _)| *nid)
            .filter(|nid| !ignore.contains(nid))
            .collect();
        if !soon.is_empty() {
            let are = if soon.len() == 1 { "is" } else { "are" };
            return Err(format!(
                "{} {are} joining: try again in a moment",
                names(&soon)
            ));
        }
        let taking_part = running.operating.keys().filter(|nid| !ignore.contains(nid));
        let place = |nid: &NodeId| {
            let node = self.nodes.get(*nid);
            node.map_or_else(Vec::new, |node| node.topology.clone())
        };
        let nodes: BTreeMap<_, _> = taking_part.map(|nid| (*nid, place(nid))).collect();
        if nodes.is_empty() {
            return Err("every storage node is to be ignored: no node is left".to_owned());
        }
        Ok(nodes)
    }
}

fn replicas_are(number: u32) -> String {
    match number {
        1 => "1 replica is".to_owned(),
        number => format!("{number} replicas are"),
    }
}

/// What a tweak does, in words; with what is said of nodes that it leaves alone.
fn summary(done: &Tweak, pending: Option<String>) -> String {
    let count = |state| {
        let changes = done.changes.iter();
        changes.filter(|change| change.cell.state == state).count()
    };
    let counts = [
        (count(CellState::OutOfDate), "to be filled"),
        (count(CellState::Feeding), "kept until they are replaced"),
        (count(CellState::Discarded), "discarded"),
        (count(CellState::UpToDate), "kept after all"),
    ];
    let counts = counts.iter().filter(|(count, _)| *count > 0);
    let mut words: Vec<String> = counts.map(|(n, what)| format!("{n} {what}")).collect();
    if words.is_empty() {
        words.push("the table is balanced".to_owned());
    } else {
        words = vec![format!("cells: {}", words.join(", "))];
    }
    words.extend(
        done.warnings
            .iter()
            .map(|warning| format!("warning: {warning}")),
    );
    words.extend(pending);
    words.join("\n")
}
