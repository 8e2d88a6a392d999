//! When to ask a second replica: reads that take longer than nearly all of the last ones.
//!
//! A node may be slow, or silent, long before its connection is given up (10 s of silence): its
//! disk hangs, or its process is frozen. A read that it has not answered within a delay is asked of
//! another readable cell too. The first good answer counts, the other one is dropped.
//!
//! The delay is learnt: about one read of fifty takes longer. When everything is slow, it grows
//! with each read that meets it, and there are only so many hedges: a cluster that is busy is not
//! asked for everything twice.
//!
//! # Why any replica's answer will do
//! What is read is fixed before anybody is asked: a tid up to which every transaction was told to
//! this client. Each of these was locked, before it was told, on every node with a readable cell of
//! what it changed; and a cell that became readable later was complete then. The client hears of
//! tables and of commits in order, so a cell that is readable in its table when it is asked has
//! them all, and waits for those that are locked and not visible yet. Two replicas differ at most
//! in whether they know a later revision; and of this the client has noted what it heard since the
//! *first* of the two was asked.
//!
//! A node that the primary gives up while it is asked is told of on the same connection as the
//! commits that happen without it, and before these: its connection is closed then, and nothing
//! that it says later is heard. Nor can a node answer that serves another primary: connections to
//! storage nodes are identified by (reign, session) of the connection to the primary, and end with
//! it.

use std::time::Duration;

use neo_api::Instant;

/// The shortest delay: a pause of a disk, or of a scheduler, is no reason.
const DELAY_MIN: Duration = Duration::from_millis(10);
/// The longest: who waits for a person's click is not kept longer than that.
const DELAY_MAX: Duration = Duration::from_secs(1);
/// Before anything is known.
const DELAY_FIRST: Duration = Duration::from_millis(100);

/// How long reads of one kind take: an estimate that one read of fifty exceeds. A longer one raises
/// it by a tenth, any other lowers it by a five-hundredth.
///
/// # Source
/// Ma, Muthukrishnan, Sandler, "Frugal Streaming for Estimating Quantiles", with steps in
/// proportion.
#[derive(Debug)]
pub(in crate::core) struct Patience(Duration);

impl Patience {
    pub(in crate::core) const fn new() -> Self {
        Self(DELAY_FIRST)
    }

    /// How long to wait for an answer before another replica is asked.
    pub(in crate::core) const fn delay(&self) -> Duration {
        self.0
    }

    /// An answer came in time, after so long.
    pub(super) fn answered(&mut self, after: Duration) {
        let estimate = if after > self.0 {
            self.0 + self.0 / 10
        } else {
            self.0 - self.0 / 500
        };
        self.0 = estimate.clamp(DELAY_MIN, DELAY_MAX);
    }

    /// No answer came within the delay.
    pub(super) fn exceeded(&mut self) {
        self.0 = (self.0 + self.0 / 10).min(DELAY_MAX);
    }

    /// Whether a timer that was due so long ago tells of this client's sleep, and not of a node's:
    /// answers may have come meanwhile, and are looked at first.
    pub(super) fn was_asleep(&self, late: Duration) -> bool {
        late > self.0.max(Duration::from_millis(50))
    }
}

/// One hedge costs what so many reads bring: 5 % of them can be hedged.
const READS_PER_HEDGE: u32 = 20;
/// Hedges that may come at once: all that was asked of a node when it froze, mostly.
const HEDGES_MAX: u32 = 100;

/// How many hedges are left.
#[derive(Debug)]
pub(in crate::core) struct Budget(u32);

impl Budget {
    pub(in crate::core) const fn new() -> Self {
        Self(HEDGES_MAX * READS_PER_HEDGE)
    }

    /// A read begins.
    pub(super) fn earn(&mut self) {
        self.0 = (self.0 + 1).min(HEDGES_MAX * READS_PER_HEDGE);
    }

    /// Takes one hedge, if there is one.
    pub(super) const fn spend(&mut self) -> bool {
        let left = self.0.checked_sub(READS_PER_HEDGE);
        if let Some(left) = left {
            self.0 = left;
        }
        left.is_some()
    }
}

/// The shortest time for which a slow node comes after others.
const SLOW_MIN: Duration = Duration::from_secs(1);
/// The longest.
const SLOW_MAX: Duration = Duration::from_secs(30);

/// A node that has let a read wait: others are preferred for a while, longer each time that it is
/// tried again and is still slow.
#[derive(Debug, Clone, Copy)]
pub(in crate::core) struct Slow {
    until: Instant,
    pause: Duration,
}

impl Slow {
    /// The node was slow, now; `before` is what was known of it.
    pub(super) fn noted(before: Option<Self>, now: Instant) -> Self {
        let pause = match before {
            // Asked before this was known.
            Some(slow) if slow.is_now(now) => return slow,
            Some(slow) => (slow.pause * 2).min(SLOW_MAX),
            None => SLOW_MIN,
        };
        Self {
            until: now + pause,
            pause,
        }
    }

    pub(in crate::core) fn is_now(self, now: Instant) -> bool {
        now < self.until
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const fn millis(n: u64) -> Duration {
        Duration::from_millis(n)
    }

    #[test]
    fn about_one_read_of_fifty_exceeds_the_delay() {
        let mut patience = Patience::new();
        // From 15 ms to 114 ms, evenly, in no order.
        let times = (0..20_000_u64).map(|n| millis(15 + n * 61 % 100));
        let mut exceeded = 0;
        for (n, time) in times.enumerate() {
            if time > patience.delay() {
                exceeded += usize::from(n >= 10_000);
                patience.exceeded();
            } else {
                patience.answered(time);
            }
        }
        assert!((100..400).contains(&exceeded), "{exceeded}");
        let delay = patience.delay();
        assert!((millis(95)..millis(130)).contains(&delay), "{delay:?}");
    }

    #[test]
    fn the_delay_has_bounds() {
        let mut patience = Patience::new();
        for _ in 0..5_000 {
            patience.answered(Duration::from_micros(80));
        }
        assert_eq!(patience.delay(), DELAY_MIN);
        for _ in 0..60 {
            patience.exceeded();
        }
        assert_eq!(patience.delay(), DELAY_MAX);
        assert!(patience.was_asleep(millis(1100)) && !patience.was_asleep(millis(900)));
    }

    #[test]
    fn hedges_are_a_share_of_the_reads() {
        let mut budget = Budget::new();
        let at_once = (0..1_000).filter(|_| budget.spend()).count();
        assert_eq!(at_once, 100);
        let mut hedged = 0;
        for _ in 0..1_000 {
            budget.earn();
            hedged += usize::from(budget.spend());
        }
        assert_eq!(hedged, 50);
    }

    #[test]
    fn a_node_that_stays_slow_is_tried_ever_more_seldom() {
        let now = Instant(0);
        let slow = Slow::noted(None, now);
        assert!(slow.is_now(now) && !slow.is_now(now + SLOW_MIN));
        // What was asked before that was known says nothing new.
        assert_eq!(Slow::noted(Some(slow), now).until, slow.until);
        let mut slow = slow;
        let mut at = now;
        for _ in 0..10 {
            at = slow.until;
            slow = Slow::noted(Some(slow), at);
        }
        assert_eq!(slow.until.since(at), SLOW_MAX);
    }
}
