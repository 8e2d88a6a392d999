//! The promises of [`StorageBackend`], each as a test.
//!
//! A backend's whole conformance test is a factory and one line:
//!
//! ```
//! use std::sync::Arc;
//!
//! use neo_api::{BackendInfo, StorageBackend};
//! use neo_backends::{KvBackend, MemoryEngine};
//! use neo_testkit::conformance::backend::BackendFactory;
//!
//! struct Memory;
//!
//! impl BackendFactory for Memory {
//!     type Guard = ();
//!
//!     fn open(&self) -> ((), Arc<dyn StorageBackend>) {
//!         let info = BackendInfo::new("Memory", false);
//!         ((), Arc::new(KvBackend::inline(MemoryEngine::default(), info)))
//!     }
//! }
//!
//! neo_testkit::backend_conformance!(Memory);
//! ```
//!
//! For a database that is a file or a directory, [`OnDisk`] is the factory.

pub mod durability;
pub mod history;
pub mod listings;
pub mod loads;
pub mod packing;
pub mod space;
mod tools;
pub mod unfinished;
pub mod writes;

use std::path::Path;
use std::sync::Arc;

use neo_api::{BackendResult, StorageBackend};
use tempfile::TempDir;

/// How the suite gets at databases.
pub trait BackendFactory: Sync {
    /// What a database needs, a directory say; dropping it removes the database.
    type Guard: Send;

    /// Creates a database that has nothing in it, and opens it.
    fn open(&self) -> (Self::Guard, Arc<dyn StorageBackend>);

    /// Opens a database again; it may still be open, which the backend has to refuse.
    ///
    /// `None` when nothing survives the end of a backend, as the default has it; the cases that
    /// need it are then skipped, and say so.
    fn reopen(&self, _guard: &Self::Guard) -> Option<BackendResult<Arc<dyn StorageBackend>>> {
        None
    }

    /// Creates and opens a database that has room for about so many bytes: some MiB.
    ///
    /// `None`, as the default has it, when the backend has no limit of its own; the cases that need
    /// it are then skipped, and say so.
    fn open_limited(&self, _bytes: u64) -> Option<(Self::Guard, Arc<dyn StorageBackend>)> {
        None
    }
}

/// Databases at a path, which a function opens, and creates where there is none.
#[derive(Debug, Clone, Copy)]
pub struct OnDisk<F>(pub F);

impl<F> BackendFactory for OnDisk<F>
where
    F: Fn(&Path) -> BackendResult<Arc<dyn StorageBackend>> + Sync,
{
    type Guard = TempDir;

    fn open(&self) -> (TempDir, Arc<dyn StorageBackend>) {
        let directory = tempfile::tempdir().expect("a temporary directory is made");
        let backend = (self.0)(&directory.path().join("database"));
        (directory, backend.expect("a database is created"))
    }

    fn reopen(&self, directory: &TempDir) -> Option<BackendResult<Arc<dyn StorageBackend>>> {
        Some((self.0)(&directory.path().join("database")))
    }
}

/// Emits one `#[test]` for each promise of a `StorageBackend`, for a
/// [`BackendFactory`](crate::conformance::backend::BackendFactory).
#[macro_export]
macro_rules! backend_conformance {
    ($factory:expr $(,)?) => {
        $crate::backend_conformance! { @cases $factory;
            loads::an_object_that_does_not_exist
            loads::each_revision_by_each_way
            loads::a_deletion_is_told
            loads::neighbours_are_not_mistaken
            loads::the_ends_of_the_ranges
            loads::last_serials_in_the_order_asked
            loads::many_at_once
            loads::the_newest_of_many
            loads::values_of_every_size
            loads::bytes_come_back_as_they_were
            listings::revisions_within_bounds_in_order
            listings::revisions_page_by_page
            listings::fetch_gives_values
            listings::fetch_stops_at_a_limit
            listings::transactions_within_bounds_in_order
            listings::transactions_page_by_page
            listings::last_ids_of_a_partition
            listings::next_data_id_is_above_all
            listings::bytes_grow_with_what_is_stored
            history::revisions_of_an_object_newest_first
            history::a_history_page_by_page
            history::a_repetition_outlives_what_it_repeats
            history::objects_as_they_were
            history::objects_page_by_page
            packing::what_is_newest_at_the_tid_stays
            packing::packing_page_by_page
            packing::repetitions_of_what_goes
            packing::orders_of_committed_transactions
            packing::orders_that_are_voted
            writes::later_operations_see_earlier_ones
            writes::a_batch_that_fails_has_no_effect
            writes::repeating_a_repetition
            writes::repeating_a_deletion
            writes::an_object_put_twice
            writes::an_object_put_anew_has_the_new_value
            writes::deleting_keeps_a_shared_value
            writes::deleting_what_is_not_there
            writes::transactions_are_put_replaced_deleted
            writes::final_tid_by_name
            writes::configuration
            writes::the_partition_table
            writes::a_table_that_makes_no_sense
            writes::limits_are_refused_without_effect
            unfinished::two_interleaved_transactions
            unfinished::the_same_ttid_in_two_reigns
            unfinished::the_last_of_an_oid_is_kept
            unfinished::many_objects_page_by_page
            unfinished::names_page_by_page
            unfinished::locking_what_is_not_there
            unfinished::dropping_keeps_the_values
            unfinished::loose_values_until_claimed
            unfinished::loose_values_page_by_page
            unfinished::a_commit_from_store_to_unlock
            durability::a_write_is_read_whatever_its_durability
            durability::batches_keep_the_order_of_their_calls
            durability::a_dropped_apply_takes_effect
            durability::a_reader_sees_whole_batches
            durability::after_close_everything_is_refused
            durability::synced_survives_closing
            durability::synced_survives_without_closing
            durability::one_node_at_a_time
            space::what_was_voted_finishes_when_nothing_new_fits
            space::what_is_given_up_makes_room
        }
    };
    (@cases $factory:expr; $($group:ident::$case:ident)*) => {
        $(
            #[test]
            fn $case() {
                $crate::conformance::backend::$group::$case(&$factory);
            }
        )*
    };
}

#[cfg(test)]
mod tests {
    /// A case that the macro forgets would never run.
    #[test]
    fn the_macro_names_every_case() {
        let named = include_str!("backend.rs");
        for (group, source) in [
            ("durability", include_str!("backend/durability.rs")),
            ("history", include_str!("backend/history.rs")),
            ("listings", include_str!("backend/listings.rs")),
            ("loads", include_str!("backend/loads.rs")),
            ("packing", include_str!("backend/packing.rs")),
            ("space", include_str!("backend/space.rs")),
            ("unfinished", include_str!("backend/unfinished.rs")),
            ("writes", include_str!("backend/writes.rs")),
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
