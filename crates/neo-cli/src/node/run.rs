//! Running one node until it ends: alone, or under `neosimple`.

use std::future::Future;

use anyhow::{Context, anyhow};
use neo_admin::{Admin, AdminSettings, AdminStatus};
use neo_api::Address;
use neo_master::{Master, MasterSettings};
use neo_proto::net::NodeFailure;
use neo_storage::{Storage, StorageSettings};
use tokio::sync::mpsc;

use super::settings::{Common, MasterConfig, StorageConfig};
use crate::config::Setting;

/// A node to run.
#[derive(Debug, Clone)]
pub enum NodeConfig {
    /// `neomaster`.
    Master(MasterConfig),
    /// `neostorage`.
    Storage(StorageConfig),
    /// `neoadmin`.
    Admin(Common),
}

/// What a node tells of itself.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum NodeEvent {
    /// It listens here.
    Listening(Address),
    /// An admin node: what it sees of the cluster.
    Status(AdminStatus),
    /// A master: for whom or what its cluster waits; empty when for nothing.
    Waiting(String),
    /// It ended: cleanly, or why not.
    Ended(Result<(), String>),
}

/// Runs a node until it ends by itself, or `stop` is ready and it has stopped.
///
/// Nobody has to listen to `events`.
///
/// # Errors
/// When it cannot be started, or failed.
pub async fn run(
    config: NodeConfig,
    events: mpsc::Sender<NodeEvent>,
    stop: impl Future<Output = ()>,
) -> anyhow::Result<()> {
    match config {
        NodeConfig::Master(config) => master(config, events, stop).await,
        NodeConfig::Storage(config) => storage(config, events, stop).await,
        NodeConfig::Admin(config) => admin(config, events, stop).await,
    }
}

async fn master(
    config: MasterConfig,
    events: mpsc::Sender<NodeEvent>,
    stop: impl Future<Output = ()>,
) -> anyhow::Result<()> {
    let MasterConfig {
        common,
        autostart,
        replicas,
        partitions,
    } = config;
    let mut settings = MasterSettings::new(common.cluster);
    settings.nid = common.nid;
    settings.masters = common.masters.value.0;
    settings.autostart = autostart;
    settings.replicas = replicas;
    settings.partitions = partitions;
    let builder = Master::builder(settings).bind(common.bind.value.clone());
    let master = builder
        .start()
        .await
        .with_context(|| origin(&common.bind))?;
    listening(&events, master.address()).await;
    let stopper = master.stopper();
    let mut status = master.status();
    let watch = async {
        let mut told = String::new();
        while status.changed().await.is_ok() {
            let waiting = status.borrow_and_update().waiting.clone();
            if waiting != told {
                told.clone_from(&waiting);
                let _ = events.send(NodeEvent::Waiting(waiting)).await;
            }
        }
        std::future::pending::<()>().await;
    };
    let ended = until(master.wait(), stop, || async move { stopper.stop().await });
    tokio::select! {
        ended = ended => ended.map_err(failed),
        () = watch => Ok(()),
    }
}

async fn storage(
    config: StorageConfig,
    events: mpsc::Sender<NodeEvent>,
    stop: impl Future<Output = ()>,
) -> anyhow::Result<()> {
    tokio::pin!(stop);
    let StorageConfig {
        common,
        database,
        wait,
        reset,
    } = config;
    if reset {
        return database.erase();
    }
    let backend = tokio::select! {
        opened = database.open(wait) => opened?,
        () = &mut stop => return Ok(()),
    };
    let mut settings = StorageSettings::new(common.cluster, common.masters.value.0);
    settings.nid = common.nid;
    let builder = Storage::builder(settings, backend).bind(common.bind.value.clone());
    let storage = builder
        .start()
        .await
        .with_context(|| origin(&common.bind))?;
    listening(&events, storage.address()).await;
    let stopper = storage.stopper();
    let ended = until(storage.wait(), stop, || async move { stopper.stop().await });
    ended.await.map_err(failed)
}

async fn admin(
    config: Common,
    events: mpsc::Sender<NodeEvent>,
    stop: impl Future<Output = ()>,
) -> anyhow::Result<()> {
    let settings = AdminSettings {
        cluster: config.cluster,
        masters: config.masters.value.0,
        address: config.bind.value.clone(),
        nid: config.nid,
    };
    let started = Admin::builder(settings).start().await;
    let admin = started.with_context(|| origin(&config.bind))?;
    listening(&events, admin.address()).await;
    let mut status = admin.status();
    let stopper = admin.stopper();
    let watch = async {
        while status.changed().await.is_ok() {
            let status = *status.borrow_and_update();
            let _ = events.send(NodeEvent::Status(status)).await;
        }
        std::future::pending::<()>().await;
    };
    let ended = until(admin.wait(), stop, || async move { stopper.stop().await });
    tokio::select! {
        ended = ended => ended.map_err(failed),
        () = watch => Ok(()),
    }
}

/// Waits for a node to end; when `stop` is ready first, asks it to.
async fn until<T, F: Future<Output = ()>>(
    node: impl Future<Output = T>,
    stop: impl Future<Output = ()>,
    ask: impl FnOnce() -> F,
) -> T {
    tokio::pin!(node);
    tokio::select! {
        ended = &mut node => ended,
        () = stop => {
            ask().await;
            node.await
        }
    }
}

fn failed(failure: NodeFailure) -> anyhow::Error {
    anyhow!(failure.reason)
}

async fn listening(events: &mpsc::Sender<NodeEvent>, address: &Address) {
    tracing::info!(%address, "listening");
    if matches!(address.host(), "0.0.0.0" | "::") {
        tracing::warn!("other nodes are told {address}: to another machine that means nothing");
    }
    let _ = events.send(NodeEvent::Listening(address.clone())).await;
}

/// What to say before an error about the address to listen at.
fn origin(bind: &Setting<Address>) -> String {
    format!("{} ({})", bind.value, bind.origin())
}
