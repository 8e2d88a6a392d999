//! What operators ask: answered from what is known, or relayed to the primary.

use neo_api::ClusterState;
use neo_proto::{ConnId, Message, MsgId, Packet};
use tracing::warn;

use super::{AdminCore, Out, not_ready, protocol_error};

/// Most commands that wait for the primary at once.
const RELAYS_MAX: usize = 256;

/// A command that waits for the primary's answer.
#[derive(Debug)]
pub(super) struct Relay {
    pub(super) control: ConnId,
    pub(super) id: MsgId,
    /// It asks the cluster to stop: the primary may be gone before its answer is here.
    pub(super) stops: bool,
}

impl AdminCore {
    /// A command of a control connection.
    pub(super) fn of_control(&mut self, conn: ConnId, message: Message, out: &mut Out) {
        let Message { id, packet, .. } = message;
        let status = self.status();
        let answer = match &packet {
            Packet::AskPrimary {} => Packet::AnswerPrimary {
                primary: status.primary,
            },
            Packet::AskClusterState {} => Packet::AnswerClusterState {
                state: status.state,
                waiting: if status.connected {
                    self.view.waiting.clone()
                } else {
                    self.link.no_primary()
                },
            },
            Packet::AskNodeList { .. }
            | Packet::AskPartitionList {}
            | Packet::AskLastIds {}
            | Packet::AskLastTransaction {}
            | Packet::AskPackProgress {}
            | Packet::SetClusterState { .. }
            | Packet::SetNodeState { .. }
            | Packet::AddPendingNodes { .. }
            | Packet::TweakPartitionTable { .. }
            | Packet::SetNumReplicas { .. }
                if !status.connected =>
            {
                not_ready(&self.link.no_primary())
            }
            Packet::AskNodeList { node_type } => Packet::AnswerNodeList {
                nodes: self.view.nodes(*node_type),
            },
            Packet::AskPartitionList {} => Packet::AnswerPartitionList {
                table: self.view.table.clone(),
            },
            Packet::AskLastIds {}
            | Packet::AskLastTransaction {}
            | Packet::AskPackProgress {}
            | Packet::SetClusterState { .. }
            | Packet::SetNodeState { .. }
            | Packet::AddPendingNodes { .. }
            | Packet::TweakPartitionTable { .. }
            | Packet::SetNumReplicas { .. } => return self.relay(conn, id, packet, out),
            other => {
                let problem = match other {
                    Packet::RequestIdentification { .. } => {
                        "this is an admin node, which is for neoctl: give clients and other nodes \
                         the address of a master"
                            .to_owned()
                    }
                    other => format!(
                        "{} is no command of an operator: this is an admin node, others go to a \
                         master",
                        other.name()
                    ),
                };
                warn!(words = problem, "protocol error: disconnecting");
                if !other.is_answer() && id != MsgId(0) {
                    out.send(conn, id, protocol_error(&problem));
                }
                self.controls.remove(&conn);
                return out.close(conn, problem);
            }
        };
        out.send(conn, id, answer);
    }

    fn relay(&mut self, control: ConnId, id: MsgId, packet: Packet, out: &mut Out) {
        let Some(primary) = self.link.up() else {
            return out.send(control, id, not_ready(&self.link.no_primary()));
        };
        if self.relays.len() >= RELAYS_MAX {
            return out.send(control, id, not_ready("too many commands wait already"));
        }
        let stops = matches!(
            packet,
            Packet::SetClusterState {
                state: ClusterState::Stopping
            }
        );
        let own = self.next_id();
        self.relays.insert(own, Relay { control, id, stops });
        out.send(primary, own, packet);
    }
}
