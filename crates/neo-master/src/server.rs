//! The master around its core: a listener and the driver.

use std::ops::Deref;

use bytes::Bytes;
use neo_api::{Address, Election};
use neo_proto::net::{
    self, BindError, DoneSender, DriverOptions, Node, NodeBuilder, NodeFailure, RunningNode, Shell,
};
use tokio::sync::watch;
use tracing::{Span, error_span};

use crate::config::{MasterSettings, SettingsError};
use crate::core::{Command, Event, MasterCore, Never, Status};
use crate::election::PeerElection;

/// A master node.
#[derive(Debug)]
pub struct Master {
    settings: MasterSettings,
    election: Box<dyn Election>,
}

/// How a master is to be run.
pub type MasterBuilder = NodeBuilder<Master>;

impl Master {
    /// A master that elects the primary with the others, by [`PeerElection`]. It listens at a free
    /// port of 127.0.0.1 and talks TCP, unless told otherwise.
    #[must_use]
    pub fn builder(settings: MasterSettings) -> MasterBuilder {
        let election = PeerElection::new(settings.election_patience());
        Self::with_election(settings, Box::new(election))
    }

    /// One of a cluster's masters: `election` decides which of them is the primary.
    #[must_use]
    pub fn with_election(settings: MasterSettings, election: Box<dyn Election>) -> MasterBuilder {
        NodeBuilder::new(Self { settings, election })
    }
}

/// A master that could not be started.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum StartError {
    /// Nothing can listen there.
    #[error(transparent)]
    Bind(#[from] BindError),
    /// A setting can't be.
    #[error(transparent)]
    Settings(#[from] SettingsError),
}

impl Node for Master {
    type Running = RunningMaster;
    type StartError = StartError;

    fn check(&self) -> Result<(), StartError> {
        Ok(self.settings.check()?)
    }

    fn span(address: &Address) -> Span {
        error_span!("master", %address)
    }

    fn run(self, address: Address, options: DriverOptions) -> RunningMaster {
        let Self { settings, election } = self;
        let seed = std::array::from_fn(|_| options.env.random());
        let core = MasterCore::with_election(settings, address.clone(), seed, election);
        let (told, status) = watch::channel(Status::default());
        RunningMaster(RunningNode::spawn(address, status, |commands| {
            net::run(core, MasterShell(told), options, commands)
        }))
    }
}

/// A master that runs; it goes on when this is dropped.
#[derive(Debug)]
pub struct RunningMaster(RunningNode<Command, Status>);

impl Deref for RunningMaster {
    type Target = RunningNode<Command, Status>;

    fn deref(&self) -> &Self::Target {
        &self.0
    }
}

impl RunningMaster {
    /// Waits until clients are served; `false` when the master ended before.
    pub async fn serving(&self) -> bool {
        let mut status = self.status();
        status.wait_for(|status| status.serving).await.is_ok()
    }

    /// What it tells of itself now.
    #[must_use]
    pub fn current(&self) -> Status {
        self.status().borrow().clone()
    }

    /// Stops this master, and waits until it has. The cluster waits for another one, or for it to
    /// come back.
    ///
    /// # Errors
    /// When it failed.
    pub async fn stop(&self) -> Result<(), NodeFailure> {
        self.stop_by(Command::Stop).await
    }

    /// Stops the whole cluster, storage nodes included, once what is pending has ended.
    ///
    /// # Errors
    /// When the master failed.
    pub async fn stop_cluster(&self) -> Result<(), NodeFailure> {
        self.stop_by(Command::StopCluster).await
    }

    /// Tells the election what a service outside the cluster says.
    pub async fn tell_election(&self, message: Bytes) {
        self.tell(Command::External(message)).await;
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
    use std::sync::Arc;

    use neo_api::Transport;
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
