//! What an operator may change of the partition table.

use neo_api::{NodeId, NodeState, NodeType, Now, Partition};

use super::effect::Out;
use super::recovery::names;
use super::{MasterCore, Phase};

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

    /// Pending storage nodes take part from now on; none named: all of them.
    pub(super) fn add_nodes(
        &mut self,
        now: Now,
        nodes: &[NodeId],
        out: &mut Out,
    ) -> Result<String, String> {
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
        let names = names(&added);
        Ok(format!("{names} added: cells are given by `neoctl tweak`"))
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
            return Ok(format!("{replicas} replicas are wanted already"));
        }
        let partitions: Vec<Partition> = table.get().partitioning().iter().collect();
        self.change_replicas(replicas, &[], out);
        self.discard_surplus(partitions.into_iter(), out);
        Ok(format!(
            "{replicas} replicas are wanted: `neoctl tweak` makes or removes them"
        ))
    }
}
