//! `neobench`: whole-cluster workloads, beside what the machine can do without neo.
//!
//! Nodes are processes of their own, over SQLite on the disk of `--dir`; the client is this
//! process. Everything is measured in one run, on one machine: read the ratios.

mod availability;
mod backends;
mod cluster;
mod import;
mod limits;
mod report;
mod start;
mod stats;
mod workload;

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, Result, bail};
use clap::{Parser, Subcommand};
use neo_client::Client;
use tokio::signal::unix::{SignalKind, signal};

use crate::availability::absence::Absence;
use crate::availability::failover::Failover;
use crate::availability::pack::Packing;
use crate::availability::replica::Replica;
use crate::backends::{Backends, Work};
use crate::cluster::{Cluster, Shape, Usage};
use crate::report::Report;
use crate::workload::{CommitLoad, commits};

/// Whole-cluster workloads for neo, beside the limits of the machine.
#[derive(Debug, Parser)]
struct Options {
    /// Where databases are made; their disk is what is measured.
    #[arg(long, default_value = "target/neobench", global = true)]
    dir: PathBuf,
    /// Seconds for each figure.
    #[arg(long, default_value_t = 2.0)]
    seconds: f64,
    /// Megabytes of the import, and of the database in the memory figures.
    #[arg(long, default_value_t = 1024)]
    megabytes: u64,
    /// Writes the figures to a file, as JSON.
    #[arg(long, global = true)]
    json: Option<PathBuf>,
    /// Only these parts: limits, start, commit, load, import (default: all). Limits are always
    /// measured.
    #[arg(long, value_delimiter = ',')]
    only: Vec<String>,
    /// Only commits on these clusters, as STORAGES:REPLICAS (default: all).
    #[arg(long, value_delimiter = ',')]
    clusters: Vec<String>,
    /// Only these commits, as CONCURRENCY:BYTES:OBJECTS (default: all).
    #[arg(long, value_delimiter = ',')]
    loads: Vec<String>,
    /// What to measure instead of these parts.
    #[command(subcommand)]
    command: Option<Command>,
}

/// What is measured on its own: it takes its time.
#[derive(Debug, Subcommand)]
enum Command {
    /// From SIGKILL of the primary master, and of a storage node, to the next commit
    Failover(Failover),
    /// What it costs that a storage node was away for a while
    Absence(Absence),
    /// A fresh replica, beside the raw speed of the backend
    Replica(Replica),
    /// A pack of a large database while clients commit
    Pack(Packing),
    /// Every backend, beside the database that it stands on without neo
    Backends(Backends),
    /// What `backends` does in a process of its own
    #[command(hide = true)]
    BackendWork(Work),
}

impl Options {
    fn wants_commits(&self, shape: Shape, load: CommitLoad) -> bool {
        let cluster = format!("{}:{}", shape.storages, shape.replicas);
        let load = format!(
            "{}:{}:{}",
            load.concurrency, load.object_bytes, load.objects
        );
        (self.clusters.is_empty() || self.clusters.contains(&cluster))
            && (self.loads.is_empty() || self.loads.contains(&load))
    }

    fn wants(&self, part: &str) -> bool {
        self.only.is_empty() || self.only.iter().any(|p| p == part)
    }

    fn time(&self) -> Duration {
        Duration::from_secs_f64(self.seconds)
    }
}

const SHAPES: [Shape; 3] = [
    Shape {
        storages: 1,
        replicas: 0,
    },
    Shape {
        storages: 2,
        replicas: 0,
    },
    Shape {
        storages: 2,
        replicas: 1,
    },
];

fn main() -> Result<()> {
    let options = Options::parse();
    if let Some(Command::BackendWork(work)) = &options.command {
        return work.run();
    }
    std::fs::create_dir_all(&options.dir)?;
    let dir = tempfile::tempdir_in(&options.dir)?;
    let mut report = Report::new();
    if let Some(Command::Backends(backends)) = &options.command {
        backends.measure(dir.path(), &mut report)?;
        return finish(&options, &report);
    }
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build()?;
    if let Some(command) = &options.command {
        let dir = dir.path().join("cluster");
        let measuring = async {
            match command {
                Command::Failover(failover) => failover.measure(&dir, &mut report).await,
                Command::Absence(absence) => absence.measure(&dir, &mut report).await,
                Command::Replica(replica) => replica.measure(&dir, &mut report).await,
                Command::Pack(packing) => packing.measure(&dir, &mut report).await,
                Command::Backends(_) | Command::BackendWork(_) => Ok(()),
            }
        };
        runtime.block_on(async {
            let mut terminate = signal(SignalKind::terminate())?;
            // The nodes end with what is dropped.
            tokio::select! {
                measured = measuring => measured,
                _ = tokio::signal::ctrl_c() => bail!("interrupted"),
                _ = terminate.recv() => bail!("terminated"),
            }
        })?;
        return finish(&options, &report);
    }

    let echo = limits::tcp_echo(64, 20_000)?.p50();
    let echo_1k = limits::tcp_echo(1024, 20_000)?.p50();
    let fsync = limits::fsync(dir.path(), 500)?.p50();
    let raw = limits::RawSqlite::create(&dir.path().join("raw.db"), 128, 1)?
        .latencies(500)?
        .p50();
    report.limit("TCP echo, 64 B, p50", echo, "us");
    report.limit("TCP echo, 1 KiB, p50", echo_1k, "us");
    report.limit("append 4 KiB and fdatasync, p50", fsync, "us");
    report.limit("durable SQLite commit, one 128 B object, p50", raw, "us");

    if options.wants("start") {
        start::part(&options, &mut report)?;
    }
    if options.wants("commit") {
        for shape in SHAPES {
            runtime.block_on(commit_part(&options, shape, echo, raw, &mut report))?;
        }
    }
    if options.wants("load") {
        // One thread, as in the echo: the application's and the client's tasks take turns on it.
        let single = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()?;
        single.block_on(load_part(&options, echo_1k, &mut report))?;
    }
    if options.wants("import") {
        runtime.block_on(import::part(&options, &mut report))?;
    }
    finish(&options, &report)
}

/// Prints the table, and writes the file.
fn finish(options: &Options, report: &Report) -> Result<()> {
    print!("{report}");
    if let Some(path) = &options.json {
        std::fs::write(path, report.to_json()?)
            .with_context(|| format!("cannot write {}", path.display()))?;
    }
    Ok(())
}

async fn connect(cluster: &Cluster, cache_bytes: usize) -> Result<Arc<Client>> {
    let client = Client::builder("main")
        .master(cluster.master())
        .cache_bytes(cache_bytes);
    Ok(Arc::new(client.connect().await?))
}

async fn commit_part(
    options: &Options,
    shape: Shape,
    echo: f64,
    raw: f64,
    report: &mut Report,
) -> Result<()> {
    let loads = [
        (128, 1),
        (128, 10),
        (128, 100),
        (4096, 1),
        (4096, 10),
        (4096, 100),
        (102_400, 1),
        (102_400, 10),
        (102_400, 100),
    ];
    for concurrency in [1, 8, 64] {
        for (object_bytes, objects) in loads {
            let load = CommitLoad {
                concurrency,
                object_bytes,
                objects,
                time: options.time(),
            };
            if !options.wants_commits(shape, load) {
                continue;
            }
            let dir = tempfile::tempdir_in(&options.dir)?;
            let cluster = Cluster::start(&dir.path().join("cluster"), shape)?;
            let client = connect(&cluster, 0).await?;
            let before = cluster.usage()?;
            let done = commits(&client, load).await?;
            let usage = cluster.usage()?;
            report.commits(shape, load, &done, &spent(&before, &usage));
            if concurrency == 1 && object_bytes == 128 && objects == 1 {
                let bound = 2.0 * raw + 10.0 * echo;
                report.target(
                    format!("{}: one small commit, p50, us", report::name(shape)),
                    done.latencies.p50(),
                    bound,
                    report::Want::AtMost,
                );
            }
            drop(client);
            let syncs = cluster.stop()?;
            if concurrency == 64 && object_bytes < 100_000 {
                let group = (done.latencies.len() as f64 / syncs.max(1.0)).max(1.0);
                let mut raw =
                    limits::RawSqlite::create(&dir.path().join("raw.db"), object_bytes, objects)?;
                let limit = raw.throughput(group.round() as usize, options.time())?;
                report.target(
                    format!(
                        "{}: 64 concurrent, {objects} x {object_bytes} B, commits/s (half of raw SQLite, groups of {group:.0})",
                        report::name(shape)
                    ),
                    done.per_second,
                    limit / 2.0,
                    report::Want::AtLeast,
                );
            }
        }
    }
    Ok(())
}

/// Processor time of each process between two readings.
fn spent(before: &[Usage], after: &[Usage]) -> Vec<(String, Duration)> {
    before
        .iter()
        .zip(after)
        .map(|(b, a)| (a.role.clone(), a.cpu.saturating_sub(b.cpu)))
        .collect()
}

async fn load_part(options: &Options, echo: f64, report: &mut Report) -> Result<()> {
    let dir = tempfile::tempdir_in(&options.dir)?;
    let cluster = Cluster::start(&dir.path().join("cluster"), SHAPES[2])?;
    let writer = connect(&cluster, 0).await?;
    let oids = workload::populate(&writer, 20_000, 1024).await?;
    let cold = workload::loads(&writer, &oids, 20_000).await?;
    report.line("cold load, 1 KiB, p50", cold.p50(), "us");
    report.line("cold load, 1 KiB, p99", cold.p99(), "us");
    let want = report::Want::AtMost;
    report.target(
        "cold load of 1 KiB, p50, us (4 x TCP echo)".into(),
        cold.p50(),
        4.0 * echo,
        want,
    );
    let cached = connect(&cluster, 256 << 20).await?;
    let rate = workload::cached_loads(&cached, &oids[..10_000], options.time()).await?;
    let want = report::Want::AtLeast;
    report.target("cached loads/s on one thread".into(), rate, 2e6, want);
    drop((writer, cached));
    cluster.stop()?;
    Ok(())
}
