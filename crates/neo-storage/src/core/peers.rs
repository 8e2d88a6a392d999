//! What clients say to this node.

use neo_api::{ClusterId, VotedRecord};
use neo_proto::{ClusterIdentity, ConnId, Effects, ErrorCode, Message, Packet, shown};

use super::clients::{Client, Verdict};
use super::import::{Batch, is_for_replicas};
use super::io::{Asker, Io};
use super::transaction::Target;
use super::wanted::Wanted;
use super::{Now, StorageCore};

impl StorageCore {
    pub(super) fn peer_says(
        &mut self,
        now: Now,
        out: &mut Effects<Self>,
        conn: ConnId,
        message: Message,
    ) {
        match self.conns.client(conn) {
            Some(client) if client.is_storage() => self.replica_says(now, out, client, message),
            Some(client) => self.client_says(now, out, client, message),
            None => self.stranger_says(now, out, conn, message),
        }
    }

    fn stranger_says(&mut self, now: Now, out: &mut Effects<Self>, conn: ConnId, message: Message) {
        let asker = Asker {
            conn,
            id: message.id,
        };
        let identification = match message.packet {
            Packet::RequestIdentification { identification } if !self.conns.is_parked(conn) => {
                identification
            }
            other => return self.misunderstood(now, out, asker, &other),
        };
        let own = &self.settings.cluster;
        let refusal = if identification.cluster != *own {
            let asked = shown(&identification.cluster);
            let text = format!("this is a node of cluster {own:?}, you asked for {asked:?}");
            Some((ErrorCode::OtherCluster, text))
        } else if let Some((own_id, its_id)) = self.other_id(identification.identity.as_ref()) {
            let text = format!(
                "this is cluster {own:?} with id {own_id}, but you belong to another one of the \
                 same name, with id {its_id}"
            );
            Some((ErrorCode::OtherCluster, text))
        } else if self.service.is_none() {
            let text = "this storage node does not serve now: wait for the primary master";
            Some((ErrorCode::NotReady, text.to_owned()))
        } else {
            None
        };
        let verdict = match refusal {
            Some(refusal) => {
                self.conns.remove(conn);
                Verdict::Refuse(asker, refusal)
            }
            None => {
                let deadline = now.mono + self.settings.limits.parked_timeout();
                self.conns
                    .identify(asker, &identification, self.reign, deadline)
            }
        };
        self.pronounce(out, verdict);
    }

    /// The ids of this node's cluster and the peer's, when they differ.
    fn other_id(&self, identity: Option<&ClusterIdentity>) -> Option<(ClusterId, ClusterId)> {
        let (own, its) = (self.identity.as_ref()?.id, identity?.id);
        (own != its).then_some((own, its))
    }

    /// A storage node that catches up asks for what it lacks.
    fn replica_says(
        &mut self,
        now: Now,
        out: &mut Effects<Self>,
        client: Client,
        message: Message,
    ) {
        let asker = Asker {
            conn: client.peer.conn,
            id: message.id,
        };
        let listing = Wanted::of_replica(&message.packet);
        let (Some(wanted), true) = (listing, message.payload.is_empty()) else {
            return self.misunderstood(now, out, asker, &message.packet);
        };
        if let Some(service) = &self.service {
            let mut io = Io {
                now,
                out,
                jobs: &mut self.jobs,
            };
            self.reads.give_way(asker.conn);
            let transactions = &service.transactions;
            self.reads
                .ask(&self.cells, transactions, &mut io, asker, wanted);
        }
    }

    fn client_says(&mut self, now: Now, out: &mut Effects<Self>, client: Client, message: Message) {
        let Client { peer, read_only } = client;
        let Message {
            id,
            packet,
            payload,
        } = message;
        let asker = Asker {
            conn: peer.conn,
            id,
        };
        let (Some(service), cells) = (&mut self.service, &self.cells) else {
            return;
        };
        let mut io = Io {
            now,
            out,
            jobs: &mut self.jobs,
        };
        let transactions = &mut service.transactions;
        let writes = matches!(
            packet,
            Packet::AskStoreObject { .. }
                | Packet::AskCheckCurrentSerial { .. }
                | Packet::AskStoreTransaction { .. }
                | Packet::AskVoteTransaction { .. }
                | Packet::AskImport { .. }
        );
        if read_only && writes {
            io.consumed(peer.conn, payload.len() as u64);
            let text = "this client identified as read-only";
            return io.error(asker, ErrorCode::ReadOnly, text);
        }
        let carries = matches!(
            packet,
            Packet::AskStoreObject { .. } | Packet::AskImport { .. }
        );
        if !carries && !payload.is_empty() {
            io.consumed(peer.conn, payload.len() as u64);
            return self.misunderstood(now, out, asker, &packet);
        }
        let mut vote = |io: &mut Io<'_>, txn, record: Option<VotedRecord>, objects| {
            transactions.vote(cells, io, peer, id, txn, (record, objects));
        };
        match packet {
            Packet::AskStoreTransaction {
                txn,
                meta,
                oids,
                objects,
                pack,
                packed,
            } => {
                let record = VotedRecord {
                    meta,
                    oids: oids.0,
                    packed,
                    pack: pack.map(|order| *order),
                };
                vote(&mut io, txn, Some(record), objects);
            }
            Packet::AskVoteTransaction { txn, objects } => vote(&mut io, txn, None, objects),
            Packet::AskStoreObject {
                txn,
                oid,
                serial,
                kind,
            } => {
                let target = Target { txn, oid, serial };
                transactions.store(cells, &mut io, peer, id, target, (kind, payload));
            }
            Packet::AskCheckCurrentSerial { txn, oid, serial } => {
                let target = Target { txn, oid, serial };
                transactions.check(cells, &mut io, peer, id, target);
            }
            Packet::AskRelockObject { txn, oid } => {
                transactions.relock(cells, &mut io, peer, id, (txn, oid));
            }
            Packet::AbortTransaction { txn, .. } => {
                transactions.abort(cells, &mut io, txn, Some(peer));
            }
            Packet::AskImport {
                import,
                transactions,
                revisions,
            } => {
                let batch = Batch {
                    import,
                    transactions,
                    revisions,
                    payload,
                };
                match &mut self.import {
                    Some(going) => {
                        going.take(
                            cells,
                            &mut io,
                            (peer.conn, id),
                            batch,
                            self.object_bytes_max,
                        );
                    }
                    // A node that came later fetches it afterwards.
                    None if is_for_replicas(cells, &batch) => {
                        io.consumed(peer.conn, batch.payload.len() as u64);
                        io.answer(asker, Packet::AnswerImport {});
                    }
                    None => {
                        io.consumed(peer.conn, batch.payload.len() as u64);
                        let text = "no import goes on: ask the primary master to begin one";
                        io.error(asker, ErrorCode::UnknownTransaction, text);
                    }
                }
            }
            other => match Wanted::of(&other) {
                Some(wanted) => self.reads.ask(cells, transactions, &mut io, asker, wanted),
                None => self.misunderstood(now, out, asker, &other),
            },
        }
    }

    /// A message that makes no sense here: the peer is told, and sent away.
    fn misunderstood(&mut self, now: Now, out: &mut Effects<Self>, asker: Asker, packet: &Packet) {
        let message = format!("{} was not expected", packet.name());
        let who = self.conns.client(asker.conn).map_or_else(
            || "a peer that has not identified".to_owned(),
            |client| client.peer.nid.to_string(),
        );
        tracing::warn!(who, words = message, "protocol error: disconnecting");
        if !packet.is_answer() && asker.id.0 != 0 {
            let (code, message) = (ErrorCode::Protocol, message.clone());
            out.send(asker.conn, asker.id, Packet::Error { code, message });
        }
        self.drop_conn(now, out, asker.conn, &message);
    }
}
