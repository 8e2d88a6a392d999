//! Counters, whose conflicts are merged: no increment is lost.

use std::cell::{Cell, RefCell};
use std::collections::BTreeMap;

use bytes::Bytes;
use neo_api::{ConflictingChange, Oid};
use neo_client::Error;

use crate::seed::Rng;
use crate::sim::{Facts, SimClient};

pub(super) const COUNTERS: u32 = 2;

thread_local! {
    /// Conflicts that were merged on this thread.
    static MERGED: Cell<usize> = const { Cell::new(0) };
}

/// Counters with what is known of them.
#[derive(Debug)]
pub(in crate::random) struct Counters {
    counters: Vec<Oid>,
    /// Increments that are committed, and those that may be.
    known: RefCell<BTreeMap<Oid, (i64, i64)>>,
    merged_before: usize,
}

impl Counters {
    pub(super) fn new(counters: Vec<Oid>) -> Self {
        Self {
            counters,
            known: RefCell::default(),
            merged_before: MERGED.get(),
        }
    }

    /// How many conflicts were merged.
    pub(in crate::random) fn merged(&self) -> usize {
        MERGED.get() - self.merged_before
    }

    fn note(&self, oid: Oid, committed: i64, open: i64) {
        let mut known = self.known.borrow_mut();
        let known = known.entry(oid).or_default();
        known.0 += committed;
        known.1 += open;
    }

    pub(super) async fn increment(&self, client: &SimClient, rng: &mut Rng) -> Result<(), Error> {
        let oid = self.counters[rng.below(self.counters.len() as u64) as usize];
        let mut txn = client.begin().await?;
        let gone = || Error::application(format!("counter {oid} is gone"));
        let (serial, value) = client.load(oid).await?.ok_or_else(gone)?;
        let value = number(&value).ok_or_else(gone)?;
        txn.store(oid, serial, (value + 1).to_string()).await?;
        txn.vote_with(merge).await?;
        self.note(oid, 0, 1);
        match txn.finish().await {
            Ok(_) => self.note(oid, 1, -1),
            Err(error @ (Error::Unknown { .. } | Error::Closed)) => return Err(error),
            Err(error) => {
                self.note(oid, 0, -1);
                return Err(error);
            }
        }
        Ok(())
    }

    pub(super) fn check(&self, facts: &Facts) -> Vec<String> {
        let mut wrong = Vec::new();
        for (oid, (committed, open)) in &*self.known.borrow() {
            let value = facts.newest(*oid).and_then(number);
            let expected = *committed..=committed + open;
            if !value.is_some_and(|value| expected.contains(&value)) {
                wrong.push(format!(
                    "counters: {oid} is {value:?} after {committed} increments and {open} more \
                     that may be committed"
                ));
            }
        }
        wrong
    }
}

fn number(data: &Bytes) -> Option<i64> {
    std::str::from_utf8(data).ok()?.parse().ok()
}

/// What each change adds is added.
fn merge(change: &ConflictingChange) -> Option<Bytes> {
    MERGED.set(MERGED.get() + 1);
    let base = change.base.as_ref().map_or(Some(0), number)?;
    let committed = change.committed.as_ref().map_or(Some(0), number)?;
    let sum = committed + number(&change.new)? - base;
    Some(Bytes::from(sum.to_string()))
}
