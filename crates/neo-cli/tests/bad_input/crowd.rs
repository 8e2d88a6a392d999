//! Connections that say nothing, more of them than a node can have.

use std::path::Path;
use std::time::{Duration, Instant};

use neo_testkit::process::{CLUSTER, ClusterOptions, Process, ProcessCluster};

use crate::cluster::{self, lines_about, neoctl, programs};
use crate::load::Load;
use crate::peer::Raw;

/// Of each kind, at each node.
const SILENT: usize = 100;
#[test]
fn silent_connections_are_closed_and_hold_nobody_up() {
    let dir = tempfile::tempdir().expect("a directory");
    let mut cluster = cluster::start(dir.path());
    let clients = [cluster::connect(&cluster), cluster::connect(&cluster)];
    let load = Load::start(&clients);
    load.until_committed(10);
    let begun = Instant::now();
    let mut nodes = cluster::nodes(&mut cluster);
    let mut silent = Vec::new();
    for (n, (_, at, _)) in nodes.iter().enumerate() {
        for _ in 0..SILENT {
            silent.push((n, Raw::connect(at), "no greeting within 5 s"));
            silent.push((n, Raw::greeted(at), "no message within 5 s"));
        }
    }
    load.until_committed(50);
    let admin = nodes[1].1.to_string();
    assert_eq!(neoctl(&admin, &["print", "cluster"]), "RUNNING\n");
    let mut gone = Vec::new();
    for (n, raw, reason) in silent {
        let from = format!("address={}}}", raw.from);
        let heard = raw.heard();
        assert!(heard.greeted && heard.errors.is_empty(), "{heard:?}");
        gone.push((n, from, reason));
    }
    let took = begun.elapsed();
    assert!(
        took < Duration::from_secs(15),
        "they were closed after {took:?}"
    );
    for (n, from, reason) in gone {
        let process: &mut Process = nodes[n].2;
        process.wait_for(&from).expect("it is logged");
        let lines = lines_about(process, &from);
        assert!(
            lines.len() == 1 && lines[0].contains(&format!("reason={reason}")),
            "{reason:?} is expected once: {lines:#?}"
        );
    }
    load.until_committed(50);
    load.end(&clients[0]);
    cluster.stop().expect("a clean stop");
}

/// The same storage node, with so few file descriptors.
fn with_descriptors(cluster: &mut ProcessCluster, dir: &Path, descriptors: u32) -> Process {
    cluster.storages[0].stop().expect("it stops");
    let script = format!("ulimit -n {descriptors}; exec \"$0\" \"$@\"");
    let program = programs().join("neostorage").display().to_string();
    let masters = cluster.master_address().to_string();
    let database = dir.join("s1.sqlite").display().to_string();
    let arguments = [
        "-c",
        &script,
        &program,
        "-c",
        CLUSTER,
        "-m",
        &masters,
        "-b",
        "127.0.0.1:0",
        "-d",
        &database,
    ];
    let arguments = arguments.iter().map(|&a| a.to_owned()).collect();
    let mut process = Process::new("sh".into(), arguments, dir.join("starved.log"));
    process.start().expect("it starts");
    process
}

#[test]
fn a_node_without_file_descriptors_serves_who_is_connected_and_recovers() {
    let dir = tempfile::tempdir().expect("a directory");
    let mut cluster = ProcessCluster::start(&ClusterOptions {
        storages: 1,
        replicas: 0,
        ..cluster::options(dir.path())
    })
    .expect("it starts");
    drop(cluster::connect(&cluster));
    let mut storage = with_descriptors(&mut cluster, dir.path(), 40);
    let clients = [cluster::connect(&cluster), cluster::connect(&cluster)];
    let load = Load::start(&clients);
    load.until_committed(10);
    let at = cluster::listens_at(&mut storage);
    let silent: Vec<Raw> = (0..60).map(|_| Raw::greeted(&at)).collect();
    storage
        .wait_for("a connection could not be accepted; next try in")
        .expect("it has no more descriptors");
    load.until_committed(200);
    drop(silent);
    let fresh = cluster::connect(&cluster);
    load.end(&fresh);
    assert!(
        storage
            .stop()
            .expect("it stops")
            .is_some_and(|status| status.success())
    );
    cluster.stop().expect("a clean stop");
}
