//! Allocation of ttids and tids, and how far the clock is believed.

use std::time::Duration;

use neo_api::{Instant, Now, Partitioning, Tid, UnixMicros};

/// 2020-01-01 UTC: no clock that is set shows less.
const PLAUSIBLE_MIN: UnixMicros = UnixMicros(1_577_836_800_000_000);
/// 2200-01-01 UTC: no clock that is set shows more.
const PLAUSIBLE_MAX: UnixMicros = UnixMicros(7_258_118_400_000_000);
const DAY_MICROS: i64 = 86_400_000_000;

/// What tids were given, and the clock that new ones are taken from.
///
/// A tid that is too high can't be taken back: every later one is above it. So the clock is
/// believed where a mistake costs little, and not where it would cost centuries:
///
/// - A clock before 2020 or after 2200 is not set: tids go up by one until it is.
/// - A clock that jumps ahead of the monotonic one, by more than a setting, is not followed: tids
///   are taken from where the clock would be without the jump. One that steps back is harmless,
///   since tids go up by one until it has caught up; it does not move the reference either, so
///   that the step forward that mends it is no jump.
/// - A clock that is a day or more behind the last committed tid is wrong, or was when that tid
///   was given: this is only told, since tids go on from the last one anyway. It is no error to be
///   ahead of the last tid by any time: a database may have slept for a year.
#[derive(Debug)]
pub(crate) struct Tids {
    jump_max: Duration,
    /// A reading of both clocks that was believed.
    anchor: Option<(Instant, UnixMicros)>,
    trouble: Option<&'static str>,
    /// The last committed tid.
    last: Tid,
    /// The greatest tid that was ever given to a transaction, committed or not.
    given: Tid,
    /// The greatest ttid that was ever given.
    last_ttid: Tid,
}

impl Tids {
    pub(crate) const fn new(jump_max: Duration) -> Self {
        Self {
            jump_max,
            anchor: None,
            trouble: None,
            last: Tid::ZERO,
            given: Tid::ZERO,
            last_ttid: Tid::ZERO,
        }
    }

    /// The last committed tid.
    pub(crate) const fn last(&self) -> Tid {
        self.last
    }

    /// The greatest ttid that this master ever gave.
    pub(crate) const fn last_ttid(&self) -> Tid {
        self.last_ttid
    }

    /// Verification found the last committed tid.
    pub(crate) fn found(&mut self, last: Tid, now: Now) {
        self.last = last;
        self.given = self.given.max(last);
        if last.to_unix().0.saturating_sub(now.wall.0) > DAY_MICROS {
            tracing::warn!(
                %last, last_time = %last.to_timestamp(),
                clock = %Tid::from_unix(now.wall).to_timestamp(),
                "the last transaction is more than a day ahead of this machine's clock: new tids \
                 go up by one until the clock has caught up"
            );
        }
    }

    /// A transaction is committed; tids are committed in their order.
    pub(crate) fn committed(&mut self, tid: Tid) {
        assert!(tid > self.last, "tids are committed in their order");
        self.last = tid;
        self.given = self.given.max(tid);
    }

    /// The clock, as far as it is believed; `UnixMicros(i64::MIN)` when not at all.
    fn clock(&mut self, now: Now) -> UnixMicros {
        if !(PLAUSIBLE_MIN..PLAUSIBLE_MAX).contains(&now.wall) {
            self.complain("this machine's clock is not set (it shows a year before 2020 or after 2200): tids go up by one");
            return UnixMicros(i64::MIN);
        }
        let Some((mono, wall)) = self.anchor else {
            self.anchor = Some((now.mono, now.wall));
            return now.wall;
        };
        let elapsed = i64::try_from(now.mono.since(mono).as_micros()).unwrap_or(i64::MAX);
        let expected = UnixMicros(wall.0.saturating_add(elapsed));
        let jump_max = i64::try_from(self.jump_max.as_micros()).unwrap_or(i64::MAX);
        if now.wall.0 > expected.0.saturating_add(jump_max) {
            self.complain("this machine's clock jumped ahead: tids do not follow it; restart the master if the clock is right now");
            return expected;
        }
        self.trouble = None;
        if now.wall > expected {
            self.anchor = Some((now.mono, now.wall));
        }
        now.wall
    }

    fn complain(&mut self, words: &'static str) {
        if self.trouble != Some(words) {
            tracing::error!("{words}");
            self.trouble = Some(words);
        }
    }

    /// A new ttid; `None` when no usable one is left.
    pub(crate) fn next_ttid(&mut self, now: Now) -> Option<Tid> {
        let clock = self.clock(now);
        let ttid = Tid::next(self.last_ttid.max(self.given), clock)?;
        self.last_ttid = ttid;
        Some(ttid)
    }

    /// A new ttid with the same remainder as an imposed tid.
    ///
    /// It is not the imposed tid itself: that may be in the past, and a ttid of the past may have
    /// been given before, to a transaction that was aborted: a late message about that one would
    /// hit this one.
    pub(crate) fn next_ttid_like(&mut self, tid: Tid, p: Partitioning, now: Now) -> Option<Tid> {
        let clock = Tid::from_unix(self.clock(now));
        let last = self.last_ttid.max(self.given);
        let ttid = Tid::next_congruent(last, clock, tid, p.count())?;
        self.last_ttid = ttid;
        Some(ttid)
    }

    /// The tid of a transaction that finishes: above every other, and with the remainder of its
    /// ttid. It is not below the ttid, so that a look-up of the name can start there.
    pub(crate) fn next_tid(&mut self, ttid: Tid, p: Partitioning, now: Now) -> Option<Tid> {
        let least = Tid::from_unix(self.clock(now)).max(ttid);
        let tid = Tid::next_congruent(self.given, least, ttid, p.count())?;
        self.given = tid;
        Some(tid)
    }

    /// Gives an imposed tid, unless another is above it.
    pub(crate) fn impose(&mut self, tid: Tid) -> Result<(), Tid> {
        if tid <= self.given {
            return Err(self.given);
        }
        self.given = tid;
        Ok(())
    }

    /// Whether a tid can be imposed; the error is for the user.
    pub(crate) fn check_imposed(
        &mut self,
        tid: Tid,
        ahead_max: Duration,
        now: Now,
    ) -> Result<(), String> {
        if tid > Tid::MAX {
            return Err(format!("{tid} is no tid: the greatest is {}", Tid::MAX));
        }
        if tid <= self.given {
            let given = self.given;
            return Err(format!(
                "tid {tid} can't be imposed: it is not above {given}, the last tid"
            ));
        }
        // Where the clock is not believed, the greatest moment that any clock shows is the bound.
        let clock = match self.clock(now) {
            UnixMicros(i64::MIN) => PLAUSIBLE_MAX,
            clock => clock,
        };
        let ahead = i64::try_from(ahead_max.as_micros()).unwrap_or(i64::MAX);
        let bound = Tid::from_unix(UnixMicros(clock.0.saturating_add(ahead)));
        if tid > bound {
            return Err(format!(
                "tid {tid} can't be imposed: it is too far in the future ({}), and no later \
                 transaction could have a lower one",
                tid.to_timestamp()
            ));
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const T0: i64 = 1_795_297_530_000_000;
    const HOUR: i64 = 3_600_000_000;

    fn now(mono_micros: i64, wall: i64) -> Now {
        Now {
            mono: Instant(mono_micros as u64 * 1000),
            wall: UnixMicros(wall),
        }
    }

    fn tids() -> Tids {
        Tids::new(Duration::from_secs(3600))
    }

    fn np(n: u32) -> Partitioning {
        Partitioning::new(n).unwrap()
    }

    #[test]
    fn the_clock_is_followed() {
        let mut tids = tids();
        let ttid = tids.next_ttid(now(0, T0)).unwrap();
        assert_eq!(ttid, Tid::from_unix(UnixMicros(T0)));
        let tid = tids.next_tid(ttid, np(7), now(10, T0 + 10)).unwrap();
        assert!(tid >= Tid::from_unix(UnixMicros(T0 + 10)));
        assert_eq!(tid.0 % 7, ttid.0 % 7);
    }

    #[test]
    fn a_clock_that_steps_back_gives_increasing_tids_and_may_be_mended() {
        let mut tids = tids();
        let a = tids.next_ttid(now(0, T0)).unwrap();
        let b = tids.next_ttid(now(1, T0 - 5 * HOUR)).unwrap();
        assert_eq!(b.0, a.0 + 1);
        let tid = tids.next_tid(b, np(10), now(2, T0 - 5 * HOUR)).unwrap();
        assert_eq!(tid, b, "nothing else is pending: the ttid will do");
        let mended = tids.next_ttid(now(HOUR, T0 + HOUR)).unwrap();
        assert_eq!(mended, Tid::from_unix(UnixMicros(T0 + HOUR)));
    }

    #[test]
    fn a_clock_that_jumps_ahead_is_not_followed() {
        let mut tids = tids();
        tids.next_ttid(now(0, T0)).unwrap();
        let jumped = tids.next_ttid(now(1000, T0 + 1000 + 2 * HOUR)).unwrap();
        assert_eq!(jumped, Tid::from_unix(UnixMicros(T0 + 1000)));
        // Within the hour it is, and drift adds up.
        let drifted = tids.next_ttid(now(2000, T0 + HOUR)).unwrap();
        assert_eq!(drifted, Tid::from_unix(UnixMicros(T0 + HOUR)));
        let further = tids.next_ttid(now(3000, T0 + 2 * HOUR)).unwrap();
        assert_eq!(further, Tid::from_unix(UnixMicros(T0 + 2 * HOUR)));
    }

    #[test]
    fn a_clock_that_is_not_set_is_not_followed() {
        for wall in [0, -1, i64::MIN, i64::MAX, PLAUSIBLE_MAX.0] {
            let mut tids = tids();
            let last = Tid::from_unix(UnixMicros(T0));
            tids.found(last, now(0, wall));
            assert_eq!(tids.next_ttid(now(0, wall)), Some(Tid(last.0 + 1)));
        }
    }

    #[test]
    fn a_last_tid_of_the_future_is_gone_on_from() {
        let mut tids = tids();
        let last = Tid::from_unix(UnixMicros(T0 + 48 * HOUR));
        tids.found(last, now(0, T0));
        assert_eq!(tids.next_ttid(now(0, T0)), Some(Tid(last.0 + 1)));
    }

    #[test]
    fn imposed_tids_are_checked() {
        let day = Duration::from_secs(86_400);
        let mut tids = tids();
        let last = Tid::from_unix(UnixMicros(T0 - HOUR));
        tids.found(last, now(0, T0));
        let mut check = |tid| tids.check_imposed(tid, day, now(0, T0));
        assert!(check(last).unwrap_err().contains("not above"));
        assert!(check(Tid(last.0 - 1)).unwrap_err().contains("not above"));
        assert!(check(Tid::ZERO).is_err());
        assert!(check(Tid(u64::MAX)).unwrap_err().contains("is no tid"));
        assert!(check(Tid::MAX).unwrap_err().contains("future"));
        assert!(check(Tid::from_unix(UnixMicros(T0 + 25 * HOUR))).is_err());
        assert!(check(Tid(last.0 + 1)).is_ok());
        let unset = tids.check_imposed(Tid(last.0 + 1), day, now(0, 0));
        assert_eq!(unset, Ok(()));
        assert!(tids.check_imposed(Tid::MAX, day, now(0, 0)).is_err());
    }

    #[test]
    fn an_imposed_tid_of_the_past_gets_a_name_that_was_never_given() {
        let mut tids = tids();
        let first = tids.next_ttid(now(0, T0)).unwrap();
        let imposed = Tid::from_unix(UnixMicros(T0 - 100 * HOUR));
        let ttid = tids.next_ttid_like(imposed, np(13), now(0, T0)).unwrap();
        assert!(ttid > first);
        assert_eq!(ttid.0 % 13, imposed.0 % 13);
        assert_eq!(tids.impose(imposed), Ok(()));
        assert_eq!(tids.impose(imposed), Err(imposed));
    }

    #[test]
    fn the_end_of_the_range_is_no_panic() {
        let mut tids = tids();
        tids.found(Tid::MAX, now(0, T0));
        assert_eq!(tids.next_ttid(now(0, T0)), None);
        assert_eq!(tids.next_tid(Tid::MAX, np(3), now(0, T0)), None);
        assert_eq!(tids.next_ttid_like(Tid::MAX, np(3), now(0, T0)), None);
    }

    proptest! {
        #[test]
        fn tids_increase_whatever_the_clock_does(
            steps in proptest::collection::vec((0i64..10_000_000_000, any::<i64>(), 1u32..200), 1..50),
        ) {
            let mut tids = tids();
            let (mut mono, mut last, mut last_ttid) = (0, Tid::ZERO, Tid::ZERO);
            for (elapsed, wall, n) in steps {
                mono += elapsed;
                // Month ends among them: 31 days of a 30-day month do not exist.
                let wall = if wall % 3 == 0 { 1_796_083_199_999_990 + wall % 100 } else { wall };
                let at = now(mono, wall);
                let ttid = tids.next_ttid(at).unwrap();
                prop_assert!(ttid > last_ttid);
                let tid = tids.next_tid(ttid, np(n), at).unwrap();
                prop_assert!(tid > last && tid >= ttid && tid <= Tid::MAX);
                prop_assert_eq!(tid.0 % u64::from(n), ttid.0 % u64::from(n));
                tids.committed(tid);
                (last, last_ttid) = (tid, ttid);
            }
        }
    }
}
