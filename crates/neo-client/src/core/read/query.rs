//! What is read, and whether an answer fits it.

use bytes::Bytes;
use neo_api::{At, Loaded, Oid, Record, Revision, RevisionId, Tid};
use neo_proto::{ObjectAnswer, Packet, WireRevision, split_payload};

use crate::core::effect::{Page, Reply};

/// [`At`], in order.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(in crate::core) enum AtKey {
    Before(Tid),
    Exact(Tid),
}

impl AtKey {
    pub(super) const MIN: Self = Self::Before(Tid::ZERO);
    pub(super) const MAX: Self = Self::Exact(Tid(u64::MAX));

    pub(super) const fn tid(self) -> Tid {
        match self {
            Self::Before(tid) | Self::Exact(tid) => tid,
        }
    }
}

#[derive(Debug, Clone)]
pub(super) enum Query {
    Load { oid: Oid, at: AtKey },
    Page(Page),
}

impl Query {
    /// Reads that take about as long.
    pub(super) const fn kind(&self) -> usize {
        match self {
            Self::Load { .. } => 0,
            Self::Page(_) => 1,
        }
    }

    /// The greatest tid that it may tell of.
    pub(super) fn newest(&self) -> Tid {
        match self {
            Self::Load {
                at: AtKey::Before(tid),
                ..
            } => Tid(tid.0.saturating_sub(1)),
            Self::Load {
                at: AtKey::Exact(tid),
                ..
            } => *tid,
            Self::Page(Page::Transactions { max, .. } | Page::Revisions { max, .. }) => *max,
            Self::Page(Page::TransactionInformation { tid }) => *tid,
        }
    }

    pub(super) fn packet(&self) -> Packet {
        match self {
            Self::Load { oid, at } => Packet::AskObject {
                oid: *oid,
                at: match at {
                    AtKey::Before(tid) => At::Before(*tid),
                    AtKey::Exact(tid) => At::Exact(*tid),
                },
            },
            Self::Page(Page::Transactions {
                partition,
                min,
                max,
                entries,
            }) => Packet::AskTransactions {
                partition: *partition,
                min: *min,
                max: *max,
                entries: *entries,
            },
            Self::Page(Page::Revisions {
                partition,
                min,
                max,
                bytes,
            }) => Packet::AskRevisions {
                partition: *partition,
                min: *min,
                max: *max,
                bytes: *bytes,
            },
            Self::Page(Page::TransactionInformation { tid }) => {
                Packet::AskTransactionInformation { tid: *tid }
            }
        }
    }
}

/// Checks what a storage answered.
pub(super) fn loaded(at: AtKey, answer: ObjectAnswer, payload: Bytes) -> Result<Loaded, String> {
    let fits = |serial: Tid, next: Option<Tid>| {
        let asked = match at {
            AtKey::Before(tid) => serial < tid && next.is_none_or(|next| next >= tid),
            AtKey::Exact(tid) => serial == tid,
        };
        if asked && next.is_none_or(|next| next > serial) {
            Ok(())
        } else {
            Err(format!(
                "a revision of {serial} to {next:?} does not answer {at:?}"
            ))
        }
    };
    Ok(match answer {
        ObjectAnswer::Found {
            serial,
            next_serial,
            compression,
            checksum,
            data_serial,
        } => {
            fits(serial, next_serial)?;
            let record = Record {
                compression,
                checksum,
                data: payload,
            };
            if !record.is_intact() {
                return Err(format!("the value of {serial} does not match its checksum"));
            }
            Loaded::Found(Revision {
                serial,
                next_serial,
                record,
                data_serial,
            })
        }
        ObjectAnswer::Deleted {
            serial,
            next_serial,
        } => {
            fits(serial, next_serial)?;
            Loaded::Deleted {
                serial,
                next_serial,
            }
        }
        ObjectAnswer::NotYet => Loaded::NotYet,
        ObjectAnswer::Unknown => Loaded::Unknown,
    })
}

/// Checks a page of revisions and splits its payload.
pub(super) fn revision_page(
    min: RevisionId,
    max: Tid,
    revisions: Vec<WireRevision>,
    complete: bool,
    payload: &Bytes,
) -> Result<Reply, String> {
    let ordered = revisions.windows(2).all(|pair| pair[0].id < pair[1].id);
    let in_range = revisions.iter().all(|r| r.id >= min && r.id.tid <= max);
    if !ordered || !in_range || (revisions.is_empty() && !complete) {
        return Err("the revisions are not those asked for".to_owned());
    }
    let values = split_payload(&revisions, payload)?;
    for (revision, value) in revisions.iter().zip(&values) {
        if let (Some(wire), Some(data)) = (&revision.value, value)
            && neo_api::Checksum::of(data) != wire.checksum
        {
            return Err(format!("{:?} does not match its checksum", revision.id));
        }
    }
    Ok(Reply::Revisions {
        revisions: revisions.into_iter().zip(values).collect(),
        complete,
    })
}
