//! From the start of the command to the line that says RUNNING, of fresh clusters.

use std::time::Instant;

use anyhow::Result;

use crate::Options;
use crate::cluster::{Cluster, Shape};
use crate::report::{Report, Want};
use crate::stats::Latencies;

const STARTS: usize = 20;

/// Starts clusters as a newcomer would, in one process and in several.
pub(crate) fn part(options: &Options, report: &mut Report) -> Result<()> {
    let shape = Shape {
        storages: 2,
        replicas: 1,
    };
    for (processes, how) in [(false, "in one process"), (true, "a process a node")] {
        let mut latencies = Latencies::default();
        for _ in 0..STARTS {
            let dir = tempfile::tempdir_in(&options.dir)?;
            let start = Instant::now();
            let cluster = Cluster::start_as(&dir.path().join("cluster"), shape, processes)?;
            latencies.add(start.elapsed());
            cluster.stop()?;
        }
        report.target(
            format!("fresh cluster RUNNING, {how}, median of {STARTS}, ms"),
            latencies.p50() / 1e3,
            300.0,
            Want::AtMost,
        );
    }
    Ok(())
}
