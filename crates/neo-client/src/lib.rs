//! What applications add to use a **neo** cluster: a replicated, transactional object store that
//! remembers every revision.
//!
//! An object is bytes under a 64-bit [`Oid`]. A transaction changes any number of objects, all or
//! none; a [`Snapshot`] reads all objects as of one transaction, the newest or any earlier one.
//! What the bytes mean is the application's.
//!
//! ```
//! use neo_client::{Client, Error};
//!
//! # #[tokio::main(flavor = "current_thread")]
//! # async fn main() -> Result<(), Box<dyn std::error::Error>> {
//! # let cluster = neo_testkit::Cluster::builder().name("main").tcp().start().await?;
//! # let master = cluster.masters()[0].to_string();
//! // What stands behind `masters=`, when `neosimple` has started.
//! let client = Client::connect("main", [master]).await?;
//! let greeting = client.new_oid().await?;
//! // Redone by itself when somebody else was faster.
//! client
//!     .transact(|txn| async move { txn.store(greeting, "hello").await })
//!     .await?;
//! let before = client.snapshot();
//! client
//!     .transact(|txn| async move { txn.store(greeting, "good evening").await })
//!     .await?;
//! assert_eq!(client.load(greeting).await?.unwrap().data, "good evening");
//! assert_eq!(before.load(greeting).await?.unwrap().data, "hello");
//! # Ok(()) }
//! ```
//!
//! The guide `docs/rust.md` of the repository leads through all of it, and tells how applications
//! are tested. The examples here run, too: each on a cluster of its own in memory
//! (`neo_testkit::Cluster`), from which `client` comes where nothing else is said.
//!
//! # What is where
//!
//! | you want to | use |
//! | --- | --- |
//! | connect | [`Client::connect`], [`Client::builder`] |
//! | read | [`Client::load`], [`Client::snapshot`], [`Client::load_before`] |
//! | write, the short way | [`Client::transact`] |
//! | write, step by step | [`Client::begin`], [`Transaction`] |
//! | undo | [`Transaction::undo`] |
//! | merge concurrent changes | [`ConflictResolver`] |
//! | see what others just committed | [`Client::sync`] |
//! | keep a cache of your own | [`Client::invalidations`], [`InvalidationListener`] |
//! | read many objects at once | [`Client::load_many`], [`Client::prefetch`], [`Client::current_objects`] |
//! | read history, by streams | [`Client::iterate`], [`Client::undo_log`], [`Client::history`] |
//! | make room | [`Client::pack`] |
//! | fill a database | [`Client::import`] |
//! | block instead of await | [`blocking`] |
//! | know what to do about an error | [`Error::is_retryable`] |
//!
//! # What it promises
//!
//! - A snapshot sees exactly the transactions up to its tid, from the cache or from any replica.
//! - Two transactions that change the same object never both commit from the same revision: one of
//!   them is told [`Error::Conflict`], or is merged. What a transaction only read is not guarded,
//!   unless it says so ([`Transaction::check_current`]).
//! - A commit that was acknowledged is durable. When the answer is lost, the client finds out; only
//!   when nobody can tell in time is it [`Error::Unknown`].
//! - A read that its replica does not answer soon is asked of another one too: how soon is learnt
//!   from the last answers, between 10 ms and 1 s, and at most one read of twenty is asked twice,
//!   beyond the first hundred. Slow nodes come after others for a while.
//! - Every call ends: with an answer, or with an error that says what it waited for. Time is
//!   counted without progress, not in all ([`ClientBuilder::operation_timeout`]).
//! - Futures may be dropped; each method says what happens then.
//!
//! # What it is not
//!
//! It does not interpret values, has no queries, and keeps nothing on disk. A transaction's values
//! are in memory until it ends. Limits: 64 MiB a value as stored, and 1 GiB before compression;
//! 2^21 - 1 objects and 1 GiB of values (see [`ClientBuilder::transaction_bytes_max`]) a
//! transaction, 1 MiB of user, description and extension each.
//!
//! # How it works
//!
//! ```text
//! your tasks ── cache hit: one short lock, no task switch
//!     │ commands                 ▲ answers
//!     ▼                          │
//!  driver (one task or thread): the pure core of `core`, over the sessions of neo-proto
//!     │
//!     ├── the primary master: begin, finish, invalidations, partition table
//!     └── storage nodes: loads from any replica, stores to all of them
//! ```

pub mod blocking;
#[doc(hidden)]
pub mod cache;
mod client;
mod codec;
mod config;
pub mod core;
mod current;
mod cursor;
mod direct;
mod engine;
mod error;
mod history;
mod import;
mod invalidation;
mod iterator;
mod load;
mod many;
mod object;
mod pack;
mod patience;
mod retry;
mod shell;
mod size;
mod transaction;
mod undo;

pub use bytes::Bytes;
pub use client::Client;
pub use codec::{CompressionSetting, ParseCompressionError};
pub use config::ClientBuilder;
pub use current::{CurrentObject, CurrentObjects};
pub use error::{Error, Result};
pub use history::History;
pub use import::Import;
pub use invalidation::{Invalidation, InvalidationListener, Invalidations};
pub use iterator::{TransactionObject, TransactionObjects, Transactions};
pub use neo_api::{
    ConflictResolver, ConflictingChange, Env, HistoryEntry, NodeId, Oid, Partitioning, Tid,
    TransactionMeta, TransactionRecord, Transport, TxnId,
};
pub use neo_proto::{PackProgress, SessionSettings};
pub use object::{Lookup, Object, Snapshot};
pub use pack::Pack;
pub use retry::Attempt;
pub use transaction::Transaction;
