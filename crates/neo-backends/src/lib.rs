//! Where a storage node keeps its data, and the files of ZODB that it comes from or goes to.
//!
//! | to | use |
//! | --- | --- |
//! | open the database that an operator named | [`open`] |
//! | try things, or test | [`KvBackend`] over [`MemoryEngine`] |
//! | build a backend on a key-value store | [`KvBackend`] over your [`KvEngine`](neo_api::KvEngine) |
//! | build one on a database that blocks | [`Worker`] |
//!
//! | feature | on by default | |
//! | --- | --- | --- |
//! | `sqlite` | yes | `SqliteBackend`, and SQLite itself, compiled in: needs a C compiler |
//! | `mysql` | no | `MySqlBackend`: a database on a MariaDB server |
//! | `sled` | no | `SledEngine`: a database of Rust alone. What it promises less is in its documentation |

pub mod filestorage;
mod kv;
mod limits;
#[cfg(any(feature = "sqlite", feature = "sled"))]
mod lock;
mod memory;
#[cfg(feature = "mysql")]
mod mysql;
mod open;
mod pack;
#[cfg(feature = "sqlite")]
mod quick;
#[cfg(feature = "sled")]
mod sled;
#[cfg(feature = "sqlite")]
mod sqlite;
mod worker;

#[cfg(feature = "sled")]
pub use self::sled::{SledEngine, SledSettings};
pub use kv::KvBackend;
pub use memory::MemoryEngine;
#[cfg(feature = "mysql")]
pub use mysql::{MySqlBackend, MySqlSettings, Server};
pub use open::{Engine, UnknownEngine, open};
#[cfg(feature = "sqlite")]
pub use sqlite::{SqliteBackend, SqliteSettings, Synchronous};
pub use worker::{QUEUE_JOBS_MAX, Reply, Worker, WorkerError};
