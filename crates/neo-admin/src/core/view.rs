//! What the primary told of the cluster.

use std::collections::BTreeMap;

use neo_api::{
    CellChange, ClusterState, NodeId, NodeState, NodeType, PartitionTable, TableVersion,
};
use neo_proto::NodeInfo;

/// Nodes, partition table and state, as the primary last told.
#[derive(Debug, Default)]
pub(super) struct View {
    pub(super) state: Option<ClusterState>,
    /// For whom or what the cluster waits, in words.
    pub(super) waiting: String,
    pub(super) table: Option<Box<PartitionTable>>,
    nodes: BTreeMap<NodeId, NodeInfo>,
}

impl View {
    /// Takes a list of nodes: the whole one, or what changed.
    pub(super) fn update_nodes(&mut self, full: bool, nodes: Vec<NodeInfo>) {
        if full {
            self.nodes.clear();
        }
        for node in nodes {
            if node.state == NodeState::Unknown {
                self.nodes.remove(&node.nid);
            } else {
                self.nodes.insert(node.nid, node);
            }
        }
    }

    /// The nodes of a type, or all, in order of id.
    pub(super) fn nodes(&self, node_type: Option<NodeType>) -> Vec<NodeInfo> {
        let wanted = |node: &&NodeInfo| node_type.is_none_or(|t| node.node_type() == t);
        self.nodes.values().filter(wanted).cloned().collect()
    }

    /// Takes a whole table.
    pub(super) fn set_table(&mut self, table: Box<PartitionTable>) -> Result<(), String> {
        table.check().map_err(|e| e.to_string())?;
        self.table = Some(table);
        Ok(())
    }

    /// Takes a change of the table.
    pub(super) fn change_table(
        &mut self,
        base: TableVersion,
        version: TableVersion,
        replicas: u32,
        changes: &[CellChange],
    ) -> Result<(), String> {
        let table = self
            .table
            .as_mut()
            .ok_or("a change of no partition table")?;
        if table.version != base {
            return Err(format!(
                "a change of partition table {base}, not of {}",
                table.version
            ));
        }
        table
            .apply(version, replicas, changes)
            .map_err(|e| e.to_string())
    }
}
