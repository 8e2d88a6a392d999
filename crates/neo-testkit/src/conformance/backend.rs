//! The promises of [`StorageBackend`](neo_api::StorageBackend), each as a test.
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
//! For a database that is a file or a directory, [`OnDisk`] is the factory. What a backend can do
//! beyond what each must, its factory declares ([`Capability`]).

pub mod capabilities;
pub mod durability;
mod factory;
pub mod history;
pub mod listings;
pub mod loads;
pub mod packing;
pub mod random;
pub mod readers;
pub mod space;
mod tools;
pub mod unfinished;
pub mod writes;

pub use self::factory::{BackendFactory, Capability, OnDisk};
use super::Case;

/// Emits one `#[test]` for each promise of a `StorageBackend`, for a
/// [`BackendFactory`](crate::conformance::backend::BackendFactory).
#[macro_export]
macro_rules! backend_conformance {
    ($factory:expr $(,)?) => {
        $crate::backend_conformance! { @list tests ($factory) }
    };
    (@list $what:ident $factory:tt) => {
        $crate::conformance_cases! { $what $factory backend
            loads::an_object_that_does_not_exist
                "load: an oid without revisions is Unknown, which is no error (rule 9)"
            loads::each_revision_by_each_way
                "load: each revision as it is asked for, with the serial of the next one"
            loads::a_deletion_is_told
                "load: a deletion is a revision, and is told"
            loads::neighbours_are_not_mistaken
                "load: next_serial is that of the next committed revision of the object"
            loads::the_ends_of_the_ranges
                "load: every id that can be written can be read"
            loads::last_serials_in_the_order_asked
                "last_serials: the newest revision of each, in the order asked"
            loads::many_at_once
                "load_many: as load tells each, in the order asked, until the bytes are reached"
            loads::the_newest_of_many
                "newest_before: the first entry of each history, in the order asked"
            loads::values_of_every_size
                "info: values have up to object_bytes_max bytes"
            loads::bytes_come_back_as_they_were
                "rule 8: bytes come back as they were given"
            listings::revisions_within_bounds_in_order
                "revisions: within the bounds, in order of (tid, oid)"
            listings::revisions_page_by_page
                "revisions: a page of fewer than the limit is the last"
            listings::fetch_gives_values
                "fetch: as revisions, with their values"
            listings::fetch_stops_at_a_limit
                "PageLimit: a page ends because it reached a limit, or because nothing is left"
            listings::transactions_within_bounds_in_order
                "transactions: within the bounds, in the order that is asked for"
            listings::transactions_page_by_page
                "PageLimit: a page that reached no limit is the last"
            listings::last_ids_of_a_partition
                "last_ids: least and greatest ids of a partition"
            listings::next_data_id_is_above_all
                "next_data_id: greater than any in use"
            listings::bytes_grow_with_what_is_stored
                "bytes: what the database takes, more or less"
            history::revisions_of_an_object_newest_first
                "history: revisions below a tid, newest first, deletions included"
            history::a_history_page_by_page
                "history: a page of fewer than the limit is the last"
            history::a_repetition_outlives_what_it_repeats
                "WriteOp::DeleteObject: a value stays as long as a revision has it"
            history::objects_as_they_were
                "current: of each object the newest revision at a tid, unless it is a deletion"
            history::objects_page_by_page
                "current: the next page begins after the last object that was looked at"
            packing::what_is_newest_at_the_tid_stays
                "obsolete: all before the newest revision at a tid, and a deletion itself"
            packing::packing_page_by_page
                "obsolete: a page looks at no more than limit revisions and one more"
            packing::repetitions_of_what_goes
                "WriteOp::DeleteObject: a data_serial names a revision that is there"
            packing::orders_of_committed_transactions
                "pack_orders: orders after a tid, in order of tid"
            packing::orders_that_are_voted
                "WriteOp::PutUnfinished: the metadata of a vote, its order to pack included"
            writes::later_operations_see_earlier_ones
                "apply: a later operation sees what an earlier one of the batch did"
            writes::a_batch_that_fails_has_no_effect
                "rule 4: an error from apply means that the batch had no effect"
            writes::repeating_a_repetition
                "ObjectData::SameAs: the value of the revision named, which becomes the data_serial"
            writes::repeating_a_deletion
                "ObjectData::SameAs: to repeat a deletion is to delete, and keeps the data_serial"
            writes::an_object_put_twice
                "WriteOp::PutObject: one of the same (oid, tid) is replaced"
            writes::an_object_put_anew_has_the_new_value
                "WriteOp::PutObject: what is replaced has the new value"
            writes::deleting_keeps_a_shared_value
                "WriteOp::DeleteObject: removes the value unless another revision has it"
            writes::deleting_what_is_not_there
                "WriteOp::DeleteObject: nothing when there is none"
            writes::transactions_are_put_replaced_deleted
                "WriteOp::PutTransaction: one of the same tid is replaced"
            writes::final_tid_by_name
                "final_tid: of what is committed here, by name, unless it is unfinished"
            writes::configuration
                "WriteOp::SetConfig: sets a key, None removes it"
            writes::the_partition_table
                "WriteOp::ChangeCells: changes cells of the stored table"
            writes::a_table_that_makes_no_sense
                "WriteOp::SetPartitionTable: only one that passes its check"
            writes::limits_are_refused_without_effect
                "apply: Unsupported for what WriteBatch::check refuses, without effect"
            unfinished::two_interleaved_transactions
                "unfinished: transactions that have voted, each by itself"
            unfinished::the_same_ttid_in_two_reigns
                "TxnId: a ttid names a transaction only together with its reign"
            unfinished::the_last_of_an_oid_is_kept
                "WriteOp::PutUnfinishedObjects: an oid given twice keeps the last"
            unfinished::many_objects_page_by_page
                "unfinished_objects: in order of oid, page by page"
            unfinished::names_page_by_page
                "unfinished: in order of name, page by page"
            unfinished::locking_what_is_not_there
                "WriteOp::LockUnfinished: nothing when there is none of that name"
            unfinished::dropping_keeps_the_values
                "WriteOp::DropUnfinished: the values stay, and are loose no more"
            unfinished::loose_values_until_claimed
                "loose_data: values with an owner, until a revision claims them"
            unfinished::loose_values_page_by_page
                "loose_data: in order of (name, data id), page by page"
            unfinished::a_commit_from_store_to_unlock
                "StorageBackend: all that a node does for a commit"
            durability::a_write_is_read_whatever_its_durability
                "rule 2: a batch is visible once apply returned, whatever its durability"
            durability::batches_keep_the_order_of_their_calls
                "rule 2: batches take effect in the order in which apply was called"
            durability::a_dropped_apply_takes_effect
                "rule 5: a batch takes effect although its future is dropped"
            durability::after_close_everything_is_refused
                "close: calls after it fail with Closed"
            durability::synced_survives_closing
                "close: makes durable what was applied"
            durability::synced_survives_without_closing
                "rule 3: an acknowledged Synced batch, and all before it, survives"
            durability::one_node_at_a_time
                "rule 6: two nodes do not open one database at the same time"
            readers::a_reader_sees_whole_batches
                "StorageBackend: a read sees all of a batch or nothing of it"
            readers::pages_while_others_write
                "StorageBackend: pages tell all that stays, once and in order, beside a writer"
            random::any_writes_are_read_as_a_model_has_them
                "StorageBackend: every read tells what the writes make, whatever they are"
            random::a_prefix_survives_a_crash
                "rules 1, 3: after a crash a prefix of whole batches remains, with each Synced one"
            space::what_was_voted_finishes_when_nothing_new_fits
                "rule 7: what was allowed to vote can lock and unlock on a full disk"
            space::what_is_given_up_makes_room
                "rule 7: Full is a refusal, after which reads and other writes go on"
            capabilities::the_declared_capabilities
                "BackendFactory: what is declared is there, and nothing else"
        }
    };
}

/// The cases of the suite, to run them by name.
#[must_use]
pub fn cases<F: BackendFactory>() -> Vec<Case<F>> {
    crate::backend_conformance! { @list table (F) }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use neo_api::StorageBackend;

    use super::*;

    struct Models;

    impl BackendFactory for Models {
        type Guard = ();

        fn open(&self) -> ((), Arc<dyn StorageBackend>) {
            ((), Arc::new(random::Model::default()))
        }

        fn declared(&self) -> &[Capability] {
            &[Capability::Inline]
        }
    }

    /// It has no end and few limits; all else that a backend promises, it does.
    #[test]
    fn what_backends_are_compared_with_is_right() {
        let lacks = [
            "durability::after_close_everything_is_refused",
            "writes::limits_are_refused_without_effect",
        ];
        for case in cases::<Models>() {
            assert_eq!(
                case.failure(&Models).is_some(),
                lacks.contains(&case.name),
                "{case:?}"
            );
        }
    }

    /// A case that the list forgets would never run.
    #[test]
    fn the_list_names_every_case() {
        let cases = cases::<Models>();
        let names: Vec<&str> = cases.iter().map(|case| case.name).collect();
        let groups = [
            ("capabilities", include_str!("backend/capabilities.rs")),
            ("durability", include_str!("backend/durability.rs")),
            ("history", include_str!("backend/history.rs")),
            ("listings", include_str!("backend/listings.rs")),
            ("loads", include_str!("backend/loads.rs")),
            ("packing", include_str!("backend/packing.rs")),
            ("random", include_str!("backend/random.rs")),
            ("readers", include_str!("backend/readers.rs")),
            ("space", include_str!("backend/space.rs")),
            ("unfinished", include_str!("backend/unfinished.rs")),
            ("writes", include_str!("backend/writes.rs")),
        ];
        crate::conformance::assert_complete(&names, &groups);
    }
}
