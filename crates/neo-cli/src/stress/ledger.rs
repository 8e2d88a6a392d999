//! What the clients did and were told, and what was wrong at once.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Instant;

use neo_api::{Oid, Tid};

use crate::report::say;

use super::value::AttemptId;

/// What a client was told of an attempt.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Told {
    /// Nothing yet.
    Open,
    Committed(Tid),
    NotCommitted,
    /// That nobody knows.
    Unknown,
}

/// A read that was answered: of which object, before which tid, and the serial that it gave.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Read {
    pub(super) oid: Oid,
    pub(super) before: Tid,
    pub(super) serial: Tid,
}

/// Reads that are kept to be checked in the end.
const READS_MAX: usize = 500_000;

/// What happened so far; shared by all workers.
#[derive(Debug)]
pub(super) struct Ledger {
    start: Instant,
    /// The greatest tid that a client was told.
    greatest: AtomicU64,
    failed: AtomicBool,
    entries: Mutex<Entries>,
}

/// What is noted.
#[derive(Debug, Default, Clone)]
pub(super) struct Entries {
    pub(super) attempts: BTreeMap<AttemptId, Told>,
    pub(super) reads: Vec<Read>,
    pub(super) oids: BTreeSet<Oid>,
    pub(super) anomalies: Vec<String>,
    /// Commits of each worker.
    pub(super) commits: BTreeMap<u32, u64>,
}

/// How many attempts ended how.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Counts {
    pub(super) committed: usize,
    pub(super) refused: usize,
    pub(super) unknown: usize,
}

impl Ledger {
    pub(super) fn new() -> Self {
        Self {
            start: Instant::now(),
            greatest: AtomicU64::new(0),
            failed: AtomicBool::new(false),
            entries: Mutex::default(),
        }
    }

    fn entries(&self) -> MutexGuard<'_, Entries> {
        self.entries.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Everything that is noted until now.
    pub(super) fn read_entries(&self) -> Entries {
        self.entries().clone()
    }

    /// Notes something that must not be.
    pub(super) fn anomaly(&self, what: impl Into<String>) {
        let what = what.into();
        let seconds = self.start.elapsed().as_secs_f64();
        say(format_args!("neostress: ANOMALY at {seconds:.1} s: {what}"));
        self.entries().anomalies.push(what);
        self.failed.store(true, Ordering::SeqCst);
    }

    /// Whether there was an anomaly.
    pub(super) fn has_failed(&self) -> bool {
        self.failed.load(Ordering::SeqCst)
    }

    pub(super) fn anomalies(&self) -> usize {
        self.entries().anomalies.len()
    }

    /// The greatest tid that any client was told until now.
    pub(super) fn greatest(&self) -> Tid {
        Tid(self.greatest.load(Ordering::SeqCst))
    }

    pub(super) fn open(&self, id: AttemptId) {
        if self.entries().attempts.insert(id, Told::Open).is_some() {
            self.anomaly(format!(
                "attempt {id} was made twice by this program itself"
            ));
        }
    }

    /// Notes how an attempt ended that began when `floor` was the greatest tid.
    pub(super) fn tell(&self, id: AttemptId, floor: Tid, told: Told) {
        if let Told::Committed(tid) = told {
            if tid <= floor {
                self.anomaly(format!(
                    "{id} began after {floor} was acknowledged, and was committed as {tid}"
                ));
            }
            self.greatest.fetch_max(tid.0, Ordering::SeqCst);
        }
        let mut entries = self.entries();
        entries.attempts.insert(id, told);
        if matches!(told, Told::Committed(_)) {
            *entries.commits.entry(id.worker).or_default() += 1;
        }
    }

    pub(super) fn read(&self, read: Read) {
        let mut entries = self.entries();
        if entries.reads.len() < READS_MAX {
            entries.reads.push(read);
        }
    }

    /// Notes an oid that a client was given.
    pub(super) fn oid(&self, oid: Oid) {
        if !self.entries().oids.insert(oid) {
            self.anomaly(format!("oid {oid} was given twice"));
        }
    }

    /// Commits of each worker until now.
    pub(super) fn commits(&self) -> BTreeMap<u32, u64> {
        self.entries().commits.clone()
    }

    pub(super) fn counts(&self) -> Counts {
        let mut counts = Counts::default();
        for told in self.entries().attempts.values() {
            match told {
                Told::Committed(_) => counts.committed += 1,
                Told::NotCommitted => counts.refused += 1,
                Told::Unknown => counts.unknown += 1,
                Told::Open => {}
            }
        }
        counts
    }

    /// Since the start.
    pub(super) fn seconds(&self) -> f64 {
        self.start.elapsed().as_secs_f64()
    }
}
