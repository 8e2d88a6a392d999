//! The creation of a cluster: first every storage node notes who it is, then they get cells.
//!
//! A partition table names nodes by their ids. If a node that it names did not know its id
//! durably, a crash would leave a table that waits for a node that nobody is any more. So a
//! creation has two steps: every chosen node stores a *draft*, a table without cells, which makes
//! its id and the cluster's identity durable; when all have said so, the table with cells is made,
//! and the cluster starts as any other, with verification.
//!
//! A draft promises nothing: nodes that have drafts only are nodes without a cluster, and the next
//! attempt creates one. A table with cells is never taken for void, whatever its holders remember.

use std::collections::BTreeSet;

use neo_api::{Instant, NodeId, Now, PartitionTable, Partitioning, Ptid, Reign, TableVersion, Tid};
use neo_proto::{Packet, Recovery};

use super::effect::Out;
use super::partition_table::Table;
use super::recovery::{Recovering, Start};
use super::{MasterCore, Phase};

/// The ptid of drafts; tables with cells have greater ones.
const DRAFT: Ptid = Ptid(0);

/// An attempt to create a cluster.
#[derive(Debug)]
pub(super) struct Creating {
    /// Of the draft. Its reign is that in which the cluster is created.
    version: TableVersion,
    /// Nodes that have not said that they stored it.
    waits: BTreeSet<NodeId>,
    /// Until when they must.
    deadline: Instant,
}

/// Whether a table is a draft.
pub(super) fn is_draft(version: TableVersion) -> bool {
    version.ptid == DRAFT
}

/// Whether a storage node has stored a table that has cells.
pub(super) fn table_version(answer: &Recovery) -> Option<TableVersion> {
    answer.version.filter(|version| !is_draft(*version))
}

impl Creating {
    pub(super) const fn deadline(&self) -> Instant {
        self.deadline
    }

    /// A node that is late.
    pub(super) fn late(&self, now: Now) -> Option<NodeId> {
        let is_late = self.deadline <= now.mono;
        self.waits.first().copied().filter(|_| is_late)
    }
}

impl MasterCore {
    /// Goes on with the creation, or begins one.
    pub(super) fn creation_step(&mut self, now: Now, out: &mut Out) {
        let Phase::Recovering(recovering) = &mut self.phase else {
            return;
        };
        match &recovering.creating {
            None => self.draft(now, out),
            Some(creating) if creating.waits.is_empty() => {
                self.recovery_begin(now, Start::Create, out);
            }
            Some(_) => {}
        }
    }

    /// Every node that is there is to note its id.
    fn draft(&mut self, now: Now, out: &mut Out) {
        let deadline = now.mono + self.settings.recovery_timeout();
        if self.identity.is_none() {
            self.open_epoch(TableVersion::default(), Tid::ZERO);
        }
        self.reign = self.reign.next();
        let version = TableVersion {
            reign: self.reign,
            ptid: DRAFT,
        };
        let mut draft = PartitionTable::empty(self.new_partitioning(), self.settings.replicas);
        draft.version = version;
        let Phase::Recovering(recovering) = &mut self.phase else {
            return;
        };
        let waits: BTreeSet<NodeId> = recovering.answers.keys().copied().collect();
        tracing::info!(reign = %version.reign, nodes = waits.len(), "creating a cluster");
        for nid in &waits {
            if let Some(conn) = self.nodes.conn(*nid) {
                let (identity, table) = (self.identity.clone(), Box::new(draft.clone()));
                out.notify(conn, Packet::SendPartitionTable { identity, table });
            }
        }
        recovering.waiting = "the storage nodes note that they belong to a new cluster".to_owned();
        recovering.creating = Some(Creating {
            version,
            waits,
            deadline,
        });
    }

    /// A storage node says what it stored.
    pub(super) fn creation_stored(
        &mut self,
        now: Now,
        nid: NodeId,
        version: TableVersion,
        out: &mut Out,
    ) {
        let identity = self.identity.clone();
        let Phase::Recovering(recovering) = &mut self.phase else {
            return;
        };
        let creating = recovering.creating.as_mut();
        let Some(creating) = creating.filter(|creating| creating.version == version) else {
            return;
        };
        creating.waits.remove(&nid);
        if let Some(answer) = recovering.answers.get_mut(&nid) {
            answer.version = Some(version);
            answer.identity = identity;
        }
        if let Some(node) = self.nodes.get_mut(nid) {
            node.noted = Some(version);
        }
        self.recovery_step(now, out);
    }

    fn new_partitioning(&self) -> Partitioning {
        Partitioning::new(self.settings.partitions).expect("settings are checked")
    }

    /// The table of the cluster that is created, of the reign of its draft.
    pub(super) fn create_table(&mut self, nodes: &BTreeSet<NodeId>) -> String {
        let version = TableVersion {
            reign: self.reign,
            ptid: Ptid(1),
        };
        let np = self.new_partitioning();
        let replicas = self.settings.replicas;
        let place = |nid: &NodeId| {
            let node = self.nodes.get(*nid);
            node.map_or_else(Vec::new, |node| node.topology.clone())
        };
        let places = nodes.iter().map(|nid| (*nid, place(nid))).collect();
        let table = Table::create(version, np, replicas, nodes);
        self.table = Some(table.spread(&places));
        format!(
            "a new cluster of {} storage nodes, {} partitions and {replicas} replicas",
            nodes.len(),
            np.count()
        )
    }
}

impl Recovering {
    /// Whether a node's database, which is the node's, has what a table says is readable on it. A
    /// node that was told that it has cells has noted that. One with a draft only missed it: then
    /// nobody can have served with it, as long as nobody has obeyed a reign, which is asked only
    /// when every node has stored the table.
    pub(super) fn is_fresh(&self, table: &Table, nid: NodeId, noted: Option<TableVersion>) -> bool {
        let is_draft = noted.is_some_and(is_draft);
        let fresh = || self.answers.values().all(|a| a.reign == Reign::default());
        !is_draft || !table.is_readable_on(nid) || fresh()
    }
}
