//! Money moves between accounts, many transfers at once, and none is lost or made.
//!
//! Each transfer reads two accounts and writes both. When two transfers meet at an account, one of
//! them is redone on what the other left: that is all that `transact` does.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use neo_client::{Client, Error, Oid, Snapshot};
use neo_testkit::Cluster;

const ACCOUNTS: u64 = 20;
const EACH: u64 = 100;
const TELLERS: u64 = 8;
const TRANSFERS: u64 = 25;

#[tokio::main]
async fn main() -> anyhow::Result<()> {
    let mut cluster = Cluster::builder()
        .storages(2)
        .replicas(1)
        .tcp()
        .start()
        .await?;
    let client = cluster.client().await?;
    let accounts = open_accounts(&client).await?;
    let refused = Arc::new(AtomicU64::new(0));

    let mut tellers = Vec::new();
    for teller in 0..TELLERS {
        let (client, accounts) = (client.clone(), accounts.clone());
        let refused = Arc::clone(&refused);
        tellers.push(tokio::spawn(async move {
            // Any sequence will do; this one differs from teller to teller.
            let mut dice = teller + 1;
            let mut roll = |sides| {
                dice = dice.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
                (dice >> 33) % sides
            };
            for _ in 0..TRANSFERS {
                let from = accounts[roll(ACCOUNTS) as usize];
                let to = accounts[roll(ACCOUNTS) as usize];
                match transfer(&client, from, to, roll(EACH / 2)).await {
                    Err(Error::Application(_)) => refused.fetch_add(1, Ordering::Relaxed),
                    other => other.map(|()| 0)?,
                };
            }
            Ok::<(), Error>(())
        }));
    }
    // Meanwhile, every snapshot is of one moment: the sum is the same in each.
    while tellers.iter().any(|teller| !teller.is_finished()) {
        assert_eq!(sum(&client.snapshot(), &accounts).await?, ACCOUNTS * EACH);
        tokio::task::yield_now().await;
    }
    for teller in tellers {
        teller.await??;
    }
    assert_eq!(sum(&client.snapshot(), &accounts).await?, ACCOUNTS * EACH);
    let refused = refused.load(Ordering::Relaxed);
    println!(
        "{} transfers, {refused} refused, no money lost",
        TELLERS * TRANSFERS
    );
    client.close().await;
    cluster.stop().await?;
    Ok(())
}

async fn open_accounts(client: &Client) -> Result<Vec<Oid>, Error> {
    client
        .transact(|txn| async move {
            let mut accounts = Vec::new();
            for _ in 0..ACCOUNTS {
                let oid = txn.new_oid().await?;
                txn.store(oid, EACH.to_be_bytes().to_vec()).await?;
                accounts.push(oid);
            }
            Ok(accounts)
        })
        .await
}

async fn transfer(client: &Client, from: Oid, to: Oid, amount: u64) -> Result<(), Error> {
    client
        .transact(|txn| async move {
            if from == to {
                return Ok(());
            }
            let (source, target) = (txn.load(from).await?, txn.load(to).await?);
            let Some(rest) = balance(source.as_ref()).checked_sub(amount) else {
                return Err(Error::application("the account would be overdrawn"));
            };
            let sum = balance(target.as_ref()) + amount;
            txn.store(from, rest.to_be_bytes().to_vec()).await?;
            txn.store(to, sum.to_be_bytes().to_vec()).await
        })
        .await
}

async fn sum(snapshot: &Snapshot, accounts: &[Oid]) -> Result<u64, Error> {
    let mut sum = 0;
    for account in accounts {
        sum += balance(snapshot.load(*account).await?.as_ref());
    }
    Ok(sum)
}

fn balance(account: Option<&neo_client::Object>) -> u64 {
    let bytes = account.and_then(|account| account.data[..].try_into().ok());
    u64::from_be_bytes(bytes.expect("accounts have 8 bytes"))
}
