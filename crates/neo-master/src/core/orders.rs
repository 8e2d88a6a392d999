//! Operators' orders that wait: each is answered, whatever happens.

use neo_proto::{ConnId, ErrorCode, MsgId, Packet};

use super::effect::Out;
use super::{MasterCore, Phase};

impl MasterCore {
    /// What the master was doing ends: operators whose orders wait for something in it hear so.
    pub(super) fn give_up_orders(&mut self, words: &str, out: &mut Out) {
        let askers: Vec<(ConnId, MsgId)> = match &mut self.phase {
            Phase::Recovering(recovering) => recovering.start.take().into_iter().collect(),
            Phase::Running(running) => {
                let commands = running.commands.drain(..).map(|(conn, id, _)| (conn, id));
                let adding = running.adding.drain(..).map(|adding| adding.asker);
                commands.chain(adding).collect()
            }
            // Nothing waits: an order is answered when verification begins, or denied.
            Phase::Verifying(_) | Phase::Idle { .. } | Phase::Ending(_) | Phase::Stopped => {
                Vec::new()
            }
        };
        for (conn, id) in askers {
            if self.peers.contains_key(&conn) {
                let message = format!("the order was given up: {words}; look, and give it again");
                let code = ErrorCode::NotReady;
                out.send(conn, id, Packet::Error { code, message });
            }
        }
    }
}
