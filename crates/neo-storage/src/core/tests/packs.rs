//! Packs: what goes, what stays, and when.

use neo_api::PackOrder;
use neo_proto::PackedCell;

use super::*;

/// What a partition has: `oid@tid`.
fn rows(backend: &Backend, partition: u32) -> Vec<String> {
    let min = (Tid::ZERO, Oid::ZERO).into();
    let revisions = backend.revisions(Partition(partition), min, Tid::MAX, 10_000);
    let mut revisions = now_or_never(revisions).unwrap();
    revisions.sort_unstable_by_key(|id| (id.oid, id.tid));
    let line = |id: &RevisionId| format!("{}@{}", id.oid.0, id.tid.0);
    revisions.iter().map(line).collect()
}

fn order(at: u64) -> PackOrder {
    let oids = None;
    PackOrder { at: Tid(at), oids }
}

impl World {
    fn delete(&mut self, c: ConnId, ttid: u64, oid: u64, serial: u64, tid: u64) {
        let kind = StoreKind::Deletion;
        self.store_kind(c, ttid, (oid, serial), kind);
        assert_eq!(self.one(c), LOCKED);
        self.voted(c, ttid, &[oid]);
        self.locked(ttid, tid);
        self.unlock(ttid);
    }

    fn store_kind(&mut self, c: ConnId, ttid: u64, (oid, serial): (u64, u64), kind: StoreKind) {
        let packet = Packet::AskStoreObject {
            txn: txn(ttid),
            oid: Oid(oid),
            serial: Tid(serial),
            kind,
        };
        self.ask(c, packet);
    }

    fn order(&mut self, after: u64, orders: &[(u64, PackOrder)]) {
        let orders = orders.iter().map(|(id, order)| (Tid(*id), order.clone()));
        let (after, orders) = (Tid(after), orders.collect());
        self.notify(MASTER, Packet::NotifyPackOrders { after, orders });
    }

    /// Time passes, and what is due then is done.
    fn later(&mut self, ms: u64) {
        self.sleep(Duration::from_millis(ms));
    }

    /// Object 4 changes four times; 6 is deleted and comes back; 8 is deleted for good; 10 comes late.
    fn past(&mut self) -> ConnId {
        let c = self.client(1);
        self.commit(c, 10, 4, 0, 110);
        self.commit(c, 20, 4, 110, 120);
        self.commit(c, 30, 4, 120, 130);
        self.commit(c, 32, 6, 0, 132);
        self.delete(c, 34, 6, 132, 134);
        self.commit(c, 36, 8, 0, 136);
        self.delete(c, 38, 8, 136, 138);
        self.commit(c, 40, 4, 130, 140);
        self.commit(c, 42, 6, 134, 142);
        self.commit(c, 44, 10, 0, 144);
        c
    }
}

const ALL: [&str; 10] = [
    "4@110", "4@120", "4@130", "4@140", "6@132", "6@134", "6@142", "8@136", "8@138", "10@144",
];
const PACKED: [&str; 4] = ["4@130", "4@140", "6@142", "10@144"];

#[test]
fn what_is_newest_at_the_tid_stays_and_what_was_before_it_goes() {
    let mut world = World::serving();
    let c = world.past();
    let before: Vec<_> = [139, 141, 143, 200]
        .map(|tid| world.loaded(c, 4, At::Before(Tid(tid))))
        .into();
    assert_eq!(rows(&world.backend, 0), ALL);
    world.packed.clear();
    world.order(0, &[(150, order(138))]);
    world.later(10_000);
    assert_eq!(rows(&world.backend, 0), PACKED);
    // A reader at that tid, or later, sees what it saw.
    for (tid, expected) in [139, 141, 143, 200].into_iter().zip(before) {
        assert_eq!(world.loaded(c, 4, At::Before(Tid(tid))), expected, "{tid}");
    }
    let mut answer = |oid, at| {
        world.load(c, oid, at);
        match world.one(c) {
            Packet::AnswerObject { answer, .. } => answer,
            other => panic!("{other:?}"),
        }
    };
    // What was before can't be told any more.
    for (oid, at) in [
        (4, At::Before(Tid(130))),
        (4, At::Exact(Tid(120))),
        (6, At::Before(Tid(134))),
        (8, At::Before(Tid(137))),
        (8, At::Exact(Tid(138))),
    ] {
        assert_eq!(answer(oid, at), ObjectAnswer::PackedAway, "{oid} {at:?}");
    }
    for (oid, at, expected) in [
        (6, At::Before(Tid(139)), ObjectAnswer::NotYet),
        (10, At::Before(Tid(144)), ObjectAnswer::NotYet),
        (8, At::Latest, ObjectAnswer::Unknown),
        (8, At::Before(Tid(139)), ObjectAnswer::Unknown),
    ] {
        assert_eq!(answer(oid, at), expected, "{oid} {at:?}");
    }
    // Both cells are done, and the primary knows; what was removed counts.
    let done: Vec<PackedCell> = world
        .packed
        .iter()
        .flat_map(|packet| match packet {
            Packet::NotifyPacked { cells } => cells.clone(),
            _ => Vec::new(),
        })
        .collect();
    for partition in [Partition(0), Partition(1)] {
        let last = done.iter().rfind(|cell| cell.partition == partition);
        let (done, at) = (Tid(150), Tid(138));
        assert_eq!(
            last,
            Some(&PackedCell {
                partition,
                done,
                at,
                whole_at: at,
            })
        );
    }
    assert!(
        world
            .config("packed/0")
            .unwrap()
            .contains(&format!(" {} ", Tid(138)))
    );
    // The same again is nothing to do.
    let applied = world.applied.len();
    world.order(0, &[(150, order(138))]);
    world.later(10_000);
    assert_eq!(world.applied.len(), applied);
}

#[test]
fn a_pack_of_some_objects_leaves_the_others() {
    let mut world = World::serving();
    world.past();
    let oids = Some(vec![Oid(4), Oid(5), Oid(10), Oid(99)]);
    world.order(0, &[(150, PackOrder { at: Tid(138), oids })]);
    world.later(10_000);
    let expected = [
        "4@130", "4@140", "6@132", "6@134", "6@142", "8@136", "8@138", "10@144",
    ];
    assert_eq!(rows(&world.backend, 0), expected);
}

#[test]
fn only_what_was_packed_is_refused_when_some_objects_were() {
    let mut world = World::serving();
    world.past();
    let oids = Some(vec![Oid(4)]);
    world.order(0, &[(150, PackOrder { at: Tid(138), oids })]);
    world.later(10_000);
    // What the other node's database tells after a crash is the same.
    let mut again = World::with(settings(), world.after_crash(world.applied.len()));
    again.join();
    again.serve();
    let c = again.client(1);
    let before = |tid| At::Before(Tid(tid));
    for (oid, at, expected) in [
        (4, before(130), ObjectAnswer::PackedAway),
        (4, At::Exact(Tid(120)), ObjectAnswer::PackedAway),
        // They were not there yet, or never: nobody packed them.
        (6, before(132), ObjectAnswer::NotYet),
        (8, before(136), ObjectAnswer::NotYet),
        (10, before(20), ObjectAnswer::NotYet),
        (8, At::Exact(Tid(137)), ObjectAnswer::NotYet),
        (12, before(137), ObjectAnswer::Unknown),
    ] {
        again.load(c, oid, at);
        match again.one(c) {
            Packet::AnswerObject { answer, .. } => assert_eq!(answer, expected, "{oid} {at:?}"),
            other => panic!("{other:?}"),
        }
    }
    for (oids, undone, is_refused) in [
        (vec![4], 130, true),
        (vec![4], 140, false),
        (vec![6], 132, false),
        (vec![8], 136, false),
    ] {
        let packet = Packet::AskUndoRevisions {
            partition: Partition(0),
            undone: Tid(undone),
            before: Tid(200),
            oids: Oids(oids.into_iter().map(Oid).collect()),
        };
        again.ask(c, packet);
        match again.one(c) {
            Packet::AnswerUndoRevisions { packed, .. } => {
                assert_eq!(packed, is_refused, "{undone}")
            }
            other => panic!("{other:?}"),
        }
    }
    for (min, bytes, is_refused) in [(0, 1 << 20, true), (5, 1 << 20, false), (0, 0, true)] {
        let packet = Packet::AskCurrentRevisions {
            partition: Partition(0),
            min: Oid(min),
            at: Tid(133),
            bytes,
            values: true,
        };
        again.ask(c, packet);
        match again.one(c) {
            Packet::AnswerCurrentRevisions { packed, .. } => {
                assert_eq!(packed, is_refused, "{min}")
            }
            other => panic!("{other:?}"),
        }
    }
}

#[test]
fn a_truncation_below_a_pack_is_refused_by_whoever_remembers_only_what_is_on_disk() {
    let mut world = World::serving();
    world.past();
    world.order(0, &[(150, order(138))]);
    world.later(10_000);
    let mut again = World::with(settings(), world.after_crash(world.applied.len()));
    again.join();
    for after in [0, 110, 137] {
        again.ask(MASTER, Packet::AskTruncate { after: Tid(after) });
        let Packet::Error { code, message } = again.one(MASTER) else {
            panic!("{after} is not refused");
        };
        assert_eq!(code, ErrorCode::Denied);
        assert!(message.contains("packed up to"), "{message}");
        assert_eq!(rows(&again.backend, 0), PACKED);
    }
    // The next request has its turn all the same.
    for (after, left) in [(141, &PACKED[..2]), (138, &PACKED[..1])] {
        let after = Tid(after);
        again.ask(MASTER, Packet::AskTruncate { after });
        assert_eq!(again.one(MASTER), Packet::AnswerTruncated { after });
        assert_eq!(rows(&again.backend, 0), left);
    }
}

#[test]
fn a_crash_at_any_moment_is_harmless() {
    let mut world = World::serving();
    world.past();
    let from = world.applied.len();
    let orders = [(150, order(125)), (160, order(138))];
    world.order(0, &orders[..1]);
    world.later(10_000);
    world.order(0, &orders);
    world.later(10_000);
    assert_eq!(rows(&world.backend, 0), PACKED);
    assert!(world.applied.len() >= from + 4);
    for n in from..=world.applied.len() {
        let backend = world.after_crash(n);
        let left = rows(&backend, 0);
        assert!(
            PACKED.iter().all(|row| left.iter().any(|left| left == row)),
            "{n}: {left:?}"
        );
        // Whatever is newest at the tid of the pack is so at every moment.
        for (oid, newest) in [(4, "4@130"), (6, "6@134"), (8, "8@138")] {
            let at = At::Before(Tid(139));
            match now_or_never(backend.load(Partition(0), Oid(oid), at)).unwrap() {
                neo_api::Loaded::Found(found) => {
                    assert_eq!(format!("{oid}@{}", found.serial.0), newest, "{n}");
                }
                neo_api::Loaded::Deleted { serial, .. } => {
                    assert_eq!(format!("{oid}@{}", serial.0), newest, "{n}");
                }
                _ => assert!(oid != 4, "{n}"),
            }
        }
        let mut again = World::with(settings(), backend);
        again.join();
        again.serve();
        again.order(0, &orders);
        again.later(10_000);
        assert_eq!(rows(&again.backend, 0), PACKED, "{n}");
    }
}

#[test]
fn a_transaction_that_is_locked_below_the_tid_is_waited_for() {
    let mut world = World::serving();
    let c = world.past();
    world.stored(c, 46, 4, 140, "late");
    world.voted(c, 46, &[4]);
    world.locked(46, 146);
    world.order(0, &[(150, order(148))]);
    world.later(10_000);
    assert_eq!(rows(&world.backend, 0), ALL);
    world.unlock(46);
    world.later(10_000);
    assert_eq!(rows(&world.backend, 0), ["4@146", "6@142", "10@144"]);
}

#[test]
fn what_an_open_transaction_repeats_stays_until_it_ends() {
    let same = StoreKind::SameAs(Tid(110));
    for commits in [true, false] {
        let mut world = World::serving();
        let c = world.past();
        world.store_kind(c, 46, (4, 140), same);
        assert_eq!(world.one(c), LOCKED);
        world.order(0, &[(150, order(138))]);
        world.later(10_000);
        let others = ["4@110", "4@120", "4@130", "4@140", "6@142", "10@144"];
        assert_eq!(rows(&world.backend, 0), others);
        world.voted(c, 46, &[4]);
        if commits {
            world.locked(46, 146);
            world.unlock(46);
        } else {
            world.abort(MASTER, 46);
        }
        world.later(10_000);
        world.later(10_000);
        let mut expected = Vec::from(PACKED);
        if commits {
            expected.insert(2, "4@146");
        }
        assert_eq!(rows(&world.backend, 0), expected);
        if commits {
            let (serial, _, value) = world.loaded(c, 4, At::Latest).unwrap();
            assert_eq!((serial, value.as_str()), (146, "4@110"));
        }
    }
}

#[test]
fn a_store_that_repeats_what_is_just_going_waits_and_is_refused() {
    let mut world = World::serving();
    let c = world.past();
    world.hold_writes = true;
    world.order(0, &[(150, order(138))]);
    world.later(10_000);
    world.store_kind(c, 46, (4, 140), StoreKind::SameAs(Tid(110)));
    assert_eq!(world.packets(c), []);
    world.hold_writes = false;
    world.later(10_000);
    assert_error(&world.one(c), ErrorCode::MissingRevision);
    // What is newest can be repeated.
    world.store_kind(c, 48, (6, 142), StoreKind::SameAs(Tid(142)));
    assert_eq!(world.one(c), LOCKED);
}

#[test]
fn the_newest_serial_of_an_object_that_is_gone_is_forgotten() {
    let mut world = World::serving();
    let c = world.past();
    world.order(0, &[(150, order(138))]);
    world.later(10_000);
    // Nothing is there that a change could start from.
    world.stored(c, 46, 8, 0, "anew");
    world.voted(c, 46, &[8]);
    world.locked(46, 146);
    world.unlock(46);
    assert_eq!(world.loaded(c, 8, At::Latest).unwrap().0, 146);
}

#[test]
fn orders_are_a_part_of_their_transactions() {
    let mut world = World::serving();
    let c = world.past();
    let ask = |world: &mut World, ttid, oids: Vec<Oid>, pack| {
        let packet = Packet::AskStoreTransaction {
            txn: txn(ttid),
            meta: TransactionMeta::default(),
            oids: Oids(oids),
            objects: 0,
            pack: Some(Box::new(pack)),
            packed: false,
        };
        world.ask(c, packet);
        world.one(c)
    };
    let unordered = PackOrder {
        at: Tid(5),
        oids: Some(vec![Oid(2), Oid(1)]),
    };
    assert_error(&ask(&mut world, 50, vec![], unordered), ErrorCode::TooLarge);
    assert_error(&ask(&mut world, 50, vec![], order(50)), ErrorCode::Denied);
    assert_error(
        &ask(&mut world, 50, vec![Oid(1)], order(5)),
        ErrorCode::Denied,
    );
    let voted = Packet::AnswerStoreTransaction {};
    assert_eq!(ask(&mut world, 50, vec![], order(5)), voted);
    world.packed.clear();
    world.locked(50, 150);
    let orders = |world: &mut World| {
        let (after, max) = (Tid(0), Tid(200));
        let partitions = vec![Partition(0), Partition(1)];
        world.ask(
            MASTER,
            Packet::AskPackOrders {
                partitions,
                after,
                max,
            },
        );
        world.one(MASTER)
    };
    // What is locked has no place yet: nothing is told from there on.
    let told = Packet::AnswerPackOrders {
        orders: vec![],
        complete: Tid(149),
    };
    assert_eq!(orders(&mut world), told);
    assert_eq!(world.packed, []);
    world.unlock(50);
    assert_eq!(world.packed, [Packet::NotifyPackOrdered {}]);
    let told = Packet::AnswerPackOrders {
        orders: vec![(Tid(150), order(5))],
        complete: Tid(200),
    };
    assert_eq!(orders(&mut world), told);
}
