//! The mark of oids: having it noted by every storage node, and what waits for it.

use std::collections::BTreeSet;

use neo_api::{NodeId, Now, Oid};
use neo_proto::{ErrorCode, Packet};

use super::effect::Out;
use super::oids::Waiting;
use super::requests::Ask;
use super::transaction_manager::Asker;
use super::{MasterCore, Phase};

impl MasterCore {
    pub(super) fn new_oids(&mut self, asker: Asker, count: u32, out: &mut Out) {
        let max = self.settings.new_oids_max;
        let unmarked = self.settings.mutations.no_oid_mark;
        let waiting_max = self.settings.oid_requests_max;
        let refuse = |code, message: String, out: &mut Out| {
            out.send(asker.conn, asker.id, Packet::Error { code, message });
        };
        if count == 0 || count > max {
            let words = format!("{count} oids at once: from 1 to {max} can be had (new_oids_max)");
            refuse(ErrorCode::TooLarge, words, out);
            return;
        }
        let read_only = self.is_read_only(asker.nid);
        let Some(running) = self.running() else {
            return;
        };
        if read_only {
            refuse(
                ErrorCode::ReadOnly,
                "the client is read-only".to_owned(),
                out,
            );
            return;
        }
        if !running.oids.has_left(count) {
            refuse(ErrorCode::TooLarge, "no oids are left".to_owned(), out);
            return;
        }
        if running.oids.clients_waiting() >= waiting_max {
            let words = "too many requests for oids are waiting (oid_requests_max)";
            refuse(ErrorCode::NotReady, words.to_owned(), out);
            return;
        }
        if unmarked {
            let first = running.oids.take_unmarked(count);
            out.send(asker.conn, asker.id, Packet::AnswerNewOids { first, count });
            return;
        }
        // Who waits comes first.
        let first = match running.oids.clients_waiting() {
            0 => running.oids.take(count),
            _ => None,
        };
        match first {
            Some(first) => {
                out.send(asker.conn, asker.id, Packet::AnswerNewOids { first, count });
            }
            None => running.oids.wait(Waiting::Client(asker, count)),
        }
        self.raise_oid_mark(out);
    }

    /// Has the mark noted by every node, if somebody needs it.
    pub(super) fn raise_oid_mark(&mut self, out: &mut Out) {
        let Phase::Running(running) = &mut self.phase else {
            return;
        };
        let Some(mark) = running.oids.to_raise() else {
            return;
        };
        let nodes: BTreeSet<NodeId> = running.operating.keys().copied().collect();
        for nid in &nodes {
            if let Some(conn) = self.nodes.conn(*nid) {
                let mark = Oid(mark);
                let packet = Packet::AskStoreOidMark { mark };
                self.requests.send(conn, Ask::OidMark, packet, out);
            }
        }
        running.oids.raise(mark, nodes);
    }

    /// The mark was raised: what waited for it goes on, in order.
    pub(super) fn oids_freed(&mut self, now: Now, freed: Vec<Waiting>, out: &mut Out) {
        if freed.is_empty() {
            return;
        }
        for waiting in freed {
            let Some(running) = self.running() else {
                return;
            };
            match waiting {
                Waiting::Client(asker, count) => match running.oids.take(count) {
                    Some(first) => {
                        let answer = Packet::AnswerNewOids { first, count };
                        out.send(asker.conn, asker.id, answer);
                    }
                    None => running.oids.wait(Waiting::Client(asker, count)),
                },
                Waiting::Finish(txn) => self.finish_parked(now, txn, out),
                Waiting::Import => self.import_oids_covered(now, out),
            }
        }
        self.raise_oid_mark(out);
    }

    pub(super) fn oid_mark_noted(&mut self, now: Now, nid: NodeId, out: &mut Out) {
        if let Some(running) = self.running() {
            let freed = running.oids.noted(nid);
            self.oids_freed(now, freed, out);
        }
    }

    /// A node has no space to note the mark: no oids, but the node can go on otherwise.
    pub(super) fn oid_mark_refused(&mut self, now: Now, nid: NodeId, message: &str, out: &mut Out) {
        tracing::error!(%nid, message, "a storage node can't note which oids are handed out");
        let Some(running) = self.running() else {
            return;
        };
        let words = format!("{nid} can't note which oids are handed out: {message}");
        for waiting in running.oids.give_up() {
            match waiting {
                Waiting::Client(asker, _) => {
                    self.refuse(asker, ErrorCode::NoSpace, words.as_str(), out)
                }
                Waiting::Finish(txn) => {
                    let finish = self.running().and_then(|r| r.txns.unpark(txn));
                    if let Some(finish) = finish {
                        self.refuse(finish.asker, ErrorCode::NoSpace, words.as_str(), out);
                        self.abort(txn, None, out);
                    }
                }
                Waiting::Import => self.import_no_space(&words, out),
            }
        }
        self.transaction_ended(now, out);
    }
}
