//! Connections that are made, accepted and lost.

use neo_api::{NodeId, NodeType, Now};
use neo_proto::{ConnId, ConnectToken, Effect, Effects, Identification, Packet};

use super::StorageCore;
use super::io::Io;
use super::replication::is_source;

impl StorageCore {
    /// The id that is in the database.
    pub(super) fn noted(&self) -> Option<NodeId> {
        self.nid.filter(|_| self.is_noted)
    }

    /// Whether the id is on its way to the disk.
    pub(super) fn is_noting(&self) -> bool {
        self.table.as_ref().is_some_and(|new| new.notes)
    }

    /// Starts the attempt to reach a master that is due, if one is.
    pub(super) fn search(&mut self, now: Now, out: &mut Effects<Self>) {
        if let Some((token, to)) = self.link.poll(now.mono) {
            out.push(Effect::Connect { token, to });
        }
    }

    pub(super) fn connected(
        &mut self,
        now: Now,
        out: &mut Effects<Self>,
        token: ConnectToken,
        conn: ConnId,
    ) {
        let until = now.mono + self.settings.limits.identification_timeout();
        let to_source = is_source(token);
        let id = if to_source {
            let id = self.with_replication(now, out, |replication, around| {
                replication.connected(around.io, token, conn)
            });
            id.flatten()
        } else {
            self.link.connected(token, conn, until)
        };
        let Some(id) = id else {
            return out.close(conn, "not wanted any more");
        };
        let session = self.session.map(|session| (self.reign, session));
        let identification = Box::new(Identification {
            node_type: NodeType::Storage,
            nid: self.nid,
            address: Some(self.address.clone()),
            cluster: self.settings.cluster.clone(),
            identity: self.identity.clone(),
            session: session.filter(|_| to_source),
            read_only: false,
            topology: self.topology.clone(),
            masters: self.link.masters().to_vec(),
            new_nid: self.settings.new_nid && !to_source,
            noted: self.noted().and_then(|_| self.cells.version()),
            is_full: self.space.is_full(),
        });
        out.send(conn, id, Packet::RequestIdentification { identification });
    }

    pub(super) fn closed(&mut self, now: Now, out: &mut Effects<Self>, conn: ConnId, reason: &str) {
        self.held.retain(|(from, _)| *from != conn);
        if self.link.conn() == Some(conn) {
            self.leave(out);
            let was_up = self.link.up().is_some();
            self.link.lost(now.mono);
            if was_up && let Some(away) = self.space.sent_away() {
                tracing::info!(
                    away_s = away.as_secs(),
                    "no space left: staying away for a while"
                );
                self.link.stay_away(now.mono + away);
            }
            self.search(now, out);
        } else if self.source_conn() == Some(conn) {
            self.with_replication(now, out, |replication, around| {
                replication.closed(around.io, reason);
            });
        } else {
            self.conns.remove(conn);
            self.peer_lost(now, out, conn);
        }
    }

    pub(super) fn peer_lost(&mut self, now: Now, out: &mut Effects<Self>, conn: ConnId) {
        self.reads.forget(conn);
        if let Some(service) = &mut self.service {
            let mut io = Io {
                now,
                out,
                jobs: &mut self.jobs,
            };
            service
                .transactions
                .connection_lost(&self.cells, &mut io, conn);
        }
    }

    /// Closes a connection on this node's own account.
    pub(super) fn drop_conn(
        &mut self,
        now: Now,
        out: &mut Effects<Self>,
        conn: ConnId,
        reason: &str,
    ) {
        out.close(conn, reason);
        self.closed(now, out, conn, reason);
    }
}
