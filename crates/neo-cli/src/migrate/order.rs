//! Puts the objects of a transaction into the order in which it stored them.

use std::collections::BTreeMap;

use neo_api::Oid;

/// Bytes that are held back, at most: what comes beyond is read again in its turn.
const HELD_BYTES_MAX: usize = 64 << 20;

/// Takes objects by ascending oid, gives them in the order of a list, within bounded memory.
#[derive(Debug)]
pub(super) struct Reorder<T> {
    order: Vec<Oid>,
    /// How many of the list are given.
    given: usize,
    held: BTreeMap<Oid, Held<T>>,
    bytes: usize,
    bytes_max: usize,
    /// What is on the list, and nobody brought.
    missing: Vec<Oid>,
}

#[derive(Debug)]
enum Held<T> {
    Here(T, usize),
    /// It came when too much was held: what is left of it.
    Again(T),
}

/// What comes next.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Next<T> {
    /// This.
    Object(T),
    /// What is left of one that must be read again.
    ReadAgain(T),
    /// Something that has not come yet.
    Wait,
}

impl<T> Reorder<T> {
    pub(super) fn new(order: Vec<Oid>) -> Self {
        Self {
            order,
            given: 0,
            held: BTreeMap::new(),
            bytes: 0,
            bytes_max: HELD_BYTES_MAX,
            missing: Vec::new(),
        }
    }

    /// Takes an object of so many bytes; `lighten` lets these go when it can't be held.
    pub(super) fn push(&mut self, oid: Oid, object: T, bytes: usize, lighten: impl FnOnce(T) -> T) {
        let next = self.order.get(self.given) == Some(&oid);
        let held = if next || self.bytes + bytes <= self.bytes_max {
            self.bytes += bytes;
            Held::Here(object, bytes)
        } else {
            Held::Again(lighten(object))
        };
        self.held.insert(oid, held);
    }

    /// What comes next, while objects still come.
    pub(super) fn next(&mut self) -> Next<T> {
        match self.order.get(self.given) {
            Some(oid) => match self.held.remove(oid) {
                Some(held) => {
                    self.given += 1;
                    self.give(held)
                }
                None => Next::Wait,
            },
            None => Next::Wait,
        }
    }

    /// What comes next when no more objects come: what the list has and nobody brought is
    /// missing, what somebody brought and the list does not have comes last.
    pub(super) fn next_at_end(&mut self) -> Option<Next<T>> {
        while let Some(oid) = self.order.get(self.given).copied() {
            self.given += 1;
            if let Some(held) = self.held.remove(&oid) {
                return Some(self.give(held));
            }
            self.missing.push(oid);
        }
        let (_, held) = self.held.pop_first()?;
        Some(self.give(held))
    }

    /// What is on the list and nobody brought, once everything was given.
    pub(super) fn missing(&self) -> &[Oid] {
        &self.missing
    }

    fn give(&mut self, held: Held<T>) -> Next<T> {
        match held {
            Held::Here(object, bytes) => {
                self.bytes -= bytes;
                Next::Object(object)
            }
            Held::Again(rest) => Next::ReadAgain(rest),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn run(order: &[u64], come: &[u64], bytes_max: usize) -> Vec<Next<u64>> {
        let mut reorder = Reorder::new(order.iter().copied().map(Oid).collect());
        reorder.bytes_max = bytes_max;
        let mut out = Vec::new();
        for n in come {
            reorder.push(Oid(*n), *n, 10, |n| n + 100);
            loop {
                match reorder.next() {
                    Next::Wait => break,
                    next => out.push(next),
                }
            }
        }
        out.extend(std::iter::from_fn(|| reorder.next_at_end()));
        assert_eq!(reorder.bytes, 0);
        out
    }

    #[test]
    fn objects_leave_in_the_order_of_the_list() {
        use Next::Object;
        let all = run(&[3, 1, 2], &[1, 2, 3], 1000);
        assert_eq!(all, [Object(3), Object(1), Object(2)]);
        // 5 is missing; 4 should not be.
        let all = run(&[5, 2, 1], &[1, 2, 4], 1000);
        assert_eq!(all, [Object(2), Object(1), Object(4)]);
        let mut reorder = Reorder::new([5, 2].map(Oid).to_vec());
        reorder.push(Oid(2), 2, 10, |n| n);
        assert_eq!(reorder.next_at_end(), Some(Object(2)));
        assert_eq!(
            (reorder.next_at_end(), reorder.missing()),
            (None, &[Oid(5)][..])
        );
    }

    #[test]
    fn what_does_not_fit_is_read_again() {
        use Next::{Object, ReadAgain};
        let all = run(&[4, 3, 2, 1], &[1, 2, 3, 4], 20);
        assert_eq!(all, [Object(4), ReadAgain(103), Object(2), Object(1)]);
    }
}
