//! Latencies and the figures made of them.

use std::time::Duration;

/// Latencies of one kind of operation.
#[derive(Debug, Default, Clone)]
pub(crate) struct Latencies {
    nanos: Vec<u64>,
}

impl Latencies {
    /// Adds one.
    pub(crate) fn add(&mut self, latency: Duration) {
        self.nanos
            .push(u64::try_from(latency.as_nanos()).unwrap_or(u64::MAX));
    }

    /// Adds those of another worker.
    pub(crate) fn merge(&mut self, other: &Self) {
        self.nanos.extend_from_slice(&other.nanos);
    }

    /// How many there are.
    pub(crate) fn len(&self) -> usize {
        self.nanos.len()
    }

    /// The latency that a fraction of the operations does not exceed, in microseconds; 0 without
    /// operations.
    pub(crate) fn micros(&self, fraction: f64) -> f64 {
        let mut sorted = self.nanos.clone();
        sorted.sort_unstable();
        let last = sorted.len().saturating_sub(1);
        let at = ((sorted.len() as f64 * fraction) as usize).min(last);
        sorted.get(at).map_or(0.0, |nanos| *nanos as f64 / 1e3)
    }

    /// Half of the operations took less, in microseconds.
    pub(crate) fn p50(&self) -> f64 {
        self.micros(0.5)
    }

    /// One in a hundred took more, in microseconds.
    pub(crate) fn p99(&self) -> f64 {
        self.micros(0.99)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn percentiles() {
        let mut latencies = Latencies::default();
        assert_eq!(latencies.p50(), 0.0);
        for micros in (1..=100).rev() {
            latencies.add(Duration::from_micros(micros));
        }
        assert_eq!((latencies.p50(), latencies.p99()), (51.0, 100.0));
    }
}
