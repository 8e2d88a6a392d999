//! Whole clusters on one thread and in virtual time.
//!
//! The nodes are the cores that run in production; every message is encoded and decoded on its
//! way; storage nodes write to a real backend whose power can go at any moment. Faults are placed
//! exactly: the world counts *points* (each message that arrives, each write that is done), and a
//! test places a crash, a cut or a delay before or after any of them. A run is a function of its
//! settings and of what the test asks: [`Trace::hash`] tells whether two runs were the same.
//!
//! What it does not execute: the driver, transports, worker threads, SQL backends.

mod client;
mod clock;
mod disk;
mod facts;
mod fault;
mod heal;
mod mailbox;
mod name;
mod network;
mod node;
mod puppet;
mod settings;
mod trace;
mod world;

pub use client::{Resolver, SimClient, SimTxn};
pub use disk::Disk;
pub use facts::{CellCopy, Facts, NodeCopy};
pub use fault::{Fault, Happens, InFlight, Keep, Pattern, Placed, Point, When};
pub use heal::PATIENCE;
pub use name::{Name, c, m, p, s};
pub use network::{LinkId, Side, Slow};
pub use node::Ended;
pub use puppet::{PuppetCore, Say};
pub use settings::WorldSettings;
pub use trace::Trace;
pub use world::{Handle, Stuck, Tally, World, run_ready};
