//! Several masters as real processes: stopped by the operator, killed, and found again.

use std::path::Path;
use std::process::Command;
use std::time::Duration;

use neo_client::{Client, Oid, TransactionMeta};
use neo_testkit::process::{CLUSTER, ClusterOptions, ProcessCluster};

use crate::neoctl;

fn start(dir: &Path, masters: u32) -> ProcessCluster {
    let programs = Path::new(env!("CARGO_BIN_EXE_neomaster"))
        .parent()
        .expect("a directory");
    let mut options = ClusterOptions::new(programs, dir);
    options.masters = masters;
    ProcessCluster::start(&options).expect("the cluster starts")
}

async fn connect(cluster: &ProcessCluster) -> Client {
    let masters = cluster.master_addresses().iter().map(ToString::to_string);
    let client = Client::builder(CLUSTER).masters(masters).connect().await;
    client.expect("the cluster becomes ready")
}

async fn write(client: &Client, oid: Oid, value: &'static str) {
    let patience = Duration::from_secs(30);
    client.wait_ready(patience).await.expect("a primary");
    let meta = TransactionMeta::default();
    let done = client.transact_as(meta, |txn| async move {
        txn.load(oid).await?;
        txn.store(oid, value).await
    });
    done.await.expect("a commit");
}

/// Masters as `neoctl print node` lists them: id, address, state.
fn masters(cluster: &ProcessCluster) -> Vec<(String, String, String)> {
    let nodes = neoctl(cluster, &["print", "node", "MASTER"]);
    let rows = nodes.lines().map(|line| {
        let mut words = line.split('|').map(|word| word.trim().to_owned());
        let mut word = || words.next().unwrap_or_default();
        let (nid, _, address, state) = (word(), word(), word(), word());
        (nid, address, state)
    });
    rows.collect()
}

/// Waits until so many masters are RUNNING, as the admin node sees it.
async fn wait_masters(cluster: &ProcessCluster, running: usize) -> Vec<(String, String, String)> {
    let deadline = tokio::time::Instant::now() + Duration::from_secs(30);
    loop {
        let output = Command::new(env!("CARGO_BIN_EXE_neoctl"))
            .args(["-a", &cluster.admin_address().to_string(), "print", "node"])
            .output()
            .expect("neoctl runs");
        // The admin node may be between two primaries.
        if output.status.success() {
            let listed = masters(cluster);
            if listed.iter().filter(|m| m.2 == "RUNNING").count() == running {
                return listed;
            }
        }
        assert!(tokio::time::Instant::now() < deadline, "{output:?}");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

/// Which process has an address, from 0.
fn process_at(cluster: &ProcessCluster, address: &str) -> usize {
    let mut addresses = cluster.master_addresses().iter();
    let at = addresses.position(|known| known.to_string() == address);
    at.expect("it is one of the masters")
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_secondary_is_stopped_then_the_primary_is_killed_and_the_third_leads() {
    let dir = tempfile::tempdir().expect("a directory");
    let mut cluster = start(dir.path(), 3);
    let client = connect(&cluster).await;
    let oid = client.new_oid().await.expect("an oid");
    write(&client, oid, "first").await;

    let listed = wait_masters(&cluster, 3).await;
    let primary = neoctl(&cluster, &["print", "primary"]);
    let primary = primary.trim();
    let output = Command::new(env!("CARGO_BIN_EXE_neoctl"))
        .args(["-a", &cluster.admin_address().to_string(), "kill", primary])
        .output()
        .expect("neoctl runs");
    let refused = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(
        refused.contains("the primary master can't be stopped"),
        "{refused}"
    );

    let secondary = listed.iter().find(|m| m.0 != primary).expect("a secondary");
    neoctl(&cluster, &["kill", &secondary.0]);
    let stopped = process_at(&cluster, &secondary.1);
    let status = cluster.masters[stopped].wait().expect("it ends");
    assert!(status.success(), "{}", cluster.masters[stopped].output());
    let listed = wait_masters(&cluster, 2).await;
    let state = |nid: &str| listed.iter().find(|m| m.0 == nid).map(|m| m.2.clone());
    assert_eq!(state(&secondary.0).as_deref(), Some("DOWN"));

    let leader = listed
        .iter()
        .find(|m| m.0 == primary)
        .expect("it is listed");
    let leader = process_at(&cluster, &leader.1);
    cluster.masters[leader].kill().expect("it is killed");
    write(&client, oid, "second").await;
    let listed = wait_masters(&cluster, 1).await;
    let third = listed.iter().find(|m| m.2 == "RUNNING").expect("one leads");
    assert!(![stopped, leader].contains(&process_at(&cluster, &third.1)));

    // Those that come back follow, whatever they were.
    cluster.start_all().expect("they start");
    let listed = wait_masters(&cluster, 3).await;
    assert_eq!(neoctl(&cluster, &["print", "primary"]).trim(), third.0);
    assert_eq!(listed.len(), 3);
    write(&client, oid, "third").await;
    client.close().await;

    neoctl(&cluster, &["set", "cluster", "STOPPING"]);
    for process in cluster.processes() {
        let status = process.wait().expect("it ends with the cluster");
        assert!(status.success(), "{}", process.output());
    }
}

/// A storage node and an admin node that are told of one master only learn of the other, keep both
/// in their files, and find the other by them when the one is gone for good.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn masters_that_were_learnt_are_kept_and_found() {
    let dir = tempfile::tempdir().expect("a directory");
    let mut cluster = start(dir.path(), 2);
    let client = connect(&cluster).await;
    let oid = client.new_oid().await.expect("an oid");
    write(&client, oid, "first").await;
    client.close().await;
    let listed = wait_masters(&cluster, 2).await;
    let primary = neoctl(&cluster, &["print", "primary"]);
    let leader = listed
        .iter()
        .find(|m| m.0 == primary.trim())
        .expect("it is listed");
    let leader = process_at(&cluster, &leader.1);
    let told = cluster.master_addresses()[leader].to_string();
    let other = cluster.master_addresses()[1 - leader].to_string();

    let files: Vec<_> = (1..=3)
        .map(|n| dir.path().join(format!("masters{n}.json")))
        .collect();
    let mut nodes: Vec<_> = cluster
        .storages
        .iter_mut()
        .chain([&mut cluster.admin])
        .collect();
    for (node, file) in nodes.iter_mut().zip(&files) {
        node.stop().expect("it stops");
        node.set_option("-m", &told);
        node.add_option("-D", &file.display().to_string());
        node.start().expect("it starts");
    }
    let kept = |file: &Path| {
        let text = std::fs::read_to_string(file).unwrap_or_default();
        text.contains(&told) && text.contains(&other)
    };
    let deadline = tokio::time::Instant::now() + Duration::from_secs(30);
    while !files.iter().all(|file| kept(file)) {
        assert!(tokio::time::Instant::now() < deadline, "{files:?}");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    cluster.masters[leader].kill().expect("it is killed");
    for node in cluster.storages.iter_mut().chain([&mut cluster.admin]) {
        node.stop().expect("it stops");
        node.start().expect("it starts");
    }
    let client = Client::builder(CLUSTER).master(other).connect().await;
    write(&client.expect("it is ready"), oid, "second").await;
    wait_masters(&cluster, 1).await;
}
