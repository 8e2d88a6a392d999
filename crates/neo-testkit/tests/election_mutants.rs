//! Elections with one thing wrong: each case of the suite finds one out, at least.

#![expect(clippy::unwrap_used, reason = "a test fails by a panic")]

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use bytes::Bytes;
use neo_api::{Address, Election, ElectionEffect, ElectionInput, Instant};
use neo_master::PeerElection;
use neo_testkit::conformance::election::{Capability, ElectionFactory, cases};

#[macro_use]
#[path = "support/mutants.rs"]
mod mutants;

/// What is wrong.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Mutation {
    Nothing,
    CountsForItself,
    KnowsEverybody,
    TakesSenseForGranted,
    BelievesNonsense,
    TimerInThePast,
    ConnectsForEver,
    LongMessages,
    FollowsItself,
    NeverLeads,
    AlwaysLeads,
    HearsNobodyNew,
    StaysWithTheDead,
    NeverGivesUp,
    LeadsAgainAndAgain,
}

use Mutation as M;

/// What [`M::CountsForItself`] reads instead of what it is told.
static CLOCK: AtomicU64 = AtomicU64::new(0);

#[derive(Debug)]
struct Mutant {
    inner: PeerElection,
    mutation: Mutation,
    own: Option<Address>,
    known: Vec<Address>,
    leads: bool,
    next: Instant,
}

impl Mutant {
    /// Whether an input is kept from the election.
    fn is_ignored(&mut self, input: &ElectionInput) -> bool {
        match (input, self.mutation) {
            (ElectionInput::Started { own, peers }, _) => {
                self.own = Some(own.clone());
                self.known.clone_from(peers);
                false
            }
            (ElectionInput::PeerUp(from), M::HearsNobodyNew) => !self.known.contains(from),
            (ElectionInput::PeerLost(from), M::KnowsEverybody) => {
                assert!(self.known.contains(from), "who is {from}?");
                false
            }
            (ElectionInput::Message { message, .. }, M::TakesSenseForGranted) => {
                assert_eq!(message.first(), Some(&b'{'));
                false
            }
            (ElectionInput::PeerLost(_), M::StaysWithTheDead) => true,
            _ => false,
        }
    }

    fn add(&mut self, now: Instant, input: &ElectionInput, out: &mut Vec<ElectionEffect>) {
        match (input, self.mutation) {
            (ElectionInput::PeerUp(to), M::CountsForItself)
                if CLOCK.fetch_add(1, Ordering::SeqCst).is_multiple_of(3) =>
            {
                out.push(ElectionEffect::Connect(to.clone()));
            }
            (ElectionInput::Message { from, message }, M::BelievesNonsense)
                if !message.starts_with(b"{\"") =>
            {
                out.push(ElectionEffect::Follow(from.clone()));
            }
            (ElectionInput::PeerUp(to), M::ConnectsForEver) => {
                out.extend(vec![ElectionEffect::Connect(to.clone()); 2_000]);
            }
            (ElectionInput::PeerUp(to), M::LongMessages) => out.push(ElectionEffect::Send {
                to: to.clone(),
                message: Bytes::from(vec![b' '; 100_000]),
            }),
            (ElectionInput::Timer, M::FollowsItself) => {
                out.extend(self.own.clone().map(ElectionEffect::Follow));
            }
            (ElectionInput::Timer, M::LeadsAgainAndAgain) if now >= self.next => {
                self.next = now + Duration::from_secs(1);
                if self.leads {
                    out.extend([ElectionEffect::StepDown, ElectionEffect::Lead]);
                }
            }
            (ElectionInput::Started { .. }, M::AlwaysLeads) => out.push(ElectionEffect::Lead),
            _ => {}
        }
    }

    fn is_kept(&self, effect: &ElectionEffect) -> bool {
        match (effect, self.mutation) {
            (ElectionEffect::Lead, M::NeverLeads) => false,
            (ElectionEffect::Follow(_) | ElectionEffect::StepDown, M::AlwaysLeads) => false,
            (ElectionEffect::Follow(_), M::NeverGivesUp) => !self.leads,
            _ => true,
        }
    }
}

impl Election for Mutant {
    fn handle(&mut self, now: Instant, input: ElectionInput, out: &mut Vec<ElectionEffect>) {
        let mut effects = Vec::new();
        if !self.is_ignored(&input) {
            self.inner.handle(now, input.clone(), &mut effects);
        }
        self.add(now, &input, &mut effects);
        for effect in effects {
            if !self.is_kept(&effect) {
                continue;
            }
            match effect {
                ElectionEffect::Lead => self.leads = true,
                ElectionEffect::Follow(_) | ElectionEffect::StepDown => self.leads = false,
                _ => {}
            }
            out.push(effect);
        }
    }

    fn poll_timeout(&self) -> Option<Instant> {
        match self.mutation {
            M::TimerInThePast => Some(Instant(0)),
            M::LeadsAgainAndAgain => Some(self.inner.poll_timeout().unwrap_or(self.next)),
            _ => self.inner.poll_timeout(),
        }
    }
}

impl ElectionFactory for Mutation {
    type Election = Mutant;

    fn create(&self, _random: u64) -> Mutant {
        Mutant {
            inner: PeerElection::new(Duration::from_millis(200)),
            mutation: *self,
            own: None,
            known: Vec::new(),
            leads: false,
            next: Instant(0),
        }
    }

    fn declared(&self) -> &[Capability] {
        &[Capability::SeveralMasters]
    }
}

found_out! {
    inputs::the_same_inputs_have_the_same_effects: CountsForItself;
    inputs::masters_that_it_never_heard_of: KnowsEverybody;
    inputs::messages_that_make_no_sense: TakesSenseForGranted BelievesNonsense;
    inputs::a_timer_is_not_in_the_past_for_ever: TimerInThePast;
    inputs::effects_are_bounded: ConnectsForEver LongMessages;
    inputs::it_is_no_peer_of_itself: FollowsItself;
    networks::alone_it_leads: NeverLeads;
    networks::one_leads_and_the_others_follow: NeverLeads AlwaysLeads;
    networks::who_comes_later_follows: HearsNobodyNew;
    networks::another_one_takes_over: StaysWithTheDead;
    networks::of_two_that_meet_one_gives_up: NeverGivesUp;
    networks::nothing_changes_when_nothing_happens: LeadsAgainAndAgain;
    networks::any_network_that_heals_agrees: NeverLeads NeverGivesUp AlwaysLeads;
}
