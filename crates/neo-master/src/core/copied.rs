//! A copy of a storage node's database that is to become a storage node of its own.
//!
//! The copy knows only the id of the original. It gets another id, and a cell that is out of date
//! wherever the original has one; then it ends, and comes as any other node that was away: what it
//! has already need not be fetched.

use neo_api::{Cell, CellChange, CellState, NodeId, NodeType, Now};
use neo_proto::{ConnId, ErrorCode, Identification, MsgId, Packet};

use super::belonging::last_given;
use super::effect::Out;
use super::identification::{Kinship, Peer};
use super::node_manager::Node;
use super::{MasterCore, Phase};

impl MasterCore {
    /// Answers a copy that asks for an id of its own; the connection is not that of a node.
    pub(super) fn name_copy(
        &mut self,
        now: Now,
        conn: ConnId,
        id: MsgId,
        original: NodeId,
        peer: &Identification,
        out: &mut Out,
    ) -> Result<(), (ErrorCode, String)> {
        let not_ready = |words: &str| Err((ErrorCode::NotReady, words.to_owned()));
        match &self.phase {
            Phase::Running(running) if running.import.is_some() => {
                return not_ready("an import is running: try again when it is over");
            }
            Phase::Running(running) if running.promotion.is_some() => {
                return not_ready("the partition table is changing: try again");
            }
            Phase::Running(running) if running.stopping.is_none() => {}
            _ => return Err((ErrorCode::NotReady, self.not_ready())),
        }
        let Some(table) = &self.table else {
            return not_ready("there is no partition table yet");
        };
        let kinship = peer.identity.as_ref().map(|theirs| self.kinship(theirs));
        if kinship.is_some_and(|kinship| kinship != Kinship::Same) {
            let words = "the copy is from before a start by force: copy the original again, as it \
                         is now";
            return Err((ErrorCode::Denied, words.to_owned()));
        }
        if peer.identity.is_none() || !table.has_node(original) {
            let words = format!(
                "{original} has no cells: only a copy of a node that has some needs an id of its \
                 own; start an empty database instead"
            );
            return Err((ErrorCode::Denied, words));
        }
        let last = last_given(Some(table));
        let Some(nid) = self.nodes.first_free(NodeType::Storage, last) else {
            return Err((ErrorCode::TooLarge, "no node id is free".to_owned()));
        };
        let assigned = self.next_version(table.version());
        let cells = table.partitions_of(original).map(|partition| CellChange {
            partition,
            cell: Cell {
                nid,
                state: CellState::OutOfDate,
                assigned,
            },
        });
        let changes: Vec<CellChange> = cells.collect();
        tracing::info!(%nid, %original, cells = changes.len(), "a copy of a database gets an id");
        self.nodes.insert(nid, Node::down(None));
        self.nodes.publish(out);
        self.change_table(&changes, out);
        if let Some(running) = self.running() {
            running.auto_tweak.gone(now, nid);
        }
        self.last_session += 1;
        out.send(
            conn,
            id,
            Packet::AcceptIdentification {
                node_type: NodeType::Master,
                nid: Some(self.nid),
                your_nid: nid,
                reign: self.reign,
                session: neo_api::SessionId(self.last_session),
                identity: self.identity.clone(),
            },
        );
        self.send_table(conn, out);
        if let Some(Peer::New { deadline }) = self.peers.get(&conn).copied() {
            self.peers.insert(conn, Peer::Copy { deadline });
        }
        Ok(())
    }
}
