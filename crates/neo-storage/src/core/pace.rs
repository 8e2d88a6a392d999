//! Work that gives way to clients: it is done while none of them is at work; while some are, in steps
//! with rests between them, and none while one waits; and besides at a guaranteed rate.

use std::time::Duration;

use neo_api::Instant;

/// How far behind its rate the work may fall and still make up for it.
const LAG_MAX: Duration = Duration::from_secs(1);
/// A client that waited so long ago may be back soon.
const ABOUT: Duration = Duration::from_secs(1);
/// While clients are at work, a rest is so many times as long as the step before it: most of the
/// disk and the processors is theirs.
const REST: u32 = 2;

/// What the clients of this node do.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Clients {
    /// None was there for a while.
    Away,
    /// One was lately.
    About,
    /// One waits for this node.
    Waiting,
}

/// When a client waited last.
#[derive(Debug, Default)]
pub(crate) struct Presence(Option<Instant>);

impl Presence {
    /// What the clients do now.
    pub(crate) fn note(&mut self, now: Instant, is_waiting: bool) -> Clients {
        if is_waiting {
            self.0 = Some(now);
            return Clients::Waiting;
        }
        match self.0 {
            Some(last) if now.since(last) < ABOUT => Clients::About,
            _ => Clients::Away,
        }
    }
}

/// When the next step of such work is due.
#[derive(Debug)]
pub(crate) struct Pace {
    bytes_per_s: u64,
    /// Whoever waits.
    due: Instant,
    /// If clients are at work.
    rest_until: Option<Instant>,
}

impl Pace {
    /// Work that is done at this rate at least; 0: only while nobody waits.
    pub(crate) const fn new(bytes_per_s: u64) -> Self {
        Self {
            bytes_per_s,
            due: Instant(0),
            rest_until: None,
        }
    }

    /// Whether a step may begin now.
    pub(crate) fn allows(&mut self, now: Instant, clients: Clients) -> bool {
        self.rest_until.take_if(|until| *until <= now);
        let is_due = self.due().is_some_and(|due| due <= now);
        match clients {
            Clients::Away => true,
            Clients::About => is_due || self.rest_until.is_none(),
            Clients::Waiting => is_due,
        }
    }

    /// When to ask again, if nothing else happens.
    pub(crate) fn timeout(&self) -> Option<Instant> {
        let all = [self.due(), self.rest_until];
        all.into_iter().flatten().min()
    }

    /// When a step may begin in any case.
    const fn due(&self) -> Option<Instant> {
        if self.bytes_per_s == 0 {
            None
        } else {
            Some(self.due)
        }
    }

    /// A step of so many bytes counts from now on.
    pub(crate) fn spent(&mut self, now: Instant, bytes: usize) {
        let nanos = (bytes as u128 * 1_000_000_000).checked_div(u128::from(self.bytes_per_s));
        let cost = Duration::from_nanos(nanos.unwrap_or(0).try_into().unwrap_or(u64::MAX));
        let behind = Instant(now.0.saturating_sub(LAG_MAX.as_nanos() as u64));
        // What was done faster while nobody waited does not count for later.
        self.due = (self.due.max(behind) + cost).min(now + cost);
    }

    /// A step is over, that took so long.
    pub(crate) fn rest(&mut self, now: Instant, took: Duration) {
        self.rest_until = Some(now + took.saturating_mul(REST).min(LAG_MAX));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(ms: u64) -> Instant {
        Instant(ms * 1_000_000)
    }

    #[test]
    fn nobody_waits_for_work_that_is_ahead_of_its_rate() {
        let mut pace = Pace::new(1000);
        let now = at(10_000);
        assert!(pace.allows(now, Clients::Waiting));
        for _ in 0..3 {
            pace.spent(now, 500);
        }
        assert!(pace.allows(now, Clients::Away) && !pace.allows(now, Clients::Waiting));
        // The haste of a moment when nobody waited does not make it slower than its rate.
        assert_eq!(pace.timeout(), Some(at(10_500)));
        assert!(pace.allows(at(10_500), Clients::Waiting));
    }

    #[test]
    fn what_was_late_is_made_up_for() {
        let mut pace = Pace::new(1000);
        pace.spent(at(10_000), 100);
        pace.spent(at(10_300), 100);
        pace.spent(at(10_300), 100);
        // For as much as a second.
        assert_eq!(pace.timeout(), Some(at(9_500)));
    }

    #[test]
    fn without_a_rate_it_waits_as_long_as_anybody_does() {
        let mut pace = Pace::new(0);
        pace.spent(at(1), 100);
        assert_eq!(pace.timeout(), None);
        assert!(!pace.allows(at(1_000_000), Clients::Waiting));
        assert!(pace.allows(at(2), Clients::Away));
    }

    #[test]
    fn it_rests_between_steps_while_clients_are_at_work() {
        let mut pace = Pace::new(1);
        pace.spent(at(2_000), 1_000);
        pace.rest(at(2_003), Duration::from_millis(3));
        assert!(!pace.allows(at(2_003), Clients::About));
        assert!(pace.allows(at(2_003), Clients::Away));
        assert_eq!(pace.timeout(), Some(at(2_009)));
        assert!(pace.allows(at(2_009), Clients::About));
        // A client that waits when the rest is over is another matter; nothing is due for it.
        assert!(!pace.allows(at(2_009), Clients::Waiting));
        assert_eq!(pace.timeout(), Some(at(1_001_000)));
    }

    #[test]
    fn clients_are_about_for_a_while_after_they_waited() {
        let mut presence = Presence::default();
        assert_eq!(presence.note(at(1), false), Clients::Away);
        assert_eq!(presence.note(at(5), true), Clients::Waiting);
        assert_eq!(presence.note(at(1_004), false), Clients::About);
        assert_eq!(presence.note(at(1_005), false), Clients::Away);
    }
}
