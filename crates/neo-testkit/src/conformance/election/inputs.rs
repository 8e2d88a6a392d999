//! Any inputs, of one election.

use std::time::Duration;

use bytes::Bytes;
use neo_api::{Address, ClusterState, Election, ElectionEffect, ElectionInput, Instant, Reign};
use proptest::prelude::*;

use super::network::{EFFECTS_MAX, MESSAGE_BYTES_MAX, TIMERS_MAX, address};
use super::{ElectionFactory, for_any};

/// Sequences that are tried.
const SEQUENCES: u32 = 100;

/// An input, but for the messages, which may be what the election itself said before.
#[derive(Debug, Clone)]
enum Told {
    PeerUp(usize),
    PeerLost(usize),
    Nonsense(usize, Vec<u8>),
    Echo(usize),
    Cluster(ClusterState, u64, u64),
    External(Vec<u8>),
    Timer,
}

fn told() -> impl Strategy<Value = Vec<(u64, Told)>> {
    // Four masters that it was told of or not, and itself.
    let one = || 0..5_usize;
    let bytes = || prop::collection::vec(any::<u8>(), 0..40);
    let state = prop_oneof![
        Just(ClusterState::Recovering),
        Just(ClusterState::Verifying),
        Just(ClusterState::Running)
    ];
    let told = prop_oneof![
        3 => one().prop_map(Told::PeerUp),
        2 => one().prop_map(Told::PeerLost),
        2 => (one(), bytes()).prop_map(|(from, bytes)| Told::Nonsense(from, bytes)),
        3 => one().prop_map(Told::Echo),
        2 => (state, 0..3_u64, 0..3_u64).prop_map(|(s, e, r)| Told::Cluster(s, e, r)),
        1 => bytes().prop_map(Told::External),
        2 => Just(Told::Timer),
    ];
    let pause = prop_oneof![Just(0), 0..3_000_u64];
    prop::collection::vec((pause, told), 0..60)
}

/// One election, and what it did.
#[derive(Debug)]
struct Alone<E> {
    election: E,
    now: Instant,
    /// Every effect, in order.
    effects: Vec<ElectionEffect>,
}

impl<E: Election> Alone<E> {
    /// The first master, which was told of the second one.
    fn start<F: ElectionFactory<Election = E>>(factory: &F) -> Self {
        let mut alone = Self {
            election: factory.create(7),
            now: Instant(0),
            effects: Vec::new(),
        };
        alone.input(ElectionInput::Started {
            own: address(0),
            peers: vec![address(1)],
        });
        alone
    }

    /// What an input makes it do.
    fn input(&mut self, input: ElectionInput) -> &[ElectionEffect] {
        let before = self.effects.len();
        self.election.handle(self.now, input, &mut self.effects);
        &self.effects[before..]
    }

    fn leads(&self) -> bool {
        use ElectionEffect::{Follow, Lead, StepDown};
        let mut effects = self.effects.iter().rev();
        let last = effects.find(|effect| matches!(effect, Lead | Follow(_) | StepDown));
        last == Some(&Lead)
    }

    fn told(&mut self, told: Told) {
        self.input(match told {
            // Only who leads is told of its cluster.
            Told::Cluster(..) if !self.leads() => return,
            Told::PeerUp(n) => ElectionInput::PeerUp(address(n)),
            Told::PeerLost(n) => ElectionInput::PeerLost(address(n)),
            Told::Nonsense(n, bytes) => message(n, bytes),
            Told::Echo(n) => {
                let sent = self.effects.iter().rev().find_map(|effect| match effect {
                    ElectionEffect::Send { message, .. } => Some(message.clone()),
                    _ => None,
                });
                message(n, sent.unwrap_or_default())
            }
            Told::Cluster(state, epoch, reign) => ElectionInput::Cluster {
                state,
                epoch,
                reign: Reign(reign),
            },
            Told::External(bytes) => ElectionInput::External(bytes.into()),
            Told::Timer => ElectionInput::Timer,
        });
    }

    /// Time passes, and its timers come.
    fn pass(&mut self, time: Duration) {
        let end = self.now + time;
        let mut timers = 0;
        while let Some(due) = self.election.poll_timeout().filter(|due| *due <= end) {
            timers = if due > self.now { 0 } else { timers + 1 };
            assert!(timers <= TIMERS_MAX, "a timer is due for ever");
            self.now = self.now.max(due);
            self.input(ElectionInput::Timer);
        }
        self.now = end;
    }
}

fn message(n: usize, message: impl Into<Bytes>) -> ElectionInput {
    ElectionInput::Message {
        from: address(n),
        message: message.into(),
    }
}

/// After any sequence of inputs.
fn after_any<F: ElectionFactory>(factory: &F, check: impl Fn(Alone<F::Election>)) {
    for_any(SEQUENCES, told(), |inputs| {
        let mut alone = Alone::start(factory);
        for (pause, told) in inputs {
            alone.pass(Duration::from_millis(pause));
            alone.told(told);
        }
        check(alone);
    });
}

/// Two elections that are made alike and told the same do the same.
pub fn the_same_inputs_have_the_same_effects<F: ElectionFactory>(factory: &F) {
    for_any(SEQUENCES, told(), |inputs| {
        let run = || {
            let mut alone = Alone::start(factory);
            for (pause, told) in inputs.clone() {
                alone.pass(Duration::from_millis(pause));
                alone.told(told);
            }
            (alone.effects, alone.election.poll_timeout())
        };
        assert_eq!(run(), run());
    });
}

/// Masters come and go that nobody had told of, in any order, and twice.
pub fn masters_that_it_never_heard_of<F: ElectionFactory>(factory: &F) {
    let mut alone = Alone::start(factory);
    for n in [2, 3, 2] {
        alone.input(ElectionInput::PeerLost(address(n)));
        alone.input(message(n, "hello"));
        alone.input(ElectionInput::PeerUp(address(n)));
        alone.input(ElectionInput::PeerUp(address(n)));
        alone.input(ElectionInput::PeerLost(address(n)));
        alone.input(ElectionInput::PeerLost(address(n)));
    }
    after_any(factory, |_| ());
}

/// Nobody becomes anything by a message that makes no sense, wherever it is from.
pub fn messages_that_make_no_sense<F: ElectionFactory>(factory: &F) {
    let nonsense = || {
        let long = vec![b'['; MESSAGE_BYTES_MAX];
        [&b""[..], b"{}", b"null", b"\xff\xfe", b"holder", &long].map(<[u8]>::to_vec)
    };
    after_any(factory, |mut alone| {
        // What is due by itself has happened.
        alone.pass(Duration::from_secs(60));
        let nonsense = nonsense().into_iter();
        for (n, bytes) in (0..5).cycle().zip(nonsense) {
            let effects = alone.input(message(n, bytes.clone()));
            let believed = effects.iter().any(|effect| {
                use ElectionEffect::{Follow, Lead, StepDown};
                matches!(effect, Lead | Follow(_) | StepDown)
            });
            assert!(!believed, "{:?} by {bytes:?}", alone.effects.last());
        }
    });
}

/// Its timer comes when it wants it; it does not want it at that moment again and again.
pub fn a_timer_is_not_in_the_past_for_ever<F: ElectionFactory>(factory: &F) {
    after_any(factory, |mut alone| alone.pass(Duration::from_secs(600)));
}

/// One input has so many effects and no more, also when very many masters come.
pub fn effects_are_bounded<F: ElectionFactory>(factory: &F) {
    let mut alone = Alone::start(factory);
    for n in 1..3_000 {
        for input in [ElectionInput::PeerUp(address(n)), message(n, "hello")] {
            let effects = alone.input(input);
            assert!(effects.len() <= EFFECTS_MAX, "{} effects", effects.len());
        }
    }
    alone.pass(Duration::from_secs(10));
    let too_long = alone.effects.iter().find_map(|effect| match effect {
        ElectionEffect::Send { message, .. } => {
            (message.len() > MESSAGE_BYTES_MAX).then_some(message.len())
        }
        _ => None,
    });
    assert_eq!(too_long, None, "bytes in a message");
}

/// It neither follows itself nor asks for a connection to itself, whatever it is told.
pub fn it_is_no_peer_of_itself<F: ElectionFactory>(factory: &F) {
    after_any(factory, |alone| {
        let own = |to: &Address| *to == address(0);
        for effect in &alone.effects {
            let is_own = match effect {
                ElectionEffect::Follow(to)
                | ElectionEffect::Connect(to)
                | ElectionEffect::Send { to, .. } => own(to),
                _ => false,
            };
            assert!(!is_own, "{effect:?}");
        }
    });
}
