//! The master node of **neo**, as a library.
//!
//! A master gives out ids, keeps the partition table and drives commits. It has nothing on disk:
//! what it must know after a crash is on the storage nodes.

mod config;
pub mod core;

pub use config::{MasterSettings, Mutations, SettingsError};
