//! The admin node of **neo**, and the typed control client that `neoctl` is made of.
//!
//! An [`Admin`] node follows the primary master: it always knows the cluster's state, its nodes and
//! the partition table. Operators connect to it; it answers what it knows, and relays the commands
//! that change something to the primary. It keeps nothing on disk, a cluster serves without it, and
//! there may be several.
//!
//! [`Control`] is the operator's side:
//! ```no_run
//! # async fn example() -> Result<(), Box<dyn std::error::Error>> {
//! use neo_admin::Control;
//!
//! let control = Control::connect(&"127.0.0.1:9999".parse()?).await?;
//! let cluster = control.cluster().await?;
//! if let Some(state) = cluster.state {
//!     println!("{state} {}", cluster.waiting);
//! }
//! # Ok(())
//! # }
//! ```

mod control;
mod core;
mod server;

pub use crate::control::{ClusterStatus, Control, ControlError, Tweaked};
pub use crate::core::{AdminCommand, AdminCore, AdminSettings, AdminStatus};
pub use crate::server::{Admin, AdminBuilder, RunningAdmin, StartError};
