//! The admin node around its core: a listener, the driver, and handles to it.

use std::convert::Infallible;
use std::ops::Deref;

use neo_api::Address;
use neo_proto::net::{
    self, BindError, DoneSender, DriverOptions, Node, NodeBuilder, NodeFailure, RunningNode, Shell,
};
use tokio::sync::watch;
use tracing::{Span, error_span};

use crate::core::{AdminCommand, AdminCore, AdminSettings, AdminStatus};

/// An admin node.
#[derive(Debug)]
pub struct Admin {
    settings: AdminSettings,
}

/// How an admin node is to be run.
pub type AdminBuilder = NodeBuilder<Admin>;

impl Admin {
    /// An admin node. It listens at a free port of 127.0.0.1 and talks TCP, unless told otherwise.
    #[must_use]
    pub fn builder(settings: AdminSettings) -> AdminBuilder {
        NodeBuilder::new(Self { settings })
    }
}

/// A node that could not be started.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum StartError {
    /// Nothing can listen there.
    #[error(transparent)]
    Bind(#[from] BindError),
    /// Settings without a master.
    #[error("no master is given: the admin node would have nobody to ask for its cluster")]
    NoMaster,
}

impl Node for Admin {
    type Running = RunningAdmin;
    type StartError = StartError;

    fn check(&self) -> Result<(), StartError> {
        if self.settings.masters.is_empty() {
            return Err(StartError::NoMaster);
        }
        Ok(())
    }

    fn span(address: &Address) -> Span {
        error_span!("admin", %address)
    }

    fn run(self, address: Address, options: DriverOptions) -> RunningAdmin {
        let core = AdminCore::new(self.settings, address.clone());
        let (told, status) = watch::channel(AdminStatus::default());
        RunningAdmin(RunningNode::spawn(address, status, |commands| {
            net::run(core, Told(told), options, commands)
        }))
    }
}

/// An admin node that runs; it goes on when this is dropped.
#[derive(Debug)]
pub struct RunningAdmin(RunningNode<AdminCommand, AdminStatus>);

impl Deref for RunningAdmin {
    type Target = RunningNode<AdminCommand, AdminStatus>;

    fn deref(&self) -> &Self::Target {
        &self.0
    }
}

impl RunningAdmin {
    /// Stops the node cleanly, and waits until it has.
    ///
    /// # Errors
    /// When it failed.
    pub async fn stop(&self) -> Result<(), NodeFailure> {
        self.stop_by(AdminCommand::Stop).await
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
