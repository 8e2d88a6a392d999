//! Nodes that listen: how they are started, and what is in hand of one that runs.

use std::future::Future;
use std::io;
use std::sync::Arc;

use neo_api::{Address, Env, SystemEnv, Transport};
use tokio::sync::{mpsc, watch};
use tokio::task::AbortHandle;
use tracing::{Span, info};

use super::driver::{DriverOptions, NodeFailure};
use super::tcp::TcpTransport;
use crate::session::SessionSettings;

/// Commands on their way to a core; then those who give them wait.
const COMMANDS_MAX: usize = 8;

/// A kind of node, with what is its own: settings, a backend. [`NodeBuilder`] has the rest.
pub trait Node {
    /// The node when it runs: more or less a [`RunningNode`].
    type Running;
    /// Why it could not be started.
    type StartError: From<BindError>;

    /// Whether it can be at all; asked before anything listens.
    ///
    /// # Errors
    /// What is wrong with its settings.
    fn check(&self) -> Result<(), Self::StartError>;

    /// What the lines of its log are within.
    fn span(address: &Address) -> Span;

    /// Runs it as a task of the current tokio runtime, at the address at which it listens.
    fn run(self, address: Address, options: DriverOptions) -> Self::Running;
}

/// How a node is to be run: at a free port of 127.0.0.1 and over TCP, unless told otherwise.
#[derive(Debug)]
pub struct NodeBuilder<N> {
    node: N,
    bind: Address,
    transport: Arc<dyn Transport>,
    env: Arc<dyn Env>,
    session: SessionSettings,
}

impl<N: Node> NodeBuilder<N> {
    /// A builder for this node.
    pub fn new(node: N) -> Self {
        Self {
            node,
            bind: Address::new("127.0.0.1", 0),
            transport: Arc::new(TcpTransport::new()),
            env: Arc::new(SystemEnv::new()),
            session: SessionSettings::default(),
        }
    }

    /// Where the node listens; others connect to this very host name.
    #[must_use]
    pub fn bind(mut self, address: Address) -> Self {
        self.bind = address;
        self
    }

    /// How nodes reach each other.
    #[must_use]
    pub fn transport(mut self, transport: Arc<dyn Transport>) -> Self {
        self.transport = transport;
        self
    }

    /// Time and randomness.
    #[must_use]
    pub fn env(mut self, env: Arc<dyn Env>) -> Self {
        self.env = env;
        self
    }

    /// Times and bounds of connections.
    #[must_use]
    pub fn session(mut self, session: SessionSettings) -> Self {
        self.session = session;
        self
    }

    /// Listens, and runs the node as a task of the current tokio runtime.
    ///
    /// # Errors
    /// When a setting can't be, or it cannot listen.
    ///
    /// # Panics
    /// Outside a tokio runtime; over TCP, it needs I/O and time.
    pub async fn start(self) -> Result<N::Running, N::StartError> {
        self.node.check()?;
        let bound = self.transport.bind(&self.bind).await;
        let listener = bound.map_err(|source| BindError {
            address: self.bind,
            source,
        })?;
        let address = listener.local_address();
        let options = DriverOptions {
            transport: self.transport,
            env: self.env,
            listener: Some(listener),
            session: self.session,
            span: N::span(&address),
        };
        options.span.in_scope(|| info!(%address, "listening"));
        Ok(self.node.run(address, options))
    }
}

/// Nothing can listen there.
#[derive(Debug, thiserror::Error)]
#[error("cannot listen at {address}")]
pub struct BindError {
    /// Where.
    pub address: Address,
    /// The system's reason.
    #[source]
    pub source: io::Error,
}

/// A node that runs; it goes on when this is dropped.
#[derive(Debug)]
pub struct RunningNode<Command, Status> {
    address: Address,
    status: watch::Receiver<Status>,
    commands: mpsc::Sender<Command>,
    task: AbortHandle,
    ended: watch::Receiver<Option<Result<(), NodeFailure>>>,
}

impl<Command, Status> RunningNode<Command, Status> {
    /// Runs a node as a task of the current tokio runtime; it is given its commands.
    ///
    /// # Panics
    /// Outside a tokio runtime.
    pub fn spawn<F>(
        address: Address,
        status: watch::Receiver<Status>,
        node: impl FnOnce(mpsc::Receiver<Command>) -> F,
    ) -> Self
    where
        F: Future<Output = Result<(), NodeFailure>> + Send + 'static,
    {
        let (commands, receiver) = mpsc::channel(COMMANDS_MAX);
        let task = tokio::spawn(node(receiver));
        let abort = task.abort_handle();
        let (end, ended) = watch::channel(None);
        tokio::spawn(async move {
            let result = task.await.unwrap_or_else(|error| {
                Err(NodeFailure {
                    reason: format!("the node's task ended: {error}"),
                })
            });
            end.send_replace(Some(result));
        });
        Self {
            address,
            status,
            commands,
            task: abort,
            ended,
        }
    }

    /// Where it listens, with the real port.
    #[must_use]
    pub const fn address(&self) -> &Address {
        &self.address
    }

    /// What it tells about itself, as it changes.
    #[must_use]
    pub fn status(&self) -> watch::Receiver<Status> {
        self.status.clone()
    }

    /// Tells it something; without effect once it has ended.
    pub async fn tell(&self, command: Command) {
        // Its end is told by `wait`.
        let _ = self.commands.send(command).await;
    }

    /// Tells it something that ends it, and waits until it has ended.
    ///
    /// # Errors
    /// When it failed.
    pub async fn stop_by(&self, command: Command) -> Result<(), NodeFailure> {
        self.tell(command).await;
        self.wait().await
    }

    /// Waits for the node to end.
    ///
    /// # Errors
    /// When it failed.
    pub async fn wait(&self) -> Result<(), NodeFailure> {
        let mut ended = self.ended.clone();
        match ended.wait_for(Option::is_some).await.as_deref() {
            Ok(Some(result)) => result.clone(),
            _ => Err(NodeFailure {
                reason: "the runtime of the node's task ended".to_owned(),
            }),
        }
    }

    /// Ends the node at once, as a crash of its process would: nothing more is written or sent.
    /// What a backend was given before may still be carried out.
    pub async fn kill(&self) {
        self.task.abort();
        // It was cancelled, or had ended by itself.
        let _ = self.wait().await;
    }
}
