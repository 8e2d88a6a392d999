//! How long nothing has happened, as far as this node was awake to see it.

use std::time::Duration;

use neo_api::Instant;

/// Measures silence.
///
/// A node that was itself asleep (a suspended machine, a core that took long) finds every peer
/// silent, and what they said unread. So silence is looked at twice, at nine tenths and at the end,
/// a tenth apart at least: time enough to read.
#[derive(Debug)]
pub(crate) struct Patience {
    since: Instant,
    looked: Option<Instant>,
}

impl Patience {
    pub(crate) const fn new(now: Instant) -> Self {
        Self {
            since: now,
            looked: None,
        }
    }

    /// Something happened.
    pub(crate) const fn renew(&mut self, now: Instant) {
        *self = Self::new(now);
    }

    /// Since when nothing happened.
    pub(crate) const fn since(&self) -> Instant {
        self.since
    }

    /// When to call [`Patience::is_over`].
    pub(crate) fn deadline(&self, max: Duration) -> Instant {
        let end = self.since + max;
        match self.looked {
            None => self.since + (max - max / 10),
            Some(looked) => end.max(looked + max / 10),
        }
    }

    /// Whether nothing happened for too long.
    pub(crate) fn is_over(&mut self, now: Instant, max: Duration) -> bool {
        if now < self.deadline(max) {
            return false;
        }
        let is_over = self.looked.is_some();
        self.looked = Some(now);
        is_over
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MAX: Duration = Duration::from_secs(10);

    fn at(millis: u64) -> Instant {
        Instant(millis * 1_000_000)
    }

    #[test]
    fn silence_is_looked_at_twice() {
        let mut patience = Patience::new(at(0));
        assert_eq!(patience.deadline(MAX), at(9000));
        assert!(!patience.is_over(at(8999), MAX));
        assert!(!patience.is_over(at(9000), MAX));
        assert_eq!(patience.deadline(MAX), at(10_000));
        assert!(!patience.is_over(at(9999), MAX));
        assert!(patience.is_over(at(10_000), MAX));
    }

    #[test]
    fn a_node_that_slept_reads_first() {
        let mut patience = Patience::new(at(0));
        assert!(!patience.is_over(at(60_000), MAX));
        assert_eq!(patience.deadline(MAX), at(61_000));
        patience.renew(at(60_001));
        assert!(!patience.is_over(at(61_000), MAX));
    }
}
