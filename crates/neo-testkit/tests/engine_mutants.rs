//! Engines with one thing wrong: each case of the suite finds one out, at least.

#![expect(clippy::unwrap_used, reason = "a test fails by a panic")]

use std::collections::BTreeMap;
use std::mem;
use std::ops::Bound;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};

use bytes::Bytes;
use neo_api::{
    BackendError, BackendResult, Durability, KeyRange, KvBatch, KvEngine, KvOp, Order, Space,
};
use neo_testkit::conformance::engine::{EngineFactory, cases};

#[macro_use]
#[path = "support/mutants.rs"]
mod mutants;
#[path = "support/power.rs"]
mod power;

use power::{Disk, Powered};

/// What is wrong.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Mutation {
    Nothing,
    EmptyIsNothing,
    KeysAreCut,
    ValuesAreCut,
    OneSpace,
    IgnoresOrder,
    ExcludedIsIncluded,
    LimitOfOneMore,
    NoLimitOfNothing,
    BytesUnknown,
    BufferedIsLater,
    OneSpaceABatch,
    FirstWriteWins,
    ValuesKeepTheirRest,
    DeleteMustFind,
    OneByOne,
    ReadsTheLastButOne,
    EndForgets,
    SyncedIsBuffered,
    EmptySyncedIsNothing,
    TheLastSurvives,
    OpensTwice,
    StaysOpen,
}

use Mutation as M;

type Before = BTreeMap<(Space, Vec<u8>), Option<Bytes>>;

#[derive(Debug)]
struct Mutant {
    inner: Option<Powered>,
    mutation: Mutation,
    waiting: Mutex<Vec<KvOp>>,
    /// What the keys of the last batch had before it.
    before: Mutex<Before>,
    reads: AtomicU64,
    last: Arc<Mutex<KvBatch>>,
}

impl Mutant {
    fn inner(&self) -> &Powered {
        self.inner.as_ref().unwrap()
    }

    fn op(&self, op: KvOp) -> BackendResult<KvOp> {
        Ok(match (op, self.mutation) {
            (KvOp::Put(space, key, value), M::KeysAreCut) => KvOp::Put(space, cut(&key), value),
            (KvOp::Put(space, key, value), M::ValuesAreCut) => {
                KvOp::Put(space, key, value.slice(..value.len().min(1 << 20)))
            }
            (KvOp::Put(_, key, value), M::OneSpace) => KvOp::Put(Space::Data, key, value),
            (KvOp::Delete(_, key), M::OneSpace) => KvOp::Delete(Space::Data, key),
            (KvOp::Put(space, key, value), M::ValuesKeepTheirRest) => {
                let old = self.inner().get(space, &key)?.unwrap_or_default();
                let rest = old.get(value.len()..).unwrap_or_default();
                let value = [&value[..], rest].concat();
                KvOp::Put(space, key, value.into())
            }
            (KvOp::Delete(space, key), M::DeleteMustFind) => {
                let found = self.inner().get(space, &key)?;
                found.ok_or_else(|| BackendError::Corrupt("no such key".to_owned()))?;
                KvOp::Delete(space, key)
            }
            (op, _) => op,
        })
    }
}

fn cut(key: &[u8]) -> Vec<u8> {
    key[..key.len().min(63)].to_vec()
}

fn space_and_key(op: &KvOp) -> (Space, Vec<u8>) {
    let (KvOp::Put(space, key, _) | KvOp::Delete(space, key)) = op;
    (*space, key.clone())
}

fn included(bound: Bound<Vec<u8>>) -> Bound<Vec<u8>> {
    match bound {
        Bound::Excluded(key) => Bound::Included(key),
        bound => bound,
    }
}

impl KvEngine for Mutant {
    fn get(&self, space: Space, key: &[u8]) -> BackendResult<Option<Bytes>> {
        match self.mutation {
            M::KeysAreCut => self.inner().get(space, &cut(key)),
            M::OneSpace => self.inner().get(Space::Data, key),
            M::EmptyIsNothing => {
                let value = self.inner().get(space, key)?;
                Ok(value.filter(|value| !value.is_empty()))
            }
            M::ReadsTheLastButOne if self.reads.fetch_add(1, Ordering::SeqCst) % 2 == 1 => {
                let before = self
                    .before
                    .lock()
                    .unwrap()
                    .get(&(space, key.to_vec()))
                    .cloned();
                before.map_or_else(|| self.inner().get(space, key), Ok)
            }
            _ => self.inner().get(space, key),
        }
    }

    fn scan(
        &self,
        mut space: Space,
        mut range: KeyRange,
        mut order: Order,
        mut limit: usize,
    ) -> BackendResult<Vec<(Bytes, Bytes)>> {
        match self.mutation {
            M::OneSpace => space = Space::Data,
            M::IgnoresOrder => order = Order::Ascending,
            M::ExcludedIsIncluded => range = (included(range.0), included(range.1)),
            M::LimitOfOneMore => limit = limit.saturating_add(1),
            M::NoLimitOfNothing if limit == 0 => limit = usize::MAX,
            _ => {}
        }
        self.inner().scan(space, range, order, limit)
    }

    fn bytes(&self) -> BackendResult<u64> {
        match self.mutation {
            M::BytesUnknown => Ok(0),
            _ => self.inner().bytes(),
        }
    }

    fn apply(&self, batch: KvBatch, mut durability: Durability) -> BackendResult<()> {
        let ops = batch.ops.into_iter().map(|op| self.op(op));
        let mut ops = ops.collect::<BackendResult<Vec<KvOp>>>()?;
        match self.mutation {
            M::SyncedIsBuffered => durability = Durability::Buffered,
            M::EmptySyncedIsNothing if ops.is_empty() => return Ok(()),
            M::FirstWriteWins => ops.reverse(),
            M::OneSpaceABatch => {
                let first = ops.first().map(|op| space_and_key(op).0);
                ops.retain(|op| Some(space_and_key(op).0) == first);
            }
            M::BufferedIsLater => {
                let mut waiting = self.waiting.lock().unwrap();
                waiting.append(&mut ops);
                if durability == Durability::Buffered {
                    return Ok(());
                }
                ops = mem::take(&mut *waiting);
            }
            M::ReadsTheLastButOne => {
                let mut before = BTreeMap::new();
                for (space, key) in ops.iter().map(space_and_key) {
                    before.insert((space, key.clone()), self.inner().get(space, &key)?);
                }
                *self.before.lock().unwrap() = before;
            }
            M::OneByOne => {
                for op in ops {
                    self.inner().apply(KvBatch { ops: vec![op] }, durability)?;
                    std::thread::yield_now();
                }
                return Ok(());
            }
            _ => {}
        }
        let batch = KvBatch { ops };
        if !batch.ops.is_empty() {
            *self.last.lock().unwrap() = batch.clone();
        }
        self.inner().apply(batch, durability)
    }
}

impl Drop for Mutant {
    fn drop(&mut self) {
        if self.mutation == M::StaysOpen {
            mem::forget(self.inner.take());
        }
    }
}

struct Guard {
    disk: Arc<Disk>,
    last: Arc<Mutex<KvBatch>>,
}

impl Mutation {
    fn mutant(self, guard: &Guard) -> BackendResult<Mutant> {
        Ok(Mutant {
            inner: Some(guard.disk.open()?),
            mutation: self,
            waiting: Mutex::default(),
            before: Mutex::default(),
            reads: AtomicU64::new(0),
            last: Arc::clone(&guard.last),
        })
    }
}

impl EngineFactory for Mutation {
    type Guard = Guard;
    type Engine = Mutant;

    fn open(&self) -> (Guard, Mutant) {
        let guard = Guard {
            disk: Disk::empty(),
            last: Arc::default(),
        };
        let mutant = self.mutant(&guard).unwrap();
        (guard, mutant)
    }

    fn reopen(&self, guard: &Guard) -> Option<BackendResult<Mutant>> {
        Some(match (self.mutant(guard), self) {
            (Err(BackendError::InUse(_)), Self::OpensTwice) | (Ok(_), Self::EndForgets) => {
                Ok(self.open().1)
            }
            (outcome, _) => outcome,
        })
    }

    fn crash(&self, guard: &Guard, engine: Mutant) -> Option<BackendResult<Mutant>> {
        drop(engine);
        guard.disk.crash().unwrap();
        if *self == Self::TheLastSurvives {
            let last = guard.last.lock().unwrap().clone();
            guard.disk.contents.apply(last, Durability::Synced).unwrap();
        }
        Some(self.mutant(guard))
    }
}

found_out! {
    reads::what_was_put_is_read: EmptyIsNothing;
    reads::keys_of_every_length: KeysAreCut;
    reads::values_of_every_size: ValuesAreCut;
    reads::spaces_are_apart: OneSpace;
    reads::a_scan_is_in_the_order_of_bytes: IgnoresOrder;
    reads::a_scan_keeps_within_its_bounds: ExcludedIsIncluded;
    reads::a_scan_ends_at_its_limit: LimitOfOneMore NoLimitOfNothing;
    reads::bytes_grow_with_what_is_stored: BytesUnknown;
    batches::a_batch_is_visible_whatever_its_durability: BufferedIsLater;
    batches::a_batch_has_writes_of_all_spaces: OneSpaceABatch;
    batches::a_later_write_of_a_key_wins: FirstWriteWins;
    batches::a_value_is_replaced_as_a_whole: ValuesKeepTheirRest;
    batches::deleting_what_is_not_there: DeleteMustFind;
    batches::a_reader_sees_whole_batches: OneByOne;
    batches::a_reader_never_goes_back: ReadsTheLastButOne;
    durability::synced_survives_the_end: EndForgets;
    durability::synced_survives_a_crash: SyncedIsBuffered;
    durability::an_empty_synced_batch_keeps_what_was_before: EmptySyncedIsNothing;
    durability::a_prefix_survives_a_crash: TheLastSurvives;
    durability::a_batch_survives_as_a_whole: OneByOne;
    durability::one_node_at_a_time: OpensTwice;
    durability::the_end_frees_the_database: StaysOpen;
    random::it_is_like_a_map:
        IgnoresOrder ExcludedIsIncluded LimitOfOneMore FirstWriteWins OneSpaceABatch
        SyncedIsBuffered EndForgets;
}
