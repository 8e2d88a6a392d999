//! The programs of **neo**: what is behind their `main`s.
//!
//! | program | what it is | its code |
//! | --- | --- | --- |
//! | `neosimple` | a whole cluster in one command | [`simple`] |
//! | `neomaster`, `neostorage`, `neoadmin` | one node | [`node`] |
//! | `neoctl` | an operator's commands | [`ctl`] |
//! | `neomigrate` | copies between a ZODB FileStorage and a cluster | [`migrate`] |
//! | `neostress` | a cluster that is broken in every way while clients commit to it | [`stress`] |
//!
//! [`Programs`] makes them, also with parts of your own: a storage backend under a name of its own, a
//! transport.
//!
//! They are thin: the nodes are libraries of their own, and so is the client. Here are their command
//! lines and their configuration file ([`config`]), signals, logs, and what is said to the operator.
//! A wrong command line or file ends with status 2, a failure with status 1; each with one line that
//! says what is wrong and what to do.

#![deny(clippy::print_stderr)] // It writes a line in pieces: `report::say`.

pub mod config;
pub mod ctl;
pub mod lacking;
pub mod logging;
pub mod migrate;
pub mod node;
mod programs;
pub mod report;
pub mod signal;
pub mod simple;
pub mod stress;

pub use programs::Programs;
