//! The way to the primary master: which master to try next, and when.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::time::Duration;

use neo_api::{Address, Instant, NodeId};
use neo_proto::{ConnId, ConnectToken, MsgId};

/// First pause between rounds of attempts: a fresh cluster is not kept waiting.
const PAUSE_MIN: Duration = Duration::from_millis(5);

/// Longest pause between rounds of attempts.
const PAUSE_MAX: Duration = Duration::from_secs(1);

/// A primary that is lost sooner than this did not end the trouble: pauses go on growing.
const STABLE: Duration = Duration::from_secs(1);

/// A master that hangs, or whose machine is gone, is left for the next one after so long, and more
/// when pauses are longer.
const DIAL_MIN: Duration = Duration::from_millis(300);

/// Most masters that are remembered, given and heard of.
const MASTERS_MAX: usize = 64;

/// Where the link is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Stage {
    /// Until then, nothing.
    Pausing(Instant),
    /// The attempt is on its way.
    Connecting(ConnectToken),
    /// Connected; the request for identification is not answered.
    Identifying(ConnId, MsgId),
    /// This is the primary.
    Up {
        /// The connection.
        conn: ConnId,
        /// The primary's id.
        primary: Option<NodeId>,
        /// Since when.
        since: Instant,
    },
}

/// Tries the masters in turn; a pause, which doubles, after each round.
#[derive(Debug)]
pub(super) struct Link {
    masters: Vec<Address>,
    /// The one to try next.
    next: usize,
    /// How many were tried since the last pause.
    tried: usize,
    pause: Duration,
    tokens: u64,
    stage: Stage,
    /// When the attempt that is on its way is given up for the next master.
    dial_until: Instant,
    /// How it went with the masters that were tried since there was a primary.
    found: BTreeMap<Address, String>,
}

impl Link {
    /// A link that has not tried anything yet.
    pub(super) fn new(masters: Vec<Address>) -> Self {
        Self {
            masters,
            next: 0,
            tried: 0,
            pause: PAUSE_MIN,
            tokens: 0,
            stage: Stage::Pausing(Instant(0)),
            dial_until: Instant(0),
            found: BTreeMap::new(),
        }
    }

    pub(super) fn stage(&self) -> Stage {
        self.stage
    }

    /// The connection to the primary, once it is.
    pub(super) fn up(&self) -> Option<ConnId> {
        match self.stage {
            Stage::Up { conn, .. } => Some(conn),
            _ => None,
        }
    }

    /// The connection to a master, primary or not.
    pub(super) fn conn(&self) -> Option<ConnId> {
        match self.stage {
            Stage::Up { conn, .. } | Stage::Identifying(conn, _) => Some(conn),
            _ => None,
        }
    }

    /// The master that was tried last.
    pub(super) fn master(&self) -> &Address {
        &self.masters[self.next]
    }

    pub(super) fn poll_timeout(&self) -> Option<Instant> {
        match self.stage {
            Stage::Pausing(until) => Some(until),
            Stage::Connecting(_) if self.masters.len() > 1 => Some(self.dial_until),
            _ => None,
        }
    }

    /// Whom to connect to, if it is time to.
    pub(super) fn connect(&mut self, now: Instant) -> Option<(ConnectToken, Address)> {
        if matches!(self.stage, Stage::Connecting(_))
            && self.masters.len() > 1
            && now >= self.dial_until
        {
            // It may come yet, and is not waited for.
            self.lost(now, "it does not answer");
        }
        if !matches!(self.stage, Stage::Pausing(until) if now >= until) {
            return None;
        }
        self.tokens += 1;
        self.dial_until = now + DIAL_MIN + self.pause * 5;
        let token = ConnectToken(self.tokens);
        self.stage = Stage::Connecting(token);
        Some((token, self.master().clone()))
    }

    /// The attempt succeeded, and identification is asked for; `false`: no such attempt.
    pub(super) fn connected(&mut self, token: ConnectToken, conn: ConnId, id: MsgId) -> bool {
        let expected = self.stage == Stage::Connecting(token);
        if expected {
            self.stage = Stage::Identifying(conn, id);
        }
        expected
    }

    /// The peer is the primary.
    pub(super) fn identified(&mut self, now: Instant, conn: ConnId, primary: Option<NodeId>) {
        self.found.clear();
        self.stage = Stage::Up {
            conn,
            primary,
            since: now,
        };
    }

    /// This master is no way to the primary, or not any more, for this reason: on to the next.
    pub(super) fn lost(&mut self, now: Instant, why: &str) {
        self.note_found(why.to_owned());
        if let Stage::Up { since, .. } = self.stage
            && now.since(since) >= STABLE
        {
            self.pause = PAUSE_MIN;
            self.tried = 0;
        }
        self.tried += 1;
        self.next = (self.next + 1) % self.masters.len();
        self.stage = Stage::Pausing(if self.tried < self.masters.len() {
            now
        } else {
            self.pausing_until(now)
        });
    }

    /// The masters that are known.
    pub(super) fn masters(&self) -> &[Address] {
        &self.masters
    }

    /// There are these masters.
    pub(super) fn learn<'a>(&mut self, masters: impl IntoIterator<Item = &'a Address>) {
        for master in masters {
            if !self.masters.contains(master) && self.masters.len() < MASTERS_MAX {
                self.masters.push(master.clone());
            }
        }
    }

    /// A secondary told who the primary is, and which masters there are.
    ///
    /// There is a pause also before a primary that is named: two masters that name each other
    /// would be asked in a busy loop.
    pub(super) fn redirected(
        &mut self,
        now: Instant,
        primary: Option<Address>,
        others: Vec<Address>,
    ) {
        self.note_found(match &primary {
            Some(primary) => format!("it follows the master at {primary}"),
            None => "it knows no primary master".to_owned(),
        });
        self.learn(primary.iter().chain(&others));
        let named = primary.and_then(|primary| self.masters.iter().position(|m| *m == primary));
        self.next = named.unwrap_or((self.next + 1) % self.masters.len());
        self.stage = Stage::Pausing(self.pausing_until(now));
    }

    fn note_found(&mut self, how: String) {
        self.found.insert(self.master().clone(), how);
    }

    /// Why there is no primary, for the operator: which masters were tried, and how it went.
    pub(super) fn no_primary(&self) -> String {
        let mut words = "not connected to a primary master".to_owned();
        for (n, (master, how)) in self.found.iter().enumerate() {
            let sign = if n == 0 { ":" } else { ";" };
            let _ = write!(words, "{sign} {master}: {how}");
        }
        words
    }

    fn pausing_until(&mut self, now: Instant) -> Instant {
        let until = now + self.pause;
        self.pause = (self.pause * 2).min(PAUSE_MAX);
        self.tried = 0;
        until
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(millis: u64) -> Instant {
        Instant(millis * 1_000_000)
    }

    fn master(n: u16) -> Address {
        Address::new("m", n)
    }

    #[test]
    fn masters_are_tried_in_turn_with_a_growing_pause_after_each_round() {
        let mut link = Link::new(vec![master(1), master(2)]);
        let mut tried = Vec::new();
        let mut now = at(0);
        for _ in 0..6 {
            now = now.max(link.poll_timeout().unwrap());
            let (_, to) = link.connect(now).unwrap();
            assert_eq!(link.connect(now), None);
            tried.push((to.port(), now.0 / 1_000_000));
            link.lost(now, "gone");
        }
        assert_eq!(tried, [(1, 0), (2, 0), (1, 5), (2, 5), (1, 15), (2, 15)]);
        for _ in 0..100 {
            now = now.max(link.poll_timeout().unwrap());
            link.connect(now).unwrap();
            link.lost(now, "gone");
        }
        assert!(link.poll_timeout().unwrap().since(now) <= PAUSE_MAX);
    }

    #[test]
    fn masters_that_name_each_other_are_not_asked_in_a_busy_loop() {
        let mut link = Link::new(vec![master(1)]);
        let mut now = at(0);
        let mut ports = Vec::new();
        while now < at(1000) {
            now = now.max(link.poll_timeout().unwrap());
            let (token, to) = link.connect(now).unwrap();
            assert!(link.connected(token, ConnId(1), MsgId(1)));
            ports.push(to.port());
            let other = master(3 - to.port());
            link.redirected(now, Some(other.clone()), vec![to, other]);
        }
        assert_eq!(&ports[..4], [1, 2, 1, 2]);
        assert!(ports.len() < 12, "{}", ports.len());
    }

    #[test]
    fn a_primary_that_lasted_is_looked_for_at_once() {
        let mut link = Link::new(vec![master(1)]);
        for n in 0..8 {
            let now = link.poll_timeout().unwrap().max(at(n));
            link.connect(now).unwrap();
            link.lost(now, "gone");
        }
        let now = link.poll_timeout().unwrap();
        link.connect(now).unwrap();
        link.identified(now, ConnId(1), None);
        link.lost(now + STABLE, "gone");
        assert_eq!(link.poll_timeout(), Some(now + STABLE + PAUSE_MIN));
        // An answer to an attempt that was given up means nothing.
        assert!(!link.connected(ConnectToken(1), ConnId(2), MsgId(1)));
    }
}
