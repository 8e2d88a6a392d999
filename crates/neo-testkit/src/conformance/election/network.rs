//! Masters that are nothing but their elections, and the network between them, in virtual time.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::time::Duration;

use neo_api::{Address, ClusterState, Election, ElectionEffect, ElectionInput, Instant, Reign};

use super::{ElectionFactory, Outside};

const MILLISECOND: u64 = 1_000_000;
/// How often each master asks the service outside.
const ASK: u64 = 1_000 * MILLISECOND;
/// Most effects of one input, in a cluster with few masters.
pub(super) const EFFECTS_MAX: usize = 1_000;
/// Most bytes of a message.
pub(super) const MESSAGE_BYTES_MAX: usize = 64 << 10;
/// Timers that may be due one after the other at one moment.
pub(super) const TIMERS_MAX: u32 = 20;

/// What a master was told to be.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Role {
    /// Nothing yet, or nothing any more.
    None,
    /// The primary.
    Leads,
    /// A secondary.
    Follows(Address),
}

#[derive(Debug)]
struct Master<E> {
    election: E,
    role: Role,
    /// To whom it wants a connection, and when the next attempt is due.
    wanted: BTreeMap<usize, u64>,
}

/// What arrives over one direction of a connection, and when.
type Queue = VecDeque<(u64, ElectionInput)>;

/// A network of masters, numbered from 0.
pub struct Network<'a, F: ElectionFactory> {
    factory: &'a F,
    now: u64,
    masters: Vec<Option<Master<F::Election>>>,
    /// Pairs that can't reach each other, the smaller one first.
    broken: BTreeSet<(usize, usize)>,
    /// Pairs that are connected.
    open: BTreeSet<(usize, usize)>,
    /// From, to.
    queues: BTreeMap<(usize, usize), Queue>,
    outside: Option<Outside>,
    next_ask: u64,
    reign: u64,
    random: u64,
    /// How often a role changed.
    changes: usize,
}

const fn pair(a: usize, b: usize) -> (usize, usize) {
    if a < b { (a, b) } else { (b, a) }
}

/// Where the n-th master listens.
pub(super) fn address(n: usize) -> Address {
    Address::new(
        "m",
        1_000 + u16::try_from(n).expect("there are few masters"),
    )
}

fn number(address: &Address) -> usize {
    usize::from(address.port()) - 1_000
}

impl<'a, F: ElectionFactory> Network<'a, F> {
    /// A network of so many masters, none of which is started, with latencies by a random number.
    #[must_use]
    pub fn new(factory: &'a F, masters: usize, random: u64) -> Self {
        Self {
            factory,
            now: 0,
            masters: (0..masters).map(|_| None).collect(),
            broken: BTreeSet::new(),
            open: BTreeSet::new(),
            queues: BTreeMap::new(),
            outside: factory.outside(),
            next_ask: 0,
            reign: 0,
            random: random | 1,
            changes: 0,
        }
    }

    fn random(&mut self, below: u64) -> u64 {
        self.random ^= self.random << 13;
        self.random ^= self.random >> 7;
        self.random ^= self.random << 17;
        self.random % below
    }

    /// Starts a master that is told of the next one only: the rest it has to learn.
    pub fn start(&mut self, n: usize) {
        let next = (n + 1) % self.masters.len();
        self.start_with(n, &[next]);
    }

    /// Starts a master that is told of others.
    pub fn start_with(&mut self, n: usize, known: &[usize]) {
        let peers = known.iter().filter(|peer| **peer != n);
        let started = ElectionInput::Started {
            own: address(n),
            peers: peers.map(|peer| address(*peer)).collect(),
        };
        let random = self.random(u64::MAX);
        self.masters[n] = Some(Master {
            election: self.factory.create(random),
            role: Role::None,
            wanted: BTreeMap::new(),
        });
        self.input(n, started);
    }

    /// Starts a master unless it runs.
    pub fn restart(&mut self, n: usize) {
        if self.masters[n].is_none() {
            self.start(n);
        }
    }

    /// Starts those that do not run.
    pub fn start_all(&mut self) {
        for n in 0..self.masters.len() {
            self.restart(n);
        }
    }

    /// Ends a master.
    pub fn crash(&mut self, n: usize) {
        self.masters[n] = None;
        let open = self.open.iter().copied();
        let of_it: Vec<_> = open.filter(|(a, b)| *a == n || *b == n).collect();
        for (a, b) in of_it {
            self.close(a, b);
        }
    }

    /// Ends the connection of two masters, if they have one; they may make another.
    pub fn close(&mut self, a: usize, b: usize) {
        if !self.open.remove(&pair(a, b)) {
            return;
        }
        for (from, to) in [(a, b), (b, a)] {
            self.queues.remove(&(from, to));
            // Each end hears of it in its own time.
            let at = self.now + self.random(20 * MILLISECOND);
            let lost = ElectionInput::PeerLost(address(from));
            let queue = self.queues.entry((from, to)).or_default();
            queue.push_back((at, lost));
            if let Some(master) = &mut self.masters[to]
                && let Some(due) = master.wanted.get_mut(&from)
            {
                *due = at + 5 * MILLISECOND;
            }
        }
    }

    /// Two masters can't reach each other from now on.
    pub fn separate(&mut self, a: usize, b: usize) {
        self.broken.insert(pair(a, b));
        self.close(a, b);
    }

    /// Two masters can reach each other again.
    pub fn join(&mut self, a: usize, b: usize) {
        self.broken.remove(&pair(a, b));
    }

    /// All can reach each other again.
    pub fn heal(&mut self) {
        self.broken.clear();
    }

    /// The cluster's state changes by a master, if it leads; a later reign begins with VERIFYING.
    pub fn cluster(&mut self, n: usize, state: ClusterState) {
        if self.role(n) != Role::Leads {
            return;
        }
        if state == ClusterState::Verifying {
            self.reign += 1;
        }
        let input = ElectionInput::Cluster {
            state,
            epoch: 1,
            reign: Reign(self.reign),
        };
        self.input(n, input);
    }

    fn input(&mut self, n: usize, input: ElectionInput) {
        let now = self.now;
        let Some(master) = &mut self.masters[n] else {
            return;
        };
        let mut effects = Vec::new();
        master.election.handle(Instant(now), input, &mut effects);
        assert!(effects.len() <= EFFECTS_MAX, "{} effects", effects.len());
        for effect in effects {
            match effect {
                ElectionEffect::Connect(to) => {
                    if let Some(master) = &mut self.masters[n] {
                        master.wanted.entry(number(&to)).or_insert(now);
                    }
                }
                ElectionEffect::Send { to, message } => {
                    assert!(message.len() <= MESSAGE_BYTES_MAX, "a message is too long");
                    if self.open.contains(&pair(n, number(&to))) {
                        let from = address(n);
                        let input = ElectionInput::Message { from, message };
                        self.queue(n, number(&to), input);
                    }
                }
                ElectionEffect::Lead => {
                    self.becomes(n, Role::Leads);
                    self.cluster(n, ClusterState::Recovering);
                }
                ElectionEffect::Follow(primary) => self.becomes(n, Role::Follows(primary)),
                ElectionEffect::StepDown => self.becomes(n, Role::None),
                _ => {}
            }
        }
    }

    fn becomes(&mut self, n: usize, role: Role) {
        if let Some(master) = &mut self.masters[n] {
            self.changes += 1;
            master.role = role;
        }
    }

    fn queue(&mut self, from: usize, to: usize, input: ElectionInput) {
        let latency = MILLISECOND / 10 + self.random(MILLISECOND);
        let at = self.now + latency;
        let queue = self.queues.entry((from, to)).or_default();
        let at = queue.back().map_or(at, |(last, _)| at.max(last + 1));
        queue.push_back((at, input));
    }

    /// Makes an attempt to connect that is due.
    fn dial(&mut self, n: usize, to: usize) {
        let is_there = self.masters.get(to).is_some_and(Option::is_some);
        if is_there && !self.broken.contains(&pair(n, to)) {
            for (from, to) in [(n, to), (to, n)] {
                self.queue(from, to, ElectionInput::PeerUp(address(from)));
            }
            self.open.insert(pair(n, to));
        } else {
            let pause = 5 * MILLISECOND + self.random(300 * MILLISECOND);
            let at = self.now + pause;
            if let Some(master) = &mut self.masters[n] {
                master.wanted.insert(to, at);
            }
            self.queue(to, n, ElectionInput::PeerLost(address(to)));
        }
    }

    /// Runs for a while.
    ///
    /// # Panics
    /// When an election wants its timer again and again without time to pass.
    pub fn run(&mut self, time: Duration) {
        let end = (Instant(self.now) + time).0;
        let mut timers = 0;
        while let Some((at, event)) = self.next().filter(|(at, _)| *at <= end) {
            if at > self.now {
                self.now = at;
                timers = 0;
            }
            match event {
                Event::Arrival(from, to) => {
                    let queue = self.queues.get_mut(&(from, to));
                    if let Some((_, input)) = queue.and_then(VecDeque::pop_front) {
                        self.input(to, input);
                    }
                }
                Event::Timer(n) => {
                    timers += 1;
                    let masters = self.masters.len() as u32;
                    assert!(timers <= TIMERS_MAX * masters, "a timer is due for ever");
                    self.input(n, ElectionInput::Timer);
                }
                Event::Dial(n, to) => self.dial(n, to),
                Event::Ask => self.ask(),
            }
        }
        self.now = end;
    }

    /// What happens next, and when; what was due before is due now.
    fn next(&self) -> Option<(u64, Event)> {
        let queues = self.queues.iter();
        let arrivals = queues.filter_map(|((from, to), queue)| {
            let (at, _) = queue.front()?;
            Some((*at, Event::Arrival(*from, *to)))
        });
        let mut events: Vec<_> = arrivals.collect();
        for (n, master) in self.masters.iter().enumerate() {
            let Some(master) = master else { continue };
            let timer = master.election.poll_timeout();
            events.extend(timer.map(|at| (at.0, Event::Timer(n))));
            let wanted = master.wanted.iter();
            let missing = wanted.filter(|(to, _)| !self.open.contains(&pair(n, **to)));
            events.extend(missing.map(|(to, at)| (*at, Event::Dial(n, *to))));
        }
        if self.outside.is_some() {
            events.push((self.next_ask, Event::Ask));
        }
        let events = events.into_iter();
        events.map(|(at, event)| (at.max(self.now), event)).min()
    }

    fn ask(&mut self) {
        self.next_ask = self.now + ASK;
        for n in 0..self.masters.len() {
            if self.masters[n].is_none() {
                continue;
            }
            let now = Instant(self.now);
            let said = self.outside.as_mut().map(|ask| ask(now, &address(n)));
            if let Some(said) = said {
                self.input(n, ElectionInput::External(said));
            }
        }
    }

    /// What a master was told to be last; nothing when it does not run.
    #[must_use]
    pub fn role(&self, n: usize) -> Role {
        let master = self.masters[n].as_ref();
        master.map_or(Role::None, |master| master.role.clone())
    }

    /// The first master that leads.
    #[must_use]
    pub fn leader(&self) -> Option<usize> {
        (0..self.masters.len()).find(|n| self.role(*n) == Role::Leads)
    }

    /// How often a master was told to be something else.
    #[must_use]
    pub const fn changes(&self) -> usize {
        self.changes
    }

    /// Of those that run one leads, and all others follow it.
    #[must_use]
    pub fn is_agreed(&self) -> bool {
        let Some(leader) = self.leader() else {
            return false;
        };
        let follows = Role::Follows(address(leader));
        let running = (0..self.masters.len()).filter(|n| self.masters[*n].is_some());
        let mut others = running.filter(|n| *n != leader);
        others.all(|n| self.role(n) == follows)
    }

    /// Runs for as long as the elections may take.
    ///
    /// # Panics
    /// When they have not agreed then.
    pub fn agree(&mut self) {
        self.run(self.factory.patience());
        assert!(self.is_agreed(), "they do not agree: {:?}", self.roles());
    }

    fn roles(&self) -> Vec<Role> {
        (0..self.masters.len()).map(|n| self.role(n)).collect()
    }
}

impl<F: ElectionFactory> std::fmt::Debug for Network<'_, F> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let mut shown = f.debug_struct("Network");
        shown.field("now", &self.now).field("roles", &self.roles());
        shown.field("broken", &self.broken).finish_non_exhaustive()
    }
}

#[derive(Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Event {
    Arrival(usize, usize),
    Timer(usize),
    Dial(usize, usize),
    Ask,
}
