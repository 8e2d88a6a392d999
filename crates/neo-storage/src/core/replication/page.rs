//! What a source has, beside what is here: what is missing, and what must not be here.

use std::collections::VecDeque;

use bytes::Bytes;
use neo_api::{
    ObjectData, Oid, Partition, Partitioning, Record, RevisionId, Tid, TransactionRecord, WriteOp,
};
use neo_proto::{WireRevision, WireTransaction, split_payload};

use crate::core::io::Jobs;

/// Why an answer of a source is of no use.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Bad {
    /// It makes no sense.
    Answer(&'static str),
    /// A value is damaged.
    Value(RevisionId),
    /// A value is larger than this node's database takes.
    TooLarge(RevisionId),
}

/// Revisions to fetch: a range of the source's in which nothing is here.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Run {
    pub(super) from: RevisionId,
    pub(super) last: RevisionId,
    /// How many the source says that it has.
    pub(super) expected: Option<usize>,
}

/// The last name of a revision that a transaction could have.
pub(super) const fn end_of(tid: Tid) -> RevisionId {
    let oid = Oid(u64::MAX);
    RevisionId { tid, oid }
}

/// The first name of a revision that a transaction could have.
pub(super) const fn start_of(tid: Tid) -> RevisionId {
    let oid = Oid::ZERO;
    RevisionId { tid, oid }
}

/// The name after this one.
pub(super) fn after(id: RevisionId) -> RevisionId {
    match id.oid.0.checked_add(1) {
        Some(oid) => RevisionId {
            oid: Oid(oid),
            ..id
        },
        None => start_of(Tid(id.tid.0.saturating_add(1))),
    }
}

/// Compares names up to one: runs of the source's that are missing here, and what is surplus.
pub(super) fn compare_ids(
    own: &[RevisionId],
    theirs: &[RevisionId],
    end: RevisionId,
) -> (VecDeque<Run>, Vec<RevisionId>) {
    let mut own = own.iter().copied().filter(|id| *id <= end).peekable();
    let (mut runs, mut surplus) = (VecDeque::<Run>::new(), Vec::new());
    let mut is_open = false;
    for &id in theirs.iter().filter(|id| **id <= end) {
        while let Some(less) = own.next_if(|own| *own < id) {
            surplus.push(less);
        }
        if own.next_if_eq(&id).is_some() {
            is_open = false;
            continue;
        }
        match runs.back_mut().filter(|_| is_open) {
            Some(run) => {
                run.last = id;
                run.expected = run.expected.map(|n| n + 1);
            }
            None => runs.push_back(Run {
                from: id,
                last: id,
                expected: Some(1),
            }),
        }
        is_open = true;
    }
    surplus.extend(own);
    (runs, surplus)
}

/// A transaction that is here, and by what packs may have changed it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Named {
    pub(super) tid: Tid,
    packed: bool,
    oids: usize,
}

impl Named {
    pub(super) const fn of(record: &TransactionRecord) -> Self {
        Self {
            tid: record.tid,
            packed: record.packed,
            oids: record.oids.len(),
        }
    }
}

/// Compares transactions up to a tid: those of the source that are missing here, or that packs have
/// left something else of, and the tids of those that are surplus.
pub(super) fn compare_transactions(
    own: &[Named],
    theirs: Vec<WireTransaction>,
    end: Tid,
) -> (Vec<TransactionRecord>, Vec<Tid>) {
    let is_theirs = |tid: &Tid| theirs.binary_search_by_key(tid, |t| t.tid).is_ok();
    let here = own.iter().map(|own| own.tid).filter(|tid| *tid <= end);
    let surplus = here.filter(|tid| !is_theirs(tid)).collect();
    let theirs = theirs.into_iter().filter(|t| t.tid <= end);
    let theirs = theirs.map(TransactionRecord::from);
    let is_other = |record: &TransactionRecord| {
        let at = own.binary_search_by_key(&record.tid, |own| own.tid);
        at.ok().and_then(|at| own.get(at)) != Some(&Named::of(record))
    };
    (theirs.filter(is_other).collect(), surplus)
}

/// Checks a page of transactions.
pub(super) fn check_transactions(
    page: &[WireTransaction],
    (partitioning, partition): (Partitioning, Partition),
    (min, max): (Tid, Tid),
) -> Result<(), Bad> {
    let is_in = |t: &WireTransaction| {
        (min..=max).contains(&t.tid) && partitioning.of_tid(t.tid) == partition
    };
    let in_order = page.windows(2).all(|pair| pair[0].tid < pair[1].tid);
    if in_order && page.iter().all(is_in) {
        Ok(())
    } else {
        Err(Bad::Answer("transactions that were not asked for"))
    }
}

/// Checks a page of names of revisions.
pub(super) fn check_ids(
    ids: impl Iterator<Item = RevisionId> + Clone,
    (partitioning, partition): (Partitioning, Partition),
    (min, max): (RevisionId, Tid),
) -> Result<(), Bad> {
    let is_in =
        |id: RevisionId| id >= min && id.tid <= max && partitioning.of_oid(id.oid) == partition;
    let in_order = ids.clone().is_sorted_by(|a, b| a < b);
    let mut ids = ids;
    if in_order && ids.all(is_in) {
        Ok(())
    } else {
        Err(Bad::Answer("revisions that were not asked for"))
    }
}

/// Writes what a source sent, up to a name; every value is verified first.
pub(super) fn write_revisions(
    jobs: &mut Jobs,
    partition: Partition,
    (revisions, payload): (&[WireRevision], &Bytes),
    last: RevisionId,
    object_bytes_max: usize,
) -> Result<Vec<WriteOp>, Bad> {
    let values = split_payload(revisions, payload).map_err(Bad::Answer)?;
    let mut ops = Vec::with_capacity(revisions.len() * 2);
    for (revision, data) in revisions.iter().zip(values) {
        let id = revision.id;
        if id > last {
            break;
        }
        let record = revision.value.zip(data).map(|(value, data)| Record {
            compression: value.compression,
            checksum: value.checksum,
            data,
        });
        if record.as_ref().is_some_and(|record| !record.is_intact()) {
            return Err(Bad::Value(id));
        }
        let data = match (revision.data_serial, record) {
            // What it repeats is here: it is older.
            (Some(tid), _) => ObjectData::SameAs(tid),
            (None, Some(record)) => {
                if record.data.len() > object_bytes_max {
                    return Err(Bad::TooLarge(id));
                }
                let data_id = jobs.data_id();
                ops.push(WriteOp::PutData {
                    id: data_id,
                    owner: None,
                    record,
                });
                ObjectData::Value(data_id)
            }
            (None, None) => ObjectData::Deleted,
        };
        ops.push(WriteOp::PutObject {
            partition,
            id,
            data,
        });
    }
    Ok(ops)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn id(tid: u64, oid: u64) -> RevisionId {
        (Tid(tid), Oid(oid)).into()
    }

    fn run(from: RevisionId, last: RevisionId, n: usize) -> Run {
        let expected = Some(n);
        Run {
            from,
            last,
            expected,
        }
    }

    #[test]
    fn what_is_missing_is_fetched_in_runs_and_what_is_surplus_named() {
        let own = [id(1, 1), id(2, 1), id(3, 5), id(9, 1)];
        let theirs = [id(1, 1), id(1, 2), id(1, 3), id(3, 4), id(3, 5), id(4, 1)];
        let (runs, surplus) = compare_ids(&own, &theirs, id(5, 0));
        let expected = [
            // A surplus one between them does not part them.
            run(id(1, 2), id(3, 4), 3),
            run(id(4, 1), id(4, 1), 1),
        ];
        assert_eq!(runs, expected);
        assert_eq!(surplus, [id(2, 1)]);
        let (runs, surplus) = compare_ids(&own, &[], id(3, 5));
        assert!(runs.is_empty());
        assert_eq!(surplus, own[..3]);
    }

    #[test]
    fn names_follow_each_other_across_transactions() {
        assert_eq!(after(id(4, 7)), id(4, 8));
        assert_eq!(after(end_of(Tid(4))), start_of(Tid(5)));
    }
}
