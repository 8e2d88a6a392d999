//! Masters that reach each other, or do not.

use std::time::Duration;

use neo_api::ClusterState;
use proptest::prelude::*;

use super::{ElectionFactory, Network, for_any, has_several_masters};

/// Random networks that are tried.
const NETWORKS: u32 = 400;

/// The only master leads.
pub fn alone_it_leads<F: ElectionFactory>(factory: &F) {
    let mut network = Network::new(factory, 1, 7);
    network.start_with(0, &[]);
    network.agree();
}

/// Masters that are started one after the other, each with the name of another one, agree.
pub fn one_leads_and_the_others_follow<F: ElectionFactory>(factory: &F) {
    if has_several_masters(factory) {
        for masters in 2..=4 {
            agreed(factory, masters);
        }
    }
}

fn agreed<F: ElectionFactory>(factory: &F, masters: usize) -> Network<'_, F> {
    let mut network = Network::new(factory, masters, 7);
    for n in 0..masters {
        network.start(n);
        network.run(Duration::from_millis(1));
    }
    network.agree();
    network
}

/// A master that comes to a cluster which has a primary becomes a secondary, of a master that it may
/// not have been told of.
pub fn who_comes_later_follows<F: ElectionFactory>(factory: &F) {
    if !has_several_masters(factory) {
        return;
    }
    for known in [[0], [1], [2]] {
        let mut network = Network::new(factory, 4, 7);
        for n in 0..3 {
            network.start(n);
        }
        network.agree();
        network.start_with(3, &known);
        network.agree();
    }
}

/// When the primary ends, another one leads; when it comes back, there is one still.
pub fn another_one_takes_over<F: ElectionFactory>(factory: &F) {
    if !has_several_masters(factory) {
        return;
    }
    for masters in 2..=4 {
        let mut network = agreed(factory, masters);
        let first = network.leader().expect("they agreed");
        network.crash(first);
        network.agree();
        assert_ne!(network.leader(), Some(first));
        network.start(first);
        network.agree();
    }
}

/// Masters that could not reach each other agree when they can, whatever became of them before.
pub fn of_two_that_meet_one_gives_up<F: ElectionFactory>(factory: &F) {
    if !has_several_masters(factory) {
        return;
    }
    for random in 1..20 {
        let mut network = Network::new(factory, 2, random);
        network.separate(0, 1);
        network.start_all();
        network.run(factory.patience());
        for n in 0..2 {
            if random % 3 != 0 {
                network.cluster(n, ClusterState::Verifying);
                network.cluster(n, ClusterState::Running);
            }
        }
        network.heal();
        network.agree();
    }
}

/// Once they agree, nobody is told anything else.
pub fn nothing_changes_when_nothing_happens<F: ElectionFactory>(factory: &F) {
    let several = [1, 2, 4].into_iter();
    for masters in several.filter(|n| *n == 1 || has_several_masters(factory)) {
        let mut network = agreed(factory, masters);
        let changes = network.changes();
        for _ in 0..60 {
            network.run(Duration::from_secs(1));
        }
        assert_eq!(network.changes(), changes, "roles changed: {network:?}");
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

fn steps() -> impl Strategy<Value = Vec<(Step, u64)>> {
    let one = || 0..5_usize;
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
    let pause = prop_oneof![3 => 0..3_u64, 1 => 0..2_000_u64];
    prop::collection::vec((step, pause), 0..40)
}

/// Whatever broke, was closed, ended and started: once all run and reach each other, they agree.
/// When they do not, the shortest sequence that shows it is told.
pub fn any_network_that_heals_agrees<F: ElectionFactory>(factory: &F) {
    let most: usize = if has_several_masters(factory) { 5 } else { 1 };
    let inputs = (1..=most, any::<u64>(), steps());
    for_any(NETWORKS, inputs, |(masters, random, steps)| {
        let mut network = Network::new(factory, masters, random);
        for (step, pause) in steps {
            let of = |n: usize| n % masters;
            match step {
                Step::Break(a, b) => network.separate(of(a), of(b)),
                Step::Heal(a, b) => network.join(of(a), of(b)),
                Step::Close(a, b) => network.close(of(a), of(b)),
                Step::Crash(n) => network.crash(of(n)),
                Step::Start(n) => network.restart(of(n)),
                Step::Cluster(n, state) => network.cluster(of(n), state),
            }
            network.run(Duration::from_millis(pause));
        }
        network.heal();
        network.start_all();
        network.agree();
    });
}
