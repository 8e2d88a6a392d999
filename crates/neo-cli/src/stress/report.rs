//! The last line.

use std::collections::BTreeMap;
use std::fmt;

use super::args::Kind;

/// What a run came to.
#[derive(Debug, Clone, Default, PartialEq)]
pub(super) struct Report {
    /// Transactions that clients were told are committed.
    pub(super) commits: usize,
    /// Seconds in which they were.
    pub(super) seconds: f64,
    /// How often what was done to the cluster.
    pub(super) faults: BTreeMap<Kind, u64>,
    /// What must not be.
    pub(super) anomalies: usize,
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let rate = self.commits as f64 / self.seconds.max(0.001);
        write!(f, "{} commits, {rate:.0} commits/s, faults:", self.commits)?;
        if self.faults.is_empty() {
            f.write_str(" none")?;
        }
        for (kind, made) in &self.faults {
            write!(f, " {}={made}", kind.name())?;
        }
        write!(f, ", {} anomalies", self.anomalies)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_last_line_has_all_figures() {
        let report = Report {
            commits: 1000,
            seconds: 8.0,
            faults: [(Kind::Kill, 3), (Kind::Reset, 7)].into(),
            anomalies: 0,
        };
        assert_eq!(
            report.to_string(),
            "1000 commits, 125 commits/s, faults: kill=3 reset=7, 0 anomalies"
        );
    }
}
