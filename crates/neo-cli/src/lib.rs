//! The programs of **neo**.
pub mod config;
