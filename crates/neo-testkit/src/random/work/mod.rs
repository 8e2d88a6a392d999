//! What the clients of a random run do.

mod bank;
mod counters;
mod lists;

use std::cell::{Cell, RefCell};
use std::rc::Rc;
use std::time::Duration;

use neo_api::{Oid, Tid};
use neo_client::Error;

pub(super) use self::bank::Bank;
pub(super) use self::counters::Counters;
pub(super) use self::lists::Lists;
use crate::seed::Rng;
use crate::sim::{Facts, PATIENCE, SimClient};

/// What all clients share: the objects that they work on, and what is remembered of it.
#[derive(Debug)]
pub(super) struct Work {
    pub(super) bank: Bank,
    pub(super) counters: Counters,
    pub(super) lists: RefCell<Lists>,
    pause_max: Duration,
    /// Nobody begins anything any more.
    pub(super) is_over: Cell<bool>,
}

impl Work {
    /// Makes the objects.
    pub(super) async fn prepare(client: SimClient, pause_max: Duration) -> Result<Self, Error> {
        client.wait_ready(PATIENCE).await?;
        let bank = client.new_oids(bank::ACCOUNTS).await?;
        let counters = client.new_oids(counters::COUNTERS).await?;
        let lists = client.new_oids(lists::LISTS).await?;
        let mut txn = client.begin().await?;
        for oid in &bank {
            txn.store(*oid, Tid::ZERO, bank::encode(bank::EACH)).await?;
        }
        for oid in &counters {
            txn.store(*oid, Tid::ZERO, "0").await?;
        }
        txn.vote().await?;
        txn.finish().await?;
        Ok(Self {
            bank: Bank::new(bank),
            counters: Counters::new(counters),
            lists: RefCell::new(Lists::new(lists)),
            pause_max,
            is_over: Cell::new(false),
        })
    }

    /// What is wrong in the end.
    pub(super) fn check(&self, facts: &Facts) -> Vec<String> {
        let mut wrong = self.bank.check(facts);
        wrong.extend(self.counters.check(facts));
        wrong.extend(self.lists.borrow().check(facts));
        wrong
    }
}

/// Works until it is over, or for so many rounds; what the cluster goes through is no error.
/// `session`: never used before.
pub(super) async fn work(
    client: SimClient,
    work: Rc<Work>,
    session: u64,
    seed: u64,
    rounds: u32,
) -> Result<u32, Error> {
    let mut rng = Rng::new(seed);
    let mut done = 0;
    for _ in 0..rounds {
        if work.is_over.get() {
            break;
        }
        match round(&client, &work, session, &mut rng).await {
            Ok(()) => done += 1,
            Err(Error::Unknown { .. }) => {}
            Err(error) if error.is_retryable() => {}
            Err(error) => return Err(error),
        }
        // Mostly in a row, so that they meet others.
        let most = match rng.below(4) {
            0 => work.pause_max.as_micros() as u64,
            _ => 10_000,
        };
        client
            .sleep(Duration::from_micros(rng.between(10, most)))
            .await;
    }
    Ok(done)
}

async fn round(client: &SimClient, work: &Work, session: u64, rng: &mut Rng) -> Result<(), Error> {
    client.wait_ready(PATIENCE).await?;
    if client.last_tid() == Tid::ZERO {
        // It has not heard of the first objects yet.
        client.sync().await?;
    }
    match rng.below(20) {
        0..=8 => lists::round(client, &work.lists, session, rng).await,
        9..=13 => work.bank.transfer(client, rng).await,
        14 => work.bank.audit(client).await,
        15 | 16 => work.counters.increment(client, rng).await,
        17 => history(client, rng).await,
        18 => {
            client.sync().await?;
            match work.bank.read_before(client, rng).await {
                Err(Error::PackedAway { .. }) => Ok(()),
                result => result,
            }
        }
        19 if rng.below(4) == 0 => pack(client, work, rng).await,
        _ => new_object(client, rng).await,
    }
}

/// Every transaction up to the last, or to one before.
async fn history(client: &SimClient, rng: &mut Rng) -> Result<(), Error> {
    let last = client.last_tid();
    let max = match rng.below(4) {
        0 => last,
        _ => back(last, rng),
    };
    // All of it is long: what is recent is enough most of the time.
    let min = match rng.below(16) {
        0 => Tid::ZERO,
        _ => Tid(max.0.saturating_sub(SECOND)),
    };
    match rng.below(3) {
        0 => client.undo_log(min, max).await.map(drop),
        _ => client.transactions_between(min, max).await.map(drop),
    }
}

/// What is old goes; of all objects, or of some that change often.
async fn pack(client: &SimClient, work: &Work, rng: &mut Rng) -> Result<(), Error> {
    let last = client.sync().await?;
    let at = match rng.below(3) {
        0 => last,
        _ => back(last, rng),
    };
    let some = (rng.below(3) == 0).then(|| work.bank.some(rng));
    let id = client.pack(at, some).await?;
    match rng.below(3) {
        0 => client.wait_pack(id).await,
        1 => client.pack_progress().await.map(drop),
        _ => Ok(()),
    }
}

/// About a second's worth of tids.
const SECOND: u64 = (1 << 32) / 60;

/// A tid some seconds before another.
fn back(tid: Tid, rng: &mut Rng) -> Tid {
    Tid(tid.0.saturating_sub(rng.below(20 * SECOND)).max(1))
}

/// Oids are never given twice; objects are made, and deleted.
async fn new_object(client: &SimClient, rng: &mut Rng) -> Result<(), Error> {
    let oids: Vec<Oid> = client.new_oids(rng.between(1, 3) as u32).await?;
    let mut txn = client.begin().await?;
    for oid in &oids {
        txn.store(*oid, Tid::ZERO, "new").await?;
    }
    if rng.below(8) == 0 {
        // Given up before the vote.
        return Ok(());
    }
    txn.vote().await?;
    if rng.below(8) == 0 {
        // After it.
        return Ok(());
    }
    let tid = txn.finish().await?;
    match rng.below(4) {
        0 => {
            let txn = client.begin().await?;
            txn.delete(oids[0], tid).await?;
            txn.commit().await?;
            client.load(oids[0]).await?;
        }
        1 => match undo_and_redo(client, tid, &oids, rng).await {
            // A pack has been faster.
            Err(Error::Undo { .. } | Error::MissingRevision(_)) => {}
            result => result?,
        },
        _ => {}
    }
    Ok(())
}

/// The objects are made, unmade, and some are made again.
async fn undo_and_redo(
    client: &SimClient,
    tid: Tid,
    oids: &[Oid],
    rng: &mut Rng,
) -> Result<(), Error> {
    let mut last = tid;
    for _ in 0..rng.between(1, 3) {
        let txn = client.begin().await?;
        txn.undo(last, |_| None).await?;
        last = txn.commit().await?;
    }
    let before = Tid(last.0 + 1);
    let wanted: Vec<(Oid, Tid)> = oids.iter().map(|oid| (*oid, before)).collect();
    client.load_many(&wanted).await.map(drop)
}
