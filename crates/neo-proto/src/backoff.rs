//! How long to wait before the next attempt.

use std::time::Duration;

/// Exponential backoff with jitter: each delay is up to twice the one before, up to a maximum, and
/// nodes that failed together do not come back together.
///
/// ```
/// use std::time::Duration;
/// use neo_proto::Backoff;
///
/// let mut backoff = Backoff::default();
/// assert!(backoff.delay(7) <= Duration::from_millis(5));
/// for random in 0..20 {
///     assert!(backoff.delay(random) <= Duration::from_secs(1));
/// }
/// backoff.reset();
/// assert!(backoff.delay(7) <= Duration::from_millis(5));
/// ```
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Backoff {
    first: Duration,
    max: Duration,
    next: Duration,
}

impl Default for Backoff {
    /// 5 ms doubling to 1 s: a cluster that starts must not wait, one that is down is asked gently.
    fn default() -> Self {
        Self::new(Duration::from_millis(5), Duration::from_secs(1))
    }
}

impl Backoff {
    /// A backoff that begins with `first` and ends at `max`.
    #[must_use]
    pub const fn new(first: Duration, max: Duration) -> Self {
        Self {
            first,
            max,
            next: first,
        }
    }

    /// How long to wait now: between a half and the whole of the next delay, as 64 random bits
    /// ([`Env::random`](neo_api::Env::random), or a core's own generator) have it.
    pub fn delay(&mut self, random: u64) -> Duration {
        let whole = self.next;
        self.next = whole.saturating_mul(2).min(self.max);
        let half = whole / 2;
        let nanos = u64::try_from(half.as_nanos()).unwrap_or(u64::MAX - 1);
        half + Duration::from_nanos(random % (nanos + 1))
    }

    /// The attempt succeeded: the next delay is the first one again.
    pub const fn reset(&mut self) {
        self.next = self.first;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn delays_double_up_to_the_maximum() {
        let mut backoff = Backoff::default();
        let delays: Vec<u128> = (0..10)
            .map(|_| backoff.delay(u64::MAX).as_millis())
            .collect();
        let mut whole = 5;
        for delay in delays {
            assert!((whole / 2..=whole).contains(&delay), "{delay} of {whole}");
            whole = (whole * 2).min(1000);
        }
    }
}
