//! The master around its core: a listener and the driver.

use std::io;
use std::sync::Arc;

use bytes::Bytes;
use neo_api::{Address, Election, Env, SingleMaster, SystemEnv, Transport};
use neo_proto::SessionSettings;
use neo_proto::net::{self, DoneSender, DriverOptions, NodeFailure, Shell, TcpTransport};
use tokio::sync::{mpsc, watch};
use tokio::task::JoinHandle;

use crate::config::{MasterSettings, SettingsError};
use crate::core::{Command, Event, MasterCore, Never, Status};

/// A master node.
#[derive(Debug)]
pub struct Master;

/// A master that could not be started.
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
    /// A setting can't be.
    #[error(transparent)]
    Settings(#[from] SettingsError),
}

/// How a master is to be run.
#[derive(Debug)]
pub struct MasterBuilder {
    settings: MasterSettings,
    bind: Address,
    transport: Arc<dyn Transport>,
    env: Arc<dyn Env>,
    election: Box<dyn Election>,
    session: SessionSettings,
}

impl Master {
    /// A master of a cluster. It listens at a free port of 127.0.0.1, talks TCP and is the only
    /// master, unless told otherwise.
    #[must_use]
    pub fn builder(settings: MasterSettings) -> MasterBuilder {
        MasterBuilder {
            settings,
            bind: Address::new("127.0.0.1", 0),
            transport: Arc::new(TcpTransport::new()),
            env: Arc::new(SystemEnv::new()),
            election: Box::new(SingleMaster),
            session: SessionSettings::default(),
        }
    }
}

impl MasterBuilder {
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

    /// Who decides which master is the primary.
    #[must_use]
    pub fn election(mut self, election: Box<dyn Election>) -> Self {
        self.election = election;
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
    /// When it cannot listen, or a setting can't be.
    pub async fn start(self) -> Result<RunningMaster, StartError> {
        let Self {
            settings,
            bind,
            transport,
            env,
            election,
            session,
        } = self;
        settings.check()?;
        let bound = transport.bind(&bind).await;
        let listener = bound.map_err(|source| StartError::Bind {
            address: bind,
            source,
        })?;
        let address = listener.local_address();
        let seed = std::array::from_fn(|_| env.random());
        let (commands, receiver) = mpsc::channel(8);
        let (told, status) = watch::channel(Status::default());
        let options = DriverOptions {
            transport,
            env,
            listener: Some(listener),
            session,
            name: "master".to_owned(),
        };
        let core = MasterCore::with_election(settings, address.clone(), seed, election);
        let task = tokio::spawn(net::run(core, MasterShell(told), options, receiver));
        Ok(RunningMaster {
            address,
            status,
            commands,
            task,
        })
    }
}

/// A master that runs; it goes on when this is dropped.
#[derive(Debug)]
pub struct RunningMaster {
    address: Address,
    status: watch::Receiver<Status>,
    commands: mpsc::Sender<Command>,
    task: JoinHandle<Result<(), NodeFailure>>,
}

impl RunningMaster {
    /// Where it listens, with the real port.
    #[must_use]
    pub const fn address(&self) -> &Address {
        &self.address
    }

    /// What it tells about its cluster, as it changes.
    #[must_use]
    pub fn status(&self) -> watch::Receiver<Status> {
        self.status.clone()
    }

    /// Waits until clients are served; `false` when the master ended before.
    pub async fn serving(&self) -> bool {
        let mut status = self.status.clone();
        status.wait_for(|status| status.serving).await.is_ok()
    }

    /// A handle that stops the master, or its cluster.
    #[must_use]
    pub fn stopper(&self) -> MasterStopper {
        MasterStopper(self.commands.clone())
    }

    /// Stops this master, and waits until it has. The cluster waits for another one, or for it to
    /// come back.
    ///
    /// # Errors
    /// When it failed.
    pub async fn stop(self) -> Result<(), NodeFailure> {
        self.stopper().stop().await;
        self.wait().await
    }

    /// Stops the whole cluster, storage nodes included, once what is pending has ended.
    ///
    /// # Errors
    /// When the master failed.
    pub async fn stop_cluster(self) -> Result<(), NodeFailure> {
        self.stopper().stop_cluster().await;
        self.wait().await
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

    /// Ends the node at once, as a crash of its process would: nothing more is sent.
    pub async fn kill(self) {
        self.task.abort();
        // It was cancelled, or had ended by itself.
        let _ = self.task.await;
    }
}

/// Stops a master; [`RunningMaster::wait`] tells when it has.
#[derive(Debug, Clone)]
pub struct MasterStopper(mpsc::Sender<Command>);

impl MasterStopper {
    /// Asks the master to stop.
    pub async fn stop(&self) {
        self.tell(Command::Stop).await;
    }

    /// Asks the whole cluster to stop.
    pub async fn stop_cluster(&self) {
        self.tell(Command::StopCluster).await;
    }

    /// Tells the election what a service outside the cluster says.
    pub async fn tell_election(&self, message: Bytes) {
        self.tell(Command::External(message)).await;
    }

    async fn tell(&self, command: Command) {
        // A master that does not listen any more has stopped.
        let _ = self.0.send(command).await;
    }
}

/// The shell: there are no jobs, and the last status is kept for whoever looks.
#[derive(Debug)]
struct MasterShell(watch::Sender<Status>);

impl Shell<MasterCore> for MasterShell {
    fn job(&mut self, job: Never, _: &DoneSender<MasterCore>) {
        match job {}
    }

    fn event(&mut self, event: Event) {
        match event {
            Event::Status(status) => {
                self.0.send_replace(*status);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use neo_proto::net::MemoryNetwork;

    use super::*;

    fn network() -> Arc<dyn Transport> {
        Arc::new(MemoryNetwork::new())
    }

    #[tokio::test]
    async fn it_starts_waits_for_storage_nodes_and_stops() {
        let master = Master::builder(MasterSettings::new("c"))
            .transport(network())
            .bind(Address::new("m", 1))
            .start()
            .await
            .unwrap();
        assert_eq!(master.address(), &Address::new("m", 1));
        let mut status = master.status();
        let waiting = status.wait_for(|s| s.waiting.contains("neoctl start"));
        assert!(!waiting.await.unwrap().serving);
        master.stop().await.unwrap();
    }

    #[tokio::test]
    async fn what_can_not_be_is_an_error() {
        let error = Master::builder(MasterSettings::default()).start().await;
        assert!(matches!(error, Err(StartError::Settings(_))), "{error:?}");
        let transport = network();
        let builder = || {
            Master::builder(MasterSettings::new("c"))
                .transport(Arc::clone(&transport))
                .bind(Address::new("m", 1))
        };
        let first = builder().start().await.unwrap();
        let error = builder().start().await.unwrap_err();
        assert_eq!(error.to_string(), "cannot listen at m:1");
        first.stop().await.unwrap();
    }
}
