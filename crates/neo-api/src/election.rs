//! Who is the primary master, and when that ends.

use std::fmt::Debug;

use bytes::Bytes;

use crate::address::Address;
use crate::env::Instant;
use crate::state::ClusterState;

/// What an election is told.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum ElectionInput {
    /// The master starts: its own address, and the other masters that it knows. Comes first, and
    /// once.
    Started {
        /// Where this master listens.
        own: Address,
        /// The others, without itself.
        peers: Vec<Address>,
    },
    /// A connection to another master is up. Not in this version.
    PeerUp(Address),
    /// A connection to another master, or an attempt, failed. Not in this version.
    PeerLost(Address),
    /// Another master's election sent this. Not in this version.
    Message {
        /// From whom.
        from: Address,
        /// What its [`ElectionEffect::Send`] had.
        message: Bytes,
    },
    /// The cluster's state changed, by this master, which leads.
    Cluster(ClusterState),
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
    /// Keep a connection to that master. Not carried out in this version.
    Connect(Address),
    /// Send a message to the election of another, connected master. Not carried out in this
    /// version.
    Send {
        /// To whom.
        to: Address,
        /// At most 64 KiB.
        message: Bytes,
    },
}

/// Decides which master is the primary.
///
/// It is synchronous and does no I/O, so that it runs in the simulator. A master is given one by
/// `neo_master::Master::with_election`.
///
/// **In this version** masters do not talk to each other: `Connect` and `Send` are not carried out
/// (the log warns), and `PeerUp`, `PeerLost` and `Message` never come. An election decides from
/// `Started`, `Timer`, `Cluster` and `External`, which is what
/// `neo_master::RunningMaster::tell_election` was given: a lease kept by a service, say.
///
/// No quorum is asked of it: an election may give two primaries at once, for a while. Data stays
/// safe because a primary starts a cluster only with every readable cell of the newest partition
/// table, each storage node obeys one primary at a time, and reigns tell late messages apart. An
/// election that gives two for ever, or none, costs availability.
///
/// # To ensure correctness
/// - It **must not** read a clock or a generator of its own: time comes in with each input,
///   randomness when it is made.
/// - It **must** take `PeerLost` and `Message` of masters that it never heard of.
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
