//! Storage nodes that fail: outdating, arbitration between clients, and the way back.

use neo_api::{CellState, ClusterState, NodeId, TxnId};
use neo_proto::{ConnId, Core, Effect, Effects, Input, Message, MsgId, Packet};

use super::harness::*;

fn failed(txn: TxnId, nodes: &[&str]) -> Packet {
    let nodes: Vec<NodeId> = nodes.iter().map(|text| nid(text)).collect();
    Packet::AskFailedVote { txn, nodes }
}

fn granted(answer: Option<Packet>) -> bool {
    answer == Some(Packet::AnswerFailedVote {})
}

fn incomplete(answer: Option<Packet>) -> bool {
    words(answer).starts_with("incomplete transaction")
}

/// Names of what is sent when an input is taken, and what is due then, with the receivers.
fn sent(world: &mut World, input: Input<crate::MasterCore>) -> Vec<(ConnId, &'static str)> {
    let mut out = Effects::new();
    world.core.handle(world.now, input, &mut out);
    if world
        .core
        .poll_timeout()
        .is_some_and(|at| at <= world.now.mono)
    {
        world.core.handle(world.now, Input::Timer, &mut out);
    }
    let effects = out.take().into_iter();
    effects
        .filter_map(|effect| match effect {
            Effect::Send { conn, message } => Some((conn, message.packet.name())),
            Effect::Close { conn, .. } => Some((conn, "closed")),
            _ => None,
        })
        .collect()
}

#[test]
fn a_lost_node_is_outdated_and_everybody_is_told_storage_nodes_first() {
    let mut world = World::running(3, 1, 3);
    let (client, admin) = (world.client(), world.admin());
    let conn = world.storages[&2].conn.unwrap();
    let (one, three) = (
        world.storages[&1].conn.unwrap(),
        world.storages[&3].conn.unwrap(),
    );
    let reason = "reset".to_owned();
    let sent = sent(&mut world, Input::Closed { conn, reason });
    let node = "NotifyNodeInformation";
    let cells = "NotifyPartitionChanges";
    assert_eq!(
        sent,
        [
            (one, node),
            (three, node),
            (client, node),
            (admin, node),
            (one, cells),
            (three, cells),
            (client, cells),
            (admin, cells),
        ]
    );
    assert_eq!(world.rows(), ["1U2O", "1U3U", "2O3U"]);
}

#[test]
fn a_node_that_is_lost_while_it_locks_is_outdated_before_the_answer() {
    let mut world = World::running(2, 1, 1);
    let client = world.client();
    let txn = world.begin(client);
    world.vote(txn, &[1, 2]);
    world
        .storages
        .get_mut(&2)
        .unwrap()
        .holds
        .insert("AskLockInformation");
    world.finish(client, txn, &[]);
    world.received(client);
    let conn = world.storages[&2].conn.unwrap();
    let one = world.storages[&1].conn.unwrap();
    let reason = "reset".to_owned();
    let sent = sent(&mut world, Input::Closed { conn, reason });
    let at = |what| {
        sent.iter()
            .position(|s| *s == what)
            .unwrap_or_else(|| panic!("{sent:?}"))
    };
    let answer = at((client, "AnswerTransactionFinished"));
    assert!(at((one, "NotifyPartitionChanges")) < answer);
    assert!(at((client, "NotifyPartitionChanges")) < answer);
    assert!(answer < at((one, "NotifyUnlockInformation")));
}

#[test]
fn the_last_readable_cell_is_not_outdated() {
    let mut world = World::running(2, 1, 1);
    let client = world.client();
    world.lose(1);
    let before = world.table().clone();
    assert_eq!(world.rows(), ["1O2U"]);
    world.received(client);
    world.lose(2);
    assert_eq!(world.state(), ClusterState::Recovering);
    assert_eq!(world.table(), &before);
    let told = world.names(client);
    assert!(told.contains(&"StopOperation"), "{told:?}");
    assert!(world.closed[&client].contains("partition 0 has no readable cell left"));
}

#[test]
fn when_one_partition_is_bereft_nothing_is_outdated() {
    // S2 shares partition 0 with S1, and has partition 1 alone.
    let mut world = World::running(2, 1, 2);
    let version = world.table().version;
    let cell = world.table().rows[1][0];
    let changes = [neo_api::CellChange {
        partition: neo_api::Partition(1),
        cell: neo_api::Cell {
            state: CellState::OutOfDate,
            ..cell
        },
    }];
    let mut out = Effects::new();
    world.core.change_table(&changes, &mut out);
    assert_eq!(world.rows(), ["1U2U", "1O2U"]);
    assert!(world.table().version > version);
    world.lose(2);
    assert_eq!(world.rows(), ["1U2U", "1O2U"]);
    assert_eq!(world.state(), ClusterState::Recovering);
}

#[test]
fn a_primary_that_fell_back_starts_with_every_readable_node_only() {
    let mut world = World::running(2, 1, 1);
    let client = world.client();
    let tid = world.commit(client, &[]);
    world.lose(1);
    let later = world.commit_on(client, &[2]);
    world.lose(2);
    world.join(1);
    assert_eq!(
        world.state(),
        ClusterState::Recovering,
        "S1 lacks the last transaction"
    );
    world.join(2);
    assert_eq!(
        (world.state(), world.status.reign.0),
        (ClusterState::Running, 2)
    );
    let client = world.client();
    assert_eq!(world.last_tid(client), later);
    assert!(later > tid);
    assert!(world.commit(client, &[]) > later);
}

#[test]
fn a_vote_without_a_node_that_can_be_spared() {
    let mut world = World::running(2, 1, 1);
    let client = world.client();
    let txn = world.begin(client);
    world.vote(txn, &[1]);
    assert!(granted(world.ask(client, failed(txn, &["S2"]))));
    assert_eq!(world.rows(), ["1U2U"], "it may be that it is aborted");
    let id = world.finish(client, txn, &[]);
    let answer = world.answer(client, id);
    assert!(
        matches!(answer, Some(Packet::AnswerTransactionFinished { .. })),
        "{answer:?}"
    );
    assert_eq!(world.rows(), ["1U2O"]);
    let told = world.closed.values().last().unwrap();
    assert!(told.contains("failed to take part"), "{told}");
    assert!(!world.storages[&2].log.contains(&"AskLockInformation"));
}

#[test]
fn failed_nodes_are_gone_and_outdated_before_the_lock() {
    let mut world = World::running(2, 1, 1);
    let client = world.client();
    let txn = world.begin(client);
    world.vote(txn, &[1]);
    world.ask(client, failed(txn, &["S2"]));
    let (one, two) = (
        world.storages[&1].conn.unwrap(),
        world.storages[&2].conn.unwrap(),
    );
    let message = Message::new(
        MsgId(77),
        Packet::AskFinishTransaction {
            txn,
            oids: Vec::new().into(),
            partitions: Vec::new(),
        },
    );
    let conn = client;
    let sent = sent(&mut world, Input::Message { conn, message });
    let names: Vec<_> = sent
        .into_iter()
        .filter(|(conn, _)| *conn == one || *conn == two)
        .collect();
    assert_eq!(
        names,
        [
            (two, "closed"),
            (one, "NotifyNodeInformation"),
            (one, "NotifyPartitionChanges"),
            (one, "AskLockInformation"),
        ]
    );
}

#[test]
fn a_vote_without_nodes_that_can_not_be_spared_is_refused() {
    let mut world = World::running(2, 1, 1);
    let client = world.client();
    let txn = world.begin(client);
    assert!(incomplete(world.ask(client, failed(txn, &["S1", "S2"]))));
    // One after the other is both.
    assert!(granted(world.ask(client, failed(txn, &["S1"]))));
    assert!(incomplete(world.ask(client, failed(txn, &["S2"]))));
    // Nodes that are no storage, unknown or lost already do not matter.
    assert!(granted(world.ask(client, failed(txn, &["S9", "C1", "M1"]))));
    world.vote(txn, &[2]);
    let id = world.finish(client, txn, &[]);
    assert!(matches!(
        world.answer(client, id),
        Some(Packet::AnswerTransactionFinished { .. })
    ));
}

#[test]
fn two_clients_that_lost_sight_of_different_nodes() {
    for ends in ["finish", "abort", "gone"] {
        let mut world = World::running(2, 1, 1);
        let (a, b) = (world.client(), world.client());
        let (one, two) = (world.begin(a), world.begin(b));
        world.vote(one, &[1]);
        world.vote(two, &[2]);
        assert!(granted(world.ask(a, failed(one, &["S2"]))));
        let id = world.request(b, failed(two, &["S1"]));
        assert_eq!(world.answer(b, id), None, "not both: it waits");
        match ends {
            "finish" => {
                let finish = world.finish(a, one, &[]);
                assert!(world.answer(a, finish).is_some());
                assert_eq!(world.rows(), ["1U2O"]);
                assert!(incomplete(world.answer(b, id)));
            }
            "abort" => {
                world.notify(
                    a,
                    Packet::AbortTransaction {
                        txn: one,
                        nodes: Vec::new(),
                    },
                );
                assert!(granted(world.answer(b, id)));
                world.finish(b, two, &[]);
                assert_eq!(world.rows(), ["1O2U"]);
            }
            _ => {
                world.hang_up(a);
                assert!(granted(world.answer(b, id)));
            }
        }
        assert_eq!(world.state(), ClusterState::Running);
    }
}

#[test]
fn a_delayed_vote_ends_with_its_transaction() {
    let mut world = World::running(2, 1, 1);
    let (a, b) = (world.client(), world.client());
    let (one, two) = (world.begin(a), world.begin(b));
    world.ask(a, failed(one, &["S2"]));
    let id = world.request(b, failed(two, &["S1"]));
    world.notify(
        b,
        Packet::AbortTransaction {
            txn: two,
            nodes: Vec::new(),
        },
    );
    world.notify(
        a,
        Packet::AbortTransaction {
            txn: one,
            nodes: Vec::new(),
        },
    );
    assert_eq!(world.answer(b, id), None);
    // A node that is lost decides a vote that waits.
    let (one, two) = (world.begin(a), world.begin(b));
    world.ask(a, failed(one, &["S2"]));
    let id = world.request(b, failed(two, &["S1"]));
    world.lose(2);
    assert!(incomplete(world.answer(b, id)));
    assert_eq!(world.state(), ClusterState::Running);
}

#[test]
fn a_transaction_whose_failed_node_is_needed_by_now_is_aborted() {
    let mut world = World::running(2, 1, 1);
    let client = world.client();
    let txn = world.begin(client);
    world.vote(txn, &[1]);
    assert!(granted(world.ask(client, failed(txn, &["S2"]))));
    // The other one is lost: now the one that failed can't be spared.
    world.lose(1);
    let id = world.finish(client, txn, &[]);
    assert!(incomplete(world.answer(client, id)));
    assert!(world.storages[&2].conn.is_some());
    assert_eq!(world.state(), ClusterState::Running);
}

#[test]
fn nodes_that_are_out_of_date_follow_every_change_of_the_table() {
    let mut world = World::running(3, 2, 1);
    world.lose(3);
    world.join(3);
    world.lose(2);
    assert_eq!(world.rows(), ["1U2O3O"]);
    // The played node checks that the change is of the table that it has.
    assert_eq!(world.storages[&3].table.as_ref(), Some(world.table()));
}

#[test]
fn a_storage_node_that_can_not_lock_is_expelled() {
    let mut world = World::running(2, 1, 1);
    let client = world.client();
    let txn = world.begin(client);
    world.vote(txn, &[1, 2]);
    world
        .storages
        .get_mut(&2)
        .unwrap()
        .holds
        .insert("AskLockInformation");
    let finish = world.finish(client, txn, &[]);
    let conn = world.storages[&2].conn.unwrap();
    let id = world.inbox[&conn].front().unwrap().id;
    let code = neo_proto::ErrorCode::UnknownTransaction;
    let message = "never heard of it".to_owned();
    world.send(conn, id, Packet::Error { code, message });
    assert!(world.closed[&conn].contains("never heard of it"));
    assert_eq!(world.rows(), ["1U2O"]);
    assert!(world.answer(client, finish).is_some());
}

#[test]
fn messages_of_an_earlier_operation_are_dropped() {
    let mut world = World::running(1, 0, 1);
    world.lose(1);
    world
        .storages
        .get_mut(&1)
        .unwrap()
        .holds
        .insert("StartOperation");
    world.join(1);
    let client = world.client();
    let conn = world.storages[&1].conn.unwrap();
    let begin = world.request(client, Packet::AskBeginTransaction { tid: None });
    let message = Message::notify(Packet::NotifyReady { operation: 1 });
    world.input(Input::Message { conn, message });
    assert_eq!(
        world.answer(client, begin),
        None,
        "it was ready once before"
    );
    world.release(1, "StartOperation");
    assert!(world.answer(client, begin).is_some());
}

#[test]
fn a_primary_that_was_asleep_outdates_nobody() {
    let mut world = World::running(2, 1, 1);
    let client = world.client();
    let txn = world.begin(client);
    world.vote(txn, &[1, 2]);
    let before = world.table().clone();
    // Its process was stopped, or its machine; the others have given it up.
    world.now.mono = world.now.mono + std::time::Duration::from_secs(11);
    world.lose(1);
    assert_eq!(world.state(), ClusterState::Recovering);
    assert!(world.closed[&client].contains("asleep for 11 s"));
    assert_eq!(world.rows(), ["1U2U"]);
    assert_eq!(world.table(), &before);
    for n in [1, 2] {
        world.join(n);
    }
    assert_eq!(world.state(), ClusterState::Running);
    assert_eq!(world.rows(), ["1U2U"]);
    // A nap is nothing.
    world.now.mono = world.now.mono + std::time::Duration::from_secs(9);
    world.input(Input::Timer);
    assert_eq!(world.state(), ClusterState::Running);
}

#[test]
fn losses_of_one_moment_are_one_change() {
    let mut world = World::running(20, 1, 20);
    let client = world.client();
    let before = world.table().version;
    world.received(client);
    // Copies are dealt out in turn: of each partition on one odd and one even node.
    let odd: Vec<u32> = (1..=20).step_by(2).collect();
    world.lose_at_once(&odd);
    assert_eq!(world.state(), ClusterState::Running);
    let after = world.table().version;
    assert_eq!(
        (after.reign, after.ptid),
        (before.reign, before.ptid.next())
    );
    let readable = world.table().readable_nodes();
    assert!(readable.iter().all(|nid| nid.number() % 2 == 0));
    assert_eq!(readable.len(), 10);
    // A client hears of all of them at once: first which nodes, then which cells.
    let heard = world.names(client);
    assert_eq!(heard, ["NotifyNodeInformation", "NotifyPartitionChanges"]);
    for n in (2..=20).step_by(2) {
        let log = &world.storages[&n].log;
        let changes = log.iter().filter(|name| **name == "NotifyPartitionChanges");
        assert_eq!(changes.count(), 1, "S{n}");
    }
}

#[test]
fn a_loss_is_dealt_with_before_the_next_message() {
    let mut world = World::running(2, 1, 1);
    let client = world.client();
    let before = world.table().version;
    let conn = world.storages[&2].conn.unwrap();
    let closed = |conn| Input::Closed {
        conn,
        reason: "lost".to_owned(),
    };
    let mut out = Effects::new();
    world.core.handle(world.now, closed(conn), &mut out);
    assert_eq!(world.table().version, before, "others may follow");
    assert_eq!(world.core.poll_timeout(), Some(world.now.mono), "at once");
    assert!(out.take().is_empty());
    let packet = Packet::AskLastTransaction {};
    let message = Message::new(MsgId(7), packet);
    let input = Input::Message {
        conn: client,
        message,
    };
    let sent = sent(&mut world, input);
    assert_eq!(world.rows(), ["1U2O"]);
    let to_client = sent.into_iter().filter(|(conn, _)| *conn == client);
    let to_client: Vec<&str> = to_client.map(|(_, name)| name).collect();
    let expected = [
        "NotifyNodeInformation",
        "NotifyPartitionChanges",
        "AnswerLastTransaction",
    ];
    assert_eq!(to_client, expected);
}
