//! Fail-over: from SIGKILL of a node to the next commit.

use std::path::Path;
use std::time::{Duration, Instant};

use anyhow::{Result, ensure};
use clap::Args;
use neo_testkit::seed::Rng;

use super::Fragile;
use super::load::Load;
use crate::report::Report;
use crate::stats::Latencies;

/// From SIGKILL of the primary master, and of a storage node, to the next commit.
#[derive(Debug, Clone, Args)]
pub(crate) struct Failover {
    /// How often each is killed.
    #[arg(long, default_value_t = 50)]
    runs: u32,
    /// Master nodes.
    #[arg(long, default_value_t = 3)]
    masters: u32,
    /// Storage nodes, with one replica.
    #[arg(long, default_value_t = 4)]
    storages: u32,
    /// Transactions at the same time.
    #[arg(long, default_value_t = 4)]
    tasks: u32,
}

/// Until the cluster has everybody back.
const PATIENCE: Duration = Duration::from_secs(120);
/// Between that and the next kill, at most.
const APART_MS: u64 = 500;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Victim {
    Primary,
    Storage,
}

impl Failover {
    /// Measures.
    pub(crate) async fn measure(&self, dir: &Path, report: &mut Report) -> Result<()> {
        ensure!(
            self.masters > 1,
            "--masters: nobody takes over from a single one"
        );
        ensure!(
            self.storages > 1,
            "--storages: nobody has what a single one has"
        );
        let mut fragile = Fragile::start(dir, self.masters, self.storages, 1).await?;
        let client = fragile.client().await?;
        let load = Load::start(&client, self.tasks, None);
        let mut rng = Rng::new(1);
        let mut rows = Vec::new();
        for (victim, name) in [
            (Victim::Primary, "the primary master"),
            (Victim::Storage, "a storage node"),
        ] {
            let mut times = Latencies::default();
            for run in 1..=self.runs {
                let time = self.one(&mut fragile, &load, victim, &mut rng).await?;
                eprintln!(
                    "{name}, {run} of {}: {:.1} ms",
                    self.runs,
                    time.as_secs_f64() * 1e3
                );
                times.add(time);
            }
            let row = [times.p50(), times.micros(1.0)].map(|micros| micros / 1e3);
            rows.push((name.to_owned(), row.to_vec()));
        }
        load.stop().await?;
        let title = format!(
            "from SIGKILL to the next commit, {} runs each; {} masters, {} storages, 1 replica",
            self.runs, self.masters, self.storages
        );
        report.table(title, &["p50 ms", "worst ms"], rows);
        Ok(())
    }

    async fn one(
        &self,
        fragile: &mut Fragile,
        load: &Load,
        victim: Victim,
        rng: &mut Rng,
    ) -> Result<Duration> {
        fragile.whole(PATIENCE).await?;
        tokio::time::sleep(Duration::from_millis(rng.below(APART_MS))).await;
        load.forget();
        let at = match victim {
            Victim::Primary => fragile.primary().await?,
            Victim::Storage => rng.below(u64::from(self.storages)) as usize,
        };
        let process = match victim {
            Victim::Primary => &mut fragile.cluster.masters[at],
            Victim::Storage => &mut fragile.cluster.storages[at],
        };
        let killed = Instant::now();
        process.kill()?;
        let time = load.next_after(killed).await - killed;
        process.start()?;
        Ok(time)
    }
}
