//! The orders that the primary told, and which comes next for a cell.

use std::collections::BTreeMap;
use std::ops::Bound;

use neo_api::{Oid, PackOrder, Partition, Partitioning, Tid};

/// All orders above some tid, up to the last of them.
#[derive(Debug, Default)]
pub(super) struct Orders {
    after: Tid,
    orders: BTreeMap<Tid, PackOrder>,
}

impl Orders {
    pub(super) fn new(after: Tid, orders: Vec<(Tid, PackOrder)>) -> Self {
        Self {
            after,
            orders: orders.into_iter().collect(),
        }
    }

    pub(super) fn get(&self, id: Tid) -> Option<&PackOrder> {
        self.orders.get(&id)
    }

    /// The next order for a cell that has done all up to `done`; `None` when none is known, or when
    /// one may be missing.
    ///
    /// One that a later order does as well is left to that: to have done the later one is to have
    /// done both.
    pub(super) fn next(&self, done: Tid) -> Option<Tid> {
        if done < self.after {
            return None;
        }
        let mut left = self.orders.range((Bound::Excluded(done), Bound::Unbounded));
        let (id, _) = left.find(|(id, order)| {
            let later = self.orders.range((Bound::Excluded(**id), Bound::Unbounded));
            let mut later = later.map(|(_, later)| later);
            !later.any(|later| later.oids.is_none() && later.at >= order.at)
        })?;
        Some(*id)
    }
}

/// The first object of a partition from `min` on that an order concerns, or may.
pub(super) fn first_concerned(
    order: &PackOrder,
    (partitioning, partition): (Partitioning, Partition),
    min: Oid,
) -> Option<Oid> {
    let Some(oids) = &order.oids else {
        return Some(min);
    };
    let from = oids.partition_point(|oid| *oid < min);
    let mut rest = oids.iter().skip(from).copied();
    rest.find(|oid| partitioning.of_oid(*oid) == partition)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn all(at: u64) -> PackOrder {
        let oids = None;
        PackOrder { at: Tid(at), oids }
    }

    fn one(at: u64) -> PackOrder {
        let oids = Some(vec![Oid(1), Oid(4), Oid(7)]);
        PackOrder { at: Tid(at), oids }
    }

    #[test]
    fn what_a_later_order_does_as_well_is_left_to_it() {
        let orders = vec![
            (Tid(20), all(10)),
            (Tid(30), one(15)),
            (Tid(40), all(12)),
            (Tid(50), one(45)),
        ];
        let orders = Orders::new(Tid(5), orders);
        assert_eq!(orders.next(Tid(4)), None);
        assert_eq!(orders.next(Tid(5)), Some(Tid(30)));
        assert_eq!(orders.next(Tid(30)), Some(Tid(40)));
        assert_eq!(orders.next(Tid(45)), Some(Tid(50)));
        assert_eq!(orders.next(Tid(50)), None);
        assert_eq!(Orders::default().next(Tid(0)), None);
    }

    #[test]
    fn only_objects_of_the_partition_are_looked_at() {
        let place = (Partitioning::new(3).unwrap(), Partition(1));
        assert_eq!(first_concerned(&all(1), place, Oid(5)), Some(Oid(5)));
        assert_eq!(first_concerned(&one(1), place, Oid(0)), Some(Oid(1)));
        assert_eq!(first_concerned(&one(1), place, Oid(2)), Some(Oid(4)));
        assert_eq!(first_concerned(&one(1), place, Oid(8)), None);
        let other = (place.0, Partition(2));
        assert_eq!(first_concerned(&one(1), other, Oid(0)), None);
    }
}
