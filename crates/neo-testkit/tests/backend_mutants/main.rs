//! The conformance suite sees what it is for: each of its cases finds out a backend that breaks its
//! promise.

#![expect(clippy::unwrap_used, reason = "a test fails by a panic")]

mod mutant;
#[macro_use]
#[path = "../support/mutants.rs"]
mod mutants;
mod mutation;
#[path = "../support/power.rs"]
mod power;
mod writes;

use mutation::Mutation;
use neo_testkit::conformance::backend::cases;

found_out! {
    loads::an_object_that_does_not_exist: UnknownIsNotYet;
    loads::each_revision_by_each_way: NoSuccessors;
    loads::a_deletion_is_told: DeletionsAreUnknown;
    loads::neighbours_are_not_mistaken: SuccessorsOfOthers;
    loads::the_ends_of_the_ranges: GreatestOidIsUnknown;
    loads::last_serials_in_the_order_asked: SerialsBackwards;
    loads::many_at_once: LoadsBackwards LoadsEverything LoadsOneLess;
    loads::the_newest_of_many: NewestIncludesBefore NewestWithoutDeletions;
    loads::values_of_every_size: ValuesAreCut;
    loads::bytes_come_back_as_they_were: ForgetsCompression;
    listings::revisions_within_bounds_in_order: RevisionsByOid;
    listings::revisions_page_by_page: RevisionsShortPage;
    listings::fetch_gives_values: FetchWithoutValues FetchWithoutRepetitions;
    listings::fetch_stops_at_a_limit: FetchIgnoresBytes;
    listings::transactions_within_bounds_in_order: TransactionsIgnoreOrder;
    listings::transactions_page_by_page: TransactionsOnePageOnly;
    listings::last_ids_of_a_partition: LastIdsOfAnother;
    listings::next_data_id_is_above_all: NextDataIdIsTheLast;
    listings::bytes_grow_with_what_is_stored: BytesUnknown BytesInKibibytes;
    history::revisions_of_an_object_newest_first:
        HistoryAscending HistoryIncludesBefore HistoryWithoutDeletions HistoryWithoutRepetitions;
    history::a_history_page_by_page: HistoryShortPage;
    history::a_repetition_outlives_what_it_repeats: DeletionsTakeTheValue RepetitionsHaveNoSize;
    history::objects_as_they_were:
        CurrentTellsDeletions CurrentIgnoresTid CurrentExcludesTid CurrentWithoutValues;
    history::objects_page_by_page: CurrentSkipsEmptyPages CurrentEndsEarly CurrentIgnoresMin;
    packing::what_is_newest_at_the_tid_stays:
        ObsoleteKeepsDeletions ObsoleteIgnoresTid ObsoleteNewestFirst;
    packing::packing_page_by_page:
        ObsoleteTakesTheNewest ObsoleteEndsEarly ObsoleteWithoutLimit;
    packing::repetitions_of_what_goes: FetchWithoutRepetitions;
    packing::orders_of_committed_transactions:
        OrdersIncludeAfter OrdersOfAllObjects OrdersWithoutLimit;
    packing::orders_that_are_voted: VotesWithoutOrders;
    writes::later_operations_see_earlier_ones: Backwards;
    writes::a_batch_that_fails_has_no_effect: OneByOne;
    writes::repeating_a_repetition: RepetitionsAreOriginals;
    writes::repeating_a_deletion: FetchWithoutRepetitions;
    writes::an_object_put_twice: PutsOnce;
    writes::an_object_put_anew_has_the_new_value: FirstPutStays;
    writes::deleting_keeps_a_shared_value: DeletionsTakeTheValue;
    writes::deleting_what_is_not_there: DeletionsMustFind;
    writes::transactions_are_put_replaced_deleted: TransactionsWithoutExtension;
    writes::final_tid_by_name: NoFinalTids;
    writes::configuration: EmptyConfigIsNone ConfigIsCut;
    writes::the_partition_table: CellsDoNotChange;
    writes::a_table_that_makes_no_sense: TakesWhatIsUnsupported;
    writes::limits_are_refused_without_effect: TakesWhatIsUnsupported;
    unfinished::two_interleaved_transactions: ObjectsOfTheFirst;
    unfinished::the_same_ttid_in_two_reigns: ReignsAreIgnored;
    unfinished::the_last_of_an_oid_is_kept: FirstOfAnOid;
    unfinished::many_objects_page_by_page: ObjectsBackwards;
    unfinished::names_page_by_page: NamesBackwards;
    unfinished::locking_what_is_not_there: LocksCreate;
    unfinished::dropping_keeps_the_values: DropsTakeTheValues;
    unfinished::loose_values_until_claimed: NothingIsLoose;
    unfinished::loose_values_page_by_page: LooseBackwards;
    unfinished::a_commit_from_store_to_unlock: LocksAreForgotten PutsOnce;
    durability::a_write_is_read_whatever_its_durability: BufferedIsLater;
    durability::batches_keep_the_order_of_their_calls: AppliesWhenPolled;
    durability::a_dropped_apply_takes_effect: AppliesWhenPolled;
    durability::after_close_everything_is_refused: AnswersAfterClose;
    durability::synced_survives_closing: EndForgets;
    durability::synced_survives_without_closing: EndForgets;
    durability::one_node_at_a_time: OpensTwice;
    readers::a_reader_sees_whole_batches: OneByOne;
    readers::pages_while_others_write: PagesMove;
    random::any_writes_are_read_as_a_model_has_them:
        NoSuccessors FetchIgnoresBytes LocksCreate ObsoleteIgnoresTid OneByOne;
    random::a_prefix_survives_a_crash: SyncedIsBuffered EndForgets OneByOne;
    space::what_was_voted_finishes_when_nothing_new_fits: LocksNeedSpace;
    space::what_is_given_up_makes_room: StaysFull;
    capabilities::the_declared_capabilities:
        SaysItIsNotPersistent BufferedIsSynced LimitIsIgnored AnswersLate;
}
