//! Absence: what it costs that a storage node was away for a while.

use std::path::Path;
use std::time::{Duration, Instant};

use anyhow::Result;
use clap::Args;
use neo_api::{NodeId, NodeType};

use super::Fragile;
use super::load::{Load, OBJECT_BYTES, fill};
use crate::report::Report;

/// One of two replicas is killed under load, and comes back after some time.
#[derive(Debug, Clone, Args)]
pub(crate) struct Absence {
    /// How long it is away, in seconds: one row each.
    #[arg(long, value_delimiter = ',', default_value = "1,10,100")]
    away: Vec<f64>,
    /// Megabytes of values that are there before.
    #[arg(long, default_value_t = 1074)]
    megabytes: u64,
    /// Commits a second, of 4 KiB each.
    #[arg(long, default_value_t = 500.0)]
    rate: f64,
    /// Seconds that are measured before and after.
    #[arg(long, default_value_t = 10.0)]
    window: f64,
}

const TASKS: u32 = 8;
/// Until it has caught up.
const PATIENCE: Duration = Duration::from_secs(900);

impl Absence {
    /// Measures.
    pub(crate) async fn measure(&self, dir: &Path, report: &mut Report) -> Result<()> {
        let mut fragile = Fragile::start(dir, 1, 2, 1).await?;
        let client = fragile.client().await?;
        let start = Instant::now();
        let bytes = fill(&client, self.megabytes).await?;
        let rate = bytes as f64 / 1e6 / start.elapsed().as_secs_f64();
        report.line("filled, both replicas", rate, "MB/s");
        let mut rows = Vec::new();
        for away in &self.away {
            let load = Load::start(&client, TASKS, Some(self.rate));
            let row = self
                .one(&mut fragile, &load, Duration::from_secs_f64(*away))
                .await?;
            eprintln!("away for {away} s: {row:.1?}");
            rows.push((format!("away for {away} s"), row));
            load.stop().await?;
        }
        let title = format!(
            "a storage node that was away; {:.0} MB, {} commits of {OBJECT_BYTES} B a second; \
             latencies in ms",
            bytes as f64 / 1e6,
            self.rate
        );
        let columns = [
            "missed txns",
            "missed MB",
            "s to U",
            "before p50",
            "p99",
            "away p50",
            "p99",
            "catching up p50",
            "p99",
            "after p50",
            "p99",
        ];
        report.table(title, &columns, rows);
        Ok(())
    }

    async fn one(&self, fragile: &mut Fragile, load: &Load, away: Duration) -> Result<Vec<f64>> {
        fragile.whole(PATIENCE).await?;
        let window = Duration::from_secs_f64(self.window);
        let start = Instant::now();
        tokio::time::sleep(window).await;

        let killed = Instant::now();
        fragile.cluster.storages[1].kill()?;
        tokio::time::sleep(away).await;
        let back = Instant::now();
        fragile.cluster.storages[1].start()?;
        let absent = NodeId::new(NodeType::Storage, 2);
        let is_up = |view: &neo_testkit::process::View| {
            let is_up = absent.is_some_and(|nid| view.up().contains(&nid));
            (!is_up).then(|| "the node that was away".to_owned())
        };
        fragile.until(PATIENCE, is_up).await?;
        let joined = Instant::now();
        fragile.whole(PATIENCE).await?;
        let caught_up = Instant::now();
        tokio::time::sleep(window).await;
        let end = Instant::now();

        let missed = load.ended_between(killed, joined);
        let mut row = vec![
            missed as f64,
            (missed * OBJECT_BYTES) as f64 / 1e6,
            (caught_up - back).as_secs_f64(),
        ];
        for (from, to) in [
            (start, killed),
            (killed, back),
            (back, caught_up),
            (caught_up, end),
        ] {
            let latencies = load.begun_between(from, to);
            row.extend([latencies.p50() / 1e3, latencies.p99() / 1e3]);
        }
        Ok(row)
    }
}
