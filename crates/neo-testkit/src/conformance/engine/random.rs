//! Any sequence of calls, beside a map.

use bytes::Bytes;
use neo_api::{Durability, KeyRange, KvBatch, KvEngine, KvOp, Order, Space};
use proptest::prelude::*;
use proptest::test_runner::{Config, TestRunner};

use super::EngineFactory;
use super::tools::Model;

/// Sequences that are tried.
const CASES: u32 = 48;

/// One call, or the end of an engine.
#[derive(Debug, Clone)]
enum Step {
    Apply(Vec<KvOp>, Durability),
    Get(Space, Vec<u8>),
    Scan(Space, KeyRange, Order, usize),
    /// Synced, dropped and opened again.
    Reopen,
    Crash,
}

fn space() -> impl Strategy<Value = Space> {
    // The first, the last, and two that are neighbours.
    prop::sample::select(vec![
        Space::Config,
        Space::Data,
        Space::Unfinished,
        Space::Loose,
    ])
}

/// Few, so that they meet; some are the beginning of others.
fn key() -> impl Strategy<Value = Vec<u8>> {
    prop::collection::vec(prop::sample::select(vec![0, 1, 0xff]), 1..4)
}

fn value() -> impl Strategy<Value = Bytes> {
    let bytes = prop_oneof![8 => 0..20_usize, 1 => 3_000..20_000_usize];
    (bytes, any::<u8>()).prop_map(|(n, byte)| vec![byte; n].into())
}

fn op() -> impl Strategy<Value = KvOp> {
    prop_oneof![
        3 => (space(), key(), value()).prop_map(|(space, key, value)| KvOp::Put(space, key, value)),
        1 => (space(), key()).prop_map(|(space, key)| KvOp::Delete(space, key)),
    ]
}

fn range() -> impl Strategy<Value = KeyRange> {
    use std::ops::Bound::{Excluded, Included, Unbounded};
    let bounds = (0..3_u8, 0..3_u8);
    (key(), key(), bounds).prop_map(|(a, b, (from, to))| {
        let (least, greatest) = if a <= b { (a, b) } else { (b, a) };
        let bound = |kind, key| match kind {
            0 => Unbounded,
            1 => Included(key),
            _ => Excluded(key),
        };
        (bound(from, least), bound(to, greatest))
    })
}

fn step() -> impl Strategy<Value = Step> {
    let durability = prop_oneof![
        2 => Just(Durability::Buffered),
        1 => Just(Durability::Synced)
    ];
    let order = prop::sample::select(vec![Order::Ascending, Order::Descending]);
    let limit = prop_oneof![2 => 0..9_usize, 1 => Just(usize::MAX)];
    let scan = (space(), range(), order, limit);
    prop_oneof![
        6 => (prop::collection::vec(op(), 0..12), durability).prop_map(|(ops, d)| Step::Apply(ops, d)),
        2 => (space(), key()).prop_map(|(space, key)| Step::Get(space, key)),
        4 => scan.prop_map(|(space, range, order, limit)| Step::Scan(space, range, order, limit)),
        1 => Just(Step::Reopen),
        1 => Just(Step::Crash),
    ]
}

/// Whatever is called, an engine answers as a map would, and has after a crash what the map had after
/// some batch that is not before the last that was synced. When it does not, the shortest sequence
/// that shows it is told.
pub fn it_is_like_a_map<F: EngineFactory>(factory: &F) {
    let config = Config {
        cases: CASES,
        failure_persistence: None,
        ..Config::default()
    };
    let steps = prop::collection::vec(step(), 1..40);
    let outcome = TestRunner::new(config).run(&steps, |steps| run(factory, steps));
    if let Err(error) = outcome {
        panic!("{error}");
    }
}

fn run<F: EngineFactory>(factory: &F, steps: Vec<Step>) -> Result<(), TestCaseError> {
    let fail = |error| TestCaseError::fail(format!("an error: {error}"));
    let (guard, mut engine) = factory.open();
    let mut model = Model::default();
    // What may be left after a crash, beside the model.
    let mut older = Vec::new();
    for step in steps {
        match step {
            Step::Apply(ops, durability) => {
                let before = model.clone();
                model.apply(&ops);
                engine.apply(KvBatch { ops }, durability).map_err(fail)?;
                match durability {
                    Durability::Buffered => older.push(before),
                    Durability::Synced => older.clear(),
                }
            }
            Step::Get(space, key) => {
                let found = engine.get(space, &key).map_err(fail)?;
                prop_assert_eq!(found, model.get(space, &key), "{:?} of {:?}", key, space);
            }
            Step::Scan(space, range, order, limit) => {
                let found = engine
                    .scan(space, range.clone(), order, limit)
                    .map_err(fail)?;
                let expected = model.scan(space, &range, order, limit);
                prop_assert_eq!(found, expected, "{:?} of {:?}", range, space);
            }
            Step::Reopen => {
                engine
                    .apply(KvBatch::default(), Durability::Synced)
                    .map_err(fail)?;
                older.clear();
                drop(engine);
                let Some(reopened) = factory.reopen(&guard) else {
                    return Ok(());
                };
                engine = reopened.map_err(fail)?;
            }
            Step::Crash => {
                let Some(reopened) = factory.crash(&guard, engine) else {
                    return Ok(());
                };
                engine = reopened.map_err(fail)?;
                let found = Model::of(&engine);
                prop_assert!(
                    found == model || older.contains(&found),
                    "after a crash there is {:?}, and not {:?} or what was before",
                    found,
                    model
                );
                // What is there now is there: the next crash may not take it back.
                engine
                    .apply(KvBatch::default(), Durability::Synced)
                    .map_err(fail)?;
                older.clear();
                model = found;
            }
        }
        prop_assert!(Model::of(&engine) == model, "not what the writes make");
    }
    Ok(())
}
