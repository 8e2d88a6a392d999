//! Packs: while others commit, across replicas that come and go, masters that restart, and crashes.

use std::time::Duration;

use neo_api::{Oid, Tid};
use neo_client::Error;
use neo_proto::Packet;
use neo_testkit::invariant::check_packed;
use neo_testkit::sim::{
    Facts, Fault, InFlight, Keep, Name, PATIENCE, Pattern, SimClient, When, World, WorldSettings,
    c, m, s,
};

use super::{
    caught_up, change, check, check_and_crash, counters, growing, heal, increment, objects,
    replicated, run, settle, split, wait,
};

/// Each counter goes up so often; the tid of the last commit.
fn count_up(world: &mut World, oids: &[Oid], rounds: usize) -> Tid {
    let oids = oids.to_vec();
    let last = run(world, c(1), async move |client: SimClient| {
        let mut last = Tid::ZERO;
        for _ in 0..rounds {
            for oid in &oids {
                last = increment(&client, *oid).await?;
            }
        }
        Ok::<_, Error>(last)
    });
    settle(world);
    last.unwrap()
}

fn order(world: &mut World, at: Tid, oids: Option<Vec<Oid>>) -> Tid {
    let packed = run(world, c(2), async move |client: SimClient| {
        client.wait_ready(PATIENCE).await?;
        client.pack(at, oids).await
    });
    packed.unwrap()
}

fn wait_pack(world: &mut World, id: Tid) {
    let waited = run(world, c(2), async move |client: SimClient| {
        client.wait_ready(PATIENCE).await?;
        client.wait_pack(id).await
    });
    waited.unwrap();
    settle(world);
}

/// Revisions on all readable copies.
fn revisions(world: &World) -> usize {
    let facts = Facts::read(world).unwrap();
    let partitions = facts.table.partitioning().iter();
    let cells = partitions.flat_map(|partition| facts.readable(partition).map(|(_, cell)| cell));
    cells.map(|cell| cell.revisions.len()).sum()
}

fn crash(node: Name) -> Fault {
    Fault::Crash {
        nodes: vec![node],
        keep: Keep::None,
        in_flight: InFlight::Lost,
    }
}

/// What had to go is gone everywhere, and nothing else.
fn check_all_packed(world: &World) {
    check(world);
    let left = check_packed(&Facts::read(world).unwrap());
    assert_eq!(left, [], "{}", world.trace().tail(100));
}

#[test]
fn a_pack_leaves_the_last_revision_up_to_its_tid_on_every_copy() {
    for settings in [replicated(2), split(2)] {
        let copies = settings.replicas as usize + 1;
        let mut world = World::booted(settings);
        let oids = counters(&mut world, c(1), 4);
        let at = count_up(&mut world, &oids, 5);
        count_up(&mut world, &oids, 2);
        assert_eq!(revisions(&world), 4 * 8 * copies);
        let id = order(&mut world, at, None);
        wait_pack(&mut world, id);
        assert_eq!(revisions(&world), 4 * 3 * copies);
        check_all_packed(&world);
        let progress = run(&mut world, c(2), async |client: SimClient| {
            client.pack_progress().await
        });
        let progress = progress.unwrap();
        assert_eq!((progress.order, progress.packed_at), (None, at));
        assert_eq!(progress.cells_done, progress.cells);
        check_and_crash(&mut world);
    }
}

#[test]
fn snapshots_before_the_tid_are_refused_and_those_at_it_see_what_they_saw() {
    let mut world = World::booted(replicated(2));
    let oids = counters(&mut world, c(1), 4);
    let early = count_up(&mut world, &oids, 2);
    let at = count_up(&mut world, &oids, 2);
    count_up(&mut world, &oids, 1);
    let id = order(&mut world, at, None);
    wait_pack(&mut world, id);
    let read = run(&mut world, c(2), async move |client: SimClient| {
        for oid in &oids {
            let found = client.load_before(*oid, Tid(at.0 + 1)).await?;
            assert!(found.is_some_and(|(serial, value)| serial <= at && value == "4"));
            let early = client.load_before(*oid, Tid(early.0 + 1)).await;
            assert!(matches!(early, Err(Error::PackedAway { .. })), "{early:?}");
        }
        let then = client.objects(at, &oids).await?;
        assert!(then.values().all(|(_, value)| value == "4") && then.len() == 4);
        let early = client.objects(early, &[]).await;
        assert!(matches!(early, Err(Error::PackedAway { .. })), "{early:?}");
        Ok::<_, Error>(())
    });
    read.unwrap();
    check_all_packed(&world);
}

#[test]
fn what_was_packed_away_can_not_be_undone_and_what_came_later_can() {
    let mut world = World::booted(split(2));
    let (oids, _) = objects(&mut world, c(1), 2);
    let at = count_last(&mut world, oids[0], &["a", "b"]);
    let later = count_last(&mut world, oids[0], &["c"]);
    let id = order(&mut world, at, None);
    wait_pack(&mut world, id);
    let oid = oids[0];
    let undone = run(&mut world, c(2), async move |client: SimClient| {
        let txn = client.begin().await?;
        let refused = txn.undo(at, |_| None).await;
        assert!(matches!(refused, Err(Error::Undo { .. })), "{refused:?}");
        drop(txn);
        let txn = client.begin().await?;
        txn.undo(later, |_| None).await?;
        txn.commit().await?;
        client.load(oid).await
    });
    assert!(undone.unwrap().is_some_and(|(_, value)| value == "b"));
    settle(&mut world);
    check_all_packed(&world);
    check_and_crash(&mut world);
}

/// Gives an object some values; the tid of the last one.
fn count_last(world: &mut World, oid: Oid, values: &[&'static str]) -> Tid {
    let values = values.to_vec();
    let last = run(world, c(1), async move |client: SimClient| {
        let mut last = Tid::ZERO;
        for value in values {
            let (serial, _) = client.load(oid).await?.expect("an object");
            last = change(&client, oid, serial, value).await?;
        }
        Ok::<_, Error>(last)
    });
    settle(world);
    last.unwrap()
}

#[test]
fn a_node_that_was_away_packs_when_it_is_back() {
    for (orders_while_away, restarts_masters) in [(true, false), (false, false), (true, true)] {
        let mut world = World::booted(replicated(2));
        let oids = counters(&mut world, c(1), 4);
        let at = count_up(&mut world, &oids, 4);
        let before = (!orders_while_away).then(|| order(&mut world, at, None));
        world.crash(&[s(2)], Keep::None, InFlight::Lost);
        count_up(&mut world, &oids, 2);
        let id = before.unwrap_or_else(|| order(&mut world, at, None));
        // A copy that is not readable is not waited for.
        wait_pack(&mut world, id);
        if restarts_masters {
            world.crash(&[m(1), s(1)], Keep::None, InFlight::Lost);
        }
        heal(&mut world);
        wait_pack(&mut world, id);
        check_all_packed(&world);
        check_and_crash(&mut world);
        check_all_packed(&world);
    }
}

#[test]
fn a_node_that_comes_with_nothing_is_as_packed_as_its_source() {
    for packed in [4, 1] {
        comes_with_nothing(packed);
    }
}

/// Of four objects, so many are packed before the node comes.
fn comes_with_nothing(packed: usize) {
    let settings = WorldSettings {
        storages: 3,
        ..replicated(2)
    };
    let mut world = growing::booted(settings, 2, |settings| settings.autostart = Some(2));
    let oids = counters(&mut world, c(1), 4);
    let at = count_up(&mut world, &oids, 4);
    let some = (packed < oids.len()).then(|| oids[..packed].to_vec());
    let id = order(&mut world, at, some);
    wait_pack(&mut world, id);
    count_up(&mut world, &oids, 1);
    world.start(s(3));
    growing::until(&mut world, "known", |world| world.nid(s(3)).is_some());
    settle(&mut world);
    let nodes = vec![growing::nid(&world, s(3))];
    growing::order(&mut world, Packet::AddPendingNodes { nodes });
    growing::tweak(&mut world, &[]);
    world.wait_caught_up().unwrap();
    settle(&mut world);
    assert!(world.is_readable(s(3)));
    check_all_packed(&world);
    // What was packed before it came is unknown to it, and it knows that.
    world.crash(&[s(1)], Keep::None, InFlight::Lost);
    world.run_for(Duration::from_secs(5));
    let early = Tid(at.0 / 2);
    let read = run(&mut world, c(2), async move |client: SimClient| {
        client.wait_ready(PATIENCE).await?;
        for (n, oid) in oids.into_iter().enumerate() {
            let read = client.load_before(oid, early).await;
            match n < packed {
                true => assert!(matches!(read, Err(Error::PackedAway { .. })), "{read:?}"),
                false => assert_eq!(read?, None),
            }
        }
        Ok::<_, Error>(())
    });
    read.unwrap();
    heal(&mut world);
    check_all_packed(&world);
    check_and_crash(&mut world);
}

#[test]
fn an_order_outlives_every_master() {
    for packet in [
        "AskLockInformation",
        "NotifyUnlockInformation",
        "NotifyPackOrders",
    ] {
        for node in [m(1), s(1), s(2)] {
            let mut world = World::booted(replicated(2));
            let oids = counters(&mut world, c(1), 3);
            let at = count_up(&mut world, &oids, 3);
            let arrival = Pattern::arrival(m(1), s(2), packet);
            world.plan_at(arrival, When::After, crash(node));
            let ordered = world.run_script(c(2), async move |client: SimClient| {
                client.pack(at, None).await
            });
            let ordered = wait(&mut world, "the order", &ordered);
            growing::until(&mut world, "the crash", World::has_struck);
            heal(&mut world);
            if let Ok(id) = ordered {
                wait_pack(&mut world, id);
            }
            check(&world);
            let waited = run(&mut world, c(1), async |client: SimClient| {
                client.wait_ready(PATIENCE).await?;
                let last = client.sync().await?;
                client.wait_pack(last).await
            });
            waited.unwrap();
            settle(&mut world);
            check_all_packed(&world);
            check_and_crash(&mut world);
        }
    }
}

#[test]
fn what_was_packed_away_is_refused_after_every_node_was_restarted() {
    let mut world = World::booted(replicated(2));
    let oids = counters(&mut world, c(1), 3);
    let early = count_up(&mut world, &oids, 1);
    let at = count_up(&mut world, &oids, 2);
    count_up(&mut world, &oids, 1);
    let id = order(&mut world, at, None);
    wait_pack(&mut world, id);
    check_and_crash(&mut world);
    let refused = run(&mut world, c(2), async move |client: SimClient| {
        client.wait_ready(PATIENCE).await?;
        for oid in &oids {
            let found = client.load_before(*oid, Tid(early.0 + 1)).await;
            assert!(matches!(found, Err(Error::PackedAway { .. })), "{found:?}");
        }
        let found = client.objects(early, &[]).await;
        assert!(matches!(found, Err(Error::PackedAway { .. })), "{found:?}");
        for tid in [early, at] {
            let txn = client.begin().await?;
            let undone = txn.undo(tid, |_| None).await;
            assert!(matches!(undone, Err(Error::Undo { .. })), "{undone:?}");
        }
        Ok::<_, Error>(())
    });
    refused.unwrap();
    check_all_packed(&world);
}

#[test]
fn packs_go_on_while_others_commit_and_nodes_come_and_go() {
    let mut world = World::booted(replicated(4));
    let oids = counters(&mut world, c(1), 5);
    let mut scripts = Vec::new();
    for client in [c(1), c(3)] {
        let oids = oids.clone();
        scripts.push(world.run_script(client, async move |client: SimClient| {
            for n in 0..60 {
                client.wait_ready(PATIENCE).await?;
                match increment(&client, oids[n % oids.len()]).await {
                    Ok(_) => {}
                    Err(error) if error.is_retryable() => {}
                    Err(error) => return Err(error),
                }
            }
            Ok::<_, Error>(())
        }));
    }
    for n in 0..6 {
        world.run_for(Duration::from_millis(40));
        let last = run(&mut world, c(2), async |client: SimClient| {
            client.wait_ready(PATIENCE).await?;
            client.sync().await
        });
        let some = (n % 2 == 0).then(|| oids[..2].to_vec());
        order(&mut world, last.unwrap(), some);
        match n {
            1 => world.crash(&[s(2)], Keep::None, InFlight::Lost),
            3 => heal(&mut world),
            4 => world.crash(&[m(1)], Keep::None, InFlight::Lost),
            _ => {}
        }
        if n == 4 {
            heal(&mut world);
        }
    }
    for script in &scripts {
        match wait(&mut world, "the increments", script) {
            Ok(()) => {}
            Err(error) if error.is_retryable() => {}
            Err(Error::Unknown { .. }) => {}
            Err(error) => panic!("{error}"),
        }
    }
    heal(&mut world);
    let last = run(&mut world, c(2), async |client: SimClient| {
        client.sync().await
    });
    wait_pack(&mut world, last.unwrap());
    check_all_packed(&world);
    check_and_crash(&mut world);
}

/// A cell that has lost its last revisions to a pack is not taken for one that is from the past.
#[test]
fn a_deletion_that_is_packed_away_makes_no_cell_end_early() {
    let mut world = World::booted(replicated(2));
    let (oids, first) = objects(&mut world, c(1), 4);
    let deleted = run(&mut world, c(1), async move |client: SimClient| {
        let txn = client.begin().await?;
        for oid in &oids {
            txn.delete(*oid, first).await?;
        }
        txn.commit().await
    });
    settle(&mut world);
    let id = order(&mut world, deleted.unwrap(), None);
    wait_pack(&mut world, id);
    assert_eq!(revisions(&world), 0);
    let before = caught_up(&world, s(1)) + caught_up(&world, s(2));
    world.crash_all();
    heal(&mut world);
    assert_eq!(caught_up(&world, s(1)) + caught_up(&world, s(2)), before);
    check_all_packed(&world);
}

/// A disk of an earlier moment lacks a deletion that the other one has packed away: the object stays
/// deleted.
#[test]
fn an_older_disk_brings_nothing_back_that_was_deleted_and_packed_away() {
    let mut world = World::booted(replicated(2));
    let (oids, first) = objects(&mut world, c(1), 4);
    world.copy_disk(s(1));
    let all = oids.clone();
    let deleted = run(&mut world, c(1), async move |client: SimClient| {
        let txn = client.begin().await?;
        for oid in &all {
            txn.delete(*oid, first).await?;
        }
        txn.commit().await
    });
    settle(&mut world);
    let id = order(&mut world, deleted.unwrap(), None);
    wait_pack(&mut world, id);
    world.crash_all();
    world.put_disk_back(s(1));
    heal(&mut world);
    wait_pack(&mut world, id);
    check_all_packed(&world);
    let read = run(&mut world, c(2), async move |client: SimClient| {
        client.wait_ready(PATIENCE).await?;
        for oid in oids {
            assert_eq!(client.load(oid).await?, None);
        }
        Ok::<_, Error>(())
    });
    read.unwrap();
}
