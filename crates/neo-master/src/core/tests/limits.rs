//! What a client may not do: too much, nonsense, and writing when it only reads.

use neo_api::{ClusterState, NodeType, Oid, Partition, TRANSACTION_OIDS_MAX, Tid, TxnId};
use neo_proto::Packet;

use super::harness::*;
use crate::MasterSettings;

#[test]
fn there_are_bounds() {
    let mut world = World::new(MasterSettings {
        autostart: Some(1),
        transactions_max: 3,
        transactions_per_client_max: 2,
        new_oids_max: 10,
        finishing_oids_max: 3,
        partitions: 1,
        ..MasterSettings::new("c")
    });
    world.storages.insert(1, Storage::new(1));
    world.join(1);
    let (a, b) = (world.client(), world.client());
    let begin = || Packet::AskBeginTransaction { tid: None };
    let (one, _) = (world.begin(a), world.begin(a));
    let told = words(world.ask(a, begin()));
    assert!(
        told.contains("too large") && told.contains("transactions_per_client_max"),
        "{told}"
    );
    world.begin(b);
    let told = words(world.ask(b, begin()));
    assert!(
        told.contains("not ready") && told.contains("transactions_max"),
        "{told}"
    );
    for count in [0, 11] {
        let told = words(world.ask(a, Packet::AskNewOids { count }));
        assert!(told.contains("new_oids_max"), "{told}");
    }
    world.vote(one, &[1]);
    let id = world.finish(a, one, &[1, 2, 3, 4]);
    assert!(words(world.answer(a, id)).contains("finishing_oids_max"));
    assert!(world.storages[&1].unfinished.is_empty(), "it is aborted");
    assert!(!world.closed.contains_key(&a));
}

#[test]
fn a_transaction_has_at_most_so_many_objects() {
    let mut world = World::new(MasterSettings {
        autostart: Some(1),
        finishing_oids_max: usize::MAX,
        partitions: 1,
        ..MasterSettings::new("c")
    });
    world.storages.insert(1, Storage::new(1));
    world.join(1);
    let client = world.client();
    let txn = world.begin(client);
    world.vote(txn, &[1]);
    let id = world.finish(client, txn, &vec![1; TRANSACTION_OIDS_MAX + 1]);
    let told = words(world.answer(client, id));
    assert!(told.contains("there may be 2097151"), "{told}");
    assert!(world.storages[&1].unfinished.is_empty(), "it is aborted");
}

#[test]
fn a_client_that_breaks_the_protocol_is_disconnected_and_its_transactions_end() {
    type Spoil = fn(TxnId) -> Packet;
    let cases: [Spoil; 5] = [
        |txn| Packet::AskFinishTransaction {
            txn,
            oids: vec![Oid(1)].into(),
            partitions: vec![Partition(3)],
        },
        |txn| Packet::AskFinishTransaction {
            txn,
            oids: vec![Oid(1)].into(),
            partitions: Vec::new(),
        },
        |txn| Packet::AskLockInformation { txn, tid: Tid(1) },
        |_| Packet::AnswerDone {
            message: String::new(),
        },
        |_| Packet::SetClusterState {
            state: ClusterState::Stopping,
        },
    ];
    for spoil in cases {
        let mut world = World::running(3, 0, 3);
        let client = world.client();
        let txn = loop {
            let txn = world.begin(client);
            if txn.ttid.0 % 3 != 1 {
                break txn;
            }
        };
        world.vote(txn, &[1, 2, 3]);
        world.request(client, spoil(txn));
        assert!(world.closed.contains_key(&client));
        assert!(world.storages.values().all(|s| s.unfinished.is_empty()));
        assert_eq!(world.state(), ClusterState::Running);
    }
}

#[test]
fn a_read_only_client_writes_nothing() {
    let mut world = World::running(1, 0, 1);
    let mut identification = World::identification(NodeType::Client);
    identification.read_only = true;
    let (client, _) = world.identify(identification);
    for packet in [
        Packet::AskBeginTransaction { tid: None },
        Packet::AskNewOids { count: 1 },
        Packet::AskBeginImport {},
    ] {
        assert!(words(world.ask(client, packet)).contains("read-only"));
    }
    assert_eq!(world.last_tid(client), Tid::ZERO);
}
