//! The node that a replica copies from: which one, and the connection to it.
//!
//! Any node with a readable cell will do. One is taken at random, so that several replicas do not
//! all ask the same; one that failed is left alone for a while, ever longer.

use std::collections::BTreeMap;
use std::time::Duration;

use neo_api::{Address, Instant, NodeId};
use neo_proto::{ConnId, ConnectToken, MsgId};

/// The first pause after a failure; it doubles.
const PAUSE_MIN: Duration = Duration::from_millis(50);
/// The longest one.
const PAUSE_MAX: Duration = Duration::from_secs(5);
/// Attempts to connect to a source have names from here on; those to masters are below.
const TOKENS: u64 = 1 << 63;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    None,
    Connecting {
        token: ConnectToken,
        until: Instant,
    },
    Identifying {
        conn: ConnId,
        id: MsgId,
        until: Instant,
    },
    Up {
        conn: ConnId,
    },
}

/// A node that failed.
#[derive(Debug, Clone, Copy)]
struct Failure {
    until: Instant,
    pause: Duration,
}

/// The source, and those that failed.
#[derive(Debug)]
pub(super) struct Source {
    nid: Option<NodeId>,
    state: State,
    failures: BTreeMap<NodeId, Failure>,
    random: u64,
    last_token: u64,
    last_id: u64,
}

impl Source {
    pub(super) const fn new(seed: u64) -> Self {
        Self {
            nid: None,
            state: State::None,
            failures: BTreeMap::new(),
            // An xorshift generator must not start at 0.
            random: seed | 1,
            last_token: TOKENS,
            last_id: 0,
        }
    }

    /// Takes one of these nodes: the one that is connected already, or one at random.
    ///
    /// # Errors
    /// When all have failed lately: the moment from which on one may be tried again; `None` when
    /// there is none at all.
    pub(super) fn choose(
        &mut self,
        now: Instant,
        candidates: &[NodeId],
    ) -> Result<NodeId, Option<Instant>> {
        if let Some(nid) = self.nid.filter(|nid| candidates.contains(nid)) {
            return Ok(nid);
        }
        let until = |nid: &NodeId| self.failures.get(nid).map(|failure| failure.until);
        let well = candidates.iter().filter(|nid| until(nid).is_none());
        let mut well: Vec<NodeId> = well.copied().collect();
        if well.is_empty() {
            // The one that failed longest ago.
            let first = candidates.iter().min_by_key(|nid| until(nid));
            let first = *first.ok_or(None)?;
            match until(&first) {
                Some(at) if at > now => return Err(Some(at)),
                _ => well.push(first),
            }
        }
        Ok(well[self.random() as usize % well.len()])
    }

    /// Which node it is.
    pub(super) const fn nid(&self) -> Option<NodeId> {
        self.nid
    }

    /// The connection, identified or not.
    pub(super) const fn conn(&self) -> Option<ConnId> {
        match self.state {
            State::Identifying { conn, .. } | State::Up { conn } => Some(conn),
            _ => None,
        }
    }

    /// The connection that takes requests.
    pub(super) const fn up(&self) -> Option<ConnId> {
        match self.state {
            State::Up { conn } => Some(conn),
            _ => None,
        }
    }

    /// A new id of a request.
    pub(super) const fn next_id(&mut self) -> MsgId {
        self.last_id += 1;
        MsgId(self.last_id)
    }

    /// Starts to connect to a node.
    pub(super) fn connect(
        &mut self,
        nid: NodeId,
        to: &Address,
        until: Instant,
    ) -> (ConnectToken, Address) {
        self.last_token += 1;
        let token = ConnectToken(self.last_token);
        self.nid = Some(nid);
        self.state = State::Connecting { token, until };
        (token, to.clone())
    }

    /// The node is reached: says with which request to identify.
    pub(super) fn connected(
        &mut self,
        token: ConnectToken,
        conn: ConnId,
        until: Instant,
    ) -> Option<MsgId> {
        if !self.is_connecting(token) {
            return None;
        }
        let id = self.next_id();
        self.state = State::Identifying { conn, id, until };
        Some(id)
    }

    /// Whether this is the attempt that goes on.
    pub(super) fn is_connecting(&self, token: ConnectToken) -> bool {
        matches!(self.state, State::Connecting { token: wanted, .. } if wanted == token)
    }

    /// The request for identification that waits for its answer.
    pub(super) const fn identifying(&self) -> Option<MsgId> {
        match self.state {
            State::Identifying { id, .. } => Some(id),
            _ => None,
        }
    }

    /// The node accepted this one.
    pub(super) const fn accepted(&mut self) {
        if let State::Identifying { conn, .. } = self.state {
            self.state = State::Up { conn };
        }
    }

    /// When the connection, or the identification, has taken too long: a machine that is gone
    /// refuses nothing.
    pub(super) const fn deadline(&self) -> Option<Instant> {
        match self.state {
            State::Connecting { until, .. } | State::Identifying { until, .. } => Some(until),
            _ => None,
        }
    }

    /// The source sent something of use.
    pub(super) fn served(&mut self) {
        if let Some(nid) = self.nid {
            self.failures.remove(&nid);
        }
    }

    /// The source failed: names the connection to close.
    pub(super) fn failed(&mut self, now: Instant) -> Option<ConnId> {
        let conn = self.conn();
        if let Some(nid) = self.nid {
            let before = self.failures.get(&nid).map(|failure| failure.pause);
            let pause = before.map_or(PAUSE_MIN, |pause| (pause * 2).min(PAUSE_MAX));
            // Up to a quarter more, so that replicas that lost a source do not come back together.
            let more = pause / 4 * (self.random() % 256) as u32 / 256;
            let until = now + pause + more;
            self.failures.insert(nid, Failure { until, pause });
        }
        self.nid = None;
        self.state = State::None;
        conn
    }

    /// The source is not needed any more: names the connection to close.
    pub(super) const fn leave(&mut self) -> Option<ConnId> {
        let conn = self.conn();
        self.nid = None;
        self.state = State::None;
        conn
    }

    /// The connection is gone already.
    pub(super) const fn lost(&mut self) {
        self.state = State::None;
    }

    /// Chance: 64 bits.
    pub(super) const fn random(&mut self) -> u64 {
        self.random ^= self.random << 13;
        self.random ^= self.random >> 7;
        self.random ^= self.random << 17;
        self.random
    }
}

/// Whether an attempt to connect is one to reach a source.
pub(crate) const fn is_source(token: ConnectToken) -> bool {
    token.0 > TOKENS
}

#[cfg(test)]
mod tests {
    use neo_api::NodeType;

    use super::*;

    fn nid(n: u32) -> NodeId {
        NodeId::new(NodeType::Storage, n).unwrap()
    }

    #[test]
    fn nodes_that_failed_come_last_and_not_at_once() {
        let mut source = Source::new(7);
        let all = [nid(1), nid(2)];
        let first = source.choose(Instant(0), &all).unwrap();
        let address = Address::new("s", 1);
        let until = Instant(9);
        source.connect(first, &address, until);
        assert_eq!(source.choose(Instant(0), &all), Ok(first));
        source.failed(Instant(0));
        let second = source.choose(Instant(0), &all).unwrap();
        assert_ne!(second, first);
        source.connect(second, &address, until);
        source.failed(Instant(1));
        let at = source.choose(Instant(2), &all).unwrap_err().unwrap();
        assert!(at >= Instant(0) + PAUSE_MIN);
        assert_eq!(source.choose(at, &all), Ok(first));
        assert_eq!(source.choose(at, &[]), Err(None));
        // Again, and it waits longer.
        source.connect(first, &address, until);
        source.failed(at);
        assert_eq!(
            source
                .choose(at + PAUSE_MIN, &[first])
                .unwrap_err()
                .map(|at| at.0 > 0),
            Some(true)
        );
    }

    #[test]
    fn any_source_may_be_the_one() {
        let mut source = Source::new(9);
        let all = [nid(1), nid(2), nid(3)];
        let mut seen = std::collections::BTreeSet::new();
        for _ in 0..50 {
            seen.extend(source.choose(Instant(0), &all));
        }
        assert_eq!(seen.len(), 3);
    }
}
