//! Whole clusters in one process, with the real drivers: what works when nothing fails, and when a
//! node does.

#![expect(clippy::unwrap_used, reason = "what must not be fails the test")]

mod adapters;
mod bank;
mod basic;
mod conflicts;
mod databases;
mod direct;
mod history;
mod import;
mod replaced;
mod sizes;
mod undo;

use neo_client::Client;
use neo_testkit::{Cluster, ClusterBuilder};

/// Both transports: what is true on one must be true on the other.
fn both() -> [(&'static str, ClusterBuilder); 2] {
    [
        ("memory", Cluster::builder().memory()),
        ("TCP", Cluster::builder().tcp()),
    ]
}

/// A cluster with a replica and a client of it.
async fn replicated() -> (Cluster, Client) {
    let builder = Cluster::builder().storages(2).replicas(1);
    let cluster = builder.start().await.expect("the cluster starts");
    let client = cluster.client().await.expect("a client connects");
    (cluster, client)
}
