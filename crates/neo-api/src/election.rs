//! Who is the primary master, and when that ends.

use std::fmt::Debug;

use bytes::Bytes;

use crate::address::Address;
use crate::env::Instant;
use crate::id::Reign;
use crate::state::ClusterState;

/// What an election is told.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum ElectionInput {
    /// The master starts: its own address, and the other masters that it was told of. Comes first,
    /// and once.
    Started {
        /// Where this master listens.
        own: Address,
        /// The others, without itself. A name in this list may turn out to be another name of a
        /// master, or of this one: then it is `PeerLost`, and the master comes under the address
        /// that it gives itself.
        peers: Vec<Address>,
    },
    /// A connection to another master is up: asked for or not, known before or not.
    PeerUp(Address),
    /// A connection to another master is lost, or an attempt to make one failed.
    PeerLost(Address),
    /// Another master's election sent this.
    Message {
        /// From whom; its connection is up.
        from: Address,
        /// What its [`ElectionEffect::Send`] had: anything may be in it.
        message: Bytes,
    },
    /// The cluster's state changed, by this master, which leads.
    Cluster {
        /// What it is now.
        state: ClusterState,
        /// How many epochs its chain has; 0 while there is no cluster, or none is found yet.
        epoch: u64,
        /// Beyond RECOVERING, the reign of this master; else the greatest that it has heard of.
        reign: Reign,
    },
    /// A service outside the cluster (a lease, an orchestrator) says something.
    External(Bytes),
    /// The moment of [`Election::poll_timeout`] has come.
    Timer,
}

/// What an election wants.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum ElectionEffect {
    /// Be the primary, from now on.
    Lead,
    /// Be a secondary of that master; whoever led before, this master does not lead any more.
    Follow(Address),
    /// Lead no more, and follow nobody until told.
    StepDown,
    /// Keep a connection to that master: attempts go on, with pauses of up to a second, whenever
    /// there is none.
    Connect(Address),
    /// Send a message to the election of another master; lost when no connection to it is up.
    Send {
        /// To whom.
        to: Address,
        /// At most 64 KiB; more is not sent.
        message: Bytes,
    },
}

/// Decides which master is the primary.
///
/// It is synchronous and does no I/O, so that it runs in the simulator. A master is given one by
/// `neo_master::Master::with_election`; the default, in `neo_master`, elects the primary among the
/// masters themselves. Masters that are connected have one connection, whoever made it, and
/// messages on it arrive in order.
///
/// No quorum is asked of it: an election may give two primaries at once, for a while. Data stays
/// safe because a primary starts a cluster only with every readable cell of the newest partition
/// table, each storage node obeys one primary at a time, and reigns tell late messages apart. An
/// election that gives two for ever, or none, costs availability.
///
/// # To ensure correctness
/// - It **must not** read a clock or a generator of its own: time comes in with each input,
///   randomness when it is made.
/// - It **must** take `PeerUp`, `PeerLost` and `Message` of masters that it never heard of, and
///   messages that make no sense.
pub trait Election: Debug + Send + 'static {
    /// Takes an input; effects are carried out in the order pushed.
    ///
    /// To carry one out may change the cluster's state: `handle` is then called with
    /// [`ElectionInput::Cluster`], and what that pushes is carried out, before the rest of the
    /// first call's effects.
    fn handle(&mut self, now: Instant, input: ElectionInput, out: &mut Vec<ElectionEffect>);

    /// When it wants [`ElectionInput::Timer`]; asked after each input.
    fn poll_timeout(&self) -> Option<Instant>;
}

/// The election of a cluster with one master: it leads, always.
#[derive(Debug, Default)]
pub struct SingleMaster;

impl Election for SingleMaster {
    fn handle(&mut self, _now: Instant, input: ElectionInput, out: &mut Vec<ElectionEffect>) {
        if matches!(input, ElectionInput::Started { .. }) {
            out.push(ElectionEffect::Lead);
        }
    }

    fn poll_timeout(&self) -> Option<Instant> {
        None
    }
}
