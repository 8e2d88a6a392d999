//! The other masters: connections, identification, and what is said between elections.

use neo_api::{Address, ElectionInput, NodeType, Now, SessionId};
use neo_proto::{ConnId, ConnectToken, Effect, ErrorCode, Identification, MsgId, Packet, shown};

use super::effect::Out;
use super::identification::{Kinship, Peer, check_identity};
use super::links::{MASTERS_MAX, Stage};
use super::requests::Ask;
use super::{MasterCore, Phase};

/// Most bytes of a message between elections.
const ELECTION_MESSAGE_BYTES_MAX: usize = 64 << 10;

type Refusal = (ErrorCode, String);

impl MasterCore {
    /// The masters that are known may be others now.
    pub(super) fn note_masters(&mut self) {
        let known = self.known_masters();
        if known[..] != self.masters[..] {
            self.masters = known.into();
        }
    }

    /// Every master that is known, this one included.
    fn known_masters(&self) -> Vec<Address> {
        let told = self
            .nodes
            .masters()
            .filter_map(|(_, node)| node.address.as_ref());
        let given = self.settings.masters.iter();
        let given = given.filter(|address| !self.links.is_other_name(address));
        let mut known: Vec<Address> = vec![self.own.clone()];
        for address in self.links.addresses().chain(told).chain(given) {
            if known.len() < MASTERS_MAX && !known.contains(address) {
                known.push(address.clone());
            }
        }
        known
    }

    // --- connections ---

    pub(super) fn masters_connect(&mut self, now: Now, address: Address) {
        if address != self.own && !self.links.want(now.mono, address.clone()) {
            tracing::warn!(master = %address, "not connected to: {MASTERS_MAX} masters are known");
        }
        self.note_masters();
    }

    pub(super) fn masters_timer(&mut self, now: Now, out: &mut Out) {
        while let Some(conn) = self.links.overdue(now) {
            self.disconnect(now, conn, "it did not identify itself in time", out);
        }
        while let Some((token, to)) = self.links.dial(now.mono) {
            out.push(Effect::Connect { token, to });
        }
    }

    pub(super) fn dialed(&mut self, now: Now, token: ConnectToken, conn: ConnId, out: &mut Out) {
        let Some(address) = self.links.dialed(token) else {
            return out.close(conn, "not needed any more");
        };
        self.peers.insert(conn, Peer::Master);
        let until = now.mono + self.settings.identification_timeout();
        self.links.identifying(&address, conn, until, true);
        self.introduce(conn, out);
    }

    pub(super) fn dial_failed(
        &mut self,
        now: Now,
        token: ConnectToken,
        error: &str,
        out: &mut Out,
    ) {
        let Some(address) = self.links.dialed(token) else {
            return;
        };
        if self.links.trouble(&address, error) {
            tracing::info!(master = %address, error, "another master can't be reached");
        }
        self.link_gone(now, address, out);
    }

    /// A connection with a master is gone, whoever closed it.
    pub(super) fn master_lost(&mut self, now: Now, conn: ConnId, reason: &str, out: &mut Out) {
        let Some(address) = self.links.at(conn).cloned() else {
            return;
        };
        if self.links.conn(&address) == Some(conn) {
            tracing::info!(master = %address, reason, "lost another master");
        }
        self.link_gone(now, address, out);
    }

    fn link_gone(&mut self, now: Now, address: Address, out: &mut Out) {
        let random = self.random.next();
        self.links.gone(now.mono, &address, random);
        if let Some(nid) = self.nodes.at(&address)
            && nid.node_type() == NodeType::Master
            && self.nodes.conn(nid).is_some()
        {
            self.nodes.set_down(nid);
        }
        self.note_masters();
        self.elect(now, ElectionInput::PeerLost(address), out);
    }

    // --- identification ---

    fn introduce(&mut self, conn: ConnId, out: &mut Out) {
        let identification = Box::new(Identification {
            node_type: NodeType::Master,
            nid: Some(self.nid),
            address: Some(self.own.clone()),
            cluster: self.settings.cluster.clone(),
            // A secondary holds nothing: what it remembers may be of another cluster by now.
            identity: self.identity.clone().filter(|_| !self.is_idle()),
            session: Some((self.reign, SessionId(self.instance))),
            read_only: false,
            topology: Vec::new(),
            masters: Vec::new(),
            new_nid: false,
            noted: None,
            is_full: false,
        });
        let packet = Packet::RequestIdentification { identification };
        self.requests.send(conn, Ask::Identification, packet, out);
    }

    /// A master connected, and says who it is.
    pub(super) fn master_comes(
        &mut self,
        now: Now,
        conn: ConnId,
        id: MsgId,
        peer: &Identification,
        out: &mut Out,
    ) {
        if self.is_self(peer) {
            // The list of masters has another name of this one: it will know its own number.
            self.accept_master(conn, id, out);
            return self.disconnect(now, conn, "this is the same master", out);
        }
        let address = match self.admit_master(peer) {
            Ok(address) => address,
            Err(refusal) => return self.refuse_master(now, conn, id, peer, refusal, out),
        };
        let stage = self.links.get(&address).map(|link| link.stage);
        match stage {
            // Both dial: the attempt of the one with the smaller address goes on.
            Some(
                Stage::Dialing { .. }
                | Stage::Identifying {
                    is_dialer: true, ..
                },
            ) if self.own < address => {
                let words = "this master is connecting to you already".to_owned();
                let refusal = (ErrorCode::NotReady, words);
                return self.refuse_master(now, conn, id, peer, refusal, out);
            }
            // The attempt of this one is given up, which is no loss.
            Some(Stage::Identifying {
                conn: old,
                is_dialer: true,
                ..
            }) => {
                self.forget_peer(old);
                self.links.forget_conn(old);
                out.close(old, "the other master is connecting");
            }
            // It would not come again if it knew of the connection.
            Some(Stage::Identifying { conn: old, .. } | Stage::Up { conn: old }) => {
                self.disconnect(now, old, "it has connected again", out);
            }
            _ => {}
        }
        if let Some(Peer::New { deadline }) = self.peers.insert(conn, Peer::Master) {
            self.deadlines.remove(&(deadline, conn));
        }
        let until = now.mono + self.settings.identification_timeout();
        self.links.known(now.mono, &address, peer.nid);
        self.links.identifying(&address, conn, until, false);
        self.accept_master(conn, id, out);
        self.introduce(conn, out);
    }

    /// A master that was dialled, and has accepted this one, says who it is.
    fn master_answers(
        &mut self,
        now: Now,
        conn: ConnId,
        id: MsgId,
        peer: &Identification,
        out: &mut Out,
    ) {
        let Some(dialed) = self.links.at(conn).cloned() else {
            return;
        };
        let address = match self.admit_master(peer) {
            Ok(address) => address,
            Err(refusal) => return self.refuse_master(now, conn, id, peer, refusal, out),
        };
        self.accept_master(conn, id, out);
        if dialed != address {
            tracing::info!(%dialed, master = %address, "a master calls itself by another address");
            let known = self.links.get(&address).map(|link| link.stage);
            self.links.forget_conn(conn);
            self.links.alias(&dialed, &address);
            self.note_masters();
            self.elect(now, ElectionInput::PeerLost(dialed), out);
            if matches!(known, Some(Stage::Up { .. } | Stage::Identifying { .. })) {
                self.forget_peer(conn);
                return out.close(conn, "connected already");
            }
        }
        self.links.known(now.mono, &address, peer.nid);
        self.link_up(now, address, conn, out);
    }

    fn is_self(&self, peer: &Identification) -> bool {
        peer.session
            .is_some_and(|(_, instance)| instance == SessionId(self.instance))
    }

    /// Under which address a master is accepted.
    fn admit_master(&self, peer: &Identification) -> Result<Address, Refusal> {
        if peer.cluster != self.settings.cluster {
            return Err((ErrorCode::OtherCluster, self.other_cluster_words(peer)));
        }
        let Some(address) = &peer.address else {
            let words = "a master must tell where it listens".to_owned();
            return Err((ErrorCode::Protocol, words));
        };
        if *address == self.own {
            let words = format!(
                "{address} is where this master listens: give each master an address of its own \
                 to bind, one that the others can reach"
            );
            return Err((ErrorCode::IdConflict, words));
        }
        if matches!(self.phase, Phase::Ending(_)) {
            return Err((ErrorCode::NotReady, "the cluster is stopping".to_owned()));
        }
        if self.links.get(address).is_none() && self.links.addresses().count() >= MASTERS_MAX {
            let words = format!("{MASTERS_MAX} masters are known, the most there may be");
            return Err((ErrorCode::TooLarge, words));
        }
        if let Some(theirs) = &peer.identity {
            check_identity(theirs).map_err(|words| (ErrorCode::Protocol, words))?;
            if !self.is_idle() && self.kinship(theirs) == Kinship::Stranger {
                return Err((ErrorCode::OtherCluster, self.strange_master_words(theirs)));
            }
        }
        Ok(address.clone())
    }

    fn refuse_master(
        &mut self,
        now: Now,
        conn: ConnId,
        id: MsgId,
        peer: &Identification,
        (code, message): Refusal,
        out: &mut Out,
    ) {
        let who = peer.address.as_ref();
        let is_news = who.is_none_or(|address| self.links.trouble(address, &message));
        if is_news && code != ErrorCode::NotReady {
            tracing::warn!(master = ?who.map(ToString::to_string), words = message, "refused a master");
        }
        let reason = message.clone();
        out.send(conn, id, Packet::Error { code, message });
        self.disconnect(now, conn, &reason, out);
    }

    fn accept_master(&self, conn: ConnId, id: MsgId, out: &mut Out) {
        out.send(
            conn,
            id,
            Packet::AcceptIdentification {
                node_type: NodeType::Master,
                nid: Some(self.nid),
                // Which one it has is told by the primary, with the list of nodes.
                your_nid: self.nid,
                reign: self.reign,
                session: SessionId(self.instance),
                identity: self.identity.clone().filter(|_| !self.is_idle()),
            },
        );
    }

    /// Both have identified themselves.
    fn link_up(&mut self, now: Now, address: Address, conn: ConnId, out: &mut Out) {
        tracing::info!(master = %address, "connected to another master");
        self.links.up(&address, conn);
        self.note_masters();
        if !self.is_idle() {
            self.adopt_master(now, &address, conn, out);
            self.nodes.publish(out);
        }
        self.elect(now, ElectionInput::PeerUp(address), out);
    }

    // --- messages ---

    pub(super) fn master_message(
        &mut self,
        now: Now,
        conn: ConnId,
        id: MsgId,
        packet: Packet,
        out: &mut Out,
    ) {
        let Some(address) = self.links.at(conn).cloned() else {
            return;
        };
        let stage = self.links.get(&address).map(|link| link.stage);
        let is_up = stage == Some(Stage::Up { conn });
        match packet {
            Packet::RequestIdentification { identification }
                if matches!(
                    stage,
                    Some(Stage::Identifying {
                        is_dialer: true,
                        ..
                    })
                ) =>
            {
                self.master_answers(now, conn, id, &identification, out);
            }
            Packet::AcceptIdentification { session, .. }
                if self.requests.answered(conn, id) == Some(Ask::Identification) =>
            {
                if session == SessionId(self.instance) {
                    tracing::info!(%address, "the list of masters has this one by another name");
                    self.forget_peer(conn);
                    self.links.forget_conn(conn);
                    self.links.own_name(address.clone());
                    self.note_masters();
                    out.close(conn, "this is the same master");
                    self.elect(now, ElectionInput::PeerLost(address), out);
                } else if let Some(Stage::Identifying {
                    is_dialer: false, ..
                }) = stage
                {
                    self.link_up(now, address, conn, out);
                }
            }
            Packet::Error {
                code: ErrorCode::NotReady,
                ..
            } if !is_up => {
                // It is there, and dials this one itself: that is no loss.
                self.forget_peer(conn);
                out.close(conn, "the other master is connecting");
                let random = self.random.next();
                self.links.gone(now.mono, &address, random);
            }
            Packet::Error { code, message } => {
                let words = format!("{code}: {}", shown(&message));
                if self.links.trouble(&address, &words) {
                    tracing::warn!(master = %address, words, "another master refuses this one");
                }
                self.disconnect(now, conn, "refused by the other master", out);
            }
            Packet::ElectionMessage { message } if is_up => {
                let from = address;
                self.elect(now, ElectionInput::Message { from, message }, out);
            }
            Packet::NotifyNodeInformation { full, nodes } if is_up => {
                self.told_nodes(&address, full, nodes, out);
            }
            Packet::NotifyClusterInformation { state, .. } if is_up => {
                if let Some(link) = self.links.get_mut(&address) {
                    link.state = Some(state);
                }
                self.heed_primary(out);
            }
            other => {
                let words = format!("unexpected {} from a master", other.name());
                self.violation(now, conn, id, &words, out);
            }
        }
    }

    /// Says something to the election of another master.
    pub(super) fn say(&self, to: &Address, message: bytes::Bytes, out: &mut Out) {
        if message.len() > ELECTION_MESSAGE_BYTES_MAX {
            tracing::error!(%to, bytes = message.len(), "a message of the election is too long: not sent");
        } else if let Some(conn) = self.links.conn(to) {
            out.notify(conn, Packet::ElectionMessage { message });
        }
    }
}
