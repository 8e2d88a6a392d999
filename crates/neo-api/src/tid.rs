//! The reading of a tid as a ZODB time stamp, both ways, and the allocation of the next tid.

use std::fmt;

use crate::id::Tid;

/// Microseconds since 1970-01-01 UTC, as a wall clock gives them; earlier moments are negative.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct UnixMicros(pub i64);

/// A moment as a ZODB tid writes it: UTC, to a fraction of a second.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct TimeStamp {
    /// 1900 to 9917.
    pub year: u32,
    /// 1 to 12.
    pub month: u32,
    /// 1 to 31.
    pub day: u32,
    /// 0 to 23.
    pub hour: u32,
    /// 0 to 59.
    pub minute: u32,
    /// 0 to below 60.
    pub second: f64,
}

impl fmt::Display for TimeStamp {
    /// `2026-11-21 21:45:50.123456`, UTC.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self {
            year,
            month,
            day,
            hour,
            minute,
            second,
        } = *self;
        // Rounding up to 60 would print a second that no clock shows.
        let micros = ((second * 1e6).round() as u64).min(59_999_999);
        let (whole, fraction) = (micros / 1_000_000, micros % 1_000_000);
        write!(
            f,
            "{year:04}-{month:02}-{day:02} {hour:02}:{minute:02}:{whole:02}.{fraction:06}"
        )
    }
}

const MINUTE_MICROS: i64 = 60_000_000;

impl Tid {
    /// The time stamp that a tid spells.
    ///
    /// High 32 bits: minutes since 1900-01-01 on a calendar of 31-day months and 12-month years.
    /// Low 32 bits: seconds in units of 60 / 2^32 s.
    ///
    /// # Source
    /// ZODB's `persistent.timestamp.TimeStamp`.
    #[must_use]
    pub fn to_timestamp(self) -> TimeStamp {
        let minutes = (self.0 >> 32) as u32;
        let (hours, minute) = (minutes / 60, minutes % 60);
        let (days, hour) = (hours / 24, hours % 24);
        let (months, day) = (days / 31, days % 31 + 1);
        TimeStamp {
            year: months / 12 + 1900,
            month: months % 12 + 1,
            day,
            hour,
            minute,
            second: f64::from(self.0 as u32) * 60.0 / 4_294_967_296.0,
        }
    }

    /// The tid that spells a moment; moments before 1900 give tid 0, those past the greatest tid
    /// give [`Tid::MAX`].
    #[must_use]
    pub fn from_unix(at: UnixMicros) -> Self {
        let minutes = at.0.div_euclid(MINUTE_MICROS);
        let micros = at.0.rem_euclid(MINUTE_MICROS) as u64;
        let (days, minute_of_day) = (minutes.div_euclid(1440), minutes.rem_euclid(1440));
        let (year, month, day) = civil_from_days(days);
        if year < 1900 {
            return Self::ZERO;
        }
        let high = (((year - 1900) * 12 + month - 1) * 31 + day - 1) * 1440 + minute_of_day;
        let Ok(high) = u32::try_from(high) else {
            return Self::MAX;
        };
        let low = (micros << 32) / MINUTE_MICROS as u64;
        Self((u64::from(high) << 32) | low).min(Self::MAX)
    }

    /// The moment that the tid spells; 31 February and its like roll into the next month.
    #[must_use]
    pub fn to_unix(self) -> UnixMicros {
        let t = self.to_timestamp();
        let days = days_from_civil(i64::from(t.year), i64::from(t.month), 1) + i64::from(t.day) - 1;
        let minutes = (days * 24 + i64::from(t.hour)) * 60 + i64::from(t.minute);
        let micros = (u64::from(self.0 as u32) * MINUTE_MICROS as u64).div_ceil(1 << 32);
        UnixMicros(minutes * MINUTE_MICROS + micros as i64)
    }

    /// The next tid after `last`: what the clock says, or `last + 1` when the clock is behind.
    ///
    /// `None` when no usable tid is left.
    #[must_use]
    pub fn next(last: Self, clock: UnixMicros) -> Option<Self> {
        let least = last.0.checked_add(1)?;
        let tid = Self::from_unix(clock).0.max(least);
        (tid <= Self::MAX.0).then_some(Self(tid))
    }

    /// The least tid that is greater than `last` and at least `at_least`, with the same remainder
    /// as `ttid` modulo `np`.
    ///
    /// Plain integers: no calendar, so the remainder holds at the end of every month too.
    /// `None` when no usable tid is left.
    ///
    /// # Panics
    /// When `np` is 0.
    #[must_use]
    pub fn next_congruent(last: Self, at_least: Self, ttid: Self, np: u32) -> Option<Self> {
        let np = u64::from(np);
        let from = last.0.checked_add(1)?.max(at_least.0);
        let behind = (ttid.0 % np + np - from % np) % np;
        from.checked_add(behind)
            .filter(|tid| *tid <= Self::MAX.0)
            .map(Self)
    }
}

/// Days since 1970-01-01 of a date of the Gregorian calendar.
///
/// # Source
/// Howard Hinnant, "chrono-Compatible Low-Level Date Algorithms", `days_from_civil`.
fn days_from_civil(year: i64, month: i64, day: i64) -> i64 {
    let y = if month <= 2 { year - 1 } else { year };
    let era = y.div_euclid(400);
    let yoe = y.rem_euclid(400);
    let doy = (153 * (month + if month > 2 { -3 } else { 9 }) + 2) / 5 + day - 1;
    let doe = yoe * 365 + yoe / 4 - yoe / 100 + doy;
    era * 146_097 + doe - 719_468
}

/// The inverse of [`days_from_civil`].
fn civil_from_days(days: i64) -> (i64, i64, i64) {
    let z = days + 719_468;
    let era = z.div_euclid(146_097);
    let doe = z.rem_euclid(146_097);
    let yoe = (doe - doe / 1460 + doe / 36_524 - doe / 146_096) / 365;
    let doy = doe - (365 * yoe + yoe / 4 - yoe / 100);
    let mp = (5 * doy + 2) / 153;
    let day = doy - (153 * mp + 2) / 5 + 1;
    let month = if mp < 10 { mp + 3 } else { mp - 9 };
    (yoe + era * 400 + i64::from(month <= 2), month, day)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn reads_a_tid_that_zodb_wrote() {
        let t = Tid(0x040d_2bd6_91f0_e299).to_timestamp();
        assert_eq!((t.year, t.month), (2026, 11));
        // ZODB: TimeStamp(2026, 11, 21, 21, 45, 30).raw()
        let half = Tid::from_unix(UnixMicros(1_795_297_530_000_000));
        assert_eq!(
            half.to_timestamp().to_string(),
            "2026-11-21 21:45:30.000000"
        );
        assert_eq!(half.0 as u32, 0x8000_0000);
    }

    #[test]
    fn month_ends_keep_the_remainder() {
        // The last instants of a 30-day month, where calendar arithmetic would skip to the next.
        let end = Tid::from_unix(UnixMicros(1_796_083_199_999_999));
        assert_eq!(end.to_timestamp().day, 30);
        for np in [7, 13, 100] {
            let mut last = end;
            for r in 0..np {
                let ttid = Tid(end.0 + u64::from(r));
                let tid = Tid::next_congruent(last, Tid::ZERO, ttid, np).unwrap();
                assert!(tid > last);
                assert_eq!(tid.0 % u64::from(np), ttid.0 % u64::from(np));
                last = tid;
            }
        }
    }

    #[test]
    fn the_ends_of_the_range() {
        assert_eq!(Tid::from_unix(UnixMicros(i64::MIN)), Tid::ZERO);
        assert_eq!(Tid::from_unix(UnixMicros(i64::MAX)), Tid::MAX);
        assert_eq!(Tid::next(Tid::MAX, UnixMicros(0)), None);
        assert_eq!(Tid::next(Tid(u64::MAX), UnixMicros(0)), None);
        assert_eq!(
            Tid::next_congruent(Tid(Tid::MAX.0 - 1), Tid::ZERO, Tid(0), 100),
            None
        );
    }

    proptest! {
        #[test]
        fn a_clock_reads_back_to_the_microsecond(micros in 0i64..100_000_000_000_000_000) {
            let at = UnixMicros(micros);
            prop_assert_eq!(Tid::from_unix(at).to_unix(), at);
        }

        #[test]
        fn next_is_after_both(last in 0u64..Tid::MAX.0, micros in 0i64..4_000_000_000_000_000) {
            let tid = Tid::next(Tid(last), UnixMicros(micros)).unwrap();
            prop_assert!(tid.0 > last);
            prop_assert!(tid >= Tid::from_unix(UnixMicros(micros)));
        }

        #[test]
        fn next_congruent_is_the_least(
            last in 0u64..1 << 60, at in 0u64..1 << 60, ttid in 0u64..1 << 60, np in 1u32..2000,
        ) {
            let tid = Tid::next_congruent(Tid(last), Tid(at), Tid(ttid), np).unwrap().0;
            let n = u64::from(np);
            prop_assert!(tid > last && tid >= at && tid % n == ttid % n);
            prop_assert!(tid < n || tid - n <= last || tid - n < at);
        }
    }
}
