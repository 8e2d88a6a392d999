//! Elections over a network that breaks and heals, in virtual time.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::time::Duration;

use neo_api::{Address, ClusterState, Election, ElectionEffect, ElectionInput, Instant, Reign};
use proptest::prelude::*;

use super::{PeerElection, Role};

const PATIENCE: Duration = Duration::from_millis(200);

fn address(n: usize) -> Address {
    Address::new("m", 1000 + n as u16)
}

/// A master without all but its election.
#[derive(Debug)]
struct Master {
    election: PeerElection,
    /// To whom it wants a connection, and when the next attempt is due.
    wanted: BTreeMap<usize, u64>,
}

impl Master {
    fn leads(&self) -> bool {
        matches!(self.election.role, Role::Leads(_))
    }
}

/// One direction of a connection: what arrives, and when.
type Queue = VecDeque<(u64, ElectionInput)>;

#[derive(Debug)]
struct Network {
    now: u64,
    masters: Vec<Option<Master>>,
    /// Pairs that can't reach each other, the smaller one first.
    broken: BTreeSet<(usize, usize)>,
    /// Pairs that are connected.
    open: BTreeSet<(usize, usize)>,
    /// From, to.
    queues: BTreeMap<(usize, usize), Queue>,
    reign: u64,
    random: u64,
}

const MILLISECOND: u64 = 1_000_000;

fn pair(a: usize, b: usize) -> (usize, usize) {
    (a.min(b), a.max(b))
}

impl Network {
    fn new(masters: usize, random: u64) -> Self {
        Self {
            now: 0,
            masters: (0..masters).map(|_| None).collect(),
            broken: BTreeSet::new(),
            open: BTreeSet::new(),
            queues: BTreeMap::new(),
            reign: 0,
            random: random | 1,
        }
    }

    fn random(&mut self, below: u64) -> u64 {
        self.random ^= self.random << 13;
        self.random ^= self.random >> 7;
        self.random ^= self.random << 17;
        self.random % below
    }

    /// Starts a master that knows the next one only: the rest is learnt.
    fn start(&mut self, n: usize) {
        let next = (n + 1) % self.masters.len();
        self.start_with(n, &[next]);
    }

    fn start_with(&mut self, n: usize, known: &[usize]) {
        let peers = known.iter().filter(|peer| **peer != n);
        let started = ElectionInput::Started {
            own: address(n),
            peers: peers.map(|peer| address(*peer)).collect(),
        };
        self.masters[n] = Some(Master {
            election: PeerElection::new(PATIENCE),
            wanted: BTreeMap::new(),
        });
        self.input(n, started);
    }

    fn crash(&mut self, n: usize) {
        self.masters[n] = None;
        let open = self.open.iter().copied();
        let of_it: Vec<_> = open.filter(|(a, b)| *a == n || *b == n).collect();
        for (a, b) in of_it {
            self.close(a, b);
        }
    }

    fn close(&mut self, a: usize, b: usize) {
        if !self.open.remove(&pair(a, b)) {
            return;
        }
        for (from, to) in [(a, b), (b, a)] {
            self.queues.remove(&(from, to));
            // Each end hears of it in its own time.
            let at = self.now + self.random(20 * MILLISECOND);
            let lost = ElectionInput::PeerLost(address(from));
            self.queues
                .entry((from, to))
                .or_default()
                .push_back((at, lost));
            if let Some(master) = &mut self.masters[to]
                && let Some(due) = master.wanted.get_mut(&from)
            {
                *due = at + 5 * MILLISECOND;
            }
        }
    }

    fn input(&mut self, n: usize, input: ElectionInput) {
        let Some(master) = &mut self.masters[n] else {
            return;
        };
        let mut effects = Vec::new();
        master
            .election
            .handle(Instant(self.now), input, &mut effects);
        for effect in effects {
            match effect {
                ElectionEffect::Connect(to) => {
                    let to = usize::from(to.port() - 1000);
                    let now = self.now;
                    let wanted = self.masters[n].as_mut().map(|master| &mut master.wanted);
                    wanted.expect("it runs").entry(to).or_insert(now);
                }
                ElectionEffect::Send { to, message } => {
                    let to = usize::from(to.port() - 1000);
                    if self.open.contains(&pair(n, to)) {
                        let from = address(n);
                        self.queue(n, to, ElectionInput::Message { from, message });
                    }
                }
                ElectionEffect::Lead => self.cluster(n, ClusterState::Recovering),
                _ => {}
            }
        }
    }

    fn queue(&mut self, from: usize, to: usize, input: ElectionInput) {
        let latency = MILLISECOND / 10 + self.random(MILLISECOND);
        let at = self.now + latency;
        let queue = self.queues.entry((from, to)).or_default();
        let at = queue.back().map_or(at, |(last, _)| at.max(last + 1));
        queue.push_back((at, input));
    }

    /// A cluster changes its state at a master that leads.
    fn cluster(&mut self, n: usize, state: ClusterState) {
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

    /// Makes an attempt to connect that is due.
    fn dial(&mut self, n: usize, to: usize) {
        if self.open.contains(&pair(n, to)) {
            return;
        }
        let can = self.masters[to].is_some() && !self.broken.contains(&pair(n, to));
        if can {
            for (from, to) in [(n, to), (to, n)] {
                self.queue(from, to, ElectionInput::PeerUp(address(from)));
            }
            self.open.insert(pair(n, to));
        } else {
            let pause = 5 * MILLISECOND + self.random(300 * MILLISECOND);
            let now = self.now;
            if let Some(master) = &mut self.masters[n] {
                master.wanted.insert(to, now + pause);
            }
            self.queue(to, n, ElectionInput::PeerLost(address(to)));
        }
    }

    /// Runs for a while.
    fn run(&mut self, time: Duration) {
        let end = self.now + time.as_nanos() as u64;
        loop {
            let queued = self.queues.iter();
            let queued = queued.filter_map(|(key, queue)| Some((queue.front()?.0, *key)));
            let arrival = queued.min();
            let masters = self.masters.iter().enumerate();
            let up = masters.filter_map(|(n, master)| Some((n, master.as_ref()?)));
            let timer = up
                .clone()
                .filter_map(|(n, m)| Some((m.election.poll_timeout()?.0, n)));
            let timer = timer.min();
            let open = &self.open;
            let dials = up.flat_map(|(n, m)| {
                let wanted = m
                    .wanted
                    .iter()
                    .filter(move |(to, _)| !open.contains(&pair(n, **to)));
                wanted.map(move |(to, at)| (*at, n, *to))
            });
            let dial = dials.min();
            let at = [arrival.map(|a| a.0), timer.map(|t| t.0), dial.map(|d| d.0)];
            let Some(at) = at.into_iter().flatten().min().filter(|at| *at <= end) else {
                self.now = end;
                return;
            };
            self.now = self.now.max(at);
            if let Some((due, (from, to))) = arrival
                && due <= self.now
            {
                let queue = self.queues.get_mut(&(from, to)).expect("it has something");
                let (_, input) = queue.pop_front().expect("it has something");
                self.input(to, input);
            } else if let Some((due, n)) = timer
                && due <= self.now
            {
                self.input(n, ElectionInput::Timer);
            } else if let Some((_, n, to)) = dial {
                self.dial(n, to);
            }
        }
    }

    /// One leads, and all others that run follow it, over a connection of their own.
    fn is_agreed(&self) -> bool {
        let up = || {
            let masters = self.masters.iter().enumerate();
            masters.filter_map(|(n, master)| Some((n, master.as_ref()?)))
        };
        let leaders: Vec<usize> = up().filter(|(_, m)| m.leads()).map(|(n, _)| n).collect();
        let [leader] = leaders[..] else { return false };
        let follows = Role::Follows {
            primary: address(leader),
            direct: true,
        };
        up().all(|(n, master)| n == leader || master.election.role == follows)
    }

    fn leader(&self) -> Option<usize> {
        let mut masters = self.masters.iter();
        masters.position(|master| master.as_ref().is_some_and(Master::leads))
    }
}

#[derive(Debug, Clone)]
enum Step {
    Break(usize, usize),
    Heal(usize, usize),
    Close(usize, usize),
    Crash(usize),
    Start(usize),
    Cluster(usize, ClusterState),
}

fn steps(masters: usize) -> impl Strategy<Value = Vec<(Step, u64)>> {
    let one = move || 0..masters;
    let state = prop_oneof![
        Just(ClusterState::Recovering),
        Just(ClusterState::Verifying),
        Just(ClusterState::Running)
    ];
    let step = prop_oneof![
        3 => (one(), one()).prop_map(|(a, b)| Step::Break(a, b)),
        2 => (one(), one()).prop_map(|(a, b)| Step::Heal(a, b)),
        2 => (one(), one()).prop_map(|(a, b)| Step::Close(a, b)),
        2 => one().prop_map(Step::Crash),
        3 => one().prop_map(Step::Start),
        3 => (one(), state).prop_map(|(n, state)| Step::Cluster(n, state)),
    ];
    // Most steps follow each other closely, some after the others had time to deal with them.
    let pause = prop_oneof![3 => 0..3u64, 1 => 0..2000u64];
    prop::collection::vec((step, pause), 0..40)
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 500, ..ProptestConfig::default() })]

    #[test]
    fn when_all_can_reach_each_other_one_leads_and_the_others_follow(
        masters in 1..6usize,
        random in any::<u64>(),
        steps in steps(6),
    ) {
        let mut network = Network::new(masters, random);
        for (step, pause) in steps {
            match step {
                Step::Break(a, b) => {
                    let (a, b) = (a % masters, b % masters);
                    network.broken.insert(pair(a, b));
                    network.close(a, b);
                }
                Step::Heal(a, b) => {
                    network.broken.remove(&pair(a % masters, b % masters));
                }
                Step::Close(a, b) => network.close(a % masters, b % masters),
                Step::Crash(n) => network.crash(n % masters),
                Step::Start(n) if network.masters[n % masters].is_none() => {
                    network.start(n % masters);
                }
                Step::Start(_) => {}
                Step::Cluster(n, state) => {
                    let n = n % masters;
                    let leads = network.masters[n].as_ref().is_some_and(Master::leads);
                    if leads {
                        network.cluster(n, state);
                    }
                }
            }
            network.run(Duration::from_millis(pause));
        }
        network.broken.clear();
        for n in 0..masters {
            if network.masters[n].is_none() {
                network.start(n);
            }
        }
        network.run(Duration::from_secs(3));
        prop_assert!(network.is_agreed(), "{network:#?}");
    }
}

fn started(masters: usize) -> Network {
    let mut network = Network::new(masters, 7);
    for n in 0..masters {
        network.start(n);
        network.run(Duration::from_millis(1));
    }
    network.run(Duration::from_secs(1));
    assert!(network.is_agreed(), "{network:#?}");
    network
}

#[test]
fn alone_it_leads_at_once() {
    let mut election = PeerElection::new(PATIENCE);
    let mut out = Vec::new();
    let started = ElectionInput::Started {
        own: address(1),
        peers: Vec::new(),
    };
    election.handle(Instant(0), started, &mut out);
    assert_eq!(out, [ElectionEffect::Lead]);
    assert_eq!(election.poll_timeout(), None);
}

#[test]
fn masters_that_come_later_do_not_change_the_primary() {
    let mut network = Network::new(4, 7);
    network.start_with(2, &[0, 1, 2, 3]);
    network.run(Duration::from_secs(1));
    assert_eq!(network.leader(), Some(2));
    for n in [0, 3, 1] {
        network.start_with(n, &[0, 1, 2, 3]);
        network.run(Duration::from_secs(1));
        assert_eq!(network.leader(), Some(2));
    }
    assert!(network.is_agreed());
}

#[test]
fn twenty_agree() {
    let mut network = started(20);
    let first = network.leader().unwrap();
    network.crash(first);
    network.run(Duration::from_millis(300));
    assert!(network.is_agreed());
}

#[test]
fn a_primary_that_serves_is_not_given_up_for_one_that_recovers() {
    for seed in 1..20 {
        let mut network = Network::new(2, seed);
        network.broken.insert((0, 1));
        network.start(0);
        network.run(Duration::from_millis(seed % 3));
        network.start(1);
        network.run(Duration::from_secs(1));
        // The first one leads for longer, which counts only among those that recover.
        network.cluster(1, ClusterState::Verifying);
        network.cluster(1, ClusterState::Running);
        network.broken.clear();
        network.run(Duration::from_secs(1));
        assert_eq!(network.leader(), Some(1));
        assert!(network.is_agreed());
    }
}

#[test]
fn of_two_that_serve_the_one_of_the_later_reign_goes_on() {
    for later in [0, 1] {
        let mut network = Network::new(2, 7);
        network.broken.insert((0, 1));
        for n in [0, 1] {
            network.start(n);
        }
        network.run(Duration::from_secs(1));
        network.cluster(1 - later, ClusterState::Verifying);
        network.cluster(1 - later, ClusterState::Running);
        network.cluster(later, ClusterState::Verifying);
        network.broken.clear();
        network.run(Duration::from_secs(1));
        assert_eq!(network.leader(), Some(later));
        assert!(network.is_agreed());
    }
}

#[test]
fn who_loses_its_connection_to_the_primary_does_not_take_over_while_another_has_one() {
    let mut network = started(3);
    let leader = network.leader().unwrap();
    let cut_off = (leader + 1) % 3;
    network.broken.insert(pair(leader, cut_off));
    network.close(leader, cut_off);
    network.run(Duration::from_secs(5));
    assert_eq!(network.leader(), Some(leader));
    let follows = Role::Follows {
        primary: address(leader),
        direct: false,
    };
    let election = |n: usize| &network.masters[n].as_ref().unwrap().election;
    assert_eq!(election(cut_off).role, follows);
    network.crash(leader);
    network.run(Duration::from_secs(1));
    assert!(network.is_agreed(), "{network:#?}");
}

#[test]
fn nonsense_of_others_changes_nothing() {
    let mut election = PeerElection::new(PATIENCE);
    let mut out = Vec::new();
    for input in [
        ElectionInput::Message {
            from: address(1),
            message: bytes::Bytes::from_static(b"early"),
        },
        ElectionInput::Started {
            own: address(1),
            peers: Vec::new(),
        },
    ] {
        election.handle(Instant(0), input, &mut out);
    }
    out.clear();
    let long = format!(
        r#"{{"claim":"Seeks","peers":[{}]}}"#,
        vec![r#"{"host":"x","port":1}"#; 101].join(",")
    );
    for message in [b"\xff".to_vec(), b"{}".to_vec(), long.into_bytes()] {
        let message = bytes::Bytes::from(message);
        let from = address(2);
        election.handle(Instant(0), ElectionInput::PeerLost(from.clone()), &mut out);
        election.handle(
            Instant(0),
            ElectionInput::Message { from, message },
            &mut out,
        );
    }
    assert_eq!(out, []);
}
