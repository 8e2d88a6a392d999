//! The programs that run one node: `neomaster`, `neostorage`, `neoadmin`.

pub mod args;
pub mod database;
pub mod run;
pub mod settings;
