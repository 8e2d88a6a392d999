//! A fresh replica, beside the raw speed of the backend.

use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use clap::Args;
use neo_api::{
    ClusterState, DataId, Durability, FetchedRevision, NodeState, NodeType, ObjectData, Oid,
    PageLimit, Partition, RevisionId, StorageBackend, Tid, WriteBatch, WriteOp,
};
use neo_testkit::process::View;

use super::Fragile;
use super::load::fill;
use crate::report::{Report, Want};

/// A storage node without data becomes the replica of one with data.
#[derive(Debug, Clone, Args)]
pub(crate) struct Replica {
    /// Megabytes of values.
    #[arg(long, default_value_t = 1074)]
    megabytes: u64,
}

const PATIENCE: Duration = Duration::from_secs(900);
/// Of what is copied at once; one sync each.
const PAGE: PageLimit = PageLimit {
    entries: 1_000,
    bytes: 4 << 20,
};

impl Replica {
    /// Measures.
    pub(crate) async fn measure(&self, dir: &Path, report: &mut Report) -> Result<()> {
        let mut fragile = Fragile::start(dir, 1, 1, 0).await?;
        let client = fragile.client().await?;
        let bytes = fill(&client, self.megabytes).await?;
        client.close().await;
        let megabytes = bytes as f64 / 1e6;
        let control = fragile.watcher.control().await?;
        control.set_cluster_state(ClusterState::Stopping).await?;
        fragile.cluster.storages[0].wait()?;
        fragile.cluster.stop()?;

        let raw = self.copy(&fragile, dir).await?;
        let raw = megabytes / raw.as_secs_f64();
        report.limit("a copy of the database through the backend", raw, "MB/s");

        fragile.cluster.start_all()?;
        fragile.whole(PATIENCE).await?;
        fragile.cluster.add_storage(&fragile.options)?;
        let pending = |view: &View| {
            let mut nodes = view.nodes.iter();
            let is_there = nodes.any(|node| {
                node.node_type() == NodeType::Storage && node.state == NodeState::Pending
            });
            (!is_there).then(|| "a storage node that is PENDING".to_owned())
        };
        fragile.until(PATIENCE, pending).await?;
        let control = fragile.watcher.control().await?;
        control.add_nodes(Vec::new()).await?;
        control.set_replicas(1).await?;
        let added = |view: &View| (view.up().len() < 2).then(|| "the node to take part".to_owned());
        fragile.until(PATIENCE, added).await?;
        let control = fragile.watcher.control().await?;
        let start = Instant::now();
        control.tweak(false, Vec::new()).await?;
        let replicated = |view: &View| {
            let cells = view.table.iter().flat_map(|table| &table.rows);
            let is_small = cells.clone().any(|row| row.len() < 2);
            if is_small {
                Some("two cells of each partition".to_owned())
            } else {
                view.lacks(2)
            }
        };
        fragile.until(PATIENCE, replicated).await?;
        let rate = megabytes / start.elapsed().as_secs_f64();
        report.target(
            format!("a fresh replica of {megabytes:.0} MB, MB/s (half of the copy)"),
            rate,
            raw / 2.0,
            Want::AtLeast,
        );
        Ok(())
    }

    /// Reads one database and writes another, on one thread each, without a network.
    async fn copy(&self, fragile: &Fragile, dir: &Path) -> Result<Duration> {
        let adapter = fragile.options.adapter.as_str();
        let source = neo_backends::open(adapter, &fragile.options.database(0))?;
        let path = dir.join("copy.sqlite");
        let target = neo_backends::open(adapter, &path.display().to_string())?;
        let start = Instant::now();
        let mut next = DataId(1);
        for partition in (0..fragile.options.partitions).map(Partition) {
            copy_revisions(&source, &target, partition, &mut next).await?;
            copy_transactions(&source, &target, partition).await?;
        }
        target.close().await?;
        let time = start.elapsed();
        source.close().await?;
        std::fs::remove_file(&path).with_context(|| path.display().to_string())?;
        Ok(time)
    }
}

async fn copy_revisions(
    source: &Arc<dyn StorageBackend>,
    target: &Arc<dyn StorageBackend>,
    partition: Partition,
    next: &mut DataId,
) -> Result<()> {
    let mut min = RevisionId {
        tid: Tid::ZERO,
        oid: Oid::ZERO,
    };
    loop {
        let page = source.fetch(partition, min, Tid::MAX, PAGE).await?;
        let Some(last) = page.last() else {
            return Ok(());
        };
        min = RevisionId {
            oid: Oid(last.id.oid.0 + 1),
            ..last.id
        };
        let mut batch = WriteBatch::new();
        for FetchedRevision { id, record, .. } in page {
            let data = match record {
                None => ObjectData::Deleted,
                Some(record) => {
                    let id = *next;
                    *next = DataId(id.0 + 1);
                    let owner = None;
                    batch.push(WriteOp::PutData { id, owner, record });
                    ObjectData::Value(id)
                }
            };
            batch.push(WriteOp::PutObject {
                partition,
                id,
                data,
            });
        }
        target.apply(batch, Durability::Synced).await?;
    }
}

async fn copy_transactions(
    source: &Arc<dyn StorageBackend>,
    target: &Arc<dyn StorageBackend>,
    partition: Partition,
) -> Result<()> {
    let mut min = Some(Tid::ZERO);
    while let Some(from) = min {
        let page = source
            .transactions(partition, from, Tid::MAX, neo_api::Order::Ascending, PAGE)
            .await?;
        min = page.last().and_then(|last| last.tid.checked_next());
        let put = |record| WriteOp::PutTransaction { partition, record };
        let ops: Vec<WriteOp> = page.into_iter().map(put).collect();
        target
            .apply(WriteBatch::from(ops), Durability::Synced)
            .await?;
    }
    Ok(())
}
