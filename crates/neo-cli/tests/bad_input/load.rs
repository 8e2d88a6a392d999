//! Clients that go on committing meanwhile, and may not notice anything.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use neo_client::blocking::Client;
use neo_client::{Error, Lookup, Oid, Tid, TransactionMeta};

/// A commit that was acknowledged.
type Commit = (Oid, Tid, u64);

#[derive(Debug, Default)]
struct Told {
    committed: Vec<Commit>,
    errors: Vec<String>,
}

/// Clients under way.
pub(crate) struct Load {
    stop: Arc<AtomicBool>,
    count: Arc<AtomicU64>,
    workers: Vec<JoinHandle<Told>>,
}

impl Load {
    /// One worker for each client.
    pub(crate) fn start(clients: &[Client]) -> Self {
        let (stop, count) = (
            Arc::new(AtomicBool::new(false)),
            Arc::new(AtomicU64::new(0)),
        );
        let work = |client: &Client| {
            let (client, stop, count) = (client.clone(), Arc::clone(&stop), Arc::clone(&count));
            std::thread::spawn(move || work(&client, &stop, &count))
        };
        let workers = clients.iter().map(work).collect();
        Self {
            stop,
            count,
            workers,
        }
    }

    /// Waits until so many more commits are acknowledged.
    pub(crate) fn until_committed(&self, more: u64) {
        let goal = self.count.load(Ordering::SeqCst) + more;
        let deadline = Instant::now() + Duration::from_secs(30);
        while self.count.load(Ordering::SeqCst) < goal {
            assert!(Instant::now() < deadline, "no progress");
            std::thread::sleep(Duration::from_millis(1));
        }
    }

    /// Ends the workers: there must have been no error, and everything acknowledged is there.
    pub(crate) fn end(self, reader: &Client) -> usize {
        self.stop.store(true, Ordering::SeqCst);
        let mut commits = 0;
        for worker in self.workers {
            let told = worker.join().expect("a worker does not panic");
            assert_eq!(told.errors, Vec::<String>::new());
            commits += told.committed.len();
            for commit in told.committed {
                assert_there(reader, commit);
            }
        }
        commits
    }
}

/// An acknowledged commit is there.
pub(crate) fn assert_there(reader: &Client, (oid, tid, n): Commit) {
    match reader.load_serial(oid, tid).expect("a read succeeds") {
        Lookup::Found { data, .. } => assert_eq!(&data[..8], n.to_be_bytes()),
        other => panic!("{oid} at {tid} was acknowledged, and is {other:?}"),
    }
}

fn work(client: &Client, stop: &AtomicBool, count: &AtomicU64) -> Told {
    let mut told = Told::default();
    let oid = client.new_oid().expect("an oid");
    let mut serial = Tid::ZERO;
    for n in 0.. {
        if stop.load(Ordering::SeqCst) {
            break;
        }
        match commit(client, oid, serial, n) {
            Ok(tid) => {
                told.committed.push((oid, tid, n));
                serial = tid;
                count.fetch_add(1, Ordering::SeqCst);
            }
            Err(error) => told.errors.push(error.to_string()),
        }
    }
    told
}

fn commit(client: &Client, oid: Oid, serial: Tid, n: u64) -> Result<Tid, Error> {
    let transaction = client.begin(TransactionMeta::default())?;
    transaction.store(oid, serial, n.to_be_bytes().to_vec())?;
    transaction.commit()
}
