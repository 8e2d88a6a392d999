//! The world: virtual time, nodes, connections, disks, and faults at exact points.

mod acts;
mod disks;
mod faults;
mod look;
mod pauses;
mod scripts;
mod wire;

use std::cell::RefCell;
use std::cmp::Reverse;
use std::collections::{BTreeMap, BinaryHeap};
use std::fmt;
use std::future::Future;
use std::pin::Pin;
use std::rc::Rc;
use std::sync::Arc;
use std::task::{Context, Poll, Waker};
use std::time::Duration;

pub use self::faults::Tally;
pub use self::scripts::Handle;

use bytes::Bytes;
use neo_api::{ClusterState, NodeId, Now, PartitionTable, StorageBackend};
use neo_client::core::{self as client, ClientCore};
use neo_master::MasterCore;
use neo_proto::{ConnId, Endpoint};
use neo_storage::{Job, StorageCore, StorageEvent};

use self::scripts::Script;
use super::client::SimClient;
use super::disk::{Backends, Disk};
use super::fault::{Fault, Happens, InFlight, Keep, Pattern, Placed, Point, When};
use super::mailbox::Mailbox;
use super::name::Name;
use super::network::{Carried, End, Link, LinkId, Roads, Side, packet_name};
use super::node::{Act, Ended, Place, Running};
use super::puppet::{PuppetCore, Say};
use super::settings::WorldSettings;
use super::trace::Trace;
use crate::oracle::Oracle;
use crate::seed::Rng;

/// Events at one moment: more means that somebody never rests.
const EVENTS_AT_ONE_MOMENT_MAX: u32 = 200_000;

/// What is to happen.
#[derive(Debug)]
pub(super) enum Happening {
    /// A node may want its timer.
    Timer { node: Name, incarnation: u32 },
    /// An attempt to connect reaches its target.
    Dial { link: LinkId },
    /// The dialer hears how its attempt went.
    Dialed { link: LinkId, error: Option<String> },
    /// Something may have arrived.
    Arrival { link: LinkId, side: Side },
    /// A group of writes is done.
    Written { node: Name, incarnation: u32 },
    /// A read takes place.
    Read {
        node: Name,
        incarnation: u32,
        job: u64,
    },
    /// Its result is there.
    ReadDone {
        node: Name,
        incarnation: u32,
        job: u64,
    },
    /// The process of a node that ended is gone.
    Gone { node: Name, incarnation: u32 },
}

/// What is to happen, by its moment; at one moment, in the order in which it was found.
#[derive(Debug)]
struct Due {
    at: u64,
    sequence: u64,
    happening: Happening,
}

impl Due {
    const fn order(&self) -> (u64, u64) {
        (self.at, self.sequence)
    }
}

impl PartialEq for Due {
    fn eq(&self, other: &Self) -> bool {
        self.order() == other.order()
    }
}

impl Eq for Due {}

impl PartialOrd for Due {
    fn partial_cmp(&self, other: &Self) -> Option<std::cmp::Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for Due {
    fn cmp(&self, other: &Self) -> std::cmp::Ordering {
        self.order().cmp(&other.order())
    }
}

/// Something did not happen in time.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("after {waited:?}, still not {what}")]
pub struct Stuck {
    /// What was waited for.
    pub what: String,
    /// How long, in virtual time.
    pub waited: Duration,
}

/// A cluster and its clients in one thread and in virtual time.
///
/// A run is a function of its settings and of what is asked of the world: nothing depends on the
/// machine.
pub struct World {
    settings: WorldSettings,
    now: u64,
    at_this_moment: u32,
    sequence: u64,
    heap: BinaryHeap<Reverse<Due>>,
    rng: Rng,
    places: BTreeMap<Name, Place>,
    mailboxes: BTreeMap<Name, Rc<RefCell<Mailbox>>>,
    scripts: Vec<Script>,
    links: Vec<Link>,
    /// What is wrong with the ways between nodes.
    roads: Roads,
    /// Where storage nodes have their data, if not on disks of this world.
    backends: Option<Backends>,
    /// Those of the points that are kept.
    points: Vec<Point>,
    points_met: u64,
    plan: Vec<Placed>,
    patterns: Vec<(Pattern, When, Fault)>,
    tally: Tally,
    /// The last master under which the cluster was RUNNING.
    primary: Option<Name>,
    primaries_changed: usize,
    /// How many nodes and disks are frozen.
    frozen: usize,
    /// When something last happened that is not mere waiting.
    busy_at: u64,
    trace: Trace,
    oracle: Rc<RefCell<Oracle>>,
}

impl fmt::Debug for World {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("World")
            .field("now", &self.now)
            .field("points", &self.points_met)
            .finish_non_exhaustive()
    }
}

impl World {
    /// A world in which nothing runs yet.
    #[must_use]
    pub fn new(settings: WorldSettings) -> Self {
        let names = (1..=settings.masters)
            .map(Name::Master)
            .chain((1..=settings.storages).map(Name::Storage))
            .chain((1..=settings.clients).map(Name::Client))
            .chain((1..=settings.puppets).map(Name::Puppet));
        let places: BTreeMap<_, _> = names
            .enumerate()
            .map(|(index, name)| (name, Place::new(name, index)))
            .collect();
        let mailboxes = (1..=settings.clients)
            .map(|n| {
                let mailbox = Mailbox::new(settings.cache_bytes);
                (Name::Client(n), Rc::new(RefCell::new(mailbox)))
            })
            .collect();
        Self {
            rng: Rng::new(settings.seed),
            trace: Trace::new(settings.is_terse, settings.prints_trace),
            settings,
            now: 0,
            at_this_moment: 0,
            sequence: 0,
            heap: BinaryHeap::new(),
            places,
            mailboxes,
            scripts: Vec::new(),
            links: Vec::new(),
            roads: Roads::default(),
            backends: None,
            points: Vec::new(),
            points_met: 0,
            plan: Vec::new(),
            patterns: Vec::new(),
            tally: Tally::default(),
            primary: None,
            primaries_changed: 0,
            frozen: 0,
            busy_at: 0,
            oracle: Rc::default(),
        }
    }

    /// A world whose storage nodes have their data in other backends than disks of this world.
    ///
    /// `backends` is asked each time a storage node starts, after a crash too, and gives what is
    /// there then: what a crash leaves is its affair ([`CrashEngine`](crate::CrashEngine) makes
    /// that of an engine whose data is in memory). The futures of such a backend must be ready
    /// when they are polled first (see `neo_backends::Worker::inline`).
    ///
    /// ```
    /// use std::collections::BTreeMap;
    /// use std::sync::Arc;
    ///
    /// use neo_api::{BackendInfo, StorageBackend};
    /// use neo_backends::{KvBackend, MemoryEngine};
    /// use neo_testkit::sim::{World, WorldSettings, s};
    ///
    /// // In place of the memory engine: yours, or a whole backend of your own.
    /// let mut databases: BTreeMap<_, Arc<dyn StorageBackend>> = BTreeMap::new();
    /// let mut world = World::with_backends(WorldSettings::default(), move |node| {
    ///     let info = BackendInfo::new("Mine", true);
    ///     let empty = || KvBackend::inline(MemoryEngine::default(), info.clone());
    ///     let database = databases.entry(node).or_insert_with(|| Arc::new(empty()));
    ///     Arc::clone(database)
    /// });
    /// world.start_all();
    /// world.wait_running()?;
    /// world.freeze(s(1));
    /// world.heal()?;
    /// assert!(world.check().is_ok());
    /// # Ok::<(), neo_testkit::sim::Stuck>(())
    /// ```
    #[must_use]
    pub fn with_backends(
        settings: WorldSettings,
        backends: impl FnMut(Name) -> Arc<dyn StorageBackend> + 'static,
    ) -> Self {
        let mut world = Self::new(settings);
        world.backends = Some(Backends::new(backends));
        world
    }

    // --- what a test does ---

    /// Starts every node that is not up: masters, storages, clients.
    pub fn start_all(&mut self) {
        let down: Vec<Name> = self.names().filter(|name| !self.is_up(*name)).collect();
        for name in down {
            self.start(name);
        }
    }

    /// Starts a node that is not up; a storage node from what its disk has.
    ///
    /// # Panics
    /// When it is up.
    pub fn start(&mut self, name: Name) {
        assert!(!self.is_up(name), "{name} is up");
        let seed = self.rng.next();
        let running = match name {
            Name::Master(_) => {
                let settings = self.settings.master();
                let seeds = [seed, self.rng.next(), self.rng.next(), self.rng.next()];
                let core = MasterCore::new(settings, name.address(), seeds);
                Running::Master(Box::new(Endpoint::new(core, self.settings.session.clone())))
            }
            Name::Storage(_) => {
                let core =
                    StorageCore::new(self.settings.storage(), name.address(), Vec::new(), seed);
                Running::Storage(Box::new(Endpoint::new(core, self.settings.session.clone())))
            }
            Name::Client(_) => {
                let core = ClientCore::new(self.settings.client(seed));
                Running::Client(Box::new(Endpoint::new(core, self.settings.session.clone())))
            }
            Name::Puppet(_) => {
                let core = PuppetCore::default();
                Running::Puppet(Box::new(Endpoint::new(core, self.settings.session.clone())))
            }
        };
        let now = self.now;
        let backend = match (&mut self.backends, name) {
            (Some(backends), Name::Storage(_)) => Some(backends.open(name)),
            _ => None,
        };
        let place = self.place_mut(name);
        if let Some(disk) = &mut place.disk {
            disk.open(backend);
        }
        place.incarnation += 1;
        place.running = Some(running);
        place.ended = None;
        place.serving = false;
        place.timer = None;
        let moment = place.now(now);
        if let Some(running) = &mut place.running {
            running.start(moment);
        }
        self.trace.note(now, None, format!("{name} starts"));
        self.pump(name);
    }

    /// Has a puppet do something.
    pub fn say(&mut self, puppet: Name, say: Say) {
        let now = self.now;
        let place = self.place_mut(puppet);
        let moment = place.now(now);
        if let Some(Running::Puppet(endpoint)) = &mut place.running {
            endpoint.command(moment, say);
        }
        self.pump(puppet);
    }

    /// Tells a master something, as the process around it would.
    pub fn command_master(&mut self, name: Name, command: neo_master::Command) {
        let now = self.now;
        let place = self.place_mut(name);
        let moment = place.now(now);
        if let Some(Running::Master(endpoint)) = &mut place.running {
            endpoint.command(moment, command);
        }
        self.pump(name);
    }

    // --- running ---

    /// Runs for some virtual time.
    pub fn run_for(&mut self, duration: Duration) {
        let until = self.now + duration.as_nanos() as u64;
        while self.next_at().is_some_and(|at| at <= until) {
            self.step();
        }
        self.now = self.now.max(until);
    }

    /// Runs until something is so.
    ///
    /// # Errors
    /// When it is not so after `patience`.
    pub fn run_until(
        &mut self,
        what: &str,
        patience: Duration,
        mut is_so: impl FnMut(&Self) -> bool,
    ) -> Result<(), Stuck> {
        let until = self.now + patience.as_nanos() as u64;
        while !is_so(self) {
            if self.next_at().is_none_or(|at| at > until) {
                return Err(Stuck {
                    what: what.to_owned(),
                    waited: patience,
                });
            }
            self.step();
        }
        Ok(())
    }

    /// Runs until nothing but waiting has happened for a while: no message but heartbeats, no
    /// write, no read.
    ///
    /// # Errors
    /// When there is no such while within `patience`.
    pub fn settle(&mut self, patience: Duration) -> Result<(), Stuck> {
        let calm = self.settings.calm.as_nanos() as u64;
        self.busy_at = self.now;
        self.run_until("quiet", patience, |world| {
            world.now.saturating_sub(world.busy_at) >= calm
        })
    }

    fn next_at(&self) -> Option<u64> {
        self.heap.peek().map(|Reverse(due)| due.at)
    }

    fn push(&mut self, at: u64, happening: Happening) {
        self.sequence += 1;
        self.heap.push(Reverse(Due {
            at,
            sequence: self.sequence,
            happening,
        }));
    }

    /// Does the next thing that is to happen.
    pub fn step(&mut self) {
        let Some(Reverse(Due { at, happening, .. })) = self.heap.pop() else {
            return;
        };
        if at > self.now {
            self.now = at;
            self.at_this_moment = 0;
        }
        self.at_this_moment += 1;
        assert!(
            self.at_this_moment < EVENTS_AT_ONE_MOMENT_MAX,
            "somebody never rests: {happening:?}\n{}",
            self.trace
        );
        let Some(happening) = self.unless_frozen(happening) else {
            return;
        };
        match happening {
            Happening::Timer { node, incarnation } => self.timer(node, incarnation),
            Happening::Dial { link } => self.dial(link),
            Happening::Dialed { link, error } => self.dialed(link, error),
            Happening::Arrival { link, side } => self.arrival(link, side),
            Happening::Written { node, incarnation } => self.written(node, incarnation),
            Happening::Read {
                node,
                incarnation,
                job,
            } => self.read(node, incarnation, job),
            Happening::ReadDone {
                node,
                incarnation,
                job,
            } => self.read_done(node, incarnation, job),
            Happening::Gone { node, incarnation } => self.gone(node, incarnation),
        }
    }

    fn is_current(&self, node: Name, incarnation: u32) -> bool {
        let place = self.place(node);
        place.incarnation == incarnation && place.running.is_some()
    }

    /// Gives a node an input, then does what it wants.
    fn input(&mut self, node: Name, input: impl FnOnce(&mut Running, Now)) {
        let now = self.now;
        let place = self.place_mut(node);
        let moment = place.now(now);
        if let Some(running) = &mut place.running {
            input(running, moment);
            self.pump(node);
        }
    }

    fn timer(&mut self, node: Name, incarnation: u32) {
        if !self.is_current(node, incarnation) || self.place(node).timer != Some(self.now) {
            return;
        }
        self.place_mut(node).timer = None;
        self.input(node, Running::handle_timeout);
    }

    /// Does what a node wants, until it wants nothing.
    fn pump(&mut self, node: Name) {
        if self.is_frozen(node) {
            return;
        }
        loop {
            while let Some(act) = self
                .place_mut(node)
                .running
                .as_mut()
                .and_then(Running::poll_act)
            {
                self.act(node, act);
            }
            if !self.run_scripts(node) {
                break;
            }
        }
        self.schedule_timer(node);
    }

    fn schedule_timer(&mut self, node: Name) {
        let now = self.now;
        let place = self.place_mut(node);
        let Some(running) = &place.running else {
            return;
        };
        if place.ended.is_some() && running.is_quiet() {
            let incarnation = place.incarnation;
            self.push(now, Happening::Gone { node, incarnation });
            return;
        }
        let at = running
            .poll_timeout()
            .map(|moment| place.world_time(moment).max(now));
        if at != place.timer {
            place.timer = at;
            let incarnation = place.incarnation;
            if let Some(at) = at {
                self.push(at, Happening::Timer { node, incarnation });
            }
        }
    }
}

/// Polls a future that never waits.
///
/// # Panics
/// When it waits.
pub fn run_ready<F: Future>(future: F) -> F::Output {
    let mut context = Context::from_waker(Waker::noop());
    let mut future = std::pin::pin!(future);
    match future.as_mut().poll(&mut context) {
        Poll::Ready(output) => output,
        Poll::Pending => panic!("a future that never waits has waited"),
    }
}
