//! Whole clusters on one thread and in virtual time.
//!
//! The nodes are the cores that run in production; every message is encoded and decoded on its
//! way; storage nodes write to a real backend whose power can go at any moment. Faults are placed
//! exactly: the world counts *points* (each message that arrives, each write that is done), and a
//! test places a crash, a cut or a delay before or after any of them. A run is a function of its
//! settings and of what the test asks: [`Trace::hash`] tells whether two runs were the same.
//!
//! A test is a few lines: scripts for the clients, faults, and a check of everything that the
//! clients were told, of all copies and of their caches.
//!
//! ```
//! use neo_api::Tid;
//! use neo_testkit::sim::{
//!     Fault, InFlight, Keep, PATIENCE, Pattern, SimClient, Stuck, When, World, WorldSettings, c, m, s,
//! };
//!
//! let mut world = World::booted(WorldSettings::default());
//! // The master crashes when it is about to hear that the first storage node has locked.
//! let locked = Pattern::arrival(s(1), m(1), "AnswerInformationLocked");
//! let crash = Fault::Crash {
//!     nodes: vec![m(1)],
//!     keep: Keep::None,
//!     in_flight: InFlight::Lost,
//! };
//! world.plan_at(locked, When::Before, crash);
//! let stored = world.run_script(c(1), async |client: SimClient| {
//!     let oid = client.new_oids(1).await?[0];
//!     let txn = client.begin().await?;
//!     txn.store(oid, Tid::ZERO, "value").await?;
//!     txn.commit().await
//! });
//! world.run_until("the crash", PATIENCE, World::has_struck)?;
//! // What is down is started, and all copies become complete.
//! world.heal()?;
//! world.run_until("the commit", PATIENCE, |_| stored.is_done())?;
//! world.check().unwrap();
//! // It had a tid: it is committed, and its client knows.
//! assert!(stored.take().unwrap().is_ok());
//! # Ok::<(), Stuck>(())
//! ```
//!
//! [`World::with_backends`] puts the storage nodes on backends of your own;
//! [`random`](crate::random) makes scripts and faults by chance.
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
