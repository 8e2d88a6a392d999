//! Any message, made of any bytes: every variant, every field.

use bytes::Bytes;
use neo_api::{
    Address, At, Cell, CellChange, CellState, Checksum, ClusterId, ClusterState, Compression,
    Epoch, EpochId, HistoryEntry, NodeId, NodeState, NodeType, Oid, Order, PackOrder, Partition,
    PartitionTable, Ptid, Reign, RevisionId, SessionId, TableVersion, Tid, TransactionMeta, TxnId,
};
use neo_proto::{
    AssignedPartition, CellLastIds, ClusterIdentity, ErrorCode, FinalTid, Identification, MsgId,
    NodeInfo, ObjectAnswer, Oids, PackProgress, PackState, PackedCell, Packet, Recovery,
    RelockOutcome, StoreKind, StoreOutcome, UndoRevision, WireLastIds, WireRevision,
    WireTransaction, WireValue,
};

/// Bytes that choices are made of; zeros when they are used up.
#[derive(Debug)]
pub(crate) struct Source<'a>(pub(crate) &'a [u8]);

impl Source<'_> {
    /// The next byte.
    pub(crate) fn byte(&mut self) -> u8 {
        match self.0.split_first() {
            Some((first, rest)) => {
                self.0 = rest;
                *first
            }
            None => 0,
        }
    }

    /// A number below `n`.
    pub(crate) fn below(&mut self, n: usize) -> usize {
        (usize::from(self.byte()) << 8 | usize::from(self.byte())) % n
    }

    /// Up to `max` of the next bytes.
    pub(crate) fn bytes(&mut self, max: usize) -> &[u8] {
        let len = self.below(max + 1).min(self.0.len());
        let (bytes, rest) = self.0.split_at(len);
        self.0 = rest;
        bytes
    }

    /// Whether nothing is left.
    pub(crate) const fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Any value.
    pub(crate) fn any<T: Any>(&mut self) -> T {
        T::any(self)
    }
}

/// What can be made of bytes.
pub(crate) trait Any {
    fn any(source: &mut Source<'_>) -> Self;
}

macro_rules! any {
    ($source:ident: $($type:ty => $value:expr),+ $(,)?) => {$(
        impl Any for $type {
            fn any($source: &mut Source<'_>) -> Self {
                $value
            }
        }
    )+};
}

macro_rules! any_struct {
    ($($type:ident { $($field:ident),+ })+) => {$(
        impl Any for $type {
            fn any(source: &mut Source<'_>) -> Self {
                Self { $($field: source.any()),+ }
            }
        }
    )+};
}

impl<T: Any> Any for Option<T> {
    fn any(source: &mut Source<'_>) -> Self {
        let is_some: bool = source.any();
        is_some.then(|| source.any())
    }
}

impl<T: Any> Any for Vec<T> {
    fn any(source: &mut Source<'_>) -> Self {
        let len = source.below(6);
        (0..len).map(|_| source.any()).collect()
    }
}

impl<T: Any> Any for Box<T> {
    fn any(source: &mut Source<'_>) -> Self {
        Self::new(source.any())
    }
}

impl<A: Any, B: Any> Any for (A, B) {
    fn any(source: &mut Source<'_>) -> Self {
        (source.any(), source.any())
    }
}

any! { source:
    bool => source.byte() & 1 == 1,
    u16 => source.any::<u64>() as Self,
    u32 => source.any::<u64>() as Self,
    // Short and long numbers take other forms in CBOR.
    u64 => {
        let bytes: [u8; 8] = std::array::from_fn(|_| source.byte());
        Self::from_be_bytes(bytes) >> (8 * source.below(8))
    },
    i64 => source.any::<u64>() as Self,
    String => String::from_utf8_lossy(source.bytes(20)).into_owned(),
    Bytes => Self::copy_from_slice(source.bytes(20)),
    [u8; 16] => std::array::from_fn(|_| source.byte()),
    MsgId => Self(source.any()),
    Oid => Self(source.any()),
    Tid => Self(source.any()),
    Ptid => Self(source.any()),
    Reign => Self(source.any()),
    SessionId => Self(source.any()),
    Partition => Self(source.any()),
    ClusterId => Self(source.any()),
    EpochId => Self(source.any()),
    Checksum => Self(source.any()),
    Oids => Self(source.any()),
    Address => Self::new(source.any::<String>(), source.any()),
    ErrorCode => Self::from(source.any::<u16>()),
    NodeType => Self::ALL[source.below(Self::ALL.len())],
    NodeState => Self::ALL[source.below(Self::ALL.len())],
    CellState => Self::ALL[source.below(Self::ALL.len())],
    ClusterState => Self::ALL[source.below(Self::ALL.len())],
    NodeId => {
        let number = 1 + source.any::<u32>() % Self::NUMBER_MAX;
        Self::new(source.any(), number).expect("the number is in range")
    },
    Order => if source.any() { Self::Descending } else { Self::Ascending },
    Compression => match source.below(3) { 0 => Self::None, 1 => Self::Zlib, _ => Self::Lz4 },
    At => match source.below(3) {
        0 => Self::Latest,
        1 => Self::Before(source.any()),
        _ => Self::Exact(source.any()),
    },
    StoreKind => match source.below(3) {
        0 => Self::Deletion,
        1 => Self::SameAs(source.any()),
        _ => Self::Value { compression: source.any(), checksum: source.any() },
    },
    StoreOutcome => match source.below(3) {
        0 => Self::Locked,
        1 => Self::Unchecked,
        _ => Self::Conflict(source.any()),
    },
    RelockOutcome => match source.below(2) {
        0 => Self::Relocked,
        _ => Self::Conflict(source.any()),
    },
    FinalTid => match source.below(3) {
        0 => Self::NotCommitted,
        1 => Self::AskStorages,
        _ => Self::Committed(source.any()),
    },
    ObjectAnswer => match source.below(5) {
        0 => Self::Unknown,
        1 => Self::NotYet,
        2 => Self::PackedAway,
        3 => Self::Deleted { serial: source.any(), next_serial: source.any() },
        _ => Self::Found {
            serial: source.any(),
            next_serial: source.any(),
            compression: source.any(),
            checksum: source.any(),
            data_serial: source.any(),
        },
    },
}

any_struct! {
    TxnId { reign, ttid }
    TableVersion { reign, ptid }
    RevisionId { tid, oid }
    Cell { nid, state, assigned }
    CellChange { partition, cell }
    PartitionTable { version, replicas, last_storage, rows }
    Epoch { number, id, parent, base_reign, base_ptid, base_tid }
    ClusterIdentity { id, epochs }
    TransactionMeta { user, description, extension }
    Identification {
        node_type, nid, address, cluster, identity, session, read_only, topology, masters,
        new_nid, noted, is_full
    }
    NodeInfo { nid, address, state, session, since_micros, is_full }
    Recovery { version, reign, identity, oid_mark, backup_tid, truncate_tid, import_tid }
    WireTransaction { tid, txn, meta, oids, packed, pack }
    PackOrder { at, oids }
    PackState { done, begun, at, whole_at, removed, emptied, removals }
    PackedCell { partition, done, at, whole_at }
    PackProgress { order, cells_done, cells, packed_at, whole_packed_at }
    WireRevision { id, value, data_serial }
    WireValue { compression, checksum, bytes }
    CellLastIds { partition, transaction, revision }
    WireLastIds { first_tid, last_tid, last_oid }
    HistoryEntry { serial, data_serial, bytes }
    UndoRevision { current, is_current, previous }
    AssignedPartition { partition, assigned }
}

macro_rules! any_packet {
    ($($name:ident { $($field:ident),* })+) => {
        /// Makes the message of each name.
        pub(crate) const MAKERS: &[(&str, fn(&mut Source<'_>) -> Packet)] = &[$(
            (stringify!($name), |_source| Packet::$name { $($field: _source.any()),* }),
        )+];
    };
}

any_packet! {
    Error { code, message }
    RequestIdentification { identification }
    AcceptIdentification { node_type, nid, your_nid, reign, session, identity }
    NotPrimaryMaster { primary, masters }
    Heartbeat {}
    Credit { bytes }
    NotifyDelayed { request, holder }
    NotifyNodeInformation { full, nodes }
    NotifyClusterInformation { state, waiting }
    SendPartitionTable { identity, table }
    NotifyPartitionChanges { base, version, replicas, changes }
    NotifyPartitionTableStored { version }
    AskRecovery {}
    AnswerRecovery { recovery }
    AskPartitionTable {}
    AnswerPartitionTable { table }
    AskStartReign { reign }
    AnswerReignStarted { reign }
    AskLockedTransactions { after }
    AnswerLockedTransactions { transactions, more }
    AskFinalTid { txn }
    AnswerFinalTid { tid }
    AskValidateTransaction { txn, tid }
    AnswerTransactionValidated { txn }
    AskLastIds {}
    AnswerLastIds { ids, version, cells, committed_in }
    AskTruncate { after }
    AnswerTruncated { after }
    AskStoreOidMark { mark }
    AnswerOidMarkStored { mark }
    StartOperation { operation }
    NotifyReady { operation }
    StopOperation {}
    NotifySpace { is_full }
    AskBeginTransaction { tid }
    AnswerBeginTransaction { txn }
    AskNewOids { count }
    AnswerNewOids { first, count }
    AskStoreObject { txn, oid, serial, kind }
    AnswerStoreObject { outcome }
    AskCheckCurrentSerial { txn, oid, serial }
    AnswerCheckCurrentSerial { outcome }
    NotifyDeadlock { txn, oid }
    AskRelockObject { txn, oid }
    AnswerRelockObject { outcome }
    AskStoreTransaction { txn, meta, oids, objects, pack, packed }
    AnswerStoreTransaction {}
    AskVoteTransaction { txn, objects }
    AnswerVoteTransaction {}
    AskFailedVote { txn, nodes }
    AnswerFailedVote {}
    AskFinishTransaction { txn, oids, partitions }
    AnswerTransactionFinished { txn, tid }
    AskLockInformation { txn, tid }
    AnswerInformationLocked { txn }
    NotifyUnlockInformation { txn }
    InvalidateObjects { tid, oids }
    InvalidateAll { tid }
    AbortTransaction { txn, nodes }
    NotifyVoted { txn, metadata, objects }
    AskObject { oid, at }
    AnswerObject { oid, answer }
    AskTransactionInformation { tid }
    AnswerTransactionInformation { transaction }
    AskTransactions { partition, min, max, entries, order }
    AnswerTransactions { transactions, complete }
    AskRevisions { partition, min, max, bytes }
    AnswerRevisions { revisions, complete }
    AskLastTransaction {}
    AnswerLastTransaction { tid }
    AskObjects { objects }
    AnswerObjects { answers }
    AskObjectHistory { oid, before, entries }
    AnswerObjectHistory { entries, complete }
    AskCurrentRevisions { partition, min, at, bytes, values }
    AnswerCurrentRevisions { revisions, next, packed }
    AskUndoRevisions { partition, undone, before, oids }
    AnswerUndoRevisions { revisions, packed }
    AskPartitionSize { partition }
    AnswerPartitionSize { bytes }
    AskBeginImport {}
    AnswerBeginImport { import, last_tid }
    AskCheckpointImport { import, tid, last_oid }
    AnswerImportCheckpointed { tid }
    AskEndImport { import }
    AnswerImportEnded { tid }
    AskImportMark { import, mark }
    AnswerImportMark { import }
    AskSyncImport { import }
    AnswerImportSynced { import }
    AskImport { import, transactions, revisions }
    AnswerImport {}
    AskUnfinishedTransactions { cells }
    AnswerUnfinishedTransactions { last_tid, pending, committed_in }
    NotifyTransactionFinished { txn, tid }
    NotifyReplicationDone { cell, tid }
    AskRevisionIds { partition, min, max, entries }
    AnswerRevisionIds { ids, complete }
    NotifyPackOrdered {}
    NotifyPacked { cells }
    AskPackOrders { partitions, after, max }
    AnswerPackOrders { orders, complete }
    NotifyPackOrders { after, orders }
    AskWaitPack { id }
    AnswerWaitPack { id }
    AskPackProgress {}
    AnswerPackProgress { progress }
    AskPackState { partition }
    AnswerPackState { state, objects }
    AskRemaining { partition, at, ids }
    AnswerRemaining { remaining }
    AskPrimary {}
    AnswerPrimary { primary }
    AskClusterState {}
    AnswerClusterState { state, waiting }
    AskNodeList { node_type }
    AnswerNodeList { nodes }
    AskPartitionList {}
    AnswerPartitionList { table }
    SetClusterState { state }
    SetNodeState { nid, state }
    AddPendingNodes { nodes }
    TweakPartitionTable { dry_run, ignore }
    AnswerTweakPartitionTable { changed, table, message }
    SetNumReplicas { replicas }
    AnswerDone { message }
    ElectionMessage { message }
}

impl Any for Packet {
    fn any(source: &mut Source<'_>) -> Self {
        let (_, make) = MAKERS[source.below(MAKERS.len())];
        make(source)
    }
}
