//! What the cluster says of itself, by way of its admin node.

use std::collections::BTreeSet;
use std::fmt;
use std::time::Duration;

use neo_admin::{Control, ControlError};
use neo_api::{Address, CellState, ClusterState, NodeId, NodeState, NodeType, PartitionTable};
use neo_proto::NodeInfo;

/// How long an answer may take: the admin node keeps what it tells in its memory.
const PATIENCE: Duration = Duration::from_secs(5);

/// The cluster at one moment.
#[derive(Debug, Clone, Default)]
pub struct View {
    /// Its state; none without a primary master that the admin node knows.
    pub state: Option<ClusterState>,
    /// Where the primary master listens.
    pub primary: Option<Address>,
    /// Every node that the primary knows.
    pub nodes: Vec<NodeInfo>,
    /// The partition table.
    pub table: Option<PartitionTable>,
}

/// Looks at the cluster, again and again; reconnects when it must.
#[derive(Debug)]
pub struct Watcher {
    admin: Address,
    control: Option<Control>,
}

impl Watcher {
    /// A watcher that asks the admin node at an address.
    #[must_use]
    pub const fn new(admin: Address) -> Self {
        Self {
            admin,
            control: None,
        }
    }

    /// What there is to see now; nothing when the admin node can't be reached.
    pub async fn look(&mut self) -> View {
        match self.try_look().await {
            Ok(view) => view,
            Err(_) => {
                self.control = None;
                View::default()
            }
        }
    }

    async fn try_look(&mut self) -> Result<View, ControlError> {
        let control = self.control().await?;
        let state = match control.cluster().await {
            Err(ControlError::NotReady(_)) => None,
            other => other?.state,
        };
        if state.is_none() {
            return Ok(View::default());
        }
        let primary = control.primary().await?;
        let nodes = control.nodes(None).await?;
        let table = control.partition_table().await?;
        let of_primary = |node: &&NodeInfo| Some(node.nid) == primary;
        Ok(View {
            state,
            primary: nodes
                .iter()
                .find(of_primary)
                .and_then(|node| node.address.clone()),
            nodes,
            table,
        })
    }

    /// The control connection.
    ///
    /// # Errors
    /// When the admin node can't be reached.
    pub async fn control(&mut self) -> Result<Control, ControlError> {
        if let Some(control) = &self.control {
            return Ok(control.clone());
        }
        let control = Control::connect(&self.admin).await?.with_timeout(PATIENCE);
        self.control = Some(control.clone());
        Ok(control)
    }
}

impl View {
    /// Whether clients are served.
    #[must_use]
    pub fn is_running(&self) -> bool {
        self.state == Some(ClusterState::Running)
    }

    /// Storage nodes that are RUNNING.
    #[must_use]
    pub fn up(&self) -> BTreeSet<NodeId> {
        let up = self.nodes.iter().filter(|node| {
            node.node_type() == NodeType::Storage && node.state == NodeState::Running
        });
        up.map(|node| node.nid).collect()
    }

    /// Whether the cluster goes on without some of its storage nodes.
    #[must_use]
    pub fn can_spare(&self, lost: &BTreeSet<NodeId>) -> bool {
        let up = self.up();
        let is_up = |nid| up.contains(&nid) && !lost.contains(&nid);
        self.table
            .as_ref()
            .is_some_and(|table| table.is_operational(is_up))
    }

    /// What is still to come before the cluster serves with so many storage nodes and every cell is
    /// UP_TO_DATE; `None`: nothing.
    #[must_use]
    pub fn lacks(&self, storages: u32) -> Option<String> {
        let Some(state) = self.state else {
            return Some("a primary master".to_owned());
        };
        let Some(table) = self.table.as_ref().filter(|_| self.is_running()) else {
            return Some(format!("RUNNING: the cluster is {state}"));
        };
        let up = self.up();
        if up.len() < storages as usize {
            let names: Vec<String> = up.iter().map(ToString::to_string).collect();
            return Some(format!(
                "{storages} storage nodes that are RUNNING: {} are",
                names.join(", ")
            ));
        }
        let rows = table.rows.iter().flatten();
        let behind = rows
            .filter(|cell| cell.state != CellState::UpToDate)
            .count();
        (behind > 0).then(|| format!("{behind} cells that are not UP_TO_DATE: {self}"))
    }
}

impl fmt::Display for View {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.state {
            Some(state) => write!(f, "{state}")?,
            None => f.write_str("no primary")?,
        }
        let Some(table) = &self.table else {
            return Ok(());
        };
        let up = self.up();
        for nid in table.nodes() {
            let sign = if up.contains(&nid) {
                ""
            } else {
                " (not RUNNING)"
            };
            write!(f, ", {nid}{sign} ")?;
            for (partition, _) in table.iter() {
                let cell = table.cell(partition, nid);
                write!(f, "{}", cell.map_or('.', |cell| cell.state.letter()))?;
            }
        }
        Ok(())
    }
}
