//! Starts by force with real processes: what the operator is told, and who is refused.

use std::path::Path;
use std::process::Command;
use std::time::{Duration, Instant};

use neo_api::{PageLimit, Partition};
use neo_client::{Client, Oid, Tid, TransactionMeta};
use neo_testkit::process::ProcessCluster;

use crate::{connect, neoctl, start};

/// A cluster whose two databases have the same transaction.
async fn cluster(dir: &Path) -> (ProcessCluster, Oid) {
    let cluster = start(dir);
    let client = connect(&cluster).await;
    let oid = client.new_oid().await.expect("an oid");
    write(&client, oid, "first").await;
    client.close().await;
    (cluster, oid)
}

async fn write(client: &Client, oid: Oid, value: &'static str) {
    let meta = TransactionMeta::default();
    let done = client.transact_as(meta, |txn| async move {
        txn.load(oid).await?;
        txn.store(oid, value).await
    });
    done.await.expect("a commit");
}

async fn commit(cluster: &ProcessCluster, oid: Oid, value: &'static str) {
    let client = connect(cluster).await;
    write(&client, oid, value).await;
    client.close().await;
}

async fn read(cluster: &ProcessCluster, oid: Oid) -> String {
    let client = connect(cluster).await;
    let object = client.load(oid).await.expect("a read").expect("it exists");
    client.close().await;
    String::from_utf8(object.data.to_vec()).expect("text")
}

/// Stops everything, and starts the master, the admin node, and one storage node. Cleanly, so that
/// nothing is left to recovery: a database changes only if somebody writes to it.
fn restart_with(cluster: &mut ProcessCluster, storage: usize) {
    cluster.stop().expect("a clean stop");
    cluster.masters[0].start().expect("it starts");
    cluster.admin.start().expect("it starts");
    cluster.storages[storage].start().expect("it starts");
}

/// The node that the master says it waits for.
fn waited_for(cluster: &mut ProcessCluster) -> String {
    let line = cluster.masters[0]
        .wait_for("waiting for S")
        .expect("it waits");
    assert!(
        line.contains("(readable cells of the newest partition table"),
        "{line}"
    );
    let words = line.split("waiting for ").nth(1).expect("it says for whom");
    let nid = words.split(' ').next().expect("a word");
    nid.to_owned()
}

/// `neoctl start`: what it prints, as success or as failure.
fn order_start(cluster: &mut ProcessCluster) -> Result<String, String> {
    cluster
        .admin
        .wait_for("connected to the primary master")
        .expect("it finds the master");
    let output = Command::new(env!("CARGO_BIN_EXE_neoctl"))
        .args(["-a", &cluster.admin_address().to_string(), "start"])
        .output()
        .expect("neoctl runs");
    let text = |bytes: Vec<u8>| String::from_utf8(bytes).expect("text").trim().to_owned();
    if output.status.success() {
        Ok(text(output.stdout))
    } else {
        Err(text(output.stderr))
    }
}

fn forced(missing: &str) -> Result<String, String> {
    let come = if missing.contains(',') {
        "they come"
    } else {
        "it comes"
    };
    Ok(format!(
        "Cluster state changed: the cluster starts without {missing}, by force: what is on \
         {missing} only is lost, and {come} back out of date"
    ))
}

/// The transactions of a database that nobody uses.
async fn tids(dir: &Path, storage: usize) -> Vec<Tid> {
    let path = dir.join(format!("s{}.sqlite", storage + 1));
    let path = path.display().to_string();
    let backend = neo_backends::open("SQLite", &path).expect("it opens");
    let mut tids = Vec::new();
    for partition in (0..12).map(Partition) {
        let all = PageLimit::entries(1000);
        let found = backend.transactions(
            partition,
            Tid::ZERO,
            Tid::MAX,
            neo_api::Order::Ascending,
            all,
        );
        let found = found.await.expect("transactions");
        tids.extend(found.iter().map(|transaction| transaction.tid));
    }
    backend.close().await.expect("it closes");
    tids.sort();
    tids
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_start_by_force_without_a_copy_that_went_no_further() {
    let dir = tempfile::tempdir().expect("a directory");
    let (mut cluster, oid) = cluster(dir.path()).await;
    restart_with(&mut cluster, 0);
    let missing = waited_for(&mut cluster);
    assert_eq!(order_start(&mut cluster), forced(&missing));
    commit(&cluster, oid, "second").await;

    cluster.storages[1].start().expect("it starts");
    cluster.masters[0]
        .wait_for("takes part again, out of date")
        .expect("it is let in");
    commit(&cluster, oid, "third").await;
    let caught_up = format!("{missing} R UUUUUUUUUUUU");
    let deadline = Instant::now() + Duration::from_secs(60);
    while !neoctl(&cluster, &["print", "pt"]).contains(&caught_up) {
        assert!(Instant::now() < deadline, "it does not catch up");
    }

    // It is as good as the other one now.
    restart_with(&mut cluster, 1);
    let survivor = waited_for(&mut cluster);
    assert_ne!(survivor, missing);
    assert_eq!(order_start(&mut cluster), forced(&survivor));
    assert_eq!(read(&cluster, oid).await, "third");
    cluster.stop().expect("a clean stop");
    assert_eq!(tids(dir.path(), 0).await.len(), 3);
    assert_eq!(tids(dir.path(), 1).await.len(), 3);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_copy_that_went_on_is_refused_after_a_start_by_force_without_it() {
    let dir = tempfile::tempdir().expect("a directory");
    let (mut cluster, oid) = cluster(dir.path()).await;
    cluster.storages[0].kill().expect("killed");
    commit(&cluster, oid, "lost").await;
    restart_with(&mut cluster, 0);
    let missing = waited_for(&mut cluster);
    assert_eq!(order_start(&mut cluster), forced(&missing));
    commit(&cluster, oid, "kept").await;

    let before = tids(dir.path(), 1).await;
    cluster.storages[1].start().expect("it starts");
    let status = cluster.storages[1].wait().expect("it ends by itself");
    assert_eq!(status.code(), Some(1));
    let output = cluster.storages[1].output();
    let last = output.lines().last().expect("it says why");
    assert!(
        last.contains(&format!("{missing} went on to "))
            && last.contains(" on its own, while the cluster was started without it, by force")
            && last.ends_with("save from it what you need, then give it an empty database"),
        "{output}"
    );
    assert_eq!(read(&cluster, oid).await, "kept");
    cluster.stop().expect("a clean stop");
    assert_eq!(tids(dir.path(), 1).await, before);
    assert_eq!(tids(dir.path(), 0).await.len(), 2);
    // With a master of its own it is read, to save what it has.
    restart_with(&mut cluster, 1);
    assert_eq!(read(&cluster, oid).await, "lost");
    cluster.stop().expect("a clean stop");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn two_sides_that_were_both_started_by_force_do_not_mix() {
    let dir = tempfile::tempdir().expect("a directory");
    let (mut cluster, oid) = cluster(dir.path()).await;
    for (side, value) in [(0, "on the first side"), (1, "on the second side")] {
        restart_with(&mut cluster, side);
        let missing = waited_for(&mut cluster);
        assert_eq!(order_start(&mut cluster), forced(&missing));
        commit(&cluster, oid, value).await;
    }
    cluster.stop().expect("a clean stop");
    let before = [tids(dir.path(), 0).await, tids(dir.path(), 1).await];
    assert_ne!(before[0], before[1]);

    restart_with(&mut cluster, 0);
    assert_eq!(read(&cluster, oid).await, "on the first side");
    cluster.storages[1].start().expect("it starts");
    let status = cluster.storages[1].wait().expect("it ends by itself");
    assert_eq!(status.code(), Some(1));
    let output = cluster.storages[1].output();
    let last = output.lines().last().expect("it says why");
    assert!(
        last.ends_with(
            "cluster \"test\" was started by force on two sides, and this node is of the other \
             one: decide which side to keep, and empty the databases of the other"
        ),
        "{output}"
    );
    assert_eq!(read(&cluster, oid).await, "on the first side");
    cluster.stop().expect("a clean stop");
    assert_eq!(tids(dir.path(), 0).await, before[0]);
    assert_eq!(tids(dir.path(), 1).await, before[1]);
}
