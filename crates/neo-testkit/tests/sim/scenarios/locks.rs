//! Who writes the same objects at the same time.

use std::time::Duration;

use neo_api::Tid;
use neo_client::Error;
use neo_testkit::sim::{
    Fault, InFlight, Name, PATIENCE, Pattern, SimClient, When, World, WorldSettings, c, s,
};

use super::{
    add, change, check, check_and_crash, count, counters, delay_unlock, increment, objects,
    replicated, run, settle, single, store_next, wait,
};

/// The next change of an object, stored before the one before is unlocked, waits and is not in
/// conflict.
#[test]
fn a_store_before_the_unlock_waits_and_is_no_conflict() {
    let mut world = World::booted(single(2));
    let (oids, first) = objects(&mut world, c(1), 1);
    let oid = oids[0];
    delay_unlock(&mut world, s(1), Duration::from_millis(50));
    let both = run(&mut world, c(1), async move |client: SimClient| {
        let second = change(&client, oid, first, "second").await?;
        change(&client, oid, second, "third").await
    });
    both.unwrap();
    settle(&mut world);
    check(&world);
}

/// A storage node that lost its locks, because the client's connection broke between store and
/// vote, must not let a conflict pass.
#[test]
fn a_connection_lost_between_store_and_vote_loses_no_increment() {
    for (settings, first, second) in [
        (single(2), c(1), s(1)),
        (single(2), s(1), c(1)),
        (replicated(2), c(1), s(1)),
        (replicated(2), s(1), c(1)),
        (replicated(2), s(2), c(1)),
    ] {
        let mut world = World::booted(settings);
        let oid = counters(&mut world, c(1), 1)[0];
        let stored = world.run_script(c(1), async move |client: SimClient| {
            let mut txn = client.begin().await?;
            store_next(&client, &txn, oid).await?;
            // The connection is cut now, and the other client writes.
            client.sleep(Duration::from_millis(30)).await;
            txn.vote_with(add).await?;
            txn.finish().await
        });
        world.run_for(Duration::from_millis(10));
        world.cut(first, second, Duration::from_millis(5), InFlight::Lost);
        let other = world.run_script(c(2), async move |client: SimClient| {
            increment(&client, oid).await
        });
        let (stored, other) = (
            wait(&mut world, "the first increment", &stored),
            wait(&mut world, "the second increment", &other),
        );
        let done = i64::from(stored.is_ok()) + i64::from(other.is_ok());
        assert!(other.is_ok(), "{other:?}");
        if let Err(error) = stored {
            assert!(error.is_retryable(), "{error}");
        }
        check_and_crash(&mut world);
        assert_eq!(count(&mut world, c(2), oid), done);
    }
}

/// Replicas tell of conflicts in different orders, and the next conflict comes after the first was
/// merged: whatever the order, each increment is there once.
#[test]
fn conflicts_that_replicas_tell_in_any_order_lose_no_increment() {
    const CLIENTS: u8 = 3;
    const EACH: i64 = 4;
    for seed in 0..40 {
        let settings = WorldSettings {
            seed,
            latency: (Duration::from_micros(50), Duration::from_millis(3)),
            ..replicated(CLIENTS)
        };
        let mut world = World::booted(settings);
        let oid = counters(&mut world, c(1), 1)[0];
        let scripts: Vec<_> = (1..=CLIENTS)
            .map(|n| {
                world.run_script(c(n), async move |client: SimClient| {
                    for _ in 0..EACH {
                        increment(&client, oid).await?;
                    }
                    Ok::<_, Error>(())
                })
            })
            .collect();
        for script in &scripts {
            wait(&mut world, "the increments", script).unwrap();
        }
        settle(&mut world);
        check(&world);
        let expected = i64::from(CLIENTS) * EACH;
        assert_eq!(count(&mut world, c(1), oid), expected, "seed {seed}");
    }
}

/// A client whose merges take longer than whole transactions of others commits before them: the
/// lock of what it merges is its own.
#[test]
fn a_slow_merge_is_not_outrun_for_ever() {
    const FAST: i64 = 100;
    for settings in [single(3), replicated(3)] {
        let mut world = World::booted(settings);
        let oid = counters(&mut world, c(1), 1)[0];
        let fast: Vec<_> = [c(2), c(3)]
            .into_iter()
            .map(|name| {
                world.run_script(name, async move |client: SimClient| {
                    for _ in 0..FAST {
                        increment(&client, oid).await?;
                    }
                    Ok::<_, Error>(())
                })
            })
            .collect();
        world.run_for(Duration::from_millis(10));
        let slow = run(&mut world, c(1), async move |client: SimClient| {
            let mut txn = client.begin().await?;
            let (_, value) = client.load_before(oid, Tid(1)).await?.unwrap_or_default();
            assert_eq!(value.len(), 0, "it starts from nothing: surely a conflict");
            txn.store(oid, Tid::ZERO, "1").await?;
            let merges = txn.vote_slowly(add, Duration::from_millis(20)).await?;
            txn.finish().await?;
            Ok::<_, Error>(merges)
        });
        let merges = slow.unwrap();
        assert!((1..=3).contains(&merges), "{merges} merges");
        assert!(fast.iter().all(|script| !script.is_done()));
        for script in &fast {
            wait(&mut world, "the fast ones", script).unwrap();
        }
        settle(&mut world);
        check(&world);
        assert_eq!(count(&mut world, c(1), oid), 2 * FAST + 1);
    }
}

/// The tests above see what they are for: a storage node that finds no conflicts loses increments.
#[test]
fn a_storage_node_without_conflicts_is_found_out() {
    let mut settings = replicated(2);
    settings.tune_storage = |settings| settings.mutations.no_conflicts = true;
    let mut world = World::booted(settings);
    let oid = counters(&mut world, c(1), 1)[0];
    let scripts: Vec<_> = [c(1), c(2)]
        .into_iter()
        .map(|name| {
            world.run_script(name, async move |client: SimClient| {
                increment(&client, oid).await
            })
        })
        .collect();
    for script in &scripts {
        wait(&mut world, "the increments", script).unwrap();
    }
    settle(&mut world);
    let wrong = world.check().unwrap_err();
    assert!(wrong.contains("serialised"), "{wrong}");
}

/// Two transactions lock two objects in opposite orders, on two replicas, with every relation of
/// their beginnings: both come through.
#[test]
fn opposite_orders_do_not_deadlock() {
    for late in [0, 50, 150, 250, 350, 450, 550, 700, 900, 1200] {
        let mut world = World::booted(replicated(2));
        let oids = counters(&mut world, c(1), 2);
        let (a, b) = (oids[0], oids[1]);
        let both = async |client: SimClient, order: [neo_api::Oid; 2], wait: Duration| {
            client.sleep(wait).await;
            let mut txn = client.begin().await?;
            for oid in order {
                store_next(&client, &txn, oid).await?;
            }
            txn.vote_with(add).await?;
            txn.finish().await
        };
        let one = world.run_script(c(1), move |client| both(client, [a, b], Duration::ZERO));
        let late = Duration::from_micros(late);
        let two = world.run_script(c(2), move |client| both(client, [b, a], late));
        wait(&mut world, "the first", &one).unwrap();
        wait(&mut world, "the second", &two).unwrap();
        settle(&mut world);
        check_and_crash(&mut world);
        assert_eq!(count(&mut world, c(1), a), 2);
        assert_eq!(count(&mut world, c(1), b), 2);
    }
}

/// Two transactions have checked the same object, and both store it: each waits for the other's
/// check to go. The younger one gives way, and is told of the conflict.
#[test]
fn of_two_that_checked_an_object_and_store_it_one_does() {
    for settings in [single(2), replicated(2)] {
        for pause in [0, 100, 200, 300, 400, 600, 800] {
            let mut world = World::booted(settings.clone());
            let oid = counters(&mut world, c(1), 1)[0];
            let scripts: Vec<_> = [(c(1), 0, pause), (c(2), 50, 0)]
                .into_iter()
                .map(|(name, late, pause)| {
                    world.run_script(name, async move |client: SimClient| {
                        client.sleep(Duration::from_micros(late)).await;
                        let txn = client.begin().await?;
                        let (serial, _) = client.load(oid).await?.expect("a counter");
                        txn.check(oid, serial).await?;
                        client.sleep(Duration::from_micros(pause)).await;
                        txn.store(oid, serial, "1").await?;
                        txn.commit().await
                    })
                })
                .collect();
            let began = world.now();
            let (mut done, mut conflicts) = (0, 0);
            for script in &scripts {
                match wait(&mut world, "the increments", script) {
                    Ok(_) => done += 1,
                    Err(error) if error.is_conflict() => conflicts += 1,
                    Err(error) => panic!("{pause}: {error}"),
                }
            }
            assert!(world.now() - began < Duration::from_secs(1), "{pause}");
            assert_eq!((done, conflicts), (1, 1), "{pause}");
            settle(&mut world);
            check(&world);
            assert_eq!(count(&mut world, c(1), oid), 1, "{pause}");
        }
    }
}

/// What was stored is aborted, before and after the vote, and overtakes a store on its way: the
/// objects are free.
#[test]
fn an_abort_frees_what_was_locked_at_any_stage() {
    for (stage, late) in [
        ("store", false),
        ("store", true),
        ("vote", false),
        ("vote", true),
    ] {
        let mut world = World::booted(replicated(2));
        let (oids, first) = objects(&mut world, c(1), 2);
        let (a, b) = (oids[0], oids[1]);
        if late {
            let store = Pattern::arrival(c(1), s(1), "AskStoreObject").nth(2);
            world.plan_at(store, When::Before, Fault::Delay(Duration::from_millis(20)));
        }
        let aborted = world.run_script(c(1), async move |client: SimClient| {
            let mut txn = client.begin().await?;
            txn.store(a, first, "aborted").await?;
            if stage == "vote" {
                txn.store(b, first, "aborted").await?;
                txn.vote().await?;
                txn.abort();
            } else {
                // Dropped while the answer is waited for.
                let store = txn.store(b, first, "aborted");
                let sleep = client.sleep(Duration::from_micros(200));
                first_of(store, sleep).await;
                txn.abort();
            }
            Ok::<_, Error>(())
        });
        wait(&mut world, "the abort", &aborted).unwrap();
        let began = world.now();
        let done = run(&mut world, c(2), async move |client: SimClient| {
            let txn = client.begin().await?;
            txn.store(b, first, "second").await?;
            txn.store(a, first, "second").await?;
            txn.commit().await
        });
        done.unwrap();
        assert!(
            world.now() - began < Duration::from_secs(1),
            "{stage}, late: {late}"
        );
        settle(&mut world);
        check(&world);
    }
}

/// Two futures, until one is done.
async fn first_of(a: impl Future, b: impl Future) {
    let (mut a, mut b) = (std::pin::pin!(a), std::pin::pin!(b));
    std::future::poll_fn(|context| {
        if a.as_mut().poll(context).is_ready() || b.as_mut().poll(context).is_ready() {
            std::task::Poll::Ready(())
        } else {
            std::task::Poll::Pending
        }
    })
    .await;
}

/// A check is shared by those who check, and exclusive with those who store.
#[test]
fn what_is_checked_does_not_change_until_the_end() {
    let mut world = World::booted(replicated(3));
    let (oids, first) = objects(&mut world, c(1), 3);
    let (checked, a, b) = (oids[0], oids[1], oids[2]);
    let rely = move |client: SimClient, oid, wait: Duration| async move {
        let txn = client.begin().await?;
        txn.check(checked, first).await?;
        txn.store(oid, first, "relies").await?;
        client.sleep(wait).await;
        txn.commit().await
    };
    let wait_long = Duration::from_millis(20);
    let one = world.run_script(c(1), move |client| rely(client, a, wait_long));
    let two = world.run_script(c(2), move |client| rely(client, b, Duration::ZERO));
    world.run_for(Duration::from_millis(5));
    assert!(two.is_done(), "checks are shared");
    let writer = world.run_script(c(3), async move |client: SimClient| {
        change(&client, checked, first, "changed").await
    });
    let (one, two) = (wait(&mut world, "one", &one), wait(&mut world, "two", &two));
    let writer = wait(&mut world, "the writer", &writer);
    assert!(one.unwrap() < writer.unwrap() && two.is_ok());
    settle(&mut world);
    check_and_crash(&mut world);
}

/// Many clients transfer between few objects while one storage node crashes at some moment.
#[test]
fn increments_are_all_there_when_a_storage_node_is_lost_among_them() {
    const CLIENTS: u8 = 3;
    for seed in 0..30 {
        let settings = WorldSettings {
            seed,
            latency: (Duration::from_micros(50), Duration::from_millis(2)),
            ..replicated(CLIENTS)
        };
        let mut world = World::booted(settings);
        let oids = counters(&mut world, c(1), 2);
        let (a, b) = (oids[0], oids[1]);
        let scripts: Vec<_> = (1..=CLIENTS)
            .map(|n| {
                world.run_script(c(n), async move |client: SimClient| {
                    let mut done = 0;
                    for round in 0..6 {
                        let order = if round % 2 == 0 { [a, b] } else { [b, a] };
                        let result = transfer(&client, order).await;
                        match result {
                            Ok(_) => done += 1,
                            Err(error) => assert!(error.is_retryable(), "{error}"),
                        }
                    }
                    done
                })
            })
            .collect();
        world.run_for(Duration::from_millis(3 + seed));
        let lost: Name = if seed % 2 == 0 { s(1) } else { s(2) };
        world.crash(&[lost], neo_testkit::sim::Keep::None, InFlight::Lost);
        let mut done = 0;
        for script in &scripts {
            done += wait(&mut world, "the increments", script);
        }
        // The loss of one of two replicas is nobody's error.
        assert_eq!(done, i64::from(CLIENTS) * 6, "seed {seed}");
        check_and_crash(&mut world);
        assert_eq!(count(&mut world, c(1), a), done, "seed {seed}");
        assert_eq!(count(&mut world, c(1), b), done, "seed {seed}");
    }
}

async fn transfer(client: &SimClient, order: [neo_api::Oid; 2]) -> Result<Tid, Error> {
    client.wait_ready(PATIENCE).await?;
    let mut txn = client.begin().await?;
    for oid in order {
        store_next(client, &txn, oid).await?;
    }
    txn.vote_with(add).await?;
    txn.finish().await
}
