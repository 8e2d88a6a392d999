//! Votes: what is finished was voted wherever it must be, whatever its client says.

use neo_api::{ClusterState, Oid, Partition, TxnId};
use neo_proto::{ConnId, Core, Effect, Effects, FinalTid, Input, Message, MsgId, Packet};

use super::harness::*;

fn finish(txn: TxnId, oids: &[u64], partitions: &[u32]) -> Packet {
    let oids: Vec<Oid> = oids.iter().map(|oid| Oid(*oid)).collect();
    Packet::AskFinishTransaction {
        txn,
        oids: oids.into(),
        partitions: partitions.iter().map(|n| Partition(*n)).collect(),
    }
}

/// The word of a vote with an object of each of three partitions.
fn voted(txn: TxnId, metadata: bool) -> Packet {
    voted_for(txn, metadata, &[(0, 1), (1, 1), (2, 1)])
}

fn voted_for(txn: TxnId, metadata: bool, objects: &[(u32, u32)]) -> Packet {
    let objects = objects.iter().map(|(p, n)| (Partition(*p), *n)).collect();
    Packet::NotifyVoted {
        txn,
        metadata,
        objects,
    }
}

fn is_committed(answer: Option<Packet>) -> bool {
    matches!(answer, Some(Packet::AnswerTransactionFinished { .. }))
}

/// What the master does with a message, in order.
fn effects(world: &mut World, conn: ConnId, id: u64, packet: Packet) -> Vec<(ConnId, String)> {
    let message = Message::new(MsgId(id), packet);
    let mut out = Effects::new();
    let input = Input::Message { conn, message };
    world.core.handle(world.now, input, &mut out);
    let effects = out.take().into_iter();
    effects
        .map(|effect| match effect {
            Effect::Send { conn, message } => (conn, message.packet.name().to_owned()),
            Effect::Close { conn, reason } => (conn, format!("closed: {reason}")),
            other => panic!("{other:?}"),
        })
        .collect()
}

fn conn(world: &World, n: u32) -> ConnId {
    world.storages[&n].conn.unwrap()
}

/// A transaction whose metadata is on node 1; partition n is on node n + 1.
fn begun(world: &mut World, client: ConnId) -> TxnId {
    world.ask(client, Packet::AskNewOids { count: 100 });
    loop {
        let txn = world.begin(client);
        if txn.ttid.0.is_multiple_of(3) {
            return txn;
        }
        let nodes = Vec::new();
        world.notify(client, Packet::AbortTransaction { txn, nodes });
    }
}

#[test]
fn a_vote_that_is_late_is_waited_for() {
    let mut world = World::running(2, 1, 1);
    let client = world.client();
    let txn = world.begin(client);
    world.vote(txn, &[1]);
    let (one, two) = (conn(&world, 1), conn(&world, 2));
    let asked = effects(&mut world, client, 77, finish(txn, &[], &[]));
    assert_eq!(asked, [(two, "AskFinalTid".to_owned())]);
    let locks = effects(&mut world, two, 0, voted(txn, true));
    let lock = "AskLockInformation".to_owned();
    assert_eq!(locks, [(one, lock.clone()), (two, lock)]);
}

#[test]
fn a_vote_that_comes_too_late_is_taken_back() {
    // Of a node that nobody waited for: nobody tells it to unlock.
    let mut world = World::running(2, 0, 2);
    let client = world.client();
    let txn = loop {
        let txn = world.begin(client);
        if txn.ttid.0.is_multiple_of(2) {
            break txn;
        }
    };
    world.vote(txn, &[1]);
    let storage = world.storages.get_mut(&1).unwrap();
    storage.holds.insert("AskLockInformation");
    let id = world.request(client, finish(txn, &[], &[]));
    assert_eq!(world.answer(client, id), None);
    let two = conn(&world, 2);
    let abort = (two, "AbortTransaction".to_owned());
    let late = voted_for(txn, false, &[(1, 1)]);
    let told = effects(&mut world, two, 0, late.clone());
    assert_eq!(told, std::slice::from_ref(&abort));
    world.release(1, "AskLockInformation");
    assert!(is_committed(world.answer(client, id)));
    assert_eq!(effects(&mut world, two, 0, late), [abort]);
}

#[test]
fn a_client_that_has_not_voted_is_disconnected_and_nobody_else() {
    for (votes, oids, partitions, what) in [
        (
            vec![1, 2],
            vec![],
            vec![1, 2],
            "a partition that it stored nothing in",
        ),
        (
            vec![1, 2],
            vec![1, 2],
            vec![1, 2],
            "an object that it did not store",
        ),
        (vec![2], vec![1], vec![1], "no metadata"),
        (vec![], vec![], vec![], "nothing at all"),
    ] {
        let mut world = World::running(3, 0, 3);
        let (client, other) = (world.client(), world.client());
        let pending = world.begin(other);
        world.vote(pending, &[1, 2, 3]);
        let txn = begun(&mut world, client);
        world.vote(txn, &votes);
        let before = world.table().clone();
        let id = world.request(client, finish(txn, &oids, &partitions));
        let told = words(world.answer(client, id));
        assert!(
            told.starts_with("protocol") && told.contains("has not voted on S"),
            "{what}: {told}"
        );
        assert!(world.closed.contains_key(&client), "{what}");
        assert_eq!(world.state(), ClusterState::Running, "{what}");
        assert_eq!(world.table(), &before, "{what}");
        for storage in world.storages.values() {
            assert!(storage.conn.is_some() && storage.operating, "{what}");
            assert!(!storage.unfinished.contains_key(&txn), "{what}");
            assert!(!storage.log.contains(&"AskLockInformation"), "{what}");
        }
        // What others do goes on.
        let id = world.request(other, finish(pending, &[], &[0, 1, 2]));
        assert!(is_committed(world.answer(other, id)), "{what}");
        let answer = world.ask(other, Packet::AskFinalTid { txn });
        let tid = FinalTid::AskStorages;
        assert_eq!(answer, Some(Packet::AnswerFinalTid { tid }), "{what}");
    }
}

#[test]
fn a_vote_without_metadata_is_none_where_the_metadata_belongs() {
    let mut world = World::running(3, 0, 3);
    let client = world.client();
    let txn = begun(&mut world, client);
    for n in [1, 2] {
        world.send(conn(&world, n), MsgId(0), voted(txn, false));
        let storage = world.storages.get_mut(&n).unwrap();
        storage.unfinished.insert(txn, None);
    }
    let id = world.request(client, finish(txn, &[1], &[1]));
    assert!(words(world.answer(client, id)).contains("has not voted on S1"));
    // Elsewhere it is enough.
    let client = world.client();
    let txn = begun(&mut world, client);
    world.vote(txn, &[1]);
    world.send(conn(&world, 2), MsgId(0), voted(txn, false));
    let storage = world.storages.get_mut(&2).unwrap();
    storage.unfinished.insert(txn, None);
    let id = world.request(client, finish(txn, &[1], &[1]));
    assert!(is_committed(world.answer(client, id)));
}

#[test]
fn replicas_have_the_same() {
    // Partition 0 is on nodes 1 and 2, 1 on 1 and 3, 2 on 2 and 3.
    type Objects = &'static [(u32, u32)];
    let cases: [([Objects; 3], &[u32], Option<&str>); 5] = [
        ([&[(1, 2)], &[], &[(1, 2)]], &[1], None),
        ([&[(1, 2)], &[], &[(1, 1)]], &[1], Some("S3")),
        ([&[(1, 1)], &[], &[]], &[1], Some("S3")),
        // Objects where the metadata belongs: none is needed, but all have them or none.
        ([&[(0, 3)], &[(0, 3)], &[]], &[], None),
        ([&[(0, 3)], &[(0, 1)], &[]], &[], Some("S2")),
    ];
    for (objects, partitions, wrong) in cases {
        let mut world = World::running(3, 1, 3);
        let client = world.client();
        let txn = begun(&mut world, client);
        for (n, objects) in (1..).zip(objects) {
            let storage = world.storages.get_mut(&n).unwrap();
            storage.unfinished.insert(txn, None);
            let conn = conn(&world, n);
            world.send(conn, MsgId(0), voted_for(txn, n < 3, objects));
        }
        let id = world.request(client, finish(txn, &[], partitions));
        let answer = world.answer(client, id);
        match wrong {
            None => assert!(is_committed(answer), "{objects:?}"),
            Some(nid) => {
                let told = words(answer);
                let lacks = format!("has not voted on {nid}");
                assert!(told.contains(&lacks), "{objects:?}: {told}");
            }
        }
        assert_eq!(world.rows(), ["1U2U", "1U3U", "2U3U"]);
    }
}

#[test]
fn a_node_that_is_lost_is_not_waited_for() {
    let mut world = World::running(2, 1, 1);
    let client = world.client();
    let txn = world.begin(client);
    world.vote(txn, &[1]);
    let storage = world.storages.get_mut(&2).unwrap();
    storage.holds.insert("AskFinalTid");
    let id = world.request(client, finish(txn, &[], &[]));
    assert_eq!(world.answer(client, id), None);
    world.lose(2);
    assert!(is_committed(world.answer(client, id)));
    assert_eq!(world.rows(), ["1U2O"]);
}

#[test]
fn nobody_is_expelled_for_a_transaction_that_was_not_voted() {
    let mut world = World::running(3, 1, 3);
    let client = world.client();
    let txn = world.begin(client);
    let nodes = vec![nid("S3")];
    world.ask(client, Packet::AskFailedVote { txn, nodes });
    let id = world.request(client, finish(txn, &[], &[0, 1, 2]));
    assert!(words(world.answer(client, id)).contains("has not voted"));
    assert!(world.storages.values().all(|s| s.conn.is_some()));
    assert_eq!(world.rows(), ["1U2U", "1U3U", "2U3U"]);
}

#[test]
fn while_a_vote_is_waited_for_the_transaction_can_still_end() {
    for end in ["client", "fence"] {
        let mut world = World::running(2, 1, 1);
        let (client, other) = (world.client(), world.client());
        let txn = world.begin(client);
        world.vote(txn, &[1]);
        let storage = world.storages.get_mut(&2).unwrap();
        storage.holds.insert("AskFinalTid");
        world.request(client, finish(txn, &[], &[]));
        if end == "client" {
            world.hang_up(client);
        } else {
            let answer = world.ask(other, Packet::AskFinalTid { txn });
            let tid = FinalTid::NotCommitted;
            assert_eq!(answer, Some(Packet::AnswerFinalTid { tid }));
        }
        assert!(world.storages.values().all(|s| s.unfinished.is_empty()));
        world.release(2, "AskFinalTid");
        // What comes late is of no consequence.
        world.send(conn(&world, 2), MsgId(0), voted(txn, true));
        world.settle();
        let locked = |s: &Storage| s.log.contains(&"AskLockInformation");
        assert!(!world.storages.values().any(locked), "{end}");
        assert!(!world.closed.contains_key(&other));
        world.commit(other, &[]);
    }
}

#[test]
fn a_vote_is_taken_back_wherever_it_is() {
    let mut world = World::running(2, 1, 1);
    let client = world.client();
    let txn = world.begin(client);
    world.vote(txn, &[1, 2]);
    // The client forgets one, or hides it.
    let nodes = vec![nid("S2")];
    world.notify(client, Packet::AbortTransaction { txn, nodes });
    assert!(world.storages.values().all(|s| s.unfinished.is_empty()));
}
