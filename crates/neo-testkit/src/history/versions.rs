//! The order of each list's versions, and what is wrong with single reads.

use std::collections::{BTreeMap, BTreeSet};

use super::{Anomaly, Element, History, Key, Kind, Outcome, Transaction};

/// What the lists tell.
#[derive(Debug)]
pub(super) struct Versions<'a> {
    /// The longest that anybody saw of each list.
    pub(super) lists: BTreeMap<Key, &'a [Element]>,
    /// Who appended what.
    pub(super) writers: BTreeMap<(Key, Element), usize>,
    /// Which transactions are committed: they say so, or were seen.
    pub(super) committed: Vec<bool>,
    pub(super) anomalies: Vec<Anomaly>,
}

impl<'a> Versions<'a> {
    pub(super) fn of(history: &'a History) -> Self {
        let mut versions = Self {
            lists: BTreeMap::new(),
            writers: BTreeMap::new(),
            committed: Vec::new(),
            anomalies: Vec::new(),
        };
        for (index, txn) in history.transactions.iter().enumerate() {
            for append in &txn.appends {
                versions.writers.insert(*append, index);
            }
        }
        for (key, list) in seen(history) {
            let longest = versions.lists.entry(key).or_default();
            if list.len() > longest.len() {
                *longest = list;
            }
        }
        versions.order_is_one(history);
        versions.elements_are_whole(history);
        versions.committed_is_there(history);
        versions
    }

    fn found(&mut self, kind: Kind, what: String) {
        self.anomalies.push(Anomaly { kind, what });
    }

    fn order_is_one(&mut self, history: &History) {
        for (index, txn) in history.transactions.iter().enumerate() {
            for (key, list) in &txn.reads {
                if !self.lists[key].starts_with(list) {
                    let longest = self.lists[key];
                    let what = format!("T{index} read {key} as {list:?}, others as {longest:?}");
                    self.found(Kind::IncompatibleOrder, what);
                }
            }
        }
        for (key, list) in &history.lists {
            if !self.lists[key].starts_with(list) {
                let longest = self.lists[key];
                let what = format!("{key} is {list:?} in the end, and was read as {longest:?}");
                self.found(Kind::IncompatibleOrder, what);
            }
        }
    }

    fn elements_are_whole(&mut self, history: &History) {
        let lists = self.lists.clone();
        for (key, list) in lists {
            let mut before = BTreeSet::new();
            for element in list {
                if !before.insert(element) {
                    self.found(Kind::Duplicate, format!("{element} in {key}: {list:?}"));
                }
                match self.writers.get(&(key, *element)) {
                    None => self.found(Kind::FromNowhere, format!("{element} in {key}")),
                    Some(writer) if history.transactions[*writer].outcome == Outcome::Aborted => {
                        let what = format!("{element} of T{writer} in {key}");
                        self.found(Kind::AbortedRead, what);
                    }
                    Some(_) => {}
                }
            }
        }
        for (index, txn) in history.transactions.iter().enumerate() {
            for (key, list) in &txn.reads {
                let Some(last) = list.last() else { continue };
                let Some(writer) = self.writers.get(&(*key, *last)).copied() else {
                    continue;
                };
                if writer != index && last_append(&history.transactions[writer], *key) != *last {
                    let what = format!("T{index} read {key} up to {last} of T{writer}");
                    self.found(Kind::IntermediateRead, what);
                }
            }
        }
    }

    fn committed_is_there(&mut self, history: &History) {
        let mut there = BTreeSet::new();
        for (key, list) in &self.lists {
            there.extend(list.iter().map(|element| (*key, *element)));
        }
        for (index, txn) in history.transactions.iter().enumerate() {
            let is_seen = txn.appends.iter().any(|append| there.contains(append));
            let is_committed = match txn.outcome {
                Outcome::Committed => true,
                Outcome::Aborted => false,
                Outcome::Unknown => is_seen,
            };
            self.committed.push(is_committed);
            for (key, element) in txn.appends.iter().filter(|_| is_committed) {
                let last = history.lists.get(key);
                if !last.is_some_and(|list| list.contains(element)) {
                    let what = format!("{element} of T{index}, in {key}");
                    self.found(Kind::LostAppend, what);
                }
            }
        }
    }
}

/// All that was seen of lists.
fn seen(history: &History) -> impl Iterator<Item = (Key, &[Element])> {
    let reads = history.transactions.iter().flat_map(|txn| &txn.reads);
    let last = history.lists.iter();
    reads
        .map(|(key, list)| (*key, list.as_slice()))
        .chain(last.map(|(key, list)| (*key, list.as_slice())))
}

fn last_append(txn: &Transaction, key: Key) -> Element {
    let mut appends = txn.appends.iter().rev();
    let last = appends.find(|(appended, _)| *appended == key);
    last.map_or(0, |(_, element)| *element)
}
