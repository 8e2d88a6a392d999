//! A storage node program of your own: the backend of `examples/src/log.rs`, measured by that of
//! `metered.rs`, reached through the transport of `unix.rs`, and the command line of `neostorage`.
//!
//! With arguments it is that program. Without, it shows it: it starts itself as a storage node,
//! commits to it, kills it, starts it again, and finds everything there.

use std::path::Path;
use std::process::{Child, Command, ExitCode};
use std::sync::Arc;

use anyhow::Context as _;
use examples::log::Log;
use examples::metered::Metered;
use examples::unix::UnixTransport;
use neo_api::{Address, BackendResult, StorageBackend, Transport};
use neo_backends::{Adapter, DatabaseOptions, Place};
use neo_cli::Programs;
use neo_client::Client;
use neo_master::{Master, MasterSettings};

/// `-a MeteredLog`
#[derive(Debug)]
struct MeteredLog;

impl Adapter for MeteredLog {
    fn name(&self) -> &str {
        "MeteredLog"
    }

    fn place(&self) -> Place {
        Place::Path
    }

    fn open(&self, options: &DatabaseOptions) -> BackendResult<Arc<dyn StorageBackend>> {
        Ok(Arc::new(Metered::new(Log.open(options)?)))
    }
}

/// The variable that tells where the sockets are.
const SOCKETS: &str = "NEO_SOCKETS";
const CLUSTER: &str = "main";

fn main() -> ExitCode {
    if std::env::args_os().len() > 1 {
        let sockets = std::env::var_os(SOCKETS).unwrap_or_else(|| "/run/neo".into());
        let transport = Arc::new(UnixTransport::new(sockets));
        return Programs::new()
            .adapter(MeteredLog)
            .transport(transport)
            .neostorage();
    }
    match show() {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("{error:?}");
            ExitCode::FAILURE
        }
    }
}

#[tokio::main]
async fn show() -> anyhow::Result<()> {
    let directory = tempfile::tempdir()?;
    let directory = directory.path();
    let transport: Arc<dyn Transport> = Arc::new(UnixTransport::new(directory));
    let mut settings = MasterSettings::new(CLUSTER);
    settings.autostart = Some(1);
    let master = Master::builder(settings).bind(Address::new("master", 1));
    let master = master.transport(Arc::clone(&transport)).start().await?;
    let node = Node::start(directory)?;
    let client = || {
        let builder = Client::builder(CLUSTER).masters(["master:1"]);
        builder.transport(Arc::clone(&transport)).connect()
    };
    let writer = client().await?;
    let oid = writer
        .transact(|txn| async move {
            let oid = txn.new_oid().await?;
            txn.store(oid, "in a log, through a socket").await?;
            Ok(oid)
        })
        .await?;

    drop(node);
    let mut node = Node::start(directory)?;
    // One that has nothing cached. It waits for the node.
    let reader = client().await?;
    let object = reader.load(oid).await?.context("the log has it")?;
    assert_eq!(object.data, "in a log, through a socket");
    println!("{oid} survived the storage node that it was in");
    reader.close().await;
    writer.close().await;
    master.stop_cluster().await?;
    assert!(node.0.wait()?.success());
    Ok(())
}

/// A storage node as a process, which is killed when it is dropped.
struct Node(Child);

impl Node {
    fn start(directory: &Path) -> anyhow::Result<Self> {
        let database = directory.join("data.log");
        let child = Command::new(std::env::current_exe()?)
            .args([
                "-c",
                CLUSTER,
                "-m",
                "master:1",
                "-b",
                "storage",
                "-a",
                "MeteredLog",
                "-d",
            ])
            .arg(database)
            .env(SOCKETS, directory)
            .spawn();
        Ok(Self(child.context("cannot start the storage node")?))
    }
}

impl Drop for Node {
    fn drop(&mut self) {
        // SIGKILL. It may have ended before.
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}
