//! What clients do: commits and loads.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use anyhow::Result;
use bytes::Bytes;
use neo_client::{Client, Oid, Tid, TransactionMeta};

use crate::stats::Latencies;

/// Bytes that zlib makes no smaller: compression is not what is measured.
pub(crate) fn incompressible(len: usize) -> Vec<u8> {
    let mut state = 0x9e37_79b9_7f4a_7c15_u64;
    (0..len)
        .map(|_| {
            state ^= state << 13;
            state ^= state >> 7;
            state ^= state << 17;
            (state >> 32) as u8
        })
        .collect()
}

/// Which commits are made.
#[derive(Debug, Clone, Copy)]
pub(crate) struct CommitLoad {
    /// Transactions at the same time, on one client.
    pub(crate) concurrency: usize,
    /// Bytes of an object.
    pub(crate) object_bytes: usize,
    /// New objects in a transaction.
    pub(crate) objects: usize,
    /// How long.
    pub(crate) time: Duration,
}

/// What came of them.
#[derive(Debug, Clone)]
pub(crate) struct Commits {
    /// From begin to the answer of finish.
    pub(crate) latencies: Latencies,
    /// Commits a second.
    pub(crate) per_second: f64,
}

/// Commits for a while.
pub(crate) async fn commits(client: &Arc<Client>, load: CommitLoad) -> Result<Commits> {
    let value = Bytes::from(incompressible(load.object_bytes));
    let stop = Arc::new(AtomicBool::new(false));
    let start = Instant::now();
    let workers: Vec<_> = (0..load.concurrency)
        .map(|_| {
            let (client, stop, value) = (Arc::clone(client), Arc::clone(&stop), value.clone());
            tokio::spawn(async move {
                let mut latencies = Latencies::default();
                while !stop.load(Ordering::Relaxed) {
                    let start = Instant::now();
                    commit(&client, &value, load.objects).await?;
                    latencies.add(start.elapsed());
                }
                anyhow::Ok(latencies)
            })
        })
        .collect();
    tokio::time::sleep(load.time).await;
    stop.store(true, Ordering::Relaxed);
    let mut latencies = Latencies::default();
    for worker in workers {
        latencies.merge(&worker.await??);
    }
    let per_second = latencies.len() as f64 / start.elapsed().as_secs_f64();
    Ok(Commits {
        latencies,
        per_second,
    })
}

async fn commit(client: &Client, value: &Bytes, objects: usize) -> Result<Tid> {
    let txn = client.begin(TransactionMeta::default()).await?;
    for _ in 0..objects {
        txn.store(client.new_oid().await?, Tid::ZERO, value.clone())
            .await?;
    }
    txn.vote().await?;
    Ok(txn.finish().await?)
}

/// Stores objects to load afterwards.
pub(crate) async fn populate(client: &Client, count: usize, bytes: usize) -> Result<Vec<Oid>> {
    let value = Bytes::from(incompressible(bytes));
    let mut oids = Vec::with_capacity(count);
    while oids.len() < count {
        let txn = client.begin(TransactionMeta::default()).await?;
        for _ in 0..1000.min(count - oids.len()) {
            let oid = client.new_oid().await?;
            txn.store(oid, Tid::ZERO, value.clone()).await?;
            oids.push(oid);
        }
        txn.vote().await?;
        txn.finish().await?;
    }
    Ok(oids)
}

/// Loads of objects, one after the other, in an order that is not theirs.
pub(crate) async fn loads(client: &Client, oids: &[Oid], rounds: usize) -> Result<Latencies> {
    let mut latencies = Latencies::default();
    let mut at = 0usize;
    for _ in 0..rounds {
        at = (at + 7919) % oids.len();
        let start = Instant::now();
        let object = client.load(oids[at]).await?;
        latencies.add(start.elapsed());
        anyhow::ensure!(object.is_some(), "object {} is missing", oids[at]);
    }
    Ok(latencies)
}

/// Loads a second of objects that are in the cache, on one thread.
pub(crate) async fn cached_loads(client: &Client, oids: &[Oid], time: Duration) -> Result<f64> {
    for oid in oids {
        client.load(*oid).await?;
    }
    let start = Instant::now();
    let mut count = 0usize;
    while start.elapsed() < time {
        for oid in oids {
            let object = client.load(*oid).await?;
            anyhow::ensure!(object.is_some(), "object {oid} is missing");
        }
        count += oids.len();
    }
    Ok(count as f64 / start.elapsed().as_secs_f64())
}
