//! Programs that show how neo is used and extended; each runs in a second and asserts what it
//! shows. `cargo run -p examples --example NAME`:
//!
//! | name | shows |
//! | --- | --- |
//! | `custom_backend` | a storage backend over a log file, in a hundred lines |
//! | `custom_transport` | nodes that talk through Unix sockets |
//! | `custom_election` | who leads, decided by a lease service outside the cluster |
