//! Group commit: every write of a node goes through one queue, and what waits while the disk is
//! busy shares the next write.

use std::collections::VecDeque;

use neo_api::{BackendResult, Durability, WriteBatch};

use crate::core::Token;

/// A group ends with the batch that reaches this many bytes.
const GROUP_BYTES_MAX: usize = 16 << 20;
/// Most operations of a group, unless one batch alone has more.
const GROUP_OPS_MAX: usize = 20_000;

/// A write that waits.
#[derive(Debug, Clone)]
struct Item {
    token: Token,
    batch: WriteBatch,
    durability: Durability,
}

/// The queue of writes: pure, so that the shell and the simulator share it.
///
/// One group is in flight at a time. A group is durable if any of its members has to be. When a
/// group fails, its members are tried again one by one, in their order, so that one that can't be
/// written takes nobody with it.
#[derive(Debug, Default)]
pub struct Persister {
    /// Members of a group that failed, to be tried singly; before the queue.
    single: VecDeque<Item>,
    queue: VecDeque<Item>,
    in_flight: Option<InFlight>,
    written: Written,
}

/// What was handed to the backend.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Written {
    /// Batches that had to be durable.
    pub synced_batches: u64,
    /// Writes that they shared: a sync each.
    pub synced_groups: u64,
}

#[derive(Debug)]
enum InFlight {
    /// One batch; it is not tried again.
    Single(Token),
    /// Several that share a write.
    Group(Vec<Item>),
}

impl Persister {
    /// An empty queue.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Adds a write.
    pub fn push(&mut self, token: Token, batch: WriteBatch, durability: Durability) {
        self.queue.push_back(Item {
            token,
            batch,
            durability,
        });
    }

    /// The next write for the backend, unless one is in flight or nothing waits. Its result goes
    /// to [`Self::done`].
    pub fn next_group(&mut self) -> Option<(WriteBatch, Durability)> {
        if self.in_flight.is_some() {
            return None;
        }
        if let Some(item) = self.single.pop_front() {
            return Some(self.alone(item));
        }
        let first = self.queue.pop_front()?;
        let (mut bytes, mut ops) = (first.batch.weight(), first.batch.ops.len());
        let mut group = vec![first];
        while let Some(next) = self.queue.front() {
            bytes += next.batch.weight();
            ops += next.batch.ops.len();
            if bytes > GROUP_BYTES_MAX || ops > GROUP_OPS_MAX {
                break;
            }
            group.extend(self.queue.pop_front());
        }
        if group.len() == 1 {
            return group.pop().map(|item| self.alone(item));
        }
        let all = group.iter().flat_map(|item| item.batch.ops.iter().cloned());
        let batch = WriteBatch::from(all.collect::<Vec<_>>());
        let synced = |item: &&Item| item.durability == Durability::Synced;
        let synced = group.iter().filter(synced).count();
        self.in_flight = Some(InFlight::Group(group));
        Some((batch, self.count(synced)))
    }

    /// The write in flight is done: the writes that are now answered, in their order.
    pub fn done(&mut self, result: BackendResult<()>) -> Vec<(Token, BackendResult<()>)> {
        match (self.in_flight.take(), result) {
            (None, _) => Vec::new(),
            (Some(InFlight::Single(token)), result) => vec![(token, result)],
            (Some(InFlight::Group(group)), Ok(())) => {
                group.into_iter().map(|item| (item.token, Ok(()))).collect()
            }
            (Some(InFlight::Group(group)), Err(_)) => {
                self.single = group.into();
                Vec::new()
            }
        }
    }

    /// Whether nothing waits and nothing is in flight.
    #[must_use]
    pub fn is_idle(&self) -> bool {
        self.in_flight.is_none() && self.single.is_empty() && self.queue.is_empty()
    }

    fn alone(&mut self, item: Item) -> (WriteBatch, Durability) {
        self.in_flight = Some(InFlight::Single(item.token));
        let synced = usize::from(item.durability == Durability::Synced);
        (item.batch, self.count(synced))
    }

    /// The durability of a write of which so many members have to be durable.
    const fn count(&mut self, synced: usize) -> Durability {
        if synced == 0 {
            return Durability::Buffered;
        }
        self.written.synced_batches += synced as u64;
        self.written.synced_groups += 1;
        Durability::Synced
    }

    /// What was handed to the backend until now.
    #[must_use]
    pub const fn written(&self) -> Written {
        self.written
    }
}

#[cfg(test)]
mod tests {
    use neo_api::{BackendError, WriteOp};

    use super::*;

    fn batch(key: &str) -> WriteBatch {
        WriteBatch::from(vec![WriteOp::SetConfig {
            key: key.to_owned(),
            value: None,
        }])
    }

    fn tokens(done: &[(Token, BackendResult<()>)]) -> Vec<(u64, bool)> {
        done.iter()
            .map(|(t, result)| (t.0, result.is_ok()))
            .collect()
    }

    #[test]
    fn what_waits_shares_the_next_write() {
        let mut persister = Persister::new();
        persister.push(Token(1), batch("a"), Durability::Buffered);
        assert_eq!(
            persister.next_group(),
            Some((batch("a"), Durability::Buffered))
        );
        persister.push(Token(2), batch("b"), Durability::Buffered);
        persister.push(Token(3), batch("c"), Durability::Synced);
        persister.push(Token(4), batch("d"), Durability::Buffered);
        assert_eq!(persister.next_group(), None, "one at a time");
        assert_eq!(tokens(&persister.done(Ok(()))), [(1, true)]);
        let (group, durability) = persister.next_group().unwrap();
        assert_eq!((group.ops.len(), durability), (3, Durability::Synced));
        let written = Written {
            synced_batches: 1,
            synced_groups: 1,
        };
        assert_eq!(persister.written(), written);
        assert_eq!(
            tokens(&persister.done(Ok(()))),
            [(2, true), (3, true), (4, true)]
        );
        assert!(persister.is_idle());
    }

    #[test]
    fn a_group_that_fails_is_tried_singly_in_order_before_what_came_later() {
        let mut persister = Persister::new();
        for (n, key) in [(1, "a"), (2, "b"), (3, "c")] {
            persister.push(Token(n), batch(key), Durability::Synced);
        }
        assert_eq!(persister.next_group().unwrap().0.ops.len(), 3);
        persister.push(Token(4), batch("d"), Durability::Synced);
        assert!(persister.done(Err(BackendError::Full)).is_empty());
        let mut seen = Vec::new();
        for (key, result) in [
            ("a", Ok(())),
            ("b", Err(BackendError::Full)),
            ("c", Ok(())),
            ("d", Ok(())),
        ] {
            assert_eq!(
                persister.next_group(),
                Some((batch(key), Durability::Synced))
            );
            seen.extend(tokens(&persister.done(result)));
        }
        assert_eq!(seen, [(1, true), (2, false), (3, true), (4, true)]);
        assert!(persister.is_idle());
    }

    #[test]
    fn groups_are_bounded() {
        let mut persister = Persister::new();
        let big = || {
            WriteBatch::from(vec![WriteOp::DeleteData {
                ids: vec![Default::default(); 1_500_000],
            }])
        };
        for n in 0..3 {
            persister.push(Token(n), big(), Durability::Buffered);
        }
        assert_eq!(persister.next_group().unwrap().0.ops.len(), 1);
    }
}
