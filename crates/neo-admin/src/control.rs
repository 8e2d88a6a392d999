//! The control client: what `neoctl` prints, as typed calls.

mod core;

use std::collections::BTreeMap;
use std::convert::Infallible;
use std::fmt;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use neo_api::{
    Address, ClusterState, Env, NodeId, NodeState, NodeType, PartitionTable, SystemEnv,
    TableVersion, Tid, Transport,
};
use neo_proto::net::{self, DoneSender, DriverOptions, Shell, TcpTransport};
use neo_proto::{ErrorCode, NodeInfo, PackProgress, Packet, SessionSettings, WireLastIds};
use tokio::sync::{mpsc, oneshot};
use tokio::task::AbortHandle;
use tracing::error_span;

use self::core::{ControlCommand, ControlCore, ControlEvent};

/// How long a command may take, unless told otherwise.
const TIMEOUT: Duration = Duration::from_secs(60);

/// Commands that wait for the driver.
const QUEUE: usize = 64;

/// Why a command has no result.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum ControlError {
    /// The admin node cannot be reached.
    #[error("cannot connect to the admin node at {address}: {reason}")]
    Connect {
        /// Where it was looked for.
        address: Address,
        /// Why not.
        reason: String,
    },
    /// The connection ended before the answer came: nobody knows whether the command was carried
    /// out.
    #[error("the connection to the admin node at {address} ended before it answered: {reason}")]
    Lost {
        /// Where it was.
        address: Address,
        /// Why.
        reason: String,
    },
    /// There was no answer in time: nobody knows whether the command was carried out.
    #[error("no answer from the admin node at {address} after {} s", after.as_secs())]
    Timeout {
        /// Where it was.
        address: Address,
        /// How long was waited.
        after: Duration,
    },
    /// The cluster can't say or do this now; later it may.
    #[error("not ready: {0}")]
    NotReady(String),
    /// The command makes no sense now, or would lose data.
    #[error("denied: {0}")]
    Denied(String),
    /// Another refusal.
    #[error("{code}: {message}")]
    Refused {
        /// Of which kind.
        code: ErrorCode,
        /// In words.
        message: String,
    },
    /// The node answers something else than what it was asked.
    #[error("the admin node at {address} answers by {packet}: it is not of this version")]
    Unexpected {
        /// Where it is.
        address: Address,
        /// Name of the answer.
        packet: &'static str,
    },
}

/// How a cluster is.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct ClusterStatus {
    /// Its state; `None` when the admin node has no primary master.
    pub state: Option<ClusterState>,
    /// For whom or what it waits, or why there is no primary; empty when there is nothing to say.
    pub waiting: String,
}

/// What came of a tweak, or would.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct Tweaked {
    /// Whether anything changes.
    pub changed: bool,
    /// The partition table that results.
    pub table: PartitionTable,
    /// What changes, for the operator.
    pub message: String,
}

/// A connection to an admin node; clones share it. Calls may run at the same time.
///
/// Dropping a call's future gives its answer up, not what it does.
#[derive(Clone)]
pub struct Control {
    shared: Arc<Shared>,
    timeout: Duration,
}

struct Shared {
    address: Address,
    commands: mpsc::Sender<ControlCommand>,
    tickets: AtomicU64,
    waiting: Arc<Waiting>,
    /// The connection's task, which ends with the last handle.
    task: AbortHandle,
}

impl Drop for Shared {
    fn drop(&mut self) {
        self.task.abort();
    }
}

type Answer = Result<Packet, ControlError>;

/// Who waits for which answer.
#[derive(Default)]
struct Waiting {
    callers: Mutex<Callers>,
}

#[derive(Default)]
struct Callers {
    by_ticket: BTreeMap<u64, oneshot::Sender<Answer>>,
    /// Why the connection ended, once it has.
    ended: Option<ControlError>,
}

impl Waiting {
    fn with<T>(&self, f: impl FnOnce(&mut Callers) -> T) -> T {
        f(&mut self.callers.lock().unwrap_or_else(PoisonError::into_inner))
    }

    fn add(&self, ticket: u64, caller: oneshot::Sender<Answer>) -> Result<(), ControlError> {
        self.with(|callers| {
            callers.ended.clone().map_or(Ok(()), Err)?;
            callers.by_ticket.insert(ticket, caller);
            Ok(())
        })
    }

    fn answer(&self, ticket: u64, answer: Answer) {
        if let Some(caller) = self.with(|callers| callers.by_ticket.remove(&ticket)) {
            // A caller that has given up does not need it.
            let _ = caller.send(answer);
        }
    }

    fn end(&self, error: &ControlError) {
        let callers = self.with(|callers| {
            callers.ended.get_or_insert_with(|| error.clone());
            std::mem::take(&mut callers.by_ticket)
        });
        for caller in callers.into_values() {
            let _ = caller.send(Err(error.clone()));
        }
    }
}

impl fmt::Debug for Control {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let address = self.shared.address.to_string();
        f.debug_struct("Control")
            .field("address", &address)
            .finish_non_exhaustive()
    }
}

impl Control {
    /// Connects to an admin node, over TCP.
    ///
    /// # Errors
    /// When it cannot be reached.
    pub async fn connect(address: &Address) -> Result<Self, ControlError> {
        let (transport, env) = (TcpTransport::new(), SystemEnv::new());
        Self::connect_over(Arc::new(transport), Arc::new(env), address).await
    }

    /// Connects to an admin node, over any transport.
    ///
    /// # Errors
    /// When it cannot be reached.
    pub async fn connect_over(
        transport: Arc<dyn Transport>,
        env: Arc<dyn Env>,
        address: &Address,
    ) -> Result<Self, ControlError> {
        let waiting = Arc::new(Waiting::default());
        let (connected, is_connected) = oneshot::channel();
        let (commands, receiver) = mpsc::channel(QUEUE);
        let shell = ControlShell {
            address: address.clone(),
            connected: Some(connected),
            waiting: Arc::clone(&waiting),
        };
        let options = DriverOptions {
            transport,
            env,
            listener: None,
            session: SessionSettings::default(),
            span: error_span!("control", %address),
        };
        let core = ControlCore::new(address.clone());
        let task = tokio::spawn(net::run(core, shell, options, receiver)).abort_handle();
        let shared = Shared {
            address: address.clone(),
            commands,
            tickets: AtomicU64::new(1),
            waiting,
            task,
        };
        match is_connected.await {
            Ok(result) => result?,
            Err(_) => {
                return Err(ControlError::Connect {
                    address: address.clone(),
                    reason: "the connection's task ended".to_owned(),
                });
            }
        }
        Ok(Self {
            shared: Arc::new(shared),
            timeout: TIMEOUT,
        })
    }

    /// The same connection, with another limit to how long a command may take.
    #[must_use]
    pub fn with_timeout(&self, timeout: Duration) -> Self {
        Self {
            shared: Arc::clone(&self.shared),
            timeout,
        }
    }

    /// Id of the primary master; `None` when the admin node has none.
    ///
    /// # Errors
    /// As [`ControlError`] has them, like those of the other calls.
    pub async fn primary(&self) -> Result<Option<NodeId>, ControlError> {
        match self.ask(Packet::AskPrimary {}).await? {
            Packet::AnswerPrimary { primary } => Ok(primary),
            other => self.unexpected(&other),
        }
    }

    /// How the cluster is.
    ///
    /// # Errors
    /// As [`ControlError`] has them.
    pub async fn cluster(&self) -> Result<ClusterStatus, ControlError> {
        match self.ask(Packet::AskClusterState {}).await? {
            Packet::AnswerClusterState { state, waiting } => Ok(ClusterStatus { state, waiting }),
            other => self.unexpected(&other),
        }
    }

    /// The nodes of a type, or all, in order of id.
    ///
    /// # Errors
    /// As [`ControlError`] has them.
    pub async fn nodes(&self, node_type: Option<NodeType>) -> Result<Vec<NodeInfo>, ControlError> {
        match self.ask(Packet::AskNodeList { node_type }).await? {
            Packet::AnswerNodeList { nodes } => Ok(nodes),
            other => self.unexpected(&other),
        }
    }

    /// The partition table; `None` before the cluster is created.
    ///
    /// # Errors
    /// As [`ControlError`] has them.
    pub async fn partition_table(&self) -> Result<Option<PartitionTable>, ControlError> {
        match self.ask(Packet::AskPartitionList {}).await? {
            Packet::AnswerPartitionList { table } => Ok(table.map(|table| *table)),
            other => self.unexpected(&other),
        }
    }

    /// Greatest ids of the cluster, and the version of its partition table.
    ///
    /// # Errors
    /// As [`ControlError`] has them.
    pub async fn last_ids(&self) -> Result<(WireLastIds, Option<TableVersion>), ControlError> {
        match self.ask(Packet::AskLastIds {}).await? {
            Packet::AnswerLastIds { ids, version, .. } => Ok((ids, version)),
            other => self.unexpected(&other),
        }
    }

    /// The last committed tid.
    ///
    /// # Errors
    /// As [`ControlError`] has them.
    pub async fn last_tid(&self) -> Result<Tid, ControlError> {
        match self.ask(Packet::AskLastTransaction {}).await? {
            Packet::AnswerLastTransaction { tid } => Ok(tid),
            other => self.unexpected(&other),
        }
    }

    /// How far the cluster is with its packs.
    ///
    /// # Errors
    /// As [`ControlError`] has them.
    pub async fn pack_progress(&self) -> Result<PackProgress, ControlError> {
        match self.ask(Packet::AskPackProgress {}).await? {
            Packet::AnswerPackProgress { progress } => Ok(progress),
            other => self.unexpected(&other),
        }
    }

    /// Asks the cluster to change its state; what is said is for the operator.
    ///
    /// # Errors
    /// As [`ControlError`] has them.
    pub async fn set_cluster_state(&self, state: ClusterState) -> Result<String, ControlError> {
        self.command(Packet::SetClusterState { state }).await
    }

    /// Starts the cluster with the storage nodes that are there: `neoctl start`.
    ///
    /// # Errors
    /// As [`ControlError`] has them.
    pub async fn start(&self) -> Result<String, ControlError> {
        self.set_cluster_state(ClusterState::Verifying).await
    }

    /// Stops a node (`Down`), or forgets it (`Unknown`).
    ///
    /// # Errors
    /// As [`ControlError`] has them.
    pub async fn set_node_state(
        &self,
        nid: NodeId,
        state: NodeState,
    ) -> Result<String, ControlError> {
        self.command(Packet::SetNodeState { nid, state }).await
    }

    /// Takes pending storage nodes into the cluster; all, when none is named.
    ///
    /// # Errors
    /// As [`ControlError`] has them.
    pub async fn add_nodes(&self, nodes: Vec<NodeId>) -> Result<String, ControlError> {
        self.command(Packet::AddPendingNodes { nodes }).await
    }

    /// Balances the partition table, or tells what would come of it.
    ///
    /// # Errors
    /// As [`ControlError`] has them.
    pub async fn tweak(&self, dry_run: bool, ignore: Vec<NodeId>) -> Result<Tweaked, ControlError> {
        match self
            .ask(Packet::TweakPartitionTable { dry_run, ignore })
            .await?
        {
            Packet::AnswerTweakPartitionTable {
                changed,
                table,
                message,
            } => Ok(Tweaked {
                changed,
                table: *table,
                message,
            }),
            other => self.unexpected(&other),
        }
    }

    /// Changes how many copies of each partition are wanted beside the first.
    ///
    /// # Errors
    /// As [`ControlError`] has them.
    pub async fn set_replicas(&self, replicas: u32) -> Result<String, ControlError> {
        self.command(Packet::SetNumReplicas { replicas }).await
    }

    async fn command(&self, packet: Packet) -> Result<String, ControlError> {
        match self.ask(packet).await? {
            Packet::AnswerDone { message } => Ok(message),
            other => self.unexpected(&other),
        }
    }

    async fn ask(&self, packet: Packet) -> Answer {
        let Shared {
            address,
            commands,
            tickets,
            waiting,
            ..
        } = &*self.shared;
        let ticket = tickets.fetch_add(1, Ordering::Relaxed);
        let (caller, answer) = oneshot::channel();
        waiting.add(ticket, caller)?;
        let asked = async {
            // When the driver is gone, `end` has answered the caller, or does so now.
            let _ = commands.send(ControlCommand { ticket, packet }).await;
            answer.await
        };
        let lost = || ControlError::Lost {
            address: address.clone(),
            reason: "the connection's task ended".to_owned(),
        };
        let packet = match tokio::time::timeout(self.timeout, asked).await {
            Ok(answer) => answer.map_err(|_| lost())??,
            Err(_) => {
                waiting.with(|callers| callers.by_ticket.remove(&ticket));
                return Err(ControlError::Timeout {
                    address: address.clone(),
                    after: self.timeout,
                });
            }
        };
        match packet {
            Packet::Error { code, message } => Err(match code {
                ErrorCode::NotReady => ControlError::NotReady(message),
                ErrorCode::Denied => ControlError::Denied(message),
                code => ControlError::Refused { code, message },
            }),
            packet => Ok(packet),
        }
    }

    fn unexpected<T>(&self, packet: &Packet) -> Result<T, ControlError> {
        Err(ControlError::Unexpected {
            address: self.shared.address.clone(),
            packet: packet.name(),
        })
    }
}

/// Gives answers to who waits for them.
struct ControlShell {
    address: Address,
    connected: Option<oneshot::Sender<Result<(), ControlError>>>,
    waiting: Arc<Waiting>,
}

impl Shell<ControlCore> for ControlShell {
    fn job(&mut self, job: Infallible, _done: &DoneSender<ControlCore>) {
        match job {}
    }

    fn event(&mut self, event: ControlEvent) {
        let address = self.address.clone();
        match event {
            ControlEvent::Connected => {
                if let Some(connected) = self.connected.take() {
                    let _ = connected.send(Ok(()));
                }
            }
            ControlEvent::Answer { ticket, packet } => self.waiting.answer(ticket, Ok(packet)),
            ControlEvent::Ended { reason } => {
                if let Some(connected) = self.connected.take() {
                    let _ = connected.send(Err(ControlError::Connect { address, reason }));
                } else {
                    self.waiting.end(&ControlError::Lost { address, reason });
                }
            }
        }
    }
}

impl Drop for ControlShell {
    fn drop(&mut self) {
        self.waiting.end(&ControlError::Lost {
            address: self.address.clone(),
            reason: "the connection's task ended".to_owned(),
        });
    }
}
