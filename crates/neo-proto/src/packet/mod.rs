//! Every message, typed. Codes are never reused; fields are only appended.
//!
//! Names are NEO's where NEO has the message. `Ask…` is a request, answered by the `Answer…` that
//! carries its id with the highest bit of the code set; others are notifications, in order.
//! M is the primary master, S a storage node, C a client, A an admin node, ctl `neoctl`.

mod packs;
mod reads;
mod types;

use bytes::Bytes;
use neo_api::{
    Address, At, CellChange, ClusterState, HistoryEntry, NodeId, NodeState, NodeType, Oid, Order,
    PackOrder, Partition, PartitionTable, Reign, RevisionId, SessionId, TableVersion, Tid,
    TransactionMeta, TxnId,
};
use serde::de::{self, IgnoredAny, SeqAccess, Visitor};
use serde::ser::SerializeSeq;
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use std::fmt;

pub use packs::*;
pub use reads::*;
pub use types::*;

use crate::error::ErrorCode;

/// The bit of the code that marks an answer.
pub const ANSWER: u16 = 0x8000;

/// Number of a request on its connection and direction; an answer repeats it. 0 in notifications.
#[derive(
    Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default, Serialize, Deserialize,
)]
#[serde(transparent)]
pub struct MsgId(pub u64);

/// A message with its id and the object bytes that it carries.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Message {
    /// Which request it is, or answers.
    pub id: MsgId,
    /// What it says.
    pub packet: Packet,
    /// Object bytes, outside the CBOR: they are neither copied nor re-encoded. Empty in most.
    pub payload: Bytes,
}

impl Message {
    /// A message without object bytes.
    #[must_use]
    pub const fn new(id: MsgId, packet: Packet) -> Self {
        Self {
            id,
            packet,
            payload: Bytes::new(),
        }
    }

    /// A notification.
    #[must_use]
    pub const fn notify(packet: Packet) -> Self {
        Self::new(MsgId(0), packet)
    }

    /// A message with object bytes.
    #[must_use]
    pub const fn with_payload(id: MsgId, packet: Packet, payload: Bytes) -> Self {
        Self {
            id,
            packet,
            payload,
        }
    }
}

macro_rules! packets {
    ($($(#[$meta:meta])* $code:literal $name:ident {
        $($(#[$fmeta:meta])* $field:ident: $type:ty),* $(,)?
    })+) => {
        /// What a message says.
        #[expect(missing_docs, reason = "a message documents its fields where they need words")]
        #[derive(Debug, Clone, PartialEq, Eq)]
        pub enum Packet {
            $($(#[$meta])* $name { $($(#[$fmeta])* $field: $type,)* },)+
        }

        impl Packet {
            /// The message's code on the wire.
            #[must_use]
            pub const fn code(&self) -> u16 {
                match self { $(Self::$name { .. } => $code,)+ }
            }

            /// The message's name.
            #[must_use]
            pub const fn name(&self) -> &'static str {
                match self { $(Self::$name { .. } => stringify!($name),)+ }
            }

            /// Whether it answers a request.
            #[must_use]
            pub const fn is_answer(&self) -> bool {
                self.code() & ANSWER != 0
            }

            /// Every code with its message's name, in the order of the list.
            pub const CODES: &[(u16, &'static str)] = &[$(($code, stringify!($name)),)+];
        }

        /// A message's id and packet, as one CBOR array: code, id, fields.
        #[derive(Debug)]
        pub(crate) struct Envelope<'a>(pub(crate) MsgId, pub(crate) &'a Packet);

        impl Serialize for Envelope<'_> {
            fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
                match self.1 {
                    $(Packet::$name { $($field),* } => {
                        const FIELDS: &[&str] = &[$(stringify!($field)),*];
                        let mut seq = serializer.serialize_seq(Some(2 + FIELDS.len()))?;
                        seq.serialize_element(&($code as u16))?;
                        seq.serialize_element(&self.0)?;
                        $(seq.serialize_element($field)?;)*
                        seq.end()
                    })+
                }
            }
        }

        /// The inverse of [`Envelope`].
        #[derive(Debug)]
        pub(crate) struct Opened(pub(crate) MsgId, pub(crate) Packet);

        impl<'de> Deserialize<'de> for Opened {
            fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
                struct PacketVisitor;

                impl<'de> Visitor<'de> for PacketVisitor {
                    type Value = Opened;

                    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                        f.write_str("a message: an array of code, id and fields")
                    }

                    fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<Opened, A::Error> {
                        let code: u16 = field(&mut seq, "code")?;
                        let id: MsgId = field(&mut seq, "id")?;
                        let packet = match code {
                            $($code => Packet::$name {
                                $($field: field(&mut seq, stringify!($field))?,)*
                            },)+
                            _ => return Err(de::Error::custom(format_args!(
                                "message code {code:#06x} is not known to this version"
                            ))),
                        };
                        // Fields that a newer version appended.
                        while seq.next_element::<IgnoredAny>()?.is_some() {}
                        Ok(Opened(id, packet))
                    }
                }

                deserializer.deserialize_seq(PacketVisitor)
            }
        }
    };
}

fn field<'de, A: SeqAccess<'de>, T: Deserialize<'de>>(
    seq: &mut A,
    name: &'static str,
) -> Result<T, A::Error> {
    seq.next_element()?
        .ok_or_else(|| de::Error::missing_field(name))
}

packets! {
    // --- connection ---

    /// Answer to any request that fails; its connection ends when the code is `Protocol`,
    /// `OtherCluster` or `IdConflict`.
    0x8000 Error { code: ErrorCode, message: String }
    /// First message of the side that connects.
    0x0001 RequestIdentification { identification: Box<Identification> }
    /// The peer is accepted. `node_type` and `nid` are those of the node that answers. M gives
    /// `your_nid` and `session`; a storage or admin repeats those that the peer showed. Between
    /// masters `your_nid` means nothing, and `session` is a number of the process that answers.
    0x8001 AcceptIdentification {
        node_type: NodeType,
        nid: Option<NodeId>,
        your_nid: NodeId,
        reign: Reign,
        session: SessionId,
        identity: Option<ClusterIdentity>,
    }
    /// Answer of a secondary master to an identification: ask the primary, if it is known.
    0x8002 NotPrimaryMaster { primary: Option<Address>, masters: Vec<Address> }
    /// Below all queues: sent when nothing else was for a while.
    0x0003 Heartbeat { }
    /// More object bytes may be sent: so many.
    0x0004 Credit { bytes: u64 }
    /// A request of the receiver waits for a lock that this transaction holds.
    0x0005 NotifyDelayed { request: MsgId, holder: TxnId }

    // --- cluster, M to all, secondary masters included ---

    /// Nodes that changed; the first after identification is the full list.
    0x0010 NotifyNodeInformation { full: bool, nodes: Vec<NodeInfo> }
    /// The cluster's state, and in words for whom or what it waits, if it does. Admins are told
    /// again when the words change.
    0x0011 NotifyClusterInformation { state: ClusterState, waiting: String }
    /// The whole table. A storage makes it durable, with the identity, before it answers anything
    /// that came later, and says so with `NotifyPartitionTableStored`. A table of ptid 0 has no
    /// cells: it is the draft of a new cluster.
    0x0012 SendPartitionTable { identity: Option<ClusterIdentity>, table: Box<PartitionTable> }
    /// Changes that lead from table `base` to `version`. Stored as `SendPartitionTable` is.
    0x0013 NotifyPartitionChanges {
        base: TableVersion,
        version: TableVersion,
        replicas: u32,
        changes: Vec<CellChange>,
    }
    /// S to M: the table of this version is durable here.
    0x0014 NotifyPartitionTableStored { version: TableVersion }

    // --- recovery, verification, operation ---

    /// M to S.
    0x0020 AskRecovery { }
    /// What the storage remembers.
    0x8020 AnswerRecovery { recovery: Box<Recovery> }
    /// M to S.
    0x0021 AskPartitionTable { }
    /// The stored table.
    0x8021 AnswerPartitionTable { table: Option<Box<PartitionTable>> }
    /// M to S, VERIFYING: the reign of this primary. Answered when durable; from then on the
    /// storage refuses transactions of other reigns.
    0x0022 AskStartReign { reign: Reign }
    /// Done.
    0x8022 AnswerReignStarted { reign: Reign }
    /// M to S: unfinished transactions with a name above `after`.
    0x0023 AskLockedTransactions { after: Option<TxnId> }
    /// Each with its tid, if it is locked, in order of name; `more` may follow.
    0x8023 AnswerLockedTransactions { transactions: Vec<(TxnId, Option<Tid>)>, more: bool }
    /// M to S and C to S: the tid of a transaction, locked or committed here. C to M: what became
    /// of it; the asking is a fence, see [`FinalTid`].
    0x0024 AskFinalTid { txn: TxnId }
    /// From a storage: `NotCommitted` when it knows no tid.
    0x8024 AnswerFinalTid { tid: FinalTid }
    /// M to S, VERIFYING: the transaction is committed: lock and unlock it.
    0x0025 AskValidateTransaction { txn: TxnId, tid: Tid }
    /// Done, durably.
    0x8025 AnswerTransactionValidated { txn: TxnId }
    /// M to S: greatest ids of its readable partitions; from ctl by A to M: of the cluster.
    0x0026 AskLastIds { }
    /// From M, with the version of the partition table; from S, with those of each readable cell,
    /// in order of partition, and the latest reign in which something was committed that is there.
    0x8026 AnswerLastIds {
        ids: WireLastIds,
        version: Option<TableVersion>,
        cells: Vec<CellLastIds>,
        committed_in: Reign,
    }
    /// M to S, VERIFYING: remove every transaction and revision after this tid.
    0x0027 AskTruncate { after: Tid }
    /// Done, durably.
    0x8027 AnswerTruncated { after: Tid }
    /// M to S: no oid below this mark is handed out before this is durable.
    0x0028 AskStoreOidMark { mark: Oid }
    /// Done, durably.
    0x8028 AnswerOidMarkStored { mark: Oid }
    /// M to S: drop what is unfinished and serve. `operation` names this period of service.
    0x0029 StartOperation { operation: u64 }
    /// S to M: takes part in transactions that begin from now on.
    0x002a NotifyReady { operation: u64 }
    /// M to S and C: the cluster does not serve any more.
    0x002b StopOperation { }
    /// S to M: from now on there is no space left for new data, or there is some again. Who
    /// identifies itself says it too.
    0x002c NotifySpace { is_full: bool }

    // --- transactions ---

    /// C to M. `tid` imposes the tid, for restoring: it must be above every other, and no other
    /// transaction may be pending.
    0x0030 AskBeginTransaction { tid: Option<Tid> }
    /// The transaction's name.
    0x8030 AnswerBeginTransaction { txn: TxnId }
    /// C to M.
    0x0031 AskNewOids { count: u32 }
    /// `count` oids from `first`.
    0x8031 AnswerNewOids { first: Oid, count: u32 }
    /// C to S, every writable cell of the object. `serial` is the revision that the change starts
    /// from, 0 for a new object. The value is payload.
    0x0032 AskStoreObject { txn: TxnId, oid: Oid, serial: Tid, kind: StoreKind }
    /// How it went.
    0x8032 AnswerStoreObject { outcome: StoreOutcome }
    /// C to S: the object's serial must be this one until the transaction ends. Shared with other
    /// checks, exclusive with stores.
    0x0033 AskCheckCurrentSerial { txn: TxnId, oid: Oid, serial: Tid }
    /// How it went.
    0x8033 AnswerCheckCurrentSerial { outcome: StoreOutcome }
    /// S to C: an older transaction waits for this lock; let it pass with `AskRelockObject`,
    /// unless voting has begun.
    0x0034 NotifyDeadlock { txn: TxnId, oid: Oid }
    /// C to S: give the lock to who waits, and ask for it again.
    0x0035 AskRelockObject { txn: TxnId, oid: Oid }
    /// How it went.
    0x8035 AnswerRelockObject { outcome: RelockOutcome }
    /// C to S, the cells of the ttid: metadata, and the vote. `objects` is how many oids the
    /// client knows to be stored or checked here: a node that lost some refuses. `pack`: what the
    /// transaction orders; `at` must be below the ttid. `packed`: it is restored, and packs had been
    /// through it where it comes from.
    0x0036 AskStoreTransaction {
        txn: TxnId,
        meta: TransactionMeta,
        oids: Oids,
        objects: u32,
        pack: Option<Box<PackOrder>>,
        packed: bool,
    }
    /// Voted, durably.
    0x8036 AnswerStoreTransaction { }
    /// C to S, other involved nodes: the vote.
    0x0037 AskVoteTransaction { txn: TxnId, objects: u32 }
    /// Voted, durably.
    0x8037 AnswerVoteTransaction { }
    /// C to M: these nodes failed to store or vote. Answered with `AnswerFailedVote`, or the error
    /// `IncompleteTransaction` when they can't be spared.
    0x0038 AskFailedVote { txn: TxnId, nodes: Vec<NodeId> }
    /// The transaction may finish without them.
    0x8038 AnswerFailedVote { }
    /// C to M: oids to invalidate (stored and deleted), and the partitions that the transaction
    /// involves: of stored, deleted and checked objects, without that of the ttid. Every node with
    /// a writable cell of them must have voted, unless it was told to have failed.
    0x0039 AskFinishTransaction { txn: TxnId, oids: Oids, partitions: Vec<Partition> }
    /// Committed.
    0x8039 AnswerTransactionFinished { txn: TxnId, tid: Tid }
    /// M to S: note the tid, and make readers of its objects wait.
    0x003a AskLockInformation { txn: TxnId, tid: Tid }
    /// Done, durably where the metadata is.
    0x803a AnswerInformationLocked { txn: TxnId }
    /// M to S: move it to its final place.
    0x003b NotifyUnlockInformation { txn: TxnId }
    /// M to C: these objects changed, in order of tid; sent for every transaction.
    0x003c InvalidateObjects { tid: Tid, oids: Oids }
    /// M to C: too many were missed: everything cached may be old, and the last tid is this.
    0x003d InvalidateAll { tid: Tid }
    /// C to S and C to M, with all nodes that were contacted: forget it. M passes it on; a storage
    /// where it has voted waits for that.
    0x003e AbortTransaction { txn: TxnId, nodes: Vec<NodeId> }
    /// S to M: the vote of this transaction is durable here, with its metadata or without, and with
    /// so many objects of these partitions, stored or checked; only M can abort it from now on.
    /// Sent with the answer to the client: a tid is given when every node that is to lock has said
    /// so, and replicas have the same.
    0x003f NotifyVoted { txn: TxnId, metadata: bool, objects: Vec<(Partition, u32)> }

    // --- reads ---

    /// C to S.
    0x0040 AskObject { oid: Oid, at: At }
    /// The data is payload.
    0x8040 AnswerObject { oid: Oid, answer: ObjectAnswer }
    /// C to S, a cell of the tid.
    0x0041 AskTransactionInformation { tid: Tid }
    /// `None`: no such transaction.
    0x8041 AnswerTransactionInformation { transaction: Option<Box<WireTransaction>> }
    /// C to S: transactions of a partition, `min <= tid <= max`, from either end; at most
    /// `entries`. Waits for transactions at or below `max` that are locked.
    0x0042 AskTransactions {
        partition: Partition,
        min: Tid,
        max: Tid,
        entries: u32,
        order: Order,
    }
    /// `complete`: nothing is left in the range.
    0x8042 AnswerTransactions { transactions: Vec<WireTransaction>, complete: bool }
    /// C to S: revisions of a partition, `min <= id`, `id.tid <= max`, by (tid, oid);
    /// the answer ends with the one that reaches `bytes`. Waits as `AskTransactions` does.
    0x0043 AskRevisions { partition: Partition, min: RevisionId, max: Tid, bytes: u32 }
    /// The values are payload, one after the other.
    0x8043 AnswerRevisions { revisions: Vec<WireRevision>, complete: bool }
    /// C to M, and from ctl by A to M: the last committed tid.
    0x0044 AskLastTransaction { }
    /// The last committed tid.
    0x8044 AnswerLastTransaction { tid: Tid }
    /// C to S: several objects, each as `AskObject` does, of any partitions.
    0x0045 AskObjects { objects: Vec<(Oid, At)> }
    /// The first of them, one at least, each with the bytes that its data takes of the payload, in
    /// the order asked; ends with the one that reaches 4 MiB, and before one that is not readable
    /// here.
    0x8045 AnswerObjects { answers: Vec<(ObjectAnswer, u32)> }
    /// C to S: revisions of an object with a serial below `before`, newest first; at most
    /// `entries`. Waits for transactions below `before` that are locked.
    0x0046 AskObjectHistory { oid: Oid, before: Tid, entries: u32 }
    /// `complete`: nothing is left.
    0x8046 AnswerObjectHistory { entries: Vec<HistoryEntry>, complete: bool }
    /// C to S: objects of a partition from `min` on, as they were at `at`; those that have a value
    /// then, by oid. Ends with the one that reaches `bytes`, and may end earlier. Waits for
    /// transactions at or below `at` that are locked.
    0x0047 AskCurrentRevisions {
        partition: Partition,
        min: Oid,
        at: Tid,
        bytes: u32,
        values: bool,
    }
    /// Where the next page begins; `None`: nothing is left. The values are payload, one after the
    /// other, if they were wanted. With `packed` it can't be told: a pack has been past `at`.
    0x8047 AnswerCurrentRevisions {
        revisions: Vec<WireRevision>,
        next: Option<Oid>,
        packed: bool,
    }
    /// C to S: what it takes to undo what transaction `undone` did to objects of a partition,
    /// as they are before `before`. Waits for transactions below that are locked.
    0x0048 AskUndoRevisions { partition: Partition, undone: Tid, before: Tid, oids: Oids }
    /// In the order asked; `None`: the object has no revision of that transaction. With `packed`
    /// it can't be told: a pack has been there.
    0x8048 AnswerUndoRevisions { revisions: Vec<Option<UndoRevision>>, packed: bool }
    /// C to S: how much space a partition takes.
    0x0049 AskPartitionSize { partition: Partition }
    /// Its share of the node's database, as if all partitions there were of one size.
    0x8049 AnswerPartitionSize { bytes: u64 }

    // --- import: an ordered bulk load, alone on the cluster ---

    /// C to M. Refused while transactions are pending.
    0x0050 AskBeginImport { }
    /// The import's number, and the last committed tid: the import goes on after it.
    0x8050 AnswerBeginImport { import: u64, last_tid: Tid }
    /// C to M: everything up to this tid was answered by every writable cell: commit it.
    0x0051 AskCheckpointImport { import: u64, tid: Tid, last_oid: Oid }
    /// Committed, durably.
    0x8051 AnswerImportCheckpointed { tid: Tid }
    /// C to M: the import ends at its last checkpoint.
    0x0052 AskEndImport { import: u64 }
    /// Ended.
    0x8052 AnswerImportEnded { tid: Tid }
    /// M to S: what is written after `mark` does not count until the mark is raised; `None` ends
    /// the import. A raise makes everything up to the mark durable first.
    0x0053 AskImportMark { import: u64, mark: Option<Tid> }
    /// Done, durably.
    0x8053 AnswerImportMark { import: u64 }
    /// M to S: make what was imported durable.
    0x0054 AskSyncImport { import: u64 }
    /// Done.
    0x8054 AnswerImportSynced { import: u64 }
    /// C to S, every writable cell: transactions and revisions with their tids, in order of tid.
    /// Values are payload.
    0x0055 AskImport {
        import: u64,
        transactions: Vec<WireTransaction>,
        revisions: Vec<WireRevision>,
    }
    /// Applied; durable at the next checkpoint.
    0x8055 AnswerImport { }

    // --- replication ---

    /// S to M: catching up starts for these cells. From now on the node gets new transactions in
    /// full, and hears when the listed ones end.
    0x0060 AskUnfinishedTransactions { cells: Vec<AssignedPartition> }
    /// What to fetch up to, and what is pending.
    0x8060 AnswerUnfinishedTransactions {
        last_tid: Tid,
        pending: Vec<TxnId>,
        committed_in: Reign,
    }
    /// M to S: a listed transaction ended; `None`: aborted.
    0x0061 NotifyTransactionFinished { txn: TxnId, tid: Option<Tid> }
    /// S to M: the cell is complete up to this tid, nothing can be missing.
    0x0062 NotifyReplicationDone { cell: AssignedPartition, tid: Tid }
    /// S to S: which revisions of a partition the source has, `min <= id`, `id.tid <= max`.
    0x0063 AskRevisionIds { partition: Partition, min: RevisionId, max: Tid, entries: u32 }
    /// Ascending by (tid, oid).
    0x8063 AnswerRevisionIds { ids: Vec<RevisionId>, complete: bool }

    // --- packs ---

    /// S to M: a transaction that orders a pack is committed here.
    0x0090 NotifyPackOrdered { }
    /// S to M: how far readable cells are packed, at the start of service and whenever it changes.
    0x0091 NotifyPacked { cells: Vec<PackedCell> }
    /// M to S: orders of these partitions with an id in `after < id <= max`.
    0x0092 AskPackOrders { partitions: Vec<Partition>, after: Tid, max: Tid }
    /// By id, which is the tid of the transaction; all of them up to `complete`.
    0x8092 AnswerPackOrders { orders: Vec<(Tid, PackOrder)>, complete: Tid }
    /// M to S: what to apply, in order of id; all orders above `after`, up to the last of them.
    0x0093 NotifyPackOrders { after: Tid, orders: Vec<(Tid, PackOrder)> }
    /// C to M: until every readable cell has applied this order and those before it.
    0x0094 AskWaitPack { id: Tid }
    /// They have.
    0x8094 AnswerWaitPack { id: Tid }
    /// C to M, and from ctl by A to M.
    0x0095 AskPackProgress { }
    /// How far the packs are.
    0x8095 AnswerPackProgress { progress: PackProgress }
    /// S to S: how far the source has packed a partition.
    0x0096 AskPackState { partition: Partition }
    /// Objects: those of orders for some objects alone, each with the greatest `at` above
    /// `state.whole_at`, in order of oid.
    0x8096 AnswerPackState { state: PackState, objects: Vec<(Oid, Tid)> }
    /// S to M, which asks a node with a readable cell: which of these revisions of a partition are
    /// left by a pack at `at`, applied or not; without it, which are there. At most
    /// `OPERATION_OBJECTS_MAX` ids.
    0x0097 AskRemaining { partition: Partition, at: Option<Tid>, ids: Vec<RevisionId> }
    /// In the order asked.
    0x8097 AnswerRemaining { remaining: Vec<bool> }

    // --- administration: ctl to A; what changes something, A to M ---

    /// Which node is the primary.
    0x0070 AskPrimary { }
    /// Its id; `None` when there is none.
    0x8070 AnswerPrimary { primary: Option<NodeId> }
    /// The state of the cluster.
    0x0071 AskClusterState { }
    /// `None` when the admin has no primary. In words, for whom or what the cluster waits, or why
    /// there is no primary; empty when there is nothing to say.
    0x8071 AnswerClusterState { state: Option<ClusterState>, waiting: String }
    /// Nodes, of a type or all.
    0x0072 AskNodeList { node_type: Option<NodeType> }
    /// In order of id.
    0x8072 AnswerNodeList { nodes: Vec<NodeInfo> }
    /// The partition table.
    0x0073 AskPartitionList { }
    /// `None` when there is none yet.
    0x8073 AnswerPartitionList { table: Option<Box<PartitionTable>> }
    /// `start` is `Verifying`.
    0x0074 SetClusterState { state: ClusterState }
    /// `kill` is `Down`, `drop` is `Unknown`.
    0x0075 SetNodeState { nid: NodeId, state: NodeState }
    /// Pending storages that become running; empty: all.
    0x0076 AddPendingNodes { nodes: Vec<NodeId> }
    /// Balances the cells; `dry_run` only tells. Listed nodes are left as they are.
    0x0077 TweakPartitionTable { dry_run: bool, ignore: Vec<NodeId> }
    /// The table that results; `message` says what changes.
    0x8077 AnswerTweakPartitionTable {
        changed: bool,
        table: Box<PartitionTable>,
        message: String,
    }
    /// Wanted copies beside the first.
    0x0078 SetNumReplicas { replicas: u32 }
    /// Success of a command; `message` is for the operator.
    0x8079 AnswerDone { message: String }

    // --- election, between masters ---

    /// Opaque to all but the election.
    0x0080 ElectionMessage { message: Bytes }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn codes_are_unique() {
        let codes: BTreeSet<u16> = Packet::CODES.iter().map(|(code, _)| *code).collect();
        assert_eq!(codes.len(), Packet::CODES.len());
    }

    #[test]
    fn answers_have_the_code_of_a_request() {
        let codes: BTreeSet<u16> = Packet::CODES.iter().map(|(code, _)| *code).collect();
        // An error answers anything, `NotPrimaryMaster` an identification, `AnswerDone` a command.
        let others = [0x8000, 0x8002, 0x8079];
        for (code, name) in Packet::CODES {
            if code & ANSWER != 0 && !others.contains(code) {
                assert!(codes.contains(&(code & !ANSWER)), "{name}");
            }
        }
    }
}
