//! What the objects of the workload hold: logs that can be merged, and accounts.

use bytes::{BufMut, Bytes, BytesMut};
use neo_api::{ConflictResolver, ConflictingChange, Oid};

/// One attempt at a transaction: which worker's, and which one of these.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(super) struct AttemptId {
    pub(super) worker: u32,
    pub(super) attempt: u32,
}

/// An append-only log. Its head holds the newest entries; full ones move to a bucket of its own,
/// which is never changed again.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Log {
    /// The object that this is the value of: a value that went to another one shows.
    pub(super) oid: Oid,
    /// The bucket with the entries before these.
    pub(super) previous: Option<Oid>,
    /// Entries of this and all buckets.
    pub(super) total: u64,
    /// The newest.
    pub(super) entries: Vec<AttemptId>,
}

/// Entries of a head before they move.
const ENTRIES_MAX: usize = 32;

/// An amount of money.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Account {
    /// As for a log.
    pub(super) oid: Oid,
    pub(super) balance: u64,
}

/// A value of the workload.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Value {
    Log(Log),
    Account(Account),
}

const LOG: &[u8; 8] = b"neo log\n";
const ACCOUNT: &[u8; 8] = b"account\n";
/// Accounts are padded to this, for values to be more than a few words.
const ACCOUNT_BYTES: usize = 200;

impl Value {
    /// The object that it is the value of.
    pub(super) const fn oid(&self) -> Oid {
        match self {
            Self::Log(log) => log.oid,
            Self::Account(account) => account.oid,
        }
    }

    pub(super) fn encode(&self) -> Bytes {
        let mut out = BytesMut::new();
        match self {
            Self::Log(log) => {
                out.put_slice(LOG);
                out.put_u64(log.oid.0);
                out.put_u64(log.previous.map_or(u64::MAX, |oid| oid.0));
                out.put_u64(log.total);
                for entry in &log.entries {
                    out.put_u32(entry.worker);
                    out.put_u32(entry.attempt);
                }
            }
            Self::Account(account) => {
                out.put_slice(ACCOUNT);
                out.put_u64(account.oid.0);
                out.put_u64(account.balance);
                out.put_bytes(0x5a, ACCOUNT_BYTES - out.len());
            }
        }
        out.freeze()
    }

    /// `None` for anything that was not encoded here.
    pub(super) fn decode(data: &[u8]) -> Option<Self> {
        let (magic, rest) = data.split_first_chunk::<8>()?;
        let (oid, rest) = word(rest)?;
        let oid = Oid(oid);
        match magic {
            LOG => {
                let (previous, rest) = word(rest)?;
                let (total, rest) = word(rest)?;
                let (entries, []) = rest.as_chunks::<8>() else {
                    return None;
                };
                let entry = |bytes: &[u8; 8]| {
                    let both = u64::from_be_bytes(*bytes);
                    AttemptId {
                        worker: (both >> 32) as u32,
                        attempt: both as u32,
                    }
                };
                Some(Self::Log(Log {
                    oid,
                    previous: (previous != u64::MAX).then_some(Oid(previous)),
                    total,
                    entries: entries.iter().map(entry).collect(),
                }))
            }
            ACCOUNT => {
                let (balance, rest) = word(rest)?;
                let is_whole = data.len() == ACCOUNT_BYTES && rest.iter().all(|byte| *byte == 0x5a);
                is_whole.then_some(Self::Account(Account { oid, balance }))
            }
            _ => None,
        }
    }
}

fn word(data: &[u8]) -> Option<(u64, &[u8])> {
    let (word, rest) = data.split_first_chunk()?;
    Some((u64::from_be_bytes(*word), rest))
}

impl Log {
    /// A log without entries.
    pub(super) const fn empty(oid: Oid) -> Self {
        Self {
            oid,
            previous: None,
            total: 0,
            entries: Vec::new(),
        }
    }

    /// Whether its entries are to move before the next one is added.
    pub(super) const fn is_full(&self) -> bool {
        self.entries.len() >= ENTRIES_MAX
    }

    /// The log with one more entry.
    pub(super) fn append(&self, entry: AttemptId) -> Self {
        let mut log = self.clone();
        log.total += 1;
        log.entries.push(entry);
        log
    }

    /// The bucket that its entries move to, and its head with one more.
    pub(super) fn roll_over(&self, bucket: Oid, entry: AttemptId) -> (Self, Self) {
        let moved = Self {
            oid: bucket,
            ..self.clone()
        };
        let head = Self {
            oid: self.oid,
            previous: Some(bucket),
            total: self.total + 1,
            entries: vec![entry],
        };
        (moved, head)
    }

    /// The log with what `new` has more than `base`; `None` when `new` moved its entries.
    fn merge(&self, base: &Self, new: &Self) -> Option<Self> {
        let is_same = self.oid == base.oid && self.oid == new.oid;
        let added = new.entries.strip_prefix(base.entries.as_slice())?;
        if !is_same || new.previous != base.previous {
            return None;
        }
        let mut merged = self.clone();
        merged.total += added.len() as u64;
        merged.entries.extend_from_slice(added);
        Some(merged)
    }
}

/// Merges logs, and nothing else.
#[derive(Debug)]
pub(super) struct MergeLogs;

impl ConflictResolver for MergeLogs {
    fn resolve(&self, change: &ConflictingChange) -> Option<Bytes> {
        let log = |data: &[u8]| match Value::decode(data) {
            Some(Value::Log(log)) => Some(log),
            _ => None,
        };
        let base = log(change.base.as_ref()?)?;
        let committed = log(change.committed.as_ref()?)?;
        let merged = committed.merge(&base, &log(&change.new)?)?;
        Some(Value::Log(merged).encode())
    }
}

#[cfg(test)]
mod tests {
    use neo_api::Tid;

    use super::*;

    fn entry(worker: u32, attempt: u32) -> AttemptId {
        AttemptId { worker, attempt }
    }

    #[test]
    fn values_are_read_back_and_nothing_else_is() {
        let log = Log::empty(Oid(7)).append(entry(1, 2)).append(entry(3, 4));
        let account = Account {
            oid: Oid(8),
            balance: 9,
        };
        for value in [Value::Log(log), Value::Account(account)] {
            let data = value.encode();
            assert_eq!(Value::decode(&data), Some(value));
            assert_eq!(Value::decode(&data[..data.len() - 1]), None);
        }
        assert_eq!(Value::decode(b"something else"), None);
    }

    fn resolve(base: &Log, committed: &Log, new: &Log) -> Option<Value> {
        let data = |log: &Log| Value::Log(log.clone()).encode();
        let change = ConflictingChange::new(
            base.oid,
            (Tid(1), Some(data(base))),
            (Tid(2), Some(data(committed))),
            data(new),
        );
        Value::decode(&MergeLogs.resolve(&change)?)
    }

    #[test]
    fn both_appends_are_in_what_is_merged() {
        let base = Log::empty(Oid(7)).append(entry(1, 1));
        let (one, other) = (base.append(entry(1, 2)), base.append(entry(2, 1)));
        let both = one.append(entry(2, 1));
        assert_eq!(resolve(&base, &one, &other), Some(Value::Log(both)));
    }

    #[test]
    fn an_append_goes_to_the_new_head_and_a_move_is_no_append() {
        let base = Log::empty(Oid(7)).append(entry(1, 1));
        let (bucket, head) = base.roll_over(Oid(9), entry(2, 1));
        assert_eq!((bucket.oid, bucket.total), (Oid(9), 1));
        assert_eq!((head.previous, head.total), (Some(Oid(9)), 2));
        let appended = base.append(entry(1, 2));
        let both = head.append(entry(1, 2));
        assert_eq!(resolve(&base, &head, &appended), Some(Value::Log(both)));
        assert_eq!(resolve(&base, &appended, &head), None);
    }
}
