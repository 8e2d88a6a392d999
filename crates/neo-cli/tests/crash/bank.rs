//! Transfers between accounts: the sum never changes, and every transfer leaves its name.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};

use bytes::Bytes;
use futures_util::TryStreamExt as _;
use neo_client::{Client, Error, Object, Oid, Tid, TransactionMeta};
use tokio::task::JoinHandle;

/// What each account starts with.
const START: u64 = 1_000;

/// The accounts, and what the clients were told.
#[derive(Debug)]
pub(crate) struct Bank {
    accounts: Vec<Oid>,
    next: AtomicU64,
    stop: AtomicBool,
    told: Mutex<Told>,
}

/// What the clients were told of their transfers.
#[derive(Debug, Default)]
struct Told {
    committed: BTreeSet<u64>,
    /// Answered by an error that says that nothing was committed.
    refused: BTreeSet<u64>,
    errors: Vec<String>,
}

fn encode(balance: u64) -> Bytes {
    // Long enough for values to be more than a word, and to differ.
    let mut bytes = vec![0x5a; 200];
    bytes[..8].copy_from_slice(&balance.to_be_bytes());
    bytes.into()
}

fn decode(data: &[u8]) -> u64 {
    let balance: [u8; 8] = data[..8].try_into().expect("an account has 200 bytes");
    u64::from_be_bytes(balance)
}

fn balance(account: Option<Object>) -> Result<u64, Error> {
    let account = account.ok_or_else(|| Error::application("no account"))?;
    Ok(decode(&account.data))
}

impl Bank {
    /// Opens the accounts.
    pub(crate) async fn open(client: &Client, accounts: usize) -> Result<Arc<Self>, Error> {
        let transaction = client.begin(TransactionMeta::default()).await?;
        let mut oids = Vec::new();
        for _ in 0..accounts {
            let oid = client.new_oid().await?;
            transaction.store(oid, Tid::ZERO, encode(START)).await?;
            oids.push(oid);
        }
        transaction.commit().await?;
        Ok(Arc::new(Self {
            accounts: oids,
            next: AtomicU64::new(1),
            stop: AtomicBool::new(false),
            told: Mutex::default(),
        }))
    }

    fn sum(&self) -> u64 {
        START * self.accounts.len() as u64
    }

    /// Starts `workers` that transfer and check what they read, until told to stop.
    ///
    /// The client must know of the accounts: another one opened them, maybe just now.
    pub(crate) fn work(self: &Arc<Self>, client: &Client, workers: u64) -> Vec<JoinHandle<()>> {
        self.stop.store(false, Ordering::SeqCst);
        (0..workers)
            .map(|_| {
                let (bank, client) = (Arc::clone(self), client.clone());
                tokio::spawn(async move {
                    while !bank.stop.load(Ordering::SeqCst) {
                        bank.transfer(&client).await;
                    }
                })
            })
            .collect()
    }

    /// Ends the workers.
    pub(crate) async fn rest(&self, workers: Vec<JoinHandle<()>>) {
        self.stop.store(true, Ordering::SeqCst);
        for worker in workers {
            worker.await.expect("a worker does not panic");
        }
    }

    /// Forgets them, whatever they are doing: their processes are about to be killed.
    pub(crate) fn leave(&self, workers: Vec<JoinHandle<()>>) {
        self.stop.store(true, Ordering::SeqCst);
        workers.iter().for_each(JoinHandle::abort);
    }

    async fn transfer(&self, client: &Client) {
        let id = self.next.fetch_add(1, Ordering::SeqCst);
        let n = self.accounts.len() as u64;
        let mixed = id.wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 16;
        let from = self.accounts[(mixed % n) as usize];
        let to = self.accounts[((mixed % n + 1 + (mixed / n) % (n - 1)) % n) as usize];
        let meta = TransactionMeta {
            description: Bytes::from(id.to_string()),
            ..TransactionMeta::default()
        };
        let result = client
            .transact_as(meta, |txn| async move {
                let a = balance(txn.load(from).await?)?;
                let b = balance(txn.load(to).await?)?;
                let amount = mixed % 17 % (a + 1);
                txn.store(from, encode(a - amount)).await?;
                txn.store(to, encode(b + amount)).await
            })
            .await;
        self.tell(id, result);
        if id.is_multiple_of(20)
            && let Err(error) = self.check_sum(client).await
        {
            self.told
                .lock()
                .expect("nobody panics with the lock")
                .errors
                .push(error);
        }
    }

    fn tell(&self, id: u64, result: Result<(), Error>) {
        let mut told = self.told.lock().expect("nobody panics with the lock");
        match result {
            Ok(()) => {
                told.committed.insert(id);
            }
            Err(error) if error.is_conflict() => {
                told.refused.insert(id);
            }
            Err(error) => told.errors.push(format!("transfer {id}: {error}")),
        }
    }

    /// Reads all accounts in one snapshot.
    async fn check_sum(&self, client: &Client) -> Result<(), String> {
        let snapshot = client.snapshot();
        let mut sum = 0;
        for oid in &self.accounts {
            let account = snapshot
                .load(*oid)
                .await
                .map_err(|error| format!("read: {error}"))?;
            sum += account.map_or(0, |account| decode(&account.data));
        }
        let at = snapshot.tid();
        if sum == self.sum() {
            Ok(())
        } else {
            Err(format!("the sum is {sum} at {at}"))
        }
    }

    /// Transfers that were acknowledged.
    pub(crate) fn committed(&self) -> usize {
        self.told
            .lock()
            .expect("nobody panics with the lock")
            .committed
            .len()
    }

    /// What the clients were told that is neither a success nor a conflict of their own making.
    pub(crate) fn take_errors(&self) -> Vec<String> {
        std::mem::take(
            &mut self
                .told
                .lock()
                .expect("nobody panics with the lock")
                .errors,
        )
    }

    /// Forgets what clients were told while everything was killed, but for what is never right.
    pub(crate) fn take_wrong_sums(&self) -> Vec<String> {
        let mut errors = self.take_errors();
        errors.retain(|error| error.contains("the sum is"));
        errors
    }

    /// Reads the whole history: each transaction whole, the sum constant after each of them, every
    /// acknowledged transfer there once, no refused one there.
    pub(crate) async fn check_history(&self, client: &Client) -> Result<usize, Error> {
        let mut balances = BTreeMap::new();
        let mut seen = BTreeSet::new();
        let mut last = Tid::ZERO;
        let mut transactions = client.iterate(Tid::ZERO..=Tid::MAX).await?;
        while let Some(transaction) = transactions.try_next().await? {
            assert!(transaction.tid > last, "tids increase");
            last = transaction.tid;
            let objects = transactions.objects_as_stored(&transaction).await?;
            assert_eq!(objects.len(), transaction.oids.len(), "{last} is whole");
            for object in objects {
                let data = object.data.expect("accounts are never deleted");
                balances.insert(object.oid, decode(&data));
            }
            assert_eq!(
                balances.values().sum::<u64>(),
                self.sum(),
                "the sum after {last}"
            );
            if !transaction.meta.description.is_empty() {
                let text = std::str::from_utf8(&transaction.meta.description).expect("digits");
                let id: u64 = text.parse().expect("digits");
                assert!(seen.insert(id), "transfer {id} is there twice");
            }
        }
        let told = self.told.lock().expect("nobody panics with the lock");
        let lost: Vec<_> = told.committed.difference(&seen).collect();
        assert!(lost.is_empty(), "acknowledged and lost: {lost:?}");
        let undead: Vec<_> = told.refused.intersection(&seen).collect();
        assert!(undead.is_empty(), "refused and committed: {undead:?}");
        Ok(seen.len())
    }
}
