//! Two masters, of which the holder of a lease leads; the leader is lost, and the other takes over.
//! The election and the lease are `examples/src/lease.rs`.

use std::sync::Arc;

use examples::lease::{self, LeaseElection, LeaseFile};
use neo_api::{Address, Transport};
use neo_client::{Attempt, Client, Oid};
use neo_master::{Master, MasterSettings};
use neo_proto::net::MemoryNetwork;
use neo_storage::{Storage, StorageSettings};

const CLUSTER: &str = "leased";

#[tokio::main]
async fn main() -> anyhow::Result<()> {
    let network: Arc<dyn Transport> = Arc::new(MemoryNetwork::new());
    let directory = tempfile::tempdir()?;
    let path = directory.path().join("lease");
    let addresses = ["m1", "m2"].map(|host| Address::new(host, 10000));

    let (mut masters, mut keepers) = (Vec::new(), Vec::new());
    for address in &addresses {
        let mut settings = MasterSettings::new(CLUSTER);
        settings.masters = addresses.to_vec();
        settings.autostart = Some(1);
        let election = Box::new(LeaseElection::default());
        let builder = Master::with_election(settings, election).bind(address.clone());
        let master = builder.transport(Arc::clone(&network)).start().await?;
        let master = Arc::new(master);
        let (kept, lease) = (Arc::clone(&master), LeaseFile::new(&path));
        keepers.push(tokio::spawn(
            async move { lease::keep(&kept, &lease).await },
        ));
        masters.push(master);
    }
    let settings = StorageSettings::new(CLUSTER, addresses.to_vec());
    let storage = Storage::builder(settings, neo_backends::open("Memory", "")?);
    let _storage = storage.transport(Arc::clone(&network)).start().await?;

    let client = Client::builder(CLUSTER)
        .masters(addresses.iter().map(ToString::to_string))
        .transport(network)
        .connect()
        .await?;
    let write = |text: &'static str| {
        client.transact(move |txn: Attempt| async move {
            txn.store(Oid(1), text).await?;
            Ok(())
        })
    };
    write("under the first").await?;

    // The leader ends as if its process was killed, and with it what asks for its lease.
    let leader = tokio::select! {
        true = masters[0].serving() => 0,
        true = masters[1].serving() => 1,
        else => anyhow::bail!("both masters have ended"),
    };
    keepers.remove(leader).abort();
    let first = masters.remove(leader);
    first.kill().await;

    assert!(masters[0].serving().await, "the other one leads");
    write("under the second").await?;
    let object = client.load(Oid(1)).await?.expect("it was stored");
    assert_eq!(object.data, "under the second");
    println!(
        "{} took over from {}",
        masters[0].address(),
        first.address()
    );
    client.close().await;
    Ok(masters[0].stop_cluster().await?)
}
