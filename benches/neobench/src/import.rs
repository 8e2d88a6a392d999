//! Import of a FileStorage, and the memory of nodes with a large database.

use std::path::Path;
use std::process::{Command, Stdio};
use std::time::Instant;

use anyhow::{Context, Result, ensure};
use neo_api::{Oid, Tid, TransactionMeta};
use neo_backends::filestorage::{NewData, Status, Writer};

use crate::cluster::{Cluster, Shape};
use crate::report::{Report, Want};
use crate::workload::{self, CommitLoad, commits};
use crate::{Options, connect, limits};

const OBJECT_BYTES: usize = 4096;
const OBJECTS: usize = 25;

/// Imports a database into one SQLite storage, then commits to it, and looks at the memory.
pub(crate) async fn part(options: &Options, report: &mut Report) -> Result<()> {
    let dir = tempfile::tempdir_in(&options.dir)?;
    let idle = Cluster::start(
        &dir.path().join("idle"),
        Shape {
            storages: 1,
            replicas: 0,
        },
    )?;
    let master = resident(&idle, "master")?;
    report.target(
        "idle master, most resident MiB".into(),
        master,
        20.0,
        Want::AtMost,
    );
    idle.stop()?;

    let source = dir.path().join("source.fs");
    let (megabytes, objects) = write_filestorage(&source, options.megabytes)?;
    let group = (1 << 20) / (OBJECT_BYTES * OBJECTS);
    let raw = limits::RawSqlite::create(&dir.path().join("raw.db"), OBJECT_BYTES, OBJECTS)?
        .throughput(group, options.time())?;
    let raw = raw * (OBJECT_BYTES * OBJECTS) as f64 / 1e6;
    report.limit("SQLite inserts of 4 KiB objects, a sync a MiB", raw, "MB/s");

    let cluster = Cluster::start(
        &dir.path().join("cluster"),
        Shape {
            storages: 1,
            replicas: 0,
        },
    )?;
    let before = cluster.usage()?;
    let start = Instant::now();
    migrate(&cluster, &source)?;
    let rate = megabytes / start.elapsed().as_secs_f64();
    report.target(
        "import of 4 KiB objects, MB/s".into(),
        rate,
        50.0,
        Want::AtLeast,
    );
    let after = cluster.usage()?;
    for (role, time) in crate::spent(&before, &after) {
        report.line(
            format!("import: processor seconds of {role}"),
            time.as_secs_f64(),
            "s",
        );
    }

    let client = connect(&cluster, 0).await?;
    let load = CommitLoad {
        concurrency: 64,
        object_bytes: OBJECT_BYTES,
        objects: 10,
        time: options.time() * 3,
    };
    commits(&client, load).await?;
    let oids: Vec<Oid> = (0..objects).map(Oid).collect();
    workload::loads(&client, &oids, 50_000).await?;
    let storage = resident(&cluster, "storage")?;
    report.target(
        format!("storage with {megabytes:.0} MB under load, most resident MiB"),
        storage,
        150.0,
        Want::AtMost,
    );
    drop(client);
    cluster.stop()?;
    Ok(())
}

fn resident(cluster: &Cluster, role: &str) -> Result<f64> {
    let usage = cluster.usage()?;
    let process = usage.iter().find(|usage| usage.role == role);
    let process = process.with_context(|| format!("no {role} process"))?;
    Ok(process.resident_max as f64 / f64::from(1 << 20))
}

/// Writes a FileStorage of about so many megabytes; returns its size in megabytes, and how many
/// objects it has.
fn write_filestorage(path: &Path, megabytes: u64) -> Result<(f64, u64)> {
    let value = workload::incompressible(OBJECT_BYTES);
    let transactions = megabytes * 1_000_000 / (OBJECT_BYTES * OBJECTS) as u64;
    let mut writer = Writer::create(path)?;
    let first: Tid = "040d2bd691f0e299".parse()?;
    let mut oid = 0;
    for n in 0..transactions {
        writer.begin(
            Tid(first.0 + n * 1_000_000),
            Status::Normal,
            &TransactionMeta::default(),
        )?;
        for _ in 0..OBJECTS {
            writer.record(Oid(oid), NewData::Data(&value))?;
            oid += 1;
        }
        writer.finish_transaction()?;
    }
    writer.finish()?;
    Ok((std::fs::metadata(path)?.len() as f64 / 1e6, oid))
}

fn migrate(cluster: &Cluster, source: &Path) -> Result<()> {
    let program = std::env::current_exe()?.with_file_name("neomigrate");
    let status = Command::new(&program)
        .args(["-q", "-c", "main"])
        .arg(source)
        .arg(cluster.master())
        .stdin(Stdio::null())
        .status()
        .with_context(|| format!("cannot run {}", program.display()))?;
    ensure!(status.success(), "neomigrate failed: {status}");
    Ok(())
}
