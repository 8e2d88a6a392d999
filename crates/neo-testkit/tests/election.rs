//! Every election keeps the promises of an election; and the default one some of its own.

use std::time::Duration;

use neo_api::{Address, ClusterState, SingleMaster};
use neo_master::PeerElection;
use neo_testkit::conformance::election::{Capability, ElectionFactory, Network, Role};

struct Single;

impl ElectionFactory for Single {
    type Election = SingleMaster;

    fn create(&self, _random: u64) -> SingleMaster {
        SingleMaster
    }
}

#[derive(Debug)]
struct Peers;

impl ElectionFactory for Peers {
    type Election = PeerElection;

    fn create(&self, _random: u64) -> PeerElection {
        PeerElection::new(Duration::from_millis(200))
    }

    fn declared(&self) -> &[Capability] {
        &[Capability::SeveralMasters]
    }

    fn patience(&self) -> Duration {
        Duration::from_secs(3)
    }
}

mod single {
    neo_testkit::election_conformance!(super::Single);
}

mod peers {
    neo_testkit::election_conformance!(super::Peers);
}

fn started(masters: usize) -> Network<'static, Peers> {
    let mut network = Network::new(&Peers, masters, 7);
    for n in 0..masters {
        network.start(n);
        network.run(Duration::from_millis(1));
    }
    network.agree();
    network
}

#[test]
fn masters_that_come_later_do_not_change_the_primary() {
    let mut network = Network::new(&Peers, 4, 7);
    network.start_with(2, &[0, 1, 2, 3]);
    network.agree();
    assert_eq!(network.leader(), Some(2));
    for n in [0, 3, 1] {
        network.start_with(n, &[0, 1, 2, 3]);
        network.agree();
        assert_eq!(network.leader(), Some(2));
    }
}

#[test]
fn twenty_agree() {
    let mut network = started(20);
    let first = network.leader().expect("they agreed");
    network.crash(first);
    network.run(Duration::from_millis(300));
    assert!(network.is_agreed());
}

#[test]
fn a_primary_that_serves_is_not_given_up_for_one_that_recovers() {
    for seed in 1..20 {
        let mut network = Network::new(&Peers, 2, seed);
        network.separate(0, 1);
        network.start(0);
        network.run(Duration::from_millis(seed % 3));
        network.start(1);
        network.run(Duration::from_secs(1));
        // The first one leads for longer, which counts only among those that recover.
        network.cluster(1, ClusterState::Verifying);
        network.cluster(1, ClusterState::Running);
        network.heal();
        network.agree();
        assert_eq!(network.leader(), Some(1));
    }
}

#[test]
fn of_two_that_serve_the_one_of_the_later_reign_goes_on() {
    for later in [0, 1] {
        let mut network = Network::new(&Peers, 2, 7);
        network.separate(0, 1);
        network.start_all();
        network.run(Duration::from_secs(1));
        network.cluster(1 - later, ClusterState::Verifying);
        network.cluster(1 - later, ClusterState::Running);
        network.cluster(later, ClusterState::Verifying);
        network.heal();
        network.agree();
        assert_eq!(network.leader(), Some(later));
    }
}

#[test]
fn who_loses_its_connection_to_the_primary_does_not_take_over_while_another_has_one() {
    let mut network = started(3);
    let leader = network.leader().expect("they agreed");
    let cut_off = (leader + 1) % 3;
    network.separate(leader, cut_off);
    network.run(Duration::from_secs(5));
    assert_eq!(network.leader(), Some(leader));
    let primary = Address::new("m", 1_000 + leader as u16);
    assert_eq!(network.role(cut_off), Role::Follows(primary));
    network.crash(leader);
    network.agree();
}
