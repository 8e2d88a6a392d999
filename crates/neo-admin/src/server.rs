//! The admin node around its core: a listener, the driver, and handles to it.

use std::convert::Infallible;
use std::io;
use std::sync::Arc;

use neo_api::{Address, Env, SystemEnv, Transport};
use neo_proto::SessionSettings;
use neo_proto::net::{self, DoneSender, DriverOptions, NodeFailure, Shell, TcpTransport};
use tokio::sync::{mpsc, watch};
use tokio::task::JoinHandle;

use crate::core::{AdminCommand, AdminCore, AdminSettings, AdminStatus};

/// An admin node.
#[derive(Debug)]
pub struct Admin;

/// A node that could not be started.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum StartError {
    /// Nothing can listen there.
    #[error("cannot listen at {address}")]
    Bind {
        /// The address.
        address: Address,
        /// The system's reason.
        #[source]
        source: io::Error,
    },
    /// Settings without a master.
    #[error("no master is given: the admin node would have nobody to ask for its cluster")]
    NoMaster,
}

/// How an admin node is to be run.
#[derive(Debug)]
pub struct AdminBuilder {
    settings: AdminSettings,
    transport: Arc<dyn Transport>,
    env: Arc<dyn Env>,
    session: SessionSettings,
}

impl Admin {
    /// An admin node that listens at `settings.address`: over TCP, unless another transport is
    /// given.
    #[must_use]
    pub fn builder(settings: AdminSettings) -> AdminBuilder {
        AdminBuilder {
            settings,
            transport: Arc::new(TcpTransport::new()),
            env: Arc::new(SystemEnv::new()),
            session: SessionSettings::default(),
        }
    }
}

impl AdminBuilder {
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
    /// When it cannot listen, or has no master.
    pub async fn start(self) -> Result<RunningAdmin, StartError> {
        let Self {
            mut settings,
            transport,
            env,
            session,
        } = self;
        if settings.masters.is_empty() {
            return Err(StartError::NoMaster);
        }
        let bound = transport.bind(&settings.address).await;
        let listener = bound.map_err(|source| StartError::Bind {
            address: settings.address.clone(),
            source,
        })?;
        let address = listener.local_address();
        settings.address = address.clone();
        let (commands, receiver) = mpsc::channel(8);
        let (told, status) = watch::channel(AdminStatus::default());
        let options = DriverOptions {
            transport,
            env,
            listener: Some(listener),
            session,
            name: "admin".to_owned(),
        };
        let core = AdminCore::new(settings);
        let task = tokio::spawn(net::run(core, Told(told), options, receiver));
        Ok(RunningAdmin {
            address,
            status,
            commands,
            task,
        })
    }
}

/// An admin node that runs; it goes on when this is dropped.
#[derive(Debug)]
pub struct RunningAdmin {
    address: Address,
    status: watch::Receiver<AdminStatus>,
    commands: mpsc::Sender<AdminCommand>,
    task: JoinHandle<Result<(), NodeFailure>>,
}

impl RunningAdmin {
    /// Where it listens, with the real port.
    #[must_use]
    pub const fn address(&self) -> &Address {
        &self.address
    }

    /// What it sees of the cluster, as it changes.
    #[must_use]
    pub fn status(&self) -> watch::Receiver<AdminStatus> {
        self.status.clone()
    }

    /// A handle that stops the node.
    #[must_use]
    pub fn stopper(&self) -> AdminStopper {
        AdminStopper(self.commands.clone())
    }

    /// Waits for the node to end.
    ///
    /// # Errors
    /// When it failed.
    pub async fn wait(self) -> Result<(), NodeFailure> {
        self.task.await.unwrap_or_else(|error| {
            Err(NodeFailure {
                reason: format!("the node's task ended: {error}"),
            })
        })
    }
}

/// Stops an admin node.
#[derive(Debug, Clone)]
pub struct AdminStopper(mpsc::Sender<AdminCommand>);

impl AdminStopper {
    /// Asks the node to stop cleanly; [`RunningAdmin::wait`] tells when it has.
    pub async fn stop(&self) {
        // A node that does not listen any more has stopped.
        let _ = self.0.send(AdminCommand::Stop).await;
    }
}

/// The shell: an admin node has no jobs, and its events are its status.
#[derive(Debug)]
struct Told(watch::Sender<AdminStatus>);

impl Shell<AdminCore> for Told {
    fn job(&mut self, job: Infallible, _done: &DoneSender<AdminCore>) {
        match job {}
    }

    fn event(&mut self, status: AdminStatus) {
        self.0.send_replace(status);
    }
}
