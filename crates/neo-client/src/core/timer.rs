//! Deadlines, in order.

use std::collections::BTreeMap;

use neo_api::Instant;

/// A deadline that is set; to take it back.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct TimerId(Instant, u64);

impl TimerId {
    pub(super) const fn at(self) -> Instant {
        self.0
    }
}

/// What to do at which moment.
#[derive(Debug)]
pub(super) struct Timers<T> {
    next: u64,
    set: BTreeMap<(Instant, u64), T>,
}

impl<T> Default for Timers<T> {
    fn default() -> Self {
        Self {
            next: 0,
            set: BTreeMap::new(),
        }
    }
}

impl<T> Timers<T> {
    pub(super) fn set(&mut self, at: Instant, what: T) -> TimerId {
        let id = TimerId(at, self.next);
        self.next += 1;
        self.set.insert((id.0, id.1), what);
        id
    }

    pub(super) fn cancel(&mut self, id: TimerId) {
        self.set.remove(&(id.0, id.1));
    }

    pub(super) fn next(&self) -> Option<Instant> {
        self.set.first_key_value().map(|((at, _), _)| *at)
    }

    /// Takes one that is due.
    pub(super) fn pop_due(&mut self, now: Instant) -> Option<T> {
        let entry = self.set.first_entry()?;
        (entry.key().0 <= now).then(|| entry.remove())
    }
}
