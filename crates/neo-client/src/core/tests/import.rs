//! Imports.

use neo_api::RevisionId;
use neo_proto::{WireRevision, WireTransaction, WireValue};

use super::*;

const I: ImportKey = ImportKey(1);

fn transaction(tid: u64) -> WireTransaction {
    WireTransaction {
        tid: Tid(tid),
        txn: None,
        meta: TransactionMeta::default(),
        oids: vec![Oid(tid)].into(),
        packed: false,
        pack: None,
    }
}

fn revision(tid: u64, text: Option<&str>) -> (WireRevision, Bytes) {
    let value = text.map(|text| WireValue {
        compression: neo_api::Compression::None,
        checksum: record(text).checksum,
        bytes: text.len() as u32,
    });
    let id = RevisionId {
        tid: Tid(tid),
        oid: Oid(tid),
    };
    let data = Bytes::from(text.unwrap_or_default().to_owned());
    (
        WireRevision {
            id,
            value,
            data_serial: None,
        },
        data,
    )
}

fn begun(storages: u32, np: u32) -> World {
    let mut w = World::new(storages, np);
    w.command(Command::BeginImport {
        import: I,
        reply: R,
    });
    let (id, packet) = w.to(m(1));
    assert_eq!(packet, Packet::AskBeginImport {});
    w.says(
        m(1),
        id,
        Packet::AnswerBeginImport {
            import: 4,
            last_tid: Tid(100),
        },
    );
    assert_eq!(w.reply(), (R, Ok(Reply::ImportBegun(Tid(100)))));
    w
}

fn batch(w: &mut World, reply: u64, tid: u64, text: Option<&str>) {
    w.command(Command::ImportBatch {
        import: I,
        reply: ReplyId(reply),
        transactions: vec![transaction(tid)],
        revisions: vec![revision(tid, text)],
    });
}

fn asked(w: &mut World, nid: NodeId) -> (MsgId, usize, usize) {
    match w.to(nid) {
        (
            id,
            Packet::AskImport {
                import: 4,
                transactions,
                revisions,
            },
        ) => (id, transactions.len(), revisions.len()),
        other => panic!("{other:?}"),
    }
}

#[test]
fn batches_go_to_their_cells_and_are_committed_by_checkpoints() {
    let mut w = begun(2, 2);
    w.core.table.as_mut().unwrap().rows[1].truncate(1);
    batch(&mut w, 2, 201, Some("a"));
    // Partition 1 is on S1 only.
    let (id, ..) = asked(&mut w, s(1));
    assert!(!w.conns.contains_key(&s(2)));
    w.says(s(1), id, Packet::AnswerImport {});
    assert_eq!(w.reply(), (ReplyId(2), Ok(Reply::Done)));
    let (tid, last_oid) = (Tid(201), Oid(201));
    w.command(Command::CheckpointImport {
        import: I,
        reply: R,
        tid,
        last_oid,
    });
    let (id, packet) = w.to(m(1));
    assert_eq!(
        packet,
        Packet::AskCheckpointImport {
            import: 4,
            tid,
            last_oid
        }
    );
    w.says(m(1), id, Packet::AnswerImportCheckpointed { tid });
    assert!(matches!(w.events.pop_front(), Some(Event::Resynced { .. })));
    assert_eq!(w.reply(), (R, Ok(Reply::LastTid(tid))));
    w.command(Command::EndImport {
        import: I,
        reply: Some(R),
    });
    let (id, packet) = w.to(m(1));
    assert_eq!(packet, Packet::AskEndImport { import: 4 });
    w.says(m(1), id, Packet::AnswerImportEnded { tid });
    assert_eq!(w.reply(), (R, Ok(Reply::Done)));
    assert!(w.core.imports.is_empty());
}

#[test]
fn a_batch_without_values_does_not_overtake() {
    let mut w = begun(1, 1);
    batch(&mut w, 2, 201, Some("a"));
    batch(&mut w, 3, 202, None);
    batch(&mut w, 4, 203, Some("c"));
    let (id, ..) = asked(&mut w, s(1));
    w.quiet();
    w.says(s(1), id, Packet::AnswerImport {});
    assert_eq!(w.reply(), (ReplyId(2), Ok(Reply::Done)));
    asked(&mut w, s(1));
    // What has values waits for credit, if at all: it is behind.
    asked(&mut w, s(1));
}

#[test]
fn a_failed_node_ends_the_import_at_its_last_checkpoint() {
    let mut w = begun(2, 1);
    batch(&mut w, 2, 201, Some("a"));
    let (id, ..) = asked(&mut w, s(1));
    w.error(s(1), id, ErrorCode::NoSpace);
    assert_eq!(w.to(m(1)).1, Packet::AskEndImport { import: 4 });
    assert!(matches!(w.failure(), Error::NoSpace(_)));
    batch(&mut w, 3, 202, Some("b"));
    assert!(matches!(w.failure(), Error::NoSpace(_)));
}

#[test]
fn a_dropped_import_is_ended_even_if_it_was_only_beginning() {
    let mut w = World::new(1, 1);
    w.command(Command::BeginImport {
        import: I,
        reply: R,
    });
    let (id, _) = w.to(m(1));
    w.command(Command::EndImport {
        import: I,
        reply: None,
    });
    w.says(
        m(1),
        id,
        Packet::AnswerBeginImport {
            import: 4,
            last_tid: Tid(100),
        },
    );
    assert_eq!(w.to(m(1)).1, Packet::AskEndImport { import: 4 });
    w.quiet();
}

#[test]
fn the_loss_of_the_primary_ends_it() {
    let mut w = begun(1, 1);
    batch(&mut w, 2, 201, Some("a"));
    w.lose(m(1));
    assert!(matches!(w.failure(), Error::NotReady(_)));
}
