//! A node of a world: an endpoint over the same core that runs in production.

use std::collections::BTreeMap;

use bytes::Bytes;
use neo_api::{Address, Instant, Now};
use neo_client::core::{self as client, ClientCore};
use neo_master::MasterCore;
use neo_proto::{ConnId, Core, Endpoint, Output};
use neo_storage::{Done, Job, StorageCore, StorageEvent};

use super::clock::Clock;
use super::disk::Disk;
use super::name::Name;
use super::network::{LinkId, Side};
use super::puppet::PuppetCore;
use super::world::Happening;

/// A node's endpoint.
#[derive(Debug)]
pub(super) enum Running {
    Master(Box<Endpoint<MasterCore>>),
    Storage(Box<Endpoint<StorageCore>>),
    Client(Box<Endpoint<ClientCore>>),
    Puppet(Box<Endpoint<PuppetCore>>),
}

/// What a node wants of the world.
#[derive(Debug)]
pub(super) enum Act {
    Connect { conn: ConnId, to: Address },
    Transmit { conn: ConnId },
    Close { conn: ConnId, abort: bool },
    Stop { failure: Option<String> },
    MasterEvent(neo_master::Event),
    StorageJob(Job),
    StorageEvent(StorageEvent),
    ClientEvent(client::Event),
}

/// Calls a method of the endpoint, whatever its core.
macro_rules! each {
    ($running:expr, $endpoint:ident => $call:expr) => {
        match $running {
            Running::Master($endpoint) => $call,
            Running::Storage($endpoint) => $call,
            Running::Client($endpoint) => $call,
            Running::Puppet($endpoint) => $call,
        }
    };
}

impl Running {
    pub(super) fn start(&mut self, now: Now) {
        each!(self, endpoint => endpoint.start(now));
    }

    pub(super) fn opened(&mut self, now: Now, conn: ConnId) {
        each!(self, endpoint => endpoint.opened(now, conn));
    }

    pub(super) fn connect_failed(&mut self, now: Now, conn: ConnId, error: String) {
        each!(self, endpoint => endpoint.connect_failed(now, conn, error));
    }

    pub(super) fn accepted(&mut self, now: Now, from: Address) -> Option<ConnId> {
        each!(self, endpoint => endpoint.accepted(now, from))
    }

    pub(super) fn closed(&mut self, now: Now, conn: ConnId, error: Option<String>) {
        each!(self, endpoint => endpoint.closed(now, conn, error));
    }

    pub(super) fn wants_bytes(&mut self, conn: ConnId) -> bool {
        each!(self, endpoint => endpoint.wants_bytes(conn))
    }

    pub(super) fn receive(&mut self, now: Now, conn: ConnId, bytes: &[u8]) {
        each!(self, endpoint => endpoint.receive(now, conn, bytes));
    }

    pub(super) fn poll_transmit(&mut self, now: Now, conn: ConnId) -> Option<Bytes> {
        each!(self, endpoint => endpoint.poll_transmit(now, conn))
    }

    pub(super) fn poll_timeout(&self) -> Option<Instant> {
        each!(self, endpoint => endpoint.poll_timeout())
    }

    pub(super) fn handle_timeout(&mut self, now: Now) {
        each!(self, endpoint => endpoint.handle_timeout(now));
    }

    pub(super) fn is_quiet(&self) -> bool {
        each!(self, endpoint => endpoint.is_quiet())
    }

    pub(super) fn done(&mut self, now: Now, done: Done) {
        if let Self::Storage(endpoint) = self {
            endpoint.done(now, done);
        }
    }

    pub(super) fn poll_act(&mut self) -> Option<Act> {
        match self {
            Self::Master(endpoint) => endpoint
                .poll_output()
                .map(|output| act(output, |never| match never {}, Act::MasterEvent)),
            Self::Storage(endpoint) => endpoint
                .poll_output()
                .map(|output| act(output, Act::StorageJob, Act::StorageEvent)),
            Self::Client(endpoint) => endpoint
                .poll_output()
                .map(|output| act(output, |never| match never {}, Act::ClientEvent)),
            Self::Puppet(endpoint) => endpoint
                .poll_output()
                .map(|output| act(output, |never| match never {}, |never| match never {})),
        }
    }
}

fn act<C: Core>(
    output: Output<C>,
    job: impl FnOnce(C::Job) -> Act,
    event: impl FnOnce(C::Event) -> Act,
) -> Act {
    match output {
        Output::Connect { conn, to } => Act::Connect { conn, to },
        Output::Transmit { conn } => Act::Transmit { conn },
        Output::Close { conn, abort } => Act::Close { conn, abort },
        Output::Stop { failure } => Act::Stop { failure },
        Output::Job(it) => job(it),
        Output::Event(it) => event(it),
    }
}

/// How a node ended by itself.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Ended {
    /// As it was told.
    Cleanly,
    /// It declared itself failed.
    Failed(String),
}

/// A node's place in the world; what runs there comes and goes.
#[derive(Debug)]
pub(super) struct Place {
    /// How often it was started.
    pub(super) incarnation: u32,
    pub(super) running: Option<Running>,
    /// Since it ended by itself; its last bytes may still be on their way out.
    pub(super) ended: Option<Ended>,
    pub(super) conns: BTreeMap<ConnId, (LinkId, Side)>,
    /// For when its timer is set.
    pub(super) timer: Option<u64>,
    pub(super) clock: Clock,
    /// While it stands still: what waits for it.
    pub(super) frozen: Option<Vec<Happening>>,
    /// A storage's.
    pub(super) disk: Option<Disk>,
    /// A storage's id, once it is known.
    pub(super) nid: Option<neo_api::NodeId>,
    /// A storage that serves, a client that can work.
    pub(super) serving: bool,
}

impl Place {
    pub(super) fn new(name: Name, index: usize) -> Self {
        Self {
            incarnation: 0,
            running: None,
            ended: None,
            conns: BTreeMap::new(),
            timer: None,
            clock: Clock::new((index as u64 + 1) * 1_000_000_000_000),
            frozen: None,
            disk: matches!(name, Name::Storage(_)).then(Disk::new),
            nid: None,
            serving: false,
        }
    }

    pub(super) fn now(&self, at: u64) -> Now {
        self.clock.now(at)
    }

    /// The world's time of a moment on this node's clock.
    pub(super) fn world_time(&self, moment: Instant) -> u64 {
        self.clock.world_time(moment)
    }
}
