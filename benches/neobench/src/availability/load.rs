//! A client that commits all the time, and how long each commit took, retries included.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use anyhow::Result;
use bytes::Bytes;
use neo_client::{Client, Error, Tid, TransactionMeta};
use tokio::task::JoinHandle;

use crate::stats::Latencies;
use crate::workload::incompressible;

/// Bytes of an object.
pub(super) const OBJECT_BYTES: usize = 4096;
/// Transactions at the same time while a database is filled, and objects in each.
const FILL: (usize, usize) = (32, 25);
/// After an error.
const PAUSE: Duration = Duration::from_millis(1);

/// One commit.
#[derive(Debug, Clone, Copy)]
struct Sample {
    begun: Instant,
    ended: Instant,
}

/// Commits of one new object each, by several tasks.
#[derive(Debug)]
pub(super) struct Load {
    samples: Arc<Mutex<Vec<Sample>>>,
    stop: Arc<AtomicBool>,
    workers: Vec<JoinHandle<Result<()>>>,
}

impl Load {
    /// Starts so many tasks, which together commit so often in a second; without a rate, as often
    /// as they can.
    pub(super) fn start(client: &Client, tasks: u32, rate: Option<f64>) -> Self {
        let samples = Arc::<Mutex<Vec<Sample>>>::default();
        let stop = Arc::new(AtomicBool::new(false));
        let value = Bytes::from(incompressible(OBJECT_BYTES));
        let between = rate.map(|rate| Duration::from_secs_f64(f64::from(tasks) / rate));
        let start = || {
            let (client, value) = (client.clone(), value.clone());
            let (samples, stop) = (Arc::clone(&samples), Arc::clone(&stop));
            tokio::spawn(async move {
                let mut next = Instant::now();
                while !stop.load(Ordering::Relaxed) {
                    if let Some(between) = between {
                        tokio::time::sleep_until(next.into()).await;
                        // What was missed while the cluster was down is not caught up with.
                        next = (next + between).max(Instant::now());
                    }
                    let begun = Instant::now();
                    if commit(&client, &value, 1, &stop).await? {
                        let ended = Instant::now();
                        let mut samples = samples.lock().unwrap_or_else(PoisonError::into_inner);
                        samples.push(Sample { begun, ended });
                    }
                }
                Ok(())
            })
        };
        let workers = (0..tasks).map(|_| start()).collect();
        Self {
            samples,
            stop,
            workers,
        }
    }

    fn samples(&self) -> Vec<Sample> {
        self.samples
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .clone()
    }

    /// When the first transaction was committed that began at this moment or later.
    pub(super) async fn next_after(&self, moment: Instant) -> Instant {
        loop {
            let samples = self.samples();
            let later = samples.iter().filter(|sample| sample.begun >= moment);
            if let Some(ended) = later.map(|sample| sample.ended).min() {
                return ended;
            }
            tokio::time::sleep(PAUSE).await;
        }
    }

    /// Those that began in a time.
    pub(super) fn begun_between(&self, from: Instant, to: Instant) -> Latencies {
        let mut latencies = Latencies::default();
        for sample in self.samples() {
            if (from..to).contains(&sample.begun) {
                latencies.add(sample.ended - sample.begun);
            }
        }
        latencies
    }

    /// How many were committed in a time.
    pub(super) fn ended_between(&self, from: Instant, to: Instant) -> usize {
        let samples = self.samples();
        samples
            .iter()
            .filter(|sample| (from..to).contains(&sample.ended))
            .count()
    }

    /// Forgets what was measured until now.
    pub(super) fn forget(&self) {
        self.samples
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .clear();
    }

    /// Ends it.
    pub(super) async fn stop(self) -> Result<()> {
        self.stop.store(true, Ordering::Relaxed);
        for worker in self.workers {
            worker.await??;
        }
        Ok(())
    }
}

/// Commits, again and again if need be; false when it is told to stop before.
async fn commit(client: &Client, value: &Bytes, objects: usize, stop: &AtomicBool) -> Result<bool> {
    while !stop.load(Ordering::Relaxed) {
        match try_commit(client, value, objects).await {
            Ok(()) => return Ok(true),
            // It may be committed, which harms nobody here: the objects are new.
            Err(Error::Unknown { .. }) => {}
            Err(error) if error.is_retryable() => {}
            Err(error) => return Err(error.into()),
        }
        tokio::time::sleep(PAUSE).await;
    }
    Ok(false)
}

async fn try_commit(client: &Client, value: &Bytes, objects: usize) -> Result<(), Error> {
    let transaction = client.begin(TransactionMeta::default()).await?;
    for _ in 0..objects {
        let oid = client.new_oid().await?;
        transaction.store(oid, Tid::ZERO, value.clone()).await?;
    }
    transaction.commit().await.map(drop)
}

/// Stores so many megabytes of values; returns how many bytes it were.
pub(super) async fn fill(client: &Client, megabytes: u64) -> Result<u64> {
    let (tasks, objects) = FILL;
    let wanted = megabytes * 1_000_000;
    let stored = Arc::new(AtomicU64::new(0));
    let value = Bytes::from(incompressible(OBJECT_BYTES));
    let start = || {
        let (client, value, stored) = (client.clone(), value.clone(), Arc::clone(&stored));
        tokio::spawn(async move {
            let never = AtomicBool::new(false);
            while stored.fetch_add((objects * OBJECT_BYTES) as u64, Ordering::Relaxed) < wanted {
                commit(&client, &value, objects, &never).await?;
            }
            // The last one that was counted was not stored.
            stored.fetch_sub((objects * OBJECT_BYTES) as u64, Ordering::Relaxed);
            anyhow::Ok(())
        })
    };
    let workers: Vec<_> = (0..tasks).map(|_| start()).collect();
    for worker in workers {
        worker.await??;
    }
    Ok(stored.load(Ordering::Relaxed))
}
