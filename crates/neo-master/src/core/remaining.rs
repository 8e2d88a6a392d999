//! What packs leave of revisions: a storage node that looks after the metadata of transactions asks
//! those that have the objects, through this master, which every node is connected to.

use std::collections::BTreeMap;

use neo_api::NodeId;
use neo_proto::{ErrorCode, Packet};

use super::effect::Out;
use super::requests::Ask;
use super::transaction_manager::Asker;
use super::{MasterCore, Phase};

/// Questions that wait for an answer: who asked, and who is asked.
#[derive(Debug, Default)]
pub(crate) struct Remaining {
    last: u64,
    asked: BTreeMap<u64, (Asker, NodeId)>,
}

impl Remaining {
    /// A storage node is lost: what it asked is of no interest, and what it was asked is refused.
    pub(crate) fn node_lost(&mut self, nid: NodeId, out: &mut Out) {
        self.asked.retain(|_, (asker, asked)| {
            if *asked == nid && asker.nid != nid {
                let (code, message) = (ErrorCode::NotReady, format!("{nid} was lost"));
                out.send(asker.conn, asker.id, Packet::Error { code, message });
            }
            *asked != nid && asker.nid != nid
        });
    }
}

impl MasterCore {
    /// A storage node asks what is left of revisions that it does not have.
    pub(super) fn ask_remaining(&mut self, asker: Asker, packet: Packet, out: &mut Out) {
        let Packet::AskRemaining { partition, .. } = packet else {
            return;
        };
        let (Phase::Running(running), Some(table)) = (&mut self.phase, &self.table) else {
            return self.refuse(asker, ErrorCode::NotReady, "the cluster does not run", out);
        };
        let ready = |nid| running.takes_part(nid, running.readiness);
        let cells = table.get().readable(partition);
        let mut nids = cells.map(|cell| cell.nid).filter(|nid| ready(*nid));
        let conn = nids.find_map(|nid| Some((nid, self.nodes.conn(nid)?)));
        let Some((nid, conn)) = conn else {
            let words = format!("no node has a readable cell of partition {partition} now");
            return self.refuse(asker, ErrorCode::NotReady, words, out);
        };
        let remaining = &mut running.remaining;
        remaining.last += 1;
        let number = remaining.last;
        remaining.asked.insert(number, (asker, nid));
        self.requests
            .send(conn, Ask::Remaining(number), packet, out);
    }

    /// A storage node told it, or could not.
    pub(super) fn remaining_told(&mut self, number: u64, answer: Packet, out: &mut Out) {
        if let Some(running) = self.running()
            && let Some((asker, _)) = running.remaining.asked.remove(&number)
        {
            out.send(asker.conn, asker.id, answer);
        }
    }
}
