//! Reads of metadata and history: what they ask, and whether an answer fits.

use bytes::Bytes;
use neo_api::{Oid, Order, Partition, Partitioning, RevisionId, Tid};
use neo_proto::{Packet, WireRevision, split_payload};

use super::effect::Reply;
use super::read::Damage;

/// A read of metadata or history that is no load of an object.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Page {
    /// A page of transactions of a partition.
    Transactions {
        /// Which partition.
        partition: Partition,
        /// The least tid, included.
        min: Tid,
        /// The greatest tid, included.
        max: Tid,
        /// From which end.
        order: Order,
        /// At most so many.
        entries: u32,
    },
    /// A page of revisions of a partition, ascending by (tid, oid).
    Revisions {
        /// Which partition.
        partition: Partition,
        /// The least, included.
        min: RevisionId,
        /// The greatest tid, included.
        max: Tid,
        /// Ends with the one that reaches so many bytes.
        bytes: u32,
    },
    /// One transaction's metadata.
    TransactionInformation {
        /// Its tid.
        tid: Tid,
    },
    /// Revisions of an object, newest first.
    History {
        /// The object.
        oid: Oid,
        /// With a serial below this one.
        before: Tid,
        /// At most so many.
        entries: u32,
    },
    /// Objects of a partition as they were, by oid.
    Current {
        /// Which partition.
        partition: Partition,
        /// The least oid, included.
        min: Oid,
        /// At this tid.
        at: Tid,
        /// Ends with the one that reaches so many bytes, or earlier.
        bytes: u32,
        /// With their values.
        values: bool,
    },
    /// How much space a partition takes.
    Size {
        /// Which partition.
        partition: Partition,
    },
    /// What it takes to undo a transaction's changes of objects of a partition.
    Undo {
        /// Which partition.
        partition: Partition,
        /// The transaction.
        undone: Tid,
        /// As objects are before this tid.
        before: Tid,
        /// The objects.
        oids: Vec<Oid>,
    },
}

impl Page {
    /// The partition that has it.
    pub(super) const fn partition(&self, partitioning: Partitioning) -> Partition {
        match self {
            Self::TransactionInformation { tid } => partitioning.of_tid(*tid),
            Self::History { oid, .. } => partitioning.of_oid(*oid),
            Self::Transactions { partition, .. }
            | Self::Revisions { partition, .. }
            | Self::Current { partition, .. }
            | Self::Undo { partition, .. }
            | Self::Size { partition } => *partition,
        }
    }

    /// The greatest tid that it may tell of.
    pub(super) const fn newest(&self) -> Tid {
        match self {
            Self::Transactions { max: tid, .. }
            | Self::Revisions { max: tid, .. }
            | Self::TransactionInformation { tid }
            | Self::Current { at: tid, .. } => *tid,
            Self::History { before, .. } | Self::Undo { before, .. } => {
                Tid(before.0.saturating_sub(1))
            }
            Self::Size { .. } => Tid::ZERO,
        }
    }

    /// Nothing is committed after this tid: nothing later is asked for. An answer that is known
    /// then.
    pub(super) const fn end_at(&mut self, last: Tid) -> Option<Reply> {
        match self {
            Self::Transactions { max: tid, .. }
            | Self::Revisions { max: tid, .. }
            | Self::Current { at: tid, .. } => *tid = last,
            Self::History { before, .. } | Self::Undo { before, .. } => {
                *before = Tid(last.0.saturating_add(1));
            }
            Self::TransactionInformation { .. } => return Some(Reply::Transaction(None)),
            Self::Size { .. } => {}
        }
        None
    }

    pub(super) fn packet(&self) -> Packet {
        match *self {
            Self::Transactions {
                partition,
                min,
                max,
                order,
                entries,
            } => Packet::AskTransactions {
                partition,
                min,
                max,
                entries,
                order,
            },
            Self::Revisions {
                partition,
                min,
                max,
                bytes,
            } => Packet::AskRevisions {
                partition,
                min,
                max,
                bytes,
            },
            Self::TransactionInformation { tid } => Packet::AskTransactionInformation { tid },
            Self::History {
                oid,
                before,
                entries,
            } => Packet::AskObjectHistory {
                oid,
                before,
                entries,
            },
            Self::Current {
                partition,
                min,
                at,
                bytes,
                values,
            } => Packet::AskCurrentRevisions {
                partition,
                min,
                at,
                bytes,
                values,
            },
            Self::Size { partition } => Packet::AskPartitionSize { partition },
            Self::Undo {
                partition,
                undone,
                before,
                ref oids,
            } => Packet::AskUndoRevisions {
                partition,
                undone,
                before,
                oids: oids.clone().into(),
            },
        }
    }

    /// What is told of an answer. `None`: it answers another request.
    pub(super) fn answered(
        &self,
        packet: Packet,
        payload: &Bytes,
    ) -> Option<Result<Reply, Damage<Reply>>> {
        Some(match (self, packet) {
            (
                Self::Transactions { .. },
                Packet::AnswerTransactions {
                    transactions,
                    complete,
                },
            ) => Ok(Reply::Transactions {
                transactions,
                complete,
            }),
            (
                Self::Revisions { min, max, .. },
                Packet::AnswerRevisions {
                    revisions,
                    complete,
                },
            ) => revision_page(*min, *max, revisions, complete, payload),
            (
                Self::TransactionInformation { .. },
                Packet::AnswerTransactionInformation { transaction },
            ) => Ok(Reply::Transaction(transaction)),
            (Self::History { before, .. }, Packet::AnswerObjectHistory { entries, complete }) => {
                let descending = entries.windows(2).all(|two| two[0].serial > two[1].serial);
                let in_range = entries.first().is_none_or(|first| first.serial < *before);
                if !descending || !in_range || (entries.is_empty() && !complete) {
                    Err("the history is not the one asked for".to_owned().into())
                } else {
                    Ok(Reply::History { entries, complete })
                }
            }
            (
                Self::Current {
                    min, at, values, ..
                },
                Packet::AnswerCurrentRevisions {
                    revisions,
                    next,
                    packed: false,
                },
            ) => current_page(*min, *at, *values, revisions, next, payload),
            (Self::Size { .. }, Packet::AnswerPartitionSize { bytes }) => Ok(Reply::Size(bytes)),
            (Self::Current { .. }, Packet::AnswerCurrentRevisions { packed: true, .. }) => {
                Ok(Reply::PackedAway)
            }
            (Self::Undo { oids, .. }, Packet::AnswerUndoRevisions { revisions, packed }) => {
                if packed {
                    Ok(Reply::PackedAway)
                } else if revisions.len() == oids.len() {
                    Ok(Reply::Undo(revisions))
                } else {
                    Err("as many objects were not asked for".to_owned().into())
                }
            }
            _ => return None,
        })
    }
}

/// Checks a page of revisions and splits its payload.
fn revision_page(
    min: RevisionId,
    max: Tid,
    revisions: Vec<WireRevision>,
    complete: bool,
    payload: &Bytes,
) -> Result<Reply, Damage<Reply>> {
    let ordered = revisions.windows(2).all(|pair| pair[0].id < pair[1].id);
    let in_range = revisions.iter().all(|r| r.id >= min && r.id.tid <= max);
    if !ordered || !in_range || (revisions.is_empty() && !complete) {
        return Err("the revisions are not those asked for".to_owned().into());
    }
    with_values(revisions, payload, |revisions| Reply::Revisions {
        revisions,
        complete,
    })
}

/// Checks a page of objects and splits its payload.
fn current_page(
    min: Oid,
    at: Tid,
    values: bool,
    revisions: Vec<WireRevision>,
    next: Option<Oid>,
    payload: &Bytes,
) -> Result<Reply, Damage<Reply>> {
    let mut oids = revisions.iter().map(|revision| revision.id.oid);
    let ordered = oids.clone().is_sorted_by(|one, other| one < other);
    let in_range = revisions.iter().all(|r| r.id.oid >= min && r.id.tid <= at);
    let goes_on = next.is_none_or(|next| next > min && oids.all(|oid| oid < next));
    let has_values = revisions.iter().all(|r| r.value.is_some() == values);
    if !ordered || !in_range || !goes_on || !has_values {
        return Err("the objects are not those asked for".to_owned().into());
    }
    with_values(revisions, payload, |revisions| Reply::Current {
        revisions,
        next,
    })
}

/// Revisions, each with its value, which is intact.
fn with_values(
    revisions: Vec<WireRevision>,
    payload: &Bytes,
    reply: impl FnOnce(Vec<(WireRevision, Option<Bytes>)>) -> Reply,
) -> Result<Reply, Damage<Reply>> {
    let values = split_payload(&revisions, payload).map_err(str::to_owned)?;
    let revisions: Vec<_> = revisions.into_iter().zip(values).collect();
    let damaged = revisions.iter().find(|it| is_damaged(it));
    match damaged.map(|(revision, _)| format!("{:?} does not match its checksum", revision.id)) {
        None => Ok(reply(revisions)),
        Some(words) => Err(Damage {
            words,
            found: Some(reply(revisions)),
        }),
    }
}

/// Whether a value does not match its checksum.
pub(super) fn is_damaged((revision, value): &(WireRevision, Option<Bytes>)) -> bool {
    matches!(
        (&revision.value, value),
        (Some(wire), Some(data)) if neo_api::Checksum::of(data) != wire.checksum
    )
}

#[cfg(test)]
mod tests {
    use neo_api::{Checksum, Compression, HistoryEntry};
    use neo_proto::WireValue;

    use super::*;

    fn is_accepted(page: &Page, packet: Packet, payload: &'static [u8]) -> bool {
        let payload = Bytes::from_static(payload);
        page.answered(packet, &payload).expect("it fits").is_ok()
    }

    #[test]
    fn a_history_is_below_and_descends() {
        let page = Page::History {
            oid: Oid(1),
            before: Tid(30),
            entries: 9,
        };
        let answer = |serials: &[u64], complete| Packet::AnswerObjectHistory {
            entries: serials
                .iter()
                .map(|serial| HistoryEntry {
                    serial: Tid(*serial),
                    data_serial: None,
                    bytes: None,
                })
                .collect(),
            complete,
        };
        assert!(is_accepted(&page, answer(&[29, 20, 3], false), b""));
        assert!(is_accepted(&page, answer(&[], true), b""));
        for (serials, complete) in [
            (&[30, 20][..], true),
            (&[20, 20], true),
            (&[3, 20], true),
            (&[], false),
        ] {
            assert!(
                !is_accepted(&page, answer(serials, complete), b""),
                "{serials:?}"
            );
        }
        let other = Packet::AnswerUndoRevisions {
            revisions: vec![],
            packed: false,
        };
        assert_eq!(page.answered(other, &Bytes::new()), None);
    }

    #[test]
    fn objects_ascend_within_bounds_and_are_intact() {
        let page = |values| Page::Current {
            partition: Partition(0),
            min: Oid(10),
            at: Tid(30),
            bytes: 9,
            values,
        };
        let answer = |ids: &[(u64, u64)], next: Option<u64>| Packet::AnswerCurrentRevisions {
            revisions: ids
                .iter()
                .map(|(tid, oid)| WireRevision {
                    id: RevisionId {
                        tid: Tid(*tid),
                        oid: Oid(*oid),
                    },
                    value: Some(WireValue {
                        compression: Compression::None,
                        checksum: Checksum::of(b"x"),
                        bytes: 1,
                    }),
                    data_serial: None,
                })
                .collect(),
            next: next.map(Oid),
            packed: false,
        };
        assert!(is_accepted(
            &page(true),
            answer(&[(30, 10), (5, 12)], Some(13)),
            b"xx"
        ));
        assert!(is_accepted(&page(true), answer(&[], Some(11)), b""));
        assert!(is_accepted(&page(false), answer(&[], None), b""));
        for (ids, next, payload) in [
            (&[(30, 9)][..], None, &b"x"[..]),
            (&[(31, 10)], None, b"x"),
            (&[(30, 12), (5, 11)], None, b"xx"),
            (&[(30, 12), (5, 12)], None, b"xx"),
            (&[(30, 12)], Some(12), b"x"),
            (&[], Some(10), b""),
            (&[(30, 10)], None, b"y"),
            (&[(30, 10)], None, b"xx"),
        ] {
            assert!(
                !is_accepted(&page(true), answer(ids, next), payload),
                "{ids:?}"
            );
        }
        // Values that were not wanted.
        assert!(!is_accepted(&page(false), answer(&[(30, 10)], None), b"x"));
    }

    #[test]
    fn as_many_objects_are_told_as_were_asked() {
        let page = Page::Undo {
            partition: Partition(0),
            undone: Tid(1),
            before: Tid(9),
            oids: vec![Oid(1), Oid(2)],
        };
        let answer = |count| Packet::AnswerUndoRevisions {
            revisions: vec![None; count],
            packed: false,
        };
        assert!(is_accepted(&page, answer(2), b""));
        assert!(!is_accepted(&page, answer(1), b"") && !is_accepted(&page, answer(3), b""));
    }
}
