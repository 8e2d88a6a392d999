//! Scripted scenarios, one file a subject: races and losses that NEO met, and some that it did not.

mod apart;
mod catching_up;
mod circles;
mod clocks;
mod contention;
mod failures;
mod forced;
mod frozen;
mod growing;
mod ids;
mod imports;
mod locks;
mod masters;
mod moving;
mod older_copies;
mod packs;
mod past;
mod reads;
mod restarts;
mod wrong_clients;

use std::future::Future;
use std::time::Duration;

use bytes::Bytes;
use neo_api::{ConflictingChange, Oid, Tid};
use neo_client::Error;
use neo_testkit::sim::{
    Fault, Handle, Happens, Name, PATIENCE, Pattern, SimClient, SimTxn, When, World, WorldSettings,
    m,
};

/// A cluster with two replicas and some clients.
fn replicated(clients: u8) -> WorldSettings {
    WorldSettings {
        clients,
        ..WorldSettings::default()
    }
}

/// A cluster of one storage node and some clients.
fn single(clients: u8) -> WorldSettings {
    WorldSettings {
        storages: 1,
        replicas: 0,
        clients,
        ..WorldSettings::default()
    }
}

/// A cluster whose partitions are on two storage nodes, one copy each.
fn split(clients: u8) -> WorldSettings {
    WorldSettings {
        replicas: 0,
        clients,
        ..WorldSettings::default()
    }
}

/// Waits for a script.
fn wait<T>(world: &mut World, what: &str, script: &Handle<T>) -> T {
    if let Err(stuck) = world.run_until(what, PATIENCE, |_| script.is_done()) {
        panic!("{stuck}\n{}", world.trace().tail(100));
    }
    script.take().expect("it is done")
}

/// Runs a script on a client to its end.
fn run<T: 'static, F: Future<Output = T> + 'static>(
    world: &mut World,
    client: Name,
    script: impl FnOnce(SimClient) -> F,
) -> T {
    let handle = world.run_script(client, script);
    wait(world, "the end of a script", &handle)
}

/// Creates objects with a value.
fn objects(world: &mut World, client: Name, count: u32) -> (Vec<Oid>, Tid) {
    let made = run(world, client, async move |client: SimClient| {
        let oids = client.new_oids(count).await?;
        let txn = client.begin().await?;
        for oid in &oids {
            txn.store(*oid, Tid::ZERO, "first").await?;
        }
        let tid = txn.commit().await?;
        Ok::<_, Error>((oids, tid))
    });
    settle(world);
    made.unwrap_or_else(|error| panic!("{error}\n{}", world.trace().tail(100)))
}

/// Changes an object.
async fn change(
    client: &SimClient,
    oid: Oid,
    serial: Tid,
    value: &'static str,
) -> Result<Tid, Error> {
    let txn = client.begin().await?;
    txn.store(oid, serial, value).await?;
    txn.commit().await
}

/// Counters: what each change adds is added.
pub(crate) fn add(change: &ConflictingChange) -> Option<Bytes> {
    let number = |data: &Bytes| std::str::from_utf8(data).ok()?.parse::<i64>().ok();
    let base = change.base.as_ref().map_or(Some(0), number)?;
    let committed = change.committed.as_ref().map_or(Some(0), number)?;
    let sum = committed + number(&change.new)? - base;
    Some(Bytes::from(sum.to_string()))
}

/// Who has told the primary that it has caught up, so often.
fn caught_up(world: &World, name: Name) -> usize {
    let points = world.points().iter();
    let told = points.filter(|point| {
        matches!(point.what, Happens::Delivery { from, packet, .. }
            if from == name && packet == "NotifyReplicationDone")
    });
    told.count()
}

/// Starts what is down; everything gets UP_TO_DATE again.
fn heal(world: &mut World) {
    if let Err(stuck) = world.heal() {
        panic!("{stuck}\n{}", world.trace().tail(200));
    }
}

/// Creates counters.
fn counters(world: &mut World, client: Name, count: u32) -> Vec<Oid> {
    let made = run(world, client, async move |client: SimClient| {
        let oids = client.new_oids(count).await?;
        let txn = client.begin().await?;
        for oid in &oids {
            txn.store(*oid, Tid::ZERO, "0").await?;
        }
        txn.commit().await?;
        Ok::<_, Error>(oids)
    });
    settle(world);
    made.unwrap_or_else(|error| panic!("{error}\n{}", world.trace().tail(100)))
}

/// Stores a counter with one more than the client sees.
async fn store_next(client: &SimClient, txn: &SimTxn, oid: Oid) -> Result<(), Error> {
    let (serial, value) = client.load(oid).await?.expect("a counter");
    let value: i64 = std::str::from_utf8(&value)
        .expect("a number")
        .parse()
        .expect("a number");
    txn.store(oid, serial, (value + 1).to_string()).await
}

/// One more; conflicts are merged.
async fn increment(client: &SimClient, oid: Oid) -> Result<Tid, Error> {
    let mut txn = client.begin().await?;
    store_next(client, &txn, oid).await?;
    txn.vote_with(add).await?;
    txn.finish().await
}

/// The value of a counter, as a client that is up to date reads it.
fn count(world: &mut World, client: Name, oid: Oid) -> i64 {
    let read = run(world, client, async move |client: SimClient| {
        client.wait_ready(PATIENCE).await?;
        client.sync().await?;
        client.load(oid).await
    });
    let (_, value) = read.unwrap().expect("a counter");
    std::str::from_utf8(&value).unwrap().parse().unwrap()
}

fn settle(world: &mut World) {
    if let Err(stuck) = world.settle(PATIENCE) {
        panic!("{stuck}\n{}", world.trace().tail(100));
    }
}

/// Everything that was placed must have happened, and everything must be as it should.
fn check(world: &World) {
    assert!(
        world.has_struck(),
        "a fault did not happen\n{}",
        world.trace().tail(100)
    );
    if let Err(wrong) = world.check() {
        panic!("{}{wrong}", world.trace().tail(200));
    }
}

/// Heals, checks, crashes everything, heals, checks.
fn check_and_crash(world: &mut World) {
    for crash in [false, true] {
        if crash {
            world.crash_all();
        }
        if let Err(stuck) = world.heal() {
            panic!("{stuck}\n{}", world.trace().tail(100));
        }
        check(world);
    }
}

/// Keeps the next unlock from a storage node for a while.
fn delay_unlock(world: &mut World, storage: Name, by: Duration) {
    let unlock = Pattern::arrival(m(1), storage, "NotifyUnlockInformation");
    world.plan_at(unlock, When::Before, Fault::Delay(by));
}
