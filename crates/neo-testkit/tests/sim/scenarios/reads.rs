//! Reads while something is committed.

use std::future::Future;
use std::time::Duration;

use bytes::Bytes;
use neo_api::{Oid, Tid};
use neo_client::Error;
use neo_testkit::sim::{Fault, Pattern, SimClient, When, World, WorldSettings, c, s};

use super::{change, check, delay_unlock, objects, replicated, run, settle, single, split};

const LATE: Duration = Duration::from_millis(50);

/// An object whose second revision the one storage node has locked and not moved yet; the client
/// that committed it has been told.
struct Locked {
    world: World,
    oid: Oid,
    first: Tid,
    second: Tid,
}

impl Locked {
    fn new(settings: WorldSettings) -> Self {
        let mut world = World::booted(settings);
        let (oids, first) = objects(&mut world, c(1), 1);
        let oid = oids[0];
        delay_unlock(&mut world, s(1), LATE);
        let second = run(&mut world, c(1), async move |client: SimClient| {
            change(&client, oid, first, "second").await
        });
        Self {
            world,
            oid,
            first,
            second: second.unwrap(),
        }
    }

    /// The serial that another client reads, which has heard of the second revision.
    fn read<F>(&mut self, read: impl FnOnce(SimClient) -> F + 'static) -> Tid
    where
        F: Future<Output = Result<Option<(Tid, Bytes)>, Error>> + 'static,
    {
        let second = self.second;
        let read = run(&mut self.world, c(2), async move |client: SimClient| {
            while client.last_tid() < second {
                client.sleep(Duration::from_micros(10)).await;
            }
            read(client).await
        });
        read.unwrap().unwrap().0
    }
}

/// Who reads how the object was before must not take that for the newest revision.
#[test]
fn a_read_of_the_past_does_not_hide_a_change_that_is_locked() {
    let mut locked = Locked::new(single(2));
    let (oid, first) = (locked.oid, locked.first);
    let read = locked.read(async move |client| client.load_before(oid, Tid(first.0 + 1)).await);
    assert_eq!(read, first);
    settle(&mut locked.world);
    let newest = locked.read(async move |client| client.load(oid).await);
    assert_eq!(newest, locked.second);
    check(&locked.world);
}

/// A read at a tid that is locked waits for the unlock, and then sees it.
#[test]
fn a_read_of_a_locked_object_waits_until_it_is_unlocked() {
    let mut locked = Locked::new(single(2));
    let (oid, since) = (locked.oid, locked.world.now());
    let read = locked.read(async move |client| client.load(oid).await);
    assert_eq!(read, locked.second);
    assert!(locked.world.now() - since >= LATE - Duration::from_millis(1));
    settle(&mut locked.world);
    check(&locked.world);
}

/// Iteration right after a commit does not skip it, though one of its two nodes has not moved it.
#[test]
fn an_iteration_never_skips_a_transaction_that_is_just_locked() {
    for late in [s(1), s(2)] {
        let mut world = World::booted(split(2));
        let (oids, first) = objects(&mut world, c(1), 4);
        delay_unlock(&mut world, late, LATE);
        let second = run(&mut world, c(1), async move |client: SimClient| {
            let txn = client.begin().await?;
            for oid in oids {
                txn.store(oid, first, "second").await?;
            }
            txn.commit().await
        });
        let second = second.unwrap();
        let seen = run(&mut world, c(2), async move |client: SimClient| {
            let last = client.sync().await?;
            client.transactions(last).await
        });
        let seen: Vec<Tid> = seen.unwrap().into_iter().map(|t| t.tid).collect();
        assert_eq!(seen, [first, second]);
        settle(&mut world);
        check(&world);
    }
}

/// One of two replicas answers nothing for seconds: who reads hardly notices, reads what is there,
/// and comes to the other one first.
#[test]
fn a_storage_node_that_is_silent_does_not_hold_up_readers() {
    let mut world = World::booted(replicated(1));
    let (oids, first) = objects(&mut world, c(1), 40);
    let silence = Pattern::arrival(s(1), c(1), "AnswerObject");
    world.plan_at(silence, When::Before, Fault::Delay(Duration::from_secs(8)));
    let began = world.now();
    let read = run(&mut world, c(1), async move |client: SimClient| {
        client.sync().await?;
        let mut serials = Vec::new();
        for oid in oids {
            serials.push(client.load(oid).await?.expect("it is there").0);
        }
        let listed = client.transactions(first).await?;
        Ok::<_, Error>((serials, listed.len()))
    });
    let (serials, listed) = read.unwrap();
    assert!(serials.into_iter().all(|serial| serial == first));
    assert_eq!(listed, 1);
    // One load waited for the delay.
    assert!(world.now() - began < Duration::from_millis(200));
    settle(&mut world);
    check(&world);
}

/// The tests above see what they are for: without the read lock they fail.
#[test]
fn a_storage_node_without_read_locks_is_found_out() {
    let mut settings = single(2);
    settings.tune_storage = |settings| settings.mutations.no_read_lock = true;
    let mut locked = Locked::new(settings);
    let oid = locked.oid;
    let read = locked.read(async move |client| client.load(oid).await);
    assert_eq!(read, locked.first);
    settle(&mut locked.world);
    let wrong = locked.world.check().unwrap_err();
    assert!(wrong.contains("reads: C2 read"), "{wrong}");
}
