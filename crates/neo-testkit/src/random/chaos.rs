//! What goes wrong in a random run: which faults, when, and for how long.

use std::mem::discriminant;
use std::time::Duration;

use super::operator::Operator;
use crate::seed::Rng;
use crate::sim::{InFlight, Keep, Name, Slow, World};

/// What goes wrong, and how often.
#[derive(Debug, Clone)]
pub struct Chaos {
    /// The pause between two faults, on average.
    pub every: Duration,
    /// How often each kind is chosen, beside the others.
    pub weights: Vec<(Strike, u32)>,
}

/// A kind of fault.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Strike {
    /// A node crashes, and is started again later.
    Crash,
    /// The primary crashes, or stands still for longer than silence is borne.
    LosePrimary,
    /// Some nodes crash at once.
    CrashSome,
    /// All nodes crash at once.
    CrashAll,
    /// The connections between two nodes are cut.
    Cut,
    /// Some nodes do not hear the others, or no side the other, for a while.
    Partition,
    /// The ways between two nodes are slow for a while.
    SlowLink,
    /// A node stands still for a while.
    Freeze,
    /// A disk stands still for a while.
    FreezeDisk,
    /// A disk is slow for a while.
    SlowDisk,
    /// A clock goes wrong for a while.
    Skew,
    /// A wall clock jumps.
    Jump,
    /// No fault, but an order of the operator that changes the partition table or the nodes.
    Order,
}

const STRIKES: [(Strike, u32); 13] = [
    (Strike::Crash, 6),
    (Strike::LosePrimary, 4),
    (Strike::CrashSome, 1),
    (Strike::CrashAll, 1),
    (Strike::Cut, 4),
    (Strike::Partition, 3),
    (Strike::SlowLink, 2),
    (Strike::Freeze, 3),
    (Strike::FreezeDisk, 2),
    (Strike::SlowDisk, 2),
    (Strike::Skew, 1),
    (Strike::Jump, 1),
    (Strike::Order, 3),
];

impl Chaos {
    /// Some kinds of faults, some often and some seldom.
    #[must_use]
    pub fn at_random(rng: &mut Rng) -> Self {
        let mut weights = Vec::new();
        for (strike, weight) in STRIKES {
            let weight = weight * [0, 1, 1, 2][rng.below(4) as usize];
            if weight > 0 {
                weights.push((strike, weight));
            }
        }
        if weights.is_empty() {
            weights.push((Strike::Crash, 1));
        }
        Self {
            every: Duration::from_millis([1500, 3000, 5000][rng.below(3) as usize]),
            weights,
        }
    }

    fn pick(&self, rng: &mut Rng) -> Strike {
        let total: u32 = self.weights.iter().map(|(_, weight)| weight).sum();
        let mut at = rng.below(u64::from(total)) as u32;
        for (strike, weight) in &self.weights {
            if at < *weight {
                return *strike;
            }
            at -= weight;
        }
        Strike::Crash
    }
}

/// What ends a fault.
#[derive(Debug)]
enum Mend {
    Start(Name),
    Free(Vec<Name>, Vec<Name>, bool),
    Fast(Name, Name),
    Thaw(Name),
    ThawDisk(Name),
    FastDisk(Name),
    Unskew(Name),
}

/// Faults at work.
#[derive(Debug)]
pub(super) struct Weather {
    chaos: Chaos,
    rng: Rng,
    next: Duration,
    /// When what is mended.
    mends: Vec<(Duration, Mend)>,
    operator: Operator,
}

impl Weather {
    pub(super) fn new(chaos: Chaos, rng: Rng, now: Duration) -> Self {
        let mut weather = Self {
            chaos,
            rng,
            next: now,
            mends: Vec::new(),
            operator: Operator::default(),
        };
        weather.next = now + weather.pause();
        weather
    }

    fn pause(&mut self) -> Duration {
        let every = self.chaos.every.as_micros() as u64;
        Duration::from_micros(self.rng.between(every / 20, every * 2))
    }

    /// When something is to be done next.
    pub(super) fn next(&self) -> Duration {
        let mends = self.mends.iter().map(|(at, _)| *at);
        mends.fold(self.next, Duration::min)
    }

    /// Does what is due.
    pub(super) fn pass(&mut self, world: &mut World) {
        let now = world.now();
        // One that ended by itself is started again, as by a supervisor.
        let down: Vec<Name> = world.names().filter(|name| !world.is_up(*name)).collect();
        for name in down {
            let is_known =
                |(_, mend): &(Duration, Mend)| matches!(mend, Mend::Start(n) if *n == name);
            if !self.mends.iter().any(is_known) {
                let at = now + self.rest();
                self.mends.push((at, Mend::Start(name)));
            }
        }
        while let Some(at) = self.mends.iter().position(|(at, _)| *at <= now) {
            let (_, mend) = self.mends.remove(at);
            mend.mend(world);
        }
        self.operator.act(world);
        if self.next <= now {
            self.strike(world);
            self.next = now + self.pause();
        }
    }

    /// How long something lasts: mostly short, at times longer than silence is borne.
    fn rest(&mut self) -> Duration {
        let (least, most) = match self.rng.below(4) {
            0 => (1, 60),
            1 => (60, 1_000),
            2 => (1_000, 6_000),
            _ => (6_000, 16_000),
        };
        Duration::from_millis(self.rng.between(least, most))
    }

    fn longer_than_silence(&mut self) -> Duration {
        Duration::from_millis(self.rng.between(10_500, 14_000))
    }

    fn one(&mut self, of: &[Name]) -> Option<Name> {
        of.get(self.rng.below(of.len() as u64) as usize).copied()
    }

    fn some(&mut self, of: &[Name]) -> Vec<Name> {
        let some = of.iter().copied().filter(|_| self.rng.below(2) == 0);
        some.collect()
    }

    fn pair(&mut self, names: &[Name]) -> Option<(Name, Name)> {
        let first = self.one(names)?;
        // Clients have nothing to say to each other.
        let others = names.iter().copied().filter(|other| {
            *other != first
                && (discriminant(other) != discriminant(&first)
                    || !matches!(first, Name::Client(_)))
        });
        let others: Vec<Name> = others.collect();
        Some((first, self.one(&others)?))
    }

    fn strike(&mut self, world: &mut World) {
        // The operator has faults of his own.
        let names: Vec<Name> = world
            .names()
            .filter(|name| !matches!(name, Name::Puppet(_)))
            .collect();
        let servers: Vec<Name> = names
            .iter()
            .copied()
            .filter(|name| !matches!(name, Name::Client(_)))
            .collect();
        let storages: Vec<Name> = names
            .iter()
            .copied()
            .filter(|name| matches!(name, Name::Storage(_)))
            .collect();
        let until = world.now() + self.rest();
        match self.chaos.pick(&mut self.rng) {
            Strike::Crash => {
                let of = if self.rng.below(4) == 0 {
                    &names
                } else {
                    &servers
                };
                let struck: Vec<Name> = self.one(of).into_iter().collect();
                self.crash(world, &struck);
            }
            Strike::LosePrimary => {
                let Some(primary) = world.primary() else {
                    return;
                };
                if self.rng.below(3) == 0 {
                    world.freeze(primary);
                    let until = world.now() + self.longer_than_silence();
                    self.mends.push((until, Mend::Thaw(primary)));
                } else {
                    self.crash(world, &[primary]);
                }
            }
            Strike::CrashSome => {
                let struck = self.some(&names);
                self.crash(world, &struck);
            }
            Strike::CrashAll => self.crash(world, &names),
            Strike::Cut => {
                if let Some((first, second)) = self.pair(&names) {
                    let gap = [0, 5, 500, 30_000][self.rng.below(4) as usize];
                    let in_flight = self.in_flight();
                    world.cut(first, second, Duration::from_millis(gap), in_flight);
                }
            }
            Strike::Partition => self.partition(world, &names, until),
            Strike::SlowLink => {
                if let Some((first, second)) = self.pair(&names) {
                    let slow = Slow {
                        factor: self.rng.between(5, 200) as u32,
                        bytes_per_second: self.rng.between(10_000, 10_000_000),
                    };
                    for (from, to) in [(first, second), (second, first)] {
                        world.slow_way(from, to, Some(slow));
                        self.mends.push((until, Mend::Fast(from, to)));
                    }
                }
            }
            Strike::Freeze => {
                if let Some(name) = self.one(&names) {
                    world.freeze(name);
                    self.mends.push((until, Mend::Thaw(name)));
                }
            }
            Strike::FreezeDisk => {
                if let Some(name) = self.one(&storages) {
                    world.freeze_disk(name);
                    self.mends.push((until, Mend::ThawDisk(name)));
                }
            }
            Strike::SlowDisk => {
                if let Some(name) = self.one(&storages) {
                    world.slow_disk(name, self.rng.between(2, 100) as u32);
                    self.mends.push((until, Mend::FastDisk(name)));
                }
            }
            Strike::Skew => {
                if let Some(name) = self.one(&names) {
                    let rate = self.rng.between(0, 100_000) as i32 - 50_000;
                    world.skew_clock(name, rate);
                    self.mends.push((until, Mend::Unskew(name)));
                }
            }
            Strike::Jump => {
                if let Some(name) = self.one(&names) {
                    let jump = self.rng.between(0, 20_000_000) as i64 - 10_000_000;
                    world.shift_wall_clock(name, jump);
                }
            }
            Strike::Order => self.operator.think(world, &mut self.rng),
        }
    }

    fn in_flight(&mut self) -> InFlight {
        [InFlight::Lost, InFlight::Delivered, InFlight::Late][self.rng.below(3) as usize]
    }

    fn crash(&mut self, world: &mut World, names: &[Name]) {
        let keep = match self.rng.below(3) {
            0 => Keep::None,
            1 => Keep::All,
            _ => Keep::First(self.rng.between(1, 3) as usize),
        };
        let in_flight = self.in_flight();
        world.crash(names, keep, in_flight);
        // All at once, or each when it comes to it.
        let together = (self.rng.below(2) == 0).then(|| self.rest());
        for name in names {
            let rest = together.unwrap_or_else(|| self.rest());
            self.mends.push((world.now() + rest, Mend::Start(*name)));
        }
    }

    fn partition(&mut self, world: &mut World, names: &[Name], until: Duration) {
        let (left, right) = if self.rng.below(3) == 0 {
            let left = self.some(names);
            let right = names.iter().copied().filter(|name| !left.contains(name));
            (left.clone(), right.collect())
        } else {
            let Some((first, second)) = self.pair(names) else {
                return;
            };
            let right = if self.rng.below(2) == 0 {
                vec![second]
            } else {
                let others = names.iter().copied().filter(|name| *name != first);
                others.collect()
            };
            (vec![first], right)
        };
        let is_reset = self.rng.below(2) == 0;
        world.block(&left, &right);
        self.mends
            .push((until, Mend::Free(left.clone(), right.clone(), is_reset)));
        if self.rng.below(3) > 0 {
            world.block(&right, &left);
            self.mends.push((until, Mend::Free(right, left, is_reset)));
        }
    }
}

impl Mend {
    fn mend(self, world: &mut World) {
        match self {
            Self::Start(name) => {
                if !world.is_up(name) {
                    world.start(name);
                }
            }
            Self::Free(from, to, is_reset) => world.unblock(&from, &to, is_reset),
            Self::Fast(from, to) => world.slow_way(from, to, None),
            Self::Thaw(name) => world.thaw(name),
            Self::ThawDisk(name) => world.thaw_disk(name),
            Self::FastDisk(name) => world.slow_disk(name, 1),
            Self::Unskew(name) => world.skew_clock(name, 0),
        }
    }
}
