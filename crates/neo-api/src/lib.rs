//! Ids, states, errors and the SDK traits of **neo**, a distributed, transactional object storage
//! with full history.
//!
//! This crate has no I/O and no runtime; `docs/sdk.md` shows how its traits are implemented, from
//! `cargo new` on. It is what the nodes, the client and your own parts of a
//! cluster agree on:
//!
//! | trait | you implement it to | neo's own |
//! | --- | --- | --- |
//! | [`StorageBackend`] | keep a storage node's data in a database of your choice | SQLite |
//! | [`KvEngine`] | do so in an afternoon, over an ordered key-value store | memory |
//! | [`Transport`], [`Listener`] | carry bytes between nodes your own way | TCP, in-memory |
//! | [`Election`] | decide which master is the primary | [`SingleMaster`] |
//! | [`ConflictResolver`] | merge concurrent changes of an object | none: a conflict is an error |
//! | [`Env`] | give a node its time and randomness | [`SystemEnv`] |
//!
//! # The data model
//!
//! An object has an [`Oid`]; every committed change of it is a revision, named by the [`Tid`] of
//! the transaction that wrote it (its *serial*). Revisions are kept: a read names a tid and sees
//! the database as it was then. Objects and transactions are spread over a fixed number of
//! partitions ([`Partitioning`]); the [`PartitionTable`] says which storage nodes hold which
//! partitions, in [`Cell`]s.
//!
//! ```
//! use neo_api::{Oid, Partitioning, Tid};
//!
//! let partitioning = Partitioning::new(12).expect("12 is between 1 and 65535");
//! assert_eq!(partitioning.of_oid(Oid(25)).0, 1);
//! // A tid reads as a moment, to ZODB's calendar.
//! let tid: Tid = "040d2bd691f0e299".parse()?;
//! assert!(tid.to_timestamp().to_string().starts_with("2026-11-"));
//! # Ok::<(), neo_api::ParseIdError>(())
//! ```

mod address;
mod backend;
mod election;
mod env;
mod id;
mod object;
mod partition_table;
mod resolver;
mod state;
mod tid;
mod transaction;
mod transport;

pub use address::{Address, ParseAddressError};
pub use backend::{
    BackendError, BackendInfo, BackendResult, CurrentPage, Durability, FetchedRevision,
    HistoryEntry, KeyRange, KvBatch, KvEngine, KvOp, LastIds, OPERATION_OBJECTS_MAX, ObjectData,
    ObsoletePage, Order, PageLimit, PendingObject, Space, StorageBackend, UnfinishedTransaction,
    WriteBatch, WriteOp,
};
pub use election::{Election, ElectionEffect, ElectionInput, SingleMaster};
pub use env::{Env, Instant, Now, SystemEnv, random_bytes};
pub use id::{
    ClusterId, DataId, Epoch, EpochId, NodeId, Oid, ParseIdError, Partition, Partitioning, Ptid,
    Reign, SessionId, Tid, TxnId,
};
pub use object::{
    At, Checksum, Compression, Loaded, OBJECT_BYTES_MAX, Record, Revision, RevisionId,
    TRANSACTION_OIDS_MAX, UnknownCompression,
};
pub use partition_table::{Cell, CellChange, PartitionTable, TableError, TableVersion};
pub use resolver::{ConflictResolver, ConflictingChange};
pub use state::{CellState, ClusterState, NodeState, NodeType};
pub use tid::{TimeStamp, UnixMicros};
pub use transaction::{
    METADATA_BYTES_MAX, PACK_OIDS_MAX, PackOrder, TransactionMeta, TransactionRecord, VotedRecord,
};
pub use transport::{Listener, Stream, Transport};
