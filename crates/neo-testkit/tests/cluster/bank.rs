//! Many clients at once, and a storage node that is killed under them.

use std::time::Duration;

use neo_client::{Client, Error};
use neo_testkit::Cluster;
use neo_testkit::workload::{Bank, Work};

const CLIENTS: u64 = 8;

async fn transfers(
    cluster: &Cluster,
    bank: &Bank,
    rounds: u64,
) -> Vec<tokio::task::JoinHandle<Result<Work, Error>>> {
    let mut tasks = Vec::new();
    for seed in 0..CLIENTS {
        let (client, bank) = (cluster.client().await.unwrap(), bank.clone());
        tasks.push(tokio::spawn(async move {
            bank.work(&client, seed, rounds).await
        }));
    }
    tasks
}

async fn all(tasks: Vec<tokio::task::JoinHandle<Result<Work, Error>>>) -> Work {
    let mut work = Work::default();
    for task in tasks {
        work.add(task.await.unwrap().unwrap());
    }
    work
}

/// Waits until so many transactions are committed, of those that go on.
async fn while_working<T>(client: &Client, commits: usize, tasks: &[tokio::task::JoinHandle<T>]) {
    let mut news = client.invalidations();
    for _ in 0..commits {
        news.recv().await.expect("the client is not closed");
    }
    let is_working = tasks.iter().any(|task| !task.is_finished());
    assert!(is_working, "all is done before the fault");
}

/// The sum is right at every tid; what was acknowledged is there, and nothing that nobody asked for.
async fn audit(client: &Client, bank: &Bank, work: &Work) {
    println!("{work:?}");
    client.wait_ready(Duration::from_secs(20)).await.unwrap();
    client.sync().await.unwrap();
    bank.audit(client).await.unwrap();
    let checked = bank.audit_history(client).await.unwrap() as u64;
    let (least, most) = (work.transfers, work.transfers + work.unknown);
    assert!(
        (1 + least..=1 + most).contains(&checked),
        "{checked}: {work:?}"
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn concurrent_transfers_keep_the_sum() {
    let builder = Cluster::builder().storages(2).replicas(1).tcp();
    let cluster = builder.start().await.unwrap();
    let client = cluster.client().await.unwrap();
    let bank = Bank::open(&client, 20, 100).await.unwrap();
    let tasks = transfers(&cluster, &bank, 40).await;
    let work = all(tasks).await;
    assert_eq!(work.transfers, CLIENTS * 40, "{work:?}");
    audit(&client, &bank, &work).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn transfers_go_on_when_a_storage_node_is_killed() {
    for (name, builder) in crate::both() {
        let mut cluster = builder.storages(2).replicas(1).start().await.unwrap();
        let client = cluster.client().await.unwrap();
        let bank = Bank::open(&client, 20, 100).await.unwrap();
        let tasks = transfers(&cluster, &bank, 60).await;
        while_working(&client, 50, &tasks).await;
        cluster.kill_storage(1).await;
        let work = all(tasks).await;
        println!("{name}: {work:?}");
        // Nobody gets an error that it did not cause.
        assert_eq!(work.transfers, CLIENTS * 60, "{name}: {work:?}");
        client.sync().await.unwrap();
        bank.audit(&client).await.unwrap();
        // What comes back is behind, and serves nothing.
        cluster.restart_storage(1).await.unwrap();
        bank.audit(&client).await.unwrap();
        let work = bank.work(&client, 99, 10).await.unwrap();
        assert_eq!(work.transfers, 10, "{name}");
        let checked = bank.audit_history(&client).await.unwrap();
        assert_eq!(checked as u64, 1 + CLIENTS * 60 + 10, "{name}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn everything_is_there_after_all_nodes_were_killed_at_once() {
    let builder = Cluster::builder().storages(2).replicas(1);
    let mut cluster = builder.start().await.unwrap();
    let client = cluster.client().await.unwrap();
    let bank = Bank::open(&client, 20, 100).await.unwrap();
    let tasks = transfers(&cluster, &bank, 40).await;
    while_working(&client, 50, &tasks).await;
    cluster.kill_all().await;
    cluster.restart_all().await.unwrap();
    let work = all(tasks).await;
    audit(&client, &bank, &work).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn transfers_survive_connections_that_are_cut() {
    let builder = Cluster::builder().storages(2).replicas(1);
    let cluster = builder.start().await.unwrap();
    let client = cluster.client().await.unwrap();
    let bank = Bank::open(&client, 20, 100).await.unwrap();
    let tasks = transfers(&cluster, &bank, 60).await;
    let network = cluster.network().expect("it is in memory");
    let mut cuts = 0;
    for round in 0..6 {
        while_working(&client, 20, &tasks).await;
        let cut = match round % 3 {
            0 => network.cut(&cluster.masters()[0]),
            1 => network.cut_all(),
            // The one that is left, if the other was expelled.
            _ => cluster.storage_address(2).map_or(0, |at| network.cut(at)),
        };
        cuts += cut;
        cluster.serving().await.unwrap();
    }
    assert!(cuts > 6, "{cuts} connections were cut");
    let work = all(tasks).await;
    audit(&client, &bank, &work).await;
}
