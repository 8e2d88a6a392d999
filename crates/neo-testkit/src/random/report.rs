//! What happened in random runs.

use std::fmt;
use std::time::Duration;

use crate::sim::Tally;

/// What happened in a run in which nothing was wrong.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Report {
    /// Its seed.
    pub seed: u64,
    /// Of the trace: two runs with the same are the same.
    pub hash: u64,
    /// Transactions that were committed, as their clients were told.
    pub commits: usize,
    /// Transactions that were not.
    pub aborts: usize,
    /// Transactions of which nobody could tell.
    pub unknown: usize,
    /// Conflicts that were merged.
    pub merged: usize,
    /// Reads that were answered, and checked.
    pub reads: usize,
    /// Faults by kind.
    pub faults: Tally,
    /// How often another master became the primary.
    pub primaries: usize,
    /// Virtual time.
    pub time: Duration,
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self {
            seed,
            hash,
            commits,
            faults,
            primaries,
            time,
            ..
        } = self;
        write!(
            f,
            "seed {seed}: {commits} commits, {} faults, {primaries} changes of primary, {:.1} s, \
             hash {hash:016x}",
            faults.total(),
            time.as_secs_f64()
        )
    }
}

/// What happened in many runs.
#[derive(Debug, Clone, Default)]
pub struct Totals {
    reports: Vec<Report>,
    failures: usize,
}

impl Totals {
    /// Adds a run in which nothing was wrong.
    pub fn add(&mut self, report: Report) {
        self.reports.push(report);
    }

    /// Counts a run in which something was.
    pub const fn add_failure(&mut self) {
        self.failures += 1;
    }

    /// How many runs failed.
    #[must_use]
    pub const fn failures(&self) -> usize {
        self.failures
    }

    /// The reports, in no order.
    #[must_use]
    pub fn reports(&self) -> &[Report] {
        &self.reports
    }

    /// Something of the run in the middle, of those that have not failed.
    #[must_use]
    pub fn median(&self, of: impl Fn(&Report) -> usize) -> usize {
        let mut all: Vec<usize> = self.reports.iter().map(of).collect();
        all.sort_unstable();
        all.get(all.len() / 2).copied().unwrap_or_default()
    }
}

impl fmt::Display for Totals {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let sum = |of: fn(&Report) -> usize| self.reports.iter().map(of).sum::<usize>();
        let mut faults = Tally::default();
        let mut time = Duration::ZERO;
        for report in &self.reports {
            faults += report.faults;
            time += report.time;
        }
        write!(
            f,
            "{} seeds, {} commits (median {}), {} not committed, {} unknown, {} reads, {} merged; \
             {} faults (median {}):",
            self.reports.len() + self.failures,
            sum(|report| report.commits),
            self.median(|report| report.commits),
            sum(|report| report.aborts),
            sum(|report| report.unknown),
            sum(|report| report.reads),
            sum(|report| report.merged),
            faults.total(),
            self.median(|report| report.faults.total()),
        )?;
        for (kind, count) in faults.kinds() {
            write!(f, " {count} {kind},")?;
        }
        write!(
            f,
            " {} changes of primary (median {}), {} s simulated, {} failures",
            sum(|report| report.primaries),
            self.median(|report| report.primaries),
            time.as_secs(),
            self.failures
        )
    }
}
