//! An election of your own: whoever holds a lease leads.
//!
//! The lease is kept by a service outside the cluster (etcd, Consul, a row in a database). What
//! talks to it is ordinary code beside the master, which renews the lease and tells the election
//! what the service said, as [`ElectionInput::External`]. The election itself does no I/O and reads
//! no clock, so this program runs a minute of two masters' lives in no time.
//!
//! A real master is given it by `neo_master::Master::with_election`, and what the service says by
//! `neo_master::RunningMaster::tell_election`.

use std::time::Duration;

use bytes::Bytes;
use neo_api::{Address, Election, ElectionEffect, ElectionInput, Instant};

const LEASE: Duration = Duration::from_secs(10);
// The holder stops this long before its lease ends: longer than a message and an input may take.
const MARGIN: Duration = Duration::from_secs(2);

/// Leads while it holds the lease, else follows the holder.
#[derive(Debug, Default)]
struct LeaseElection {
    own: Option<Address>,
    leads_until: Option<Instant>,
    follows: Option<Address>,
}

impl Election for LeaseElection {
    fn handle(&mut self, now: Instant, input: ElectionInput, out: &mut Vec<ElectionEffect>) {
        match input {
            ElectionInput::Started { own, peers } => {
                self.own = Some(own);
                // So that the primary lists the others, and stops them with the cluster.
                out.extend(peers.into_iter().map(ElectionEffect::Connect));
            }
            // What the service says comes from outside: anything may be in it.
            ElectionInput::External(message) => match parse_holder(&message) {
                Some(holder) if Some(&holder) == self.own.as_ref() => {
                    if self.leads_until.is_none() {
                        out.push(ElectionEffect::Lead);
                    }
                    self.leads_until = Some(now + (LEASE - MARGIN));
                    self.follows = None;
                }
                Some(holder) if Some(&holder) != self.follows.as_ref() => {
                    out.push(ElectionEffect::Follow(holder.clone()));
                    self.leads_until = None;
                    self.follows = Some(holder);
                }
                _ => {}
            },
            ElectionInput::Timer if self.leads_until.is_some_and(|until| until <= now) => {
                self.leads_until = None;
                out.push(ElectionEffect::StepDown);
            }
            // Other masters need not be asked: the lease decides.
            _ => {}
        }
    }

    fn poll_timeout(&self) -> Option<Instant> {
        self.leads_until
    }
}

fn parse_holder(message: &[u8]) -> Option<Address> {
    std::str::from_utf8(message)
        .ok()?
        .strip_prefix("holder ")?
        .parse()
        .ok()
}

/// The service: gives the lease to whoever asks first, and again to its holder.
#[derive(Default)]
struct LeaseService {
    lease: Option<(Address, Instant)>,
}

impl LeaseService {
    fn ask(&mut self, now: Instant, who: &Address) -> Bytes {
        let free = self
            .lease
            .as_ref()
            .is_none_or(|(holder, until)| holder == who || *until <= now);
        if free {
            self.lease = Some((who.clone(), now + LEASE));
        }
        let (holder, _) = self.lease.as_ref().expect("somebody has it now");
        Bytes::from(format!("holder {holder}"))
    }
}

fn main() {
    let addresses = [Address::new("m1", 10000), Address::new("m2", 10000)];
    let mut service = LeaseService::default();
    let mut masters = [LeaseElection::default(), LeaseElection::default()];
    let mut leads = [false, false];
    let mut history = Vec::new();
    for second in 0..60 {
        let now = Instant(0) + Duration::from_secs(second);
        for (at, master) in masters.iter_mut().enumerate() {
            let mut effects = Vec::new();
            if second == 0 {
                let peers = vec![addresses[1 - at].clone()];
                let started = ElectionInput::Started {
                    own: addresses[at].clone(),
                    peers,
                };
                master.handle(now, started, &mut effects);
            }
            if master.poll_timeout().is_some_and(|timeout| timeout <= now) {
                master.handle(now, ElectionInput::Timer, &mut effects);
            }
            // Each asks every 3 seconds; the first master cannot reach the service for a while.
            let cut_off = at == 0 && (20..40).contains(&second);
            if second % 3 == 0 && !cut_off {
                let answer = service.ask(now, &addresses[at]);
                master.handle(now, ElectionInput::External(answer), &mut effects);
            }
            for effect in effects {
                println!("{second:2} s  {}  {effect:?}", addresses[at]);
                match effect {
                    ElectionEffect::Lead => leads[at] = true,
                    ElectionEffect::StepDown | ElectionEffect::Follow(_) => leads[at] = false,
                    _ => continue,
                }
                history.push((second, at, leads[at]));
            }
        }
        assert!(leads != [true, true], "two leaders at {second} s");
    }
    let led: Vec<_> = history
        .iter()
        .filter(|(.., leads)| *leads)
        .map(|(_, at, _)| *at)
        .collect();
    assert_eq!(led, [0, 1], "the second took over, once: {history:?}");
    assert!(leads[1], "and leads to the end");
}
