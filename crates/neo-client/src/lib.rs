//! Client.
pub mod core;
mod error;
pub use error::{Error, Result};
mod cache;
mod codec;
