//! The master node of **neo**, as a library.
//!
//! A master gives out ids, keeps the partition table and drives commits. It has nothing on disk:
//! what it must know after a crash is on the storage nodes. One master at a time is the primary;
//! an [`Election`](neo_api::Election) says which: by default the masters elect it among themselves
//! ([`PeerElection`]).
//!
//! ```no_run
//! use neo_master::{Master, MasterSettings};
//!
//! # async fn example() -> Result<(), Box<dyn std::error::Error>> {
//! let mut settings = MasterSettings::new("my cluster");
//! settings.autostart = Some(1);
//! let master = Master::builder(settings).start().await?;
//! println!("storage nodes and clients connect to {}", master.address());
//! master.serving().await;
//! master.stop_cluster().await?;
//! # Ok(())
//! # }
//! ```
//!
//! The node is a pure core, [`MasterCore`], in a thin shell: a simulator runs the same core.
//!
//! # What it promises
//!
//! - Transactions are committed in order of tid, and tids increase: across a new primary, and
//!   whatever the clock does.
//! - An oid is handed out once in the life of a cluster.
//! - A cluster starts only with every readable cell of its newest partition table, unless the
//!   operator forces it: that opens an epoch, which keeps the other side out.
//! - A change of the partition table reaches every peer before any answer that it allows.
//! - Every queue has a bound, a setting of [`MasterSettings`]; beyond it, requests are refused in
//!   words.

mod config;
mod core;
mod election;
mod server;

#[doc(hidden)]
pub use config::Mutations;
pub use config::{MasterSettings, SettingsError};
pub use core::{Command, Event, MasterCore, Never, Status};
pub use election::PeerElection;
pub use server::{Master, MasterBuilder, RunningMaster, StartError};
