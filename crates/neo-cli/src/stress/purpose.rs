//! What a transaction says of itself in its description: enough to check it by the databases alone.

use std::fmt;

use bytes::Bytes;
use neo_api::{Oid, Tid, TransactionMeta};

use super::value::AttemptId;

/// What a transaction is for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Purpose {
    /// It creates every log and account.
    Setup,
    /// It adds an entry to each of some logs.
    Append { id: AttemptId, logs: Vec<Oid> },
    /// It moves money between accounts, and relies on one more.
    Transfer {
        id: AttemptId,
        /// The accounts that it stores, and the serials that it read.
        stores: Vec<(Oid, Tid)>,
        /// The one that it checks.
        check: (Oid, Tid),
    },
}

impl Purpose {
    /// Which attempt it is.
    pub(super) const fn id(&self) -> Option<AttemptId> {
        match self {
            Self::Setup => None,
            Self::Append { id, .. } | Self::Transfer { id, .. } => Some(*id),
        }
    }

    /// The metadata of its transaction.
    pub(super) fn meta(&self) -> TransactionMeta {
        TransactionMeta {
            user: Bytes::from_static(b"neostress"),
            description: Bytes::from(self.to_string()),
            ..TransactionMeta::default()
        }
    }

    /// Reads a description; `None` for one that is of nobody here.
    pub(super) fn parse(description: &[u8]) -> Option<Self> {
        let text = std::str::from_utf8(description).ok()?;
        let mut words = text.split(' ');
        match words.next()? {
            "setup" => words.next().is_none().then_some(Self::Setup),
            "append" => Some(Self::Append {
                id: id(words.next()?)?,
                logs: words.map(|word| word.parse().ok()).collect::<Option<_>>()?,
            }),
            "transfer" => {
                let id = id(words.next()?)?;
                let mut objects = words.map(object).collect::<Option<Vec<_>>>()?;
                let check = objects.pop()?;
                Some(Self::Transfer {
                    id,
                    stores: objects,
                    check,
                })
            }
            _ => None,
        }
    }
}

fn id(word: &str) -> Option<AttemptId> {
    let (worker, attempt) = word.split_once('.')?;
    Some(AttemptId {
        worker: worker.parse().ok()?,
        attempt: attempt.parse().ok()?,
    })
}

fn object(word: &str) -> Option<(Oid, Tid)> {
    let (oid, serial) = word.split_once('@')?;
    Some((oid.parse().ok()?, serial.parse().ok()?))
}

impl fmt::Display for AttemptId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}", self.worker, self.attempt)
    }
}

impl fmt::Display for Purpose {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Setup => f.write_str("setup"),
            Self::Append { id, logs } => {
                write!(f, "append {id}")?;
                logs.iter().try_for_each(|log| write!(f, " {log}"))
            }
            Self::Transfer { id, stores, check } => {
                write!(f, "transfer {id}")?;
                let mut objects = stores.iter().chain([check]);
                objects.try_for_each(|(oid, serial)| write!(f, " {oid}@{serial}"))
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn descriptions_are_read_back() {
        let id = AttemptId {
            worker: 3,
            attempt: 17,
        };
        for purpose in [
            Purpose::Setup,
            Purpose::Append {
                id,
                logs: vec![Oid(1), Oid(2)],
            },
            Purpose::Transfer {
                id,
                stores: vec![(Oid(1), Tid(10)), (Oid(2), Tid(20))],
                check: (Oid(3), Tid(30)),
            },
        ] {
            let meta = purpose.meta();
            assert_eq!(Purpose::parse(&meta.description), Some(purpose));
        }
        for other in [
            "",
            "setup x",
            "append",
            "append 1",
            "transfer 1.2",
            "transfer 1.2 3",
        ] {
            assert_eq!(Purpose::parse(other.as_bytes()), None, "{other}");
        }
    }
}
