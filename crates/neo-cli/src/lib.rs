//! The programs of **neo**: what is behind their `main`s.

pub mod config;
pub mod ctl;
pub mod lacking;
pub mod logging;
pub mod migrate;
pub mod node;
pub mod programs;
pub mod report;
pub mod signal;
pub mod simple;
