//! Storage nodes on MariaDB: servers and nodes are killed under a load of transfers.

use std::path::Path;
use std::time::Duration;

use neo_api::Partition;
use neo_testkit::MariaDb;
use neo_testkit::invariant::committed;
use neo_testkit::process::{ClusterOptions, ProcessCluster};

use crate::bank::Bank;
use crate::{connect, crashes, neoctl, some_time, until_committed};

/// What is killed.
#[derive(Debug, Clone, Copy)]
enum Victim {
    Server,
    Node,
    Both,
}

/// Until every copy is complete: then either node can go.
async fn until_complete(cluster: &ProcessCluster) {
    let deadline = tokio::time::Instant::now() + Duration::from_secs(60);
    loop {
        let pt = neoctl(cluster, &["print", "pt"]);
        if pt.matches(" R UUUUUUUUUUUU").count() == 2 {
            return;
        }
        assert!(tokio::time::Instant::now() < deadline, "{pt}");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

/// Nothing that was acknowledged is lost, and nothing is done twice: transfers say which ones they
/// are, and sums stay what they are.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nothing_is_lost_or_done_twice_when_servers_and_nodes_are_killed() {
    let dir = tempfile::tempdir().expect("a directory");
    let engines = ["InnoDB", "RocksDB"];
    let mut servers = engines.map(|engine| MariaDb::start(engine).expect("a server starts"));
    let programs = Path::new(env!("CARGO_BIN_EXE_neomaster"));
    let programs = programs.parent().expect("a directory");
    let mut options = ClusterOptions::new(programs, dir.path());
    options.adapter = "MySQL".to_owned();
    options.databases = (servers.iter().zip(engines))
        .map(|(server, engine)| {
            let database = server.database("neo").expect("a database is created");
            format!("{database}?engine={engine}")
        })
        .collect();
    let mut cluster = ProcessCluster::start(&options).expect("the cluster starts");
    let client = connect(&cluster).await;
    let bank = Bank::open(&client, 10).await.expect("accounts open");
    let mut random = 0x6c62_272e_07bb_0142;
    let victims = [Victim::Server, Victim::Node, Victim::Both];
    let rounds = crashes().div_ceil(3);
    let workers = bank.work(&client, 8);
    for round in 0..rounds {
        let (victim, n) = (victims[round as usize % 3], (random >> 40) as usize % 2);
        until_complete(&cluster).await;
        until_committed(&bank, 20).await;
        some_time(&mut random).await;
        match victim {
            Victim::Server => servers[n].restart().expect("the server starts again"),
            Victim::Node => {
                cluster.storages[n].kill().expect("it is killed");
                until_committed(&bank, 20).await;
                cluster.storages[n].start().expect("it starts");
            }
            Victim::Both => {
                servers[n].kill().expect("the server is killed");
                cluster.storages[n].kill().expect("it is killed");
                until_committed(&bank, 20).await;
                servers[n].restart().expect("the server starts again");
                cluster.storages[n].start().expect("it starts");
            }
        }
        until_committed(&bank, 20).await;
        assert_eq!(bank.take_errors(), Vec::<String>::new(), "round {round}");
    }
    // All at once, in the midst of it.
    until_complete(&cluster).await;
    some_time(&mut random).await;
    cluster.kill_all().expect("killed");
    bank.leave(workers);
    for server in &mut servers {
        server.restart().expect("the server starts again");
    }
    assert_eq!(bank.take_wrong_sums(), Vec::<String>::new());
    cluster.start_all().expect("they start");
    let client = connect(&cluster).await;
    let transfers = bank.check_history(&client).await.expect("history");
    let acknowledged = bank.committed();
    println!("{rounds} rounds, {transfers} transfers, {acknowledged} acknowledged");
    until_complete(&cluster).await;
    client.close().await;
    cluster.stop().expect("a clean stop");
    let mut contents = Vec::new();
    for database in &options.databases {
        let backend = neo_backends::open("MySQL", database).expect("it opens");
        let lines = committed(&*backend, (0..12).map(Partition)).await;
        backend.close().await.expect("it closes");
        contents.push(lines.expect("it is read"));
    }
    assert!(contents[0].len() > 100, "there was something to compare");
    assert_eq!(contents[0], contents[1]);
}
