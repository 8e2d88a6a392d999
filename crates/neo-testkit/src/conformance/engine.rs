//! The promises of [`KvEngine`], each as a test.
//!
//! An engine's whole conformance test is a factory and one line:
//!
//! ```
//! use neo_backends::MemoryEngine;
//! use neo_testkit::conformance::engine::EngineFactory;
//!
//! struct Memory;
//!
//! impl EngineFactory for Memory {
//!     type Guard = ();
//!     type Engine = MemoryEngine;
//!
//!     fn open(&self) -> ((), MemoryEngine) {
//!         ((), MemoryEngine::default())
//!     }
//! }
//!
//! neo_testkit::engine_conformance!(Memory);
//! ```
//!
//! For one in a file or a directory, [`OnDisk`] is the factory. The suite of a backend
//! ([`backend_conformance!`](crate::backend_conformance)) then shows that `KvBackend` gets along
//! with it; where an engine is wrong, this one says so in its own words.

pub mod batches;
pub mod durability;
pub mod random;
pub mod reads;
mod tools;

use std::path::Path;

use neo_api::{BackendResult, KvEngine};
use tempfile::TempDir;

pub use super::backend::OnDisk;

/// How the suite gets at engines.
pub trait EngineFactory: Sync {
    /// What a database needs, a directory say; dropping it removes the database.
    type Guard: Send;
    /// The engine.
    type Engine: KvEngine;

    /// Creates a database that has nothing in it, and opens it.
    fn open(&self) -> (Self::Guard, Self::Engine);

    /// Opens a database again; it may still be open, which the engine has to refuse.
    ///
    /// `None` when nothing survives the end of an engine, as the default has it; the cases that
    /// need it are then skipped, and say so.
    fn reopen(&self, _guard: &Self::Guard) -> Option<BackendResult<Self::Engine>> {
        None
    }

    /// Ends an engine as a loss of power would, or as nearly so as it can be made to, and opens
    /// the database again. By default the engine is dropped.
    fn crash(
        &self,
        guard: &Self::Guard,
        engine: Self::Engine,
    ) -> Option<BackendResult<Self::Engine>> {
        drop(engine);
        self.reopen(guard)
    }
}

impl<F, E> EngineFactory for OnDisk<F>
where
    F: Fn(&Path) -> BackendResult<E> + Sync,
    E: KvEngine,
{
    type Guard = TempDir;
    type Engine = E;

    fn open(&self) -> (TempDir, E) {
        let directory = tempfile::tempdir().expect("a temporary directory is made");
        let engine = (self.0)(&directory.path().join("database"));
        (directory, engine.expect("a database is created"))
    }

    fn reopen(&self, directory: &TempDir) -> Option<BackendResult<E>> {
        Some((self.0)(&directory.path().join("database")))
    }
}

/// Emits one `#[test]` for each promise of a `KvEngine`, for an
/// [`EngineFactory`](crate::conformance::engine::EngineFactory).
#[macro_export]
macro_rules! engine_conformance {
    ($factory:expr $(,)?) => {
        $crate::engine_conformance! { @cases $factory;
            reads::what_was_put_is_read
            reads::keys_of_every_length
            reads::values_of_every_size
            reads::spaces_are_apart
            reads::a_scan_is_in_the_order_of_bytes
            reads::a_scan_keeps_within_its_bounds
            reads::a_scan_ends_at_its_limit
            reads::bytes_grow_with_what_is_stored
            batches::a_batch_is_visible_whatever_its_durability
            batches::a_batch_has_writes_of_all_spaces
            batches::a_later_write_of_a_key_wins
            batches::a_value_is_replaced_as_a_whole
            batches::deleting_what_is_not_there
            batches::a_reader_sees_whole_batches
            batches::a_reader_never_goes_back
            durability::synced_survives_the_end
            durability::synced_survives_a_crash
            durability::an_empty_synced_batch_keeps_what_was_before
            durability::a_prefix_survives_a_crash
            durability::a_batch_survives_as_a_whole
            durability::one_node_at_a_time
            durability::the_end_frees_the_database
            random::it_is_like_a_map
        }
    };
    (@cases $factory:expr; $($group:ident::$case:ident)*) => {
        $(
            #[test]
            fn $case() {
                $crate::conformance::engine::$group::$case(&$factory);
            }
        )*
    };
}

#[cfg(test)]
mod tests {
    /// A case that the macro forgets would never run.
    #[test]
    fn the_macro_names_every_case() {
        let named = include_str!("engine.rs");
        for (group, source) in [
            ("batches", include_str!("engine/batches.rs")),
            ("durability", include_str!("engine/durability.rs")),
            ("random", include_str!("engine/random.rs")),
            ("reads", include_str!("engine/reads.rs")),
        ] {
            for case in source.split("\npub fn ").skip(1) {
                let case = case.split('<').next().unwrap();
                assert!(
                    named.contains(&format!(" {group}::{case}\n")),
                    "{group}::{case}"
                );
            }
        }
    }
}
