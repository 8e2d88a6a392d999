//! Packs: transactions that nothing is left of.

use neo_api::{Order, PackOrder, PageLimit, TransactionRecord};

use super::*;

/// An hour and a minute, in tids.
const LATER: u64 = 61 << 32;

fn order(at: u64) -> PackOrder {
    let oids = None;
    PackOrder { at: Tid(at), oids }
}

fn records(backend: &Backend, partition: u32) -> Vec<TransactionRecord> {
    let all = PageLimit::entries(10_000);
    let (partition, order) = (Partition(partition), Order::Ascending);
    now_or_never(backend.transactions(partition, Tid::ZERO, Tid::MAX, order, all)).unwrap()
}

/// Of each transaction: its tid, its oids, and `p` when it is packed; in brackets when only its name
/// is left.
fn shown(backend: &Backend, partition: u32) -> Vec<String> {
    let show = |record: TransactionRecord| {
        let oids: Vec<u64> = record.oids.iter().map(|oid| oid.0).collect();
        let mark = if record.packed { "p" } else { "" };
        if record.is_emptied() {
            assert_eq!(record.meta, TransactionMeta::default());
            return format!("({})", record.tid.0);
        }
        assert_eq!(record.meta.user, "somebody");
        format!("{}{oids:?}{mark}", record.tid.0)
    };
    records(backend, partition).into_iter().map(show).collect()
}

impl World {
    fn pack(&mut self, id: u64, order: PackOrder) {
        let (after, orders) = (Tid(0), vec![(Tid(id), order)]);
        self.notify(MASTER, Packet::NotifyPackOrders { after, orders });
        self.sleep(Duration::from_secs(10));
    }

    fn committed(&mut self) -> ConnId {
        let c = self.client(1);
        self.commit(c, 10, 4, 0, 110);
        for (oid, serial) in [(4, 110), (6, 0), (5, 0)] {
            self.stored(c, 20, oid, serial, "two");
        }
        self.voted(c, 20, &[4, 6, 5]);
        self.locked(20, 120);
        self.unlock(20);
        self.commit(c, 30, 4, 120, 130);
        self.commit(c, 32, 6, 120, 132);
        self.commit(c, 40, 4, 130, 140);
        c
    }

    fn remaining(&mut self, partition: u32, at: Option<u64>, ids: &[(u64, u64)]) -> Packet {
        let ids = ids.iter().map(|(oid, tid)| (Tid(*tid), Oid(*oid)).into());
        let packet = Packet::AskRemaining {
            partition: Partition(partition),
            at: at.map(Tid),
            ids: ids.collect(),
        };
        self.ask(MASTER, packet);
        self.one(MASTER)
    }
}

const BEFORE: [&str; 5] = ["110[4]", "120[4, 6, 5]", "130[4]", "132[6]", "140[4]"];

#[test]
fn of_what_is_emptied_the_name_stays_for_a_while() {
    let mut world = World::serving();
    world.committed();
    assert_eq!(shown(&world.backend, 0), BEFORE);
    world.pack(150, order(125));
    let once = ["(110)", "120[4, 6, 5]", "130[4]", "132[6]", "140[4]"];
    assert_eq!(shown(&world.backend, 0), once);
    world.pack(160, order(138));
    let twice = ["(110)", "120[5]p", "130[4]", "132[6]", "140[4]"];
    assert_eq!(shown(&world.backend, 0), twice);
    // It still tells that the transaction is committed.
    let found = now_or_never(world.backend.final_tid(Partition(0), txn(10)));
    assert_eq!(found.unwrap(), Some(Tid(110)));
    // A later pack has nothing to write, until the names may go.
    world.pack(170, order(138));
    let applied = world.applied.len();
    world.pack(180, order(138));
    assert_eq!(world.applied.len(), applied + 2, "the ends of two cells");
    world.pack(LATER + 180, order(138));
    assert_eq!(shown(&world.backend, 0), twice[1..]);
}

#[test]
fn what_is_old_goes_with_its_name_and_the_cell_goes_as_far_as_before() {
    let mut world = World::serving();
    let c = world.committed();
    world.stored(c, 42, 4, 140, "the end");
    let kind = StoreKind::Deletion;
    world.ask(
        c,
        Packet::AskStoreObject {
            txn: txn(42),
            oid: Oid(4),
            serial: Tid(140),
            kind,
        },
    );
    assert_eq!(world.one(c), LOCKED);
    world.voted(c, 42, &[4]);
    world.locked(42, 142);
    world.unlock(42);
    let ends = |world: &mut World| {
        world.ask(MASTER, Packet::AskLastIds {});
        match world.one(MASTER) {
            Packet::AnswerLastIds { cells, .. } => cells,
            other => panic!("{other:?}"),
        }
    };
    let before = ends(&mut world);
    world.pack(LATER + 150, order(142));
    assert_eq!(shown(&world.backend, 0), ["120[5]p", "132[6]"]);
    assert_eq!(ends(&mut world), before);
}

#[test]
fn a_pack_of_some_objects_counts_what_is_there_of_others() {
    let mut world = World::serving();
    world.committed();
    let some = PackOrder {
        at: Tid(138),
        oids: Some(vec![Oid(4)]),
    };
    world.pack(LATER + 150, some);
    let left = ["120[6, 5]p", "130[4]", "132[6]", "140[4]"];
    assert_eq!(shown(&world.backend, 0), left);
}

#[test]
fn whatever_a_crash_leaves_the_end_is_the_same() {
    let mut world = World::serving();
    world.committed();
    let from = world.applied.len();
    world.pack(LATER + 150, order(138));
    let end = [records(&world.backend, 0), records(&world.backend, 1)];
    assert_eq!(
        shown(&world.backend, 0),
        ["120[5]p", "130[4]", "132[6]", "140[4]"]
    );
    for n in from..=world.applied.len() {
        let mut again = World::with(settings(), world.after_crash(n));
        again.join();
        again.serve();
        again.pack(LATER + 150, order(138));
        let ended = [records(&again.backend, 0), records(&again.backend, 1)];
        assert_eq!(ended, end, "{n}");
    }
}

#[test]
fn what_is_elsewhere_is_asked_through_the_primary() {
    let mut world = World::with(settings(), memory());
    world.join();
    let mut table = table(2, 1, CellState::UpToDate);
    table.rows[1].retain(|cell| cell.nid != storage(1));
    world.tell_table(table);
    world.serve();
    let c = world.client(1);
    world.stored(c, 20, 4, 0, "here");
    world.vote(c, 20, &[4, 5], 1);
    assert_eq!(world.one(c), Packet::AnswerStoreTransaction {});
    world.locked(20, 120);
    world.unlock(20);
    for (ttid, oid, tid) in [(22, 5, 122), (24, 7, 124)] {
        world.vote(c, ttid, &[oid], 0);
        assert_eq!(world.one(c), Packet::AnswerStoreTransaction {});
        world.locked(ttid, tid);
        world.unlock(ttid);
    }
    let before = shown(&world.backend, 0);
    let (id, some) = (LATER + 150, Some(vec![Oid(4), Oid(5)]));
    let pack = PackOrder {
        at: Tid(138),
        oids: some,
    };
    world.pack(id, pack);
    let asked = |world: &mut World| {
        let mut asked = world.take(MASTER);
        assert_eq!(asked.len(), 1, "{asked:?}");
        let Message { id, packet, .. } = asked.remove(0);
        let Packet::AskRemaining { partition, at, ids } = packet else {
            panic!("{packet:?}");
        };
        assert_eq!(partition, Partition(1));
        let ids: Vec<_> = ids.iter().map(|id| (id.oid.0, id.tid.0)).collect();
        (id, at, ids)
    };
    // What the pack does not concern must be there; what it concerns is judged by its tid.
    let (id, at, ids) = asked(&mut world);
    assert_eq!((at, ids), (None, vec![(7, 124)]));
    let (code, message) = (ErrorCode::NotReady, "S2 was lost".to_owned());
    world.answer(MASTER, id, Packet::Error { code, message });
    assert_eq!(world.take(MASTER), []);
    // Later, again; an answer that does not fit is none.
    world.sleep(Duration::from_secs(10));
    let (id, ..) = asked(&mut world);
    let remaining = vec![true, true];
    world.answer(MASTER, id, Packet::AnswerRemaining { remaining });
    world.sleep(Duration::from_secs(10));
    let (id, ..) = asked(&mut world);
    let remaining = vec![true];
    world.answer(MASTER, id, Packet::AnswerRemaining { remaining });
    let (id, at, ids) = asked(&mut world);
    assert_eq!((at, ids), (Some(Tid(138)), vec![(5, 120), (5, 122)]));
    assert_eq!(shown(&world.backend, 0), before);
    let remaining = vec![false, false];
    world.answer(MASTER, id, Packet::AnswerRemaining { remaining });
    world.sleep(Duration::from_secs(10));
    assert_eq!(shown(&world.backend, 0), ["120[4]p", "124[7]"]);
}

#[test]
fn what_a_pack_leaves_is_told_whether_it_was_applied_or_not() {
    let mut world = World::serving();
    let c = world.committed();
    let ids = [(4, 110), (4, 120), (4, 130), (4, 140), (6, 120), (8, 120)];
    let told = |remaining: &[bool]| Packet::AnswerRemaining {
        remaining: remaining.to_vec(),
    };
    let there = told(&[true, true, true, true, true, false]);
    assert_eq!(world.remaining(0, None, &ids), there);
    let left = told(&[false, false, true, true, true, false]);
    assert_eq!(world.remaining(0, Some(131), &ids), left);
    world.pack(150, order(131));
    assert_eq!(world.remaining(0, Some(131), &ids), left);
    assert_eq!(world.remaining(0, None, &ids), left);
    // What is locked has no place yet.
    world.stored(c, 44, 6, 132, "late");
    world.voted(c, 44, &[6]);
    world.locked(44, 144);
    assert_error(&world.remaining(0, Some(150), &ids), ErrorCode::NotReady);
    let late = world.remaining(0, None, &[(6, 144)]);
    assert_error(&late, ErrorCode::NotReady);
    assert_eq!(world.remaining(0, Some(131), &ids), left);
    let many = vec![(4, 110); neo_api::OPERATION_OBJECTS_MAX + 1];
    assert_error(&world.remaining(0, None, &many), ErrorCode::TooLarge);
    assert_error(&world.remaining(9, None, &[]), ErrorCode::NonReadableCell);
}
