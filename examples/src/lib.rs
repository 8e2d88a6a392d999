//! Programs that show how neo is used and extended; each runs in a second and asserts what it
//! shows. `cargo run -p examples --example NAME`:
//!
//! | name | shows |
//! | --- | --- |
//! | `custom_election` | who leads, decided by a lease service outside the cluster |
