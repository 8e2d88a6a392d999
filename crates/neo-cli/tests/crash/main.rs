//! Real processes over SQLite, killed with SIGKILL under a load of transfers.

mod bank;
mod forced;
mod mariadb;
mod masters;

use std::path::Path;
use std::time::Duration;

use bank::Bank;
use neo_api::Partition;
use neo_client::{Client, Tid, TransactionMeta};
use neo_testkit::invariant::committed;
use neo_testkit::process::{CLUSTER, ClusterOptions, Process, ProcessCluster};

/// Moments at which everything is killed; `NEO_CRASHES` makes them more.
fn crashes() -> u64 {
    std::env::var("NEO_CRASHES")
        .ok()
        .and_then(|n| n.parse().ok())
        .unwrap_or(20)
}

fn start(dir: &Path) -> ProcessCluster {
    let programs = Path::new(env!("CARGO_BIN_EXE_neomaster"))
        .parent()
        .expect("a directory");
    ProcessCluster::start(&ClusterOptions::new(programs, dir)).expect("the cluster starts")
}

async fn connect(cluster: &ProcessCluster) -> Client {
    Client::connect(CLUSTER, [cluster.master_address().to_string()])
        .await
        .expect("the cluster becomes ready")
}

/// Commits until so many more transfers are acknowledged.
async fn until_committed(bank: &Bank, more: usize) {
    let goal = bank.committed() + more;
    let deadline = tokio::time::Instant::now() + Duration::from_secs(60);
    while bank.committed() < goal {
        assert!(
            tokio::time::Instant::now() < deadline,
            "no progress: {:?}",
            bank.take_errors()
        );
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
}

fn neoctl(cluster: &ProcessCluster, words: &[&str]) -> String {
    let admin = cluster.admin_address().to_string();
    let output = std::process::Command::new(env!("CARGO_BIN_EXE_neoctl"))
        .args(["-a", &admin])
        .args(words)
        .output()
        .expect("neoctl runs");
    assert!(output.status.success(), "{output:?}");
    String::from_utf8(output.stdout).expect("text")
}

/// Waits for a moment that is another one each time.
async fn some_time(random: &mut u64) {
    *random ^= *random << 13;
    *random ^= *random >> 7;
    *random ^= *random << 17;
    tokio::time::sleep(Duration::from_micros(*random % 60_000)).await;
}

/// Each moment on a cluster of its own: a storage that was away stays out of date.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn clients_do_not_notice_that_a_storage_is_killed() {
    let mut random = 0x9e37_79b9_7f4a_7c15;
    let (mut transfers, mut acknowledged) = (0, 0);
    for moment in 0..crashes() {
        let dir = tempfile::tempdir().expect("a directory");
        let mut cluster = start(dir.path());
        let (one, other) = (connect(&cluster).await, connect(&cluster).await);
        let bank = Bank::open(&one, 10).await.expect("accounts open");
        other.sync().await.expect("it hears of the accounts");
        let mut workers = bank.work(&one, 4);
        workers.extend(bank.work(&other, 4));
        until_committed(&bank, 10).await;
        some_time(&mut random).await;
        let lost = (random >> 40) as usize % 2;
        cluster.storages[lost].kill().expect("it is killed");
        until_committed(&bank, 50).await;

        // It comes back out of date, is not read, and is in nobody's way.
        cluster.storages[lost].start().expect("it starts");
        until_committed(&bank, 50).await;
        bank.rest(workers).await;
        let errors = bank.take_errors();
        assert!(errors.is_empty(), "moment {moment}: {errors:?}");
        transfers += bank.check_history(&one).await.expect("history");
        let workers = bank.work(&one, 8);
        some_time(&mut random).await;

        // With the survivor gone, nothing may be served from the stale copy.
        cluster.kill_all().expect("killed");
        bank.leave(workers);
        assert_eq!(bank.take_wrong_sums(), Vec::<String>::new());
        cluster.masters[0].start().expect("it starts");
        cluster.storages[lost].start().expect("it starts");
        cluster.masters[0]
            .wait_for("waiting for S")
            .expect("the master waits for the survivor");
        cluster.start_all().expect("they start");
        let client = connect(&cluster).await;
        bank.check_history(&client).await.expect("history");
        acknowledged += bank.committed();
        cluster.stop().expect("a clean stop");
    }
    println!("{transfers} transfers, {acknowledged} acknowledged");
}

/// A node that stops without ending, as with a disk that hangs, is expelled like a dead one.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_frozen_storage_holds_clients_up_for_a_while_only() {
    let dir = tempfile::tempdir().expect("a directory");
    let mut cluster = start(dir.path());
    let client = connect(&cluster).await;
    let bank = Bank::open(&client, 10).await.expect("accounts open");
    let workers = bank.work(&client, 8);
    until_committed(&bank, 10).await;
    cluster.storages[0].signal("STOP").expect("it is frozen");
    // Some are on their way to it; these wait until it has been silent for too long.
    until_committed(&bank, 200).await;
    let pt = neoctl(&cluster, &["print", "pt"]);
    assert!(pt.contains("OOOOOOOOOO"), "{pt}");
    cluster.storages[0].signal("CONT").expect("it goes on");
    until_committed(&bank, 50).await;
    bank.rest(workers).await;
    assert_eq!(bank.take_errors(), Vec::<String>::new());
    bank.check_history(&client).await.expect("history");
    cluster.stop().expect("a clean stop");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nothing_is_lost_when_every_process_is_killed_at_once() {
    let dir = tempfile::tempdir().expect("a directory");
    let mut cluster = start(dir.path());
    let client = connect(&cluster).await;
    let bank = Bank::open(&client, 10).await.expect("accounts open");
    let mut random = 0x2545_f491_4f6c_dd1d;
    let mut transfers = 0;
    for moment in 0..crashes() {
        let client = connect(&cluster).await;
        let workers = bank.work(&client, 8);
        until_committed(&bank, 10).await;
        some_time(&mut random).await;
        let errors = bank.take_errors();
        assert!(errors.is_empty(), "before crash {moment}: {errors:?}");
        cluster.kill_all().expect("killed");
        bank.leave(workers);
        assert_eq!(bank.take_wrong_sums(), Vec::<String>::new());
        cluster.start_all().expect("they start");
        let client = connect(&cluster).await;
        transfers = bank.check_history(&client).await.expect("history");
    }
    println!(
        "{} crashes, {transfers} transfers, {} acknowledged",
        crashes(),
        bank.committed()
    );
    cluster.stop().expect("a clean stop");
    let one = contents(&dir.path().join("s1.sqlite")).await;
    let other = contents(&dir.path().join("s2.sqlite")).await;
    assert_eq!(one.len(), other.len());
    for (one, other) in one.iter().zip(&other) {
        assert_eq!(one, other);
    }
}

/// Every transaction and revision of a database.
async fn contents(path: &Path) -> Vec<String> {
    let path = path.display().to_string();
    let backend = neo_backends::open("SQLite", &path).expect("it opens");
    let lines = committed(&*backend, (0..12).map(Partition)).await;
    backend.close().await.expect("it closes");
    let lines = lines.expect("it is read");
    assert!(lines.len() > 100, "there was something to compare");
    lines
}

/// Commits a few transactions, one after the other, on storages under `strace`; gives the traces.
async fn traced_commits(dir: &Path, synchronous: &str) -> Vec<String> {
    let mut cluster = start(dir);
    connect(&cluster).await.close().await;
    cluster.stop().expect("a clean stop");
    for (n, storage) in cluster.storages.iter_mut().enumerate() {
        let database = dir.join(format!("s{}.sqlite", n + 1));
        let uri = format!("file:{}?synchronous={synchronous}", database.display());
        storage.set_option("-d", &uri);
    }
    cluster.start_all().expect("they start");
    let client = connect(&cluster).await;
    let mut traces = Vec::new();
    for (n, storage) in cluster.storages.iter().enumerate() {
        let trace = dir.join(format!("trace{n}"));
        let pid = storage.pid().expect("it runs").to_string();
        let calls = "trace=fsync,fdatasync,pwrite64,write,writev,sendto,sendmsg";
        let out = trace.display().to_string();
        let arguments = [
            "-f", "-y", "-x", "-s", "65536", "-e", calls, "-o", &out, "-p", &pid,
        ];
        let arguments = arguments.iter().map(|&a| a.to_owned()).collect();
        let mut strace = Process::new("strace".into(), arguments, dir.join(format!("strace{n}")));
        strace
            .start()
            .expect("strace is installed by the test command");
        strace.wait_for("attached").expect("strace may trace");
        traces.push((strace, trace));
    }
    for _ in 0..COMMITS {
        let transaction = client
            .begin(TransactionMeta::default())
            .await
            .expect("begin");
        let oid = client.new_oid().await.expect("oid");
        transaction
            .store(oid, Tid::ZERO, "durable")
            .await
            .expect("store");
        transaction.commit().await.expect("commit");
    }
    client.close().await;
    cluster.stop().expect("a clean stop");
    let traces = traces.into_iter().map(|(mut strace, path)| {
        strace.wait().expect("strace ends with what it traces");
        std::fs::read_to_string(path).expect("a trace")
    });
    traces.collect()
}

const COMMITS: usize = 6;

/// Codes of `AnswerStoreTransaction`, `AnswerVoteTransaction` and `AnswerInformationLocked` in
/// CBOR, as `strace -x` prints them: what a storage may say only when it is durable.
const PROMISES: [&str; 3] = [r"\x19\x80\x36", r"\x19\x80\x37", r"\x19\x80\x3a"];

/// How many promises a storage sent, and how many of them before what it had written to its
/// write-ahead log was synced.
fn promises(trace: &str) -> (usize, usize) {
    let (mut dirty, mut sent, mut early) = (false, 0, 0);
    let mut syncing = std::collections::BTreeSet::new();
    for line in trace.lines() {
        let (pid, rest) = line.trim_start().split_once(' ').unwrap_or((line, ""));
        let rest = rest.trim_start();
        let is_sync = rest.starts_with("fsync(") || rest.starts_with("fdatasync(");
        if is_sync && rest.contains("-wal>") {
            if rest.contains("<unfinished") {
                syncing.insert(pid.to_owned());
            } else {
                dirty = false;
            }
        } else if rest.starts_with("<... fsync resumed")
            || rest.starts_with("<... fdatasync resumed")
        {
            if syncing.remove(pid) {
                dirty = false;
            }
        } else if rest.starts_with("pwrite64(") && rest.contains("-wal>") {
            dirty = true;
        } else if !rest.starts_with("<...") && rest.contains("<socket:") {
            let here: usize = PROMISES.iter().map(|code| rest.matches(code).count()).sum();
            sent += here;
            early += if dirty { here } else { 0 };
        }
    }
    (sent, early)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_sync_lies_between_the_last_write_and_the_answer() {
    let dir = tempfile::tempdir().expect("a directory");
    for trace in traced_commits(&dir.path().join("full"), "full").await {
        let (sent, early) = promises(&trace);
        assert!(
            sent >= COMMITS,
            "the trace shows the answers, {sent} of them"
        );
        assert_eq!(early, 0, "answers before the sync, of {sent}");
    }
    let mut early = 0;
    for trace in traced_commits(&dir.path().join("off"), "off").await {
        early += promises(&trace).1;
    }
    assert!(
        early >= COMMITS,
        "without syncs the same check fails: {early} early answers"
    );
}
