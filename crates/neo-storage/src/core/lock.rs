//! Write locks of objects: who has which, who waits, and who is asked to give way.
//!
//! Stores lock an object exclusively, checks share it. Requests that can't be granted wait in the
//! order of their transactions' names: the oldest first. Deadlocks can only arise when an older
//! transaction waits for a younger one, so that is what is noticed: the younger is told, and gives
//! the lock up for a moment ([`Locks::relock`]) unless its vote has begun, in which case it waits
//! for nothing and will end. Every other wait is of a younger for an older transaction, and can't
//! close a circle.

use std::collections::{BTreeMap, BTreeSet};

use neo_api::{Oid, TxnId};

/// How an object is locked.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Mode {
    /// With others that only check the object.
    Shared,
    /// Alone.
    Exclusive,
}

/// Names a request that may wait; later requests have greater ones.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Ticket(pub(crate) u64);

/// What becomes of a request.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Requested {
    /// The lock is there.
    Granted,
    /// It waits.
    Waits {
        /// For this transaction first.
        holder: TxnId,
        /// Younger transactions to ask to give way; each is named once while it has the lock.
        deadlocks: Vec<TxnId>,
    },
}

/// The locks of a node.
#[derive(Debug, Default)]
pub(crate) struct Locks {
    oids: BTreeMap<Oid, OidLock>,
    txns: BTreeMap<TxnId, TxnLocks>,
}

#[derive(Debug, Default)]
struct OidLock {
    holders: BTreeMap<TxnId, Held>,
    queue: BTreeMap<(TxnId, Ticket), Mode>,
}

#[derive(Debug)]
struct Held {
    mode: Mode,
    /// Whether its transaction was asked to give way.
    told: bool,
}

#[derive(Debug, Default)]
struct TxnLocks {
    voted: bool,
    /// Objects that it holds or waits for.
    oids: BTreeSet<Oid>,
}

impl Locks {
    /// Asks for a lock.
    pub(crate) fn request(
        &mut self,
        txn: TxnId,
        oid: Oid,
        mode: Mode,
        ticket: Ticket,
    ) -> Requested {
        self.txns.entry(txn).or_default().oids.insert(oid);
        let lock = self.oids.entry(oid).or_default();
        if lock.can_grant(txn, ticket, mode) {
            lock.grant(txn, mode);
            return Requested::Granted;
        }
        lock.queue.insert((txn, ticket), mode);
        self.wait_of(txn, oid, ticket)
    }

    /// Gives a lock up and asks for it again, behind older transactions that wait. `None` when the
    /// transaction does not have it. The second part names the requests that are granted now.
    pub(crate) fn relock(
        &mut self,
        txn: TxnId,
        oid: Oid,
        ticket: Ticket,
    ) -> Option<(Requested, Vec<Ticket>)> {
        let lock = self.oids.get_mut(&oid)?;
        let held = lock.holders.remove(&txn)?;
        lock.queue.insert((txn, ticket), held.mode);
        let mut granted = Vec::new();
        lock.pump(&mut granted);
        if let Some(at) = granted.iter().position(|(_, t)| *t == ticket) {
            granted.remove(at);
            return Some((Requested::Granted, tickets(granted)));
        }
        Some((self.wait_of(txn, oid, ticket), tickets(granted)))
    }

    /// Gives one lock up; names the requests that are granted now.
    pub(crate) fn release(&mut self, txn: TxnId, oid: Oid) -> Vec<Ticket> {
        let mut granted = Vec::new();
        if let Some(lock) = self.oids.get_mut(&oid) {
            lock.holders.remove(&txn);
            lock.pump(&mut granted);
            let waits = lock.queue.keys().any(|(waiting, _)| *waiting == txn);
            let holds = lock.holders.contains_key(&txn);
            self.drop_if_free(oid);
            if let Some(own) = self.txns.get_mut(&txn).filter(|_| !waits && !holds) {
                own.oids.remove(&oid);
            }
        }
        tickets(granted)
    }

    /// The transaction ended: it holds and waits for nothing more. Names the requests that are
    /// granted now, those of the oldest transaction first.
    pub(crate) fn end(&mut self, txn: TxnId) -> Vec<Ticket> {
        let mut granted = Vec::new();
        for oid in self.txns.remove(&txn).unwrap_or_default().oids {
            if let Some(lock) = self.oids.get_mut(&oid) {
                lock.holders.remove(&txn);
                let own = (txn, Ticket(0))..=(txn, Ticket(u64::MAX));
                let own: Vec<_> = lock.queue.range(own).map(|(key, _)| *key).collect();
                for key in own {
                    lock.queue.remove(&key);
                }
                lock.pump(&mut granted);
                self.drop_if_free(oid);
            }
        }
        tickets(granted)
    }

    /// The transaction voted: nobody asks it to give way any more.
    pub(crate) fn vote(&mut self, txn: TxnId) {
        self.txns.entry(txn).or_default().voted = true;
    }

    fn drop_if_free(&mut self, oid: Oid) {
        let free = |lock: &OidLock| lock.holders.is_empty() && lock.queue.is_empty();
        if self.oids.get(&oid).is_some_and(free) {
            self.oids.remove(&oid);
        }
    }

    fn wait_of(&mut self, txn: TxnId, oid: Oid, ticket: Ticket) -> Requested {
        let lock = self.oids.entry(oid).or_default();
        let mode = lock.queue.get(&(txn, ticket)).copied();
        let mode = mode.unwrap_or(Mode::Exclusive);
        let mut deadlocks = Vec::new();
        let mut first = None;
        for (holder, held) in &mut lock.holders {
            if *holder == txn || compatible(mode, held.mode) {
                continue;
            }
            first = first.or(Some(*holder));
            let voted = self.txns.get(holder).is_some_and(|t| t.voted);
            if *holder > txn && !voted && !held.told {
                held.told = true;
                deadlocks.push(*holder);
            }
        }
        // Nobody in the way but older ones that wait: the oldest will have it first.
        let first = first.or_else(|| lock.queue.keys().next().map(|(waiting, _)| *waiting));
        Requested::Waits {
            holder: first.unwrap_or(txn),
            deadlocks,
        }
    }
}

impl OidLock {
    fn can_grant(&self, txn: TxnId, ticket: Ticket, mode: Mode) -> bool {
        let own = self.holders.get(&txn).map(|held| held.mode);
        let earlier = (txn, Ticket(0))..(txn, ticket);
        if self.queue.range(earlier).next().is_some() {
            return false;
        }
        if own == Some(Mode::Exclusive) || (own.is_some() && mode == Mode::Shared) {
            return true;
        }
        let mut others = self.holders.iter().filter(|(holder, _)| **holder != txn);
        if !others.all(|(_, held)| compatible(mode, held.mode)) {
            return false;
        }
        // An upgrade passes those that wait: they wait for this very transaction.
        let mut older = self.queue.range(..(txn, ticket));
        own.is_some() || older.all(|(_, waiting)| compatible(mode, *waiting))
    }

    fn grant(&mut self, txn: TxnId, mode: Mode) {
        let held = self
            .holders
            .entry(txn)
            .or_insert(Held { mode, told: false });
        if mode == Mode::Exclusive {
            held.mode = mode;
        }
    }

    /// Grants what can be granted, upgrades first, then in the order of the queue.
    fn pump(&mut self, granted: &mut Vec<(TxnId, Ticket)>) {
        loop {
            let sole = match self.holders.len() {
                1 => self.holders.keys().next().copied(),
                _ => None,
            };
            let upgrade = sole.and_then(|txn| {
                let mut own = self.queue.range((txn, Ticket(0))..);
                own.next().filter(|((waiting, _), _)| *waiting == txn)
            });
            let next = upgrade.or_else(|| self.queue.first_key_value());
            let Some((&(txn, ticket), &mode)) = next else {
                return;
            };
            if !self.can_grant(txn, ticket, mode) {
                return;
            }
            self.queue.remove(&(txn, ticket));
            self.grant(txn, mode);
            granted.push((txn, ticket));
        }
    }
}

fn compatible(a: Mode, b: Mode) -> bool {
    a == Mode::Shared && b == Mode::Shared
}

fn tickets(mut granted: Vec<(TxnId, Ticket)>) -> Vec<Ticket> {
    granted.sort_unstable();
    granted.into_iter().map(|(_, ticket)| ticket).collect()
}

#[cfg(test)]
#[path = "lock_test.rs"]
mod tests;
