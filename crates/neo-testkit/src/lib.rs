//! What it takes to test the parts of a neo cluster.
//!
//! | to | use |
//! | --- | --- |
//! | prove a [`StorageBackend`](neo_api::StorageBackend) of your own | [`backend_conformance!`] |
//! | cut the power under a [`KvEngine`](neo_api::KvEngine) | [`CrashEngine`] |

pub mod conformance;
mod crash_engine;

pub use crash_engine::CrashEngine;
