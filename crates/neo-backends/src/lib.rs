//! Where a storage node keeps its data, and the files of ZODB that it comes from or goes to.
//!
//! | to | use |
//! | --- | --- |
//! | open the database that an operator named | [`open`] |
//! | let operators name databases of your own | [`Adapter`], and [`Adapters::with`] |
//! | try things, or test | [`KvBackend`] over [`MemoryEngine`] |
//! | build a backend on a key-value store | [`KvBackend`] over your [`KvEngine`](neo_api::KvEngine) |
//! | build one on a database that blocks | [`Worker`] |
//!
//! | feature | on by default | |
//! | --- | --- | --- |
//! | `sqlite` | yes | `SqliteBackend`, and SQLite itself, compiled in: needs a C compiler |
//! | `mysql` | no | `MySqlBackend`: a database on a MariaDB server |
//! | `redb` | no | `RedbEngine`: a database of Rust alone |
//! | `sled` | no | `SledEngine`: a database of Rust alone. What it promises less is in its documentation |

mod adapter;
pub mod filestorage;
#[cfg(any(feature = "redb", feature = "sled"))]
mod guard;
mod kv;
mod limits;
#[cfg(any(feature = "redb", feature = "sled", feature = "sqlite"))]
mod lock;
mod memory;
#[cfg(feature = "mysql")]
mod mysql;
mod pack;
mod quick;
#[cfg(feature = "redb")]
mod redb;
#[cfg(any(feature = "redb", feature = "sled"))]
mod reserve;
#[cfg(feature = "sled")]
mod sled;
#[cfg(feature = "sqlite")]
mod sqlite;
mod worker;

#[cfg(feature = "redb")]
pub use self::redb::{RedbEngine, RedbSettings};
#[cfg(feature = "sled")]
pub use self::sled::{SledEngine, SledSettings};
pub use adapter::{Adapter, AdapterError, Adapters, DEFAULT_ADAPTER, DatabaseOptions, Place, open};
pub use kv::KvBackend;
pub use limits::DEDUP_BYTES_MIN;
pub use memory::MemoryEngine;
#[cfg(feature = "mysql")]
pub use mysql::{MySqlBackend, MySqlSettings, Server};
#[cfg(feature = "sqlite")]
pub use sqlite::{SqliteBackend, SqliteSettings, Synchronous};
pub use worker::{QUEUE_JOBS_MAX, Reply, Worker, WorkerError};
