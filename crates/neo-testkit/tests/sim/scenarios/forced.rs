//! Starts by force: the operator's order to go on without some of the copies.

use std::time::Duration;

use neo_api::{CellState, ClusterState, NodeType, Oid, Tid};
use neo_client::Error;
use neo_proto::{ClusterIdentity, Identification, Message, MsgId, Packet};
use neo_testkit::sim::{
    Ended, Fault, InFlight, Keep, Name, NodeCopy, PATIENCE, Pattern, Say, SimClient, When, World,
    WorldSettings, c, m, p, s,
};

use super::{change, check_and_crash, heal, objects, run, settle};

/// Two replicas, two clients, and somebody who gives orders.
fn operated() -> WorldSettings {
    WorldSettings {
        clients: 2,
        puppets: 1,
        ..WorldSettings::default()
    }
}

/// Asks the master something on a connection of its own, as a node of this type.
pub(super) fn ask(world: &mut World, node_type: NodeType, packet: Option<Packet>) -> Packet {
    ask_of(world, m(1), node_type, packet)
}

/// The same of one of several masters.
fn ask_of(world: &mut World, master: Name, node_type: NodeType, packet: Option<Packet>) -> Packet {
    if !world.is_up(p(1)) {
        world.start(p(1));
    }
    let to = master.address();
    let conn = |world: &World| world.puppet(p(1)).unwrap().conn(&to);
    if let Some(old) = conn(world) {
        world.say(p(1), Say::Close(old));
    }
    world.say(p(1), Say::Connect(to.clone()));
    let connected = world.run_until("connected", PATIENCE, |world| conn(world).is_some());
    connected.unwrap_or_else(|stuck| panic!("{stuck}\n{}", world.trace().tail(100)));
    let conn = conn(world).unwrap();
    let identification = Box::new(Identification {
        node_type,
        nid: None,
        address: None,
        cluster: "simulated".to_owned(),
        identity: None,
        session: None,
        read_only: false,
        topology: Vec::new(),
        masters: Vec::new(),
        new_nid: false,
        noted: None,
        is_full: false,
    });
    let identify = Packet::RequestIdentification { identification };
    let mut last = None;
    for (id, packet) in (1..)
        .map(MsgId)
        .zip([Some(identify), packet].into_iter().flatten())
    {
        world.say(p(1), Say::Message(conn, Message::new(id, packet)));
        let answer = |world: &World| world.puppet(p(1)).unwrap().answer(conn, id).cloned();
        let answered = world.run_until("an answer", PATIENCE, |world| answer(world).is_some());
        answered.unwrap_or_else(|stuck| panic!("{stuck}\n{}", world.trace().tail(100)));
        last = answer(world);
    }
    last.unwrap()
}

/// `neoctl start`: what it prints.
fn order_start(world: &mut World) -> Result<String, String> {
    order_start_at(world, m(1))
}

/// The same at one of several masters.
pub(super) fn order_start_at(world: &mut World, master: Name) -> Result<String, String> {
    let state = ClusterState::Verifying;
    let order = Packet::SetClusterState { state };
    match ask_of(world, master, NodeType::Admin, Some(order)) {
        Packet::AnswerDone { message } => Ok(message),
        Packet::Error { message, .. } => Err(message),
        other => panic!("{other:?}"),
    }
}

/// What the cluster waits for, as a client is told.
fn waits_for(world: &mut World) -> String {
    assert_eq!(world.cluster_state(), Some(ClusterState::Recovering));
    match ask(world, NodeType::Client, None) {
        Packet::Error { message, .. } => message,
        other => panic!("{other:?}"),
    }
}

/// What the primary knows of who the cluster is.
fn identity(world: &mut World) -> ClusterIdentity {
    match ask(world, NodeType::Admin, None) {
        Packet::AcceptIdentification { identity, .. } => identity.expect("there is a cluster"),
        other => panic!("{other:?}"),
    }
}

fn start(world: &mut World, names: &[Name]) {
    for name in names {
        world.start(*name);
    }
}

fn crash(world: &mut World, names: &[Name]) {
    // Nothing is left to recovery to complete: what is on a disk changes only if it is written to.
    world.crash(names, Keep::All, InFlight::Lost);
}

fn crash_all(world: &mut World) {
    let all: Vec<Name> = world.names().collect();
    crash(world, &all);
}

fn nid(world: &World, name: Name) -> String {
    world.nid(name).expect("it has an id").to_string()
}

fn disk(world: &World, name: Name) -> NodeCopy {
    NodeCopy::read(name, world.disk(name).backend(), world.partitions())
}

fn assert_untouched(world: &World, before: &NodeCopy) {
    let now = disk(world, before.name);
    assert_eq!(now.cells, before.cells);
    assert_eq!(now.unfinished, before.unfinished);
    assert_eq!(now.loose, before.loose);
    assert_eq!(now.table, before.table);
}

/// The states of a node's cells.
pub(super) fn cells_of(world: &World, name: Name) -> Vec<CellState> {
    let table = world.partition_table().expect("a table");
    let cells = table.rows.iter().flatten();
    let own = cells.filter(|cell| Some(cell.nid) == world.nid(name));
    own.map(|cell| cell.state).collect()
}

/// Runs until a node has stored that its copies are out of date: they are for a moment only.
fn wait_out_of_date(world: &mut World, name: Name) {
    let knows = |world: &World| {
        let (table, nid) = (disk(world, name).table, world.nid(name));
        let rows = table.into_iter().flat_map(|table| table.rows);
        let mut own = rows.flatten().filter(|cell| Some(cell.nid) == nid);
        own.all(|cell| cell.state == CellState::OutOfDate)
    };
    let stored = world.run_until("a table", PATIENCE, knows);
    stored.unwrap_or_else(|stuck| panic!("{name}: {stuck}\n{}", world.trace().tail(200)));
}

fn wait_running(world: &mut World) {
    if let Err(stuck) = world.wait_running() {
        panic!("{stuck}\n{}", world.trace().tail(100));
    }
}

/// Runs until a node has ended by itself: its last words.
pub(super) fn last_words(world: &mut World, name: Name) -> String {
    let ended = world.run_until("its end", PATIENCE, |world| world.ended(name).is_some());
    ended.unwrap_or_else(|stuck| panic!("{name}: {stuck}\n{}", world.trace().tail(200)));
    match world.ended(name) {
        Some(Ended::Failed(words)) => words.clone(),
        other => panic!("{name}: {other:?}"),
    }
}

pub(super) fn write(world: &mut World, client: Name, oid: Oid, value: &'static str) -> Tid {
    let done = run(world, client, async move |client: SimClient| {
        client.wait_ready(PATIENCE).await?;
        client.sync().await?;
        let (serial, _) = client.load(oid).await?.expect("it exists");
        change(&client, oid, serial, value).await
    });
    done.unwrap_or_else(|error| panic!("{error}\n{}", world.trace().tail(100)))
}

pub(super) fn value(world: &mut World, client: Name, oid: Oid) -> String {
    let read = run(world, client, async move |client: SimClient| {
        client.wait_ready(PATIENCE).await?;
        client.sync().await?;
        client.load(oid).await
    });
    let (_, value) = read.unwrap().expect("it exists");
    String::from_utf8(value.to_vec()).unwrap()
}

/// A copy that has heard that it is behind can't be made the cluster, not even by force; nor can
/// one that has not, as long as the master remembers.
#[test]
fn a_copy_that_is_known_to_be_behind_is_never_started_with() {
    for master_remembers in [false, true] {
        let mut world = World::booted(operated());
        let (oids, _) = objects(&mut world, c(1), 1);
        crash(&mut world, &[s(1)]);
        write(&mut world, c(1), oids[0], "second");
        if master_remembers {
            crash(&mut world, &[s(2)]);
            start(&mut world, &[s(1)]);
        } else {
            start(&mut world, &[s(1)]);
            wait_out_of_date(&mut world, s(1));
            crash_all(&mut world);
            start(&mut world, &[m(1), s(1)]);
        }
        world.run_for(Duration::from_secs(10));
        let survivor = nid(&world, s(2));
        let words = waits_for(&mut world);
        assert!(
            words.contains(&format!("waiting for {survivor} ")),
            "{words}"
        );
        assert_eq!(
            order_start(&mut world).unwrap_err(),
            format!(
                "the cluster can't be started without {survivor}: some partitions would have no \
                 readable cell"
            )
        );
        world.run_for(Duration::from_secs(10));
        assert_eq!(world.cluster_state(), Some(ClusterState::Recovering));
        world.heal().unwrap();
        assert_eq!(value(&mut world, c(1), oids[0]), "second");
        check_and_crash(&mut world);
    }
}

/// Both copies are complete, and one is there: the master waits for the other; the order opens an
/// epoch. The other, which went no further, is let in, out of date, and gets what it missed.
#[test]
fn a_start_without_a_copy_that_went_no_further() {
    let mut world = World::booted(operated());
    let (oids, _) = objects(&mut world, c(1), 4);
    let first = identity(&mut world);
    crash_all(&mut world);
    start(&mut world, &[m(1), s(1)]);
    world.run_for(Duration::from_secs(10));
    let missing = nid(&world, s(2));
    let words = waits_for(&mut world);
    assert!(
        words.contains(&format!("waiting for {missing} ")),
        "{words}"
    );
    assert_eq!(
        order_start(&mut world).unwrap(),
        format!(
            "the cluster starts without {missing}, by force: what is on {missing} only is lost, \
             and it comes back out of date"
        )
    );
    start(&mut world, &[c(1), c(2)]);
    wait_running(&mut world);
    let second = identity(&mut world);
    assert_eq!(second.id, first.id);
    assert_eq!(second.epochs[..1], first.epochs);
    assert_eq!(second.epochs.len(), 2);
    write(&mut world, c(1), oids[0], "without");
    assert!(order_start(&mut world).is_err(), "it has started already");

    for oid in &oids {
        write(&mut world, c(2), *oid, "later");
    }
    start(&mut world, &[s(2)]);
    wait_out_of_date(&mut world, s(2));

    // Now it knows: it is waited for no more, and is not enough.
    crash_all(&mut world);
    start(&mut world, &[m(1), s(2), c(1), c(2)]);
    world.run_for(Duration::from_secs(10));
    let words = order_start(&mut world).unwrap_err();
    assert!(words.contains("can't be started without"), "{words}");
    crash(&mut world, &[m(1), s(2)]);
    start(&mut world, &[m(1), s(1)]);
    wait_running(&mut world);
    assert_eq!(value(&mut world, c(1), oids[0]), "later");
    start(&mut world, &[s(2)]);
    heal(&mut world);
    assert_eq!(cells_of(&world, s(2)), [CellState::UpToDate; 4]);
    assert_eq!(disk(&world, s(2)).table.as_ref(), world.partition_table());
    check_and_crash(&mut world);
    assert_eq!(identity(&mut world), second);
}

/// A copy that missed commits and does not know it: the master waits for the other one. The order
/// is obeyed, and says what it costs. The other one, when it comes, is told why it can't join, and
/// keeps what it has.
#[test]
fn a_start_without_the_copy_that_went_on() {
    let mut world = World::booted(operated());
    let (oids, _) = objects(&mut world, c(1), 1);
    crash(&mut world, &[s(1)]);
    let lost = write(&mut world, c(1), oids[0], "lost");
    settle(&mut world);
    crash_all(&mut world);
    start(&mut world, &[m(1), s(1)]);
    world.run_for(Duration::from_secs(10));
    let missing = nid(&world, s(2));
    let words = waits_for(&mut world);
    assert!(
        words.contains(&format!("waiting for {missing} ")),
        "{words}"
    );
    let words = order_start(&mut world).unwrap();
    assert!(
        words.contains(&format!("what is on {missing} only is lost")),
        "{words}"
    );
    start(&mut world, &[c(1), c(2)]);
    wait_running(&mut world);
    assert_eq!(value(&mut world, c(1), oids[0]), "first");
    write(&mut world, c(1), oids[0], "kept");
    settle(&mut world);

    let before = disk(&world, s(2));
    for round in 0..3 {
        match round {
            // It comes to the cluster that runs,
            0 => {}
            // to one that starts with it, though it can do without,
            1 => {
                crash_all(&mut world);
                start(&mut world, &[m(1), s(1), c(1), c(2)]);
            }
            // and first: with its own table it is complete, until the other one comes.
            _ => {
                crash_all(&mut world);
                start(&mut world, &[m(1), s(2), c(1), c(2)]);
                wait_running(&mut world);
                assert_eq!(value(&mut world, c(1), oids[0]), "lost");
            }
        }
        start(&mut world, &[if round < 2 { s(2) } else { s(1) }]);
        let words = last_words(&mut world, s(2));
        assert!(
            words.starts_with(&format!("{missing} went on to {lost} on its own"))
                && words.ends_with("save from it what you need, then give it an empty database"),
            "{words}"
        );
        settle(&mut world);
        assert_eq!(world.cluster_state(), Some(ClusterState::Running));
        assert_eq!(value(&mut world, c(2), oids[0]), "kept");
        if round < 2 {
            assert_untouched(&world, &before);
        } else {
            assert_eq!(disk(&world, s(2)).cells, before.cells);
        }
    }
}

/// Both sides are started by force, one after the other. When they meet, the first one that comes
/// is the cluster; the other is told what to do, and neither is overwritten.
#[test]
fn two_sides_that_were_both_started_by_force() {
    for order in [[s(1), s(2)], [s(2), s(1)]] {
        for together in [false, true] {
            let mut world = World::booted(operated());
            let (oids, _) = objects(&mut world, c(1), 1);
            let oid = oids[0];
            let mut sides = Vec::new();
            for (side, written) in [(s(1), "on the first side"), (s(2), "on the second side")] {
                crash_all(&mut world);
                start(&mut world, &[m(1), side]);
                world.run_for(Duration::from_secs(2));
                order_start(&mut world).unwrap();
                start(&mut world, &[c(1)]);
                wait_running(&mut world);
                assert_eq!(value(&mut world, c(1), oid), "first");
                write(&mut world, c(1), oid, written);
                settle(&mut world);
                sides.push(identity(&mut world));
            }
            assert_eq!(sides[0].epochs[0], sides[1].epochs[0]);
            assert_ne!(sides[0].epochs[1], sides[1].epochs[1]);

            // A client of the second side stays.
            let rest: Vec<Name> = world.names().filter(|name| *name != c(1)).collect();
            crash(&mut world, &rest);
            let disks = [disk(&world, s(1)), disk(&world, s(2))];
            start(&mut world, &[m(1), order[0]]);
            if !together {
                world.run_for(Duration::from_secs(10));
            }
            start(&mut world, &[order[1]]);
            // Together, whoever says first what it remembers.
            let ended = world.run_until("an end", PATIENCE, |world| {
                order.iter().any(|name| world.ended(*name).is_some())
            });
            ended.unwrap_or_else(|stuck| panic!("{stuck}\n{}", world.trace().tail(100)));
            let loser = usize::from(world.ended(s(2)).is_some());
            assert!(together || order[1] == [s(1), s(2)][loser]);
            let words = last_words(&mut world, [s(1), s(2)][loser]);
            assert_eq!(
                words,
                "cluster \"simulated\" was started by force on two sides, and this node is of the \
                 other one: decide which side to keep, and empty the databases of the other"
            );
            // A client of the other side asks again and again: it is never quiet.
            world.run_for(Duration::from_secs(10));
            assert_eq!(world.cluster_state(), Some(ClusterState::Running));
            let winner = 1 - loser;
            assert_eq!(identity(&mut world), sides[winner]);
            for copy in &disks {
                assert_eq!(disk(&world, copy.name).cells, copy.cells);
            }
            assert_untouched(&world, &disks[loser]);

            start(&mut world, &[c(2)]);
            let expected = ["on the first side", "on the second side"][winner];
            assert_eq!(value(&mut world, c(2), oid), expected);
            let read = run(&mut world, c(1), async move |client: SimClient| {
                client.wait_ready(PATIENCE).await?;
                client.load(oid).await
            });
            match (winner, read) {
                (1, Ok(_)) | (0, Err(Error::OtherCluster(_))) => {}
                (_, other) => panic!("{other:?}"),
            }
        }
    }
}

/// A transaction is locked, durably, on S1 alone. The others are started without it, as they may be,
/// under a master whose clock is behind, and commit with a lesser tid; then the operator starts S1
/// without them. What they committed does not go without a word.
#[test]
fn a_side_that_went_on_with_a_clock_that_is_behind_is_refused_by_name() {
    for attempt in 0..16 {
        let mut world = World::booted(WorldSettings {
            storages: 3,
            partitions: 2,
            seed: 1 + attempt,
            ..operated()
        });
        let table = world.partition_table().expect("a table").clone();
        let all = (1..=3)
            .map(s)
            .find(|name| cells_of(&world, *name).len() == 2);
        let all = all.expect("one node has a copy of both partitions");
        let holder = |oid_partition: u32| {
            let row = table.rows[oid_partition as usize].iter();
            let mut nids = row
                .map(|cell| cell.nid)
                .filter(|nid| Some(*nid) != world.nid(all));
            let other = nids.next_back();
            (1..=3)
                .map(s)
                .find(|name| world.nid(*name) == other)
                .unwrap()
        };
        // Its object is on one of the others, its metadata on the third: the lock is durable there.
        let (with_object, with_metadata) = (holder(0), holder(1));
        let (oids, first) = objects(&mut world, c(1), 2);
        let oid = *oids.iter().find(|oid| oid.0 % 2 == 0).unwrap();
        let lock = Pattern::arrival(m(1), with_metadata, "AskLockInformation");
        world.plan_at(lock, When::Before, Fault::Delay(Duration::from_secs(5)));
        let lost = world.run_script(c(1), async move |client: SimClient| {
            change(&client, oid, first, "locked").await
        });
        world.run_for(Duration::from_millis(300));
        if world.has_struck() && locked_here(&world, all) && !locked_here(&world, with_object) {
            drop(lost);
            let base = own_tid(&world, all);
            world.crash(&[all], Keep::All, InFlight::Lost);
            world.run_for(Duration::from_millis(20));
            world.crash(
                &[m(1), with_object, with_metadata, c(1)],
                Keep::All,
                InFlight::Lost,
            );
            world.shift_wall_clock(m(1), -60_000_000);
            start(&mut world, &[m(1), with_object, with_metadata]);
            wait_running(&mut world);
            let second = run(&mut world, c(2), async move |client: SimClient| {
                change(&client, oid, first, "committed").await
            });
            let second = second.unwrap();
            assert!(second < base, "{second} {base}");
            settle(&mut world);
            crash_all(&mut world);
            start(&mut world, &[m(1), all]);
            waits_for(&mut world);
            order_start(&mut world).unwrap();
            start(&mut world, &[with_object]);
            let words = last_words(&mut world, with_object);
            assert!(
                words.contains(&format!("went on to {second} on its own, in reign")),
                "{words}"
            );
            return;
        }
    }
    panic!("no attempt had the metadata apart from the object");
}

/// Whether a transaction is locked on a node's disk.
fn locked_here(world: &World, name: Name) -> bool {
    disk(world, name)
        .unfinished
        .iter()
        .any(|txn| txn.tid.is_some())
}

/// The tid of the transaction that is locked on a node's disk.
fn own_tid(world: &World, name: Name) -> Tid {
    let unfinished = disk(world, name).unfinished;
    unfinished
        .iter()
        .find_map(|txn| txn.tid)
        .expect("it is locked")
}
