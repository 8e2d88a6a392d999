//! What the clients did and were told: what must be true of the database in the end.

use std::collections::{BTreeMap, BTreeSet};
use std::ops::RangeInclusive;

use bytes::Bytes;
use neo_api::{Oid, Tid, TxnId};

use crate::sim::Name;

/// What a client knows of a transaction's end.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Told {
    /// Its finish was not asked: it must not be committed.
    Open,
    /// Its finish was asked: it may be committed.
    Asked,
    /// It is committed.
    Committed(Tid),
    /// It is not committed.
    NotCommitted,
    /// Nobody knows.
    Unknown,
}

/// A change that a transaction stored.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Stored {
    /// The revision that it started from.
    pub base: Tid,
    /// The value; `None`: a deletion.
    pub value: Option<Bytes>,
}

/// A transaction, as its client sees it.
#[derive(Debug, Clone)]
pub struct Seen {
    /// Whose.
    pub client: Name,
    /// What it changes.
    pub stores: BTreeMap<Oid, Stored>,
    /// What it relies on.
    pub checks: BTreeMap<Oid, Tid>,
    /// What its client knows.
    pub told: Told,
    /// Its order among all begins and ends.
    pub begun: u64,
    /// When its client was told the end.
    pub ended: Option<u64>,
}

/// A read that was answered.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Read {
    /// By whom.
    pub client: Name,
    /// What.
    pub oid: Oid,
    /// Before which tid.
    pub before: Tid,
    /// Serial and value; `None`: there was no value.
    pub found: Option<(Tid, Bytes)>,
}

/// A listing of transactions.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Listing {
    /// Whose.
    pub client: Name,
    /// Of which tids.
    pub range: RangeInclusive<Tid>,
    /// What was listed, in order.
    pub tids: Vec<Tid>,
}

/// What a client's cache may make of an answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Kept {
    /// Which object.
    pub oid: Oid,
    /// Which revision.
    pub serial: Tid,
    /// It is the newest before this tid.
    pub until: Tid,
    /// The revision that follows it, if that is told.
    pub next: Option<Tid>,
}

/// What clients did and were told.
#[derive(Debug, Default)]
pub struct Oracle {
    transactions: BTreeMap<u64, Seen>,
    names: BTreeMap<TxnId, u64>,
    reads: Vec<Read>,
    listings: Vec<Listing>,
    kept: Vec<(Name, Kept)>,
    oids: BTreeSet<Oid>,
    complaints: Vec<String>,
    clock: u64,
}

impl Oracle {
    /// The description that a transaction gets.
    #[must_use]
    pub fn label(number: u64) -> Bytes {
        Bytes::from(format!("transaction {number}"))
    }

    /// The number in a description.
    #[must_use]
    pub fn number(label: &[u8]) -> Option<u64> {
        let text = std::str::from_utf8(label).ok()?;
        text.strip_prefix("transaction ")?.parse().ok()
    }

    /// Every transaction by number.
    #[must_use]
    pub const fn transactions(&self) -> &BTreeMap<u64, Seen> {
        &self.transactions
    }

    /// Every read that was answered.
    #[must_use]
    pub fn reads(&self) -> &[Read] {
        &self.reads
    }

    /// Every listing of transactions.
    #[must_use]
    pub fn listings(&self) -> &[Listing] {
        &self.listings
    }

    /// What caches may keep.
    #[must_use]
    pub fn all_kept(&self) -> &[(Name, Kept)] {
        &self.kept
    }

    /// What was wrong at once.
    #[must_use]
    pub fn complaints(&self) -> &[String] {
        &self.complaints
    }

    /// Notes something that must not be.
    pub fn complain(&mut self, what: impl Into<String>) {
        self.complaints.push(what.into());
    }

    fn tick(&mut self) -> u64 {
        self.clock += 1;
        self.clock
    }

    /// A client begins a transaction: its number.
    pub fn begin(&mut self, client: Name) -> u64 {
        let begun = self.tick();
        let number = self.transactions.len() as u64 + 1;
        let seen = Seen {
            client,
            stores: BTreeMap::new(),
            checks: BTreeMap::new(),
            told: Told::Open,
            begun,
            ended: None,
        };
        self.transactions.insert(number, seen);
        number
    }

    /// A transaction got its name.
    pub fn named(&mut self, number: u64, name: TxnId) {
        self.names.insert(name, number);
    }

    /// Which transaction has this name.
    #[must_use]
    pub fn by_name(&self, name: TxnId) -> Option<u64> {
        self.names.get(&name).copied()
    }

    fn transaction(&mut self, number: u64) -> &mut Seen {
        self.transactions
            .get_mut(&number)
            .expect("a transaction begins before anything else")
    }

    /// A transaction stores; a later store of the same object replaces it.
    pub fn store(&mut self, number: u64, oid: Oid, base: Tid, value: Option<Bytes>) {
        let transaction = self.transaction(number);
        transaction.stores.insert(oid, Stored { base, value });
    }

    /// A transaction relies on a revision.
    pub fn check(&mut self, number: u64, oid: Oid, serial: Tid) {
        self.transaction(number).checks.insert(oid, serial);
    }

    /// What a client is told.
    pub fn tell(&mut self, number: u64, told: Told) {
        let ended = self.tick();
        let transaction = self.transaction(number);
        transaction.told = told;
        if told != Told::Asked {
            transaction.ended = Some(ended);
        }
    }

    /// A read was answered.
    pub fn read(&mut self, client: Name, oid: Oid, before: Tid, found: Option<(Tid, Bytes)>) {
        self.reads.push(Read {
            client,
            oid,
            before,
            found,
        });
    }

    /// The transactions of some tids were listed.
    pub fn listed(&mut self, client: Name, range: RangeInclusive<Tid>, tids: Vec<Tid>) {
        self.listings.push(Listing {
            client,
            range,
            tids,
        });
    }

    /// A client may keep an answer in its cache.
    pub fn kept(&mut self, client: Name, kept: Kept) {
        self.kept.push((client, kept));
    }

    /// Oids were handed out.
    pub fn oids_given(&mut self, client: Name, oids: &[Oid]) {
        for oid in oids {
            if !self.oids.insert(*oid) {
                self.complain(format!("oid {oid} was given again, to {client}"));
            }
        }
    }

    /// How many transactions ended how: committed, not committed, unknown to their client.
    #[must_use]
    pub fn counts(&self) -> (usize, usize, usize) {
        let mut counts = (0, 0, 0);
        for transaction in self.transactions.values() {
            match transaction.told {
                Told::Committed(_) => counts.0 += 1,
                Told::Open | Told::NotCommitted => counts.1 += 1,
                Told::Asked | Told::Unknown => counts.2 += 1,
            }
        }
        counts
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn labels_are_read_back() {
        assert_eq!(Oracle::number(&Oracle::label(17)), Some(17));
        assert_eq!(Oracle::number(b"something else"), None);
    }

    #[test]
    fn an_oid_that_is_given_twice_is_a_complaint() {
        let mut oracle = Oracle::default();
        oracle.oids_given(Name::Client(1), &[Oid(1), Oid(2)]);
        assert!(oracle.complaints().is_empty());
        oracle.oids_given(Name::Client(2), &[Oid(2)]);
        assert_eq!(oracle.complaints().len(), 1);
    }
}
