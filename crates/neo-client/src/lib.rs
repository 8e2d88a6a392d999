//! Client.
pub mod blocking;
mod cache;
mod client;
mod codec;
mod config;
pub mod core;
mod error;
mod import;
mod invalidation;
mod iterator;
mod object;
mod retry;
mod shell;
mod transaction;
pub use client::Client;
pub use codec::CompressionSetting;
pub use config::ClientBuilder;
pub use error::{Error, Result};
pub use import::Import;
pub use invalidation::{Invalidation, Invalidations};
pub use iterator::{TransactionObject, Transactions};
pub use neo_api::{
    ConflictResolver, ConflictingChange, Oid, Tid, TransactionMeta, TransactionRecord, TxnId,
};
pub use object::{Lookup, Object, Snapshot};
pub use retry::Attempt;
pub use transaction::Transaction;
