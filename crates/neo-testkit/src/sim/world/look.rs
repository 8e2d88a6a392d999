//! What a test sees of a world.

use std::cmp::Reverse;

use super::*;
use crate::sim::settings::CLUSTER;

impl World {
    /// The trace so far.
    #[must_use]
    pub const fn trace(&self) -> &Trace {
        &self.trace
    }

    /// What clients did and were told.
    #[must_use]
    pub const fn oracle(&self) -> &Rc<RefCell<Oracle>> {
        &self.oracle
    }

    /// Every point so far.
    #[must_use]
    pub fn points(&self) -> &[Point] {
        &self.points
    }

    /// How many nodes crashed so far: one that is down can't.
    #[must_use]
    pub const fn nodes_crashed(&self) -> usize {
        self.tally.nodes_crashed
    }

    /// How many connections were cut so far: a cut between nodes without one changes nothing.
    #[must_use]
    pub const fn links_cut(&self) -> usize {
        self.tally.links_cut
    }

    /// How many faults of each kind there were so far.
    #[must_use]
    pub const fn tally(&self) -> &Tally {
        &self.tally
    }

    /// Virtual time since the start.
    #[must_use]
    pub const fn now(&self) -> Duration {
        Duration::from_nanos(self.now)
    }

    /// The name of the cluster.
    #[must_use]
    pub const fn cluster(&self) -> &'static str {
        CLUSTER
    }

    /// How many partitions a cluster here has.
    #[must_use]
    pub const fn partitions(&self) -> u32 {
        self.settings.partitions
    }

    /// Every node.
    pub fn names(&self) -> impl Iterator<Item = Name> + use<'_> {
        self.places.keys().copied()
    }

    /// Whether a node runs.
    #[must_use]
    pub fn is_up(&self, name: Name) -> bool {
        self.place(name).running.is_some()
    }

    /// How often a node was started.
    #[must_use]
    pub fn incarnation(&self, name: Name) -> u32 {
        self.place(name).incarnation
    }

    /// How often the cluster was RUNNING under another master than before.
    #[must_use]
    pub const fn primaries_changed(&self) -> usize {
        self.primaries_changed
    }

    /// How a node ended by itself, if it did since it was last started.
    #[must_use]
    pub fn ended(&self, name: Name) -> Option<&Ended> {
        self.place(name).ended.as_ref()
    }

    /// The disk of a storage node.
    ///
    /// # Panics
    /// When it is no storage node.
    #[must_use]
    pub fn disk(&self, name: Name) -> &Disk {
        self.place(name)
            .disk
            .as_ref()
            .expect("storage nodes have disks")
    }

    /// The id that a storage node was given.
    #[must_use]
    pub fn nid(&self, name: Name) -> Option<NodeId> {
        self.place(name).nid
    }

    /// Whether a storage node serves, or a client can work.
    #[must_use]
    pub fn is_serving(&self, name: Name) -> bool {
        let place = self.place(name);
        place.running.is_some() && place.serving
    }

    /// The core of a master that runs.
    #[must_use]
    pub fn master(&self, name: Name) -> Option<&MasterCore> {
        match self.place(name).running.as_ref()? {
            Running::Master(endpoint) => Some(endpoint.core()),
            _ => None,
        }
    }

    /// The core of a storage node that runs.
    #[must_use]
    pub fn storage(&self, name: Name) -> Option<&StorageCore> {
        match self.place(name).running.as_ref()? {
            Running::Storage(endpoint) => Some(endpoint.core()),
            _ => None,
        }
    }

    /// The core of a client that runs.
    #[must_use]
    pub fn client_core(&self, name: Name) -> Option<&ClientCore> {
        match self.place(name).running.as_ref()? {
            Running::Client(endpoint) => Some(endpoint.core()),
            _ => None,
        }
    }

    /// The core of a puppet that runs.
    #[must_use]
    pub fn puppet(&self, name: Name) -> Option<&PuppetCore> {
        match self.place(name).running.as_ref()? {
            Running::Puppet(endpoint) => Some(endpoint.core()),
            _ => None,
        }
    }

    /// The masters that lead now: one, when they have all heard of each other.
    pub fn leaders(&self) -> impl Iterator<Item = Name> + use<'_> {
        let masters = self.places.keys().copied();
        masters.filter(|name| {
            self.master(*name)
                .is_some_and(|m| m.cluster_state().is_some())
        })
    }

    /// The primary. Of several, the one whose cluster serves; of those, the one of the latest reign.
    #[must_use]
    pub fn primary(&self) -> Option<Name> {
        self.leaders().max_by_key(|name| {
            let master = self.master(*name);
            let serves = |m: &MasterCore| m.cluster_state() == Some(ClusterState::Running);
            let reign = |m: &MasterCore| m.partition_table().map(|table| table.version.reign);
            (
                master.is_some_and(serves),
                master.and_then(reign),
                Reverse(*name),
            )
        })
    }

    /// The state of the cluster, as its primary sees it.
    #[must_use]
    pub fn cluster_state(&self) -> Option<ClusterState> {
        self.master(self.primary()?)?.cluster_state()
    }

    /// The partition table that the primary goes by.
    #[must_use]
    pub fn partition_table(&self) -> Option<&PartitionTable> {
        self.master(self.primary()?)?.partition_table()
    }

    /// Whether one end of a connection still believes in it, when the other end does not.
    pub(in crate::sim) fn has_half_open_links(&self) -> bool {
        let held = self.places.values().flat_map(|place| place.conns.values());
        held.into_iter()
            .any(|(link, _)| self.links[link.0].is_half_open())
    }

    pub(super) fn place(&self, name: Name) -> &Place {
        self.places.get(&name).expect("a node of this world")
    }

    pub(super) fn place_mut(&mut self, name: Name) -> &mut Place {
        self.places.get_mut(&name).expect("a node of this world")
    }
}
