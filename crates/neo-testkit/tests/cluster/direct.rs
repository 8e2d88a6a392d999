//! Threads that block, and read from storage nodes over connections of their own.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use neo_api::{Oid, Tid, TransactionMeta};
use neo_client::blocking::Client as Blocking;
use neo_client::{Client, ClientBuilder, Invalidation, InvalidationListener, Lookup};
use neo_testkit::Cluster;

const PATIENCE: Duration = Duration::from_secs(60);

async fn cluster() -> (Cluster, Client) {
    let builder = Cluster::builder().tcp().storages(2).replicas(1);
    let cluster = builder.start().await.unwrap();
    let client = cluster.client().await.unwrap();
    (cluster, client)
}

/// What blocks runs beside the runtime of the nodes.
async fn aside<T: Send + 'static>(f: impl FnOnce() -> T + Send + 'static) -> T {
    let (answer, answered) = tokio::sync::oneshot::channel();
    std::thread::spawn(move || {
        let _ = answer.send(f());
    });
    answered.await.unwrap()
}

async fn connect(builder: ClientBuilder) -> Blocking {
    aside(move || builder.connect_blocking().unwrap()).await
}

async fn commit(client: &Client, oid: Oid, base: Tid, value: String) -> Tid {
    let txn = client.begin(TransactionMeta::default()).await.unwrap();
    txn.store(oid, base, value).await.unwrap();
    txn.commit().await.unwrap()
}

/// Holds up the driver of its client with the first change that another one made.
#[derive(Debug)]
struct HoldUp {
    held: SyncSender<()>,
    release: Mutex<Receiver<()>>,
}

impl InvalidationListener for HoldUp {
    fn invalidated(&self, invalidation: &Invalidation) {
        if let Invalidation::All { .. } = invalidation {
            // It connects.
            return;
        }
        // Whoever waits for it may have failed.
        let _ = self.held.send(());
        let _ = self.release.lock().unwrap().recv();
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_load_of_a_thread_does_not_need_the_driver() {
    let (cluster, writer) = cluster().await;
    let oids = [
        writer.new_oid().await.unwrap(),
        writer.new_oid().await.unwrap(),
    ];
    let first = commit(&writer, oids[0], Tid::ZERO, "old".to_owned()).await;
    let (held, is_held) = sync_channel(1);
    let (release, released) = sync_channel(1);
    let listener = HoldUp {
        held,
        release: Mutex::new(released),
    };
    let builder = cluster
        .client_builder()
        .invalidation_listener(Arc::new(listener));
    let reader = connect(builder).await;
    commit(&writer, oids[1], Tid::ZERO, "new".to_owned()).await;
    is_held.recv_timeout(PATIENCE).unwrap();
    let (answer, answered) = sync_channel(1);
    let thread = {
        let reader = reader.clone();
        std::thread::spawn(move || {
            let after = Tid(first.0 + 1);
            let found = [
                reader.load_before(oids[0], after).unwrap(),
                reader.load_serial(oids[0], first).unwrap(),
                reader.load_before(oids[0], first).unwrap(),
                reader.load_before(Oid(1 << 40), after).unwrap(),
            ];
            let _ = answer.send(found);
        })
    };
    let found = answered.recv_timeout(PATIENCE);
    drop(release);
    thread.join().unwrap();
    let [by_tid, by_serial, before, nothing] = found.expect("it was answered by the driver only");
    for found in [by_tid, by_serial] {
        let Lookup::Found {
            data,
            serial,
            next_serial,
        } = found
        else {
            panic!("{found:?}");
        };
        assert_eq!((&data[..], serial, next_serial), (&b"old"[..], first, None));
    }
    assert_eq!((before, nothing), (Lookup::NotYet, Lookup::Unknown));
    aside(move || reader.close()).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_threads_read_beside_commits_of_others_is_never_taken_for_newer_than_it_is() {
    let (cluster, writer) = cluster().await;
    let oid = writer.new_oid().await.unwrap();
    let mut tid = commit(&writer, oid, Tid::ZERO, "0".to_owned()).await;
    // Little room: what was cached is read again and again.
    let reader = connect(cluster.client_builder().cache_bytes(4096)).await;
    let ends = Arc::new(AtomicBool::new(false));
    let busy: Vec<_> = (0..3)
        .map(|_| {
            let (reader, ends) = (reader.clone(), Arc::clone(&ends));
            std::thread::spawn(move || {
                let mut seen = 0;
                while !ends.load(Ordering::Relaxed) {
                    let object = reader.load(oid).unwrap().unwrap();
                    let value: u64 = String::from_utf8(object.data.to_vec())
                        .unwrap()
                        .parse()
                        .unwrap();
                    assert!(value >= seen, "{value} after {seen}");
                    seen = value;
                }
            })
        })
        .collect();
    for n in 1..=400_u64 {
        tid = commit(&writer, oid, tid, n.to_string()).await;
        let reader = reader.clone();
        let object = aside(move || {
            reader.sync().unwrap();
            reader.load(oid).unwrap().unwrap()
        });
        let object = object.await;
        assert_eq!(
            (&object.data[..], object.serial),
            (n.to_string().as_bytes(), tid)
        );
    }
    ends.store(true, Ordering::Relaxed);
    for thread in busy {
        aside(move || thread.join().unwrap()).await;
    }
    aside(move || reader.close()).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn threads_read_on_when_a_storage_node_is_lost_and_when_it_is_back() {
    let (mut cluster, writer) = cluster().await;
    let mut oids = Vec::new();
    for n in 0..100 {
        let oid = writer.new_oid().await.unwrap();
        commit(&writer, oid, Tid::ZERO, n.to_string()).await;
        oids.push(oid);
    }
    let reader = connect(cluster.client_builder().cache_bytes(0)).await;
    let read_all = |reader: &Blocking| {
        let (reader, oids) = (reader.clone(), oids.clone());
        aside(move || {
            for (n, oid) in oids.iter().enumerate() {
                let object = reader.load(*oid).unwrap().unwrap();
                assert_eq!(object.data[..], *n.to_string().as_bytes());
            }
        })
    };
    read_all(&reader).await;
    cluster.kill_storage(1).await;
    read_all(&reader).await;
    cluster.restart_storage(1).await.unwrap();
    read_all(&reader).await;
    // Another primary: who the client is has to be shown anew.
    let primary = cluster.primary().unwrap();
    cluster.kill_master(primary).await;
    cluster.restart_master(primary).await.unwrap();
    let waiting = reader.clone();
    aside(move || waiting.wait_ready(PATIENCE).unwrap()).await;
    read_all(&reader).await;
    aside(move || reader.close()).await;
}
