//! What is made of what a query has found.

use bytes::{Bytes, BytesMut};
use neo_api::{FetchedRevision, HistoryEntry, Loaded, Oid, RevisionId, Tid};
use neo_proto::{
    ErrorCode, FinalTid, ObjectAnswer, Packet, UndoRevision, WireRevision, WireTransaction,
    WireValue,
};

use super::{Wanted, entries_limit};
use crate::core::cells::Cells;
use crate::core::effect::QueryResult;
use crate::core::io::{Asker, Io};
use crate::core::packing::Packed;

/// Object bytes of the answer; of lists, about as many bytes as were read.
pub(crate) fn payload_bytes(found: &QueryResult) -> usize {
    match found {
        QueryResult::Load(loaded) => value_bytes(loaded),
        QueryResult::LoadMany(loaded) => loaded.iter().map(value_bytes).sum(),
        QueryResult::Fetch { page, .. } => revision_bytes(page),
        QueryResult::Current(page) => page
            .as_ref()
            .map_or(0, |page| revision_bytes(&page.revisions)),
        QueryResult::History { entries, .. } => entries.len() * size_of::<HistoryEntry>(),
        QueryResult::Undo(revisions) => {
            revisions.as_ref().map_or(0, Vec::len) * size_of::<UndoRevision>()
        }
        QueryResult::Revisions(ids) => ids.len() * size_of::<RevisionId>(),
        QueryResult::Transactions { page, .. } => {
            let oids = page.iter().map(|record| record.oids.len());
            oids.map(|n| 64 + n * size_of::<Oid>()).sum()
        }
        _ => 0,
    }
}

fn value_bytes(loaded: &Option<Loaded>) -> usize {
    loaded.as_ref().map_or(0, Loaded::value_bytes)
}

fn revision_bytes(page: &[FetchedRevision]) -> usize {
    let records = page.iter().filter_map(|revision| revision.record.as_ref());
    records.map(|record| record.data.len()).sum()
}

/// Whether a revision is found to be the newest of an object, or an object not to exist: a
/// transaction that is committed by now may say otherwise.
pub(crate) fn tells_newest(wanted: &Wanted, found: &QueryResult) -> bool {
    let unknown = match found {
        QueryResult::Load(loaded) => matches!(loaded, Some(Loaded::Unknown)),
        QueryResult::LoadMany(loaded) => loaded.contains(&Some(Loaded::Unknown)),
        _ => false,
    };
    unknown || newest_serials(wanted, found).next().is_some()
}

/// The objects whose newest revision is found, each with its serial.
pub(crate) fn newest_serials<'a>(
    wanted: &'a Wanted,
    found: &'a QueryResult,
) -> impl Iterator<Item = (Oid, Tid)> {
    let (one, many) = match (wanted, found) {
        (Wanted::Object { oid, .. }, QueryResult::Load(loaded)) => (Some((*oid, loaded)), None),
        (Wanted::Objects { objects }, QueryResult::LoadMany(loaded)) => {
            let oids = objects.iter().map(|(oid, _)| *oid);
            (None, Some(oids.zip(loaded)))
        }
        _ => (None, None),
    };
    let all = one.into_iter().chain(many.into_iter().flatten());
    all.filter_map(|(oid, loaded)| Some((oid, newest_serial(loaded)?)))
}

/// The serial of a revision that is found and that no other one follows.
const fn newest_serial(loaded: &Option<Loaded>) -> Option<Tid> {
    match loaded {
        Some(Loaded::Found(revision)) if revision.next_serial.is_none() => Some(revision.serial),
        Some(Loaded::Deleted {
            serial,
            next_serial: None,
        }) => Some(*serial),
        _ => None,
    }
}

pub(crate) fn answer(
    cells: &Cells,
    io: &mut Io<'_>,
    asker: Asker,
    wanted: Wanted,
    found: QueryResult,
) {
    match (wanted, found) {
        (Wanted::Object { oid, .. }, QueryResult::Load(loaded)) => {
            let (answer, data) = object_answer(loaded);
            io.answer_with(asker, Packet::AnswerObject { oid, answer }, data);
        }
        (_, QueryResult::LoadMany(loaded)) => {
            let (answers, payload) = object_answers(loaded);
            io.answer_with(asker, Packet::AnswerObjects { answers }, payload);
        }
        (_, QueryResult::History { entries, complete }) => {
            io.answer(asker, Packet::AnswerObjectHistory { entries, complete });
        }
        (_, QueryResult::Current(page)) => {
            let packed = page.is_none();
            let page = page.unwrap_or_default();
            let (revisions, payload) = wire_revisions(page.revisions);
            let next = page.next;
            let answer = Packet::AnswerCurrentRevisions {
                revisions,
                next,
                packed,
            };
            io.answer_with(asker, answer, payload);
        }
        (_, QueryResult::Bytes(bytes)) => {
            io.answer(asker, Packet::AnswerPartitionSize { bytes });
        }
        (_, QueryResult::Undo(revisions)) => {
            let packed = revisions.is_none();
            let revisions = revisions.unwrap_or_default();
            io.answer(asker, Packet::AnswerUndoRevisions { revisions, packed });
        }
        (_, QueryResult::Transaction(found)) => {
            let transaction = found.map(|record| Box::new(WireTransaction::from(*record)));
            io.answer(asker, Packet::AnswerTransactionInformation { transaction });
        }
        (_, QueryResult::Transactions { page, complete }) => {
            let transactions = page.into_iter().map(Into::into).collect();
            let answer = Packet::AnswerTransactions {
                transactions,
                complete,
            };
            io.answer(asker, answer);
        }
        (_, QueryResult::Fetch { page, complete }) => {
            let (revisions, payload) = wire_revisions(page);
            let answer = Packet::AnswerRevisions {
                revisions,
                complete,
            };
            io.answer_with(asker, answer, payload);
        }
        (Wanted::RevisionIds { entries, .. }, QueryResult::Revisions(ids)) => {
            let complete = ids.len() < entries_limit(entries);
            io.answer(asker, Packet::AnswerRevisionIds { ids, complete });
        }
        (_, QueryResult::FinalTid(tid)) => {
            let tid = tid.map_or(FinalTid::NotCommitted, FinalTid::Committed);
            io.answer(asker, Packet::AnswerFinalTid { tid });
        }
        (Wanted::PackState { partition }, QueryResult::PackStates(states)) => {
            let own = cells.own().find(|(own, _)| *own == partition);
            let values = states.first().zip(own);
            let packed = values.map(|(values, (_, own))| Packed::of(values, own.assigned));
            let Packed { state, objects } = packed.unwrap_or_default();
            let objects = objects.iter().map(|(oid, at)| (*oid, *at)).collect();
            io.answer(asker, Packet::AnswerPackState { state, objects });
        }
        _ => io.error(asker, ErrorCode::Internal, "the node failed"),
    }
}

fn object_answer(loaded: Option<Loaded>) -> (ObjectAnswer, Bytes) {
    let Some(loaded) = loaded else {
        return (ObjectAnswer::PackedAway, Bytes::new());
    };
    let answer = match loaded {
        Loaded::Found(revision) => {
            let answer = ObjectAnswer::Found {
                serial: revision.serial,
                next_serial: revision.next_serial,
                compression: revision.record.compression,
                checksum: revision.record.checksum,
                data_serial: revision.data_serial,
            };
            return (answer, revision.record.data);
        }
        Loaded::Deleted {
            serial,
            next_serial,
        } => ObjectAnswer::Deleted {
            serial,
            next_serial,
        },
        Loaded::NotYet => ObjectAnswer::NotYet,
        Loaded::Unknown => ObjectAnswer::Unknown,
    };
    (answer, Bytes::new())
}

fn object_answers(loaded: Vec<Option<Loaded>>) -> (Vec<(ObjectAnswer, u32)>, Bytes) {
    let mut payload = BytesMut::with_capacity(loaded.iter().map(value_bytes).sum());
    let answers = loaded.into_iter().map(|loaded| {
        let (answer, data) = object_answer(loaded);
        payload.extend_from_slice(&data);
        // Values have 64 MiB at most.
        (answer, data.len() as u32)
    });
    let answers = answers.collect();
    (answers, payload.freeze())
}

fn wire_revisions(page: Vec<FetchedRevision>) -> (Vec<WireRevision>, Bytes) {
    let sizes = page.iter().filter_map(|revision| revision.record.as_ref());
    let mut payload = BytesMut::with_capacity(sizes.map(|record| record.data.len()).sum());
    let revisions = page.into_iter().map(|revision| {
        let value = revision.record.map(|record| {
            payload.extend_from_slice(&record.data);
            WireValue {
                compression: record.compression,
                checksum: record.checksum,
                // Values have 64 MiB at most.
                bytes: record.data.len() as u32,
            }
        });
        WireRevision {
            id: revision.id,
            value,
            data_serial: revision.data_serial,
        }
    });
    let revisions = revisions.collect();
    (revisions, payload.freeze())
}
