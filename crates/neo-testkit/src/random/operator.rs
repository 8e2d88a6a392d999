//! An operator of a random run: gives orders, and does not wait for what comes of them.

use std::time::Duration;

use neo_api::{Address, NodeState, NodeType};
use neo_proto::{Identification, Message, MsgId, Packet};

use crate::seed::Rng;
use crate::sim::{Name, Say, World, p};

/// How long an attempt to reach the primary may take.
const DIAL_PATIENCE: Duration = Duration::from_secs(2);

/// Who gives orders, by the world's only puppet.
#[derive(Debug, Default)]
pub(super) struct Operator {
    /// An order that waits for a connection: where to, until when.
    open: Option<(Address, Packet, Duration)>,
}

impl Operator {
    /// Thinks of an order, and calls the primary.
    pub(super) fn think(&mut self, world: &mut World, rng: &mut Rng) {
        let Some(primary) = world.primary().filter(|_| world.is_up(p(1))) else {
            return;
        };
        let to = primary.address();
        if let Some(old) = world.puppet(p(1)).and_then(|puppet| puppet.conn(&to)) {
            world.say(p(1), Say::Close(old));
        }
        world.say(p(1), Say::Connect(to.clone()));
        self.open = Some((to, order(world, rng), world.now() + DIAL_PATIENCE));
    }

    /// Gives the order, once there is a connection.
    pub(super) fn act(&mut self, world: &mut World) {
        let Some((to, order, until)) = self.open.take() else {
            return;
        };
        let Some(conn) = world.puppet(p(1)).and_then(|puppet| puppet.conn(&to)) else {
            if world.now() < until {
                self.open = Some((to, order, until));
            }
            return;
        };
        let identification = Box::new(Identification {
            node_type: NodeType::Admin,
            nid: None,
            address: None,
            cluster: world.cluster().to_owned(),
            identity: None,
            session: None,
            read_only: false,
            topology: Vec::new(),
            masters: Vec::new(),
            new_nid: false,
            noted: None,
            is_full: false,
        });
        world.note_order(format!("the operator says {order:?}"));
        let identify = Packet::RequestIdentification { identification };
        for (id, packet) in (1..).map(MsgId).zip([identify, order]) {
            world.say(p(1), Say::Message(conn, Message::new(id, packet)));
        }
    }
}

fn order(world: &World, rng: &mut Rng) -> Packet {
    let storages = world
        .names()
        .filter(|name| matches!(name, Name::Storage(_)));
    let known: Vec<_> = storages.filter_map(|name| world.nid(name)).collect();
    let any = known.get(rng.below(known.len() as u64) as usize);
    match (rng.below(10), any) {
        (0..=3, _) => Packet::TweakPartitionTable {
            dry_run: false,
            ignore: Vec::new(),
        },
        (4..=6, _) => {
            let most = (known.len() as u64).clamp(1, 3) - 1;
            let replicas = rng.between(0, most) as u32;
            Packet::SetNumReplicas { replicas }
        }
        (7, Some(nid)) => Packet::SetNodeState {
            nid: *nid,
            state: NodeState::Down,
        },
        (8, Some(nid)) => Packet::SetNodeState {
            nid: *nid,
            state: NodeState::Unknown,
        },
        _ => Packet::AddPendingNodes { nodes: Vec::new() },
    }
}
