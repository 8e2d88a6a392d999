//! Transfers: whatever happens, no money is made or lost.

use bytes::Bytes;
use neo_api::{Oid, Tid};
use neo_client::Error;

use super::back;
use crate::seed::Rng;
use crate::sim::{Facts, SimClient};

pub(super) const ACCOUNTS: u32 = 6;
pub(super) const EACH: u64 = 100;

/// Accounts, one object each, whose sum never changes.
#[derive(Debug)]
pub(in crate::random) struct Bank {
    accounts: Vec<Oid>,
}

impl Bank {
    pub(super) const fn new(accounts: Vec<Oid>) -> Self {
        Self { accounts }
    }

    fn pick(&self, rng: &mut Rng) -> Oid {
        self.accounts[rng.below(self.accounts.len() as u64) as usize]
    }

    pub(super) async fn transfer(&self, client: &SimClient, rng: &mut Rng) -> Result<(), Error> {
        let (from, to) = (self.pick(rng), self.pick(rng));
        if from == to {
            return Ok(());
        }
        let before = Tid(client.last_tid().0 + 1);
        let txn = client.begin().await?;
        let (a, b) = (
            client.load_before(from, before).await?,
            client.load_before(to, before).await?,
        );
        let ((a_serial, a), (b_serial, b)) = (account(from, a)?, account(to, b)?);
        let amount = rng.between(1, 10).min(a);
        txn.store(from, a_serial, encode(a - amount)).await?;
        txn.store(to, b_serial, encode(b + amount)).await?;
        txn.commit().await.map(drop)
    }

    /// Reads all accounts at one moment.
    pub(super) async fn audit(&self, client: &SimClient) -> Result<(), Error> {
        let before = Tid(client.last_tid().0 + 1);
        self.audit_before(client, before).await
    }

    /// Reads all accounts as they were some time ago.
    /// Some of the accounts, in order.
    pub(super) fn some(&self, rng: &mut Rng) -> Vec<Oid> {
        let chosen = self.accounts.iter().filter(|_| rng.below(2) == 0);
        chosen.copied().collect()
    }

    /// Reads all accounts as of some tid.
    pub(super) async fn read_before(&self, client: &SimClient, rng: &mut Rng) -> Result<(), Error> {
        let before = back(client.last_tid(), rng);
        match self.audit_before(client, before).await {
            // Before they were opened.
            Err(Error::Application(_)) if self.is_too_early(client, before).await? => Ok(()),
            result => result,
        }
    }

    async fn is_too_early(&self, client: &SimClient, before: Tid) -> Result<bool, Error> {
        for oid in &self.accounts {
            if client.load_before(*oid, before).await?.is_some() {
                return Ok(false);
            }
        }
        Ok(true)
    }

    async fn audit_before(&self, client: &SimClient, before: Tid) -> Result<(), Error> {
        let mut sum = 0;
        for oid in &self.accounts {
            sum += account(*oid, client.load_before(*oid, before).await?)?.1;
        }
        let expected = EACH * self.accounts.len() as u64;
        if sum == expected {
            return Ok(());
        }
        Err(Error::application(format!(
            "before {before} the accounts hold {sum}, not {expected}"
        )))
    }

    pub(super) fn check(&self, facts: &Facts) -> Vec<String> {
        let mut sum = 0;
        for oid in &self.accounts {
            let data = facts.newest(*oid);
            match data.and_then(|data| decode(data)) {
                Some(balance) => sum += balance,
                None => return vec![format!("bank: account {oid} holds {data:?}")],
            }
        }
        let expected = EACH * self.accounts.len() as u64;
        if sum == expected {
            return Vec::new();
        }
        vec![format!("bank: the accounts hold {sum}, not {expected}")]
    }
}

pub(super) fn encode(balance: u64) -> Bytes {
    Bytes::from(balance.to_string())
}

fn decode(data: &[u8]) -> Option<u64> {
    std::str::from_utf8(data).ok()?.parse().ok()
}

fn account(oid: Oid, found: Option<(Tid, Bytes)>) -> Result<(Tid, u64), Error> {
    let gone = || Error::application(format!("account {oid} is gone"));
    let (serial, data) = found.ok_or_else(gone)?;
    let balance =
        decode(&data).ok_or_else(|| Error::application(format!("account {oid} holds {data:?}")))?;
    Ok((serial, balance))
}
