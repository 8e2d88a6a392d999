//! Many who write the same few objects in different orders: everybody gets to an end, soon.

use std::time::Duration;

use neo_api::{Oid, Tid};
use neo_client::Error;
use neo_testkit::seed::Rng;
use neo_testkit::sim::{Handle, InFlight, Keep, SimClient, World, WorldSettings, c, s};

use super::{add, check, check_and_crash, count, counters, settle, store_next, wait};

/// What each client does, and what may go wrong.
#[derive(Debug, Clone, Copy)]
struct Contention {
    seed: u64,
    clients: u8,
    storages: u8,
    replicas: u32,
    objects: u32,
    rounds: u32,
    /// A storage node, or its connections to clients, are lost on the way.
    fault: Option<Fault>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Fault {
    Crash,
    /// It comes back at once, and catches up while they write.
    Restart,
    Cut,
}

/// How a script's transactions ended.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Ends {
    pub(super) done: u32,
    pub(super) conflicts: u32,
    /// By what was lost on the way.
    pub(super) lost: u32,
}

impl Contention {
    fn new(seed: u64, fault: Option<Fault>) -> Self {
        let mut rng = Rng::new(seed);
        let storages = rng.between(2, 4) as u8;
        let least = u64::from(fault.is_some());
        Self {
            seed,
            clients: rng.between(2, 5) as u8,
            storages,
            replicas: rng.between(least, u64::from(storages - 1).min(2)) as u32,
            objects: rng.between(2, 4) as u32,
            rounds: if fault == Some(Fault::Restart) { 12 } else { 4 },
            fault,
        }
    }

    fn settings(self) -> WorldSettings {
        WorldSettings {
            seed: self.seed,
            clients: self.clients,
            storages: self.storages,
            replicas: self.replicas,
            latency: (Duration::from_micros(50), Duration::from_millis(2)),
            ..WorldSettings::default()
        }
    }

    fn start(self, world: &mut World, oids: &[Oid]) -> Vec<Handle<Ends>> {
        let scripts = (1..=self.clients).map(|n| {
            let oids = oids.to_vec();
            let rng = Rng::new(self.seed * 100 + u64::from(n));
            world.run_script(c(n), move |client| work(client, oids, rng, self.rounds))
        });
        scripts.collect()
    }

    fn strike(self, world: &mut World) {
        let mut rng = Rng::new(self.seed ^ 0xfa17);
        let storage = s(rng.between(1, u64::from(self.storages)) as u8);
        world.run_for(Duration::from_micros(rng.between(1_000, 30_000)));
        match self.fault {
            None => {}
            Some(Fault::Crash) => world.crash(&[storage], Keep::None, InFlight::Lost),
            Some(Fault::Restart) => {
                world.crash(&[storage], Keep::None, InFlight::Lost);
                world.run_for(Duration::from_micros(rng.between(10, 3_000)));
                world.start(storage);
            }
            Some(Fault::Cut) => {
                let client = c(rng.between(1, u64::from(self.clients)) as u8);
                let gap = Duration::from_micros(rng.between(0, 3_000));
                world.cut(client, storage, gap, InFlight::Lost);
            }
        }
    }

    /// Every script ends, long before anything is timed out.
    fn run(self) -> Ends {
        let mut world = World::booted(self.settings());
        let oids = counters(&mut world, c(1), self.objects);
        let began = world.now();
        let scripts = self.start(&mut world, &oids);
        self.strike(&mut world);
        let mut ends = Ends::default();
        for script in &scripts {
            let of = wait(&mut world, "the end of a client", script);
            ends.done += of.done;
            ends.conflicts += of.conflicts;
            ends.lost += of.lost;
        }
        let took = world.now() - began;
        assert!(took < Duration::from_secs(5), "{self:?}: {took:?}");
        assert_eq!(
            ends.done + ends.conflicts + ends.lost,
            u32::from(self.clients) * self.rounds
        );
        if self.fault.is_some() {
            check_and_crash(&mut world);
        } else {
            settle(&mut world);
            check(&world);
        }
        let counted: i64 = oids.iter().map(|oid| count(&mut world, c(1), *oid)).sum();
        assert!(counted >= i64::from(ends.done), "{self:?}: {counted}");
        ends
    }
}

/// Transactions that each add one to some of the counters, in an order of their own, and rely on
/// others.
pub(super) async fn work(client: SimClient, oids: Vec<Oid>, mut rng: Rng, rounds: u32) -> Ends {
    let mut ends = Ends::default();
    for _ in 0..rounds {
        match transaction(&client, &oids, &mut rng).await {
            Ok(_) => ends.done += 1,
            Err(error) if error.is_conflict() => ends.conflicts += 1,
            Err(Error::Timeout(words)) => panic!("nobody may wait for so long: {words}"),
            Err(error) if error.is_retryable() => ends.lost += 1,
            Err(error) => panic!("{error}"),
        }
    }
    ends
}

async fn transaction(client: &SimClient, oids: &[Oid], rng: &mut Rng) -> Result<Tid, Error> {
    let mut order = oids.to_vec();
    for last in (1..order.len()).rev() {
        order.swap(last, rng.below(last as u64 + 1) as usize);
    }
    let stored = rng.between(1, order.len() as u64) as usize;
    let mut txn = client.begin().await?;
    for (n, oid) in order.into_iter().enumerate() {
        if n < stored {
            store_next(client, &txn, oid).await?;
        } else if rng.below(4) == 0 {
            let (serial, _) = client.load(oid).await?.expect("a counter");
            txn.check(oid, serial).await?;
        }
        client.sleep(Duration::from_micros(rng.below(500))).await;
    }
    txn.vote_with(add).await?;
    txn.finish().await
}

fn contend(seeds: std::ops::Range<u64>, fault: Option<Fault>) -> Ends {
    let mut all = Ends::default();
    for seed in seeds {
        let ends = Contention::new(seed, fault).run();
        all.done += ends.done;
        all.conflicts += ends.conflicts;
        all.lost += ends.lost;
    }
    println!("{fault:?}: {all:?}");
    all
}

/// In whatever order they lock, wherever the objects are: each transaction commits, or is told of a
/// conflict with what it only checked.
#[test]
fn whoever_writes_the_same_objects_in_any_order_gets_to_an_end() {
    let ends = contend(0..60, None);
    assert_eq!(ends.lost, 0);
    assert!(
        ends.done > 2 * ends.conflicts && ends.conflicts > 0,
        "{ends:?}"
    );
}

/// So it is when a storage node is lost among them.
#[test]
fn a_storage_node_lost_among_writers_leaves_nobody_waiting() {
    let ends = contend(100..140, Some(Fault::Crash));
    assert!(ends.done > ends.lost, "{ends:?}");
}

/// So it is when the storage node comes back, and its cells catch up among them.
#[test]
fn a_storage_node_that_catches_up_among_writers_leaves_nobody_waiting() {
    let ends = contend(300..320, Some(Fault::Restart));
    assert!(ends.done > ends.lost, "{ends:?}");
}

/// So it is when one of them is cut off from a storage node.
#[test]
fn a_connection_lost_among_writers_leaves_nobody_waiting() {
    let ends = contend(200..240, Some(Fault::Cut));
    assert!(ends.done > ends.lost, "{ends:?}");
}
