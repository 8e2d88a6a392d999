//! The link to the primary: which master to ask next, and when.

use std::time::Duration;

use neo_api::{Address, Instant};
use neo_proto::{ConnId, ConnectToken, MsgId};

/// Most masters that are remembered.
const MASTERS_MAX: usize = 100;

/// A master that hangs, or whose machine is gone, is left for the next one after so long, which
/// doubles from round to round: the way to it may only be slow.
const DIAL_MIN: Duration = Duration::from_millis(300);
const DIAL_MAX: Duration = Duration::from_secs(60);

/// Where the search stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    /// The next attempt is due then.
    Idle {
        at: Instant,
    },
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
        since: Instant,
    },
}

/// The search for the primary, one attempt at a time. Each round through the masters is followed by
/// a pause, which doubles from round to round until a primary accepts this node. It doubles too with
/// each acceptance that does not last: who is let in and sent away again must not come back hundreds
/// of times a second.
#[derive(Debug)]
pub(crate) struct MasterLink {
    masters: Vec<Address>,
    state: State,
    /// How many were tried in this round.
    tried: usize,
    /// The one to try next.
    next: usize,
    /// The one that was tried last: when it is up, the primary.
    last: Option<Address>,
    /// A secondary named it; followed once a round, as two could name each other for ever.
    hint: Option<Address>,
    hinted: bool,
    rounds: u32,
    /// Acceptances in a row that lasted less than the longest pause.
    short: u32,
    backoff: (Duration, Duration),
    random: u64,
    last_token: u64,
    last_id: u64,
}

impl MasterLink {
    pub(crate) fn new(masters: Vec<Address>, backoff: (Duration, Duration), seed: u64) -> Self {
        Self {
            masters,
            state: State::Idle { at: Instant(0) },
            tried: 0,
            next: 0,
            last: None,
            hint: None,
            hinted: false,
            rounds: 0,
            short: 0,
            backoff,
            // An xorshift generator must not start at 0.
            random: seed | 1,
            last_token: 0,
            last_id: 0,
        }
    }

    /// Masters that are known.
    pub(crate) fn masters(&self) -> &[Address] {
        &self.masters
    }

    /// When an attempt is due, or given up.
    pub(crate) fn timeout(&self) -> Option<Instant> {
        match self.state {
            State::Idle { at } if !self.masters.is_empty() => Some(at),
            State::Connecting { until, .. } if self.masters.len() > 1 => Some(until),
            State::Identifying { until, .. } => Some(until),
            _ => None,
        }
    }

    /// Whether no primary was found in so many rounds (some seconds, then every half minute) that
    /// somebody should know.
    pub(crate) const fn is_long_alone(&self) -> bool {
        self.rounds >= 10 && (self.rounds - 10).is_multiple_of(30)
    }

    /// Starts the attempt that is due, if one is.
    pub(crate) fn poll(&mut self, now: Instant) -> Option<(ConnectToken, Address)> {
        if let State::Connecting { until, .. } = self.state
            && until <= now
            && self.masters.len() > 1
        {
            // It may come yet, and is not waited for.
            self.try_next(now);
        }
        match self.state {
            State::Idle { at } if at <= now => {}
            _ => return None,
        }
        let to = match self.hint.take() {
            Some(hint) => hint,
            None => {
                let to = self.masters.get(self.next).cloned()?;
                self.next = (self.next + 1) % self.masters.len();
                self.tried += 1;
                to
            }
        };
        self.last = Some(to.clone());
        self.last_token += 1;
        let token = ConnectToken(self.last_token);
        let until = now
            + DIAL_MIN
                .saturating_mul(1 << self.rounds.min(8))
                .min(DIAL_MAX);
        self.state = State::Connecting { token, until };
        Some((token, to))
    }

    /// The attempt reached a master: says with which request to identify.
    pub(crate) fn connected(
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

    /// The attempt failed.
    pub(crate) fn connect_failed(&mut self, now: Instant, token: ConnectToken) {
        if self.is_connecting(token) {
            self.try_next(now);
        }
    }

    fn is_connecting(&self, token: ConnectToken) -> bool {
        matches!(self.state, State::Connecting { token: wanted, .. } if wanted == token)
    }

    /// The master is not the primary, but may know it.
    pub(crate) fn redirected(&mut self, now: Instant, primary: Option<Address>) {
        if let Some(primary) = primary.filter(|_| !self.hinted) {
            self.hinted = true;
            self.hint = Some(primary);
            self.state = State::Idle { at: now };
        } else {
            self.try_next(now);
        }
    }

    /// There are these masters; `true`: some were not known.
    pub(crate) fn learn(&mut self, masters: impl IntoIterator<Item = Address>) -> bool {
        let known = self.masters.len();
        for master in masters {
            if self.masters.len() < MASTERS_MAX && !self.masters.contains(&master) {
                self.masters.push(master);
            }
        }
        self.masters.len() > known
    }

    /// The primary accepted this node.
    pub(crate) fn accepted(&mut self, now: Instant) {
        if let State::Identifying { conn, .. } = self.state {
            self.state = State::Up { conn, since: now };
            self.rounds = 0;
            self.restart_round();
        }
    }

    /// The connection is gone, or of no use: tries another master, or this one later.
    pub(crate) fn lost(&mut self, now: Instant) {
        match self.state {
            // It was the primary a moment ago. Another one may be by now: they are asked first, since
            // one that hangs takes long to ask.
            State::Up { since, .. } => {
                self.restart_round();
                let lost = self
                    .masters
                    .iter()
                    .position(|m| Some(m) == self.last.as_ref());
                self.next = lost.map_or(0, |at| (at + 1) % self.masters.len());
                if now.since(since) >= self.backoff.1 {
                    self.short = 0;
                }
                self.rounds = self.short;
                self.short = self.short.saturating_add(1);
                let at = now + self.pause();
                self.state = State::Idle { at };
            }
            _ => self.try_next(now),
        }
    }

    /// No attempt is made before then.
    pub(crate) fn stay_away(&mut self, until: Instant) {
        if let State::Idle { at } = &mut self.state {
            *at = until.max(*at);
        }
    }

    /// The connection to a master, accepted or not.
    pub(crate) const fn conn(&self) -> Option<ConnId> {
        match self.state {
            State::Identifying { conn, .. } | State::Up { conn, .. } => Some(conn),
            _ => None,
        }
    }

    /// The connection to the primary that accepted this node.
    pub(crate) const fn up(&self) -> Option<ConnId> {
        match self.state {
            State::Up { conn, .. } => Some(conn),
            _ => None,
        }
    }

    /// A new id of a request.
    pub(crate) const fn next_id(&mut self) -> MsgId {
        self.last_id += 1;
        MsgId(self.last_id)
    }

    /// The request for identification that waits for its answer.
    pub(crate) const fn identifying(&self) -> Option<MsgId> {
        match self.state {
            State::Identifying { id, .. } => Some(id),
            _ => None,
        }
    }

    /// The connection of an identification that took too long.
    pub(crate) fn overdue(&self, now: Instant) -> Option<ConnId> {
        match self.state {
            State::Identifying { conn, until, .. } if until <= now => Some(conn),
            _ => None,
        }
    }

    fn restart_round(&mut self) {
        self.tried = 0;
        self.next = 0;
        self.hint = None;
        self.hinted = false;
    }

    fn try_next(&mut self, now: Instant) {
        let mut at = now;
        if self.tried >= self.masters.len() {
            at = now + self.pause();
            self.rounds = self.rounds.saturating_add(1);
            self.restart_round();
        }
        self.state = State::Idle { at };
    }

    /// The pause after this round, with up to a quarter more, so that nodes that lost their primary
    /// together do not come back together.
    fn pause(&mut self) -> Duration {
        let (min, max) = self.backoff;
        let pause = min.saturating_mul(1 << self.rounds.min(16)).min(max);
        self.random ^= self.random << 13;
        self.random ^= self.random >> 7;
        self.random ^= self.random << 17;
        pause + pause / 4 * (self.random % 256) as u32 / 256
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn address(port: u16) -> Address {
        Address::new("m", port)
    }

    fn link() -> MasterLink {
        let backoff = (Duration::from_millis(5), Duration::from_secs(1));
        MasterLink::new(vec![address(1), address(2)], backoff, 7)
    }

    #[test]
    fn all_masters_are_tried_before_a_pause_that_doubles() {
        let mut link = link();
        let mut now = Instant(0);
        let mut pauses = Vec::new();
        for _ in 0..12 {
            for port in [1, 2] {
                let (token, to) = link.poll(now).unwrap();
                assert_eq!(to, address(port));
                link.connect_failed(now, token);
            }
            let at = link.timeout().unwrap();
            assert!(link.poll(now).is_none());
            pauses.push(at.since(now));
            now = at;
        }
        assert!(pauses[0] >= Duration::from_millis(5) && pauses[0] < Duration::from_millis(7));
        assert!(pauses[3] >= Duration::from_millis(40));
        assert!(*pauses.last().unwrap() < Duration::from_millis(1250));
    }

    #[test]
    fn a_master_that_hangs_is_left_for_the_next_one_ever_later() {
        let mut link = link();
        let mut now = Instant(0);
        let mut patience = Vec::new();
        for _ in 0..6 {
            let (hangs, _) = link.poll(now).unwrap();
            let until = link.timeout().unwrap();
            patience.push(until.since(now));
            assert!(link.poll(now).is_none());
            let (token, to) = link.poll(until).unwrap();
            assert_eq!(to, address(2));
            assert!(link.connected(hangs, ConnId(1), until).is_none());
            link.connect_failed(until, token);
            now = link.timeout().unwrap();
        }
        assert_eq!(patience[0], DIAL_MIN);
        assert!(patience.is_sorted() && patience[5] > Duration::from_secs(5));
    }

    #[test]
    fn secondaries_that_name_each_other_do_not_make_it_spin() {
        let mut link = link();
        let now = Instant(0);
        let mut attempts = 0;
        while let Some((token, to)) = link.poll(now) {
            attempts += 1;
            assert!(attempts < 10);
            link.connected(token, ConnId(attempts), Instant(9));
            let other = if to == address(1) { 2 } else { 1 };
            link.redirected(now, Some(address(other)));
        }
        assert_eq!(attempts, 3);
    }

    #[test]
    fn who_is_let_in_and_sent_away_again_comes_back_ever_later() {
        let mut link = link();
        let mut now = Instant(0);
        let mut visit = |lasts: Duration| {
            let (token, _) = link.poll(now).unwrap();
            link.connected(token, ConnId(1), now + Duration::from_secs(9));
            link.accepted(now);
            now = now + lasts;
            link.lost(now);
            let at = link.timeout().unwrap();
            let pause = at.since(now);
            now = at;
            pause
        };
        let first = visit(Duration::ZERO);
        assert!(first >= Duration::from_millis(5) && first < Duration::from_millis(7));
        let pauses: Vec<_> = (0..8).map(|_| visit(Duration::from_millis(10))).collect();
        assert!(pauses.is_sorted() && pauses[7] >= Duration::from_secs(1));
        // One that lasted is lost: that is another matter.
        assert!(visit(Duration::from_secs(2)) < Duration::from_millis(7));
    }

    #[test]
    fn a_primary_that_is_named_is_asked_at_once_and_remembered() {
        let mut link = link();
        let (token, _) = link.poll(Instant(0)).unwrap();
        link.connected(token, ConnId(1), Instant(9));
        assert!(link.learn([address(2), address(3)]));
        link.redirected(Instant(0), Some(address(3)));
        let (token, to) = link.poll(Instant(0)).unwrap();
        assert_eq!(to, address(3));
        link.connected(token, ConnId(2), Instant(9));
        link.accepted(Instant(0));
        assert_eq!(link.up(), Some(ConnId(2)));
        assert_eq!(link.masters().len(), 3);
        link.lost(Instant(0));
        assert!(link.timeout().unwrap() > Instant(0));
    }
}
