//! A node's clocks: each node has its own, and they need not agree with the world's.

use neo_api::{Instant, Now, UnixMicros};

/// The world's wall clock at its start: 2026-09-21.
const EPOCH_MICROS: i64 = 1_790_000_000_000_000;

/// Parts of a whole second that a rate is given in.
const MILLION: i128 = 1_000_000;

/// The clocks of a node, as functions of the world's time.
#[derive(Debug)]
pub(super) struct Clock {
    /// Since when the rate is what it is: the world's time.
    since: u64,
    /// What the monotonic clock showed then.
    mono: u64,
    /// How much faster than the world's it goes: millionths.
    rate_ppm: i32,
    /// What the monotonic clock showed at the world's start.
    start: u64,
    /// By how much the wall clock has jumped, in microseconds.
    jumped: i64,
}

impl Clock {
    /// Clocks of different nodes have nothing to do with each other.
    pub(super) const fn new(start: u64) -> Self {
        Self {
            since: 0,
            mono: start,
            rate_ppm: 0,
            start,
            jumped: 0,
        }
    }

    pub(super) fn now(&self, at: u64) -> Now {
        let mono = self.mono_at(at);
        let micros = (mono - self.start) / 1000;
        Now {
            mono: Instant(mono),
            wall: UnixMicros(EPOCH_MICROS + micros as i64 + self.jumped),
        }
    }

    fn mono_at(&self, at: u64) -> u64 {
        let passed = i128::from(at - self.since);
        let shown = passed + passed * i128::from(self.rate_ppm) / MILLION;
        self.mono + shown as u64
    }

    /// The world's time at which the monotonic clock shows a moment, or has just passed it.
    pub(super) fn world_time(&self, moment: Instant) -> u64 {
        let ahead = i128::from(moment.0) - i128::from(self.mono);
        if ahead <= 0 || self.rate_ppm == 0 {
            return self.since.saturating_add_signed(ahead as i64);
        }
        let rate = MILLION + i128::from(self.rate_ppm);
        let mut at = self.since + (ahead * MILLION / rate) as u64;
        while self.mono_at(at) < moment.0 {
            at += 1;
        }
        at
    }

    pub(super) const fn jump(&mut self, micros: i64) {
        self.jumped += micros;
    }

    /// From now on it goes at another rate.
    pub(super) fn skew(&mut self, at: u64, rate_ppm: i32) {
        self.mono = self.mono_at(at);
        self.since = at;
        self.rate_ppm = rate_ppm;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_timer_is_never_early_and_hardly_late() {
        let mut clock = Clock::new(5_000);
        for (at, rate) in [(1_000, 0), (2_000_000, 100_000), (9_000_000, -70_001)] {
            clock.skew(at, rate);
            let before = clock.now(at).mono.0;
            for wait in [0, 1, 7, 999, 1_000_003, 60_000_000_000] {
                let due = clock.world_time(Instant(before + wait));
                let shown = clock.now(due).mono.0;
                assert!(
                    shown >= before + wait && shown <= before + wait + 1,
                    "{rate} {wait}"
                );
            }
        }
    }

    #[test]
    fn a_change_of_rate_does_not_make_a_clock_jump() {
        let mut clock = Clock::new(0);
        clock.skew(1_000_000, 500_000);
        assert_eq!(clock.now(1_000_000).mono, Instant(1_000_000));
        assert_eq!(clock.now(3_000_000).mono, Instant(4_000_000));
        clock.skew(3_000_000, 0);
        assert_eq!(clock.now(3_000_001).mono, Instant(4_000_001));
        let wall = clock.now(3_000_000).wall;
        clock.jump(-7);
        assert_eq!(clock.now(3_000_000).wall.0, wall.0 - 7);
    }
}
