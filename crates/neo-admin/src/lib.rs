//! The admin node of **neo**, and the typed control client that `neoctl` is made of.
//!
//! An admin node follows the primary master: it always knows the cluster's state, its nodes and the
//! partition table. Operators connect to it; it answers what it knows, and relays the commands that
//! change something to the primary. It keeps nothing on disk, a cluster serves without it, and
//! there may be several.

mod core;

pub use crate::core::{AdminCommand, AdminCore, AdminSettings, AdminStatus};
