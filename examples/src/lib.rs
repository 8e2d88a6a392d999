//! Programs that show how neo is used and extended; each runs in a second and asserts what it
//! shows. `cargo run -p examples --example NAME`:
//!
//! | name | shows |
//! | --- | --- |
//! | `quickstart` | store, load, look back, meet a conflict |
//! | `bank_transfer` | concurrent transactions, and that nothing is lost between them |
//! | `embedded_cluster` | the nodes as libraries, and the loss of one |
//! | `custom_backend` | a cluster that keeps its data in log files, and the conformance suite of a backend |
//! | `custom_transport` | a cluster that talks through Unix sockets, and the conformance suite of a transport |
//! | `custom_election` | who leads, decided by a lease service outside the cluster |

// The code in the guide is compiled, and run.
#[cfg(doctest)]
#[doc = include_str!(concat!(env!("OUT_DIR"), "/rust.md"))]
struct Guide;

// The code in the README is compiled.
#[cfg(doctest)]
#[doc = include_str!("../../README.md")]
struct Readme;
