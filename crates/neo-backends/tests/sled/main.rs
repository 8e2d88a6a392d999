//! The engine on sled: what it opens, what it survives, what it syncs.

#![expect(clippy::unwrap_used, reason = "a test fails by a panic")]

mod crash;
mod golden;
#[path = "../support/golden.rs"]
mod golden_data;
#[path = "../support/kv_crash.rs"]
mod kv_crash;
#[path = "../support/kv_syncs.rs"]
mod kv_syncs;
mod open;
#[path = "../support/strace.rs"]
mod strace;
mod syncs;
#[path = "../support/kv_work.rs"]
mod work;
