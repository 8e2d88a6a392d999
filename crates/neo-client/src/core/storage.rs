//! Connections to storage nodes, made when they are needed.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::time::Duration;

use bytes::Bytes;
use neo_api::{Instant, NodeId, NodeState, NodeType, SessionId};
use neo_proto::{ConnId, ConnectToken, Effect, ErrorCode, Message, MsgId, NodeInfo, Packet};

use super::read::Slow;
use super::timer::{TimerId, Timers};
use super::{ClientCore, Failure, Req, Sent, Timer, Todo, backoff};

/// How often a connection is tried before a write gives the node up: to give it up costs the
/// cluster a replica.
const ATTEMPTS_MAX: u32 = 3;

/// A node whose machine is gone refuses nothing: an attempt is given up after so long, which doubles
/// from attempt to attempt, since the way to it may only be slow.
const CONNECT_MIN: Duration = Duration::from_secs(1);

#[derive(Debug)]
enum State {
    Idle,
    Connecting {
        token: ConnectToken,
        /// When it has taken too long.
        timer: TimerId,
    },
    Identifying(ConnId),
    Up(ConnId),
    /// Between two attempts.
    Pause(TimerId),
}

#[derive(Debug)]
pub(super) struct StorageLink {
    state: State,
    attempts: u32,
    /// Of the node, when the connection was made.
    session: Option<SessionId>,
    pub(super) failed_at: Option<Instant>,
    /// That it lets reads wait.
    pub(super) slow: Option<Slow>,
    queue: VecDeque<Message>,
}

impl StorageLink {
    const fn new() -> Self {
        Self {
            state: State::Idle,
            attempts: 0,
            session: None,
            failed_at: None,
            slow: None,
            queue: VecDeque::new(),
        }
    }

    pub(super) const fn conn(&self) -> Option<ConnId> {
        match self.state {
            State::Up(conn) => Some(conn),
            _ => None,
        }
    }

    pub(super) fn cancel_timers(&self, timers: &mut Timers<Timer>) {
        if let State::Pause(timer) | State::Connecting { timer, .. } = self.state {
            timers.cancel(timer);
        }
    }
}

impl ClientCore {
    /// The connection to a node, if it is up.
    pub(super) fn storage_conn(&self, nid: NodeId) -> Option<ConnId> {
        self.storages.get(&nid).and_then(StorageLink::conn)
    }

    /// Asks a node, over a connection that is made if need be.
    pub(super) fn ask_storage(
        &mut self,
        nid: NodeId,
        req: Req,
        packet: Packet,
        payload: Bytes,
    ) -> MsgId {
        let id = self.msg_id();
        let message = Message::with_payload(id, packet, payload);
        let conn = self.storage_conn(nid);
        let sent = Sent {
            nid: Some(nid),
            conn,
            req,
        };
        self.requests.insert(id, sent);
        if let Some(conn) = conn {
            self.out.push(Effect::Send { conn, message });
        } else {
            let link = self.storages.entry(nid).or_insert_with(StorageLink::new);
            link.queue.push_back(message);
            if matches!(link.state, State::Idle) {
                self.storage_connect(nid);
            }
        }
        id
    }

    /// Takes back requests that are of no use any more; their answers are ignored.
    pub(super) fn cancel_requests(&mut self, ids: &[MsgId]) {
        let mut by_conn: BTreeMap<ConnId, Vec<MsgId>> = BTreeMap::new();
        let mut queued: BTreeSet<NodeId> = BTreeSet::new();
        for id in ids {
            let Some(sent) = self.requests.remove(id) else {
                continue;
            };
            match (sent.conn, sent.nid) {
                (Some(conn), _) => by_conn.entry(conn).or_default().push(*id),
                (None, Some(nid)) => {
                    queued.insert(nid);
                }
                (None, None) => {}
            }
        }
        for nid in queued {
            if let Some(link) = self.storages.get_mut(&nid) {
                let requests = &self.requests;
                link.queue
                    .retain(|message| requests.contains_key(&message.id));
            }
        }
        for (conn, ids) in by_conn {
            self.out.push(Effect::Cancel { conn, ids });
        }
    }

    fn storage_connect(&mut self, nid: NodeId) {
        let node = self.nodes.get(&nid);
        let running = node.filter(|node| node.state == NodeState::Running);
        let Some((address, session)) = running.and_then(|n| Some((n.address.clone()?, n.session)))
        else {
            self.storage_unreachable(nid, "it is not running", true);
            return;
        };
        let token = self.token();
        let link = self.storages.entry(nid).or_insert_with(StorageLink::new);
        let patience = CONNECT_MIN.saturating_mul(1 << link.attempts.min(ATTEMPTS_MAX));
        let at = self.now.mono + patience;
        let timer = self.timers.set(at, Timer::StorageConnect(token));
        link.state = State::Connecting { token, timer };
        link.session = session;
        self.out.push(Effect::Connect { token, to: address });
    }

    pub(super) fn storage_retry(&mut self, nid: NodeId) {
        if let Some(link) = self.storages.get_mut(&nid)
            && matches!(link.state, State::Pause(_))
        {
            link.state = State::Idle;
            if !link.queue.is_empty() {
                self.storage_connect(nid);
            }
        }
    }

    fn connecting(&self, token: ConnectToken) -> Option<NodeId> {
        let mut links = self.storages.iter();
        links
            .find(
                |(_, link)| matches!(link.state, State::Connecting { token: t, .. } if t == token),
            )
            .map(|(nid, _)| *nid)
    }

    pub(super) fn storage_connected(&mut self, token: ConnectToken, conn: ConnId) {
        let (Some(nid), Some(session)) = (self.connecting(token), self.master.session()) else {
            self.out.close(conn, "not needed any more");
            return;
        };
        if let Some(link) = self.storages.get_mut(&nid) {
            link.cancel_timers(&mut self.timers);
            link.state = State::Identifying(conn);
        }
        self.storage_conns.insert(conn, nid);
        let id = self.msg_id();
        let sent = Sent {
            nid: Some(nid),
            conn: Some(conn),
            req: Req::StorageIdentification,
        };
        self.requests.insert(id, sent);
        let identification = self.identify(Some(session));
        self.out.send(conn, id, identification);
    }

    pub(super) fn storage_connect_failed(&mut self, token: ConnectToken, error: &str) {
        if let Some(nid) = self.connecting(token) {
            self.storage_unreachable(nid, &format!("can't connect: {error}"), false);
        }
    }

    /// An attempt that came to nothing, if it still goes on.
    pub(super) fn storage_connect_slow(&mut self, token: ConnectToken) {
        if let Some(nid) = self.connecting(token) {
            self.storage_unreachable(nid, "it does not answer", false);
        }
    }

    pub(super) fn storage_identified(&mut self, conn: ConnId, sent: Sent, packet: Packet) {
        let Some(nid) = sent.nid else {
            return;
        };
        let refusal = match packet {
            Packet::AcceptIdentification {
                node_type: NodeType::Storage,
                nid: Some(other),
                identity,
                ..
            } => {
                let same_cluster = identity.is_none_or(|identity| {
                    self.master
                        .identity()
                        .is_none_or(|known| known.id == identity.id)
                });
                if other != nid {
                    format!("it is {other}")
                } else if !same_cluster {
                    "it is of another cluster".to_owned()
                } else {
                    self.storage_up(nid, conn);
                    return;
                }
            }
            Packet::Error { message, .. } => message,
            packet => format!("{} is no answer to an identification", packet.name()),
        };
        self.storage_conns.remove(&conn);
        self.out.close(conn, refusal.clone());
        self.storage_unreachable(nid, &refusal, false);
    }

    fn storage_up(&mut self, nid: NodeId, conn: ConnId) {
        let Some(link) = self.storages.get_mut(&nid) else {
            return;
        };
        link.state = State::Up(conn);
        link.attempts = 0;
        link.failed_at = None;
        link.slow = None;
        for message in std::mem::take(&mut link.queue) {
            if let Some(sent) = self.requests.get_mut(&message.id) {
                sent.conn = Some(conn);
                if let Req::Store { txn, .. } | Req::Relock { txn, .. } | Req::Vote { txn, .. } =
                    sent.req
                    && let Some(txn) = self.txns.get_mut(&txn)
                {
                    txn.sent_over(nid, conn);
                }
                self.out.push(Effect::Send { conn, message });
            }
        }
    }

    /// An attempt failed. Reads go elsewhere at once; writes wait for a few more attempts, unless
    /// the primary does not count on the node either.
    fn storage_unreachable(&mut self, nid: NodeId, reason: &str, for_good: bool) {
        tracing::debug!(%nid, %reason, "a storage node can't be reached");
        let now = self.now.mono;
        let Some(link) = self.storages.get_mut(&nid) else {
            return;
        };
        link.cancel_timers(&mut self.timers);
        link.failed_at = Some(now);
        link.attempts += 1;
        let give_up = for_good || link.attempts >= ATTEMPTS_MAX;
        let mut queue = std::mem::take(&mut link.queue);
        let requests = &mut self.requests;
        let todo = &mut self.todo;
        queue.retain(|message| {
            let Some(sent) = requests.get(&message.id).copied() else {
                return false;
            };
            let keep =
                !give_up && !matches!(sent.req, Req::Read(_) | Req::Loads | Req::FinalTid(_));
            if !keep {
                requests.remove(&message.id);
                let failure = Failure {
                    code: Some(ErrorCode::NotReady),
                    message: reason.to_owned(),
                };
                todo.push_back(Todo::Failed(sent, message.id, failure));
            }
            keep
        });
        let pause = backoff(link.attempts);
        if give_up {
            link.attempts = 0;
        }
        link.queue = queue;
        if link.queue.is_empty() {
            link.state = State::Idle;
        } else {
            let timer = self.timers.set(now + pause, Timer::StorageRetry(nid));
            link.state = State::Pause(timer);
        }
    }

    /// A connection ended: whatever was asked over it has failed.
    pub(super) fn storage_lost(&mut self, nid: NodeId, conn: ConnId, reason: &str) {
        tracing::info!(%nid, %reason, "lost a storage node");
        let now = self.now.mono;
        let mut identifying = false;
        if let Some(link) = self.storages.get_mut(&nid) {
            identifying = matches!(link.state, State::Identifying(_));
            link.failed_at = Some(now);
            if !identifying {
                link.state = State::Idle;
            }
        }
        let ids: Vec<MsgId> = self
            .requests
            .iter()
            .filter(|(_, sent)| sent.conn == Some(conn))
            .map(|(id, _)| *id)
            .collect();
        for id in ids {
            if let Some(sent) = self.requests.remove(&id)
                && sent.req != Req::StorageIdentification
            {
                let failure = Failure::lost(format!("the connection was lost: {reason}"));
                self.todo.push_back(Todo::Failed(sent, id, failure));
            }
        }
        if identifying {
            self.storage_unreachable(nid, reason, false);
        }
        self.txns_lost_node(nid, conn, reason);
    }

    /// The primary's list changed: nodes that it does not count on, or that started anew, are not
    /// waited for.
    pub(super) fn storages_changed(&mut self, before: &BTreeMap<NodeId, NodeInfo>) {
        let links: Vec<NodeId> = self.storages.keys().copied().collect();
        for nid in links {
            let running = self.is_running(nid);
            let same = match (before.get(&nid), self.nodes.get(&nid)) {
                (Some(old), Some(new)) => old.session == new.session,
                _ => false,
            };
            if running && same {
                continue;
            }
            let reason = if running {
                "it has started anew"
            } else {
                "the primary master says that it is not running"
            };
            self.storage_dropped(nid, reason);
        }
    }

    fn storage_dropped(&mut self, nid: NodeId, reason: &str) {
        let Some(link) = self.storages.get_mut(&nid) else {
            return;
        };
        match link.state {
            State::Up(conn) | State::Identifying(conn) => {
                self.out.close(conn, reason);
                self.storage_conns.remove(&conn);
                self.storage_lost(nid, conn, reason);
            }
            State::Pause(_) | State::Connecting { .. } | State::Idle => {}
        }
        self.storage_unreachable(nid, reason, true);
    }

    pub(super) fn notification_of_storage(
        &mut self,
        conn: ConnId,
        nid: NodeId,
        id: MsgId,
        packet: Packet,
    ) {
        match packet {
            Packet::NotifyDeadlock { txn, oid } => self.deadlock(conn, nid, txn, oid),
            Packet::NotifyDelayed { request, holder } => self.delayed(request, holder),
            packet => {
                let name = packet.name();
                if id != MsgId(0) {
                    let code = ErrorCode::Protocol;
                    let message = format!("{name} is not for a client");
                    self.out.send(conn, id, Packet::Error { code, message });
                }
                self.protocol_violation(conn, format!("{name} is not for a client"));
            }
        }
    }
}
