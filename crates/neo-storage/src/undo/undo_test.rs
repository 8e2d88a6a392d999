//! What is found, for histories of every kind.

use std::pin::pin;
use std::task::{Context, Poll, Waker};

use bytes::Bytes;
use neo_api::{
    BackendInfo, DataId, Durability, ObjectData, Record, RevisionId, WriteBatch, WriteOp,
};
use neo_backends::{KvBackend, MemoryEngine};

use super::*;

const P: Partition = Partition(0);
const OID: Oid = Oid(1);

/// What a transaction did to the object.
#[derive(Clone, Copy)]
enum Did {
    Value,
    Same(u64),
    Deleted,
}

fn ready<R>(future: impl Future<Output = R>) -> R {
    match pin!(future).poll(&mut Context::from_waker(Waker::noop())) {
        Poll::Ready(result) => result,
        Poll::Pending => panic!("an inline backend answers at once"),
    }
}

fn backend(history: &[(u64, Did)]) -> impl StorageBackend {
    let backend = KvBackend::inline(MemoryEngine::default(), BackendInfo::new("Test", false));
    let mut ops = Vec::new();
    for &(tid, did) in history {
        let data = match did {
            Did::Deleted => ObjectData::Deleted,
            Did::Same(tid) => ObjectData::SameAs(Tid(tid)),
            Did::Value => {
                let id = DataId(tid);
                let record = Record::raw(Bytes::from(tid.to_string()));
                ops.push(WriteOp::PutData {
                    id,
                    owner: None,
                    record,
                });
                ObjectData::Value(id)
            }
        };
        ops.push(WriteOp::PutObject {
            partition: P,
            id: RevisionId {
                tid: Tid(tid),
                oid: OID,
            },
            data,
        });
    }
    ready(backend.apply(WriteBatch::from(ops), Durability::Synced)).unwrap();
    backend
}

/// `current`, `current!` when something else has changed it; what was before.
fn undo(history: &[(u64, Did)], undone: u64, before: u64) -> Option<(String, Option<u64>)> {
    let backend = backend(history);
    let found = undo_revision(&backend, P, OID, Tid(undone), Tid(before));
    let found = ready(found).unwrap()?;
    let mark = if found.is_current { "" } else { "!" };
    let current = format!("{}{mark}", found.current.0);
    Some((current, found.previous.map(|tid| tid.0)))
}

fn is(current: &str, previous: Option<u64>) -> Option<(String, Option<u64>)> {
    Some((current.to_owned(), previous))
}

#[test]
fn the_last_change_and_the_creation() {
    use Did::Value;
    let history = [(10, Value), (20, Value), (30, Value)];
    assert_eq!(undo(&history, 30, 99), is("30", Some(20)));
    assert_eq!(undo(&history, 20, 99), is("30!", Some(10)));
    assert_eq!(undo(&history, 10, 99), is("30!", None));
    assert_eq!(undo(&history, 10, 11), is("10", None));
    // As it was before a tid.
    assert_eq!(undo(&history, 20, 30), is("20", Some(10)));
    assert_eq!(undo(&history, 30, 21), is("20!", Some(20)));
    assert_eq!(undo(&history, 20, 10), None);
    // Not of these transactions.
    for tid in [0, 15, 40, u64::MAX] {
        assert_eq!(undo(&history, tid, 99), None);
    }
}

#[test]
fn an_undo_of_an_undo_and_so_on() {
    use Did::{Deleted, Same, Value};
    let history = [
        (10, Value),
        (20, Value),
        (30, Same(10)),
        (40, Same(20)),
        (50, Same(30)),
    ];
    assert_eq!(undo(&history, 50, 99), is("50", Some(40)));
    // The value of 20 is not there any more, but was before 50.
    assert_eq!(undo(&history, 20, 99), is("50!", Some(50)));
    assert_eq!(undo(&history, 20, 50), is("40", Some(30)));
    assert_eq!(undo(&history, 30, 99), is("50", Some(40)));
    assert_eq!(undo(&history, 10, 99), is("50", None));
    // The undo of a creation, and of that.
    let history = [(10, Value), (20, Deleted), (30, Same(10))];
    assert_eq!(undo(&history, 30, 99), is("30", None));
    assert_eq!(undo(&history, 20, 30), is("20", Some(10)));
    assert_eq!(undo(&history, 10, 99), is("30", None));
}

/// Databases of others let all point to the first, and not each to the last.
#[test]
fn pointers_that_skip_what_is_between() {
    use Did::{Same, Value};
    let history = [
        (10, Value),
        (20, Value),
        (30, Same(10)),
        (40, Value),
        (50, Same(10)),
        (60, Value),
        (70, Same(10)),
    ];
    assert_eq!(undo(&history, 60, 99), is("70!", Some(70)));
    assert_eq!(undo(&history, 60, 70), is("60", Some(50)));
    assert_eq!(undo(&history, 40, 60), is("50!", Some(50)));
    assert_eq!(undo(&history, 50, 99), is("70", Some(40)));
    assert_eq!(undo(&history, 30, 99), is("70", Some(20)));
}

#[test]
fn a_history_of_many_pages() {
    use Did::{Same, Value};
    let mut history = vec![(1, Value), (2, Value)];
    history.extend((3..2_000).map(|tid| (tid, Value)));
    history[700] = (701, Same(1));
    history[1_998] = (1_999, Same(2));
    assert_eq!(undo(&history, 2, 9_999), is("1999", Some(701)));
    assert_eq!(undo(&history, 1, 9_999), is("1999!", None));
    assert_eq!(undo(&history, 1, 702), is("701", None));
}
