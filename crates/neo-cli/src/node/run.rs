//! Running one node until it ends: alone, or under `neosimple`.

use std::convert::Infallible;
use std::future::{Future, pending};
use std::sync::Arc;

use anyhow::{Context, anyhow};
use neo_admin::{Admin, AdminSettings};
use neo_api::{Address, ClusterState, NodeId, Transport};
use neo_master::{Master, MasterSettings};
use neo_proto::net::{MasterListFile, NodeFailure};
use neo_storage::{Storage, StorageSettings};
use tokio::sync::{mpsc, watch};

use super::settings::{Common, MasterConfig, StorageConfig};
use crate::config::{Setting, Size};

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
    Status {
        /// Whether it is connected to a primary master.
        connected: bool,
        /// That master's id.
        primary: Option<NodeId>,
        /// The state of the cluster; `None` without a primary.
        state: Option<ClusterState>,
    },
    /// A master: for whom or what its cluster waits; empty when for nothing.
    Waiting(String),
    /// It ended: cleanly, or why not.
    Ended(Result<(), String>),
}

/// Runs a node until it ends by itself, or `stop` is ready and it has stopped.
///
/// It reaches others by `transport`. Nobody has to listen to `events`.
///
/// # Errors
/// When it cannot be started, or failed.
pub async fn run(
    config: NodeConfig,
    transport: Arc<dyn Transport>,
    events: mpsc::Sender<NodeEvent>,
    stop: impl Future<Output = ()>,
) -> anyhow::Result<()> {
    match config {
        NodeConfig::Master(config) => master(config, transport, events, stop).await,
        NodeConfig::Storage(config) => storage(config, transport, events, stop).await,
        NodeConfig::Admin(config) => admin(config, transport, events, stop).await,
    }
}

async fn master(
    config: MasterConfig,
    transport: Arc<dyn Transport>,
    events: mpsc::Sender<NodeEvent>,
    stop: impl Future<Output = ()>,
) -> anyhow::Result<()> {
    let MasterConfig {
        common,
        autostart,
        auto_tweak,
        replicas,
        partitions,
    } = config;
    let (masters, list) = masters(&common)?;
    let mut settings = MasterSettings::new(common.cluster);
    settings.nid = common.nid;
    settings.masters = masters;
    settings.autostart = autostart;
    settings.auto_tweak_s = auto_tweak.map(u64::from);
    settings.replicas = replicas;
    settings.partitions = partitions;
    let builder = Master::builder(settings).bind(common.bind.value.clone());
    let started = builder.transport(transport).start().await;
    let master = started.with_context(|| origin(&common.bind))?;
    listening(&events, master.address()).await;
    let tells = pass_on(master.status(), &events, |status| {
        NodeEvent::Waiting(status.waiting.clone())
    });
    let tells = beside(tells, keep(list, master.status(), |status| &status.masters));
    until(master.wait(), stop, master.stop(), tells).await
}

async fn storage(
    config: StorageConfig,
    transport: Arc<dyn Transport>,
    events: mpsc::Sender<NodeEvent>,
    stop: impl Future<Output = ()>,
) -> anyhow::Result<()> {
    tokio::pin!(stop);
    let StorageConfig {
        common,
        database,
        wait,
        disable_drop_partitions,
        replication_min_rate,
        new_nid,
        reset,
    } = config;
    if reset {
        return database.erase();
    }
    let backend = tokio::select! {
        opened = database.open(wait) => opened?,
        () = &mut stop => return Ok(()),
    };
    let (masters, list) = masters(&common)?;
    let mut settings = StorageSettings::new(common.cluster, masters);
    settings.nid = common.nid;
    settings.drop_partitions = !disable_drop_partitions;
    settings.new_nid = new_nid;
    if let Some(Size(bytes_per_s)) = replication_min_rate {
        settings.limits.replication_bytes_per_s_min = bytes_per_s;
    }
    let builder = Storage::builder(settings, backend).bind(common.bind.value.clone());
    let started = builder.transport(transport).start().await;
    let storage = started.with_context(|| origin(&common.bind))?;
    listening(&events, storage.address()).await;
    let tells = keep(list, storage.status(), |status| &status.masters);
    until(storage.wait(), stop, storage.stop(), tells).await
}

async fn admin(
    config: Common,
    transport: Arc<dyn Transport>,
    events: mpsc::Sender<NodeEvent>,
    stop: impl Future<Output = ()>,
) -> anyhow::Result<()> {
    let (masters, list) = masters(&config)?;
    let settings = AdminSettings {
        cluster: config.cluster,
        masters,
        nid: config.nid,
    };
    let builder = Admin::builder(settings).bind(config.bind.value.clone());
    let started = builder.transport(transport).start().await;
    let admin = started.with_context(|| origin(&config.bind))?;
    listening(&events, admin.address()).await;
    let tells = pass_on(admin.status(), &events, |status| NodeEvent::Status {
        connected: status.connected,
        primary: status.primary,
        state: status.state,
    });
    let tells = beside(tells, keep(list, admin.status(), |status| &status.masters));
    until(admin.wait(), stop, admin.stop(), tells).await
}

/// Tells what a node tells of itself, as it changes.
async fn pass_on<S>(
    mut status: watch::Receiver<S>,
    events: &mpsc::Sender<NodeEvent>,
    event: impl Fn(&S) -> NodeEvent,
) -> Infallible {
    let mut told = None;
    while status.changed().await.is_ok() {
        let event = event(&status.borrow_and_update());
        if told.as_ref() != Some(&event) {
            told = Some(event.clone());
            let _ = events.send(event).await;
        }
    }
    pending().await
}

/// The masters to start with, and the file that keeps them, if there is one.
fn masters(config: &Common) -> anyhow::Result<(Vec<Address>, Option<MasterListFile>)> {
    let given = &config.masters.value.0;
    Ok(match &config.dynamic_master_list {
        None => (given.clone(), None),
        Some(path) => {
            let list = MasterListFile::open(path, given)?;
            (list.masters().to_vec(), Some(list))
        }
    })
}

/// Keeps the masters that a node knows in the file, if there is one.
async fn keep<S>(
    list: Option<MasterListFile>,
    mut status: watch::Receiver<S>,
    masters: impl Fn(&S) -> &[Address],
) -> Infallible {
    if let Some(mut list) = list {
        while status.changed().await.is_ok() {
            let known = masters(&status.borrow_and_update()).to_vec();
            list.update(&known);
        }
    }
    pending().await
}

async fn beside(
    one: impl Future<Output = Infallible>,
    other: impl Future<Output = Infallible>,
) -> Infallible {
    tokio::join!(one, other).0
}

type Ended = Result<(), NodeFailure>;

/// Waits for a node to end; when `stop` is ready first, has it stopped. Meanwhile it `tells`.
async fn until(
    ended: impl Future<Output = Ended>,
    stop: impl Future<Output = ()>,
    stopped: impl Future<Output = Ended>,
    tells: impl Future<Output = Infallible>,
) -> anyhow::Result<()> {
    let ended = async {
        tokio::select! {
            ended = ended => ended,
            () = stop => stopped.await,
        }
    };
    tokio::select! {
        ended = ended => ended.map_err(|failure| anyhow!(failure.reason)),
        never = tells => match never {},
    }
}

async fn listening(events: &mpsc::Sender<NodeEvent>, address: &Address) {
    if matches!(address.host(), "0.0.0.0" | "::") {
        tracing::warn!("other nodes are told {address}: to another machine that means nothing");
    }
    let _ = events.send(NodeEvent::Listening(address.clone())).await;
}

/// What to say before an error about the address to listen at.
fn origin(bind: &Setting<Address>) -> String {
    format!("{} ({})", bind.value, bind.origin())
}
