//! `neosimple`: a whole cluster in one command.

pub mod args;
pub mod memory;
