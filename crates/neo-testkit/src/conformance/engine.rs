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

use super::Case;

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
        $crate::engine_conformance! { @list tests ($factory) }
    };
    (@list $what:ident $factory:tt) => {
        $crate::conformance_cases! { $what $factory engine
            reads::what_was_put_is_read
                "get: the value of a key; what is not there is not an error"
            reads::keys_of_every_length
                "KvEngine: keys are 1 to 64 bytes"
            reads::values_of_every_size
                "KvEngine: values are at most 18 bytes longer than an object"
            reads::spaces_are_apart
                "Space: a key space of its own"
            reads::a_scan_is_in_the_order_of_bytes
                "scan: in the order asked, of bytes"
            reads::a_scan_keeps_within_its_bounds
                "scan: keys of a range, which may be empty"
            reads::a_scan_ends_at_its_limit
                "scan: at most limit keys, from none to all"
            reads::bytes_grow_with_what_is_stored
                "bytes: what the database takes, more or less"
            batches::a_batch_is_visible_whatever_its_durability
                "apply: a batch is there once it returned, whatever its durability"
            batches::a_batch_has_writes_of_all_spaces
                "apply: a batch is applied as a whole, in all spaces"
            batches::a_later_write_of_a_key_wins
                "KvBatch: a later write of the same key wins"
            batches::a_value_is_replaced_as_a_whole
                "KvOp::Put: sets a key"
            batches::deleting_what_is_not_there
                "KvOp::Delete: removes a key, if it is there"
            batches::a_reader_sees_whole_batches
                "KvEngine: each call sees a state between two batches"
            batches::a_reader_never_goes_back
                "KvEngine: a batch that was seen stays"
            durability::synced_survives_the_end
                "KvEngine: dropping an engine frees the database, with all that was synced"
            durability::synced_survives_a_crash
                "KvEngine: a Synced batch, and all before it, survives a loss of power"
            durability::an_empty_synced_batch_keeps_what_was_before
                "apply: an empty Synced batch makes everything before it durable"
            durability::a_prefix_survives_a_crash
                "KvEngine: after a crash a prefix of the batches remains"
            durability::a_batch_survives_as_a_whole
                "KvEngine: apply is atomic across a crash"
            durability::one_node_at_a_time
                "KvEngine: two nodes do not have one database open at the same time"
            durability::the_end_frees_the_database
                "KvEngine: dropping an engine frees the database"
            random::it_is_like_a_map
                "KvEngine: an ordered map with atomic, durable batches, whatever is called"
        }
    };
}

/// The cases of the suite, to run them by name.
#[must_use]
pub fn cases<F: EngineFactory>() -> Vec<Case<F>> {
    crate::engine_conformance! { @list table (F) }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A case that the list forgets would never run.
    #[test]
    fn the_list_names_every_case() {
        let cases = cases::<OnDisk<fn(&Path) -> BackendResult<neo_backends::MemoryEngine>>>();
        let names: Vec<&str> = cases.iter().map(|case| case.name).collect();
        let groups = [
            ("batches", include_str!("engine/batches.rs")),
            ("durability", include_str!("engine/durability.rs")),
            ("random", include_str!("engine/random.rs")),
            ("reads", include_str!("engine/reads.rs")),
        ];
        crate::conformance::assert_complete(&names, &groups);
    }
}
