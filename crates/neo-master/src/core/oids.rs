//! Handing out oids: each once, in the life of a cluster.
//!
//! Before an oid is handed out, a mark above it is durable on every storage node that takes part.
//! A primary that takes over goes on from the greatest mark, so what the one before it handed out
//! is never handed out again, stored or not.

use std::collections::{BTreeSet, VecDeque};

use neo_api::{NodeId, Oid, TxnId};

use super::transaction_manager::Asker;

/// Oids from here on are not handed out: SQL databases have signed integers.
const LIMIT: u64 = 1 << 63;

/// The oid after one that is in use; `None` when it says nothing about those that are handed out.
pub(super) fn after(oid: u64) -> Option<u64> {
    (oid < LIMIT).then(|| oid + 1)
}

/// What waits for a mark.
#[derive(Debug)]
pub(crate) enum Waiting {
    /// A client, for so many new oids.
    Client(Asker, u32),
    /// A transaction that has oids that were not handed out here.
    Finish(TxnId),
    /// The checkpoint of an import.
    Import,
}

/// The allocator, with the raising of the mark.
#[derive(Debug)]
pub(crate) struct Oids {
    /// The next oid to hand out.
    next: u64,
    /// Every node has noted that oids below it may be handed out.
    mark: u64,
    /// The mark that nodes are noting, and which have not said so yet.
    raising: Option<(u64, BTreeSet<NodeId>)>,
    /// What waits, with the mark that it needs, in order of arrival.
    queue: VecDeque<(u64, Waiting)>,
    clients_waiting: usize,
    block: u64,
}

impl Oids {
    /// Goes on from a floor: nothing at or above it was handed out.
    pub(crate) const fn new(floor: u64, block: u64) -> Self {
        // 0 is ZODB's root object, which no allocator gives.
        let next = if floor == 0 { 1 } else { floor };
        Self {
            next,
            mark: next,
            raising: None,
            queue: VecDeque::new(),
            clients_waiting: 0,
            block,
        }
    }

    /// Nothing at or above it was handed out.
    pub(crate) fn floor(&self) -> u64 {
        self.mark.max(self.next)
    }

    /// The mark that every node has noted, or is noting.
    pub(crate) fn announced(&self) -> Oid {
        let raising = self.raising.as_ref().map_or(0, |(mark, _)| *mark);
        Oid(self.mark.max(raising))
    }

    /// The last oid that is in use, as far as is known; `None` when there is none.
    pub(crate) const fn last(&self) -> Option<Oid> {
        match self.next {
            0 | 1 => None,
            next => Some(Oid(next - 1)),
        }
    }

    /// How many clients wait.
    pub(crate) const fn clients_waiting(&self) -> usize {
        self.clients_waiting
    }

    /// Takes oids that the mark covers.
    pub(crate) fn take(&mut self, count: u32) -> Option<Oid> {
        let end = self.next.checked_add(u64::from(count))?;
        if end > self.mark {
            return None;
        }
        let first = self.next;
        self.next = end;
        Some(Oid(first))
    }

    /// Takes oids without a mark: for a test that proves that it is seen.
    pub(crate) fn take_unmarked(&mut self, count: u32) -> Oid {
        let first = self.next;
        self.next += u64::from(count);
        Oid(first)
    }

    /// Whether so many oids are left at all.
    pub(crate) fn has_left(&self, count: u32) -> bool {
        let end = self.next.checked_add(u64::from(count));
        end.is_some_and(|end| end <= LIMIT - self.block)
    }

    /// Oids up to here are in use: they were not handed out here, perhaps. Whether the mark covers
    /// them.
    pub(crate) fn in_use(&mut self, last: u64) -> bool {
        let Some(end) = after(last) else {
            return true;
        };
        self.next = self.next.max(end);
        self.next <= self.mark
    }

    /// Something waits until oids that were told by [`Self::in_use`] are covered.
    pub(crate) fn wait(&mut self, waiting: Waiting) {
        let needed = match &waiting {
            Waiting::Client(_, count) => {
                self.clients_waiting += 1;
                self.next.saturating_add(u64::from(*count))
            }
            Waiting::Finish(_) | Waiting::Import => self.next,
        };
        self.queue.push_back((needed, waiting));
    }

    /// The mark to raise to now, if any: when somebody waits, or half of the block is used up.
    pub(crate) fn to_raise(&self) -> Option<u64> {
        if self.raising.is_some() {
            return None;
        }
        let wanted = self.queue.iter().map(|(needed, _)| *needed).max();
        let used = self.mark > self.next && self.mark - self.next < self.block / 2;
        let wanted = match wanted {
            Some(needed) => needed.max(self.next),
            None if used => self.next,
            None => return None,
        };
        let mark = wanted.saturating_add(self.block).min(LIMIT);
        (mark > self.mark).then_some(mark)
    }

    /// Nodes are noting a mark.
    pub(crate) fn raise(&mut self, mark: u64, nodes: BTreeSet<NodeId>) {
        self.raising = Some((mark, nodes));
    }

    /// A node has noted the mark, or is lost. What can go on.
    pub(crate) fn noted(&mut self, nid: NodeId) -> Vec<Waiting> {
        let Some((mark, nodes)) = &mut self.raising else {
            return Vec::new();
        };
        nodes.remove(&nid);
        if !nodes.is_empty() {
            return Vec::new();
        }
        self.mark = self.mark.max(*mark);
        self.raising = None;
        self.take_waiting()
    }

    /// The mark can't be raised now: everything that waits is given up.
    pub(crate) fn give_up(&mut self) -> Vec<Waiting> {
        self.raising = None;
        self.take_waiting()
    }

    fn take_waiting(&mut self) -> Vec<Waiting> {
        self.clients_waiting = 0;
        self.queue.drain(..).map(|(_, waiting)| waiting).collect()
    }

    /// A client is gone.
    pub(crate) fn client_gone(&mut self, client: NodeId) {
        self.queue.retain(
            |(_, waiting)| !matches!(waiting, Waiting::Client(asker, _) if asker.nid == client),
        );
        let of_client = |(_, waiting): &&(u64, Waiting)| matches!(waiting, Waiting::Client(..));
        self.clients_waiting = self.queue.iter().filter(of_client).count();
    }
}

#[cfg(test)]
mod tests {
    use neo_api::NodeType;

    use super::*;

    fn nodes(n: u32) -> BTreeSet<NodeId> {
        (1..=n)
            .filter_map(|n| NodeId::new(NodeType::Storage, n))
            .collect()
    }

    fn raise(oids: &mut Oids) -> u64 {
        let mark = oids.to_raise().unwrap();
        oids.raise(mark, nodes(1));
        oids.noted(*nodes(1).first().unwrap());
        mark
    }

    #[test]
    fn nothing_is_handed_out_above_the_mark() {
        let mut oids = Oids::new(0, 10);
        assert_eq!(oids.take(1), None);
        assert_eq!(oids.to_raise(), None, "nobody waits");
        oids.wait(Waiting::Import);
        assert_eq!(raise(&mut oids), 11);
        assert_eq!(oids.take(5), Some(Oid(1)));
        assert_eq!(oids.to_raise(), None);
        assert_eq!(oids.take(2), Some(Oid(6)));
        assert_eq!(oids.to_raise(), Some(18), "refilled early");
        assert_eq!(oids.take(4), None);
        assert_eq!(oids.floor(), 11);
    }

    #[test]
    fn every_node_must_have_noted_a_mark() {
        let mut oids = Oids::new(1, 10);
        oids.wait(Waiting::Import);
        let mark = oids.to_raise().unwrap();
        oids.raise(mark, nodes(2));
        let mut nodes = nodes(2).into_iter();
        assert!(oids.noted(nodes.next().unwrap()).is_empty());
        assert_eq!(oids.take(1), None);
        assert_eq!(oids.noted(nodes.next().unwrap()).len(), 1);
        assert_eq!(oids.take(1), Some(Oid(1)));
    }

    #[test]
    fn foreign_oids_raise_the_mark_unless_they_are_out_of_range() {
        let mut oids = Oids::new(1, 10);
        assert!(oids.in_use(0));
        assert!(!oids.in_use(100));
        oids.wait(Waiting::Import);
        assert_eq!(raise(&mut oids), 111);
        assert_eq!(oids.take(1), Some(Oid(101)));
        assert!(oids.in_use(u64::MAX));
        assert_eq!(oids.take(1), Some(Oid(102)));
        assert!(!oids.in_use(LIMIT - 1));
        assert!(!oids.has_left(1));
        oids.wait(Waiting::Import);
        assert_eq!(oids.to_raise(), Some(LIMIT));
    }
}
