//! Loads of threads that block: each asks a storage node over a connection that is its own for the
//! time, and waits on it. Nobody has to be woken up for an answer but who waits for it.
//!
//! Only what is easy is done here: a load of what is committed for sure, from a node that answers
//! at once. All else goes to the driver, who finds another replica, and knows what to do about slow
//! nodes, damage, and masters that are gone.

mod conn;

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::time::{Duration, Instant};

use neo_api::{At, Loaded, NodeId, Oid, Revision, Tid};
use neo_proto::Packet;

use crate::core::{Routes, Validity, check_loaded};
use crate::shell::Shared;
use conn::Conn;

/// Connections to a node that wait for their next use.
const IDLE_MAX: usize = 64;
/// How long one waits.
const IDLE_TIME: Duration = Duration::from_secs(60);
/// Nodes want to hear something within 10 s.
const BEAT: Duration = Duration::from_secs(2);
/// How long a node is left to the driver after it could not be asked.
const AVOIDED: Duration = Duration::from_secs(1);

/// The connections, and what is needed to use them.
#[derive(Debug)]
pub(crate) struct Direct {
    shared: Arc<Shared>,
    nodes: Mutex<BTreeMap<NodeId, Node>>,
    /// Readers spread over replicas.
    turn: AtomicUsize,
}

#[derive(Debug, Default)]
struct Node {
    idle: Vec<Conn>,
    avoided_until: Option<Instant>,
}

impl Direct {
    pub(crate) fn new(shared: Arc<Shared>) -> Arc<Self> {
        Arc::new(Self {
            shared,
            nodes: Mutex::default(),
            turn: AtomicUsize::new(0),
        })
    }

    fn nodes(&self) -> MutexGuard<'_, BTreeMap<NodeId, Node>> {
        self.nodes.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Closes the connections.
    pub(crate) fn clear(&self) {
        drop(std::mem::take(&mut *self.nodes()));
    }

    /// What is stored of an object; `None`: the driver is to be asked.
    pub(crate) fn load(&self, oid: Oid, at: At) -> Option<Loaded> {
        // Before the last tid: what changes after this is not told by the answer, perhaps. And before
        // the routes: a node that is not readable any more does not know what is committed without it.
        let changes = self.shared.changes();
        let routes = self.shared.routes()?;
        let last_tid = self.shared.last_tid();
        let is_committed = match at {
            At::Latest => false,
            At::Before(before) => before.0 <= last_tid.0.saturating_add(1),
            At::Exact(serial) => serial <= last_tid,
        };
        // What is prefetched is on its way already.
        if !is_committed || self.shared.is_expected(oid) {
            return None;
        }
        let nid = self.choose(&routes, oid)?;
        let mut conn = self.take(&routes, nid)?;
        match conn.ask(&Packet::AskObject { oid, at }) {
            Ok((Packet::AnswerObject { oid: of, answer }, payload)) if of == oid => {
                self.put(&routes, nid, conn);
                let loaded = check_loaded(at, answer, payload).ok()??;
                self.learn(oid, at, &loaded, changes);
                Some(loaded)
            }
            // Not readable there any more, perhaps.
            Ok((Packet::Error { .. }, _)) => {
                self.put(&routes, nid, conn);
                None
            }
            Ok(_) | Err(_) => {
                self.avoid(nid);
                None
            }
        }
    }

    fn learn(&self, oid: Oid, at: At, loaded: &Loaded, changes: u64) {
        let (Loaded::Found(Revision { next_serial, .. }) | Loaded::Deleted { next_serial, .. }) =
            loaded
        else {
            return;
        };
        let validity = |is_unchanged| match (next_serial, at) {
            (Some(next), _) => Validity::Until(*next),
            (None, _) if is_unchanged => Validity::Current,
            (None, At::Before(before)) => Validity::AtLeast(before),
            (None, At::Exact(_) | At::Latest) => Validity::AtLeast(Tid::ZERO),
        };
        let shared = &self.shared;
        shared
            .cache
            .insert_loaded(oid, loaded, || validity(shared.changes() == changes));
    }

    fn choose(&self, routes: &Routes, oid: Oid) -> Option<NodeId> {
        let readable = routes.readable(oid);
        let turn = self.turn.fetch_add(1, Ordering::Relaxed);
        let nodes = self.nodes();
        let is_avoided = |nid: &NodeId| {
            let until = nodes.get(nid).and_then(|node| node.avoided_until);
            until.is_some_and(|until| Instant::now() < until)
        };
        (0..readable.len())
            .map(|n| readable[(turn + n) % readable.len()])
            .find(|nid| !is_avoided(nid))
    }

    fn take(&self, routes: &Routes, nid: NodeId) -> Option<Conn> {
        let idle = {
            let mut nodes = self.nodes();
            let node = nodes.entry(nid).or_default();
            node.idle.retain(|conn| conn.session() == routes.session());
            node.idle.pop()
        };
        if idle.is_some() {
            return idle;
        }
        let opened = Conn::open(routes.address(nid)?, &routes.identification);
        opened
            .inspect_err(|error| {
                tracing::debug!(%nid, %error, "no connection for loads");
                self.avoid(nid);
            })
            .ok()
    }

    fn put(&self, routes: &Routes, nid: NodeId, conn: Conn) {
        let mut nodes = self.nodes();
        let node = nodes.entry(nid).or_default();
        if node.idle.len() < IDLE_MAX && conn.session() == routes.session() {
            node.idle.push(conn);
        }
    }

    fn avoid(&self, nid: NodeId) {
        let mut nodes = self.nodes();
        nodes.entry(nid).or_default().avoided_until = Some(Instant::now() + AVOIDED);
    }

    /// Keeps idle connections alive, and closes those that are not used any more, until the client
    /// is gone.
    pub(crate) async fn keep(this: Weak<Self>) {
        loop {
            tokio::time::sleep(BEAT).await;
            let Some(direct) = this.upgrade() else { return };
            let all: Vec<NodeId> = direct.nodes().keys().copied().collect();
            for nid in all {
                let idle = direct
                    .nodes()
                    .get_mut(&nid)
                    .map(|node| std::mem::take(&mut node.idle));
                for mut conn in idle.into_iter().flatten() {
                    if conn.beat(IDLE_TIME).is_ok()
                        && let Some(node) = direct.nodes().get_mut(&nid)
                    {
                        node.idle.push(conn);
                    }
                }
            }
        }
    }
}
