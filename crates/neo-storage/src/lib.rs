//! The storage node of **neo**: it keeps objects, and takes its part in every commit.
//!
//! It is a library: a pure core in a thin shell. It is handed its database
//! ([`StorageBackend`](neo_api::StorageBackend)) and its network
//! ([`Transport`](neo_api::Transport)); it names no concrete one. It does not decide what is
//! committed (the primary master does), resolve conflicts or interpret values (clients do).
//!
//! ```text
//!   masters, clients           Storage::builder(..).start()
//!         │                                │
//!   ┌─────┴──────┐  effects   ┌────────────┴───────────┐
//!   │ driver     ├───────────►│ shell: Persister, reads ├──► StorageBackend
//!   │ (neo-proto)│◄───────────┤                         │◄──
//!   └─────┬──────┘   done     └─────────────────────────┘
//!         │ inputs
//!   StorageCore: search for the primary · recovery, verification · locks, votes · reads · import ·
//!                replication
//! ```
//!
//! # Example
//!
//! ```
//! use std::sync::Arc;
//! use neo_api::BackendInfo;
//! use neo_backends::{KvBackend, MemoryEngine};
//! use neo_storage::{Storage, StorageSettings};
//!
//! # #[tokio::main(flavor = "current_thread")]
//! # async fn main() -> Result<(), Box<dyn std::error::Error>> {
//! let info = BackendInfo::new("Memory", false);
//! let backend = Arc::new(KvBackend::threads(MemoryEngine::default(), info, 2));
//! let masters = vec!["127.0.0.1:10000".parse()?];
//! let node = Storage::builder(StorageSettings::new("example", masters), backend)
//!     .start()
//!     .await?;
//! println!("listens at {}", node.address());
//! node.stop().await?;
//! # Ok(())
//! # }
//! ```
//!
//! # What it promises
//!
//! - An answer that depends on the disk is sent when the disk has said so: a vote and a lock are
//!   durable, a change of the partition table is durable before anything that came later is even
//!   looked at.
//! - Votes and locks that wait at the same moment share one durable write ([`Persister`]).
//! - A reader waits from the moment a lock arrives until the new revision is visible, and not at
//!   all for what was before.
//! - A full disk refuses votes and goes on reading; what was promised (lock, unlock) is tried again
//!   for [`StorageLimits::persist_timeout_ms`], after which the node declares itself failed.
//! - A cell that is out of date says that it has caught up when nothing can be missing, durably; after
//!   any interruption it goes on from where it was. Clients come first, but for a guaranteed rate
//!   ([`StorageLimits::replication_bytes_per_s_min`]).
//! - Nothing that a peer says makes it panic, or grow without bound ([`StorageLimits`]).
//!
//! # Limits
//!
//! Cells that catch up are written, and not read. One partition is fetched at a time, from one
//! source. Values have 64 MiB at most, transactions 2^21 - 1 objects.

mod config;
mod core;
mod persist;
mod query;
mod server;
mod undo;

#[doc(hidden)]
pub use config::Mutations;
pub use config::{StorageLimits, StorageSettings};
pub use core::{
    CONFIG_KEYS, Done, Extent, Job, PackedValues, Query, QueryResult, StartState, StorageCommand,
    StorageCore, StorageEvent, Token,
};
pub use persist::Persister;
pub use query::execute_query;
pub use server::{RunningStorage, StartError, Storage, StorageBuilder, StorageStatus};
