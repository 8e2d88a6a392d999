//! Programs that show how neo is used and extended; each runs in a second and asserts what it
//! shows. `cargo run -p examples --example NAME`:
//!
//! | name | shows |
//! | --- | --- |
//! | `quickstart` | store, load, look back, meet a conflict |
//! | `bank_transfer` | concurrent transactions, and that nothing is lost between them |
//! | `embedded_cluster` | the nodes as libraries, and the loss of one |
//! | `custom_backend` | a cluster that keeps its data in log files |
//! | `metered_backend` | a backend around another one |
//! | `custom_transport` | a cluster that talks through Unix sockets |
//! | `custom_election` | who leads, decided by a lease in a file |
//! | `custom_node` | a storage node program of your own, made of these |
//! | `simulated_backend` | a backend of your own in virtual time, with faults |
//!
//! The parts that they bring are the modules of this library, each with its conformance suite:
//! `cargo test -p examples`. `docs/sdk.md` walks through them.

pub mod lease;
pub mod log;
pub mod metered;
pub mod unix;

// The code in the guide is compiled, and run.
#[cfg(doctest)]
#[doc = include_str!(concat!(env!("OUT_DIR"), "/rust.md"))]
struct Guide;

// The code in the README is compiled.
#[cfg(doctest)]
#[doc = include_str!("../../README.md")]
struct Readme;
