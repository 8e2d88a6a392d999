//! What can be wrong with a backend.

use std::sync::Arc;

use neo_api::{BackendError, BackendResult, StorageBackend};
use neo_testkit::conformance::backend::{BackendFactory, Capability};

use super::mutant::Mutant;
use super::power::Disk;

/// A promise that is broken.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Mutation {
    /// None: the suite must be content.
    Nothing,
    UnknownIsNotYet,
    NoSuccessors,
    DeletionsAreUnknown,
    SuccessorsOfOthers,
    GreatestOidIsUnknown,
    SerialsBackwards,
    LoadsBackwards,
    LoadsEverything,
    LoadsOneLess,
    NewestIncludesBefore,
    NewestWithoutDeletions,
    ValuesAreCut,
    ForgetsCompression,
    RevisionsByOid,
    RevisionsShortPage,
    FetchWithoutValues,
    FetchWithoutRepetitions,
    FetchIgnoresBytes,
    TransactionsIgnoreOrder,
    TransactionsOnePageOnly,
    LastIdsOfAnother,
    NextDataIdIsTheLast,
    BytesUnknown,
    BytesInKibibytes,
    HistoryAscending,
    HistoryIncludesBefore,
    HistoryWithoutDeletions,
    HistoryWithoutRepetitions,
    HistoryShortPage,
    DeletionsTakeTheValue,
    RepetitionsHaveNoSize,
    CurrentTellsDeletions,
    CurrentIgnoresTid,
    CurrentExcludesTid,
    CurrentWithoutValues,
    CurrentSkipsEmptyPages,
    CurrentEndsEarly,
    CurrentIgnoresMin,
    ObsoleteKeepsDeletions,
    ObsoleteIgnoresTid,
    ObsoleteNewestFirst,
    ObsoleteTakesTheNewest,
    ObsoleteEndsEarly,
    ObsoleteWithoutLimit,
    RepetitionsAreOriginals,
    OrdersIncludeAfter,
    OrdersOfAllObjects,
    OrdersWithoutLimit,
    VotesWithoutOrders,
    Backwards,
    OneByOne,
    PutsOnce,
    FirstPutStays,
    DeletionsMustFind,
    TransactionsWithoutExtension,
    NoFinalTids,
    EmptyConfigIsNone,
    ConfigIsCut,
    CellsDoNotChange,
    TakesWhatIsUnsupported,
    ObjectsOfTheFirst,
    ReignsAreIgnored,
    FirstOfAnOid,
    ObjectsBackwards,
    NamesBackwards,
    LocksCreate,
    DropsTakeTheValues,
    NothingIsLoose,
    LooseBackwards,
    LocksAreForgotten,
    BufferedIsLater,
    AppliesWhenPolled,
    AnswersAfterClose,
    EndForgets,
    OpensTwice,
    PagesMove,
    SyncedIsBuffered,
    LocksNeedSpace,
    StaysFull,
    SaysItIsNotPersistent,
    BufferedIsSynced,
    LimitIsIgnored,
    AnswersLate,
}

impl Mutation {
    fn backend(
        self,
        disk: &Arc<Disk>,
        limit: Option<u64>,
    ) -> BackendResult<Arc<dyn StorageBackend>> {
        Ok(Arc::new(Mutant::new(disk.open()?, self, limit)))
    }

    fn create(self, limit: Option<u64>) -> (Arc<Disk>, Arc<dyn StorageBackend>) {
        let disk = Disk::empty();
        let backend = self.backend(&disk, limit).unwrap();
        (disk, backend)
    }
}

impl BackendFactory for Mutation {
    type Guard = Arc<Disk>;

    fn open(&self) -> (Arc<Disk>, Arc<dyn StorageBackend>) {
        self.create(None)
    }

    fn declared(&self) -> &[Capability] {
        &Capability::ALL
    }

    fn reopen(&self, disk: &Arc<Disk>) -> Option<BackendResult<Arc<dyn StorageBackend>>> {
        Some(match (self.backend(disk, None), self) {
            (Err(BackendError::InUse(_)), Self::OpensTwice) | (Ok(_), Self::EndForgets) => {
                Ok(self.open().1)
            }
            (outcome, _) => outcome,
        })
    }

    fn crash(
        &self,
        disk: &Arc<Disk>,
        backend: Arc<dyn StorageBackend>,
    ) -> Option<BackendResult<Arc<dyn StorageBackend>>> {
        drop(backend);
        disk.crash().unwrap();
        self.reopen(disk)
    }

    fn open_limited(&self, bytes: u64) -> Option<(Arc<Disk>, Arc<dyn StorageBackend>)> {
        Some(self.create(Some(bytes)))
    }
}
