//! An election of your own: whoever holds a lease leads. The lease is a file that all masters
//! reach; a row of a database, or a key of etcd, would do as well.
//!
//! The election itself does no I/O and reads no clock. What asks for the lease is ordinary code
//! beside the master, [`keep`], which tells the election what it heard, as
//! [`ElectionInput::External`].

use std::fs::File;
use std::io::{self, Read, Seek, Write};
use std::path::PathBuf;
use std::time::Duration;

use neo_api::UnixMicros;
use neo_api::{Address, Election, ElectionEffect, ElectionInput, Env, Instant, SystemEnv};
use neo_master::RunningMaster;

/// How long a lease is held that is not asked for again.
pub const LEASE: Duration = Duration::from_secs(2);
/// The holder stops this long before its lease ends: longer than the way from the file to the
/// election takes, and than clocks of different machines differ.
pub const MARGIN: Duration = Duration::from_millis(500);
/// How often it is asked for.
pub const RENEW: Duration = Duration::from_millis(150);

/// Leads while it holds the lease, else follows the holder.
#[derive(Debug, Default)]
pub struct LeaseElection {
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
    std::str::from_utf8(message).ok()?.parse().ok()
}

/// Who has the lease, and until when.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Lease {
    holder: Address,
    until: UnixMicros,
}

impl Lease {
    /// The lease after somebody asked for it: it is theirs when nobody holds it, or they do.
    fn asked(before: Option<Self>, now: UnixMicros, who: &Address) -> Self {
        match before {
            Some(lease) if lease.holder != *who && now < lease.until => lease,
            _ => Self {
                holder: who.clone(),
                until: UnixMicros(now.0 + LEASE.as_micros() as i64),
            },
        }
    }

    fn parse(text: &str) -> Option<Self> {
        let (holder, until) = text.split_once(' ')?;
        Some(Self {
            holder: holder.parse().ok()?,
            until: UnixMicros(until.trim_end().parse().ok()?),
        })
    }
}

/// A lease in a file. Whoever asks has it locked meanwhile.
#[derive(Debug)]
pub struct LeaseFile {
    path: PathBuf,
    env: SystemEnv,
}

impl LeaseFile {
    /// The lease in this file, which is made where there is none.
    pub fn new(path: impl Into<PathBuf>) -> Self {
        Self {
            path: path.into(),
            env: SystemEnv::new(),
        }
    }

    /// Asks for the lease; tells who has it.
    ///
    /// # Errors
    /// When the file can't be used, or somebody else asks at this moment.
    pub fn ask(&self, who: &Address) -> io::Result<Address> {
        let mut options = File::options();
        let options = options.create(true).truncate(false);
        let mut file = options.read(true).write(true).open(&self.path)?;
        file.try_lock()?;
        let mut text = String::new();
        file.read_to_string(&mut text)?;
        let lease = Lease::asked(Lease::parse(&text), self.env.now().wall, who);
        if lease.holder == *who {
            file.rewind()?;
            file.set_len(0)?;
            file.write_all(format!("{who} {}\n", lease.until.0).as_bytes())?;
        }
        Ok(lease.holder)
    }
}

/// Asks for the lease again and again, in the name of a master, and tells its election.
pub async fn keep(master: &RunningMaster, lease: &LeaseFile) {
    loop {
        // A file that can't be used is as a lease that another has: the own one ends.
        if let Ok(holder) = lease.ask(master.address()) {
            master.tell_election(holder.to_string().into()).await;
        }
        tokio::time::sleep(RENEW).await;
    }
}

#[cfg(test)]
mod tests {
    use neo_testkit::conformance::election::{Capability, ElectionFactory, Outside};

    use super::*;

    /// All masters of a cluster ask for one lease.
    struct Leases;

    impl ElectionFactory for Leases {
        type Election = LeaseElection;

        fn create(&self, _random: u64) -> LeaseElection {
            LeaseElection::default()
        }

        fn declared(&self) -> &[Capability] {
            &[Capability::SeveralMasters]
        }

        fn outside(&self) -> Option<Outside> {
            let mut lease = None;
            Some(Box::new(move |now, who| {
                let wall = UnixMicros(now.since(Instant(0)).as_micros() as i64);
                let held = Lease::asked(lease.take(), wall, who);
                lease.insert(held).holder.to_string().into()
            }))
        }

        // A lease whose holder is gone ends first.
        fn patience(&self) -> Duration {
            2 * LEASE
        }
    }

    mod election {
        neo_testkit::election_conformance!(super::Leases);
    }

    /// Two masters for a minute, in no time. The first can't reach the file for a while.
    #[test]
    fn never_do_two_lead_and_the_second_takes_over() {
        let addresses = [Address::new("m1", 10000), Address::new("m2", 10000)];
        let mut masters = [LeaseElection::default(), LeaseElection::default()];
        let (mut lease, mut leads, mut took) = (None, [false; 2], Vec::new());
        let step = Duration::from_millis(50);
        for tick in 0..1200_u32 {
            let elapsed = step * tick;
            let now = Instant(0) + elapsed;
            for (at, master) in masters.iter_mut().enumerate() {
                let mut effects = Vec::new();
                if tick == 0 {
                    let started = ElectionInput::Started {
                        own: addresses[at].clone(),
                        peers: vec![addresses[1 - at].clone()],
                    };
                    master.handle(now, started, &mut effects);
                }
                if master.poll_timeout().is_some_and(|timeout| timeout <= now) {
                    master.handle(now, ElectionInput::Timer, &mut effects);
                }
                let cut_off = at == 0 && (20..40).contains(&elapsed.as_secs());
                if !cut_off && tick % 3 == 0 {
                    let wall = UnixMicros(elapsed.as_micros() as i64);
                    let held = Lease::asked(lease.take(), wall, &addresses[at]);
                    let told = ElectionInput::External(held.holder.to_string().into());
                    lease = Some(held);
                    master.handle(now, told, &mut effects);
                }
                for effect in effects {
                    match effect {
                        ElectionEffect::Lead => {
                            leads[at] = true;
                            took.push(at);
                        }
                        ElectionEffect::StepDown | ElectionEffect::Follow(_) => leads[at] = false,
                        _ => {}
                    }
                }
            }
            assert_ne!(leads, [true, true], "two leaders after {elapsed:?}");
        }
        assert_eq!(took, [0, 1], "the second took over, once");
        assert!(leads[1], "and leads to the end");
    }

    #[test]
    fn what_makes_no_sense_changes_nothing() {
        let mut election = LeaseElection::default();
        let mut effects = Vec::new();
        for message in [&b""[..], b"nobody", b"\xff\xfe", b"m1:99999"] {
            let told = ElectionInput::External(bytes::Bytes::from_static(message));
            election.handle(Instant(0), told, &mut effects);
        }
        assert_eq!(effects, []);
        for text in ["", "m1:1", "m1:1 soon", "1700000000000000"] {
            assert_eq!(Lease::parse(text), None, "{text:?}");
        }
    }

    #[test]
    fn a_lease_is_for_one() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("lease");
        let (first, second) = (Address::new("m1", 1), Address::new("m2", 1));
        let lease = LeaseFile::new(&path);
        assert_eq!(lease.ask(&first).unwrap(), first);
        assert_eq!(lease.ask(&first).unwrap(), first);
        // Where the clock is ahead, it is the other's; there is no waiting in a test.
        let text = std::fs::read_to_string(&path).unwrap();
        assert_eq!(Lease::parse(&text).unwrap().holder, first);
        std::fs::write(&path, "m1:1 0\n").unwrap();
        assert_eq!(lease.ask(&second).unwrap(), second);
        // Who asks at the same moment hears so.
        let held = File::open(&path).unwrap();
        held.lock().unwrap();
        assert!(lease.ask(&first).is_err());
    }
}
