//! The cache against a history that knows the truth.

use std::collections::BTreeMap;

use proptest::prelude::*;

use super::*;
use crate::codec::{self, CompressionSetting};

fn plain(text: &str) -> Value {
    Value::Plain(Bytes::copy_from_slice(text.as_bytes()))
}

#[test]
fn an_interval_ends_where_the_next_begins() {
    let cache = Cache::new(1 << 20);
    let oid = Oid(1);
    cache.insert(oid, Tid(10), plain("a"), Validity::Current);
    assert!(cache.get(oid, Tid(10)).is_none());
    assert_eq!(cache.get(oid, Tid(11)).unwrap().next_serial, None);
    cache.invalidate(oid, Tid(20));
    cache.invalidate(oid, Tid(30));
    assert_eq!(cache.get(oid, Tid(20)).unwrap().next_serial, Some(Tid(20)));
    assert!(cache.get(oid, Tid(21)).is_none());
    cache.insert(oid, Tid(20), plain("b"), Validity::Current);
    assert_eq!(cache.get(oid, Tid(21)).unwrap().serial, Tid(20));
    assert_eq!(cache.get(oid, Tid(20)).unwrap().serial, Tid(10));
    assert_eq!(cache.get_exact(oid, Tid(10)).unwrap().serial, Tid(10));
    assert!(cache.get_exact(oid, Tid(15)).is_none());
}

#[test]
fn a_revision_in_the_middle_does_not_hide_the_others() {
    let cache = Cache::new(1 << 20);
    let oid = Oid(1);
    cache.insert(oid, Tid(30), plain("c"), Validity::Current);
    cache.insert(oid, Tid(10), plain("a"), Validity::Until(Tid(20)));
    cache.insert(oid, Tid(20), plain("b"), Validity::Until(Tid(30)));
    for (before, serial) in [(11, 10), (20, 10), (21, 20), (30, 20), (31, 30)] {
        assert_eq!(cache.get(oid, Tid(before)).unwrap().serial, Tid(serial));
    }
    // An older revision is not current, whoever says so.
    cache.insert(oid, Tid(25), plain("x"), Validity::Current);
    assert_eq!(cache.get(oid, Tid(30)).unwrap().serial, Tid(20));
}

#[test]
fn after_a_resync_only_the_past_is_known() {
    let cache = Cache::new(1 << 20);
    let oid = Oid(1);
    cache.insert(oid, Tid(10), plain("a"), Validity::Current);
    cache.resync(Tid(15));
    let hit = cache.get(oid, Tid(16)).unwrap();
    assert!(!hit.next_is_known);
    assert!(cache.get(oid, Tid(17)).is_none());
    // An invalidation after the gap does not say when it changed first.
    cache.invalidate(oid, Tid(20));
    assert!(!cache.get(oid, Tid(16)).unwrap().next_is_known);
    assert!(cache.get(oid, Tid(17)).is_none());
    // A load does.
    cache.insert(oid, Tid(10), plain("a"), Validity::Until(Tid(18)));
    assert_eq!(cache.get(oid, Tid(18)).unwrap().next_serial, Some(Tid(18)));
    cache.clear();
    assert!(cache.get(oid, Tid(16)).is_none() && cache.bytes() == 0);
}

#[test]
fn what_is_read_again_stays() {
    let cache = Cache::new(SHARD_BYTES_MIN);
    let value = || Value::Plain(Bytes::from(vec![0; 1000]));
    let fits = SHARD_BYTES_MIN / (1000 + ENTRY_BYTES);
    for oid in 0..10 {
        cache.insert(Oid(oid), Tid(1), value(), Validity::Current);
        assert!(cache.get(Oid(oid), Tid(2)).is_some());
    }
    // A scan of much more than fits.
    for oid in 100..100 + 5 * fits as u64 {
        cache.insert(Oid(oid), Tid(1), value(), Validity::Current);
    }
    assert!(cache.bytes() <= SHARD_BYTES_MIN);
    for oid in 0..10 {
        assert!(cache.get(Oid(oid), Tid(2)).is_some(), "{oid}");
    }
}

#[test]
fn a_new_revision_inherits_the_reads_of_the_old() {
    let cache = Cache::new(SHARD_BYTES_MIN);
    let value = || Value::Plain(Bytes::from(vec![0; 1000]));
    cache.insert(Oid(1), Tid(1), value(), Validity::Current);
    for _ in 0..3 {
        cache.get(Oid(1), Tid(2));
    }
    cache.invalidate(Oid(1), Tid(5));
    cache.insert(Oid(1), Tid(5), value(), Validity::Current);
    for oid in 100..100 + 2 * (SHARD_BYTES_MIN / 1000) as u64 {
        cache.insert(Oid(oid), Tid(1), value(), Validity::Current);
    }
    assert!(cache.get(Oid(1), Tid(6)).is_some());
    assert!(cache.get(Oid(1), Tid(5)).is_none());
}

#[test]
fn values_larger_than_a_shard_are_not_kept() {
    let cache = Cache::new(1000);
    cache.insert(
        Oid(1),
        Tid(1),
        Value::Plain(vec![0; 1000].into()),
        Validity::Current,
    );
    assert_eq!(cache.bytes(), 0);
    let none = Cache::new(0);
    none.insert(Oid(1), Tid(1), plain(""), Validity::Current);
    assert!(none.get(Oid(1), Tid(2)).is_none());
}

#[test]
fn a_stored_value_is_replaced_once_it_is_unpacked() {
    let cache = Cache::new(1 << 20);
    let data = Bytes::from(vec![7; 5000]);
    let record = codec::encode(Oid(1), data.clone(), CompressionSetting::default()).unwrap();
    cache.insert(
        Oid(1),
        Tid(1),
        Value::Stored(record.clone()),
        Validity::Current,
    );
    let small = cache.bytes();
    cache.unpack(Oid(1), Tid(1), &record, &data);
    assert_eq!(cache.bytes(), small - record.data.len() + 5000);
    assert!(matches!(cache.get(Oid(1), Tid(2)).unwrap().value, Value::Plain(d) if d == data));
    // Not another's value, after everything was forgotten.
    let other = codec::encode(
        Oid(1),
        Bytes::from(vec![8; 5000]),
        CompressionSetting::default(),
    )
    .unwrap();
    cache.clear();
    cache.insert(Oid(1), Tid(1), Value::Stored(other), Validity::Current);
    cache.unpack(Oid(1), Tid(1), &record, &data);
    assert!(matches!(
        cache.get(Oid(1), Tid(2)).unwrap().value,
        Value::Stored(_)
    ));
}

/// What may happen to the cache.
#[derive(Debug, Clone)]
enum Step {
    /// Somebody commits these objects; the client does not know yet.
    Commit(Vec<u8>),
    /// The client hears of the next transaction.
    Hear,
    /// A storage is asked, as of the last tid that the client knows, less so many.
    Ask {
        oid: u8,
        back: u8,
    },
    /// It reads: what it answers is decided.
    StorageReads(u8),
    /// Its answer arrives.
    Answer(u8),
    /// The client commits, knowing everything.
    Own(u8),
    /// The client looks.
    Look {
        oid: u8,
        back: u8,
    },
    /// Transactions are missed.
    Reconnect,
    Clear,
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        4 => proptest::collection::vec(0u8..4, 0..3).prop_map(Step::Commit),
        5 => Just(Step::Hear),
        5 => (0u8..4, 0u8..6).prop_map(|(oid, back)| Step::Ask { oid, back }),
        5 => (0u8..3).prop_map(Step::StorageReads),
        5 => (0u8..3).prop_map(Step::Answer),
        1 => (0u8..4).prop_map(Step::Own),
        9 => (0u8..4, 0u8..6).prop_map(|(oid, back)| Step::Look { oid, back }),
        1 => Just(Step::Reconnect),
        1 => Just(Step::Clear),
    ]
}

/// A load on its way, with what the core notes of it.
#[derive(Debug)]
struct InFlight {
    oid: Oid,
    before: Tid,
    /// Serial and next, once the storage has read.
    read: Option<Option<(Tid, Option<Tid>)>>,
    invalidated: Option<Tid>,
    gap: Option<Tid>,
}

#[derive(Debug, Default)]
struct Truth {
    /// Committed: what it changed.
    history: BTreeMap<Tid, Vec<Oid>>,
    last: Tid,
    /// The last that the client has heard of.
    known: Tid,
    in_flight: Vec<InFlight>,
}

impl Truth {
    fn revision(&self, oid: Oid, before: Tid) -> Option<(Tid, Option<Tid>)> {
        let changes = || self.history.iter().filter(|(_, oids)| oids.contains(&oid));
        let serial = *changes().rfind(|(tid, _)| **tid < before)?.0;
        let next = changes()
            .find(|(tid, _)| **tid > serial)
            .map(|(tid, _)| *tid);
        Some((serial, next))
    }

    fn note(&mut self, tid: Tid, oids: &[Oid]) {
        for load in &mut self.in_flight {
            if oids.contains(&load.oid) {
                load.invalidated.get_or_insert(tid);
            }
        }
    }

    fn look(&self, cache: &Cache, oid: Oid, before: Tid) -> Result<(), TestCaseError> {
        let Some(hit) = cache.get(oid, before) else {
            return Ok(());
        };
        let revision = self.revision(oid, before);
        let (serial, next) = revision.expect("what is cached exists");
        prop_assert_eq!(hit.serial, serial);
        if hit.next_is_known {
            // What the client has not heard of is not there for it, unless a storage told.
            let heard = next.filter(|tid| *tid <= self.known);
            prop_assert!(hit.next_serial == heard || hit.next_serial == next);
        }
        let Value::Plain(data) = hit.value else {
            panic!("only plain values are put in");
        };
        prop_assert_eq!(data, value_of(oid, serial));
        Ok(())
    }

    fn step(&mut self, cache: &Cache, step: Step) -> Result<(), TestCaseError> {
        match step {
            Step::Commit(oids) => {
                self.last = Tid(self.last.0 + 1);
                let oids = oids.into_iter().map(|oid| Oid(oid.into())).collect();
                self.history.insert(self.last, oids);
            }
            Step::Hear if self.known < self.last => {
                self.known = Tid(self.known.0 + 1);
                let oids = self.history[&self.known].clone();
                for oid in &oids {
                    cache.invalidate(*oid, self.known);
                }
                self.note(self.known, &oids);
            }
            Step::Ask { oid, back } if self.in_flight.len() < 3 => {
                let before = Tid((self.known.0 + 1).saturating_sub(back.into()));
                self.in_flight.push(InFlight {
                    oid: Oid(oid.into()),
                    before,
                    read: None,
                    invalidated: None,
                    gap: None,
                });
            }
            Step::StorageReads(at) => {
                let revision = self
                    .in_flight
                    .get(usize::from(at))
                    .filter(|load| load.read.is_none())
                    .map(|load| self.revision(load.oid, load.before));
                if let Some(revision) = revision {
                    self.in_flight[usize::from(at)].read = Some(revision);
                }
            }
            Step::Answer(at) => {
                let at = usize::from(at);
                if self
                    .in_flight
                    .get(at)
                    .is_some_and(|load| load.read.is_some())
                {
                    let load = self.in_flight.remove(at);
                    if let Some(Some((serial, next))) = load.read {
                        answered(cache, &load, serial, next);
                    }
                }
            }
            Step::Own(oid) => {
                // The primary tells of everything before.
                while self.known < self.last {
                    self.step(cache, Step::Hear)?;
                }
                let oid = Oid(oid.into());
                self.last = Tid(self.last.0 + 1);
                self.known = self.last;
                self.history.insert(self.last, vec![oid]);
                cache.invalidate(oid, self.last);
                let value = Value::Plain(value_of(oid, self.last));
                cache.insert(oid, self.last, value, Validity::Current);
                self.note(self.last, &[oid]);
            }
            Step::Look { oid, back } => {
                let before = Tid((self.known.0 + 1).saturating_sub(back.into()));
                self.look(cache, Oid(oid.into()), before)?;
            }
            Step::Reconnect => {
                for load in &mut self.in_flight {
                    load.gap.get_or_insert(self.known);
                }
                cache.resync(self.known);
                self.known = self.last;
            }
            Step::Clear => cache.clear(),
            Step::Hear | Step::Ask { .. } => {}
        }
        Ok(())
    }
}

fn value_of(oid: Oid, serial: Tid) -> Bytes {
    Bytes::from(format!("{oid} at {serial}").repeat(1 + (serial.0 % 7) as usize))
}

/// As the core does it.
fn answered(cache: &Cache, load: &InFlight, serial: Tid, next: Option<Tid>) {
    let invalidated = load
        .invalidated
        .filter(|tid| *tid > serial && load.gap.is_none_or(|known| *tid <= known));
    let validity = match (next.or(invalidated), load.gap) {
        (Some(next), _) => Validity::Until(next),
        (None, Some(known)) => Validity::AtLeast(Tid(known.0 + 1)),
        (None, None) => Validity::Current,
    };
    let value = Value::Plain(value_of(load.oid, serial));
    cache.insert(load.oid, serial, value, validity);
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2000))]

    #[test]
    fn the_cache_never_lies_and_is_bounded(
        steps in proptest::collection::vec(step(), 1..120),
        bytes in prop_oneof![Just(600usize), Just(2000), Just(1 << 20)],
    ) {
        let cache = Cache::new(bytes);
        let mut truth = Truth::default();
        for step in steps {
            truth.step(&cache, step)?;
            prop_assert!(cache.bytes() <= bytes);
        }
        for oid in 0..4 {
            for before in 0..=truth.known.0 + 1 {
                truth.look(&cache, Oid(oid), Tid(before))?;
            }
        }
    }
}
