//! Every kind of message, from everybody, in every state: an answer or a closed connection, never
//! a panic, and the node goes on.

use super::*;

/// Requests and notifications of all subjects, most of them out of place.
fn packets() -> Vec<Packet> {
    let (txn, oid, tid) = (txn(11), Oid(5), Tid(21));
    let (reign, partition) = (Reign(9), Partition(77));
    vec![
        Packet::NotifyUnlockInformation { txn },
        Packet::AskLockInformation { txn, tid },
        Packet::AskFinalTid { txn },
        Packet::AskValidateTransaction { txn, tid },
        Packet::AskTruncate {
            after: Tid(u64::MAX),
        },
        Packet::AskLastIds {},
        Packet::AskRecovery {},
        Packet::AskPartitionTable {},
        Packet::AskStoreOidMark {
            mark: Oid(u64::MAX),
        },
        Packet::AskImportMark {
            import: 3,
            mark: None,
        },
        Packet::AskSyncImport { import: 4 },
        Packet::AskImport {
            import: 4,
            transactions: vec![],
            revisions: vec![],
        },
        Packet::StartOperation { operation: 1 },
        Packet::AskLockedTransactions { after: Some(txn) },
        Packet::NotifyPartitionChanges {
            base: version(1),
            version: version(2),
            replicas: 0,
            changes: vec![neo_api::CellChange {
                partition,
                cell: Cell {
                    nid: storage(1),
                    state: CellState::UpToDate,
                    assigned: version(1),
                },
            }],
        },
        Packet::AskTransactions {
            partition,
            min: tid,
            max: Tid(0),
            entries: 0,
            order: neo_api::Order::Descending,
        },
        Packet::AskObjects { objects: vec![] },
        Packet::AskObjects {
            objects: vec![(Oid(u64::MAX), At::Exact(Tid(0))); 10_001],
        },
        Packet::AskObjectHistory {
            oid,
            before: Tid(0),
            entries: 0,
        },
        Packet::AskCurrentRevisions {
            partition: Partition(u32::MAX),
            min: Oid(u64::MAX),
            at: Tid(0),
            bytes: 0,
            values: false,
        },
        Packet::AskPartitionSize { partition },
        Packet::AskUndoRevisions {
            partition,
            undone: Tid(u64::MAX),
            before: Tid(0),
            oids: vec![oid; 3].into(),
        },
        Packet::AskRevisions {
            partition: Partition(0),
            min: RevisionId { tid, oid },
            max: Tid(0),
            bytes: 0,
        },
        Packet::AskTransactionInformation { tid: Tid(u64::MAX) },
        Packet::AskObject {
            oid: Oid(u64::MAX),
            at: At::Before(Tid(0)),
        },
        Packet::AskRelockObject { txn, oid },
        Packet::AskVoteTransaction {
            txn,
            objects: u32::MAX,
        },
        Packet::AskCheckCurrentSerial {
            txn,
            oid,
            serial: Tid(u64::MAX),
        },
        Packet::AbortTransaction { txn, nodes: vec![] },
        Packet::NotifyDeadlock { txn, oid },
        Packet::AnswerVoteTransaction {},
        Packet::AnswerDone {
            message: String::new(),
        },
        Packet::AskUnfinishedTransactions { cells: vec![] },
        Packet::ElectionMessage {
            message: Bytes::new(),
        },
        Packet::StopOperation {},
        Packet::AskStartReign { reign },
        Packet::Heartbeat {},
    ]
}

#[test]
fn nothing_that_a_peer_says_ends_the_node() {
    let stranger = ConnId(900);
    for state in 0..3 {
        for who in 0..3 {
            for packet in packets() {
                let mut world = match state {
                    0 => World::with(settings(), memory()),
                    1 => {
                        let mut world = World::with(settings(), memory());
                        world.join();
                        world
                    }
                    _ => World::serving(),
                };
                let conn = match (state, who) {
                    (1 | 2, 0) => MASTER,
                    (2, 1) => world.client(1),
                    _ => {
                        let from = Address::new("c", 1);
                        world.give(Input::Accepted {
                            conn: stranger,
                            from,
                        });
                        stranger
                    }
                };
                let asks = packet.name().starts_with("Ask");
                let answered = packet.is_answer();
                let name = packet.name();
                let id = if asks || answered {
                    MsgId(1_000)
                } else {
                    MsgId(0)
                };
                let message = Message::with_payload(id, packet, Bytes::new());
                world.give(Input::Message { conn, message });
                let heard = world.take(conn).iter().any(|message| message.id == id);
                let closed = world.closed.contains_key(&conn);
                assert!(!asks || heard || closed, "{name} to {state} by {who}");
                assert_eq!(world.stopped, None, "{name} to {state} by {who}");
                // It finds its way back.
                if closed && conn == MASTER {
                    world.join_at(ConnId(2));
                }
            }
        }
    }
}
