//! A client that asks for more than it takes.

use std::sync::Arc;
use std::time::{Duration, Instant};

use neo_api::{Address, At, NodeType, Oid, Tid};
use neo_client::TransactionMeta;
use neo_client::blocking::Client;
use neo_proto::{Identification, Packet};
use neo_testkit::process::Process;

use crate::cluster::{self, Kind};
use crate::load::Load;
use crate::peer::{Raw, frame_of, identification, identify};

const OBJECTS: u64 = 24;
const OBJECT_BYTES: usize = 2 << 20;
/// Requests of the greedy client, on each storage node: 8 GiB of answers.
const REQUESTS: u64 = 4000;
/// What it may cost a node: what it keeps for a peer, twice over.
const COST_MAX: u64 = 150 << 20;

fn resident_bytes(process: &Process) -> u64 {
    let pid = process.pid().expect("it runs");
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).expect("it runs");
    let line = status.lines().find(|line| line.starts_with("VmRSS:"));
    let kib = line.and_then(|line| line.split_whitespace().nth(1));
    kib.and_then(|kib| kib.parse::<u64>().ok())
        .expect("a number")
        * 1024
}

fn store_large(client: &Client) -> Vec<Oid> {
    // Nothing that could be compressed.
    let mut state = 1_u64;
    let noise: Vec<u8> = std::iter::repeat_with(|| {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        state as u8
    })
    .take(OBJECT_BYTES)
    .collect();
    let oids = (0..OBJECTS).map(|_| {
        let transaction = client.begin(TransactionMeta::default()).expect("begin");
        let oid = client.new_oid().expect("an oid");
        transaction
            .store(oid, Tid::ZERO, noise.clone())
            .expect("store");
        transaction.commit().expect("commit");
        oid
    });
    oids.collect()
}

/// Identifies at the master, and then at a storage node with what the master said.
fn identified(at: &Address, nid_and_session: &Identification) -> Raw {
    let mut raw = Raw::greeted(at);
    let answer = raw.ask(1, &identify(nid_and_session.clone()));
    assert!(
        matches!(answer, Packet::AcceptIdentification { .. }),
        "{answer:?}"
    );
    raw
}

#[test]
fn a_client_that_asks_and_never_reads_costs_a_bounded_amount_of_memory() {
    let dir = tempfile::tempdir().expect("a directory");
    let mut cluster = cluster::start(dir.path());
    let clients = [cluster::connect(&cluster), cluster::connect(&cluster)];
    let oids = store_large(&clients[0]);
    let load = Load::start(&clients);
    load.until_committed(20);
    let mut nodes = cluster::nodes(&mut cluster);
    nodes.retain(|(kind, _, _)| *kind != Kind::Admin);
    let (_, master, _) = nodes.remove(0);

    let mut at_master = Raw::greeted(&master);
    let mut own = identification(NodeType::Client);
    match at_master.ask(1, &identify(own.clone())) {
        Packet::AcceptIdentification {
            your_nid,
            reign,
            session,
            ..
        } => {
            own.nid = Some(your_nid);
            own.session = Some((reign, session));
        }
        other => panic!("{other:?}"),
    }
    // Its connection to the master is alive, so that only the storage nodes can have enough of it.
    let beating = Arc::new(());
    let beats = Arc::downgrade(&beating);
    std::thread::spawn(move || {
        let beat = frame_of(0, &Packet::Heartbeat {}, b"");
        while beats.strong_count() > 0 {
            at_master.say(&beat);
            std::thread::sleep(Duration::from_millis(100));
        }
    });
    {
        let before: Vec<u64> = nodes.iter().map(|(_, _, p)| resident_bytes(p)).collect();
        let mut greedy = Vec::new();
        for (_, at, _) in &nodes {
            let mut raw = identified(at, &own);
            // As much credit as anybody could give.
            raw.tell(0, &Packet::Credit { bytes: 1 << 40 });
            let mut requests = Vec::new();
            for n in 0..REQUESTS {
                let oid = oids[(n % OBJECTS) as usize];
                let at = At::Latest;
                requests.extend(frame_of(2 + n, &Packet::AskObject { oid, at }, b""));
            }
            raw.say(&requests);
            greedy.push(raw);
        }
        let lost = format!("lost a client nid={}", own.nid.expect("it identified"));
        // Until they are sent away, others are served, and the nodes do not grow.
        let begun = Instant::now();
        let mut cost = 0;
        let mut left = vec![false; nodes.len()];
        while left.contains(&false) {
            assert!(
                begun.elapsed() < Duration::from_secs(25),
                "nobody is sent away; {} MiB",
                cost >> 20
            );
            load.until_committed(5);
            for (n, (_, _, process)) in nodes.iter().enumerate() {
                cost = cost.max(resident_bytes(process).saturating_sub(before[n]));
                left[n] = process.output().contains(&lost);
            }
        }
        println!(
            "{} MiB at most, sent away after {:?}",
            cost >> 20,
            begun.elapsed()
        );
        assert!(cost < COST_MAX, "{} MiB", cost >> 20);
    }
    drop(beating);
    load.end(&clients[0]);
    cluster.stop().expect("a clean stop");
}
