//! The promises of an [`Election`], each as a test.
//!
//! An election's whole conformance test is a factory and one line:
//!
//! ```
//! use std::time::Duration;
//!
//! use neo_master::PeerElection;
//! use neo_testkit::conformance::election::{Capability, ElectionFactory};
//!
//! struct Peers;
//!
//! impl ElectionFactory for Peers {
//!     type Election = PeerElection;
//!
//!     fn create(&self, _random: u64) -> PeerElection {
//!         PeerElection::new(Duration::from_millis(200))
//!     }
//!
//!     fn declared(&self) -> &[Capability] {
//!         &[Capability::SeveralMasters]
//!     }
//! }
//!
//! neo_testkit::election_conformance!(Peers);
//! ```
//!
//! Elections run in virtual time, over a [`Network`] that breaks and heals.

pub mod inputs;
mod network;
pub mod networks;

use std::fmt::Debug;
use std::time::Duration;

use bytes::Bytes;
use neo_api::{Address, Election, Instant};

pub use self::network::{Network, Role};
use super::Case;

/// What a service outside the cluster says to a master at some moment.
pub type Outside = Box<dyn FnMut(Instant, &Address) -> Bytes>;

/// How the suite gets at elections.
pub trait ElectionFactory: Sync {
    /// The election.
    type Election: Election;

    /// An election of one master. With the same random number it behaves the same.
    fn create(&self, random: u64) -> Self::Election;

    /// What it can do beyond what each must. Nothing, as the default has it: it is for a cluster
    /// with one master.
    fn declared(&self) -> &[Capability] {
        &[]
    }

    /// A service, for the masters of one cluster, that each asks every second. None, as the default
    /// has it.
    fn outside(&self) -> Option<Outside> {
        None
    }

    /// Masters that can all reach each other, and the service, have agreed after so long.
    fn patience(&self) -> Duration {
        Duration::from_secs(5)
    }
}

/// What some elections can do, and others need not.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum Capability {
    /// It is for clusters with several masters.
    SeveralMasters,
}

/// Emits one `#[test]` for each promise of an `Election`, for an
/// [`ElectionFactory`](crate::conformance::election::ElectionFactory).
#[macro_export]
macro_rules! election_conformance {
    ($factory:expr $(,)?) => {
        $crate::election_conformance! { @list tests ($factory) }
    };
    (@list $what:ident $factory:tt) => {
        $crate::conformance_cases! { $what $factory election
            inputs::the_same_inputs_have_the_same_effects
                "Election: it reads no clock and no generator of its own"
            inputs::masters_that_it_never_heard_of
                "Election: it takes PeerUp, PeerLost and Message of masters that it never heard of"
            inputs::messages_that_make_no_sense
                "Election: it takes messages that make no sense, and does not believe them"
            inputs::a_timer_is_not_in_the_past_for_ever
                "poll_timeout: when it wants Timer, after which it does not want it again at once"
            inputs::effects_are_bounded
                "ElectionEffect::Send: at most 64 KiB; and no more effects than masters"
            inputs::it_is_no_peer_of_itself
                "ElectionInput::Started: the others are without itself, and stay so"
            networks::alone_it_leads
                "Election: one that gives no primary for ever costs availability"
            networks::one_leads_and_the_others_follow
                "ElectionEffect: one leads, and the others are secondaries of that master"
            networks::who_comes_later_follows
                "ElectionInput::PeerUp: a connection, known before or not"
            networks::another_one_takes_over
                "ElectionInput::PeerLost: a primary that is lost is no primary"
            networks::of_two_that_meet_one_gives_up
                "Election: one that gives two primaries for ever costs availability"
            networks::nothing_changes_when_nothing_happens
                "ElectionEffect::Lead: be the primary, from now on"
            networks::any_network_that_heals_agrees
                "Election: two primaries, or none, for a while only, whatever happened before"
        }
    };
}

/// The cases of the suite, to run them by name.
#[must_use]
pub fn cases<F: ElectionFactory>() -> Vec<Case<F>> {
    crate::election_conformance! { @list table (F) }
}

/// Whether a case may ask for several masters; when not, it says so.
fn has_several_masters<F: ElectionFactory>(factory: &F) -> bool {
    let is_declared = factory.declared().contains(&Capability::SeveralMasters);
    if !is_declared {
        println!("not declared: several masters");
    }
    is_declared
}

/// Any input of a property must do.
fn for_any<S: proptest::strategy::Strategy<Value: Debug>>(
    cases: u32,
    inputs: S,
    case: impl Fn(S::Value),
) {
    use proptest::test_runner::{Config, TestRunner};
    let config = Config {
        cases,
        failure_persistence: None,
        max_shrink_iters: 2_000,
        max_shrink_time: 20_000,
        ..Config::default()
    };
    let outcome = TestRunner::new(config).run(&inputs, |input| {
        case(input);
        Ok(())
    });
    if let Err(error) = outcome {
        panic!("{error}");
    }
}

#[cfg(test)]
mod tests {
    use neo_api::SingleMaster;

    use super::*;

    struct Single;

    impl ElectionFactory for Single {
        type Election = SingleMaster;

        fn create(&self, _random: u64) -> SingleMaster {
            SingleMaster
        }
    }

    /// A case that the list forgets would never run.
    #[test]
    fn the_list_names_every_case() {
        let cases = cases::<Single>();
        let names: Vec<&str> = cases.iter().map(|case| case.name).collect();
        let groups = [
            ("inputs", include_str!("election/inputs.rs")),
            ("networks", include_str!("election/networks.rs")),
        ];
        crate::conformance::assert_complete(&names, &groups);
    }
}
