//! Transfers between accounts: whatever happens, no money is made or lost.

use std::collections::BTreeMap;

use bytes::Bytes;
use futures_util::TryStreamExt as _;
use neo_api::{Oid, Tid};
use neo_client::{Client, Error};

use crate::seed::Rng;

/// Accounts, one object each, whose sum never changes.
#[derive(Debug, Clone)]
pub struct Bank {
    accounts: Vec<Oid>,
    each: u64,
}

/// What a client of the bank did.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Work {
    /// Transfers that were committed.
    pub transfers: u64,
    /// Transfers that failed, all attempts together.
    pub failed: u64,
    /// Transfers of which nobody could say whether they were committed.
    pub unknown: u64,
    /// Times that all accounts were read at once, and summed up.
    pub audits: u64,
}

impl Work {
    /// Adds what another client did.
    pub const fn add(&mut self, other: Self) {
        self.transfers += other.transfers;
        self.failed += other.failed;
        self.unknown += other.unknown;
        self.audits += other.audits;
    }
}

impl Bank {
    /// Opens accounts with so much in each.
    ///
    /// # Errors
    /// As the client says.
    pub async fn open(client: &Client, accounts: usize, each: u64) -> Result<Self, Error> {
        let mut oids = Vec::with_capacity(accounts);
        for _ in 0..accounts {
            oids.push(client.new_oid().await?);
        }
        let opened = oids.clone();
        client
            .transact(|txn| {
                let opened = opened.clone();
                async move {
                    for oid in opened {
                        txn.store(oid, encode(each)).await?;
                    }
                    Ok(())
                }
            })
            .await?;
        Ok(Self {
            accounts: oids,
            each,
        })
    }

    /// A bank whose accounts were opened before.
    #[must_use]
    pub const fn reopened(accounts: Vec<Oid>, each: u64) -> Self {
        Self { accounts, each }
    }

    /// The accounts.
    #[must_use]
    pub fn accounts(&self) -> &[Oid] {
        &self.accounts
    }

    /// Moves money from one account to another, as far as there is some.
    ///
    /// # Errors
    /// As the client says.
    pub async fn transfer(
        &self,
        client: &Client,
        from: usize,
        to: usize,
        amount: u64,
    ) -> Result<(), Error> {
        let (from, to) = (self.accounts[from], self.accounts[to]);
        client
            .transact(|txn| async move {
                let (a, b) = (txn.load(from).await?, txn.load(to).await?);
                let (a, b) = (balance(from, a)?, balance(to, b)?);
                let amount = amount.min(a);
                txn.store(from, encode(a - amount)).await?;
                txn.store(to, encode(b + amount)).await?;
                Ok(())
            })
            .await
    }

    /// Reads all accounts at one moment.
    ///
    /// # Errors
    /// As the client says; [`Error::Application`] when the sum is wrong.
    pub async fn audit(&self, client: &Client) -> Result<Tid, Error> {
        let snapshot = client.snapshot();
        let mut sum = 0;
        for oid in &self.accounts {
            sum += balance(*oid, snapshot.load(*oid).await?)?;
        }
        let expected = self.each * self.accounts.len() as u64;
        if sum == expected {
            Ok(snapshot.tid())
        } else {
            let tid = snapshot.tid();
            Err(Error::application(format!(
                "at {tid} the accounts hold {sum}, not {expected}"
            )))
        }
    }

    /// Transfers at random, with an audit now and then, `rounds` times. A transfer that fails by
    /// what the cluster goes through is counted; anything else is an error.
    ///
    /// # Errors
    /// What must not happen: a wrong sum, an account that is gone.
    pub async fn work(&self, client: &Client, seed: u64, rounds: u64) -> Result<Work, Error> {
        let mut rng = Rng::new(seed);
        let count = self.accounts.len() as u64;
        let mut work = Work::default();
        for round in 0..rounds {
            let from = rng.below(count);
            let to = (from + rng.between(1, count - 1)) % count;
            let transfer = self.transfer(client, from as usize, to as usize, rng.between(1, 10));
            match transfer.await {
                Ok(()) => work.transfers += 1,
                Err(Error::Unknown { .. }) => work.unknown += 1,
                Err(error) if error.is_retryable() => work.failed += 1,
                Err(error) => return Err(error),
            }
            if round % 4 == 0 {
                match self.audit(client).await {
                    Ok(_) => work.audits += 1,
                    Err(error) if error.is_retryable() => {}
                    Err(error) => return Err(error),
                }
            }
        }
        Ok(work)
    }

    /// Goes through the whole history: after each transaction the sum is as it was.
    ///
    /// # Errors
    /// As the client says; [`Error::Application`] when a sum is wrong.
    pub async fn audit_history(&self, client: &Client) -> Result<usize, Error> {
        let mut balances: BTreeMap<Oid, u64> = BTreeMap::new();
        let mut transactions = client.iterate(Tid::ZERO..=Tid::MAX).await?;
        let mut checked = 0;
        let expected = self.each * self.accounts.len() as u64;
        while let Some(transaction) = transactions.try_next().await? {
            let mut is_ours = false;
            let mut objects = transactions.objects();
            while let Some(object) = objects.try_next().await? {
                if self.accounts.contains(&object.oid) {
                    is_ours = true;
                    let data = object.data.unwrap_or_default();
                    balances.insert(object.oid, decode(object.oid, &data)?);
                }
            }
            let sum: u64 = balances.values().sum();
            if is_ours && sum != expected {
                let tid = transaction.tid;
                return Err(Error::application(format!(
                    "after {tid} the accounts hold {sum}, not {expected}"
                )));
            }
            checked += usize::from(is_ours);
        }
        Ok(checked)
    }
}

fn encode(balance: u64) -> Bytes {
    Bytes::from(balance.to_string())
}

fn decode(oid: Oid, data: &[u8]) -> Result<u64, Error> {
    let text = std::str::from_utf8(data).ok();
    text.and_then(|text| text.parse().ok())
        .ok_or_else(|| Error::application(format!("account {oid} holds {data:?}")))
}

fn balance(oid: Oid, object: Option<neo_client::Object>) -> Result<u64, Error> {
    let object = object.ok_or_else(|| Error::application(format!("account {oid} is gone")))?;
    decode(oid, &object.data)
}
