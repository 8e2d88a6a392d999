//! What is read, and whether an answer fits it.

use bytes::Bytes;
use neo_api::{At, Loaded, Oid, Record, Revision, Tid};
use neo_proto::ObjectAnswer;

use crate::core::page::Page;

/// Why an answer is not taken.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Damage<T> {
    pub(in crate::core) words: String,
    /// What it would be if checksums did not count.
    pub(in crate::core) found: Option<T>,
}

impl<T> From<String> for Damage<T> {
    fn from(words: String) -> Self {
        Self { words, found: None }
    }
}

/// [`At`], in order.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(in crate::core) enum AtKey {
    Before(Tid),
    Exact(Tid),
}

impl AtKey {
    pub(super) const MIN: Self = Self::Before(Tid::ZERO);
    pub(super) const MAX: Self = Self::Exact(Tid(u64::MAX));

    pub(super) const fn at(self) -> At {
        match self {
            Self::Before(tid) => At::Before(tid),
            Self::Exact(tid) => At::Exact(tid),
        }
    }

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
    /// Reads that take about as long: loads, and pages.
    pub(super) const fn kind(&self) -> usize {
        match self {
            Self::Load { .. } => 0,
            Self::Page(_) => 1,
        }
    }

    /// The greatest tid that it may tell of.
    pub(super) const fn newest(&self) -> Tid {
        match self {
            Self::Load {
                at: AtKey::Before(tid),
                ..
            } => Tid(tid.0.saturating_sub(1)),
            Self::Load {
                at: AtKey::Exact(tid),
                ..
            } => *tid,
            Self::Page(page) => page.newest(),
        }
    }
}

/// Checks what a storage answered to a load. `None`: a pack may have removed it.
///
/// # Errors
/// What is wrong with it.
pub(crate) fn check_loaded(
    at: At,
    answer: ObjectAnswer,
    payload: Bytes,
) -> Result<Option<Loaded>, Damage<Loaded>> {
    let at = match at {
        At::Latest => AtKey::Before(Tid(u64::MAX)),
        At::Before(tid) => AtKey::Before(tid),
        At::Exact(tid) => AtKey::Exact(tid),
    };
    loaded(at, answer, payload)
}

/// Checks what a storage answered. `None`: a pack may have removed it.
pub(super) fn loaded(
    at: AtKey,
    answer: ObjectAnswer,
    payload: Bytes,
) -> Result<Option<Loaded>, Damage<Loaded>> {
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
    Ok(Some(match answer {
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
            let is_intact = record.is_intact();
            let found = Loaded::Found(Revision {
                serial,
                next_serial,
                record,
                data_serial,
            });
            if !is_intact {
                return Err(Damage {
                    words: format!("the value of {serial} does not match its checksum"),
                    found: Some(found),
                });
            }
            found
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
        ObjectAnswer::PackedAway => return Ok(None),
    }))
}
