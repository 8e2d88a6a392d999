//! Storage nodes whose disk is full: on a limited database, and on a small file system where one
//! may be mounted.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use neo_client::blocking::Client;
use neo_client::{Error, Lookup, Oid, Tid, TransactionMeta};
use neo_testkit::process::{ClusterOptions, Process, ProcessCluster};

use crate::cluster::{self, connect};

const OBJECT_BYTES: usize = 30_000;
/// Clients that write at the same time.
const CLIENTS: usize = 4;

/// What was tried, by the number in the transaction's description.
#[derive(Default)]
struct Told {
    committed: BTreeMap<u64, (Tid, Vec<Oid>)>,
    refused: BTreeSet<u64>,
    /// Words of refusals.
    words: BTreeSet<String>,
}

#[derive(Default)]
struct Writers {
    next: AtomicU64,
    told: Mutex<Told>,
}

impl Writers {
    /// One transaction of three new objects.
    fn write(&self, client: &Client) -> Result<(), Error> {
        let n = self.next.fetch_add(1, Ordering::SeqCst);
        let oids: Vec<Oid> = (0..3).map(|_| client.new_oid()).collect::<Result<_, _>>()?;
        let result = store(client, n, &oids).and_then(|transaction| transaction.commit());
        let mut told = self.told.lock().expect("nobody panics with it");
        match result {
            Ok(tid) => {
                told.committed.insert(n, (tid, oids));
                Ok(())
            }
            Err(error) => {
                told.refused.insert(n);
                told.words.insert(error.to_string());
                Err(error)
            }
        }
    }

    /// Several clients write until each is refused a few times; says how often.
    fn fill(&self, clients: &[Client]) {
        std::thread::scope(|scope| {
            for client in clients {
                scope.spawn(|| {
                    let mut refusals = 0;
                    while refusals < 5 {
                        match self.write(client) {
                            Ok(()) => {}
                            Err(Error::NoSpace(_)) => refusals += 1,
                            Err(error) => panic!("a full disk is told as such: {error}"),
                        }
                    }
                });
            }
        });
    }

    /// Whether clients can write.
    fn writes_all(&self, clients: &[Client]) -> bool {
        let mut rounds = std::iter::repeat_n(clients, 5).flatten();
        rounds.all(|client| self.write(client).is_ok())
    }

    fn committed(&self) -> usize {
        self.told.lock().expect("nobody panics").committed.len()
    }

    /// Everything acknowledged is there, and nothing that was refused.
    fn check(&self, reader: &Client) {
        let told = self.told.lock().expect("nobody panics with it");
        let mut seen: BTreeMap<u64, usize> = BTreeMap::new();
        let mut history = reader.iterate(Tid::ZERO..=Tid::MAX).expect("it reads");
        while let Some(transaction) = history.next() {
            let transaction = transaction.expect("the history is read");
            for object in history.objects_as_stored(&transaction).expect("it is read") {
                let data = object.data.expect("nothing is deleted");
                assert_eq!(data.len(), OBJECT_BYTES);
                let (n, _) = data.split_first_chunk::<8>().expect("as written");
                *seen.entry(u64::from_be_bytes(*n)).or_default() += 1;
            }
        }
        for (n, (_, oids)) in &told.committed {
            let whole = oids.len();
            assert_eq!(
                seen.remove(n),
                Some(whole),
                "transaction {n} was acknowledged"
            );
        }
        assert_eq!(seen, BTreeMap::new(), "nothing that was refused is there");
    }

    /// Every acknowledged object can be read, by clients that have nothing cached.
    fn read_all(&self, reader: &Client) {
        let told = self.told.lock().expect("nobody panics with it");
        for (tid, oids) in told.committed.values() {
            for oid in oids {
                let found = reader.load_serial(*oid, *tid).expect("reads go on");
                assert!(matches!(found, Lookup::Found { .. }), "{oid}: {found:?}");
            }
        }
    }
}

type Transaction = neo_client::blocking::Transaction;

fn store(client: &Client, n: u64, oids: &[Oid]) -> Result<Transaction, Error> {
    let transaction = client.begin(TransactionMeta::default())?;
    for oid in oids {
        transaction.store(*oid, Tid::ZERO, value(n ^ oid.0.rotate_left(32), n))?;
    }
    Ok(transaction)
}

/// Bytes that can't be compressed, and begin with a number.
fn value(seed: u64, n: u64) -> Vec<u8> {
    let mut state = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1;
    let noise = std::iter::repeat_with(|| {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        state as u8
    });
    n.to_be_bytes()
        .into_iter()
        .chain(noise)
        .take(OBJECT_BYTES)
        .collect()
}

fn database(dir: &Path, n: usize) -> PathBuf {
    dir.join(format!("s{n}.sqlite"))
}

/// From the next start on, the databases may have so many bytes.
fn limit(cluster: &mut ProcessCluster, dir: &Path, storages: &[usize], bytes: u64) {
    for n in storages {
        let path = database(dir, *n);
        let uri = format!("file:{}?max_database_bytes={bytes}", path.display());
        cluster.storages[*n - 1].set_option("-d", &uri);
    }
}

fn clients(cluster: &ProcessCluster) -> Vec<Client> {
    (0..CLIENTS).map(|_| connect(cluster)).collect()
}

/// The node id of a storage node that runs.
fn name(storage: &mut Process) -> String {
    let line = storage.wait_for("connected to the primary master nid=");
    let line = line.expect("it is connected");
    line.rsplit('=')
        .next()
        .expect("a line has an end")
        .to_owned()
}

/// What holds on every full disk; `make_space` then makes room.
fn full_disk(mut cluster: ProcessCluster, make_space: impl FnOnce(&mut ProcessCluster)) {
    let clients = clients(&cluster);
    let writers = Writers::default();
    for client in &clients {
        writers.write(client).expect("there is space");
    }
    // One has voted, one has only stored.
    let voted_oids: Vec<Oid> = (0..3)
        .map(|_| clients[0].new_oid().expect("an oid"))
        .collect();
    let n = writers.next.fetch_add(1, Ordering::SeqCst);
    let voted = store(&clients[0], n, &voted_oids).expect("there is space");
    voted.vote().expect("there is space");
    let stored_oids = [clients[1].new_oid().expect("an oid")];
    let stored = store(&clients[1], u64::MAX, &stored_oids).expect("there is space");

    writers.fill(&clients);
    let words = writers.told.lock().expect("nobody panics").words.clone();
    println!("{} committed, then: {words:#?}", writers.committed());
    assert!(
        words
            .iter()
            .all(|words| words.starts_with("no space left: "))
    );
    for storage in &mut cluster.storages {
        assert!(storage.is_running());
        // One may have found room still, where another one has none.
        let refused = format!("no space left: {}: ", name(storage));
        if words.iter().any(|words| words.starts_with(&refused)) {
            storage
                .wait_for("no space left: new data is refused until some is freed, or the limit is raised; reads go on")
                .expect("the operator is told");
        }
    }

    // Reads go on, also of clients that come now; what has voted finishes.
    let fresh = connect(&cluster);
    writers.read_all(&fresh);
    let tid = voted.finish().expect("what has voted finishes");
    let mut told = writers.told.lock().expect("nobody panics");
    told.committed.insert(n, (tid, voted_oids));
    drop(told);
    // What has not can be given up, and its lock is free.
    stored.abort();
    writers.fill(&clients);
    writers.read_all(&fresh);

    make_space(&mut cluster);
    let clients = if clients[0].sync().is_ok() {
        clients
    } else {
        self::clients(&cluster)
    };
    let deadline = Instant::now() + Duration::from_secs(10);
    // Nodes look for space now and then.
    while !writers.writes_all(&clients) {
        assert!(Instant::now() < deadline, "there is no space again");
    }
    assert!(writers.writes_all(&clients));
    for storage in &cluster.storages {
        let output = storage.output();
        assert!(
            !output.contains("ERROR") && !output.contains("panicked"),
            "{output}"
        );
    }
    check_twice(&writers, cluster);
}

/// What is there is what was told, also after a crash.
fn check_twice(writers: &Writers, mut cluster: ProcessCluster) {
    writers.check(&connect(&cluster));
    cluster.kill_all().expect("killed");
    cluster.start_all().expect("they start");
    writers.check(&connect(&cluster));
    cluster.stop().expect("a clean stop");
}

fn options(dir: &Path, replicas: u32) -> ClusterOptions {
    ClusterOptions {
        replicas,
        ..cluster::options(dir)
    }
}

const LIMIT: u64 = 12 << 20;

/// A cluster that was created without limits, and got one of the databases of these storage nodes.
fn limited(options: &ClusterOptions, storages: &[usize]) -> ProcessCluster {
    let mut cluster = ProcessCluster::start(options).expect("it starts");
    drop(connect(&cluster));
    cluster.stop().expect("a clean stop");
    limit(&mut cluster, &options.dir, storages, LIMIT);
    cluster.start_all().expect("they start");
    cluster
}

#[test]
fn a_limited_database_is_full_and_given_more() {
    let dir = tempfile::tempdir().expect("a directory");
    let cluster = limited(&options(dir.path(), 0), &[1, 2]);
    full_disk(cluster, |cluster| {
        for storage in &mut cluster.storages {
            storage.kill().expect("killed");
        }
        limit(cluster, dir.path(), &[1, 2], 10 * LIMIT);
        cluster.start_all().expect("they start");
    });
}

/// A small file system, while it is mounted.
struct Mount(tempfile::TempDir);

impl Mount {
    fn new(megabytes: u32) -> Option<Self> {
        let dir = tempfile::tempdir().expect("a directory");
        let mounted = Command::new("mount")
            .args([
                "-t",
                "tmpfs",
                "-o",
                &format!("size={megabytes}m"),
                "neo-test",
            ])
            .arg(dir.path())
            .output();
        match mounted {
            Ok(output) if output.status.success() => Some(Self(dir)),
            _ => {
                println!("skipped: no file system may be mounted here; the limit was tested");
                None
            }
        }
    }
}

impl Drop for Mount {
    fn drop(&mut self) {
        let _ = Command::new("umount").arg(self.0.path()).status();
    }
}

#[test]
fn a_disk_is_full_and_gets_room() {
    let Some(mount) = Mount::new(80) else {
        return;
    };
    let dir = mount.0.path();
    let ballast = dir.join("ballast");
    std::fs::write(&ballast, vec![7; 30 << 20]).expect("there is space");
    let cluster = ProcessCluster::start(&options(dir, 0)).expect("it starts");
    full_disk(cluster, |_| {
        std::fs::remove_file(&ballast).expect("removed");
    });
}

#[test]
fn transactions_go_on_without_a_replica_whose_disk_is_full() {
    let dir = tempfile::tempdir().expect("a directory");
    let mut cluster = limited(&options(dir.path(), 1), &[1]);
    let clients = clients(&cluster);
    let writers = Writers::default();
    std::thread::scope(|scope| {
        for client in &clients {
            scope.spawn(|| {
                for _ in 0..60 {
                    // What is neither taken nor refused for good is no error of the disk.
                    if let Err(error) = writers.write(client) {
                        assert!(error.is_retryable(), "{error}");
                    }
                }
            });
        }
    });
    let told = writers.told.lock().expect("nobody panics");
    println!("{} committed, {:#?}", told.committed.len(), told.words);
    assert!(told.refused.len() < 20, "{:?}", told.words);
    drop(told);
    let admin = cluster.admin_address().to_string();
    let pt = cluster::neoctl(&admin, &["print", "pt"]);
    // It tries to catch up, and is expelled again when it can't take what clients write.
    assert!(pt.contains(" OOOOOOOOOOOO"), "{pt}");
    assert!(pt.contains("S2 R UUUUUUUUUUUU"), "{pt}");
    assert!(cluster.storages[0].output().contains("no space left"));

    // With room it does.
    cluster.storages[0].kill().expect("killed");
    limit(&mut cluster, dir.path(), &[1], 10 * LIMIT);
    cluster.start_all().expect("it starts");
    let deadline = Instant::now() + Duration::from_secs(60);
    while !cluster::neoctl(&admin, &["print", "pt"]).contains("S1 R UUUUUUUUUUUU") {
        assert!(Instant::now() < deadline, "it does not catch up");
    }
    check_twice(&writers, cluster);
}
