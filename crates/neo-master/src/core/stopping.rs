//! The end: of the cluster, or of this master.

use neo_api::{Instant, NodeState, NodeType, Now};
use neo_proto::{Effect, Packet};

use super::effect::Out;
use super::{MasterCore, Phase};

/// Storage nodes were told to leave.
#[derive(Debug)]
pub(crate) struct Ending {
    /// Those that have not left until then are left behind.
    pub(crate) deadline: Instant,
}

impl MasterCore {
    /// The process ends; the cluster does not.
    pub(super) fn stop_node(&mut self, out: &mut Out) {
        self.give_up_orders("this master stops", out);
        self.close_all("this master stops", out);
        self.leave_masters("this master stops", out);
        self.phase = Phase::Stopped;
        out.push(Effect::Stop { failure: None });
    }

    /// The cluster ends, once pending transactions have.
    pub(super) fn stop_cluster(&mut self, now: Now, out: &mut Out) {
        let patience = self.settings.stop_patience();
        match &mut self.phase {
            Phase::Running(running) if running.stopping.is_none() => {
                running.stopping = Some(now.mono + patience);
                for (asker, _) in std::mem::take(&mut running.begins) {
                    let code = neo_proto::ErrorCode::NotReady;
                    self.refuse(asker, code, "the cluster is stopping", out);
                }
                // Clients may finish what they began; they hear of it when that is done.
                self.tell_admins_of_state(out);
                self.import_give_up(out);
                self.stopping_step(now, out);
            }
            Phase::Recovering(_) | Phase::Verifying(_) => self.end(now, out),
            Phase::Idle { .. } => self.stop_node(out),
            Phase::Running(_) | Phase::Ending(_) | Phase::Stopped => {}
        }
    }

    /// Ends when nothing is pending any more.
    pub(super) fn stopping_step(&mut self, now: Now, out: &mut Out) {
        let idle = |running: &mut super::Running| {
            running.stopping.is_some() && running.txns.is_empty() && running.import.is_none()
        };
        if self.running().is_some_and(idle) {
            self.end(now, out);
        }
    }

    /// Patience is over: what has not begun to finish is aborted.
    pub(super) fn stopping_timer(&mut self, now: Now, out: &mut Out) {
        let Some(running) = self.running() else {
            return;
        };
        if running.stopping.is_none_or(|at| at > now.mono) {
            return;
        }
        for txn in running.txns.begun() {
            tracing::warn!(%txn, "aborting a transaction, since the cluster stops");
            self.abort(txn, None, out);
        }
        // What finishes only waits for storage nodes, which answer or are lost. Look again later.
        let patience = self.settings.stop_patience();
        if let Some(running) = self.running() {
            running.stopping = Some(now.mono + patience);
        }
        self.stopping_step(now, out);
    }

    /// Tells storage nodes to leave, and waits until they have.
    fn end(&mut self, now: Now, out: &mut Out) {
        let deadline = now.mono + self.settings.stop_grace();
        self.give_up_orders("the cluster is stopping", out);
        self.phase = Phase::Ending(Ending { deadline });
        self.announce_state(now, out);
        let clients: Vec<_> = self.nodes.online(NodeType::Client).collect();
        for (nid, conn) in clients {
            out.notify(conn, Packet::StopOperation {});
            self.close_quietly(conn, "the cluster stops", out);
            self.nodes.remove(nid);
        }
        self.tell_storages(NodeState::Down, out);
        self.ending_step(now, out);
    }

    pub(super) fn ending_step(&mut self, now: Now, out: &mut Out) {
        let Phase::Ending(ending) = &self.phase else {
            return;
        };
        if self.nodes.online(NodeType::Storage).next().is_none() || ending.deadline <= now.mono {
            self.close_all("the cluster stops", out);
            self.leave_masters("the cluster stops", out);
            self.phase = Phase::Stopped;
            out.push(Effect::Stop { failure: None });
        }
    }
}
