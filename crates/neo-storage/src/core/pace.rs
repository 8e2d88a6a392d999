//! Work that gives way to clients: it is done while none of them waits, and besides at a guaranteed
//! rate.

use std::time::Duration;

use neo_api::Instant;

/// How far behind its rate the work may fall and still make up for it.
const LAG_MAX: Duration = Duration::from_secs(1);

/// When the next step of such work is due, whoever waits.
#[derive(Debug)]
pub(crate) struct Pace {
    bytes_per_s: u64,
    due: Instant,
}

impl Pace {
    /// Work that is done at this rate at least; 0: only while nobody waits.
    pub(crate) const fn new(bytes_per_s: u64) -> Self {
        Self {
            bytes_per_s,
            due: Instant(0),
        }
    }

    /// Whether a step may begin now.
    pub(crate) fn allows(&self, now: Instant, is_client_waiting: bool) -> bool {
        !is_client_waiting || self.due().is_some_and(|due| due <= now)
    }

    /// When a step may begin in any case.
    pub(crate) const fn due(&self) -> Option<Instant> {
        if self.bytes_per_s == 0 {
            None
        } else {
            Some(self.due)
        }
    }

    /// A step was done.
    pub(crate) fn spent(&mut self, now: Instant, bytes: usize) {
        let nanos = (bytes as u128 * 1_000_000_000).checked_div(u128::from(self.bytes_per_s));
        let cost = Duration::from_nanos(nanos.unwrap_or(0).try_into().unwrap_or(u64::MAX));
        let behind = Instant(now.0.saturating_sub(LAG_MAX.as_nanos() as u64));
        // What was done faster while nobody waited does not count for later.
        self.due = (self.due.max(behind) + cost).min(now + cost);
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
        assert!(pace.allows(now, true));
        for _ in 0..3 {
            pace.spent(now, 500);
        }
        assert!(pace.allows(now, false) && !pace.allows(now, true));
        // The haste of a moment when nobody waited does not make it slower than its rate.
        assert_eq!(pace.due(), Some(at(10_500)));
        assert!(pace.allows(at(10_500), true));
    }

    #[test]
    fn what_was_late_is_made_up_for() {
        let mut pace = Pace::new(1000);
        pace.spent(at(10_000), 100);
        pace.spent(at(10_300), 100);
        pace.spent(at(10_300), 100);
        // For as much as a second.
        assert_eq!(pace.due(), Some(at(9_500)));
    }

    #[test]
    fn without_a_rate_it_waits_as_long_as_anybody_does() {
        let mut pace = Pace::new(0);
        pace.spent(at(1), 100);
        assert_eq!(pace.due(), None);
        assert!(!pace.allows(at(1_000_000), true) && pace.allows(at(2), false));
    }
}
