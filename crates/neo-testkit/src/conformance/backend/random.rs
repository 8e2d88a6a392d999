//! Any sequence of writes, beside a model.

mod answers;
mod model;
mod state;
mod writes;

use std::fmt::Debug;
use std::sync::Arc;

use neo_api::{Durability, StorageBackend, WriteBatch};
use proptest::prelude::*;
use proptest::test_runner::{Config, TestRunner};

use self::answers::told;
use self::state::State;
use self::writes::{Translator, Write};
use super::capabilities::is_declared;
use super::tools::run;
use super::{BackendFactory, Capability};

#[cfg(test)]
pub(super) use self::model::Model;
#[cfg(not(test))]
use self::model::Model;

/// Whatever is written, every read tells what it tells of a few maps. When one does not, the
/// shortest sequence of batches that shows it is told.
pub fn any_writes_are_read_as_a_model_has_them<F: BackendFactory>(factory: &F) {
    let batches = prop::collection::vec(writes::batch(), 1..14);
    for_any(factory, batches, |batches| {
        let (_guard, backend) = factory.open();
        let mut side_by_side = SideBySide::new(backend);
        run(async {
            for writes in batches {
                side_by_side.apply(writes, Durability::Buffered).await?;
            }
            side_by_side.compare().await
        })
    });
}

/// After a crash there is what was there after some batch, not before the last that was
/// acknowledged as `Synced`; and it is a database to go on with.
pub fn a_prefix_survives_a_crash<F: BackendFactory>(factory: &F) {
    if !is_declared(factory, Capability::Persistent) {
        return;
    }
    let durability = prop_oneof![
        3 => Just(Durability::Buffered),
        1 => Just(Durability::Synced)
    ];
    let batches = prop::collection::vec((writes::batch(), durability), 0..7);
    let lives = prop::collection::vec(batches, 2..4);
    for_any(factory, lives, |lives| {
        let (guard, backend) = factory.open();
        let mut side_by_side = SideBySide::new(backend);
        for batches in lives {
            run(async {
                for (writes, durability) in batches {
                    side_by_side.apply(writes, durability).await?;
                }
                Ok::<_, TestCaseError>(())
            })?;
            let reopened = factory.crash(&guard, side_by_side.backend);
            let reopened = reopened.expect("what is persistent is opened again");
            let backend = reopened.expect("the database opens after a crash");
            side_by_side.backend = backend;
            run(async {
                let found = answers::all(&*side_by_side.backend).await;
                side_by_side.settle(found).await
            })?;
        }
        Ok(())
    });
}

fn for_any<F: BackendFactory, S: Strategy<Value: Debug>>(
    factory: &F,
    inputs: S,
    case: impl Fn(S::Value) -> Result<(), TestCaseError>,
) {
    let config = Config {
        cases: factory.sequences(),
        failure_persistence: None,
        max_shrink_iters: 2_000,
        max_shrink_time: 20_000,
        ..Config::default()
    };
    if let Err(error) = TestRunner::new(config).run(&inputs, case) {
        panic!("{error}");
    }
}

/// A backend, and what it is to be like.
struct SideBySide {
    backend: Arc<dyn StorageBackend>,
    model: Model,
    translator: Translator,
    /// What a crash may leave beside what there is now, the newest last.
    older: Vec<State>,
}

impl SideBySide {
    fn new(backend: Arc<dyn StorageBackend>) -> Self {
        Self {
            backend,
            model: Model::default(),
            translator: Translator::default(),
            older: Vec::new(),
        }
    }

    async fn apply(
        &mut self,
        writes: Vec<Write>,
        durability: Durability,
    ) -> Result<(), TestCaseError> {
        let before = self.model.state().clone();
        let loose = before.loose.keys().copied().collect();
        let batch = self.translator.batch(writes, loose);
        let shown = format!("{:#?}", batch.ops);
        let expected = self.model.apply(batch.clone(), durability).await;
        let is_synced = expected.is_ok() && durability == Durability::Synced;
        let expected = told(expected, |()| "applied".to_owned());
        let found = told(self.backend.apply(batch, durability).await, |()| {
            "applied".to_owned()
        });
        prop_assert_eq!(found, expected, "{}", shown);
        self.older.push(before);
        if is_synced {
            self.older.clear();
        }
        Ok(())
    }

    async fn compare(&self) -> Result<(), TestCaseError> {
        let found = answers::all(&*self.backend).await;
        let expected = answers::all(&self.model).await;
        for (found, expected) in found.into_iter().zip(expected) {
            prop_assert_eq!(found, expected);
        }
        self.check_next_id().await
    }

    async fn check_next_id(&self) -> Result<(), TestCaseError> {
        let next = self.backend.next_data_id().await;
        let next = next.map_err(|error| TestCaseError::fail(error.to_string()))?;
        let last = self.model.state().data.keys().next_back().copied();
        prop_assert!(last < Some(next), "{:?} is not above {:?}", next, last);
        Ok(())
    }

    /// What a crash left is one of the states that it may leave, and the one to go on with.
    async fn settle(&mut self, found: Vec<String>) -> Result<(), TestCaseError> {
        let now = self.model.state().clone();
        let expected = answers::all(&self.model).await;
        let older = std::mem::take(&mut self.older);
        for state in [now].into_iter().chain(older.into_iter().rev()) {
            self.model = Model::of(state);
            if answers::all(&self.model).await == found {
                // It stays: the next crash may not take it back.
                let batch = WriteBatch::new();
                let synced = self.backend.apply(batch, Durability::Synced).await;
                synced.map_err(|error| TestCaseError::fail(error.to_string()))?;
                return self.check_next_id().await;
            }
        }
        let differ = |(found, expected): &(String, String)| found != expected;
        let differing = found.into_iter().zip(expected).find(differ);
        prop_assert!(false, "after a crash there is no prefix: {:?}", differing);
        Ok(())
    }
}
