//! Connections that say nothing, more of them than a node can have.

use std::time::{Duration, Instant};

use neo_testkit::process::Process;

use crate::cluster::{self, lines_about, neoctl};
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
