//! Clusters of real processes, and where they listen.

use std::path::Path;
use std::process::Command;

use neo_api::Address;
use neo_client::blocking::Client;
use neo_testkit::process::{CLUSTER, ClusterOptions, Process, ProcessCluster};

/// A fresh cluster: 2 storage nodes, 1 replica.
pub(crate) fn start(dir: &Path) -> ProcessCluster {
    ProcessCluster::start(&options(dir)).expect("the cluster starts")
}

pub(crate) fn options(dir: &Path) -> ClusterOptions {
    ClusterOptions::new(programs(), dir)
}

/// The directory of the programs.
pub(crate) fn programs() -> &'static Path {
    Path::new(env!("CARGO_BIN_EXE_neomaster"))
        .parent()
        .expect("a directory")
}

pub(crate) fn connect(cluster: &ProcessCluster) -> Client {
    Client::connect(CLUSTER, [cluster.master_address().to_string()])
        .expect("the cluster becomes ready")
}

/// What `neoctl` prints.
pub(crate) fn neoctl(admin: &str, command: &[&str]) -> String {
    let output = Command::new(env!("CARGO_BIN_EXE_neoctl"))
        .args(["-a", admin])
        .args(command)
        .output()
        .expect("it runs");
    assert!(output.status.success(), "{output:?}");
    String::from_utf8(output.stdout).expect("text")
}

/// What a node of a cluster is called here.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kind {
    Master,
    Admin,
    Storage,
}

/// Every node that listens, and where.
pub(crate) fn nodes(cluster: &mut ProcessCluster) -> Vec<(Kind, Address, &mut Process)> {
    let mut nodes = vec![
        (Kind::Master, cluster.master_address().clone()),
        (Kind::Admin, cluster.admin_address().clone()),
    ];
    for storage in &mut cluster.storages {
        nodes.push((Kind::Storage, listens_at(storage)));
    }
    let processes = [&mut cluster.masters[0], &mut cluster.admin]
        .into_iter()
        .chain(&mut cluster.storages);
    let nodes = nodes.into_iter().zip(processes);
    nodes
        .map(|((kind, at), process)| (kind, at, process))
        .collect()
}

/// Where a node says that it listens.
pub(crate) fn listens_at(process: &mut Process) -> Address {
    let line = process.wait_for("listening address=").expect("it listens");
    let (_, address) = line.split_once("listening address=").expect("just found");
    address.trim().parse().expect("an address")
}

/// Lines of the node's log that name the peer.
pub(crate) fn lines_about(process: &Process, peer: &str) -> Vec<String> {
    let output = process.output();
    let lines = output.lines().filter(|line| line.contains(peer));
    lines.map(str::to_owned).collect()
}
