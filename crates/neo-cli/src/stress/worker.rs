//! What a client does all the time: appends to logs, transfers, audits.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use bytes::Bytes;
use neo_client::{Client, Error, Lookup, Oid, Snapshot, Tid};
use neo_testkit::seed::Rng;

use super::ledger::{Ledger, Read, Told};
use super::purpose::Purpose;
use super::value::{Account, AttemptId, Log, Value};

/// What each account starts with.
const START: u64 = 1_000;
/// Nothing that a client does may take longer: far more than the sum of the timeouts on its way.
pub(super) const HANGS: Duration = Duration::from_secs(180);
/// After an error; so long that a cluster that is down is not asked all the time.
const PAUSE_MAX_MS: u64 = 50;

/// The objects that every worker works on.
#[derive(Debug, Clone)]
pub(super) struct Objects {
    pub(super) logs: Vec<Oid>,
    pub(super) accounts: Vec<Oid>,
}

impl Objects {
    /// What all accounts hold together.
    pub(super) fn sum(&self) -> u64 {
        START * self.accounts.len() as u64
    }

    /// Creates them.
    pub(super) async fn create(
        client: &Client,
        ledger: &Ledger,
        logs: u32,
        accounts: u32,
    ) -> Result<Self, Error> {
        let mut oids = Vec::new();
        for _ in 0..logs + accounts {
            let oid = client.new_oid().await?;
            ledger.oid(oid);
            oids.push(oid);
        }
        let accounts = oids.split_off(logs as usize);
        let objects = Self {
            logs: oids,
            accounts,
        };
        let transaction = client.begin(Purpose::Setup.meta()).await?;
        for oid in &objects.logs {
            let log = Value::Log(Log::empty(*oid)).encode();
            transaction.store(*oid, Tid::ZERO, log).await?;
        }
        for oid in &objects.accounts {
            let account = Account {
                oid: *oid,
                balance: START,
            };
            let account = Value::Account(account).encode();
            transaction.store(*oid, Tid::ZERO, account).await?;
        }
        transaction.commit().await?;
        Ok(objects)
    }
}

/// What a worker does.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Job {
    Append,
    Transfer,
}

/// One task of one client: one transaction at a time.
#[derive(Debug)]
pub(super) struct Worker {
    pub(super) number: u32,
    pub(super) job: Job,
    pub(super) client: Client,
    pub(super) objects: Objects,
    pub(super) ledger: Arc<Ledger>,
    pub(super) stop: Arc<AtomicBool>,
    pub(super) rng: Rng,
}

/// Why something did not get to its end.
#[derive(Debug)]
enum Failure {
    /// Nothing is committed.
    Refused(Error),
    /// Nobody knows.
    Unknown(Error),
    /// Something that must not be.
    Wrong(String),
}

impl From<Error> for Failure {
    fn from(error: Error) -> Self {
        match error {
            Error::Unknown { .. } => Self::Unknown(error),
            error if error.is_retryable() => Self::Refused(error),
            error => Self::Wrong(format!("a client was told: {error}")),
        }
    }
}

impl Worker {
    /// Works until it is told to stop.
    pub(super) async fn run(mut self) {
        let mut attempt = 0;
        // A tid that was read at once is read again later.
        let mut past = None;
        while !self.stop.load(Ordering::SeqCst) {
            attempt += 1;
            let id = AttemptId {
                worker: self.number,
                attempt,
            };
            let is_audit = self.rng.below(20) == 0;
            let doing = async {
                if is_audit {
                    let tid = self.audit(past).await?;
                    past = past.or(Some(tid)).filter(|_| self.rng.below(10) > 0);
                    Ok(())
                } else {
                    self.attempt(id).await
                }
            };
            let done = tokio::time::timeout(HANGS, doing).await;
            match done {
                Ok(Ok(())) => continue,
                Ok(Err(Failure::Wrong(what))) => {
                    self.ledger.anomaly(format!("attempt {id}: {what}"));
                }
                Ok(Err(Failure::Refused(error))) => tracing::debug!(%id, %error, "refused"),
                Ok(Err(Failure::Unknown(error))) => tracing::info!(%id, %error, "unknown"),
                Err(_) => {
                    let what = format!("attempt {id} hangs since {} s", HANGS.as_secs());
                    self.ledger.anomaly(what);
                }
            }
            let millis = self.rng.below(PAUSE_MAX_MS);
            tokio::time::sleep(Duration::from_millis(millis)).await;
        }
    }

    async fn attempt(&mut self, id: AttemptId) -> Result<(), Failure> {
        let floor = self.ledger.greatest();
        // Without it, the snapshot may be behind what others were told.
        if self.rng.below(2) == 0 {
            let last = self.client.sync().await?;
            if last < floor {
                let what = format!("{floor} was acknowledged, and then the last one was {last}");
                return Err(Failure::Wrong(what));
            }
        }
        let snapshot = self.client.snapshot();
        let (purpose, changes) = match self.job {
            Job::Append => self.append(id, &snapshot).await?,
            Job::Transfer => self.transfer(id, &snapshot).await?,
        };
        self.ledger.open(id);
        let ended = commit(&self.client, &purpose, changes).await;
        let told = match &ended {
            Ok(tid) => Told::Committed(*tid),
            Err(Failure::Refused(_)) => Told::NotCommitted,
            Err(Failure::Unknown(_) | Failure::Wrong(_)) => Told::Unknown,
        };
        self.ledger.tell(id, floor, told);
        ended.map(drop)
    }

    async fn append(&mut self, id: AttemptId, snapshot: &Snapshot) -> Result<Plan, Failure> {
        let (one, other) = self.two(self.objects.logs.len());
        let logs = vec![self.objects.logs[one], self.objects.logs[other]];
        let mut changes = Vec::new();
        for oid in &logs {
            let (serial, Value::Log(log)) = self.load(snapshot, *oid).await? else {
                return Err(Failure::Wrong(format!("{oid} is no log")));
            };
            let head = if log.is_full() {
                let bucket = self.client.new_oid().await?;
                self.ledger.oid(bucket);
                let (bucket, head) = log.roll_over(bucket, id);
                let value = Value::Log(bucket.clone()).encode();
                changes.push(Change::Store(bucket.oid, Tid::ZERO, value));
                head
            } else {
                log.append(id)
            };
            changes.push(Change::Store(*oid, serial, Value::Log(head).encode()));
        }
        Ok((Purpose::Append { id, logs }, changes))
    }

    async fn transfer(&mut self, id: AttemptId, snapshot: &Snapshot) -> Result<Plan, Failure> {
        let count = self.objects.accounts.len();
        let (from, to) = self.two(count);
        let third = (0..count).filter(|at| *at != from && *at != to);
        let third: Vec<usize> = third.collect();
        let check = third[self.rng.below(third.len() as u64) as usize];
        let (source, target) = (
            self.account(snapshot, from).await?,
            self.account(snapshot, to).await?,
        );
        let relied = self.account(snapshot, check).await?;
        let amount = self.rng.below(17).min(source.1.balance);
        let stores = [
            (source.0, source.1.oid, source.1.balance - amount),
            (target.0, target.1.oid, target.1.balance + amount),
        ];
        let mut changes = vec![Change::Check(relied.1.oid, relied.0)];
        for (serial, oid, balance) in stores {
            let value = Value::Account(Account { oid, balance }).encode();
            changes.push(Change::Store(oid, serial, value));
        }
        let purpose = Purpose::Transfer {
            id,
            stores: stores
                .iter()
                .map(|(serial, oid, _)| (*oid, *serial))
                .collect(),
            check: (relied.1.oid, relied.0),
        };
        Ok((purpose, changes))
    }

    /// Two different numbers below `count`.
    const fn two(&mut self, count: usize) -> (usize, usize) {
        let count = count as u64;
        let one = self.rng.below(count);
        let other = (one + self.rng.between(1, count - 1)) % count;
        (one as usize, other as usize)
    }

    async fn account(&self, snapshot: &Snapshot, at: usize) -> Result<(Tid, Account), Failure> {
        let oid = self.objects.accounts[at];
        match self.load(snapshot, oid).await? {
            (serial, Value::Account(account)) => Ok((serial, account)),
            _ => Err(Failure::Wrong(format!("{oid} is no account"))),
        }
    }

    async fn load(&self, snapshot: &Snapshot, oid: Oid) -> Result<(Tid, Value), Failure> {
        let at = snapshot.tid();
        let object = snapshot.load(oid).await?;
        let object = object.ok_or_else(|| Failure::Wrong(format!("{oid} is not there at {at}")))?;
        self.seen(at, oid, object.serial, &object.data)
    }

    /// Notes what was read, and what is wrong with it.
    fn seen(&self, at: Tid, oid: Oid, serial: Tid, data: &[u8]) -> Result<(Tid, Value), Failure> {
        let read = Read {
            oid,
            before: Tid(at.0 + 1),
            serial,
        };
        self.ledger.read(read);
        match Value::decode(data) {
            Some(value) if value.oid() == oid => Ok((serial, value)),
            _ => Err(Failure::Wrong(format!(
                "{oid} at {at}, of {serial}, is not what anybody stored: {data:?}"
            ))),
        }
    }

    /// Reads all accounts at one moment, now or in the past; returns which.
    async fn audit(&self, past: Option<Tid>) -> Result<Tid, Failure> {
        let snapshot = match past {
            Some(tid) => self.client.snapshot_at(tid).await?,
            None => self.client.snapshot(),
        };
        let at = snapshot.tid();
        let mut sum = 0;
        for oid in &self.objects.accounts {
            let Lookup::Found {
                data,
                serial,
                next_serial,
            } = snapshot.look_up(*oid).await?
            else {
                return Err(Failure::Wrong(format!("{oid} is not there at {at}")));
            };
            if serial > at || next_serial.is_some_and(|next| next <= at) {
                return Err(Failure::Wrong(format!(
                    "at {at}, {oid} has serial {serial}, and then {next_serial:?}"
                )));
            }
            if let (_, Value::Account(account)) = self.seen(at, *oid, serial, &data)? {
                sum += account.balance;
            }
        }
        if sum == self.objects.sum() {
            Ok(at)
        } else {
            let right = self.objects.sum();
            Err(Failure::Wrong(format!(
                "at {at} the accounts hold {sum}, not {right}"
            )))
        }
    }
}

/// A change of a transaction, with the serial that it starts from.
#[derive(Debug)]
enum Change {
    Store(Oid, Tid, Bytes),
    Check(Oid, Tid),
}

/// What a transaction is for, and what it changes.
type Plan = (Purpose, Vec<Change>);

async fn commit(client: &Client, purpose: &Purpose, changes: Vec<Change>) -> Result<Tid, Failure> {
    let transaction = client.begin(purpose.meta()).await?;
    for change in changes {
        match change {
            Change::Store(oid, serial, value) => transaction.store(oid, serial, value).await?,
            Change::Check(oid, serial) => transaction.check_current(oid, serial).await?,
        }
    }
    Ok(transaction.commit().await?)
}
