//! Histories, listings from either end, objects as they were, many objects at once, and undo: while
//! others commit, across replicas, and when a storage node is lost in the middle.

use std::collections::BTreeMap;
use std::time::Duration;

use bytes::Bytes;
use neo_api::{Oid, Tid};
use neo_client::Error;
use neo_testkit::sim::{Fault, InFlight, Keep, PATIENCE, Pattern, SimClient, When, World, c, s};

use super::{
    add, change, check, check_and_crash, count, counters, delay_unlock, heal, increment, objects,
    replicated, run, settle, split, wait,
};

const LATE: Duration = Duration::from_millis(50);

/// What one look at the database sees, in every way.
#[derive(Debug, PartialEq, Eq)]
struct Sight {
    transactions: Vec<Tid>,
    objects: BTreeMap<Oid, (Tid, Bytes)>,
    histories: Vec<Vec<Tid>>,
}

/// Looks in every way, and complains when two ways differ; what each of them must see is looked
/// after by the checks of the world.
async fn look(client: &SimClient, oids: &[Oid]) -> Result<Sight, Error> {
    let last = client.sync().await?;
    let up = client.transactions(last).await?;
    let mut transactions: Vec<Tid> = up.iter().map(|t| t.tid).collect();
    let mut down = client.undo_log(Tid::ZERO, last).await?;
    down.reverse();
    assert_eq!(up, down);
    let objects = client.objects(last, oids).await?;
    let before = Tid(last.0 + 1);
    let wanted: Vec<_> = oids.iter().map(|oid| (*oid, before)).collect();
    let many = client.load_many(&wanted).await?;
    let mut histories = Vec::new();
    for (oid, one) in oids.iter().zip(many) {
        assert_eq!(objects.get(oid), one.as_ref(), "{oid}");
        let history = client.history(*oid, before).await?;
        let wrote = up.iter().rev().filter(|t| t.oids.0.contains(oid));
        let wrote: Vec<Tid> = wrote.map(|t| t.tid).collect();
        let told: Vec<Tid> = history.iter().map(|entry| entry.serial).collect();
        assert_eq!(told, wrote, "{oid}");
        histories.push(told);
    }
    transactions.sort_unstable();
    Ok(Sight {
        transactions,
        objects,
        histories,
    })
}

#[test]
fn what_is_listed_is_exactly_what_was_committed_up_to_one_tid() {
    for settings in [replicated(4), split(4)] {
        let mut world = World::booted(settings);
        let oids = counters(&mut world, c(1), 6);
        let mut scripts = Vec::new();
        for client in [c(2), c(3)] {
            let oids = oids.clone();
            scripts.push(world.run_script(client, async move |client: SimClient| {
                for n in 0..40 {
                    match increment(&client, oids[n % oids.len()]).await {
                        Ok(_) => {}
                        Err(error) if error.is_retryable() => {}
                        Err(error) => return Err(error),
                    }
                }
                Ok::<_, Error>(())
            }));
        }
        let known = oids.clone();
        let looks = world.run_script(c(4), async move |client: SimClient| {
            let mut seen = Vec::new();
            for _ in 0..15 {
                seen.push(look(&client, &known).await?.transactions.len());
            }
            Ok::<_, Error>(seen)
        });
        let seen = wait(&mut world, "the looks", &looks).unwrap();
        assert!(seen.is_sorted() && seen.first() < seen.last(), "{seen:?}");
        for script in &scripts {
            wait(&mut world, "the increments", script).unwrap();
        }
        settle(&mut world);
        check(&world);
    }
}

/// One of the nodes has not moved the transaction yet: who looks waits for it, in every way.
#[test]
fn what_another_client_has_just_committed_is_in_every_listing() {
    for late in [s(1), s(2)] {
        let mut world = World::booted(split(2));
        let (oids, first) = objects(&mut world, c(1), 4);
        delay_unlock(&mut world, late, LATE);
        let all = oids.clone();
        let second = run(&mut world, c(1), async move |client: SimClient| {
            let txn = client.begin().await?;
            for oid in all {
                txn.store(oid, first, "second").await?;
            }
            txn.commit().await
        });
        let second = second.unwrap();
        let sight = run(&mut world, c(2), async move |client: SimClient| {
            look(&client, &oids).await
        });
        let sight = sight.unwrap();
        assert_eq!(sight.transactions, [first, second]);
        assert!(sight.objects.values().all(|(serial, _)| *serial == second));
        assert!(sight.histories.iter().all(|h| *h == [second, first]));
        settle(&mut world);
        check(&world);
    }
}

/// Every kind of page, and the answer to many loads: the node that sends it crashes, and the other
/// replica tells the rest.
#[test]
fn a_storage_node_that_is_lost_in_the_middle_of_a_listing_changes_nothing() {
    for packet in [
        "AnswerTransactions",
        "AnswerCurrentRevisions",
        "AnswerObjectHistory",
        "AnswerObjects",
    ] {
        let mut world = World::booted(replicated(1));
        let (oids, first) = objects(&mut world, c(1), 12);
        let all = oids.clone();
        let before = run(&mut world, c(1), async move |client: SimClient| {
            for oid in &all {
                change(&client, *oid, first, "changed").await?;
            }
            look(&client, &all).await
        });
        let before = before.unwrap();
        settle(&mut world);
        let crash = Fault::Crash {
            nodes: vec![s(1)],
            keep: Keep::None,
            in_flight: InFlight::Lost,
        };
        world.plan_at(Pattern::arrival(s(1), c(1), packet), When::Before, crash);
        let again = run(&mut world, c(1), async move |client: SimClient| {
            look(&client, &oids).await
        });
        assert_eq!(again.unwrap(), before, "{packet}");
        heal(&mut world);
        check_and_crash(&mut world);
    }
}

/// A replica was away when a transaction was undone, and is there when that is undone, before it
/// has caught up and after.
#[test]
fn an_undo_is_the_same_on_a_replica_that_was_away() {
    for pause in [0, 40, 400] {
        let mut world = World::booted(replicated(2));
        let (oids, first) = objects(&mut world, c(1), 8);
        let all = oids.clone();
        let second = run(&mut world, c(1), async move |client: SimClient| {
            let txn = client.begin().await?;
            for oid in &all {
                txn.store(*oid, first, "second").await?;
            }
            txn.commit().await
        });
        let second = second.unwrap();
        settle(&mut world);
        world.crash(&[s(1)], Keep::None, InFlight::Lost);
        let undone = run(&mut world, c(1), async move |client: SimClient| {
            let txn = client.begin().await?;
            txn.undo(second, |_| None).await?;
            txn.commit().await
        });
        let undone = undone.unwrap();
        world.start(s(1));
        world.run_for(Duration::from_millis(pause));
        let again = run(&mut world, c(2), async move |client: SimClient| {
            let txn = client.begin().await?;
            txn.undo(undone, |_| None).await?;
            txn.commit().await
        });
        let again = again.unwrap();
        heal(&mut world);
        // What the node that was away tells.
        world.crash(&[s(2)], Keep::None, InFlight::Lost);
        let all = oids.clone();
        let told = run(&mut world, c(2), async move |client: SimClient| {
            client.wait_ready(PATIENCE).await?;
            let mut told = Vec::new();
            for oid in &all {
                let history = client.history(*oid, Tid::MAX).await?;
                told.push(
                    history
                        .iter()
                        .map(|e| (e.serial, e.data_serial))
                        .collect::<Vec<_>>(),
                );
            }
            Ok::<_, Error>(told)
        });
        let expected = [
            (again, Some(second)),
            (undone, Some(first)),
            (second, None),
            (first, None),
        ];
        assert!(told.unwrap().iter().all(|told| *told == expected));
        heal(&mut world);
        check_and_crash(&mut world);
    }
}

/// Others change what is undone: each change is kept, and what was undone is gone, whoever comes
/// first, and though a storage node is lost.
#[test]
fn an_undo_and_changes_of_others_are_merged() {
    for loses in [false, true] {
        let mut world = World::booted(replicated(3));
        let oids = counters(&mut world, c(1), 2);
        let mut undone = Vec::new();
        for _ in 0..6 {
            let oid = oids[0];
            let tid = run(&mut world, c(1), async move |client: SimClient| {
                client.sync().await?;
                increment(&client, oid).await
            });
            undone.push(tid.unwrap());
        }
        settle(&mut world);
        if loses {
            let crash = Fault::Crash {
                nodes: vec![s(2)],
                keep: Keep::None,
                in_flight: InFlight::Lost,
            };
            let pattern = Pattern::arrival(s(2), c(2), "AnswerUndoRevisions");
            world.plan_at(pattern, When::Before, crash);
        }
        let oid = oids[0];
        let others = world.run_script(c(3), async move |client: SimClient| {
            let mut done = 0_i64;
            for _ in 0..10 {
                if increment(&client, oid).await.is_ok() {
                    done += 1;
                }
            }
            done
        });
        let undoing = world.run_script(c(2), async move |client: SimClient| {
            let mut done = 0_i64;
            for tid in undone.into_iter().rev() {
                for _ in 0..50 {
                    client.wait_ready(PATIENCE).await?;
                    let mut txn = client.begin().await?;
                    let undo = match txn.undo(tid, add).await {
                        Ok(_) => match txn.vote_with(add).await {
                            Ok(()) => txn.finish().await.map(drop),
                            Err(error) => Err(error),
                        },
                        Err(error) => Err(error),
                    };
                    match undo {
                        Ok(()) => {
                            done += 1;
                            break;
                        }
                        Err(error) if error.is_retryable() => {}
                        Err(error) => return Err(error),
                    }
                }
            }
            Ok::<_, Error>(done)
        });
        let undone = wait(&mut world, "the undos", &undoing).unwrap();
        let others = wait(&mut world, "the increments", &others);
        assert_eq!(undone, 6);
        heal(&mut world);
        assert_eq!(count(&mut world, c(1), oid), others);
        check_and_crash(&mut world);
    }
}
