//! The storage node of **neo**, as a library.

mod config;
mod core;
mod persist;
mod server;

#[doc(hidden)]
pub use config::Mutations;
pub use config::{StorageLimits, StorageSettings};
pub use core::{
    CONFIG_KEYS, Done, Job, Query, QueryResult, StartState, StorageCommand, StorageCore,
    StorageEvent, Token, execute_query,
};
pub use persist::Persister;
pub use server::{
    RunningStorage, StartError, Storage, StorageBuilder, StorageStatus, StorageStopper,
};
