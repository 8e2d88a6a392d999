//! A cluster whose databases are measured: each is wrapped in a backend that counts what it is
//! asked. The wrapper is `examples/src/metered.rs`.

use std::sync::{Arc, Mutex};

use examples::metered::Metered;
use neo_client::Attempt;
use neo_testkit::Cluster;

#[tokio::main]
async fn main() -> anyhow::Result<()> {
    let directory = tempfile::tempdir()?;
    let path = directory.path().join("data.sqlite");
    let measured: Arc<Mutex<Vec<Arc<Metered>>>> = Arc::default();
    let opened = Arc::clone(&measured);
    let cluster = Cluster::builder().backend(move |_| {
        let sqlite = neo_backends::open("SQLite", &path.display().to_string())?;
        let metered = Arc::new(Metered::new(sqlite));
        opened
            .lock()
            .expect("nobody panics")
            .push(Arc::clone(&metered));
        Ok(metered)
    });
    let mut cluster = cluster.start().await?;
    let client = cluster.client().await?;
    for n in 0..100_u32 {
        let store = |txn: Attempt| async move {
            let oid = txn.new_oid().await?;
            txn.store(oid, n.to_be_bytes().to_vec()).await
        };
        client.transact(store).await?;
    }
    client.close().await;
    cluster.stop().await?;
    let measured = measured.lock().expect("nobody panics");
    let figures = measured[0].figures();
    println!("{figures:#.1?}");
    // A vote and a lock are written before a commit is acknowledged, and the move into place after.
    assert!(figures["apply"].calls >= 100 && figures["apply"].errors == 0);
    Ok(())
}
