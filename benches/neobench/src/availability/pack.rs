//! A pack of a large database while clients commit.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::AtomicU64;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use bytes::Bytes;
use clap::Args;
use neo_client::{Client, Oid, Tid, TransactionMeta};

use super::Fragile;
use super::load::Load;
use crate::report::Report;
use crate::workload::incompressible;

/// Every object but one revision of each goes, from two replicas.
#[derive(Debug, Clone, Args)]
pub(crate) struct Packing {
    /// Revisions in the database.
    #[arg(long, default_value_t = 1_000_000)]
    revisions: u64,
    /// Revisions of each object.
    #[arg(long, default_value_t = 10)]
    each: u64,
    /// Bytes of each.
    #[arg(long, default_value_t = 512)]
    bytes: usize,
    /// Commits a second meanwhile, of 4 KiB each.
    #[arg(long, default_value_t = 200.0)]
    rate: f64,
    /// Seconds that are measured before and after.
    #[arg(long, default_value_t = 10.0)]
    window: f64,
}

const TASKS: u32 = 8;
/// Transactions at the same time while the database is filled, and objects in each.
const FILL: (u64, u64) = (16, 100);

impl Packing {
    /// Measures.
    pub(crate) async fn measure(&self, dir: &Path, report: &mut Report) -> Result<()> {
        let fragile = Fragile::start(dir, 1, 2, 1).await?;
        let client = fragile.client().await?;
        let start = Instant::now();
        self.fill(&client).await?;
        let rate = self.revisions as f64 / start.elapsed().as_secs_f64();
        report.line("filled, both replicas", rate, "revisions/s");
        let at = client.sync().await?;

        let window = Duration::from_secs_f64(self.window);
        let load = Load::start(&client, TASKS, Some(self.rate));
        let begun = Instant::now();
        tokio::time::sleep(window).await;
        let memory_before = fragile.memory("VmRSS:", true)?;
        let disk_before = fragile.disk()?;
        let ordered = Instant::now();
        client.pack(at).await?.wait().await?;
        let packed = Instant::now();
        let memory_peak = fragile.memory("VmHWM:", false)?;
        let disk_after = fragile.disk()?;
        tokio::time::sleep(window).await;
        let end = Instant::now();

        let took = (packed - ordered).as_secs_f64();
        let mut row = vec![took, self.revisions as f64 / took];
        for (from, to) in [(begun, ordered), (ordered, packed), (packed, end)] {
            let latencies = load.begun_between(from, to);
            row.extend([latencies.p50() / 1e3, latencies.p99() / 1e3]);
        }
        row.extend([memory_before, memory_peak, disk_before, disk_after]);
        load.stop().await?;
        let title = format!(
            "a pack of {} revisions of {} B, {} of each object, on two replicas; {} commits of \
             4 KiB a second meanwhile, latencies in ms; MB of both storage nodes together",
            self.revisions, self.bytes, self.each, self.rate
        );
        let columns = [
            "s",
            "revisions/s",
            "before p50",
            "p99",
            "packing p50",
            "p99",
            "after p50",
            "p99",
            "memory before",
            "peak",
            "disk before",
            "after",
        ];
        report.table(title, &columns, vec![("pack".to_owned(), row)]);
        Ok(())
    }

    /// Commits every object as often as it has revisions.
    async fn fill(&self, client: &Client) -> Result<()> {
        let (tasks, objects) = FILL;
        let groups = self.revisions / self.each.max(1) / objects;
        let next = Arc::new(AtomicU64::new(0));
        let value = Bytes::from(incompressible(self.bytes));
        let start = || {
            let (client, value, next) = (client.clone(), value.clone(), Arc::clone(&next));
            let each = self.each;
            tokio::spawn(async move {
                while next.fetch_add(1, Ordering::Relaxed) < groups {
                    let mut oids: Vec<(Oid, Tid)> = Vec::new();
                    for _ in 0..objects {
                        oids.push((client.new_oid().await?, Tid::ZERO));
                    }
                    for _ in 0..each {
                        let transaction = client.begin(TransactionMeta::default()).await?;
                        for (oid, serial) in &oids {
                            transaction.store(*oid, *serial, value.clone()).await?;
                        }
                        let tid = transaction.commit().await?;
                        oids.iter_mut().for_each(|(_, serial)| *serial = tid);
                    }
                }
                anyhow::Ok(())
            })
        };
        let workers: Vec<_> = (0..tasks).map(|_| start()).collect();
        for worker in workers {
            worker.await??;
        }
        Ok(())
    }
}

impl Fragile {
    /// Megabytes of the storage nodes' memory, as the kernel counts them; the peak may begin anew.
    fn memory(&self, what: &str, reset: bool) -> Result<f64> {
        let mut kilobytes = 0.0;
        for storage in &self.cluster.storages {
            let pid = storage.pid().context("a storage node is down")?;
            let status = std::fs::read_to_string(format!("/proc/{pid}/status"))?;
            let line = status.lines().find_map(|line| line.strip_prefix(what));
            let number = line.and_then(|line| line.split_whitespace().next());
            let number: f64 = number.context("the kernel does not tell")?.parse()?;
            kilobytes += number;
            if reset {
                std::fs::write(format!("/proc/{pid}/clear_refs"), "5")?;
            }
        }
        Ok(kilobytes * 1024.0 / 1e6)
    }

    /// Megabytes of the storage nodes' databases.
    fn disk(&self) -> Result<f64> {
        let mut bytes = 0;
        for storage in 0..self.cluster.storages.len() {
            let database = PathBuf::from(self.options.database(storage));
            for suffix in ["", "-wal"] {
                let mut path = database.clone().into_os_string();
                path.push(suffix);
                bytes += std::fs::metadata(path).map_or(0, |file| file.len());
            }
        }
        Ok(bytes as f64 / 1e6)
    }
}
