//! Import: ordered, marked, taken back.

use neo_proto::{WireRevision, WireTransaction, WireValue};

use super::*;

fn revision(tid: u64, oid: u64, value: Option<&str>, data_serial: Option<u64>) -> WireRevision {
    WireRevision {
        id: RevisionId {
            tid: Tid(tid),
            oid: Oid(oid),
        },
        value: value.map(|value| WireValue {
            compression: Compression::None,
            checksum: Checksum::of(value.as_bytes()),
            bytes: value.len() as u32,
        }),
        data_serial: data_serial.map(Tid),
    }
}

fn transaction(tid: u64, oids: &[u64]) -> WireTransaction {
    WireTransaction {
        tid: Tid(tid),
        txn: None,
        meta: TransactionMeta::default(),
        oids: Oids(oids.iter().copied().map(Oid).collect()),
        packed: true,
        pack: None,
    }
}

impl World {
    fn mark(&mut self, import: u64, mark: Option<u64>) {
        let mark = mark.map(Tid);
        self.ask(MASTER, Packet::AskImportMark { import, mark });
        assert_eq!(self.one(MASTER), Packet::AnswerImportMark { import });
    }

    fn import(&mut self, conn: ConnId, import: u64, revisions: Vec<WireRevision>, payload: &str) {
        let tid = revisions.first().map_or(Tid(0), |r| r.id.tid).0;
        let transactions = vec![transaction(tid, &[4])];
        let packet = Packet::AskImport {
            import,
            transactions,
            revisions,
        };
        self.ask_with(conn, packet, Bytes::copy_from_slice(payload.as_bytes()));
    }
}

#[test]
fn an_import_is_ordered_buffered_and_durable_at_its_checkpoint() {
    let mut world = World::serving();
    let c = world.client(1);
    world.commit(c, 10, 4, 0, 20);
    world.mark(1, Some(20));
    assert_eq!(world.config("import_tid"), Some(Tid(20).to_string()));
    world.import(c, 1, vec![revision(30, 4, Some("thirty"), None)], "thirty");
    assert_eq!(world.one(c), Packet::AnswerImport {});
    let several = vec![
        revision(40, 4, None, Some(30)),
        revision(40, 6, Some("six"), None),
        revision(40, 8, None, None),
    ];
    world.import(c, 1, several, "six");
    assert_eq!(world.one(c), Packet::AnswerImport {});
    assert_eq!(world.consumed[&c], 4 + 9);
    assert_eq!(world.applied.last().unwrap().1, Durability::Buffered);
    world.ask(MASTER, Packet::AskSyncImport { import: 1 });
    let import = 1;
    assert_eq!(world.one(MASTER), Packet::AnswerImportSynced { import });
    assert_eq!(world.applied.last().unwrap().1, Durability::Synced);
    world.mark(1, Some(40));
    world.mark(1, None);
    assert_eq!(world.config("import_tid"), None);
    let four = world.loaded(c, 4, At::Latest);
    assert_eq!(four, Some((40, None, "thirty".to_owned())));
    world.ask(c, Packet::AskTransactionInformation { tid: Tid(40) });
    let answer = world.one(c);
    assert!(
        matches!(&answer, Packet::AnswerTransactionInformation { transaction: Some(t) } if t.packed)
    );
    // The serials that were known before are not believed.
    world.store(c, 50, 4, 20, "stale");
    assert_eq!(world.one(c), conflict(40));
    world.stored(c, 50, 4, 40, "fresh");
}

#[test]
fn what_does_not_belong_to_the_import_is_refused() {
    let mut world = World::serving();
    let c = world.client(1);
    world.import(c, 1, vec![revision(30, 4, Some("x"), None)], "x");
    assert_error(&world.one(c), ErrorCode::UnknownTransaction);
    world.mark(1, Some(20));
    world.import(c, 2, vec![revision(30, 4, Some("x"), None)], "x");
    assert_error(&world.one(c), ErrorCode::UnknownTransaction);
    world.import(c, 1, vec![revision(20, 4, Some("x"), None)], "x");
    assert_error(&world.one(c), ErrorCode::Denied);
    world.import(c, 1, vec![revision(30, 4, Some("x"), None)], "y");
    assert_error(&world.one(c), ErrorCode::Checksum);
    world.import(c, 1, vec![revision(30, 4, Some("x"), None)], "xx");
    assert_error(&world.one(c), ErrorCode::Protocol);
    assert_eq!(world.consumed[&c], 6);
    // A value that is not there: nothing may follow it.
    world.import(c, 1, vec![revision(30, 4, None, Some(10))], "");
    assert_error(&world.one(c), ErrorCode::MissingRevision);
    world.import(c, 1, vec![revision(40, 4, Some("x"), None)], "x");
    assert_error(&world.one(c), ErrorCode::UnknownTransaction);
    world.ask(MASTER, Packet::AskSyncImport { import: 1 });
    assert_error(&world.one(MASTER), ErrorCode::Internal);
}

#[test]
fn a_truncation_takes_back_what_is_still_on_its_way() {
    let mut world = World::serving();
    let c = world.client(1);
    world.commit(c, 10, 4, 0, 20);
    world.mark(1, Some(20));
    world.hold_writes = true;
    world.import(c, 1, vec![revision(30, 4, Some("x"), None)], "x");
    let after = Tid(20);
    world.ask(MASTER, Packet::AskTruncate { after });
    // From now on nothing of it is taken.
    world.import(c, 1, vec![revision(40, 4, Some("x"), None)], "x");
    assert_error(&world.one(c), ErrorCode::UnknownTransaction);
    world.release_writes();
    assert_eq!(world.packets(MASTER), [Packet::AnswerTruncated { after }]);
    world.mark(1, None);
    assert_eq!(world.one(c), Packet::AnswerImport {});
    assert_eq!(world.loaded(c, 4, At::Latest).unwrap().0, 20);
    assert_eq!(world.applied.last().unwrap().1, Durability::Synced);
}

#[test]
fn after_a_crash_the_mark_tells_what_counts() {
    let mut world = World::serving();
    let c = world.client(1);
    world.commit(c, 10, 4, 0, 20);
    world.mark(1, Some(20));
    for tid in [30, 40] {
        world.import(c, 1, vec![revision(tid, 4, Some("x"), None)], "x");
        world.packets(c);
    }
    let backend = world.after_crash(world.applied.len());
    let mut world = World::with(settings(), backend);
    world.join();
    world.ask(MASTER, Packet::AskRecovery {});
    let Packet::AnswerRecovery { recovery } = world.one(MASTER) else {
        panic!("no recovery");
    };
    assert_eq!(recovery.import_tid, Some(Tid(20)));
    let after = Tid(20);
    world.ask(MASTER, Packet::AskTruncate { after });
    assert_eq!(world.one(MASTER), Packet::AnswerTruncated { after });
    world.mark(0, None);
    world.ask(MASTER, Packet::AskLastIds {});
    let Packet::AnswerLastIds { ids, .. } = world.one(MASTER) else {
        panic!("no last ids");
    };
    assert_eq!(ids.last_tid, Some(Tid(20)));
}
