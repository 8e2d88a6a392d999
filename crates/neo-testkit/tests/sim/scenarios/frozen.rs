//! Nodes that stand still with their connections open: what is silent for 10 s is done without.

use std::time::Duration;

use neo_client::Error;
use neo_testkit::sim::{SimClient, World, c, m, s};

use super::{change, check_and_crash, objects, replicated, run, wait};

/// What heartbeats allow, and a bit.
const SILENCE: Duration = Duration::from_secs(13);

/// A client that stands still holds its locks for as long as it may be silent, and finds out that
/// they are gone.
#[test]
fn a_client_that_stands_still_loses_its_locks() {
    for has_voted in [false, true] {
        let mut world = World::booted(replicated(2));
        let (oids, first) = objects(&mut world, c(1), 1);
        let oid = oids[0];
        let frozen = world.run_script(c(1), async move |client: SimClient| {
            let mut txn = client.begin().await?;
            txn.store(oid, first, "frozen").await?;
            if has_voted {
                txn.vote().await?;
            }
            client.sleep(Duration::from_millis(100)).await;
            txn.vote().await?;
            txn.finish().await
        });
        world.run_for(Duration::from_millis(10));
        world.freeze(c(1));
        let began = world.now();
        let other = run(&mut world, c(2), async move |client: SimClient| {
            change(&client, oid, first, "other").await
        });
        other.unwrap();
        let took = world.now() - began;
        assert!(took < SILENCE, "{took:?}");
        world.thaw(c(1));
        let error = wait(&mut world, "the frozen client", &frozen).unwrap_err();
        assert!(error.is_retryable(), "{error}");
        check_and_crash(&mut world);
    }
}

/// Reads go on, and a commit goes on without it.
#[test]
fn a_storage_node_that_stands_still_is_done_without() {
    let mut world = World::booted(replicated(1));
    let (oids, first) = objects(&mut world, c(1), 20);
    world.freeze(s(1));
    let began = world.now();
    let changed = oids[0];
    let read = run(&mut world, c(1), async move |client: SimClient| {
        for oid in oids {
            let (serial, _) = client.load(oid).await?.expect("it is there");
            assert_eq!(serial, first);
        }
        Ok::<_, Error>(())
    });
    read.unwrap();
    let took = world.now() - began;
    assert!(took < Duration::from_secs(1), "{took:?}");
    let done = run(&mut world, c(1), async move |client: SimClient| {
        change(&client, changed, first, "second").await
    });
    done.unwrap();
    let took = world.now() - began;
    assert!(took < SILENCE, "{took:?}");
    world.thaw(s(1));
    check_and_crash(&mut world);
}

/// Without a primary, calls end with words that say so, and the client works again afterwards.
#[test]
fn calls_end_while_the_only_master_stands_still() {
    let mut world = World::booted(replicated(1));
    let (oids, first) = objects(&mut world, c(1), 1);
    let oid = oids[0];
    world.freeze(m(1));
    let began = world.now();
    let refused = run(&mut world, c(1), async move |client: SimClient| {
        change(&client, oid, first, "second").await
    });
    let error = refused.unwrap_err();
    assert!(error.is_retryable(), "{error}");
    assert!(error.to_string().contains("master"), "{error}");
    assert!(world.now() - began < Duration::from_secs(25));
    world.thaw(m(1));
    let done = run(&mut world, c(1), async move |client: SimClient| {
        client.wait_ready(Duration::from_secs(60)).await?;
        change(&client, oid, first, "third").await
    });
    done.unwrap();
    check_and_crash(&mut world);
}
