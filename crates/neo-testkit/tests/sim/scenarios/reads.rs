//! Reads while something is committed.

use std::time::Duration;

use neo_api::Tid;
use neo_client::Error;
use neo_testkit::sim::{SimClient, World, c, s};

use super::{change, check, delay_unlock, objects, run, settle, single, split};

const LATE: Duration = Duration::from_millis(50);

/// The storage node has locked a change and not moved it yet; its client has been told. Who now
/// reads how the object was before must not take that for the newest revision.
#[test]
fn a_read_of_the_past_does_not_hide_a_change_that_is_locked() {
    let mut world = World::booted(single(2));
    let (oids, first) = objects(&mut world, c(1), 1);
    let oid = oids[0];
    delay_unlock(&mut world, s(1), LATE);
    let second = run(&mut world, c(1), async move |client: SimClient| {
        change(&client, oid, first, "second").await
    });
    let second = second.unwrap();
    let read = run(&mut world, c(2), async move |client: SimClient| {
        while client.last_tid() < second {
            client.sleep(Duration::from_micros(10)).await;
        }
        client.load_before(oid, Tid(first.0 + 1)).await
    });
    assert_eq!(read.unwrap().unwrap().0, first);
    settle(&mut world);
    let read = run(&mut world, c(2), async move |client: SimClient| {
        let newest = client.load(oid).await?;
        Ok::<_, Error>(newest.map(|(serial, _)| serial))
    });
    assert_eq!(read.unwrap(), Some(second));
    check(&world);
}

/// A read at a tid that is locked waits for the unlock, and then sees it.
#[test]
fn a_read_of_a_locked_object_waits_until_it_is_unlocked() {
    let mut world = World::booted(single(2));
    let (oids, first) = objects(&mut world, c(1), 1);
    let oid = oids[0];
    delay_unlock(&mut world, s(1), LATE);
    let second = run(&mut world, c(1), async move |client: SimClient| {
        change(&client, oid, first, "second").await
    });
    let second = second.unwrap();
    let locked = world.now();
    let read = run(&mut world, c(2), async move |client: SimClient| {
        while client.last_tid() < second {
            client.sleep(Duration::from_micros(10)).await;
        }
        client.load(oid).await
    });
    assert_eq!(read.unwrap().unwrap().0, second);
    assert!(world.now() - locked >= LATE - Duration::from_millis(1));
    settle(&mut world);
    check(&world);
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

/// The two tests above see what they are for: without the read lock they fail.
#[test]
fn a_storage_node_without_read_locks_is_found_out() {
    let mut settings = single(2);
    settings.tune_storage = |settings| settings.mutations.no_read_lock = true;
    let mut world = World::booted(settings);
    let (oids, first) = objects(&mut world, c(1), 1);
    let oid = oids[0];
    delay_unlock(&mut world, s(1), LATE);
    let second = run(&mut world, c(1), async move |client: SimClient| {
        change(&client, oid, first, "second").await
    });
    let second = second.unwrap();
    let read = run(&mut world, c(2), async move |client: SimClient| {
        while client.last_tid() < second {
            client.sleep(Duration::from_micros(10)).await;
        }
        client.load(oid).await
    });
    assert_eq!(read.unwrap().unwrap().0, first);
    settle(&mut world);
    let wrong = world.check().unwrap_err();
    assert!(wrong.contains("reads: C2 read"), "{wrong}");
}
