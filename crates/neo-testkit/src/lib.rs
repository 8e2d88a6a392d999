//! What it takes to test the parts of a neo cluster.
//!
//! | to | use |
//! | --- | --- |
//! | prove a [`StorageBackend`](neo_api::StorageBackend) of your own | [`backend_conformance!`] |
//! | prove a [`KvEngine`](neo_api::KvEngine) of your own, before the backend over it | [`engine_conformance!`] |
//! | prove a [`Transport`](neo_api::Transport) of your own | [`transport_conformance!`] |
//! | prove an [`Election`](neo_api::Election) of your own | [`election_conformance!`] |
//! | cut the power under a [`KvEngine`](neo_api::KvEngine) | [`CrashEngine`] |
//! | run a whole cluster in one process | [`Cluster`] |
//! | run a whole cluster in virtual time, with faults at exact points | [`sim::World`] |
//! | find what is wrong with a history of transactions | [`history::History`] |
//! | let chance find what is wrong, and replay it | [`random::run`] |
//! | do both with a backend of your own | [`sim::World::with_backends`], [`random::run_with_backends`] |
//! | start, kill and restart a MariaDB server | [`MariaDb`] |
//! | start, kill and restart the real programs | [`process::ProcessCluster`] |

mod cluster;
pub mod conformance;
mod crash_engine;
pub mod history;
pub mod invariant;
mod mariadb;
pub mod oracle;
pub mod process;
pub mod random;
pub mod seed;
pub mod sim;
pub mod workload;

pub use cluster::{Cluster, ClusterBuilder, ClusterError};
pub use crash_engine::CrashEngine;
pub use mariadb::MariaDb;
