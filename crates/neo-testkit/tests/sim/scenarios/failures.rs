//! A node is lost at a certain step of a commit.

use std::time::Duration;

use neo_api::{NodeId, NodeType, Tid};
use neo_client::Error;
use neo_testkit::oracle::Told;
use neo_testkit::sim::{
    Fault, InFlight, Keep, Name, Pattern, SimClient, When, World, WorldSettings, c, m, s,
};

use super::{
    caught_up, change, check, check_and_crash, objects, replicated, run, settle, single, wait,
};

fn crash(nodes: &[Name]) -> Fault {
    Fault::Crash {
        nodes: nodes.to_vec(),
        keep: Keep::None,
        in_flight: InFlight::Lost,
    }
}

fn cut(a: Name, b: Name) -> Fault {
    Fault::Cut {
        first: a,
        second: b,
        gap: Duration::from_millis(1),
        in_flight: InFlight::Lost,
    }
}

/// Storage nodes that were out of date at some time, and have caught up.
fn left_behind(world: &World) -> Vec<Name> {
    let storages = [s(1), s(2), s(3)].into_iter();
    storages
        .filter(|name| caught_up(world, *name) > 0)
        .collect()
}

/// The vote of one storage node is lost: the others commit, and the master knows who did not vote.
#[test]
fn a_vote_that_one_replica_never_saw_leaves_that_replica_behind() {
    for packet in ["AskStoreTransaction", "AskStoreObject"] {
        let mut world = World::booted(replicated(1));
        let (oids, first) = objects(&mut world, c(1), 1);
        let oid = oids[0];
        let message = Pattern::arrival(c(1), s(1), packet);
        world.plan_at(message, When::Before, cut(c(1), s(1)));
        let done = run(&mut world, c(1), async move |client: SimClient| {
            change(&client, oid, first, "second").await
        });
        done.unwrap();
        settle(&mut world);
        assert_eq!(left_behind(&world), [s(1)], "{packet}");
        assert!(world.is_caught_up());
        check_and_crash(&mut world);
    }
}

/// Two clients each lose a different replica of the same partitions: if both committed, no replica
/// would have both.
#[test]
fn two_clients_that_lost_different_replicas_do_not_both_expel_them() {
    for late in [0, 200, 400, 600, 800, 1000, 2000] {
        let mut world = World::booted(replicated(2));
        let (oids, first) = objects(&mut world, c(1), 2);
        for (client, storage) in [(c(1), s(1)), (c(2), s(2))] {
            let vote = Pattern::arrival(client, storage, "AskStoreTransaction");
            world.plan_at(vote, When::Before, cut(client, storage));
        }
        let scripts: Vec<_> = [(c(1), oids[0], 0), (c(2), oids[1], late)]
            .into_iter()
            .map(|(name, oid, late)| {
                world.run_script(name, async move |client: SimClient| {
                    client.sleep(Duration::from_micros(late)).await;
                    change(&client, oid, first, "second").await
                })
            })
            .collect();
        let results: Vec<_> = scripts
            .iter()
            .map(|script| wait(&mut world, "both", script))
            .collect();
        let committed = results.iter().filter(|result| result.is_ok()).count();
        assert!(committed >= 1, "{late}: {results:?}");
        for result in &results {
            if let Err(error) = result {
                assert!(error.is_retryable(), "{error}");
            }
        }
        settle(&mut world);
        assert!(left_behind(&world).len() <= 1, "{late}: {results:?}");
        check_and_crash(&mut world);
    }
}

/// In a ring of three, two clients fail to reach different nodes whose loss together would leave a
/// partition without a copy: one of them must give up.
#[test]
fn the_master_lets_only_one_of_two_transactions_expel_what_the_other_needs() {
    let settings = WorldSettings {
        storages: 3,
        partitions: 3,
        ..replicated(2)
    };
    for late in [0, 300, 600, 900, 1500] {
        let mut world = World::booted(settings.clone());
        let (oids, first) = objects(&mut world, c(1), 6);
        for (client, storage) in [(c(1), s(1)), (c(2), s(2))] {
            world.run_for(Duration::from_millis(1));
            world.plan_at(
                Pattern::arrival(client, storage, "AskStoreObject"),
                When::Before,
                cut(client, storage),
            );
        }
        let scripts: Vec<_> = [
            (c(1), oids[..3].to_vec(), 0),
            (c(2), oids[3..].to_vec(), late),
        ]
        .into_iter()
        .map(|(name, oids, late)| {
            world.run_script(name, async move |client: SimClient| {
                client.sleep(Duration::from_micros(late)).await;
                let txn = client.begin().await?;
                for oid in oids {
                    txn.store(oid, first, "second").await?;
                }
                txn.commit().await
            })
        })
        .collect();
        let results: Vec<_> = scripts
            .iter()
            .map(|script| wait(&mut world, "both", script))
            .collect();
        let committed = results.iter().filter(|result| result.is_ok()).count();
        assert!(committed >= 1, "{late}: {results:?}");
        settle(&mut world);
        assert!(left_behind(&world).len() <= 1, "{late}: {results:?}");
        check_and_crash(&mut world);
    }
}

/// The master is lost before the vote: the transaction fails, retryably, and the cluster is fine.
#[test]
fn a_master_lost_before_the_vote_fails_the_transaction() {
    let mut world = World::booted(replicated(1));
    let (oids, first) = objects(&mut world, c(1), 1);
    let oid = oids[0];
    let vote = Pattern::arrival(c(1), s(1), "AskStoreTransaction");
    world.plan_at(vote, When::Before, crash(&[m(1)]));
    let script = world.run_script(c(1), async move |client: SimClient| {
        change(&client, oid, first, "second").await
    });
    world.run_for(Duration::from_millis(100));
    world.start(m(1));
    let error = wait(&mut world, "the end of the transaction", &script).unwrap_err();
    assert!(error.is_retryable(), "{error}");
    check_and_crash(&mut world);
}

/// The only storage node crashes while its lock is made durable: the client hears how it ended, and
/// no oid of the transaction is given again.
#[test]
fn a_storage_lost_during_finish_tells_the_client_the_truth_when_it_is_back() {
    for when in [When::Before, When::After] {
        let mut world = World::booted(single(1));
        // The vote, the mark that the far oid asks for, the lock.
        let write = Pattern::write(s(1)).nth(3);
        let (oids, _) = objects(&mut world, c(1), 1);
        world.plan_at(write, when, crash(&[s(1)]));
        let greatest = neo_api::Oid(oids[0].0 + 500_000);
        let script = world.run_script(c(1), async move |client: SimClient| {
            let txn = client.begin().await?;
            txn.store(greatest, Tid::ZERO, "far away").await?;
            txn.commit().await
        });
        world.run_for(Duration::from_millis(500));
        world.start(s(1));
        let result = wait(&mut world, "the outcome", &script);
        match (when, &result) {
            (When::After, Ok(_)) => {}
            (When::After, Err(error)) => panic!("it was locked: {error}"),
            // The tid was not durable; the transaction is dropped.
            (When::Before, result) => assert!(
                matches!(
                    result,
                    Ok(_) | Err(Error::NotReady(_) | Error::IncompleteTransaction(_))
                ),
                "{result:?}"
            ),
        }
        check_and_crash(&mut world);
        if result.is_ok() {
            let next = run(&mut world, c(1), async |client: SimClient| {
                client.wait_ready(Duration::from_secs(60)).await?;
                client.new_oids(1).await
            });
            assert!(next.unwrap()[0] > greatest);
        }
    }
}

/// The client loses the master while its transaction is being committed, in three stages: the
/// answer is in the master, in a storage's memory, in a storage's database.
#[test]
fn a_client_that_loses_the_master_during_finish_learns_the_outcome() {
    // The master is still there, and has committed it.
    let mut world = World::booted(replicated(1));
    let (oids, first) = objects(&mut world, c(1), 1);
    let oid = oids[0];
    let answer = Pattern::arrival(m(1), c(1), "AnswerTransactionFinished");
    world.plan_at(answer, When::Before, cut(c(1), m(1)));
    let done = run(&mut world, c(1), async move |client: SimClient| {
        change(&client, oid, first, "second").await
    });
    done.unwrap();
    settle(&mut world);
    check_and_crash(&mut world);

    // The master restarts; the storage nodes had locked it, or had already moved it.
    for moment in ["AnswerInformationLocked", "AnswerTransactionFinished"] {
        let mut world = World::booted(replicated(1));
        let (oids, first) = objects(&mut world, c(1), 1);
        let oid = oids[0];
        let pattern = match moment {
            "AnswerInformationLocked" => Pattern::arrival(s(1), m(1), "AnswerInformationLocked"),
            _ => Pattern::arrival(m(1), c(1), "AnswerTransactionFinished"),
        };
        world.plan_at(pattern, When::Before, crash(&[m(1)]));
        let script = world.run_script(c(1), async move |client: SimClient| {
            change(&client, oid, first, "second").await
        });
        world.run_for(Duration::from_millis(300));
        world.start(m(1));
        let tid = wait(&mut world, "the outcome", &script).unwrap();
        assert!(tid > first, "{moment}");
        check_and_crash(&mut world);
    }
}

/// A client that crashes during finish: its transaction is there or not, and its locks are free.
#[test]
fn a_client_that_crashes_during_finish_leaves_no_lock() {
    for packet in ["AskFinishTransaction", "AnswerTransactionFinished"] {
        let mut world = World::booted(replicated(2));
        let (oids, first) = objects(&mut world, c(1), 1);
        let oid = oids[0];
        let (from, to) = match packet {
            "AskFinishTransaction" => (c(1), m(1)),
            _ => (m(1), c(1)),
        };
        world.plan_at(
            Pattern::arrival(from, to, packet),
            When::Before,
            crash(&[c(1)]),
        );
        let _lost = world.run_script(c(1), async move |client: SimClient| {
            change(&client, oid, first, "second").await
        });
        world.run_for(Duration::from_secs(1));
        let seen = world.oracle().borrow().transactions()[&2].told;
        assert_eq!(seen, Told::Asked);
        let next = run(&mut world, c(2), async move |client: SimClient| {
            client.sync().await?;
            let (serial, _) = client.load(oid).await?.expect("it exists");
            change(&client, oid, serial, "third").await
        });
        next.unwrap();
        check_and_crash(&mut world);
    }
}

/// A storage accepts a client only when the primary has told about it: late news are waited for.
#[test]
fn a_client_that_is_faster_than_the_news_of_it_is_waited_for() {
    let mut world = World::booted(replicated(1));
    let (oids, first) = objects(&mut world, c(1), 1);
    let oid = oids[0];
    world.crash(&[c(1)], Keep::None, InFlight::Lost);
    world.run_for(Duration::from_millis(100));
    // News of the client's second life come late to one of the two.
    let news = Pattern::arrival(m(1), s(1), "NotifyNodeInformation");
    world.plan_at(news, When::Before, Fault::Delay(Duration::from_millis(300)));
    world.start(c(1));
    let done = run(&mut world, c(1), async move |client: SimClient| {
        client.wait_ready(Duration::from_secs(10)).await?;
        change(&client, oid, first, "second").await
    });
    done.unwrap();
    settle(&mut world);
    assert!(left_behind(&world).is_empty());
    check(&world);
    let nid = NodeId::new(NodeType::Storage, 1).unwrap();
    assert_eq!(world.nid(s(1)), Some(nid));
}
