//! How far a cell is packed, and how that is written in the database's configuration.

use std::collections::BTreeMap;
use std::sync::Arc;

use bytes::{Buf as _, BufMut as _, Bytes, BytesMut};
use neo_api::{
    Oid, PackOrder, Partition, Partitioning, Ptid, Reign, TableVersion, Tid, WriteBatch, WriteOp,
};
use neo_proto::PackState;

use crate::core::effect::PackedValues;
use crate::core::initialization::set;

/// Objects of a partition of which it is known by name that they are packed. With more, all count as
/// packed that far.
pub(crate) const OBJECTS_MAX: usize = 16_384;

/// How far a cell is packed.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Packed {
    /// Of the cell as a whole.
    pub(crate) state: PackState,
    /// Objects that were packed further than all are, by orders for some objects alone: up to when.
    pub(crate) objects: Arc<BTreeMap<Oid, Tid>>,
}

/// The configuration key of how far a partition is packed: as text, the assignment, and the fields
/// of [`PackState`] in their order.
pub(crate) fn state_key(partition: Partition) -> String {
    format!("packed/{partition}")
}

/// The configuration key of the objects that are packed further: the assignment, and each object
/// with its tid; all of these as 8 bytes, big-endian.
pub(crate) fn objects_key(partition: Partition) -> String {
    format!("packed_objects/{partition}")
}

impl Packed {
    /// What was written of this assignment: a cell that is a new one has done nothing.
    pub(crate) fn of(values: &PackedValues, assigned: TableVersion) -> Self {
        let own = Self::read(values).filter(|(written, _)| *written == assigned);
        own.map_or_else(Self::default, |(_, packed)| packed)
    }

    /// What was written, of whatever assignment.
    pub(crate) fn of_any(values: &PackedValues) -> Self {
        Self::read(values).map_or_else(Self::default, |(_, packed)| packed)
    }

    /// What makes no sense counts for nothing, as the cell can be packed from the start.
    fn read(values: &PackedValues) -> Option<(TableVersion, Self)> {
        let (written, mut state) = read_state(values.state.as_ref())?;
        let objects = match &values.objects {
            None => Some(BTreeMap::new()),
            Some(value) => read_objects(value, written),
        };
        if objects.is_none() {
            // Nobody knows which: it may be any.
            state.whole_at = state.at;
        }
        let objects = Arc::new(objects.unwrap_or_default());
        Some((written, Self { state, objects }))
    }

    /// Writes it, where `before` is written.
    pub(crate) fn write(
        &self,
        batch: &mut WriteBatch,
        (partition, assigned): (Partition, TableVersion),
        before: &Self,
    ) {
        batch.push(set_state(partition, assigned, self.state));
        if self.objects != before.objects || before.state == PackState::default() {
            let key = objects_key(partition);
            let value = (!self.objects.is_empty()).then(|| self.objects_value(assigned));
            batch.push(WriteOp::SetConfig { key, value });
        }
    }

    fn objects_value(&self, assigned: TableVersion) -> Bytes {
        let mut value = BytesMut::with_capacity(16 + 16 * self.objects.len());
        value.put_u64(assigned.reign.0);
        value.put_u64(assigned.ptid.0);
        for (oid, at) in &*self.objects {
            value.put_u64(oid.0);
            value.put_u64(at.0);
        }
        value.freeze()
    }

    /// Whether what is not found of an object up to a tid never was there. If not, it may have been
    /// packed away.
    pub(crate) fn is_precise(&self, oid: Oid, newest: Tid) -> bool {
        newest >= self.at(oid)
    }

    /// What was before may be gone.
    fn at(&self, oid: Oid) -> Tid {
        let at = self.objects.get(&oid).copied().unwrap_or_default();
        self.state.whole_at.max(at)
    }

    /// The same of a range of objects.
    pub(crate) fn are_precise(&self, (first, end): (Oid, Option<Oid>), newest: Tid) -> bool {
        let packed = self.objects.range(first..);
        let mut within = packed.take_while(|(oid, _)| end.is_none_or(|end| **oid < end));
        newest >= self.state.whole_at && within.all(|(_, at)| newest >= *at)
    }

    /// Something is about to go for an order: of these objects.
    pub(crate) fn begin(
        &mut self,
        (id, order): (Tid, &PackOrder),
        (partitioning, partition): (Partitioning, Partition),
        mut oids_gone: impl Iterator<Item = Oid>,
    ) {
        let state = &mut self.state;
        state.begun = state.begun.max(id);
        state.at = state.at.max(order.at);
        state.removals += 1;
        match &order.oids {
            None => self.whole(order.at),
            // The others will follow: they are noted with the first.
            Some(oids) if oids_gone.any(|oid| self.at(oid) < order.at) => {
                let own = oids
                    .iter()
                    .filter(|oid| partitioning.of_oid(**oid) == partition);
                self.some(own.map(|oid| (*oid, order.at)));
            }
            Some(_) => {}
        }
    }

    /// An order was applied, with all before it.
    pub(crate) fn end(&mut self, id: Tid, order: &PackOrder) {
        let state = &mut self.state;
        state.done = id;
        state.begun = state.begun.max(id);
        state.at = state.at.max(order.at);
        if order.oids.is_none() {
            self.whole(order.at);
        }
    }

    /// Takes over what concerns reading, of a cell of which this one becomes a copy.
    pub(crate) fn copy(&mut self, source: Self) {
        self.state = PackState {
            done: source.state.done,
            at: source.state.at,
            whole_at: source.state.whole_at,
            ..self.state
        };
        self.objects = source.objects;
    }

    /// As far as both are: what is gone from one of them may be gone.
    pub(crate) fn merge(&mut self, other: &Self) {
        let (own, other_state) = (self.state, other.state);
        self.state = PackState {
            done: own.done.min(other_state.done),
            begun: own.begun.max(other_state.begun),
            at: own.at.max(other_state.at),
            whole_at: own.whole_at.max(other_state.whole_at),
            removed: own.removed.max(other_state.removed),
            emptied: own.emptied.max(other_state.emptied),
            removals: own.removals + 1,
        };
        self.some(other.objects.iter().map(|(oid, at)| (*oid, *at)));
    }

    fn whole(&mut self, at: Tid) {
        let at = self.state.whole_at.max(at);
        self.state.whole_at = at;
        if self.objects.values().any(|object| *object <= at) {
            Arc::make_mut(&mut self.objects).retain(|_, object| *object > at);
        }
    }

    fn some(&mut self, packed: impl Iterator<Item = (Oid, Tid)>) {
        let objects = Arc::make_mut(&mut self.objects);
        for (oid, at) in packed {
            let known = objects.entry(oid).or_default();
            *known = at.max(*known);
        }
        self.whole(self.state.whole_at);
        if self.objects.len() > OBJECTS_MAX {
            self.whole(self.state.at);
        }
    }
}

fn set_state(partition: Partition, assigned: TableVersion, state: PackState) -> WriteOp {
    let TableVersion { reign, ptid } = assigned;
    let PackState {
        done,
        begun,
        at,
        whole_at,
        removed,
        emptied,
        removals,
    } = state;
    let value =
        format!("{reign} {ptid} {done} {begun} {at} {whole_at} {removed} {emptied} {removals}");
    set(&state_key(partition), Some(value))
}

fn read_state(value: Option<&Bytes>) -> Option<(TableVersion, PackState)> {
    let text = std::str::from_utf8(value?).ok()?;
    let mut words = text.split(' ');
    let written = TableVersion {
        reign: Reign(words.next()?.parse().ok()?),
        ptid: Ptid(words.next()?.parse().ok()?),
    };
    let state = PackState {
        done: words.next()?.parse().ok()?,
        begun: words.next()?.parse().ok()?,
        at: words.next()?.parse().ok()?,
        whole_at: words.next()?.parse().ok()?,
        removed: words.next()?.parse().ok()?,
        emptied: words.next()?.parse().ok()?,
        removals: words.next()?.parse().ok()?,
    };
    words.next().is_none().then_some((written, state))
}

/// `None`: it makes no sense.
fn read_objects(value: &Bytes, assigned: TableVersion) -> Option<BTreeMap<Oid, Tid>> {
    if value.is_empty() || !value.len().is_multiple_of(16) {
        return None;
    }
    let mut value = value.clone();
    let written = TableVersion {
        reign: Reign(value.get_u64()),
        ptid: Ptid(value.get_u64()),
    };
    let mut objects = BTreeMap::new();
    while written == assigned && value.has_remaining() {
        objects.insert(Oid(value.get_u64()), Tid(value.get_u64()));
    }
    Some(objects)
}

#[cfg(test)]
mod tests {
    use super::*;

    const CELL: (Partition, TableVersion) = (
        Partition(1),
        TableVersion {
            reign: Reign(3),
            ptid: Ptid(14),
        },
    );

    fn place() -> (Partitioning, Partition) {
        (Partitioning::new(3).unwrap(), Partition(1))
    }

    fn order(at: u64, oids: Option<&[u64]>) -> PackOrder {
        let oids = oids.map(|oids| oids.iter().copied().map(Oid).collect());
        PackOrder { at: Tid(at), oids }
    }

    /// What is read again of what was written.
    fn written(packed: &Packed, before: &Packed) -> PackedValues {
        let mut batch = WriteBatch::new();
        packed.write(&mut batch, CELL, before);
        let mut values = PackedValues::default();
        for op in batch.ops {
            match op {
                WriteOp::SetConfig { key, value } if key == "packed/1" => values.state = value,
                WriteOp::SetConfig { key, value } if key == "packed_objects/1" => {
                    values.objects = value;
                }
                other => panic!("{other:?}"),
            }
        }
        values
    }

    #[test]
    fn what_is_written_is_of_one_assignment() {
        let (mut packed, before) = (Packed::default(), Packed::default());
        packed.begin((Tid(50), &order(40, None)), place(), [].into_iter());
        packed.begin(
            (Tid(60), &order(55, Some(&[1, 2, 4]))),
            place(),
            [Oid(4)].into_iter(),
        );
        let values = written(&packed, &before);
        assert_eq!(Packed::of(&values, CELL.1), packed);
        assert_eq!(Packed::of_any(&values), packed);
        let later = TableVersion {
            ptid: Ptid(15),
            ..CELL.1
        };
        assert_eq!(Packed::of(&values, later), Packed::default());
        let stale = PackedValues {
            state: written_state(&packed, later),
            objects: values.objects,
        };
        assert!(Packed::of(&stale, later).objects.is_empty());
    }

    fn written_state(packed: &Packed, assigned: TableVersion) -> Option<Bytes> {
        match set_state(Partition(1), assigned, packed.state) {
            WriteOp::SetConfig { value, .. } => value,
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn what_makes_no_sense_counts_for_nothing() {
        for odd in [
            "",
            "3 14",
            "3 14 1 2 3 4 5 6",
            "x y z a b c d e f",
            "3 14 1 2 3 4 5 6 7 8",
        ] {
            let values = PackedValues {
                state: Some(Bytes::from(odd)),
                objects: None,
            };
            assert_eq!(Packed::of_any(&values), Packed::default(), "{odd:?}");
        }
    }

    #[test]
    fn objects_that_make_no_sense_may_be_any() {
        let mut packed = Packed::default();
        packed.begin(
            (Tid(60), &order(55, Some(&[1]))),
            place(),
            [Oid(1)].into_iter(),
        );
        let mut values = written(&packed, &Packed::default());
        assert!(Packed::of_any(&values).is_precise(Oid(4), Tid(54)));
        values.objects = Some(Bytes::from("odd"));
        assert!(!Packed::of_any(&values).is_precise(Oid(4), Tid(54)));
        assert!(Packed::of_any(&values).is_precise(Oid(4), Tid(55)));
    }

    #[test]
    fn only_what_was_packed_is_not_known() {
        let mut packed = Packed::default();
        packed.begin(
            (Tid(60), &order(55, Some(&[1, 2, 4]))),
            place(),
            [Oid(1)].into_iter(),
        );
        assert_eq!((packed.state.at, packed.state.whole_at), (Tid(55), Tid(0)));
        let precise = |oid, newest| packed.is_precise(Oid(oid), Tid(newest));
        assert!(!precise(1, 54) && precise(1, 55));
        assert!(!precise(4, 54) && precise(7, 54));
        let precise = |first, end: Option<u64>, newest| {
            packed.are_precise((Oid(first), end.map(Oid)), Tid(newest))
        };
        assert!(precise(2, Some(4), 1) && !precise(2, Some(5), 1));
        assert!(precise(5, None, 1) && !precise(0, None, 54) && precise(0, None, 55));
    }

    #[test]
    fn a_pack_of_all_replaces_those_of_some() {
        let mut packed = Packed::default();
        packed.begin(
            (Tid(60), &order(55, Some(&[1]))),
            place(),
            [Oid(1)].into_iter(),
        );
        packed.begin(
            (Tid(70), &order(65, Some(&[4]))),
            place(),
            [Oid(4)].into_iter(),
        );
        packed.begin((Tid(80), &order(60, None)), place(), [].into_iter());
        assert_eq!(*packed.objects, BTreeMap::from([(Oid(4), Tid(65))]));
        packed.end(Tid(80), &order(60, None));
        assert_eq!(
            (packed.state.done, packed.state.whole_at),
            (Tid(80), Tid(60))
        );
        assert!(!packed.is_precise(Oid(7), Tid(59)) && packed.is_precise(Oid(7), Tid(60)));
    }

    #[test]
    fn an_order_that_removes_nothing_notes_no_objects() {
        let mut packed = Packed::default();
        packed.end(Tid(60), &order(55, Some(&[1])));
        assert!(packed.objects.is_empty() && packed.is_precise(Oid(1), Tid(1)));
    }

    #[test]
    fn with_too_many_objects_all_count_as_packed() {
        let oids: Vec<u64> = (0..=OBJECTS_MAX as u64).map(|n| 3 * n + 1).collect();
        let mut packed = Packed::default();
        packed.begin(
            (Tid(60), &order(55, Some(&oids))),
            place(),
            [Oid(1)].into_iter(),
        );
        assert!(packed.objects.is_empty());
        assert!(!packed.is_precise(Oid(4 + 3 * oids.len() as u64), Tid(54)));
        assert_eq!(packed.state.whole_at, Tid(55));
    }

    #[test]
    fn of_two_cells_what_is_gone_from_one_may_be_gone() {
        let (mut one, mut other) = (Packed::default(), Packed::default());
        one.begin(
            (Tid(60), &order(55, Some(&[1, 4]))),
            place(),
            [Oid(1)].into_iter(),
        );
        one.end(Tid(60), &order(55, Some(&[1, 4])));
        other.begin(
            (Tid(70), &order(65, Some(&[4]))),
            place(),
            [Oid(4)].into_iter(),
        );
        let mut merged = one.clone();
        merged.merge(&other);
        let expected = BTreeMap::from([(Oid(1), Tid(55)), (Oid(4), Tid(65))]);
        assert_eq!(*merged.objects, expected);
        assert_eq!((merged.state.done, merged.state.begun), (Tid(0), Tid(70)));
        one.copy(other.clone());
        assert_eq!(one.objects, other.objects);
        assert_eq!((one.state.done, one.state.at), (Tid(0), Tid(65)));
    }
}
